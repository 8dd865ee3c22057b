//! Several independent instances of Redis as one store.
//!
//! - **A room is on one instance** with all that belongs to it: its log, receipts, webhooks, channel and
//!   members' news ([`RoomKey::instance`]). Its scripts touch no other instance.
//! - **What spans rooms is on the first instance**: users, leases, queues, revocations, claims and keys, and what nodes
//!   tell one another.
//! - **Nothing needs a transaction over two.** A backend's key is bound to its content on the first instance before
//!   the message is stored on the room's, which decides whether it is done; a client's key has the room in it.
//!
//! So an instance that is away makes its rooms unavailable, and nothing else; without the first one, what spans rooms.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::future::{join_all, select_all};
use tokio::{sync::oneshot, time::timeout};

use super::{Layout, Redis, RedisSettings, Tuning};
use crate::store::{
    idempotency::Once,
    pending::{Answer, Outcome},
    types::{Append, Health, RoomKey, Settings, Stats, StoreError},
    webhook::{
        Announcement, Fact, FailedPlace, FailedWebhook, Fate, Settled, Stale, StoredWebhook, Stream,
    },
};

/// How long this node waits at its start for each instance to say whether it fits.
const START: Duration = Duration::from_secs(3);
/// How long an instance may take for the claim on its webhooks.
const CLAIM: Duration = Duration::from_secs(1);
/// Where a look through what was told begins, and where it ends.
const ENDS: &str = "0";

pub(in crate::store) struct Shards {
    /// In the order of the list.
    all: Vec<Arc<Redis>>,
    layout: Arc<Layout>,
}

impl Shards {
    pub(in crate::store) fn start(
        settings: &Settings,
        redis: &RedisSettings,
        tuning: Tuning,
    ) -> Self {
        let layout = Arc::new(Layout::new(&redis.primaries, redis.node.clone()));
        let start = |place| {
            Arc::new(Redis::start(settings.clone(), redis.clone(), tuning, (&layout, place)))
        };
        let all = (0..redis.primaries.len()).map(start).collect();
        Self { all, layout }
    }

    /// The instance that has what spans rooms.
    pub(in crate::store) fn first(&self) -> &Redis {
        &self.all[0]
    }

    /// The instance that has a room.
    pub(in crate::store) fn of(&self, room: &RoomKey) -> &Arc<Redis> {
        &self.all[room.instance(self.all.len())]
    }

    /// Waits for a moment until each instance was tried.
    ///
    /// # Errors
    /// Why this list of instances does not fit them.
    pub(in crate::store) async fn check(&self) -> Result<(), String> {
        let tried = join_all(self.all.iter().map(|redis| redis.link.tried()));
        let _all_or_late = timeout(START, tried).await;
        self.layout.refused().map_or(Ok(()), Err)
    }

    /// Waits until the first instance knows the list of this node (`true`), or another one (`false`).
    pub(in crate::store) async fn is_known(&self, known: bool) {
        self.layout.is_known(known).await;
    }

    pub(in crate::store) fn append(&self, append: Append, once: Option<Once>) -> Answer {
        let redis = self.of(&append.room);
        match once {
            Some(once) if once.sender.is_none() && redis.place > 0 => {
                self.append_bound(redis.clone(), append, once)
            }
            once => redis.append(&append, once.as_ref()),
        }
    }

    /// Appends a backend's message, whose key may have been used for another room.
    fn append_bound(&self, redis: Arc<Redis>, append: Append, once: Once) -> Answer {
        let (reply, answer) = oneshot::channel();
        let (first, bound) = (self.all[0].clone(), self.first().bind_key(&once));
        tokio::spawn(async move {
            let mut outcome = settled(bound).await;
            if outcome.as_ref().is_ok_and(|outcome| outcome.past.is_none()) {
                outcome = settled(redis.append(&append, Some(&once))).await;
                let is_sure = !matches!(outcome, Ok(_) | Err(StoreError::Unavailable(_)));
                if is_sure {
                    // It was refused: the key is free.
                    drop(first.release_claim(&once.key));
                }
            }
            // A caller that is gone needs no answer.
            let _ = reply.send(outcome);
        });
        answer
    }

    pub(in crate::store) async fn sweep(&self) -> Result<(), StoreError> {
        let swept = join_all(self.all.iter().map(|redis| redis.sweep())).await;
        swept.into_iter().collect()
    }

