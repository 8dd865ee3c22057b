//! The store: every room's log, the receipts of its messages, and the offline users' queues.
//!
//! [`Store`] is one handle with two backends: SQLite for one node, in a file or in memory
//! ([`Store::open`]), and Redis, one instance or several, for several nodes that share it ([`Store::redis`]). Both
//! guarantee:
//!
//! - **The log is what is delivered**, in the order of the log. A refused message reaches nobody and takes
//!   no offset.
//! - **Nothing grows without a bound**: rooms are trimmed by number and age, forgotten rooms by age, queues
//!   by both, waiting writes by number and bytes.

mod backlog;
pub mod codec;
mod embedded;
mod idempotency;
mod outbox;
mod pending;
mod redis;
mod room_key;
#[cfg(test)]
mod tests;
mod types;
mod webhook;

use std::{fmt, sync::Arc, time::Duration};

pub use self::{
    codec::{COMMITTED_TAG, DecodeError},
    embedded::OpenError,
    idempotency::{Before, Digest, Done, Once},
    pending::Pending,
    redis::{
        Found, Primary, RedisSettings, Replaced, connection_name, is_in_slot, room_channel,
        room_of_channel, slot_key,
    },
    types::{
        Append, Clock, Committed, Entry, Extent, Health, Location, MAX_RECEIPTS, MAX_REVOCATIONS,
        Page, Query, QueuedItem, Receipt, RevocationCursor, Revocations, Revoked, RoomKey,
        Settings, Stats, StoreError, Stored, Sync,
    },
    webhook::{
        Announcement, Fact, FailedPlace, FailedWebhook, Fate, Settled, Stale, StoredWebhook,
        Stream, Webhook, WebhookMessage,
    },
};
use self::{
    embedded::{Embedded, Work},
    idempotency::position,
    pending::Answer,
    redis::Shards,
};
use crate::{
    limits::SenderId,
    protocol::{names::UserId, position::Position},
};

/// The store; clones are handles to the same one. It ends with [`Store::close`] or its last handle.
///
/// Reads need a Tokio runtime; writes may be submitted from anywhere.
#[derive(Clone)]
pub struct Store {
    backend: Backend,
}

#[derive(Clone)]
enum Backend {
    Embedded(Arc<Embedded>),
    Redis(Arc<Shards>),
}

impl Store {
    /// Opens or creates the store of one node.
    ///
    /// `tail` receives every committed room message, in log order, on the writer's thread. It must not
    /// block, and must not own a handle to this store, which would then never end. `in_use` tells whether a
    /// room has members; such a room is not forgotten to make place for another. `in_use` has the same
    /// duties.
    ///
    /// An existing file is examined first, which can take some seconds. A file that is refused is left
    /// untouched.
    pub fn open(
        settings: Settings,
        tail: impl FnMut(&[Committed]) + Send + 'static,
        in_use: impl Fn(&RoomKey) -> bool + Send + 'static,
    ) -> Result<Self, OpenError> {
        let embedded =
            Embedded::open(settings, embedded::Tuning::default(), tail, Box::new(in_use))?;
        Ok(Self { backend: Backend::Embedded(Arc::new(embedded)) })
    }

    /// The store that this node shares with others in Redis. It connects in the background and keeps
    /// retrying. Until it is connected, calls are refused with [`StoreError::Unavailable`], so this neither
    /// waits nor fails. It must be called inside a Tokio runtime.
    ///
    /// Committed room messages arrive on their rooms' channels ([`room_channel`]). The nodes that subscribe
    /// to them decode them with [`Store::committed`]. A room whose channel has no subscribers has no
    /// members. The location and the disk settings do not apply.
    pub fn redis(settings: &Settings, redis: &RedisSettings) -> Self {
        let redis = Shards::start(settings, redis, redis::Tuning::default());
        Self { backend: Backend::Redis(Arc::new(redis)) }
    }

    /// Waits for a moment until the instances of a shared store were tried.
    ///
    /// # Errors
    /// Why the list of instances does not fit them.
    pub async fn check(&self) -> Result<(), String> {
        match &self.backend {
            Backend::Embedded(_) => Ok(()),
            Backend::Redis(store) => store.check().await,
        }
    }

    /// Waits until other nodes may know of this one: a shared store has the same list of instances.
    pub async fn admitted(&self) {
        if let Backend::Redis(store) = &self.backend {
            store.is_known(true).await;
        }
    }

    /// Waits until other nodes have another list of instances than this one.
    pub async fn expelled(&self) {
        match &self.backend {
            Backend::Embedded(_) => std::future::pending().await,
            Backend::Redis(store) => store.is_known(false).await,
        }
    }

    /// Whether the store is shared with other nodes.
    pub fn is_shared(&self) -> bool {
        matches!(self.backend, Backend::Redis(_))
    }

