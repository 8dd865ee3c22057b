//! What the writer shares with others: its counters, and whether it can write.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::{
    outbox::Outbox,
    types::{Health, Stats},
};

/// Counters, and why writes fail.
#[derive(Default)]
pub(super) struct Shared {
    pub commits: AtomicU64,
    pub failures: AtomicU64,
    pub entries: AtomicU64,
    pub last_commit_micros: AtomicU64,
    pub total_commit_micros: AtomicU64,
    pub rooms: AtomicU64,
    pub evictions: AtomicU64,
    pub bytes: AtomicU64,
    /// The memory that the index of the idempotency keys takes.
    pub key_bytes: AtomicU64,
    pub trimmed: AtomicU64,
    pub refused: AtomicU64,
    /// Webhooks that wait; only the writer changes it.
    pub webhooks: AtomicU64,
    /// When the oldest of them happened; `i64::MAX` if none waits.
    pub oldest_webhook: AtomicI64,
    pub webhooks_dropped: AtomicU64,
    pub webhooks_failed: AtomicU64,
    pub outbox: Outbox,
    failing: Mutex<Option<Failing>>,
}

struct Failing {
    reason: String,
    /// In milliseconds since 1970.
    since_ms: i64,
    /// Ticks in a row without a failure.
    calm: u32,
}

impl Shared {
    /// Notes that writes fail or are refused, and why.
    pub(super) fn fails(&self, reason: &str, now_ms: i64) {
        let mut failing = self.failing.lock();
        let since_ms = failing.as_ref().map(|failing| failing.since_ms);
        if since_ms.is_none() {
            tracing::error!(reason, "the store cannot store messages; retrying every second");
        }
        let since_ms = since_ms.unwrap_or(now_ms);
        *failing = Some(Failing { reason: reason.to_owned(), since_ms, calm: 0 });
    }

    /// Counts a tick without a failure. After `settle` of them in a row the store counts as working, so
    /// that a nearly full one does not flap between ready and not ready.
    pub(super) fn succeeds(&self, settle: u32) {
        let mut failing = self.failing.lock();
        let Some(known) = failing.as_mut() else { return };
        known.calm += 1;
        if known.calm >= settle {
            *failing = None;
            tracing::info!("the store takes messages again");
        }
    }

    /// Whether writes failed a moment ago.
    pub(super) fn is_failing(&self) -> bool {
        self.failing.lock().is_some()
    }

    /// [`Health::Working`] or [`Health::Failing`].
    pub(super) fn health(&self) -> Health {
        match &*self.failing.lock() {
            None => Health::Working,
            Some(Failing { reason, since_ms, .. }) => {
                Health::Failing { reason: reason.clone(), since_ms: *since_ms }
            }
        }
    }

    /// The counters, without those of the intake.
    pub(super) fn stats(&self) -> Stats {
        Stats {
            commits: self.commits.load(Relaxed),
            failures: self.failures.load(Relaxed),
            entries: self.entries.load(Relaxed),
            last_commit_micros: self.last_commit_micros.load(Relaxed),
            total_commit_micros: self.total_commit_micros.load(Relaxed),
            rooms: self.rooms.load(Relaxed),
            evictions: self.evictions.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            index_bytes: self.key_bytes.load(Relaxed),
            trimmed: self.trimmed.load(Relaxed),
            refused: self.refused.load(Relaxed),
            webhooks: self.webhooks.load(Relaxed),
            oldest_webhook_ms: Some(self.oldest_webhook.load(Relaxed))
                .filter(|at| *at < i64::MAX && self.webhooks.load(Relaxed) > 0),
            webhooks_dropped: self.webhooks_dropped.load(Relaxed),
            webhooks_failed: self.webhooks_failed.load(Relaxed),
            ..Stats::default()
        }
    }
}
