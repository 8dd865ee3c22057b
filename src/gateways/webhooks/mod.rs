//! Webhooks: delivers what the store's outbox holds to the application's backend.
//!
//! Invariants:
//! - the webhooks of one stream (a room, a user, …) are delivered one after the other, in their order;
//! - a stream whose first webhook fails waits by itself: at most a part of all requests are retries;
//! - a webhook leaves the outbox when the backend has answered, or when it has been tried for three days;
//! - what is held here is bounded by the streams in which something waits: bodies stay in the store.

mod endpoint;
mod lease;
mod schedule;
mod stream;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    panic::AssertUnwindSafe,
    sync::Arc,
};

use futures_util::FutureExt;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::{
    endpoint::{Endpoint, Post},
    lease::Lease,
    stream::{Ended, Turn},
};
use crate::{
    broker::webhooks::Webhooks,
    config::Config,
    store::{Clock, Store, Stream},
    telemetry::metrics::Metrics,
};

/// How many requests are under way at a time: of streams whose last try was good, and of the others.
const FRESH: usize = 32;
const RETRIES: usize = 16;

/// From this many streams on, those are looked for in which nothing waits any more.
const MANY: usize = 20_000;

/// The task that delivers webhooks.
#[derive(Debug)]
pub struct Deliverer {
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Deliverer {
    /// Begins to deliver; `None` if no endpoint is configured. Must be called inside the runtime.
    ///
    /// # Errors
    /// When requests cannot be made at all.
    pub fn start(
        config: &Config,
        store: Option<&Store>,
        webhooks: Option<&Webhooks>,
        metrics: &Arc<Metrics>,
    ) -> Result<Option<Self>, String> {
        let (Some(url), Some(store)) = (&config.webhook_url, store) else { return Ok(None) };
        let endpoint = Arc::new(Endpoint::new(config, url)?);
        let webhooks = webhooks.cloned();
        Ok(Some(Self::to(endpoint, store.clone(), webhooks, Clock::system(), metrics.clone())))
    }

    fn to(
        endpoint: Arc<dyn Post>,
        store: Store,
        webhooks: Option<Webhooks>,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        let stop = CancellationToken::new();
        let (lease, stopped) = (Lease::default(), stop.clone());
        let turn = Turn { store, endpoint, clock, metrics, stop: stop.clone(), lease };
        let running = tokio::spawn(async move {
            while let Some(lease) = Lease::acquire(&turn.store, &stopped).await {
                term(turn.clone(), lease, webhooks.as_ref()).await;
            }
        });
        Self { stop, running }
    }

    /// Begins no more requests, and waits for those that are under way.
    pub async fn stop(self) {
        self.stop.cancel();
        // A panic was reported where it happened.
        let _ended = self.running.await;
    }
}

/// Delivers for as long as this node has the lease, or until it stops.
async fn term(turn: Turn, lease: Lease, webhooks: Option<&Webhooks>) {
    let (store, term) = (turn.store.clone(), turn.stop.child_token());
    let delivering = {
        let turn = Turn { stop: term.clone(), lease: lease.clone(), ..turn };
        Streams::new(turn).run()
    };
    let watching = async {
        if let Some(webhooks) = webhooks.filter(|_| store.is_shared()) {
            webhooks.watch_nodes().await;
        }
        std::future::pending::<()>().await;
    };
    tokio::pin!(delivering);
    tokio::select! {
        () = &mut delivering => {}
        () = async { tokio::select! { () = lease.hold(&store) => {} () = watching => {} } } => {
            term.cancel();
            delivering.await;
        }
    }
    lease.release(&store).await;
}

/// Where a stream stands.
#[derive(Debug)]
enum Phase {
    /// It waits for a place.
    Ready,
    /// Its webhooks are being delivered; `again` if it has got more since.
    Running { again: bool },
    /// Its first webhook has failed, and is tried again then.
    Waiting(Instant),
}

#[derive(Debug)]
struct Progress {
    phase: Phase,
    /// How often its first webhook has been tried in vain.
    tries: u32,
}

/// The streams in which something waits, and whose turn it is.
struct Streams {
    turn: Turn,
    all: HashMap<Stream, Progress>,
    fresh: VecDeque<Stream>,
    retries: VecDeque<Stream>,
    due: BTreeSet<(Instant, Stream)>,
    running: JoinSet<(Stream, bool, Ended)>,
    /// How many of those are retries.
    retrying: usize,
    /// From this many streams on, the store is asked which there are.
    many: usize,
    /// The endpoint wants no more.
    is_off: bool,
    /// The last try has failed.
    is_failing: bool,
}

impl Streams {
    fn new(turn: Turn) -> Self {
        Self {
            turn,
            all: HashMap::new(),
            fresh: VecDeque::new(),
            retries: VecDeque::new(),
            due: BTreeSet::new(),
            running: JoinSet::new(),
            retrying: 0,
            many: MANY,
            is_off: false,
            is_failing: false,
        }
    }

