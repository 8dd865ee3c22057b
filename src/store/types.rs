//! What goes into the store and what comes out of it.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    config::{Config, StoreSync, StoreUrl},
    limits::SenderId,
    protocol::{
        audience::Except,
        names::{RoomName, UserId},
        position::Position,
        refusal::{Code, Refusal},
    },
};

/// Where the store keeps its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In this SQLite file; beside it lie its write-ahead log (`-wal`, `-shm`) and its lock
    /// (`.lock`).
    File(PathBuf),
    /// In this process's memory; gone with it.
    Memory,
}

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// The end of the process, however sudden.
    Normal,
    /// Also the end of the machine: every commit waits for the disk.
    Full,
}

/// What time it is, in milliseconds since 1970-01-01 UTC: an input, so that tests need not wait.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + std::marker::Sync>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::from_fn(|| {
            let since = std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap_or_default();
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
    }

    /// A clock that shows what `now` returns.
    pub fn from_fn(now: impl Fn() -> i64 + Send + std::marker::Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Milliseconds since 1970-01-01 UTC.
    pub fn now_ms(&self) -> i64 {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the data lies.
    pub location: Location,
    /// What an acknowledged write survives.
    pub sync: Sync,
    /// The newest messages kept of each room.
    pub history_size: u64,
    /// The age at which a message can no longer be read; `None`: no limit.
    pub history_ttl: Option<Duration>,
    /// The messages kept at most for one offline user.
    pub queue_size: u64,
    /// The messages of one sender kept at most for all offline users together; 0: no limit.
    pub queue_sender_limit: u64,
    /// The age at which a queued message is dropped; `None`: no limit.
    pub queue_ttl: Option<Duration>,
    /// The rooms stored at most; 0: no limit.
    pub max_rooms: u64,
    /// The stored rooms at most that one sender has begun; 0: no limit.
    pub max_rooms_per_sender: u64,
    /// The bytes that the embedded store may hold; 0: no limit.
    pub store_max_bytes: u64,
    /// What time it is.
    pub clock: Clock,
}

impl Settings {
    /// The store of the configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            location: match &config.store_url {
                StoreUrl::Sqlite(path) => Location::File(path.clone()),
                StoreUrl::Memory => Location::Memory,
            },
            sync: match config.store_sync {
                StoreSync::Normal => Sync::Normal,
                StoreSync::Full => Sync::Full,
            },
            history_size: config.history_size,
            history_ttl: config.history_ttl,
            queue_size: config.queue_size,
            queue_sender_limit: config.queue_sender_limit,
            queue_ttl: config.queue_ttl,
            max_rooms: config.max_rooms,
            max_rooms_per_sender: config.max_rooms_per_sender,
            store_max_bytes: config.store_max_bytes,
            clock: Clock::system(),
        }
    }

    /// The bytes that go with [`queue_sender_limit`](Self::queue_sender_limit): as if each message had
    /// 10 KB, so that a thousand small ones fit, or ten that are as large as may be.
    pub fn queue_sender_bytes(&self) -> u64 {
        self.queue_sender_limit.saturating_mul(10_000)
    }
}

/// A room inside its namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomKey {
    /// The namespace, such as `/chat`.
    pub namespace: Arc<str>,
    /// The room's name.
    pub room: RoomName,
}

/// A message as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The message's id, the client's or the server's; need not be unique.
    pub id: String,
    /// The event as which it is delivered, such as `message-reply`.
    pub event: String,
    /// The JSON text of the object, without its offset.
    pub json: Arc<str>,
    /// The binary attachments that placeholders in `json` refer to.
    pub attachments: Vec<Bytes>,
    /// The server's time stamp, in milliseconds since 1970-01-01 UTC; the message's age counts from
    /// it.
    pub timestamp_ms: i64,
}

impl Entry {
    /// The bytes that the entry holds, for limits on batches and pages.
    pub fn size(&self) -> usize {
        let attached: usize = self.attachments.iter().map(Bytes::len).sum();
        self.id.len() + self.event.len() + self.json.len() + attached
    }
}

/// A room message to be stored.
#[derive(Debug, Clone)]
pub struct Append {
    /// The room to which it belongs.
    pub room: RoomKey,
    /// The message.
    pub entry: Entry,
    /// Who is left out of the live delivery.
    pub except: Except,
    /// Who is charged for the room, should this be its first message; a backend is not.
    pub sender: Option<SenderId>,
}

/// A room message that was committed, as the tail gets it.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The room to which it belongs.
    pub room: RoomKey,
    /// Where it stands in the room's log.
    pub position: Position,
    /// The message.
    pub entry: Arc<Entry>,
    /// Who is left out of the live delivery.
    pub except: Except,
}

/// How far a room's history reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where the newest message stands; the start of its epoch if the room was never written. The epoch
    /// changes only if the room's history was lost or forgotten.
    pub head: Position,
    /// The oldest offset that can be read; one after the head if none can.
    pub oldest: u64,
}

