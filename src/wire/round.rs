//! Flush rounds: what arrives together leaves together.
//!
//! Whoever appends to a queue marks its connection; a round first lets everybody else run who is
//! ready to, and then writes every marked connection with one system call each. So a burst of
//! messages costs a connection one call, and whoever fans out is not held up by the kernel. As long
//! as that brings more to be written, the round waits for more, but not for long.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use super::{Wire, connection::Connection};

/// How often a round lets the others run, at most.
const TURNS: usize = 4;

/// So many connections one worker flushes by itself; what is over is shared with the others.
const SHARE: usize = 512;

/// The connections to be flushed.
#[derive(Debug, Default)]
pub struct Rounds {
    state: Mutex<State>,
    /// How many packets have been encoded: whether there is more to be written.
    encoded: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    marked: Vec<Arc<Connection>>,
    running: bool,
}

impl Rounds {
    /// Takes note of a packet that was encoded, however many connections get it.
    pub fn note(&self) {
        self.encoded.fetch_add(1, Ordering::Relaxed);
    }

    fn encoded(&self) -> u64 {
        self.encoded.load(Ordering::Relaxed)
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
    let mut batch = Vec::new();
    loop {
        let mut encoded = wire.rounds().encoded();
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
            let before = mem::replace(&mut encoded, wire.rounds().encoded());
            if before == encoded {
                break;
            }
        }
        {
            let mut state = wire.rounds().state.lock();
            if state.marked.is_empty() {
                state.running = false;
                return;
            }
            mem::swap(&mut state.marked, &mut batch);
        }
        while batch.len() > SHARE {
            let share = batch.split_off(batch.len() - SHARE);
            wire.spawn(async move { flush(&share) });
        }
        flush(&batch);
        batch.clear();
    }
}

fn flush(connections: &[Arc<Connection>]) {
    for connection in connections {
        connection.flush_dirty();
    }
}
