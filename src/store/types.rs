//! What goes into the store and what comes out of it.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;

pub use super::room_key::RoomKey;
use super::webhook::Webhook;
use crate::{
    config::{Config, StoreSync, StoreUrl},
    limits::SenderId,
    protocol::{
        audience::Except,
        names::UserId,
        position::Position,
        refusal::{Code, Refusal},
    },
};

/// Where the store keeps its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In this SQLite file. Its write-ahead log (`-wal`, `-shm`) and its lock (`.lock`) lie beside it.
    File(PathBuf),
    /// In this process's memory; lost when the process ends.
    Memory,
}

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// A crash of the process.
    Normal,
    /// Also a crash of the machine: every commit waits for the disk.
    Full,
}

/// The time in milliseconds since 1970-01-01 UTC. It is an input, so that tests need not wait.
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
    /// Where the data is kept.
    pub location: Location,
    /// What an acknowledged write survives.
    pub sync: Sync,
    /// How many of its newest messages each room keeps.
    pub history_size: u64,
    /// The age at which a message can no longer be read; `None`: no limit.
    pub history_ttl: Option<Duration>,
    /// The most messages kept for one offline user.
    pub queue_size: u64,
    /// The most messages of one sender kept for all offline users together; 0: no limit.
    pub queue_sender_limit: u64,
    /// The age at which a queued message is dropped; `None`: no limit.
    pub queue_ttl: Option<Duration>,
    /// The most rooms stored; 0: no limit.
    pub max_rooms: u64,
    /// The most stored rooms that one sender has begun; 0: no limit.
    pub max_rooms_per_sender: u64,
    /// The most bytes that the embedded store holds; 0: no limit.
    pub store_max_bytes: u64,
    /// Whether there are webhooks.
    pub has_webhooks: bool,
    /// The most webhooks that wait for the backend; beyond that the oldest announcements are dropped.
    pub webhook_limit: u64,
    /// How long an idempotency key is remembered.
    pub idempotency_window: Duration,
    /// How many keys are remembered.
    pub max_keys: u64,
    /// How many of those one sender may have.
    pub max_keys_per_sender: u64,
    /// The source of the time.
    pub clock: Clock,
}

impl Settings {
    /// The store's settings, as configured.
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
            has_webhooks: config.webhook_url.is_some(),
            webhook_limit: config.webhook_queue,
            idempotency_window: config.idempotency_window,
            max_keys: max_keys(config.store_max_bytes),
            max_keys_per_sender: MAX_KEYS_PER_SENDER,
            clock: Clock::system(),
        }
    }

    /// The limit in bytes that goes with [`queue_sender_limit`](Self::queue_sender_limit): 10 KB for each
    /// message, so that a thousand small ones fit, or ten of the greatest size.
    pub fn queue_sender_bytes(&self) -> u64 {
        self.queue_sender_limit.saturating_mul(10_000)
    }
}

/// How many idempotency keys are remembered; beyond that the oldest is forgotten.
const MAX_KEYS: u64 = 1_000_000;

/// How many of those one sender may have; beyond that its own oldest is forgotten. Backends are not counted.
const MAX_KEYS_PER_SENDER: u64 = 10_000;

/// How many keys a store of this size remembers: an eighth of it is enough for them.
fn max_keys(store_max_bytes: u64) -> u64 {
    const KEY_BYTES: u64 = 256;
    match store_max_bytes / 8 / KEY_BYTES {
        0 if store_max_bytes == 0 => MAX_KEYS,
        fit => fit.clamp(1, MAX_KEYS),
    }
}

/// A message as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The message's id, the client's or the server's; need not be unique.
    pub id: String,
    /// The name of the event that delivers it, such as `message-reply`.
    pub event: String,
    /// The JSON text of the object, without its offset.
    pub json: Arc<str>,
    /// The binary attachments that placeholders in `json` refer to.
    pub attachments: Vec<Bytes>,
    /// The server's time stamp, in milliseconds since 1970-01-01 UTC. The message's age counts from it.
    pub timestamp_ms: i64,
}

impl Entry {
    /// The entry's size in bytes, for limits on batches and pages.
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
    /// Recipients that the live delivery skips.
    pub except: Except,
    /// The sender charged for the room if this is its first message; `None`, a backend, is not charged.
    pub sender: Option<SenderId>,
    /// The webhook that tells of it, stored in the same transaction.
    pub webhook: Option<Webhook>,
}

/// A committed room message, as the log tail receives it.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The room to which it belongs.
    pub room: RoomKey,
    /// Its position in the room's log.
    pub position: Position,
    /// The message.
    pub entry: Arc<Entry>,
    /// Recipients that the live delivery skips.
    pub except: Except,
}

