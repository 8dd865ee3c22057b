//! Flush rounds: what arrives together leaves together.
//!
//! Appending to a queue marks its connection. A round first lets all ready tasks run, and then writes every
//! marked connection with one system call each. So a burst of messages costs a connection one call, and the
//! fan-out does not wait for the kernel. While the tasks bring more packets, the round waits for more, within
//! bounds. Where ready tasks take long, as under many large events, the round lets each of them run only once.
//!
//! After a long round with several packets, as many are likely to follow: publishers that wait for their own
//! message before the next can only now send again. So the next round is delayed until as many packets have
//! come, for a fraction of the long round's duration at most. Otherwise the first packet would go out alone
//! and the others in rounds of their own, though writing four packets costs little more than writing one.

use std::{mem, sync::Arc, time::Duration};

use super::{Wire, connection::Connection};
use crate::sync::{
    Instant, Mutex, Notify,
    atomic::{AtomicU64, Ordering},
    timeout,
};

/// How often a round lets other tasks run, at most.
const TURNS: usize = 4;

/// Once they have taken so long, it lets them run no further time: all clients wait meanwhile.
const PATIENCE: Duration = Duration::from_millis(5);

/// How many connections one task flushes; the rest are shared among other tasks.
const SHARE: usize = 512;

/// Only a round that took this long delays the next.
const LONG: Duration = Duration::from_millis(1);

/// The next round is delayed by at most 1/`HOLD` of the last one's duration; the timer, which counts in
/// milliseconds, adds up to two of them.
const HOLD: u32 = 4;

/// The connections to be flushed.
#[derive(Debug, Default)]
pub(super) struct FlushScheduler {
    state: Mutex<State>,
    /// How many packets have been encoded; a rise means that there is more to write.
    encoded: AtomicU64,
    /// The value of `encoded` that a delayed round waits for.
    awaited: AtomicU64,
    /// Notified when that value is reached.
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    marked: Vec<Arc<Connection>>,
    running: bool,
}

impl FlushScheduler {
    /// Counts an encoded packet, once however many connections get it.
    pub(super) fn note(&self) {
        let encoded = self.encoded.fetch_add(1, Ordering::SeqCst) + 1;
        if encoded == self.awaited.load(Ordering::SeqCst) {
            self.arrived.notify_one();
        }
    }

    pub(super) fn encoded(&self) -> u64 {
        self.encoded.load(Ordering::SeqCst)
    }

    /// Lets ready tasks run, again and again while that brings packets, within bounds.
    async fn let_others_run(&self) {
        let (mut encoded, began) = (self.encoded(), Instant::now());
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
            let before = mem::replace(&mut encoded, self.encoded());
            if before == encoded || began.elapsed() >= PATIENCE {
                break;
            }
        }
    }

    /// Waits until this many packets have been encoded in all.
    pub(super) async fn wait_for(&self, encoded: u64) {
        self.awaited.store(encoded, Ordering::SeqCst);
        while self.encoded() < encoded {
            self.arrived.notified().await;
        }
    }

    /// Has the connection flushed in the next round. May be called on any thread.
    pub(super) fn mark(&self, wire: &Wire, connection: Arc<Connection>) {
        let mut state = self.state.lock();
        state.marked.push(connection);
        if !mem::replace(&mut state.running, true) {
            drop(state);
            wire.spawn(run(wire.clone()));
        }
    }
}

/// Runs rounds as long as there is something to flush.
async fn run(wire: Wire) {
    let scheduler = wire.scheduler();
    let mut batch = Vec::new();
    // How many packets had been encoded when the last round began.
    let mut written = scheduler.encoded();
    let mut hold = None;
    loop {
        scheduler.let_others_run().await;
        if let Some((packets, max_wait)) = hold {
            // Times out if fewer come.
            let _came = timeout(max_wait, scheduler.wait_for(written + packets)).await;
        }
        let before = mem::replace(&mut written, scheduler.encoded());
        let packets = written - before;
        {
            let mut state = scheduler.state.lock();
            if state.marked.is_empty() {
                state.running = false;
                return;
            }
            mem::swap(&mut state.marked, &mut batch);
        }
        let began = Instant::now();
        while batch.len() > SHARE {
            let share = batch.split_off(batch.len() - SHARE);
            wire.spawn(async move { flush(&share) });
        }
        flush(&batch);
        batch.clear();
        let took = began.elapsed();
        hold = (packets > 1 && took >= LONG).then_some((packets, took / HOLD));
    }
}

fn flush(connections: &[Arc<Connection>]) {
    for connection in connections {
        connection.flush_dirty();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Poll};

    use super::*;

    #[tokio::test]
    async fn a_hold_ends_with_the_packet_that_it_is_for() {
        let scheduler = FlushScheduler::default();
        scheduler.note();
        let mut hold = std::pin::pin!(scheduler.wait_for(3));
        for packets in 1..3 {
            let pending =
                poll_fn(|context| Poll::Ready(hold.as_mut().poll(context).is_pending())).await;
            assert!(pending, "after {packets}");
            scheduler.note();
        }
        hold.await;
        // Past targets return at once; stale wake-ups do not count.
        scheduler.wait_for(2).await;
        let max_wait = Duration::from_millis(1);
        assert!(timeout(max_wait, scheduler.wait_for(4)).await.is_err());
    }
}
