//! `readReceipt`.

use serde_json::value::RawValue;

use super::{
    arguments::room_in,
    context::Context,
    event::{Caller, ClientEvent, Event, Feature, Incoming, Outcome, ServerEvent},
    schema::{client_id, flag, id, object, of_room, room, time, user, yes},
};
use crate::{
    hub::{Client, packet::Packet},
    protocol::{
        audience::Except,
        message_id::MessageId,
        names::RoomName,
        payload::{ObjectBuilder, Payload},
        permissions::Right,
        refusal::{Code, Refusal},
        timestamp::Timestamp,
    },
};

const MESSAGE_READ: ServerEvent = ServerEvent::state("messageRead","MessageRead","A client has read a message.").to("The room's members, the reader included.").example(r#"{"messageId":"m-1","userId":"bob","clientId":"3qwd6cWPZVJxGsnkAAAB","roomId":"lobby","timestamp":"2026-01-01T12:00:00.000Z"}"#);

pub(super) const FEATURE: Feature = Feature {
    client: &[ClientEvent::new::<ReadReceipt>(
        "readReceipt",
        "ReadReceipt",
        "ReceiptAcknowledge",
        "Says that a message was read. The room's members get `messageRead`, and the receipt is recorded with the message.",
    ).example(r#"{"roomId":"lobby","messageId":"m-1"}"#).refusals(&[Code::NoRoom, Code::Forbidden])],
    server: &[MESSAGE_READ],
    schemas: || {
        vec![
            ("ReadReceipt", of_room("The message that was read.", &[("messageId", id())])),
            (
                "ReceiptAcknowledge",
                object(
                    "The receipt was sent.",
                    &[
                        ("success", yes()),
                        ("recorded", flag("Whether the receipt was recorded with the message.")),
                    ],
                ),
            ),
            (
                "MessageRead",
                object(
                    "A client has read a message.",
                    &[
                        ("messageId", id()),
                        ("userId", user()),
                        ("clientId", client_id()),
                        ("roomId", room()),
                        ("timestamp", time()),
                    ],
                ),
            ),
        ]
    },
};

/// The client's user has read a message.
struct ReadReceipt {
    message: MessageId,
    room: RoomName,
}

impl Event for ReadReceipt {
    fn parse(incoming: &Incoming<'_>) -> Result<Self, Refusal> {
        let object = incoming.object()?;
        let room = room_in(object)?.name;
        let message = object.get("messageId").and_then(MessageId::given);
        let message =
            message.ok_or_else(|| Refusal::invalid("messageId must be a string or a number"))?;
        Ok(Self { message, room })
    }

    /// Records the receipt with the message, and tells the room's members.
    async fn run(self, caller: Caller) -> Outcome {
        let (context, client) = (&caller.context, &*caller.client);
        client.permit(Right::Send, &self.room)?;
        let id: &RawValue = &self.message.json;
        let json = ObjectBuilder::default()
            .raw("messageId", id)
            .set("userId", &client.user())
            .set("clientId", client.id.as_str())
            .set("roomId", &self.room)
            .set("timestamp", &Timestamp::now())
            .build();
        let packet = Packet::new(MESSAGE_READ.name, Payload::from_raw(json));
        let recorded = self.record(context, client).await?;
        context.broker.signal_room(&client.namespace, &self.room, &packet, &Except::nobody());
        let ack = ObjectBuilder::default().set("success", &true).set("recorded", &recorded).build();
        Ok(Some(Payload::from_raw(ack)))
    }
}

impl ReadReceipt {
    /// Records the receipt if the client is a member with a user, and the message is in the history.
    async fn record(&self, context: &Context, client: &Client) -> Result<bool, Refusal> {
        let (Some(log), Some(user)) = (context.broker.log(), client.user()) else {
            return Ok(false);
        };
        if !client.is_in(self.room.as_str()) {
            return Ok(false);
        }
        let key = client.namespace.key(&self.room);
        let now = Timestamp::now().as_millis();
        Ok(log.record_receipt(key, self.message.text.clone(), user, now).await?)
    }
}
