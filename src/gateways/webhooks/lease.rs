//! Which of several nodes delivers: the one that holds the lease in the store that they share.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::store::Store;

/// How long the lease lasts without being renewed.
const LEASE: Duration = Duration::from_secs(10);
/// How often it is renewed, and asked for while another node has it.
const RENEWAL: Duration = Duration::from_secs(2);
/// How long the store may take to give it back.
const RELEASE: Duration = Duration::from_secs(1);

/// Until when this node may deliver; without other nodes, for ever. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Lease(Option<Arc<Mutex<Instant>>>);

impl Lease {
    /// Waits until this node has the lease; `None` if `stop` comes before.
    pub(super) async fn acquire(store: &Store, stop: &CancellationToken) -> Option<Self> {
        if !store.is_shared() {
            return (!stop.is_cancelled()).then(Self::default);
        }
        while !stop.is_cancelled() {
            // It lasts at least from here on: the store begins to count later.
            let asked = Instant::now();
            let claimed = tokio::select! {
                claimed = store.claim_webhooks(LEASE) => claimed,
                () = stop.cancelled() => return None,
            };
            match claimed {
                Ok(true) => return Some(Self(Some(Arc::new(Mutex::new(asked + LEASE))))),
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "nobody knows which node delivers webhooks"),
            }
            tokio::select! {
                () = sleep(RENEWAL) => {}
                () = stop.cancelled() => {}
            }
        }
        None
    }

    /// Whether another node may have it by now: this process may have stood still.
    pub(super) fn is_over(&self) -> bool {
        self.0.as_ref().is_some_and(|until| *until.lock() <= Instant::now())
    }

    /// Renews it until that fails for too long or another node has it.
    pub(super) async fn hold(&self, store: &Store) {
        let Some(until) = &self.0 else { return std::future::pending().await };
        loop {
            sleep(RENEWAL).await;
            if self.is_over() {
                return;
            }
            let asked = Instant::now();
            match store.claim_webhooks(LEASE).await {
                Ok(true) => *until.lock() = asked + LEASE,
                Ok(false) => return,
                Err(error) => tracing::debug!(%error, "the lease on webhooks was not renewed"),
            }
        }
    }

    /// Gives it back.
    pub(super) async fn release(&self, store: &Store) {
        if self.0.is_some() && !self.is_over() {
            // Otherwise it ends by itself.
            let _released = timeout(RELEASE, store.release_webhooks()).await;
        }
    }
}
