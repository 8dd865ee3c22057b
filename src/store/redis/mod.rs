//! The store that several nodes share in Redis: in one instance, or in several ([`shards`]), or in a Redis Cluster.
//!
//! ```text
//!  append ─► intake ─► writer task: one pipeline at a time ─► Redis: number, store, publish ─► answer
//!                                                                 └─► the room's channel ─► all nodes
//!  read   ─► a connection of its own
//! ```
//!
//! - **One script per write**: it numbers, stores, trims and publishes atomically. So a room's stream holds
//!   what was published, in that order.
//! - **No endless wait**: every call is answered within five seconds. While Redis is unreachable, calls are
//!   refused at once. Calls that were under way are answered `Unavailable`, and may have been stored all
//!   the same.
//! - **Epochs** come from a number that is never used twice (`scripts/common.lua`). A Redis that was
//!   emptied, or that lost what it had acknowledged, has other epochs. If all nodes are stopped, the last one
//!   leaves word that there is nothing to lose (`leaving.rs`).
//!
//! It needs Redis (or Valkey) of version 7 or newer, which must not evict. In a Redis Cluster the scripts, which name
//! their keys themselves, touch one slot each ([`cluster`]).

mod cluster;
mod connections;
mod idempotency;
mod intake;
mod layout;
mod leaving;
mod link;
mod moved;
mod names;
mod outbox;
mod primary;
mod replicas;
mod replies;
mod revocations;
mod scripts;
mod shards;
mod sweep;
#[cfg(test)]
mod tests;
mod values;
mod writer;

use std::{fmt, sync::Arc, time::Duration};

use redis::Cmd;
use tokio::{sync::oneshot, time::Instant};

pub(super) use self::shards::Shards;
use self::{
    idempotency::name_of,
    intake::{Command, Intake, Kind},
    layout::Layout,
    link::Link,
    names::room_part,
    outbox::Outbox,
    scripts::Script,
    writer::{Counters, Writer},
};
pub use self::{
    names::{connection_name, is_in_slot, room_channel, room_of_channel, slot_key},
    primary::{Found, Primary, Replaced},
};
use super::{
    backlog::Limits,
    codec::{self, DecodeError, Published},
    idempotency::Once,
    pending::Answer,
    types::{
        Append, Committed, Entry, Extent, Health, MAX_RECEIPTS, Page, Query, QueuedItem, RoomKey,
        Settings, Stats, StoreError,
    },
    webhook::Webhook,
};
use crate::{limits::SenderId, protocol::names::UserId};

/// The shared Redis, and this node in it.
#[derive(Clone)]
pub struct RedisSettings {
    /// The instances, in the order that all nodes have them in; the first one has what spans rooms.
    pub primaries: Vec<Primary>,
    /// How many replicas must have what is written before that is acknowledged.
    pub replicas: u64,
    /// The prefix of all keys and channels, without the colon behind it.
    pub prefix: String,
    /// This node's id.
    pub node: String,
}

impl fmt::Debug for RedisSettings {
    /// Leaves out the instances, which show their passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings")
            .field("prefix", &self.prefix)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// What only tests change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tuning {
    pub limits: Limits,
    /// Every call is answered within this.
    pub deadline: Duration,
    /// How often the connections are checked.
    pub tick: Duration,
    /// How often one of the nodes deletes what is too old.
    pub sweep_every: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            deadline: Duration::from_secs(5),
            tick: Duration::from_secs(1),
            sweep_every: Duration::from_mins(1),
        }
    }
}

/// The greatest number passed to a script, which can still count on from it.
const LAST: u64 = 1 << 52;

/// One instance; it ends with [`Redis::close`] or when it is dropped.
pub(super) struct Redis {
    link: Arc<Link>,
    intake: Arc<Intake>,
    counters: Arc<Counters>,
    settings: Settings,
    outbox: Arc<Outbox>,
    node: String,
    /// Its place among the instances, from 0.
    place: usize,
    /// The most rooms that it may have; 0 for any number.
    max_rooms: u64,
}