    /// The instances besides the first that are failing: their places from 1, and why.
    pub(in crate::store) fn failing(&self) -> Vec<(usize, String)> {
        let failing = |redis: &Arc<Redis>| match redis.health() {
            Health::Failing { reason, .. } => Some((redis.place + 1, reason)),
            Health::Working | Health::Closed => None,
        };
        self.all[1..].iter().filter_map(failing).collect()
    }

    pub(in crate::store) fn stats(&self) -> Stats {
        self.all.iter().map(|redis| redis.stats()).fold(Stats::default(), |all, stats| Stats {
            commits: all.commits + stats.commits,
            failures: all.failures + stats.failures,
            entries: all.entries + stats.entries,
            last_commit_micros: all.last_commit_micros.max(stats.last_commit_micros),
            total_commit_micros: all.total_commit_micros + stats.total_commit_micros,
            queued: all.queued + stats.queued,
            queued_bytes: all.queued_bytes + stats.queued_bytes,
            rooms: all.rooms + stats.rooms,
            evictions: all.evictions + stats.evictions,
            webhooks: all.webhooks + stats.webhooks,
            oldest_webhook_ms: [all.oldest_webhook_ms, stats.oldest_webhook_ms]
                .into_iter()
                .flatten()
                .min(),
            webhooks_dropped: all.webhooks_dropped + stats.webhooks_dropped,
            webhooks_failed: all.webhooks_failed + stats.webhooks_failed,
            ..stats
        })
    }

    pub(in crate::store) async fn close(&self) {
        join_all(self.all.iter().map(|redis| redis.close())).await;
    }
}

async fn settled(answer: Answer) -> Result<Outcome, StoreError> {
    answer
        .await
        .unwrap_or_else(|_| Err(StoreError::Unavailable("the store's writer has ended".into())))
}

/// The outbox: webhooks of rooms are where the rooms are, all others on the first instance.
impl Shards {
    pub(in crate::store) fn announce(&self, announcement: &Announcement) {
        let redis = announcement.room.as_ref().map_or(self.first(), |room| self.of(room));
        redis.announce(announcement);
    }

    /// Claims the delivery of all webhooks: the first instance says whose it is.
    pub(in crate::store) async fn claim_webhooks(&self, ttl: Duration) -> Result<bool, StoreError> {
        let claimed = self.first().claim_webhooks(ttl, false).await;
        let others = &self.all[1..];
        if !matches!(claimed, Ok(true)) {
            for redis in others {
                redis.stop_delivering();
            }
            return claimed;
        }
        let take = async |redis: &Arc<Redis>| {
            let taken = timeout(CLAIM, redis.claim_webhooks(ttl, true)).await;
            if !matches!(taken, Ok(Ok(true))) {
                redis.stop_delivering();
            }
        };
        join_all(others.iter().map(take)).await;
        claimed
    }

    pub(in crate::store) async fn release_webhooks(&self) -> Result<bool, StoreError> {
        let others = self.all[1..].iter().map(|redis| timeout(CLAIM, redis.release_webhooks()));
        // Where it is not released, it ends by itself, or is taken.
        let (released, _others) = tokio::join!(self.first().release_webhooks(), join_all(others));
        released
    }

    pub(in crate::store) async fn changed_streams(&self) -> HashSet<Stream> {
        select_all(self.all.iter().map(|redis| Box::pin(redis.changed_streams()))).await.0
    }

    pub(in crate::store) async fn webhooks_hurried(&self) {
        select_all(self.all.iter().map(|redis| Box::pin(redis.webhooks_hurried()))).await;
    }

    pub(in crate::store) async fn hurry_webhooks(&self) -> Result<(), StoreError> {
        let hurried = join_all(self.all.iter().map(|redis| redis.hurry_webhooks())).await;
        hurried.into_iter().collect()
    }

    /// The streams in which webhooks wait. Those of an instance that is away are told of when it is back.
    pub(in crate::store) async fn webhook_streams(&self) -> Result<HashSet<Stream>, StoreError> {
        let others = join_all(self.all[1..].iter().map(|redis| redis.webhook_streams()));
        let (first, others) = tokio::join!(self.first().webhook_streams(), others);
        Ok(others.into_iter().flatten().fold(first?, |mut all, streams| {
            all.extend(streams);
            all
        }))
    }