    /// Adds a message to its room's log. The message is taken in during this call, so the order of calls is
    /// the order of the log. The answer comes once the message is committed: after the log tail received
    /// it, or, with Redis, when it was published. Dropping the answer does not take the message back.
    ///
    /// Await one append before the next, or bound how many are under way: beyond 100,000 waiting writes or
    /// 512 MB of them, further ones are refused.
    ///
    /// If the connection to Redis fails meanwhile, the answer is `Unavailable` although the message may
    /// have been stored and published.
    pub fn append(&self, append: Append) -> Pending<Position> {
        Pending { answer: self.submit_append(append, None), read: |outcome| position(&outcome) }
    }

    fn submit_append(&self, append: Append, once: Option<Once>) -> Answer {
        match &self.backend {
            Backend::Embedded(store) => {
                store.submit(Work::Append { message: append, once: once.map(Box::new) })
            }
            Backend::Redis(store) => store.append(append, once),
        }
    }

    /// Records that `user` has read the room's newest message with this id. `false` if no such message can
    /// be read or if it already has [`MAX_RECEIPTS`]. A user's second receipt of a message is `true` and
    /// changes nothing.
    pub fn record_receipt(
        &self,
        room: RoomKey,
        message_id: String,
        user: UserId,
        timestamp_ms: i64,
    ) -> Pending<bool> {
        let answer = match &self.backend {
            Backend::Embedded(store) => {
                store.submit(Work::Receipt { room, message_id, user, timestamp_ms })
            }
            Backend::Redis(store) => {
                store.of(&room).record_receipt(&room, &message_id, &user, timestamp_ms)
            }
        };
        Pending { answer, read: |outcome| outcome.number == 1 }
    }

    /// Queues a message for an offline user and returns its place. A `sender` may hold a tenth of the
    /// queue, rounded up, and [`queue_sender_limit`](Settings::queue_sender_limit) of all queues together.
    /// Neither limit applies to a backend (`None`). The webhook is stored in the same transaction.
    pub fn enqueue(
        &self,
        user: UserId,
        sender: Option<SenderId>,
        entry: Entry,
        webhook: Option<Webhook>,
    ) -> Pending<u64> {
        Self::number(self.submit_enqueue(user, sender, entry, webhook, None))
    }

    fn submit_enqueue(
        &self,
        user: UserId,
        sender: Option<SenderId>,
        entry: Entry,
        webhook: Option<Webhook>,
        once: Option<Box<Once>>,
    ) -> Answer {
        match &self.backend {
            Backend::Embedded(store) => {
                store.submit(Work::Enqueue { user, sender, entry, webhook, once })
            }
            Backend::Redis(store) => {
                let (sender, webhook, once) = (sender.as_ref(), webhook.as_ref(), once.as_deref());
                store.first().enqueue(&user, sender, &entry, webhook, once)
            }
        }
    }

    /// Removes the user's queued messages up to and including the place `up_to`; returns how many. `None`,
    /// with nothing removed, if `holder` no longer has the [claim](Self::claim_queue): the current holder
    /// delivers them once more.
    pub fn confirm(&self, user: UserId, up_to: u64, holder: &str) -> Pending<Option<u64>> {
        match &self.backend {
            Backend::Embedded(store) => Pending {
                answer: store.submit(Work::Confirm { user, up_to }),
                read: |outcome| Some(outcome.number),
            },
            Backend::Redis(store) => Pending {
                answer: store.first().confirm(&user, up_to, holder),
                read: |outcome| outcome.number.checked_sub(1),
            },
        }
    }

    fn number(answer: Answer) -> Pending<u64> {
        Pending { answer, read: |outcome| outcome.number }
    }

    /// Stores a revocation; `false` if [`MAX_REVOCATIONS`] are in force.
    pub fn revoke(&self, revoked: Revoked) -> Pending<bool> {
        let answer = match &self.backend {
            Backend::Embedded(store) => store.submit(Work::Revoke(revoked)),
            Backend::Redis(store) => store.first().revoke(&revoked),
        };
        Pending { answer, read: |outcome| outcome.number == 1 }
    }

    /// Removes a revocation; `false` if there is none of this id.
    pub fn reinstate(&self, id: &str) -> Pending<bool> {
        let answer = match &self.backend {
            Backend::Embedded(store) => store.submit(Work::Reinstate { id: id.to_owned() }),
            Backend::Redis(store) => store.first().reinstate(id),
        };
        Pending { answer, read: |outcome| outcome.number == 1 }
    }

    /// The revocations that were added after the cursor; all of them if one was taken back since, and always
    /// if the store is not shared.
    pub async fn revocations(&self, since: &RevocationCursor) -> Result<Revocations, StoreError> {
        match &self.backend {
            Backend::Embedded(store) => {
                let (cursor, items) = (RevocationCursor::default(), store.revocations().await?);
                Ok(Revocations { cursor, is_all: true, items })
            }
            Backend::Redis(store) => store.first().revocations(since).await,
        }
    }

