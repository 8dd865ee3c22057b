//! One stream's turn: its first webhooks, one after the other.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    endpoint::{Outcome, Post},
    lease::Lease,
    schedule::GIVEN_UP_AFTER,
};
use crate::{
    broker::webhooks::body_of,
    store::{Clock, Settled, Store, StoreError, StoredWebhook, Stream},
    telemetry::metrics::Metrics,
};

/// How many webhooks of a stream are read at a time, and how many bytes of them.
const PAGE: usize = 16;
const PAGE_BYTES: usize = 128 * 1024;
/// How long to wait before a store that failed is asked again.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// What a turn needs.
#[derive(Clone)]
pub(super) struct Turn {
    pub store: Store,
    pub endpoint: Arc<dyn Post>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub stop: CancellationToken,
    pub lease: Lease,
}

/// How a turn ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Nothing was left when it was read.
    Empty,
    /// There may be more.
    More,
    /// The first one failed; it has been tried so often.
    Failed { tries: u32, why: String, retry_after: Option<Duration> },
    /// The endpoint wants no more.
    Gone,
    /// The server stops, or the store cannot be read.
    Stopped,
}

impl Turn {
    /// Delivers the first webhooks of a stream, of which the first has been tried `tries` times.
    pub(super) async fn take(self, stream: Stream, mut tries: u32) -> Ended {
        // Of those that failed before, the first is tried alone.
        let limit = if tries > 0 { 1 } else { PAGE };
        let Some(page) = self.read(stream, limit).await else { return self.without_store(tries) };
        let size = page.iter().map(StoredWebhook::size).sum::<usize>();
        let is_last = tries == 0 && page.len() < limit && size < PAGE_BYTES;
        let mut ended = if page.is_empty() || is_last { Ended::Empty } else { Ended::More };
        let mut settled = Settled::of(stream);
        for webhook in page {
            if self.stop.is_cancelled() || self.lease.is_over() {
                ended = Ended::Stopped;
                break;
            }
            let (seq, id, at_ms) = (webhook.seq, webhook.id.clone(), webhook.at_ms);
            let Some(body) = body_of(webhook) else {
                settled.failed =
                    Some((seq, id, "its message is damaged, or cannot be written as JSON".into()));
                ended = Ended::More;
                break;
            };
            let outcome = self.endpoint.post(&id, self.clock.now_ms(), body).await;
            self.metrics.webhook_tried(outcome.as_str());
            match outcome {
                Outcome::Delivered => {
                    tries = 0;
                    settled.delivered.push((seq, id));
                    continue;
                }
                Outcome::Gone => ended = Ended::Gone,
                Outcome::Failed { why, .. } if self.is_too_old(at_ms) => {
                    tracing::warn!(id, reason = why, "a webhook is given up");
                    settled.failed = Some((seq, id, why));
                    ended = Ended::More;
                }
                Outcome::Failed { why, retry_after, .. } => {
                    ended = Ended::Failed { tries: tries.saturating_add(1), why, retry_after };
                }
            }
            break;
        }
        if self.settle(settled).await { ended } else { self.without_store(tries) }
    }

    /// The end of a turn whose instance of Redis is away, or of any when the server stops.
    fn without_store(&self, tries: u32) -> Ended {
        if self.stop.is_cancelled() {
            return Ended::Stopped;
        }
        let why = "the Redis in which they wait is away".to_owned();
        Ended::Failed { tries: tries.max(1), why, retry_after: None }
    }

    fn is_too_old(&self, at_ms: i64) -> bool {
        let age = self.clock.now_ms().saturating_sub(at_ms);
        u64::try_from(age).is_ok_and(|age| Duration::from_millis(age) >= GIVEN_UP_AFTER)
    }

    /// Reads the first webhooks of the stream, as soon as the store can be read; `None` if the server stops, or the
    /// stream's own instance of Redis is away: others need the place.
    async fn read(&self, stream: Stream, limit: usize) -> Option<Vec<StoredWebhook>> {
        loop {
            match self.store.webhooks(stream, limit, PAGE_BYTES).await {
                Ok(page) => return Some(page),
                Err(_) if stream.may_be_away() => return None,
                Err(error) => self.pause(&error).await?,
            }
        }
    }

    /// Takes out of the outbox what is done with. Until then the stream does not go on: it would send the same
    /// again. False if the server stops before, or the stream's own instance of Redis is away.
    async fn settle(&self, settled: Settled) -> bool {
        if settled.is_empty() {
            return true;
        }
        loop {
            match self.store.settle_webhooks(settled.clone()).await {
                Ok(_) => return true,
                Err(_) if settled.stream.may_be_away() => return false,
                Err(error) => {
                    if self.pause(&error).await.is_none() {
                        return false;
                    }
                }
            }
        }
    }

    /// Waits a while; `None` if the server stops.
    pub(super) async fn pause(&self, error: &StoreError) -> Option<()> {
        tracing::debug!(%error, "webhooks wait for the store");
        tokio::select! {
            () = tokio::time::sleep(STORE_PAUSE) => Some(()),
            () = self.stop.cancelled() => None,
        }
    }
}
