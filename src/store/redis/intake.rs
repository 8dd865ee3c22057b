//! The writes that wait for Redis, in the order in which they were asked for.
//!
//! Submitting never waits, so that the callers' order is the log's order even where a caller does
//! not poll; see [`crate::store::Store::append`] for what bounds it.

use std::collections::VecDeque;

use parking_lot::Mutex;
use redis::Cmd;
use tokio::{sync::Notify, time::Instant};

use crate::store::{pending::Reply, types::StoreError};

/// One pipeline takes at most so many writes …
const BATCH: usize = 1_000;
/// … and begins no further one beyond so many bytes.
const BATCH_BYTES: usize = 8_000_000;

/// How the answer to a write is to be read.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Append,
    Enqueue,
    Count,
}

/// A write and who waits for it.
pub struct Command {
    pub call: Cmd,
    pub kind: Kind,
    /// What it holds in memory.
    pub bytes: usize,
    pub arrived: Instant,
    pub reply: Reply,
}

/// The hard limits of the queue.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub commands: usize,
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { commands: 100_000, bytes: 512_000_000 }
    }
}

pub struct Intake {
    state: Mutex<State>,
    arrived: Notify,
    limits: Limits,
}

#[derive(Default)]
struct State {
    commands: VecDeque<Command>,
    bytes: usize,
    closed: bool,
}

impl Intake {
    pub fn new(limits: Limits) -> Self {
        Self { state: Mutex::default(), arrived: Notify::new(), limits }
    }

    /// Takes the write in, or says why not.
    pub fn push(&self, command: Command) {
        let mut state = self.state.lock();
        let refused = if state.closed {
            Some("the store is closed")
        } else if state.commands.len() >= self.limits.commands
            || state.bytes.saturating_add(command.bytes) > self.limits.bytes
        {
            Some("too many writes wait for Redis")
        } else {
            None
        };
        if let Some(reason) = refused {
            drop(state);
            // A caller that is gone needs no answer.
            let _ = command.reply.send(Err(StoreError::Unavailable(reason.into())));
            return;
        }
        state.bytes += command.bytes;
        state.commands.push_back(command);
        drop(state);
        self.arrived.notify_one();
    }

    /// Waits for work and takes one batch; `None` once it is closed and empty. There is one taker.
    pub async fn take(&self) -> Option<Vec<Command>> {
        loop {
            {
                let mut state = self.state.lock();
                if !state.commands.is_empty() {
                    return Some(state.batch());
                }
                if state.closed {
                    return None;
                }
            }
            self.arrived.notified().await;
        }
    }

    /// Refuses work from now on; what was taken in is still done.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Closes, and drops the work that was not done: its callers learn that the writer has ended.
    pub fn abandon(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.bytes = 0;
        let commands = std::mem::take(&mut state.commands);
        drop(state);
        drop(commands);
    }

    /// Writes that wait, and their bytes.
    pub fn depth(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.commands.len(), state.bytes)
    }
}

impl State {
    fn batch(&mut self) -> Vec<Command> {
        let mut batch = Vec::with_capacity(self.commands.len().min(BATCH));
        let mut bytes = 0;
        while batch.len() < BATCH && bytes < BATCH_BYTES {
            let Some(command) = self.commands.pop_front() else { break };
            bytes += command.bytes;
            batch.push(command);
        }
        self.bytes = self.bytes.saturating_sub(bytes);
        batch
    }
}