    /// Deletes now everything that is too old. The store also does so by itself, a little at a time.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Embedded(store) => Self::number(store.submit(Work::Sweep)).await.map(|_| ()),
            Backend::Redis(store) => store.sweep().await,
        }
    }

    /// Reads a part of a room's history.
    pub async fn read(&self, room: &RoomKey, query: Query) -> Result<Page, StoreError> {
        match &self.backend {
            Backend::Embedded(store) => store.read(room, query).await,
            Backend::Redis(store) => store.of(room).read(room, query).await,
        }
    }

    /// How far a room's history reaches. A room that was never written has a head of 0 and the epoch that
    /// its first message will have; that epoch may change while the room stays unwritten. Asking stores
    /// nothing.
    pub async fn extent(&self, room: &RoomKey) -> Result<Extent, StoreError> {
        match &self.backend {
            Backend::Embedded(store) => store.extent(room),
            Backend::Redis(store) => store.of(room).extent(room).await,
        }
    }

    /// The offset of the room's newest readable message with this id.
    pub async fn find_by_message_id(
        &self,
        room: &RoomKey,
        message_id: &str,
    ) -> Result<Option<u64>, StoreError> {
        match &self.backend {
            Backend::Embedded(store) => store.find_by_message_id(room, message_id).await,
            Backend::Redis(store) => store.of(room).find_by_message_id(room, message_id).await,
        }
    }

    /// The user's queued messages after the place `after_seq`, in order: at most `limit` of them,
    /// and at most `max_bytes` but always one if there is one.
    pub async fn queued(
        &self,
        user: &UserId,
        after_seq: u64,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<QueuedItem>, StoreError> {
        match &self.backend {
            Backend::Embedded(store) => store.queued(user, after_seq, limit, max_bytes).await,
            Backend::Redis(store) => store.first().queued(user, after_seq, limit, max_bytes).await,
        }
    }

    /// How many messages wait for the user.
    pub async fn queue_len(&self, user: &UserId) -> Result<u64, StoreError> {
        match &self.backend {
            Backend::Embedded(store) => store.queue_len(user).await,
            Backend::Redis(store) => store.first().queue_len(user).await,
        }
    }

    /// Claims the delivery of the user's queue for `holder`, for `ttl`; `false` while another holder has
    /// it. An existing holder renews its lease. Always `true` if the store is not shared.
    pub async fn claim_queue(
        &self,
        user: &UserId,
        holder: &str,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        match &self.backend {
            Backend::Embedded(_) => Ok(true),
            Backend::Redis(store) => store.first().claim_queue(user, holder, ttl).await,
        }
    }

    /// Renews the claim to `ttl` from now; `false` if `holder` no longer has it.
    pub async fn renew_queue(
        &self,
        user: &UserId,
        holder: &str,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        match &self.backend {
            Backend::Embedded(_) => Ok(true),
            Backend::Redis(store) => store.first().renew_queue(user, holder, ttl).await,
        }
    }

    /// Gives the claim back: `false` if `holder` no longer had it.
    pub async fn release_queue(&self, user: &UserId, holder: &str) -> Result<bool, StoreError> {
        match &self.backend {
            Backend::Embedded(_) => Ok(true),
            Backend::Redis(store) => store.first().release_queue(user, holder).await,
        }
    }

    /// Decodes what arrived on the room's channel when a message was committed. Every such message must
    /// pass through here, the node's own too: from the newest one the store later detects whether a
    /// restarted Redis has lost some.
    pub fn committed(&self, room: RoomKey, payload: &[u8]) -> Result<Committed, DecodeError> {
        match &self.backend {
            Backend::Embedded(_) => Err(DecodeError),
            Backend::Redis(store) => store.of(&room).committed(room, payload),
        }
    }

    /// The instances of a shared store, besides the first, whose rooms cannot be read or written at the moment: their
    /// places from 1, and why.
    pub fn failing_instances(&self) -> Vec<(usize, String)> {
        match &self.backend {
            Backend::Embedded(_) => Vec::new(),
            Backend::Redis(store) => store.failing(),
        }
    }

    /// Whether the store can take messages; with several instances, the first one.
    pub fn health(&self) -> Health {
        match &self.backend {
            Backend::Embedded(store) => store.health(),
            Backend::Redis(store) => store.first().health(),
        }
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        match &self.backend {
            Backend::Embedded(store) => store.stats(),
            Backend::Redis(store) => store.stats(),
        }
    }

    /// Refuses everything from now on, finishes the writes that were taken in, and closes the file or the
    /// connections.
    pub async fn close(&self) {
        match &self.backend {
            Backend::Embedded(store) => store.close().await,
            Backend::Redis(store) => store.close().await,
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Store");
        match &self.backend {
            Backend::Embedded(store) => debug.field("location", store.location()),
            Backend::Redis(store) => debug.field("prefix", &store.first().prefix()),
        };
        debug.finish_non_exhaustive()
    }
}
