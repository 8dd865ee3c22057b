//! `private-message`: from user to user.

mod queue;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};

use super::{
    arguments::named,
    context::Context,
    event::{Caller, ClientEvent, Event, Feature, Incoming, Outcome, ServerEvent},
    idempotency::{self, Begun, Claim, Given, kept, repeated},
    schema::{
        anything, client_id, duplicate, flag, id, idempotency_key, object, open, reference, text,
        time, user, yes,
    },
};
use crate::{
    broker::{cluster::Cluster, survey::Survey},
    hub::packet::{KeptFor, Packet},
    protocol::{
        audience::Except,
        message_id::MessageId,
        names::UserId,
        payload::{ObjectBuilder, Payload},
        refusal::{Code, Refusal},
        timestamp::Timestamp,
    },
    store::Entry,
};

pub use self::queue::{deliver_queued, give_way, queue, queue_len, wake};

const PRIVATE_MESSAGE: ServerEvent = ServerEvent::message("private-message","Private","A private message.").to("Every client of the target user. A queued message goes to the first client that connects.").example(r#"{"id":"p-1","from":"alice","clientId":"3qwd6cWPZVJxGsnkAAAB","message":{"content":"Hi Bob","type":"text","timestamp":"2026-01-01T12:00:00.000Z"},"timestamp":"2026-01-01T12:00:00.000Z"}"#);
const MESSAGE_SENT: ServerEvent = ServerEvent::state("message-sent","PrivateSent","The private message was accepted.").to("The client that sent it.").example(r#"{"target":"bob","id":"p-1","delivered":true,"queued":false,"timestamp":"2026-01-01T12:00:00.000Z"}"#);

pub(super) const FEATURE: Feature = Feature {
    client: &[ClientEvent::new::<PrivateMessage>(
        "private-message",
        "PrivateMessage",
        "PrivateAcknowledge",
        "Sends a message to all clients of one user. If the user has none and authentication is on, the message is queued.",
    ).example(r#"{"targetUserId":"bob","message":"Hi Bob","messageType":"text"}"#).refusals(&[Code::NotFound, Code::QueueFull, Code::IdempotencyMismatch])],
    server: &[PRIVATE_MESSAGE, MESSAGE_SENT],
    schemas: || {
        vec![
            (
                "Kind",
                json!({"enum": KINDS, "description": "The kind of content."}),
            ),
            (
                "PrivateMessage",
                json!({
                    "description": "A message for one user.",
                    "allOf": [
                        {"anyOf": [
                            open("", &[("targetUserId", reference("Name"))]),
                            open("", &[("target", reference("Name"))]),
                        ]},
                        open("", &[
                            ("message", anything("The content.")),
                            ("messageType?", reference("Kind")),
                            ("id?", id()),
                            ("idempotencyKey?", idempotency_key()),
                        ]),
                    ],
                }),
            ),
            (
                "PrivateAcknowledge",
                object(
                    "The message was accepted.",
                    &[
                        ("success", yes()),
                        ("message", text("A description.")),
                        ("id", id()),
                        ("delivered", flag("Whether it was sent to at least one client of the user.")),
                        ("queued", flag("Whether it waits until the user connects.")),
                        ("duplicate?", duplicate()),
                    ],
                ),
            ),
            (
                "Private",
                object(
                    "A private message.",
                    &[
                        ("id", id()),
                        ("from", user()),
                        ("clientId", client_id()),
                        (
                            "message",
                            object(
                                "",
                                &[
                                    ("content", anything("The content.")),
                                    ("type", reference("Kind")),
                                    ("timestamp", time()),
                                ],
                            ),
                        ),
                        ("timestamp", time()),
                    ],
                ),
            ),
            (
                "PrivateSent",
                object(
                    "",
                    &[
                        ("target", reference("Name")),
                        ("id", id()),
                        ("delivered", flag("Whether it was sent to at least one client of the user.")),
                        ("queued", flag("Whether it waits until the user connects.")),
                        ("timestamp", time()),
                    ],
                ),
            ),
        ]
    },
};

/// A message from a client to a user.
struct PrivateMessage {
    target: UserId,
    /// The target as the client gave it, in JSON.
    echo: Box<RawValue>,
    /// The content, in JSON.
    content: Box<RawValue>,
    /// The kind of content.
    kind: &'static str,
    id: MessageId,
    /// The payload it came in, for its attachments.
    payload: Payload,
    given: Given,
}

/// What became of a private message, as it is kept with its key.
#[derive(Serialize, Deserialize)]
struct Sent {
    delivered: bool,
    queued: bool,
    /// The id that the server made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

/// The kinds of content; the first is the default.
const KINDS: [&str; 4] = ["text", "image", "file", "notification"];

impl Event for PrivateMessage {
    fn parse(incoming: &Incoming<'_>) -> Result<Self, Refusal> {
        let object = incoming.object()?;
        let target = ["targetUserId", "target"]
            .iter()
            .find_map(|field| object.get(field).map(|value| (*field, value)));
        let Some((field, echo)) = target else {
            return Err(Refusal::invalid("targetUserId must be present"));
        };
        let Some(content) = object.get("message") else {
            return Err(Refusal::invalid("message must be present"));
        };
        let kind = match object.get("messageType") {
            Some(kind) => {
                let given = serde_json::from_str::<String>(kind.get()).unwrap_or_default();
                let known = KINDS.iter().find(|kind| **kind == given);
                known.ok_or_else(|| {
                    Refusal::invalid(format!("messageType must be one of {}", KINDS.join(", ")))
                })?
            }
            None => KINDS[0],
        };
        Ok(Self {
            target: named(field, echo.get(), UserId::parse)?,
            echo: echo.to_owned(),
            content: content.to_owned(),
            kind,
            id: MessageId::of(object),
            given: Given::read(incoming, object)?,
            payload: incoming.payload()?,
        })
    }

    /// Sends the message to every client of the user, or queues it. Refused as `not_found` if the user has no
    /// client and nothing may be queued for it.
    async fn run(self, caller: Caller) -> Outcome {
        let (context, client) = (&caller.context, &caller.client);
        let name = PRIVATE_MESSAGE.name;
        let keyed = self.given.keyed(context, client, name, None, None, &self.payload);
        match idempotency::begin(context, keyed, Duration::ZERO).await? {
            Begun::Go(claim) => self.send(&caller, claim).await.map(Some),
            Begun::Before(kept) => {
                let Sent { delivered, queued, id } = repeated(&kept)?;
                let id = id.map_or(self.id, MessageId::made);
                Ok(Some(acknowledgement(&id, delivered, queued, true)))
            }
        }
    }
}

impl PrivateMessage {
    async fn send(self, caller: &Caller, claim: Claim) -> Result<Payload, Refusal> {
        #[derive(Serialize)]
        struct Said<'a> {
            content: &'a RawValue,
            r#type: &'static str,
            timestamp: Timestamp,
        }
        let (context, client) = (&caller.context, &caller.client);
        let timestamp = Timestamp::now();
        let said = Said { content: &self.content, r#type: self.kind, timestamp };
        let json = ObjectBuilder::default()
            .raw("id", &self.id.json)
            .set("from", &client.user())
            .set("clientId", client.id.as_str())
            .set("message", &said)
            .set("timestamp", &timestamp)
            .build();
        let payload = self.payload.with_json(json)?;
        let packet = Packet::new(PRIVATE_MESSAGE.name, payload.clone()).kept_for(KeptFor::Direct);
        let reached = to_user(context, &self.target, &packet, &Except::nobody()).await?;
        context.broker.wait_clients_drained(&context.registry.users.clients(&self.target)).await;
        let delivered = reached == Reached::Someone;
        let queued = !delivered;
        let id = (!self.id.is_given).then(|| self.id.text.clone());
        let kept = kept(&Sent { delivered, queued, id });
        if queued {
            let entry = Entry {
                id: self.id.text.clone(),
                event: packet.event().to_owned(),
                json: payload.unnumbered().clone(),
                attachments: payload.attachments().to_vec(),
                timestamp_ms: timestamp.as_millis(),
            };
            // One sender may fill only a part of a user's queue.
            let sender = Some(context.sender_id(client));
            queue(context, &self.target, sender, entry, claim.once(kept)).await?;
            claim.remembered();
        } else {
            claim.settle(kept).await;
        }
        let sent = ObjectBuilder::default()
            .raw("target", &self.echo)
            .raw("id", &self.id.json)
            .set("delivered", &delivered)
            .set("queued", &queued)
            .set("timestamp", &timestamp)
            .build();
        client.sender.send(&Packet::new(MESSAGE_SENT.name, Payload::from_raw(sent)));
        Ok(acknowledgement(&self.id, delivered, queued, false))
    }
}

fn acknowledgement(id: &MessageId, delivered: bool, queued: bool, is_duplicate: bool) -> Payload {
    let ack = ObjectBuilder::default()
        .set("success", &true)
        .set("message", if delivered { "Message delivered" } else { "Message queued" })
        .raw("id", &id.json)
        .set("delivered", &delivered)
        .set("queued", &queued);
    let ack = if is_duplicate { ack.set("duplicate", &true) } else { ack };
    Payload::from_raw(ack.build())
}

/// Whether a packet reached a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reached {
    /// Nobody: the user has no client.
    Nobody,
    /// Nobody: all its clients are excluded.
    LeftOut,
    /// At least one of its clients.
    Someone,
}

/// Sends a packet to all clients of a user, on any node.
///
/// # Errors
/// `unavailable` if the user's nodes are not known; then nobody has it.
pub async fn to_user(
    context: &Context,
    user: &UserId,
    packet: &Packet,
    except: &Except,
) -> Result<Reached, Refusal> {
    let elsewhere = match &context.cluster {
        Some(cluster) => cluster.nodes_of(user).await?,
        None => Vec::new(),
    };
    let here = to_user_here(context, user, packet, except);
    let reached = match context.cluster.as_ref().filter(|_| !elsewhere.is_empty()) {
        Some(cluster) => ask_elsewhere(cluster, elsewhere, user, (packet, except), here).await?,
        None => here,
    };
    if reached == Reached::Someone && context.cluster.is_some() && context.broker.here.recovers() {
        context.broker.keep_for_user(user, packet, except);
    }
    Ok(reached)
}

async fn ask_elsewhere(
    cluster: &Cluster,
    elsewhere: Vec<String>,
    user: &UserId,
    (packet, except): (&Packet, &Except),
    here: Reached,
) -> Result<Reached, Refusal> {
    let question = Survey::ToUser { user: user.clone(), except: except.clone() };
    // A node that does not answer is dying: its clients do not count.
    let answers = cluster.ask_nodes::<Reached>(elsewhere, &question, Some(packet)).await;
    let answers = match answers {
        Ok(answers) => answers.answers,
        Err(_) if here == Reached::Someone => Vec::new(),
        Err(away) => return Err(away.into()),
    };
    Ok(answers.into_iter().fold(here, Reached::max))
}

/// Sends a packet to the clients of a user on this node. Those that have lost their connections get it, too, if there
/// are no other nodes; else it is [kept](crate::broker::Broker::keep_for_user) for them once it has reached anybody.
pub fn to_user_here(context: &Context, user: &UserId, packet: &Packet, except: &Except) -> Reached {
    let (clients, mut lost) = context.registry.users.clients_and_lost(user);
    lost.retain(|client| context.cluster.is_none() && !client.is_left_out(except));
    let meant = clients.iter().filter(|client| !client.is_left_out(except)).cloned();
    let meant = meant.collect::<Vec<_>>();
    if meant.is_empty() && !clients.is_empty() {
        return Reached::LeftOut;
    }
    match context.broker.here.to_user(&meant, &lost, packet) {
        0 => Reached::Nobody,
        _ => Reached::Someone,
    }
}

/// Keeps a packet that reached nobody, and is not queued, for the user's clients that may come back.
pub fn keep_for_lost(context: &Context, user: &UserId, packet: &Packet, except: &Except) {
    if packet.is_kept() && context.broker.here.recovers() {
        context.broker.keep_for_user(user, packet, except);
    }
}
