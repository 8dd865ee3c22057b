//! `message`: an object to a room or to everyone, and `channels`: an update of a resource.

use futures_util::{FutureExt, TryFutureExt};
use serde_json::{json, value::RawValue};

use super::{
    arguments::{room_if_any, room_in},
    event::{Caller, ClientEvent, Event, Feature, Incoming, Outcome, ServerEvent},
    idempotency::Given,
    publish::{Published, publish, remember},
    schema::{anything, flag, id, idempotency_key, of_room, offset, open, reference},
};
use crate::{
    broker::{RoomMessage, webhooks::Author},
    hub::packet::Packet,
    protocol::{
        audience::Except,
        message_id::MessageId,
        names::RoomName,
        payload::Payload,
        refusal::{Code, Refusal},
        timestamp::Timestamp,
    },
};

/// A message to a room.
pub(super) const MESSAGE_REPLY: ServerEvent = ServerEvent::message("message-reply","Delivered","A message to a room: the object that a client sent by `message`, or a backend by `POST /messages/broadcast`.").to("The room's members. The sender gets a copy or not, as `message` describes.").example(r#"{"roomName":"lobby","text":"Hello","offset":7}"#);
const MESSAGE: ServerEvent = ServerEvent::message("message","NamespaceMessage","A message to the whole namespace: the object or string that a client sent by `message` without a room.").to("Every client of the namespace, the sender included.").example(r#"{"text":"Hello, everyone"}"#);
const RESOURCE_UPDATE: ServerEvent = ServerEvent::message(
    "resource-update",
    "Delivered",
    "An update of a resource: the object that a client sent by `channels`.",
)
.to("The room's members, the sender included.")
.example(r#"{"resourceId":7,"state":"on","offset":8}"#);

pub(super) const FEATURE: Feature = Feature {
    client: &[
        ClientEvent::new::<Message>(
            "message",
            "Message",
            "MessageAcknowledge",
            "Sends an object to a room, as `message-reply`. Without a room, sends a string or an object with `text` to the whole namespace, as `message`.",
        ).example(r#"{"roomName":"lobby","text":"Hello","replyToSender":true}"#).refusals(&[Code::NoRoom, Code::Forbidden, Code::TooManyRooms, Code::IdempotencyMismatch]),
        ClientEvent::new::<Update>(
            "channels",
            "RoomObject",
            "MessageAcknowledge",
            "Sends an update of a resource to its room, as `resource-update`. The sender gets it too.",
        ).example(r#"{"resourceId":7,"state":"on"}"#).refusals(&[Code::NoRoom, Code::Forbidden, Code::TooManyRooms, Code::IdempotencyMismatch]),
    ],
    server: &[MESSAGE_REPLY, MESSAGE, RESOURCE_UPDATE],
    schemas: || {
        vec![
            (
                "RoomObject",
                of_room(
                    "An object for a room. It is forwarded unchanged.",
                    &[("id?", id()), ("idempotencyKey?", idempotency_key())],
                ),
            ),
            (
                "RoomMessage",
                of_room(
                    "A message for a room. It is forwarded unchanged.",
                    &[
                        ("id?", id()),
                        ("idempotencyKey?", idempotency_key()),
                        ("omitSender?", flag("If true, the sender gets no copy; if false, it does.")),
                        (
                            "replyToSender?",
                            flag(
                                "If true, the sender gets a copy. Without `omitSender` and `replyToSender` it gets one if the room is named by `resourceId`.",
                            ),
                        ),
                    ],
                ),
            ),
            (
                "NamespaceMessage",
                json!({
                    "description": "A message for everyone in the namespace.",
                    "anyOf": [{"type": "string"}, open("", &[("text", anything("The content.")), ("id?", id()), ("idempotencyKey?", idempotency_key())])],
                }),
            ),
            (
                "Message",
                json!({"anyOf": [reference("RoomMessage"), reference("NamespaceMessage")]}),
            ),
            (
                "Delivered",
                open(
                    "The object as it was sent, plus its `offset`.",
                    &[("offset?", offset())],
                ),
            ),
        ]
    },
};

/// A client's object, which goes to a room unchanged.
struct ToRoom {
    room: RoomName,
    payload: Payload,
    id: MessageId,
    /// The event as which it is delivered.
    event: &'static str,
    /// Whether the sender gets its own copy.
    to_sender: bool,
    given: Given,
}

impl ToRoom {
    fn run(self, caller: &Caller) -> impl Future<Output = Outcome> + Send + use<> {
        let Self { room, payload, id, event, to_sender, given } = self;
        let (context, client, ack) = (&caller.context, &caller.client, caller.ack);
        let namespace = Some(&*client.namespace.path);
        let keyed = given.keyed(context, client, event, namespace, Some(&room), &payload);
        let message = RoomMessage {
            namespace: client.namespace.clone(),
            room,
            event: event.into(),
            payload,
            id: id.text.clone(),
            timestamp: Timestamp::now(),
            except: Except::client((!to_sender).then(|| client.id.clone())),
            sender: Some(context.sender_id(client)),
            from: Some(Author::of(client)),
        };
        publish(context, client, message, id, keyed).map_ok(move |published| published.answer(ack))
    }
}

/// `message`.
enum Message {
    ToRoom(ToRoom),
    ToNamespace { payload: Payload, id: MessageId, given: Given },
}

impl Event for Message {
    fn parse(incoming: &Incoming<'_>) -> Result<Self, Refusal> {
        if incoming.argument().starts_with('"') {
            let (id, given) = (MessageId::make(), Given::default());
            return Ok(Self::ToNamespace { payload: incoming.payload()?, id, given });
        }
        let object = incoming.object_if_any()?.ok_or_else(Refusal::no_room)?;
        let (id, given) = (MessageId::of(object), Given::read(incoming, object)?);
        let payload = || given.payload(incoming, object);
        let Some(room) = room_if_any(object)? else {
            if object.get("text").is_none() {
                return Err(Refusal::no_room());
            }
            return Ok(Self::ToNamespace { payload: payload()?, id, given });
        };
        // The contract's section 5: an explicit wish counts, else the shape decides.
        let is_true = |value: &RawValue| value.get() == "true";
        let to_sender = match (object.get("omitSender"), object.get("replyToSender")) {
            (Some(omit), _) => !is_true(omit),
            (None, Some(reply)) => is_true(reply),
            (None, None) => room.field == Some("resourceId"),
        };
        let (room, payload, event) = (room.name, payload()?, MESSAGE_REPLY.name);
        Ok(Self::ToRoom(ToRoom { room, payload, id, event, to_sender, given }))
    }

    fn is_pipelined(&self) -> bool {
        matches!(self, Self::ToRoom(_))
    }

    fn run(self, caller: Caller) -> impl Future<Output = Outcome> + Send + 'static {
        match self {
            Self::ToRoom(message) => message.run(&caller).left_future(),
            Self::ToNamespace { payload, id, given } => {
                to_namespace(caller, payload, id, given).right_future()
            }
        }
    }
}

/// Sends a client's object or text to every client of its namespace, itself included.
///
/// # Errors
/// `forbidden` where its token names the rooms that it may send to.
async fn to_namespace(caller: Caller, payload: Payload, id: MessageId, given: Given) -> Outcome {
    let (context, client) = (&caller.context, &caller.client);
    let broker = &context.broker;
    context.permit_namespace(client)?;
    let namespace = Some(&*client.namespace.path);
    let keyed = given.keyed(context, client, MESSAGE.name, namespace, None, &payload);
    let timestamp = Timestamp::now();
    let published = Published { id, room: None, timestamp, offset: None, is_duplicate: false };
    let published = match remember(context, keyed, published).await? {
        published if published.is_duplicate => return Ok(published.answer(caller.ack)),
        published => published,
    };
    let packet = Packet::new(MESSAGE.name, payload);
    broker.signal_namespace(&client.namespace, &packet, &Except::nobody());
    broker.wait_drained(&client.namespace, None).await;
    Ok(published.answer(caller.ack))
}

/// `channels`.
struct Update(ToRoom);

impl Event for Update {
    fn parse(incoming: &Incoming<'_>) -> Result<Self, Refusal> {
        let object = incoming.object_if_any()?.ok_or_else(Refusal::no_room)?;
        let room = room_in(object)?.name;
        let (id, given) = (MessageId::of(object), Given::read(incoming, object)?);
        let payload = given.payload(incoming, object)?;
        let event = RESOURCE_UPDATE.name;
        Ok(Self(ToRoom { room, payload, id, event, to_sender: true, given }))
    }

    fn is_pipelined(&self) -> bool {
        true
    }

    fn run(self, caller: Caller) -> impl Future<Output = Outcome> + Send + 'static {
        self.0.run(&caller)
    }
}
