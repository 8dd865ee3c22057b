//! How messages of clients to rooms are published and acknowledged.

use futures_util::{FutureExt, TryFutureExt, future::ready};
use serde::Serialize;
use serde_json::{json, value::RawValue};

use super::{
    context::Context,
    event::Feature,
    schema::{id, object, offset, time, yes},
};
use crate::{
    broker::RoomMessage,
    hub::Client,
    protocol::{
        message_id::MessageId, names::RoomName, payload::Payload, permissions::Right,
        refusal::Refusal, timestamp::Timestamp,
    },
};

pub(super) const FEATURE: Feature = Feature {
    client: &[],
    server: &[],
    schemas: || {
        let room = json!({"type": ["string", "null"], "description": "The room; null where it went to everyone."});
        vec![(
            "MessageAcknowledge",
            object(
                "The message is stored (where there is history) and on its way.",
                &[
                    ("success", yes()),
                    ("id", id()),
                    ("roomName", room),
                    ("timestamp", time()),
                    ("offset?", offset()),
                ],
            ),
        )]
    },
};

/// A published message, as its sender is told of it.
#[derive(Debug)]
pub(super) struct Published {
    pub id: MessageId,
    /// `None`: the whole namespace.
    pub room: Option<RoomName>,
    pub timestamp: Timestamp,
    pub offset: Option<u64>,
}

impl Published {
    /// The acknowledgement, where the client asks for one; otherwise nothing is encoded.
    pub(super) fn answer(&self, ack: Option<i64>) -> Option<Payload> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Ack<'a> {
            success: bool,
            id: &'a RawValue,
            room_name: Option<&'a RoomName>,
            timestamp: Timestamp,
            #[serde(skip_serializing_if = "Option::is_none")]
            offset: Option<u64>,
        }
        ack?;
        Some(Payload::of(&Ack {
            success: true,
            id: &self.id.json,
            room_name: self.room.as_ref(),
            timestamp: self.timestamp,
            offset: self.offset,
        }))
    }
}

/// A message that is being published.
pub(super) trait Publishing: Future<Output = Result<Published, Refusal>> + Send {}

impl<F: Future<Output = Result<Published, Refusal>> + Send> Publishing for F {}

/// Publishes a client's message with this id. The message has its place among the client's messages when this
/// returns, and is stored when the returned future completes.
///
/// # Errors
/// `forbidden` where the client may not send to the room; `too_many_rooms`, `unavailable`. Then nobody
/// receives it.
pub(super) fn publish(
    context: &Context,
    client: &Client,
    message: RoomMessage,
    id: MessageId,
) -> impl Publishing + use<> {
    if let Err(refusal) = client.permit(Right::Send, &message.room) {
        return ready(Err(refusal)).left_future();
    }
    let (room, timestamp) = (Some(message.room.clone()), message.timestamp);
    let taken = move |offset| Published { id, room, timestamp, offset };
    context.broker.publish(message).map_ok(taken).right_future()
}

/// The simplest acknowledgement.
pub fn success() -> Payload {
    #[derive(Serialize)]
    struct Success {
        success: bool,
    }
    Payload::of(&Success { success: true })
}
