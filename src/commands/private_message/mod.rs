//! Private messages between users.

mod queue;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    broker::survey::Survey,
    commands::context::App,
    hub::{Client, sender::Packet},
    protocol::{
        audience::Except,
        message_id::MessageId,
        names::UserId,
        payload::{ObjectBuilder, Payload},
        refusal::Refusal,
        timestamp::Timestamp,
    },
    store::Entry,
};

pub use self::queue::{Deliveries, deliver_queued, give_way, queue, queue_len, wake};

/// A message from a client to a user.
#[derive(Debug)]
pub struct PrivateMessage {
    /// To whom.
    pub target: UserId,
    /// The target as the client gave it, in JSON.
    pub echo: Box<RawValue>,
    /// What to say, in JSON.
    pub content: Box<RawValue>,
    /// What kind of content it is.
    pub kind: &'static str,
    /// Its id.
    pub id: MessageId,
    /// The payload it came in, for its attachments.
    pub payload: Payload,
}

/// The kinds of content; the first is the default.
pub const KINDS: [&str; 4] = ["text", "image", "file", "notification"];

/// Sends a message to every client of a user.
///
/// # Errors
/// `not_found` where the user has no client and nothing may be queued for it.
pub async fn send(app: &App, client: &Client, message: PrivateMessage) -> Result<Payload, Refusal> {
    #[derive(Serialize)]
    struct Said<'a> {
        content: &'a RawValue,
        r#type: &'static str,
        timestamp: Timestamp,
    }
    let timestamp = Timestamp::now();
    let content = Said { content: &message.content, r#type: message.kind, timestamp };
    let json = ObjectBuilder::default()
        .raw("id", &message.id.json)
        .set("from", &client.user())
        .set("clientId", client.id.as_str())
        .set("message", &content)
        .set("timestamp", &timestamp)
        .build();
    let payload = message.payload.with_json(json)?;
    let packet = Packet::new("private-message", payload.clone());
    let reached = to_user(app, &message.target, &packet, &Except::nobody()).await?;
    app.bus.wait_clients_drained(&app.registry.users.clients(&message.target)).await;
    let delivered = reached == Reached::Someone;
    let queued = !delivered;
    if queued {
        let entry = Entry {
            id: message.id.text.clone(),
            event: packet.event().to_owned(),
            json: payload.unnumbered().clone(),
            attachments: payload.attachments().to_vec(),
            timestamp_ms: timestamp.as_millis(),
        };
        // Whoever writes to offline users may fill but a part of their queues.
        queue(app, &message.target, Some(app.sender(client)), entry).await?;
    }
    let sent = ObjectBuilder::default()
        .raw("target", &message.echo)
        .raw("id", &message.id.json)
        .set("delivered", &delivered)
        .set("queued", &queued)
        .set("timestamp", &timestamp)
        .build();
    client.outlet.send(&Packet::new("message-sent", Payload::from_raw(sent)));
    let ack = ObjectBuilder::default()
        .set("success", &true)
        .set("message", if delivered { "Message delivered" } else { "Message queued" })
        .raw("id", &message.id.json)
        .set("delivered", &delivered)
        .set("queued", &queued)
        .build();
    Ok(Payload::from_raw(ack))
}

/// Whom a packet for a user has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reached {
    /// Nobody: it has no client on any node.
    Nobody,
    /// Nobody, as its clients are left out on purpose.
    LeftOut,
    /// At least one of its clients.
    Someone,
}

/// Sends a packet to all clients of a user, on whichever node they are.
///
/// # Errors
/// `unavailable` where it is not known on which nodes the user is; then nobody has it.
pub async fn to_user(
    app: &App,
    user: &UserId,
    packet: &Packet,
    except: &Except,
) -> Result<Reached, Refusal> {
    let elsewhere = match &app.cluster {
        Some(cluster) => cluster.nodes_of(user).await?,
        None => Vec::new(),
    };
    let here = to_user_here(app, user, packet, except);
    let Some(cluster) = app.cluster.as_ref().filter(|_| !elsewhere.is_empty()) else {
        return Ok(here);
    };
    let question = Survey::ToUser { user: user.clone(), except: except.clone() };
    // A node that does not answer is dying: what it had is not counted on.
    let answers = cluster.ask_nodes::<Reached>(elsewhere, &question, Some(packet)).await;
    let answers = match answers {
        Ok(answers) => answers.answers,
        Err(_) if here == Reached::Someone => Vec::new(),
        Err(away) => return Err(away.into()),
    };
    Ok(answers.into_iter().fold(here, Reached::max))
}

/// Sends a packet to the clients of a user on this node.
pub fn to_user_here(app: &App, user: &UserId, packet: &Packet, except: &Except) -> Reached {
    let clients = app.registry.users.clients(user);
    let meant = clients.iter().filter(|client| !client.is_left_out(except)).cloned();
    let meant = meant.collect::<Vec<_>>();
    if meant.is_empty() && !clients.is_empty() {
        return Reached::LeftOut;
    }
    match app.bus.here.to_clients(&meant, packet, &Except::nobody()) {
        0 => Reached::Nobody,
        _ => Reached::Someone,
    }
}
