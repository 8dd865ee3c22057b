//! Flush rounds: what arrives together leaves together.
//!
//! Whoever appends to a queue marks its connection; a round first lets everybody else run who is
//! ready to, and then writes every marked connection with one system call each. So a burst of
//! messages costs a connection one call, and whoever fans out is not held up by the kernel. As long
//! as that brings more to be written, the round waits for more, but not for long.
//!
//! Where several packets left with a round that took long, more of the same is likely to follow: who
//! publishes again once it got what it sent before is only now able to. The next round is held for as
//! many packets, but by no more than a part of what the round took. Else the first of them would go out
//! alone, and the others in rounds of their own: to write four packets costs little more than to write
//! one.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::timeout};

use super::{Wire, connection::Connection};

/// How often a round lets the others run, at most.
const TURNS: usize = 4;

/// So many connections one worker flushes by itself; what is over is shared with the others.
const SHARE: usize = 512;

/// A round that took less is not followed by a hold.
const LONG: Duration = Duration::from_millis(1);

/// What part of the time that a round took the next is held, at most; the timer, which counts in
/// milliseconds, adds up to two of them.
const HOLD: u32 = 4;

/// The connections to be flushed.
#[derive(Debug, Default)]
pub struct Rounds {
    state: Mutex<State>,
    /// How many packets have been encoded: whether there is more to be written.
    encoded: AtomicU64,
    /// How many a round is held for.
    awaited: AtomicU64,
    /// Told when they are.
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    marked: Vec<Arc<Connection>>,
    running: bool,
}

impl Rounds {
    /// Takes note of a packet that was encoded, however many connections get it.
    pub fn note(&self) {
        let encoded = self.encoded.fetch_add(1, Ordering::SeqCst) + 1;
        if encoded == self.awaited.load(Ordering::SeqCst) {
            self.arrived.notify_one();
        }
    }

    pub(super) fn encoded(&self) -> u64 {
        self.encoded.load(Ordering::SeqCst)
    }

    /// Lets everybody run who is ready to, again and again while that brings packets, within bounds.
    async fn let_others_run(&self) {
        let mut encoded = self.encoded();
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
            let before = mem::replace(&mut encoded, self.encoded());
            if before == encoded {
                break;
            }
        }
    }

    /// Waits until so many packets have been encoded in all.
    async fn wait_for(&self, encoded: u64) {
        self.awaited.store(encoded, Ordering::SeqCst);
        while self.encoded() < encoded {
            self.arrived.notified().await;
        }
    }

    /// Has the connection flushed in the next round. May be called on any thread.
    pub fn mark(&self, wire: &Wire, connection: Arc<Connection>) {
        let mut state = self.state.lock();
        state.marked.push(connection);
        if !mem::replace(&mut state.running, true) {
            drop(state);
            wire.spawn(run(wire.clone()));
        }
    }
}

/// Rounds as long as there is something to be flushed.
async fn run(wire: Wire) {
    let rounds = wire.rounds();
    let mut batch = Vec::new();
    // How many packets had been encoded when the last round began.
    let mut written = rounds.encoded();
    let mut hold = None;
    loop {
        rounds.let_others_run().await;
        if let Some((packets, max_wait)) = hold {
            // In vain where fewer come.
            let _came = timeout(max_wait, rounds.wait_for(written + packets)).await;
        }
        let before = mem::replace(&mut written, rounds.encoded());
        let packets = written - before;
        {
            let mut state = rounds.state.lock();
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
        let rounds = Rounds::default();
        rounds.note();
        let mut hold = std::pin::pin!(rounds.wait_for(3));
        for packets in 1..3 {
            let pending =
                poll_fn(|context| Poll::Ready(hold.as_mut().poll(context).is_pending())).await;
            assert!(pending, "after {packets}");
            rounds.note();
        }
        hold.await;
        // What has come already is not waited for, nor what a former hold was for taken for it.
        rounds.wait_for(2).await;
        let max_wait = Duration::from_millis(1);
        assert!(timeout(max_wait, rounds.wait_for(4)).await.is_err());
    }
}