/// How far a room's history reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The position of the newest message; the start of its epoch if the room was never written. The epoch
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
    /// The most messages to return.
    pub limit: usize,
    /// The most bytes to return ([`Entry::size`]); one message is returned even if it is larger.
    pub max_bytes: usize,
    /// Whether to read the receipts too.
    pub receipts: bool,
}

/// A part of a room's history, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The messages, with consecutive offsets.
    pub items: Vec<Stored>,
    /// How far the history reaches. If `oldest > n + 1`, a reader of everything after `n` has missed
    /// messages that are gone.
    pub extent: Extent,
    /// Whether nothing readable follows the last item.
    pub complete: bool,
}

/// A room message read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its number in the room, from 1.
    pub offset: u64,
    /// The message.
    pub entry: Entry,
    /// Recipients that the live delivery skips. Reads for a late delivery honour this; replays and pages do
    /// not.
    pub except: Except,
    /// Its receipts in the order of recording; empty unless asked for.
    pub receipts: Vec<Receipt>,
}

/// The most receipts kept of one message.
pub const MAX_RECEIPTS: u64 = 1_000;

/// The record that a user has read a message.
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
    /// Its place; grows with every message of any user and is never reused.
    pub seq: u64,
    /// The message.
    pub entry: Entry,
}

/// The most revocations that are in force at a time.
pub const MAX_REVOCATIONS: u64 = 100_000;

/// Revoked tokens, as they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// The revocation's id.
    pub id: String,
    /// When it is forgotten, in milliseconds since 1970-01-01 UTC.
    pub expires_at_ms: i64,
    /// The revocation itself.
    pub json: String,
}

/// How far the revocations were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RevocationCursor {
    /// Changes when one was taken back, or all were lost.
    pub(super) epoch: String,
    /// Grows with each that is added.
    pub(super) version: u64,
}

/// What was read of the revocations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocations {
    /// Where the next read continues.
    pub cursor: RevocationCursor,
    /// Whether these are all there are, and not only those after the cursor.
    pub is_all: bool,
    /// The revocations, as they were stored.
    pub items: Vec<String>,
}

/// Why the store did not do what was asked. Nothing was stored, except possibly when the connection to a
/// shared store failed meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store cannot do it now (disk full, file locked, I/O error, Redis unreachable or silent,
    /// overload) or ever again (closed).
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The store has no room for it: on its disk, or below `STORE_MAX_BYTES`.
    #[error("the store is full: {0}")]
    Full(String),
    /// The room would exceed the limit of stored rooms.
    #[error(
        "the store has its limit of {limit} rooms, and all that it could forget have members; \
         raise MAX_ROOMS or use fewer rooms"
    )]
    TooManyRooms {
        /// The limit.
        limit: u64,
    },
    /// The room would exceed the limit of rooms that one sender may begin.
    #[error(
        "this sender has created {limit} stored rooms, which is the limit, and all that could be forgotten \
         have members; raise MAX_ROOMS_PER_SENDER or use fewer rooms"
    )]
    TooManyRoomsBegun {
        /// The limit.
        limit: u64,
    },
    /// The user's queue, or the sender's tenth of it, is full.
    #[error("the user's offline queue is full; try again when the user has been online")]
    QueueFull,
    /// The key was used for other content.
    #[error(
        "the idempotency key was used for other content within IDEMPOTENCY_WINDOW: nothing was done; \
         give each request a key of its own"
    )]
    KeyReused,
    /// The sender's queued messages, for all users together, have reached their limit.
    #[error(
        "too many of your messages are waiting for offline users (QUEUE_SENDER_LIMIT); \
         try again after some of these users have connected"
    )]
    SenderQueueFull,
}

impl From<StoreError> for Refusal {
    /// What a client is told. The reason of [`StoreError::Unavailable`] is for the operator only.
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
            StoreError::KeyReused => Self::new(Code::IdempotencyMismatch, error.to_string()),
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
    /// Writes fail, or failed until some seconds ago.
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
    /// The bytes that the store holds, as of a second ago; 0 in Redis, which reports them itself.
    pub bytes: u64,
    /// The memory that the indexes of the rooms' messages and of the idempotency keys take, in bytes, estimated; 0 in
    /// Redis.
    pub index_bytes: u64,
    /// Room messages deleted early because of `STORE_MAX_BYTES`.
    pub trimmed: u64,
    /// Writes refused because the store or its disk was full.
    pub refused: u64,
    /// Webhooks that wait.
    pub webhooks: u64,
    /// When the oldest of them happened, in milliseconds since 1970-01-01 UTC, as of a second ago.
    pub oldest_webhook_ms: Option<i64>,
    /// Announcements dropped because the outbox was full, or in a store of one node because they could not be
    /// stored. In Redis these two, and those that wait, are those of all nodes.
    pub webhooks_dropped: u64,
    /// Webhooks given up.
    pub webhooks_failed: u64,
}
