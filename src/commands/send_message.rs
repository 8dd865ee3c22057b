//! `sendMessage`: a chat message, to which the server adds its sender and its time.

use futures_util::{FutureExt, TryFutureExt, future::ready};
use serde::Serialize;
use serde_json::{json, value::RawValue};

use super::{
    arguments::room_in,
    event::{Caller, ClientEvent, Event, Feature, Incoming, Outcome, ServerEvent},
    idempotency::Given,
    publish::{Published, publish},
    schema::{anything, client_id, id, idempotency_key, object, of_room, offset, open, time, user},
};
use crate::{
    broker::{RoomMessage, webhooks::Author},
    hub::{Client, packet::Packet},
    protocol::{
        audience::Except,
        message_id::MessageId,
        names::RoomName,
        payload::{Object, ObjectBuilder, Payload},
        refusal::{Code, Refusal},
        timestamp::Timestamp,
    },
};

const NEW_MESSAGE: ServerEvent = ServerEvent::message("newMessage","NewMessage","A chat message: the object that a client sent by `sendMessage`. The server sets `sender`, `clientId` and `timestamp`.").to("The room's members, the sender included.").example(r#"{"id":"m-1","sender":"alice","clientId":"3qwd6cWPZVJxGsnkAAAB","content":"Hello","timestamp":"2026-01-01T12:00:00.000Z","roomId":"lobby","offset":9}"#);
const MESSAGE_SENT: ServerEvent =
    ServerEvent::state("messageSent", "MessageSent", "The chat message was accepted.")
        .to("The client that sent it.")
        .example(r#"{"id":"m-1","timestamp":"2026-01-01T12:00:00.000Z","status":"sent"}"#);

pub(super) const FEATURE: Feature = Feature {
    client: &[ClientEvent::new::<ChatMessage>(
        "sendMessage",
        "ChatMessage",
        "MessageAcknowledge",
        "Sends a chat message to a room, as `newMessage`. The sender gets it too, and `messageSent`.",
    ).example(r#"{"roomId":"lobby","content":"Hello","id":"m-1"}"#).refusals(&[Code::NoRoom, Code::Forbidden, Code::TooManyRooms, Code::IdempotencyMismatch])],
    server: &[NEW_MESSAGE, MESSAGE_SENT],
    schemas: || {
        vec![
            (
                "ChatMessage",
                of_room(
                    "A chat message. All other fields are forwarded.",
                    &[
                        ("content", anything("The content.")),
                        ("id?", id()),
                        ("idempotencyKey?", idempotency_key()),
                    ],
                ),
            ),
            (
                "NewMessage",
                open(
                    "A chat message, with all other fields of the payload.",
                    &[
                        ("id", id()),
                        ("sender", user()),
                        ("clientId", client_id()),
                        ("content", anything("The content.")),
                        ("timestamp", time()),
                        ("offset?", offset()),
                    ],
                ),
            ),
            (
                "MessageSent",
                object(
                    "",
                    &[("id", id()), ("timestamp", time()), ("status", json!({"const": "sent"}))],
                ),
            ),
        ]
    },
};

struct ChatMessage {
    room: RoomName,
    /// `content` and any other fields.
    payload: Payload,
    id: MessageId,
    given: Given,
}

impl Event for ChatMessage {
    fn parse(incoming: &Incoming<'_>) -> Result<Self, Refusal> {
        let object = incoming.object()?;
        let room = room_in(object)?.name;
        if object.get("content").is_none() {
            return Err(Refusal::invalid("content must be present"));
        }
        let given = Given::read(incoming, object)?;
        let payload = given.payload(incoming, object)?;
        Ok(Self { room, payload, id: MessageId::of(object), given })
    }

    fn is_pipelined(&self) -> bool {
        true
    }

    fn run(self, caller: Caller) -> impl Future<Output = Outcome> + Send + 'static {
        let Self { room, payload, id, given } = self;
        let Caller { context, client, ack } = caller;
        let timestamp = Timestamp::now();
        let (event, namespace) = (NEW_MESSAGE.name, Some(&*client.namespace.path));
        let keyed = given.keyed(&context, &client, event, namespace, Some(&room), &payload);
        let payload = match outgoing(&client, &payload, &id, timestamp) {
            Ok(payload) => payload,
            Err(refusal) => return ready(Err(refusal)).left_future(),
        };
        let message = RoomMessage {
            namespace: client.namespace.clone(),
            room,
            event: event.into(),
            payload,
            id: id.text.clone(),
            timestamp,
            except: Except::nobody(),
            sender: Some(context.sender_id(&client)),
            from: Some(Author::of(&client)),
        };
        let published = publish(&context, &client, message, id, keyed);
        let confirm = move |published: Published| {
            #[derive(Serialize)]
            struct MessageSent<'a> {
                id: &'a RawValue,
                timestamp: Timestamp,
                status: &'static str,
            }
            if !published.is_duplicate {
                let sent = MessageSent { id: &published.id.json, timestamp, status: "sent" };
                client.sender.send(&Packet::of(MESSAGE_SENT.name, &sent));
            }
            published.answer(ack)
        };
        published.map_ok(confirm).right_future()
    }
}

/// The chat message as it is delivered.
fn outgoing(
    client: &Client,
    payload: &Payload,
    id: &MessageId,
    timestamp: Timestamp,
) -> Result<Payload, Refusal> {
    let text = payload.json();
    let Some(object) = Object::parse(&text) else {
        return Err(Refusal::invalid("the payload must be an object"));
    };
    let Some(content) = object.get("content") else {
        return Err(Refusal::invalid("content must be present"));
    };
    let json = ObjectBuilder::default()
        // The payload's id goes out unchanged, even where it cannot serve as one.
        .raw("id", object.get("id").unwrap_or(&id.json))
        .set("sender", &client.user())
        .set("clientId", client.id.as_str())
        .raw("content", content)
        .set("timestamp", &timestamp)
        .rest_of(&object)
        .build();
    payload.with_json(json)
}