    async fn run(mut self) {
        let Some(left) = self.left_in_store().await else { return };
        self.changed(left);
        loop {
            self.begin();
            let due = self.due.first().map(|(at, _)| *at);
            tokio::select! {
                biased;
                () = self.turn.stop.cancelled() => break,
                Some(ended) = self.running.join_next() => {
                    // Nobody aborts a turn, and its panics are caught.
                    if let Ok((stream, is_retry, ended)) = ended {
                        self.ended(stream, is_retry, ended);
                    }
                }
                () = at(due) => self.wake(Instant::now()),
                () = self.turn.store.webhooks_hurried() => {
                    if let Some((last, _)) = self.due.last() {
                        self.wake(*last);
                    }
                }
                streams = self.turn.store.changed_streams() => {
                    self.changed(streams);
                    if self.all.len() > self.many {
                        self.forget_empty().await;
                    }
                }
            }
        }
        while self.running.join_next().await.is_some() {}
    }

    /// The streams in which something waits; `None` if the server stops.
    async fn left_in_store(&self) -> Option<HashSet<Stream>> {
        loop {
            match self.turn.store.webhook_streams().await {
                Ok(streams) => return Some(streams),
                Err(error) => self.turn.pause(&error).await?,
            }
        }
    }

    /// Something was written to these streams.
    fn changed(&mut self, streams: HashSet<Stream>) {
        if self.is_off {
            return;
        }
        for stream in streams {
            match self.all.get_mut(&stream) {
                None => self.ready(stream, 0),
                Some(Progress { phase: Phase::Running { again }, .. }) => *again = true,
                // What is new is found when its turn comes.
                Some(_) => {}
            }
        }
    }

    fn ready(&mut self, stream: Stream, tries: u32) {
        self.all.insert(stream, Progress { phase: Phase::Ready, tries });
        if tries == 0 {
            self.fresh.push_back(stream);
        } else {
            self.retries.push_back(stream);
        }
    }

    /// Begins the turns for which there is a place.
    fn begin(&mut self) {
        while self.running.len() - self.retrying < FRESH
            && let Some(stream) = self.fresh.pop_front()
        {
            self.begin_one(stream, false);
        }
        while self.retrying < RETRIES
            && let Some(stream) = self.retries.pop_front()
        {
            self.begin_one(stream, true);
        }
    }

    fn begin_one(&mut self, stream: Stream, is_retry: bool) {
        let Some(progress) = self.all.get_mut(&stream) else { return };
        progress.phase = Phase::Running { again: false };
        self.retrying += usize::from(is_retry);
        let (turn, tries) = (self.turn.clone(), progress.tries);
        self.running.spawn(async move {
            let taken = AssertUnwindSafe(turn.take(stream, tries)).catch_unwind().await;
            // A fault of the server's own: reported by the panic's handler.
            let failed = |_| Ended::Failed {
                tries: tries.saturating_add(1),
                why: "a fault of the server".to_owned(),
                retry_after: None,
            };
            (stream, is_retry, taken.unwrap_or_else(failed))
        });
    }

    fn ended(&mut self, stream: Stream, is_retry: bool, ended: Ended) {
        self.retrying -= usize::from(is_retry);
        let progress = self.all.remove(&stream);
        let again = progress.is_some_and(|it| matches!(it.phase, Phase::Running { again: true }));
        if self.is_off {
            return;
        }
        match ended {
            Ended::Empty if !again => self.succeeds(),
            Ended::Empty | Ended::More => {
                self.succeeds();
                self.ready(stream, 0);
            }
            Ended::Failed { tries, why, retry_after } => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(reason = why, "webhooks fail; they are retried for three days");
                }
                let delay = schedule::delay(tries, retry_after, random());
                let at = Instant::now() + delay;
                self.all.insert(stream, Progress { phase: Phase::Waiting(at), tries });
                self.due.insert((at, stream));
            }
            Ended::Gone => {
                tracing::error!(
                    "the webhook endpoint has answered 410: nothing is sent to it until the server restarts"
                );
                self.is_off = true;
                (self.all, self.due) = (HashMap::new(), BTreeSet::new());
                (self.fresh, self.retries) = (VecDeque::new(), VecDeque::new());
                self.turn.metrics.webhooks_off();
            }
            Ended::Stopped => {}
        }
    }

    fn succeeds(&mut self) {
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("webhooks are delivered again");
        }
    }

    /// The streams whose time has come by then are ready.
    fn wake(&mut self, until: Instant) {
        while let Some(&(at, stream)) = self.due.first()
            && at <= until
        {
            self.due.pop_first();
            let tries = self.all.get(&stream).map_or(0, |progress| progress.tries);
            self.ready(stream, tries);
        }
    }

    /// Forgets streams that wait although all that was in them has been dropped since.
    async fn forget_empty(&mut self) {
        let Some(left) = self.left_in_store().await else { return };
        let due = &mut self.due;
        self.all.retain(|stream, progress| match progress.phase {
            Phase::Waiting(at) if !left.contains(stream) => {
                due.remove(&(at, *stream));
                false
            }
            _ => true,
        });
        self.many = MANY + 2 * self.all.len();
    }
}

/// Waits until then; for ever without a time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// A random number from 0 to 1.
fn random() -> f64 {
    let bits = uuid::Uuid::new_v4().as_u128() & 0xffff_ffff;
    f64::from(u32::try_from(bits).unwrap_or(0)) / f64::from(u32::MAX)
}
