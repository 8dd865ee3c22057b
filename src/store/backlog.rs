//! What waits to be written, in the order in which it was asked for, and within limits.
//!
//! Taking in never waits, so that the callers' order is the log's order even where a caller does
//! not poll. What bounds it are the callers, who bound how many of their writes are under way, and
//! above that a hard limit beyond which writes are refused: a waiting caller would hold its message
//! in memory all the same.

use std::{collections::VecDeque, mem};

use super::{pending::Reply, types::StoreError};

/// One batch takes at most so many writes …
const BATCH: usize = 1_000;
/// … and begins no further one beyond so many bytes.
const BATCH_BYTES: usize = 8_000_000;

/// The hard limits.
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

/// A write.
pub trait Command {
    /// What it holds in memory.
    fn bytes(&self) -> usize;

    /// Who waits for it.
    fn into_reply(self) -> Reply;
}

/// The writes that wait.
pub struct Backlog<C> {
    commands: VecDeque<C>,
    bytes: usize,
    closed: bool,
    limits: Limits,
    /// What they wait for, in words.
    destination: &'static str,
}

impl<C: Command> Backlog<C> {
    pub fn new(limits: Limits, destination: &'static str) -> Self {
        Self { commands: VecDeque::new(), bytes: 0, closed: false, limits, destination }
    }

    /// Takes the write in, or gives it back with the reason why not.
    pub fn push(&mut self, command: C) -> Result<(), Refused<C>> {
        let size = command.bytes();
        let is_full = self.commands.len() >= self.limits.commands
            || self.bytes.saturating_add(size) > self.limits.bytes;
        if self.closed {
            return Err(Refused { command, reason: "the store is closed".into() });
        }
        if is_full {
            let reason = format!("too many writes wait for {}", self.destination);
            return Err(Refused { command, reason });
        }
        self.bytes += size;
        self.commands.push_back(command);
        Ok(())
    }

    /// Whether a batch could not take all that wait, or no more will come.
    pub fn fills_a_batch(&self) -> bool {
        self.closed || self.commands.len() >= BATCH || self.bytes >= BATCH_BYTES
    }

    /// Takes one batch out.
    pub fn batch(&mut self) -> Vec<C> {
        let mut batch = Vec::with_capacity(self.commands.len().min(BATCH));
        let mut bytes = 0;
        while batch.len() < BATCH && bytes < BATCH_BYTES {
            let Some(command) = self.commands.pop_front() else { break };
            bytes += command.bytes();
            batch.push(command);
        }
        self.bytes = self.bytes.saturating_sub(bytes);
        batch
    }

    /// Refuses work from now on; what was taken in is still there to be done.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Closes, and hands out the work that was not done, to be dropped where nothing is locked: its
    /// callers learn then that the writer has ended.
    pub fn abandon(&mut self) -> VecDeque<C> {
        self.closed = true;
        self.bytes = 0;
        mem::take(&mut self.commands)
    }

    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Writes that wait, and their bytes.
    pub fn depth(&self) -> (usize, usize) {
        (self.commands.len(), self.bytes)
    }
}

/// A write that was not taken in.
pub struct Refused<C> {
    command: C,
    reason: String,
}

impl<C: Command> Refused<C> {
    /// Tells who waits for it.
    pub fn tell(self) {
        let refused = Err(StoreError::Unavailable(self.reason));
        // A caller that is gone needs no answer.
        let _gone = self.command.into_reply().send(refused);
    }
}
