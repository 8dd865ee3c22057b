//! What stands for the real locks, atomics and tasks in the shuttle tests.

#![allow(clippy::unused_self, reason = "methods that have to look like the real ones")]

use std::{mem, pin::pin, sync::atomic::Ordering, task::Poll, time::Duration};

use futures_util::poll;
pub use shuttle::sync::atomic;
use shuttle::{
    Config, Runner,
    future::{block_on, yield_now},
    rand::{Rng, thread_rng},
    scheduler::{PctScheduler, RandomScheduler},
    sync::atomic::AtomicBool,
};
pub use shuttle_parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::futures::Notified;
use tokio_util::task::TaskTracker;

/// The stack of a task, in bytes: shuttle's own default is too small for debug builds.
const STACK: usize = 512 * 1024;

/// How many preemptions a schedule has that is not random throughout.
const PREEMPTIONS: usize = 3;

/// The longest time that can pass in the model.
const SHORT: Duration = Duration::from_millis(10);

/// How many schedules of each kind a test is run under.
const SCHEDULES: usize = 400;

/// Runs a test under random schedules, and under others with few preemptions, which find what random ones rarely
/// come upon. A test in which tasks wait for ever fails.
pub fn check<F: Future<Output = ()>>(test: impl Fn() -> F + Copy + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = STACK;
    config.silence_warnings = true;
    let run = move || block_on(test());
    Runner::new(RandomScheduler::new(SCHEDULES), config.clone()).run(run);
    Runner::new(PctScheduler::new(PREEMPTIONS, SCHEDULES), config).run(run);
}

/// The runtime, whose tasks are shuttle's.
#[derive(Debug, Clone)]
pub struct Runtime;

impl Runtime {
    pub fn current() -> Self {
        Self
    }

    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        spawn_attached(task);
    }
}

/// Spawns a task that `tracker` waits for.
pub fn spawn(tracker: &TaskTracker, task: impl Future<Output = ()> + Send + 'static) {
    spawn_attached(tracker.track_future(task));
}

/// Spawns a task that has to end, or its test fails: dropping the handle would detach it.
fn spawn_attached(task: impl Future<Output = ()> + Send + 'static) {
    mem::forget(shuttle::future::spawn(task));
}

/// tokio's `Notify`; before each of its steps other tasks may run.
#[derive(Debug, Default)]
pub struct Notify {
    notify: tokio::sync::Notify,
    point: AtomicBool,
}

impl Notify {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn notified(&self) -> Notified<'_> {
        self.step().notified()
    }

    pub fn notify_one(&self) {
        self.step().notify_one();
    }

    pub fn notify_waiters(&self) {
        self.step().notify_waiters();
    }

    fn step(&self) -> &tokio::sync::Notify {
        // Each access of an atomic lets others run first.
        self.point.load(Ordering::SeqCst);
        &self.notify
    }
}

/// The time is over.
#[derive(Debug)]
pub struct Elapsed;

/// Waits for `future`, and where the time is short, possibly in vain. Longer times never pass: so no timeout helps
/// a task that waits for news which was lost.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    if duration > SHORT {
        return Ok(future.await);
    }
    let mut future = pin!(future);
    for _ in 0..thread_rng().gen_range(0..4) {
        if let Poll::Ready(output) = poll!(future.as_mut()) {
            return Ok(output);
        }
        yield_now().await;
    }
    Err(Elapsed)
}

/// A clock by which everything takes a few milliseconds, or none.
#[derive(Debug)]
pub struct Instant;

impl Instant {
    pub fn now() -> Self {
        Self
    }

    pub fn elapsed(&self) -> Duration {
        Duration::from_millis(thread_rng().gen_range(0..8))
    }
}
