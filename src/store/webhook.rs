//! Webhooks as they are stored until the application's backend has them.

use std::{fmt, num::ParseIntError, str::FromStr, sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;

use super::room_key::RoomKey;
use crate::{
    limits::SenderId,
    protocol::{names::UserId, position::Position},
};

/// The age at which a webhook that could not even be tried is given up: a day after the last try of those
/// that could.
pub(super) const TOO_OLD: Duration = Duration::from_hours(4 * 24);

/// How long webhooks that were given up are kept.
pub(super) const FAILED_KEPT: Duration = Duration::from_hours(7 * 24);

/// Webhooks of one stream are delivered one after the other, in the order in which they were stored.
///
/// It is a hash of what the order is kept for: two streams with the same hash merely wait for one another.
///
/// With several instances of Redis, the second number is the place of the one in which the stream was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stream(pub(super) i64, pub(super) usize);

impl Stream {
    /// The stream of a room.
    pub fn of_room(room: &RoomKey) -> Self {
        Self::of("room", &[&room.namespace, room.room.as_str()])
    }

    /// The stream of a user.
    pub fn of_user(user: &UserId) -> Self {
        Self::of("user", &[user.as_str()])
    }

    /// The stream of a client without a user.
    pub fn of_client(client: &str) -> Self {
        Self::of("client", &[client])
    }

    /// The stream of a node.
    pub fn of_node(node: &str) -> Self {
        Self::of("node", &[node])
    }

    /// Whether it is in an instance of Redis that may be away while this node goes on.
    pub fn may_be_away(&self) -> bool {
        self.1 > 0
    }

    fn of(kind: &str, names: &[&str]) -> Self {
        // No name has a control character, so the parts cannot run into one another.
        let mut text = String::with_capacity(64);
        text.push_str(kind);
        for name in names {
            text.push('\0');
            text.push_str(name);
        }
        let hash = digest(&SHA256, text.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_ref()[..8]);
        Self(i64::from_be_bytes(first), 0)
    }
}

/// A webhook to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Its id, the same for every try.
    pub id: String,
    /// What it keeps its order in.
    pub stream: Stream,
    /// When it happened, in milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// The body; of a room message, the body up to the message itself.
    pub json: String,
}

/// What a backend has been told to hold, until it is told otherwise: a node is alive, a user online, a room
/// occupied.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Fact {
    /// A node is alive.
    Node(String),
    /// A user is online.
    User(UserId),
    /// A room has members.
    Room(RoomKey),
}

/// What has happened, besides messages.
#[derive(Debug, Clone)]
pub struct Announcement {
    /// The webhook, if the backend wants this type.
    pub webhook: Option<Webhook>,
    /// The fact that begins to hold (`true`) or ends.
    pub fact: Option<(Fact, bool)>,
    /// The client that brought it about: it keeps its order with what the client stores.
    pub sender: Option<SenderId>,
    /// The room that it is about, also of a [`Fact::Room`]: it keeps its order with what is stored there.
    pub room: Option<RoomKey>,
}

/// A room message that a webhook tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookMessage {
    /// Its position.
    pub position: Position,
    /// The JSON text of the object, without its offset; empty if it is damaged on the disk.
    pub json: Arc<str>,
    /// Its binary attachments.
    pub attachments: Vec<Bytes>,
}

/// A webhook that waits for its delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredWebhook {
    /// Its place in the outbox.
    pub seq: u64,
    /// Its id.
    pub id: String,
    /// When it happened, in milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// The body; of a room message, the body up to the message itself.
    pub json: String,
    /// The room message.
    pub message: Option<WebhookMessage>,
}

impl StoredWebhook {
    /// Its size, with the message that it tells of, in bytes.
    pub fn size(&self) -> usize {
        let message = self.message.as_ref().map_or(0, |message| {
            message.json.len() + message.attachments.iter().map(Bytes::len).sum::<usize>()
        });
        self.json.len() + message
    }
}

/// A webhook that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedWebhook {
    /// Where it is among them.
    pub place: FailedPlace,
    /// When it was given up, in milliseconds since 1970-01-01 UTC.
    pub failed_at_ms: i64,
    /// Why.
    pub error: String,
    /// The webhook.
    pub webhook: StoredWebhook,
}

/// The place of a webhook among those that were given up: they are in the order in which that happened, in each of
/// several instances of Redis. The third number is the instance's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FailedPlace(pub u64, pub u64, pub usize);

impl fmt::Display for FailedPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)?;
        if self.2 > 0 { write!(f, "-{}", self.2) } else { Ok(()) }
    }
}

impl FromStr for FailedPlace {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        let (first, rest) = text.split_once('-').unwrap_or((text, ""));
        let (second, instance) = rest.split_once('-').unwrap_or((rest, "0"));
        Ok(Self(first.parse()?, second.parse()?, instance.parse()?))
    }
}

/// What is to become of webhooks that were given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// They are tried again, as if they had just happened, after what waits in their streams.
    Retried,
    /// They are deleted.
    Discarded,
}

/// Which of the facts that the backend was told, or was not, are to be looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stale {
    /// Users that are online no longer.
    Users,
    /// Rooms without members.
    Rooms,
    /// Users that are online without having been told of.
    UntoldUsers,
    /// Rooms with members that were not told of. They are looked for once after Redis came back empty.
    UntoldRooms,
}

/// What became of webhooks of a stream: they leave the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The stream.
    pub stream: Stream,
    /// The places and ids of those that the backend has.
    pub delivered: Vec<(u64, String)>,
    /// The place and the id of one that is given up, and why.
    pub failed: Option<(u64, String, String)>,
}

impl Settled {
    /// Nothing became of any yet.
    pub fn of(stream: Stream) -> Self {
        Self { stream, delivered: Vec::new(), failed: None }
    }

    /// Whether nothing became of any.
    pub fn is_empty(&self) -> bool {
        self.delivered.is_empty() && self.failed.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::names::RoomName;

    #[test]
    fn streams_are_told_apart() {
        let room = |namespace: &str, name: &str| {
            let room = RoomName::parse(name).unwrap();
            Stream::of_room(&RoomKey { namespace: namespace.into(), room })
        };
        let user = Stream::of_user(&UserId::parse("a").unwrap());
        let all = [
            room("/", "a"),
            room("/a", "a"),
            room("/", "b"),
            user,
            Stream::of_client("a"),
            Stream::of_node("a"),
        ];
        for (at, stream) in all.iter().enumerate() {
            assert!(!all[..at].contains(stream), "{at}");
        }
        // Stored: may never change.
        assert_eq!(room("/", "a"), room("/", "a"));
    }
}