    pub(in crate::store) async fn webhooks(
        &self,
        stream: Stream,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<StoredWebhook>, StoreError> {
        self.at(stream).webhooks(stream, limit, max_bytes).await
    }

    /// The backend was told of the room while it was on this instance.
    async fn carry_told(&self, from: &Redis, room: &RoomKey) -> Result<(), StoreError> {
        self.of(room).note_told(room).await?;
        from.forget_told(room).await
    }

    pub(in crate::store) fn settle_webhooks(&self, settled: &Settled) -> Answer {
        self.at(settled.stream).settle_webhooks(settled)
    }

    fn at(&self, stream: Stream) -> &Redis {
        // Only this store says in which instance a stream is.
        &self.all[stream.1]
    }

    pub(in crate::store) async fn failed_webhook_count(&self) -> Result<u64, StoreError> {
        let counts = join_all(self.all.iter().map(|redis| redis.failed_webhook_count())).await;
        counts.into_iter().sum()
    }

    /// Of one instance after the other.
    pub(in crate::store) async fn failed_webhooks(
        &self,
        after: FailedPlace,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<FailedWebhook>, StoreError> {
        for (redis, after) in self.from(after) {
            let page = redis.failed_webhooks(after, limit, max_bytes).await?;
            if !page.is_empty() {
                return Ok(page);
            }
        }
        Ok(Vec::new())
    }

    /// Of one instance after the other.
    pub(in crate::store) async fn failed_webhook_ids(
        &self,
        after: FailedPlace,
        limit: usize,
    ) -> Result<Vec<(FailedPlace, String)>, StoreError> {
        for (redis, after) in self.from(after) {
            let page = redis.failed_webhook_ids(after, limit).await?;
            if !page.is_empty() {
                return Ok(page);
            }
        }
        Ok(Vec::new())
    }

    /// The instances from a place on, each with where to begin there.
    fn from(&self, after: FailedPlace) -> impl Iterator<Item = (&Redis, FailedPlace)> {
        let begins = move |place| if place == after.2 { after } else { FailedPlace::default() };
        self.all.iter().skip(after.2).map(move |redis| (&**redis, begins(redis.place)))
    }

    pub(in crate::store) async fn decide_webhooks(
        &self,
        failed: &[(FailedPlace, String)],
        fate: Fate,
    ) -> Result<u64, StoreError> {
        let mut count = 0;
        for redis in &self.all {
            let own = failed.iter().filter(|(place, _)| place.2 == redis.place).cloned();
            let own = own.collect::<Vec<_>>();
            if !own.is_empty() {
                count += settled(redis.decide_webhooks(&own, fate)).await?.number;
            }
        }
        Ok(count)
    }

    /// Of rooms, one instance after the other: the cursor begins with its place. One that is away is passed over. What was
    /// told of a room that has moved moves with it, and is found there.
    pub(in crate::store) async fn stale_facts(
        &self,
        of: Stale,
        cursor: &str,
    ) -> Result<(String, Vec<Fact>), StoreError> {
        if matches!(of, Stale::Users | Stale::UntoldUsers) {
            return self.first().stale_facts(of, cursor).await;
        }
        let (place, inner) = cursor.split_once('/').unwrap_or((ENDS, cursor));
        let place = place.parse().unwrap_or(0);
        let redis = self.all.get(place).unwrap_or(&self.all[0]);
        let (next, facts) = match redis.stale_facts(of, inner).await {
            Err(error) if place == 0 => return Err(error),
            found => found.unwrap_or_else(|_| (ENDS.to_owned(), Vec::new())),
        };
        let is_moved =
            |fact: &Fact| matches!(fact, Fact::Room(room) if self.of(room).place != redis.place);
        let (moved, facts) = facts.into_iter().partition::<Vec<_>, _>(is_moved);
        for fact in moved {
            let Fact::Room(room) = fact else { continue };
            if of == Stale::Rooms
                && let Err(error) = self.carry_told(redis, &room).await
            {
                tracing::debug!(%error, "what was told of a room that has moved is looked at later");
                break;
            }
        }
        let next = match &*next {
            ENDS if place + 1 < self.all.len() => format!("{}/{ENDS}", place + 1),
            ENDS => ENDS.to_owned(),
            next => format!("{place}/{next}"),
        };
        Ok((next, facts))
    }
}