/// Which part of a room's history to read.
#[derive(Debug, Clone, Copy)]
pub struct Query {
    /// Only messages with a greater offset.
    pub after: u64,
    /// At most so many messages.
    pub limit: usize,
    /// At most so many bytes ([`Entry::size`]), but always one message if there is one.
    pub max_bytes: usize,
    /// Whether to read the receipts too.
    pub receipts: bool,
}

/// A part of a room's history, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The messages, with consecutive offsets.
    pub items: Vec<Stored>,
    /// How far the history reaches. A reader of everything after `n` has missed messages that are
    /// gone where `oldest > n + 1`.
    pub extent: Extent,
    /// Whether nothing that can be read comes after the last item.
    pub complete: bool,
}

/// A room message read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its number in the room, from 1.
    pub offset: u64,
    /// The message.
    pub entry: Entry,
    /// Who is left out of the live delivery: what is read in order to deliver it late honours this, what is
    /// read for a replay or a page does not.
    pub except: Except,
    /// Who has read it, in the order in which it was recorded; empty unless asked for.
    pub receipts: Vec<Receipt>,
}

/// So many users' receipts are kept of one message.
pub const MAX_RECEIPTS: u64 = 1_000;

/// That a user has read a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The user.
    pub user: UserId,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub timestamp_ms: i64,
}

/// A message that waits for an offline user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedItem {
    /// Its place; grows with every message of any user and is never used again.
    pub seq: u64,
    /// The message.
    pub entry: Entry,
}

/// Why the store did not do what was asked. Nothing of it was stored, but where the connection to a
/// shared store failed in between: then nobody can tell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store cannot do it now (the disk is full, the file locked, an I/O error, Redis away or
    /// silent, overload) or ever again (closed).
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The store has no room for it: on its disk, or below `STORE_MAX_BYTES`.
    #[error("the store is full: {0}")]
    Full(String),
    /// The room would be one more than may be stored.
    #[error(
        "no more than {limit} rooms may be stored, and those that could make way have members; \
         raise MAX_ROOMS or use fewer rooms"
    )]
    TooManyRooms {
        /// How many may be.
        limit: u64,
    },
    /// The room would be one more than one sender may begin.
    #[error(
        "no more than {limit} stored rooms may be begun by one sender, and those that could make way \
         have members; raise MAX_ROOMS_PER_SENDER or use fewer rooms"
    )]
    TooManyRoomsBegun {
        /// How many may be.
        limit: u64,
    },
    /// The user's queue, or the sender's tenth of it, is full.
    #[error("the user's offline queue is full; try again when the user has been online")]
    QueueFull,
    /// As much as is allowed waits already of one sender, for whichever users.
    #[error(
        "too much that you sent waits for users that are offline (QUEUE_SENDER_LIMIT); \
         try again when some of them have been online"
    )]
    SenderQueueFull,
}

impl From<StoreError> for Refusal {
    /// What a client is told; why the store is unavailable is for the operator alone.
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Unavailable(_) => {
                Self::new(Code::Unavailable, "The store is unavailable; try again later")
            }
            StoreError::Full(_) => Self::new(
                Code::Unavailable,
                "The server's store is full: nothing was stored; try again later",
            ),
            StoreError::TooManyRooms { .. } | StoreError::TooManyRoomsBegun { .. } => {
                Self::new(Code::TooManyRooms, error.to_string())
            }
            StoreError::QueueFull | StoreError::SenderQueueFull => {
                Self::new(Code::QueueFull, error.to_string())
            }
        }
    }
}

/// Whether the store can take messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Writes succeed.
    Working,
    /// Writes fail, or have until some seconds ago.
    Failing {
        /// Why.
        reason: String,
        /// Since when, in milliseconds since 1970-01-01 UTC.
        since_ms: i64,
    },
    /// The store was closed.
    Closed,
}

/// Counters since the store was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transactions committed; in Redis, pipelines answered.
    pub commits: u64,
    /// Transactions that failed.
    pub failures: u64,
    /// Room messages committed.
    pub entries: u64,
    /// How long the last commit took, from its first write to its end, in microseconds.
    pub last_commit_micros: u64,
    /// How long all commits took together, in microseconds.
    pub total_commit_micros: u64,
    /// Writes that wait now.
    pub queued: u64,
    /// Bytes of the writes that wait now.
    pub queued_bytes: u64,
    /// Rooms stored now; in Redis, as of a second ago.
    pub rooms: u64,
    /// Rooms forgotten to make place for others.
    pub evictions: u64,
    /// The bytes that the store holds, as of a second ago; 0 in Redis, which tells them itself.
    pub bytes: u64,
    /// Room messages deleted before their time because of `STORE_MAX_BYTES`.
    pub trimmed: u64,
    /// Writes refused because the store or its disk was full.
    pub refused: u64,
}
