//! How messages of clients to rooms are published and acknowledged.

use std::time::Duration;

use futures_util::{
    FutureExt, TryFutureExt,
    future::{BoxFuture, ready},
};
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};

use super::{
    context::Context,
    event::Feature,
    idempotency::{self, Begun, Keyed, kept, repeated, under_way},
    schema::{duplicate, id, object, offset, time, yes},
};
use crate::{
    broker::RoomMessage,
    hub::Client,
    protocol::{
        message_id::MessageId, names::RoomName, payload::Payload, permissions::Right,
        refusal::Refusal, timestamp::Timestamp,
    },
    store::Done,
};

pub(super) const FEATURE: Feature = Feature {
    client: &[],
    server: &[],
    schemas: || {
        let room = json!({"type": ["string", "null"], "description": "The room, or null for a message to the whole namespace."});
        vec![(
            "MessageAcknowledge",
            object(
                "The message was accepted, and stored if history is on.",
                &[
                    ("success", yes()),
                    ("id", id()),
                    ("roomName", room),
                    ("timestamp", time()),
                    ("offset?", offset()),
                    ("duplicate?", duplicate()),
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
    /// Whether it was published before, with the same key.
    pub is_duplicate: bool,
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
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            duplicate: bool,
        }
        ack?;
        Some(Payload::of(&Ack {
            success: true,
            id: &self.id.json,
            room_name: self.room.as_ref(),
            timestamp: self.timestamp,
            offset: self.offset,
            duplicate: self.is_duplicate,
        }))
    }

    /// What is kept with its key. An id that the client gave is given again.
    fn kept(&self) -> String {
        let Self { id, timestamp, offset, .. } = self;
        let id = (!id.is_given).then(|| id.text.clone());
        kept(&Kept { id, timestamp: *timestamp, offset: *offset })
    }

    /// The same message as it was published before.
    fn before(self, kept: &str) -> Result<Self, Refusal> {
        let Kept { id, timestamp, offset } = repeated(kept)?;
        let id = id.map_or(self.id, MessageId::made);
        Ok(Self { id, timestamp, offset, is_duplicate: true, ..self })
    }
}

/// What is kept of a message with its key.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// The id that the server made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    timestamp: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
}

/// Publishes a client's message with this id, once if it has a key. The message has its place among the client's messages when this
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
    keyed: Option<Keyed>,
) -> impl Future<Output = Result<Published, Refusal>> + Send + use<> {
    if let Err(refusal) = client.permit(Right::Send, &message.room) {
        return ready(Err(refusal)).left_future();
    }
    let (room, timestamp) = (Some(message.room.clone()), message.timestamp);
    let published = Published { id, room, timestamp, offset: None, is_duplicate: false };
    if let Some(keyed) = keyed {
        return publish_once(context, message, published, keyed).right_future().right_future();
    }
    let taken = move |offset| Published { offset, ..published };
    context.broker.publish(message).map_ok(taken).left_future().right_future()
}

/// Remembers a message that is about to be sent as a signal. One that was sent before comes back as a duplicate.
///
/// # Errors
/// `idempotency_mismatch`, `unavailable`.
pub(super) async fn remember(
    context: &Context,
    keyed: Option<Keyed>,
    published: Published,
) -> Result<Published, Refusal> {
    match idempotency::remember(context, keyed, || published.kept()).await? {
        Some(kept) => published.before(&kept),
        None => Ok(published),
    }
}

fn publish_once(
    context: &Context,
    message: RoomMessage,
    published: Published,
    keyed: Keyed,
) -> BoxFuture<'static, Result<Published, Refusal>> {
    if context.broker.log().is_some() {
        let publishing = context.broker.publish_once(message, keyed.once(published.kept()));
        return async move {
            match publishing.await? {
                Done::Now(offset) => Ok(Published { offset: Some(offset), ..published }),
                Done::Before(before) => {
                    let published = published.before(&before.answer)?;
                    Ok(Published { offset: Some(before.number), ..published })
                }
                Done::UnderWay => Err(under_way()),
            }
        }
        .boxed();
    }
    let context = context.clone();
    async move {
        let claim = match idempotency::begin(&context, Some(keyed), Duration::ZERO).await? {
            Begun::Go(claim) => claim,
            Begun::Before(kept) => return published.before(&kept),
        };
        let offset = context.broker.publish(message).await?;
        let published = Published { offset, ..published };
        claim.settle(published.kept()).await;
        Ok(published)
    }
    .boxed()
}

/// The simplest acknowledgement.
pub fn success() -> Payload {
    Payload::of(&json!({"success": true}))
}
