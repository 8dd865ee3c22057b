//! The outbox of webhooks.

use std::{collections::HashSet, time::Duration};

use super::{
    Announcement, Backend, Fact, FailedPlace, FailedWebhook, Fate, Pending, RoomKey, Settled,
    Stale, Store, StoreError, StoredWebhook, Stream, Webhook, Work,
};
use crate::limits::SenderId;

impl Store {
    /// Stores what has happened for the backend. Nobody waits for it: what cannot be stored is counted. A shared
    /// store tells no fact twice, and none that does not hold any more.
    pub fn announce(&self, announcement: Announcement) {
        match &self.backend {
            Backend::Embedded(store) => store.announce(announcement),
            Backend::Redis(store) => store.announce(&announcement),
        }
    }

    /// Notes in a shared store that the last member of a room on this node has left it.
    pub fn room_left(&self, room: &RoomKey, sender: SenderId) {
        if let Backend::Redis(store) = &self.backend {
            store.of(room).room_left(room, sender);
        }
    }

    /// Stores the webhook of a message to a room that is kept nowhere else.
    pub fn tell(&self, room: &RoomKey, webhook: Webhook) -> Pending<()> {
        let answer = match &self.backend {
            Backend::Embedded(store) => store.submit(Work::Tell(webhook)),
            Backend::Redis(store) => store.of(room).tell(&webhook),
        };
        Pending { answer, read: |_| () }
    }

    /// Claims the delivery of webhooks for this node, or renews its claim, for `ttl`; `false` while another node has it.
    /// Always `true` if the store is not shared.
    pub async fn claim_webhooks(&self, ttl: Duration) -> Result<bool, StoreError> {
        match &self.backend {
            Backend::Embedded(_) => Ok(true),
            Backend::Redis(store) => store.claim_webhooks(ttl).await,
        }
    }

    /// Gives the claim back; `false` if another node had it.
    pub async fn release_webhooks(&self) -> Result<bool, StoreError> {
        match &self.backend {
            Backend::Embedded(_) => Ok(true),
            Backend::Redis(store) => store.release_webhooks().await,
        }
    }

    /// Waits for streams that have got webhooks, and takes their names. Only one caller may wait; in a shared store only
    /// the node that has the claim gets some.
    pub async fn changed_streams(&self) -> HashSet<Stream> {
        match &self.backend {
            Backend::Embedded(store) => store.changed_streams().await,
            Backend::Redis(store) => store.changed_streams().await,
        }
    }

    /// The streams in which webhooks wait.
    pub async fn webhook_streams(&self) -> Result<HashSet<Stream>, StoreError> {
        match &self.backend {
            Backend::Embedded(store) => store.webhook_streams().await,
            Backend::Redis(store) => store.webhook_streams().await,
        }
    }

    /// The first webhooks of a stream, in order: at most `limit` of them, and at most `max_bytes` but always
    /// one if there is one.
    pub async fn webhooks(
        &self,
        stream: Stream,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<StoredWebhook>, StoreError> {
        match &self.backend {
            Backend::Embedded(store) => store.webhooks(stream, limit, max_bytes).await,
            Backend::Redis(store) => store.webhooks(stream, limit, max_bytes).await,
        }
    }

    /// Takes webhooks out of the outbox; returns how many were still in it. In a shared store nothing is taken out by a
    /// node that has lost its claim.
    pub fn settle_webhooks(&self, settled: Settled) -> Pending<u64> {
        Self::number(match &self.backend {
            Backend::Embedded(store) => store.submit(Work::Settle(settled)),
            Backend::Redis(store) => store.settle_webhooks(&settled),
        })
    }

    /// Waits until those that wait for another try are to be tried at once. Only one caller may wait.
    pub async fn webhooks_hurried(&self) {
        match &self.backend {
            Backend::Embedded(store) => store.webhooks_hurried().await,
            Backend::Redis(store) => store.webhooks_hurried().await,
        }
    }

    /// Has the node that delivers try at once what waits for another try.
    pub async fn hurry_webhooks(&self) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Embedded(store) => {
                store.hurry_webhooks();
                Ok(())
            }
            Backend::Redis(store) => store.hurry_webhooks().await,
        }
    }

    /// How many webhooks are kept that were given up.
    pub async fn failed_webhook_count(&self) -> Result<u64, StoreError> {
        match &self.backend {
            Backend::Embedded(store) => store.failed_webhook_count().await,
            Backend::Redis(store) => store.failed_webhook_count().await,
        }
    }

    /// The webhooks that were given up behind this place, in order: at most `limit` of them, and at most `max_bytes`
    /// but always one if there is one.
    pub async fn failed_webhooks(
        &self,
        after: FailedPlace,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<FailedWebhook>, StoreError> {
        match &self.backend {
            Backend::Embedded(store) => store.failed_webhooks(after, limit, max_bytes).await,
            Backend::Redis(store) => store.failed_webhooks(after, limit, max_bytes).await,
        }
    }

    /// The places and ids of the same.
    pub async fn failed_webhook_ids(
        &self,
        after: FailedPlace,
        limit: usize,
    ) -> Result<Vec<(FailedPlace, String)>, StoreError> {
        match &self.backend {
            Backend::Embedded(store) => store.failed_webhook_ids(after, limit).await,
            Backend::Redis(store) => store.failed_webhook_ids(after, limit).await,
        }
    }

    /// Decides on webhooks that were given up; returns how many of them were still there.
    pub async fn decide_webhooks(
        &self,
        failed: Vec<(FailedPlace, String)>,
        fate: Fate,
    ) -> Result<u64, StoreError> {
        match &self.backend {
            Backend::Embedded(store) => {
                Self::number(store.submit(Work::Decide { failed, fate })).await
            }
            Backend::Redis(store) => store.decide_webhooks(&failed, fate).await,
        }
    }

    /// What the backend has been told to hold; of a shared store, see [`stale_facts`](Self::stale_facts).
    pub async fn webhook_facts(&self) -> Result<Vec<Fact>, StoreError> {
        match &self.backend {
            Backend::Embedded(store) => store.webhook_facts().await,
            Backend::Redis(_) => Ok(Vec::new()),
        }
    }

    /// The nodes that are alive without the backend knowing, and those that it takes for alive and are not. None if the
    /// store is not shared.
    pub async fn told_nodes(&self) -> Result<(Vec<String>, Vec<String>), StoreError> {
        match &self.backend {
            Backend::Embedded(_) => Ok((Vec::new(), Vec::new())),
            Backend::Redis(store) => store.first().told_nodes().await,
        }
    }

    /// Looks through a part of the facts in a shared store for such as are to be told: where to go on, `0` at first and at
    /// the end, and what was found.
    pub async fn stale_facts(
        &self,
        of: Stale,
        cursor: &str,
    ) -> Result<(String, Vec<Fact>), StoreError> {
        match &self.backend {
            Backend::Embedded(_) => Ok(("0".to_owned(), Vec::new())),
            Backend::Redis(store) => store.stale_facts(of, cursor).await,
        }
    }
}