impl Redis {
    /// Begins with the instance at this place.
    fn start(
        settings: Settings,
        redis: RedisSettings,
        tuning: Tuning,
        (layout, place): (&Arc<Layout>, usize),
    ) -> Self {
        let RedisSettings { mut primaries, replicas, prefix, node } = redis;
        let primary = primaries.swap_remove(place);
        let prefix = primary.prefix(&prefix);
        let clock = settings.clock.clone();
        let placed = (layout.clone(), place);
        let link = Link::new((primary, replicas), placed, prefix, &node, tuning.deadline, clock);
        let link = Arc::new(link);
        // All instances together hold no more than one would.
        let bytes = tuning.limits.bytes / layout.count();
        let intake = Arc::new(Intake::new(Limits { bytes, ..tuning.limits }));
        let counters = Arc::new(Counters::default());
        let writer = Writer {
            intake: intake.clone(),
            link: link.clone(),
            counters: counters.clone(),
            max_rooms: settings.max_rooms,
            max_rooms_per_sender: settings.max_rooms_per_sender,
        };
        tokio::spawn(writer.run());
        let kept = link.clone();
        tokio::spawn(async move { kept.keep(tuning.tick).await });
        let tidied = link.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = moved::tidy_up(&tidied) => {}
                () = tidied.closed() => {}
            }
        });
        let (swept, by) = (link.clone(), settings.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = sweep::sweep_on(&swept, &by, tuning.sweep_every) => {}
                () = swept.closed() => {}
            }
        });
        let outbox = Arc::<Outbox>::default();
        if settings.has_webhooks {
            tokio::spawn(outbox::watch(link.clone(), outbox.clone(), node.clone()));
        }
        // Rooms are spread evenly.
        let max_rooms = settings.max_rooms.div_ceil(layout.count() as u64);
        Self { link, intake, counters, settings, outbox, node, place, max_rooms }
    }

    pub(super) fn append(&self, append: &Append, once: Option<&Once>) -> Answer {
        let Append { room, entry, except, sender, webhook } = append;
        let entry = codec::encode_entry(entry);
        let once = self.pack_once(once);
        let webhook = self.pack_webhook(webhook.as_ref());
        let bytes = entry.len() + once.len() + webhook.len();
        let mut call = self.call(&scripts::APPEND);
        call.arg(room_part(room))
            .arg(self.settings.history_size.max(1))
            .arg(self.max_rooms)
            .arg(entry)
            .arg(codec::encode_except(except))
            .arg(name_of(sender.as_ref()))
            .arg(self.settings.max_rooms_per_sender)
            .arg(once)
            .arg(webhook);
        self.submit(call, Kind::Append, sender.clone(), bytes)
    }

    pub(super) fn record_receipt(
        &self,
        room: &RoomKey,
        message_id: &str,
        user: &UserId,
        timestamp_ms: i64,
    ) -> Answer {
        let mut call = self.room_call(&scripts::RECEIPT, room);
        call.arg(message_id).arg(user.as_str()).arg(timestamp_ms).arg(MAX_RECEIPTS);
        self.submit(call, Kind::Count, Some(SenderId::User(user.clone())), message_id.len())
    }

    pub(super) fn enqueue(
        &self,
        user: &UserId,
        sender: Option<&SenderId>,
        entry: &Entry,
        webhook: Option<&Webhook>,
        once: Option<&Once>,
    ) -> Answer {
        let entry = codec::encode_entry(entry);
        let (once, webhook) = (self.pack_once(once), self.pack_webhook(webhook));
        let bytes = entry.len() + once.len() + webhook.len();
        let mut call = self.call(&scripts::ENQUEUE);
        call.arg(user.as_str())
            .arg(self.settings.queue_size)
            .arg(self.queue_expired_at())
            .arg(entry)
            .arg(self.settings.queue_sender_limit)
            .arg(self.settings.queue_sender_bytes())
            .arg(self.settings.queue_ttl.map_or(0, millis))
            .arg(once)
            .arg(webhook)
            .arg(sender.map(ToString::to_string));
        self.submit(call, Kind::Enqueue, sender.cloned(), bytes)
    }

    /// The answer is one more than the number removed, or 0 if `holder` does not have the claim.
    pub(super) fn confirm(&self, user: &UserId, up_to: u64, holder: &str) -> Answer {
        let mut call = self.call(&scripts::CONFIRM);
        call.arg(user.as_str()).arg(up_to.min(LAST)).arg(holder);
        self.submit(call, Kind::Count, None, 0)
    }

    pub(super) async fn sweep(&self) -> Result<(), StoreError> {
        sweep::sweep(&self.link, &self.settings).await
    }

    pub(super) async fn read(&self, room: &RoomKey, query: Query) -> Result<Page, StoreError> {
        let mut call = self.room_call(&scripts::READ, room);
        call.arg(query.after.min(LAST))
            .arg(query.limit)
            .arg(query.max_bytes)
            .arg(u8::from(query.receipts));
        Ok(values::page(&self.link.read(&call).await?, query)?)
    }

    pub(super) async fn extent(&self, room: &RoomKey) -> Result<Extent, StoreError> {
        let nothing = Query { after: 0, limit: 0, max_bytes: 0, receipts: false };
        Ok(self.read(room, nothing).await?.extent)
    }

    pub(super) async fn find_by_message_id(
        &self,
        room: &RoomKey,
        message_id: &str,
    ) -> Result<Option<u64>, StoreError> {
        let mut call = self.room_call(&scripts::FIND, room);
        call.arg(message_id);
        Ok(values::optional_number(&self.link.read(&call).await?)?)
    }

    pub(super) async fn queued(
        &self,
        user: &UserId,
        after_seq: u64,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<QueuedItem>, StoreError> {
        Ok(self.look_into_queue(user, after_seq, limit, max_bytes).await?.1)
    }

    pub(super) async fn queue_len(&self, user: &UserId) -> Result<u64, StoreError> {
        Ok(self.look_into_queue(user, 0, 0, 0).await?.0)
    }

    async fn look_into_queue(
        &self,
        user: &UserId,
        after_seq: u64,
        limit: usize,
        max_bytes: usize,
    ) -> Result<(u64, Vec<QueuedItem>), StoreError> {
        let mut call = self.call(&scripts::QUEUED);
        call.arg(user.as_str())
            .arg(self.queue_expired_at())
            .arg(after_seq.min(LAST))
            .arg(limit)
            .arg(max_bytes);
        Ok(values::queued(&self.link.read(&call).await?)?)
    }

    pub(super) async fn claim_queue(
        &self,
        user: &UserId,
        holder: &str,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        self.claim(user.as_str(), holder, "claim", ttl).await
    }

    pub(super) async fn renew_queue(
        &self,
        user: &UserId,
        holder: &str,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        self.claim(user.as_str(), holder, "renew", ttl).await
    }

    pub(super) async fn release_queue(
        &self,
        user: &UserId,
        holder: &str,
    ) -> Result<bool, StoreError> {
        self.claim(user.as_str(), holder, "release", Duration::ZERO).await
    }

    async fn claim(
        &self,
        what: &str,
        holder: &str,
        act: &str,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let mut call = self.call(&scripts::CLAIM);
        call.arg(what).arg(holder).arg(act).arg(millis(ttl).max(1));
        Ok(values::number(&self.link.read(&call).await?)? == 1)
    }

    pub(super) fn committed(
        &self,
        room: RoomKey,
        payload: &[u8],
    ) -> Result<Committed, DecodeError> {
        let Published { run, number, committed } = codec::decode_committed(room, payload)?;
        // One of another run is another node's.
        let _counts = self.link.seen().note(run, number);
        Ok(committed)
    }

    pub(super) fn health(&self) -> Health {
        self.link.health()
    }

    pub(super) fn stats(&self) -> Stats {
        let (queued, queued_bytes) = self.intake.depth();
        let webhooks = *self.outbox.figures.lock();
        Stats {
            queued: queued as u64,
            queued_bytes: queued_bytes as u64,
            rooms: self.link.rooms(),
            webhooks: webhooks.pending,
            oldest_webhook_ms: webhooks.oldest_ms,
            webhooks_dropped: webhooks.dropped,
            webhooks_failed: webhooks.failed,
            ..self.counters.stats()
        }
    }

    pub(super) async fn close(&self) {
        self.intake.close();
        self.link.closed().await;
    }

    pub(super) fn prefix(&self) -> &str {
        self.link.prefix()
    }

    fn submit(&self, call: Cmd, kind: Kind, sender: Option<SenderId>, bytes: usize) -> Answer {
        let (reply, answer) = oneshot::channel();
        let bytes = bytes + size_of::<Command>() + 256;
        let arrived = Instant::now();
        self.intake.push(Command { call, kind, sender, bytes, arrived, reply });
        answer
    }

    fn call(&self, script: &Script) -> Cmd {
        script.call(self.link.prefix())
    }

    /// A call of a script that reads a room.
    fn room_call(&self, script: &Script, room: &RoomKey) -> Cmd {
        let mut call = self.call(script);
        call.arg(room_part(room))
            .arg(self.settings.history_size)
            .arg(expired_at(&self.settings, self.settings.history_ttl));
        call
    }

    fn queue_expired_at(&self) -> String {
        expired_at(&self.settings, self.settings.queue_ttl)
    }
}

impl Drop for Redis {
    /// Writes that were taken in are still finished, as long as the runtime lives.
    fn drop(&mut self) {
        self.intake.close();
    }
}

/// The newest time stamp that is too old, as the scripts take it; empty if there is no limit.
fn expired_at(settings: &Settings, ttl: Option<Duration>) -> String {
    ttl.map(|ttl| settings.clock.now_ms().saturating_sub(millis(ttl)).to_string())
        .unwrap_or_default()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
