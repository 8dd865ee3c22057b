//! `custom-event`: an event of the application's own, from client to client.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    arguments::room_if_any,
    event::{Caller, ClientEvent, Event, Feature, Incoming, Outcome},
    idempotency::{self, Given},
    is_server_event,
    schema::{anything, duplicate, idempotency_key, object, reference, text, yes},
};
use crate::{
    hub::packet::Packet,
    protocol::{
        audience::Except,
        event_names::is_protocol_event,
        names::RoomName,
        payload::Payload,
        permissions::Right,
        refusal::{Code, Refusal},
    },
};

const CUSTOM_EVENT: &str = "custom-event";

pub(super) const FEATURE: Feature = Feature {
    client: &[ClientEvent::new::<CustomEvent>(
        CUSTOM_EVENT,
        "CustomEvent",
        "CustomEventAcknowledge",
        "Sends an event of your own to a room, or to the whole namespace. The sender does not get it. It is neither numbered nor stored.",
    ).example(r#"{"event":"price-changed","room":"lobby","data":{"sku":"A-7","price":12.5}}"#).refusals(&[Code::NoRoom, Code::Forbidden, Code::IdempotencyMismatch])],
    server: &[],
    schemas: || {
        vec![
            (
                "CustomEvent",
                object(
                    "An event of your own.",
                    &[
                        (
                            "event",
                            text(
                                "Its name. Names of Socket.IO's own events and of the server's events are refused.",
                            ),
                        ),
                        ("data?", anything("Its argument.")),
                        ("roomName?", reference("Name")),
                        ("roomId?", reference("Name")),
                        ("room?", reference("Name")),
                        ("resourceId?", reference("Name")),
                        ("idempotencyKey?", idempotency_key()),
                    ],
                ),
            ),
            (
                "CustomEventAcknowledge",
                object(
                    "The event was sent.",
                    &[
                        ("success", yes()),
                        ("message", text("A description.")),
                        ("duplicate?", duplicate()),
                    ],
                ),
            ),
        ]
    },
};

struct CustomEvent {
    event: String,
    data: Payload,
    /// `None`: to the whole namespace.
    room: Option<RoomName>,
    given: Given,
    /// What a key belongs to, where there may be one.
    content: Option<Payload>,
}

impl Event for CustomEvent {
    fn parse(incoming: &Incoming<'_>) -> Result<Self, Refusal> {
        let object = incoming.object()?;
        let event =
            object.get("event").and_then(|event| serde_json::from_str::<String>(event.get()).ok());
        let Some(event) = event.filter(|event| !event.is_empty()) else {
            return Err(Refusal::invalid("event must be a non-empty string"));
        };
        if is_protocol_event(&event) || is_server_event(&event) {
            return Err(Refusal::forbidden(format!(
                "\"{event}\" is an event of Socket.IO or of the server: choose another name"
            )));
        }
        let data = incoming.payload_of(object.get("data").unwrap_or(RawValue::NULL))?;
        let room = room_if_any(object)?.map(|room| room.name);
        let given = Given::read(incoming, object)?;
        let content = given.may_be_key().then(|| incoming.payload()).transpose()?;
        Ok(Self { event, data, room, given, content })
    }

    /// Sends the event to the room or the namespace, never to the client itself.
    async fn run(self, caller: Caller) -> Outcome {
        #[derive(Serialize)]
        struct Ack {
            success: bool,
            message: String,
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            duplicate: bool,
        }
        let Self { event, data, room, given, content } = self;
        let (context, client) = (&caller.context, &caller.client);
        let broker = &context.broker;
        let message = match &room {
            Some(room) => format!("Event \"{event}\" sent to room: {room}"),
            None => format!("Event \"{event}\" sent to all clients"),
        };
        match &room {
            Some(room) => client.permit(Right::Send, room)?,
            None => context.permit_namespace(client)?,
        }
        let keyed = content.as_ref().and_then(|content| {
            let namespace = Some(&*client.namespace.path);
            given.keyed(context, client, CUSTOM_EVENT, namespace, room.as_ref(), content)
        });
        if idempotency::remember(context, keyed, String::new).await?.is_some() {
            return Ok(Some(Payload::of(&Ack { success: true, message, duplicate: true })));
        }
        let packet = Packet::new(Cow::Owned(event), data);
        let except = Except::client(Some(client.id.clone()));
        if let Some(room) = &room {
            broker.signal_room(&client.namespace, room, &packet, &except);
        } else {
            broker.signal_namespace(&client.namespace, &packet, &except);
        }
        broker.wait_drained(&client.namespace, room.as_ref()).await;
        Ok(Some(Payload::of(&Ack { success: true, message, duplicate: false })))
    }
}
