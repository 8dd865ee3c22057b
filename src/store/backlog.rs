//! The writes that wait for the writer, in the order of the requests, within limits.
//!
//! Taking a write in never waits, so that the callers' order is the log's order even if a caller does not
//! poll. Callers bound how many of their writes are under way. Above that, a hard limit refuses writes: a
//! waiting caller would hold its message in memory all the same.

use std::{collections::VecDeque, mem};

use super::{pending::Reply, types::StoreError};

/// The most writes in one batch.
const BATCH: usize = 1_000;
/// A batch that holds this many bytes takes no further write.
const BATCH_BYTES: usize = 8_000_000;

/// The hard limits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub commands: usize,
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { commands: 100_000, bytes: 512_000_000 }
    }
}

/// A write.
pub(super) trait Command {
    /// Its size in memory, in bytes.
    fn bytes(&self) -> usize;

    /// Where its outcome is sent.
    fn into_reply(self) -> Reply;
}

/// The writes that wait.
pub(super) struct Backlog<C> {
    commands: VecDeque<C>,
    bytes: usize,
    closed: bool,
    limits: Limits,
    /// What the writes wait for, as named in a refusal.
    destination: &'static str,
}

impl<C: Command> Backlog<C> {
    pub(super) fn new(limits: Limits, destination: &'static str) -> Self {
        Self { commands: VecDeque::new(), bytes: 0, closed: false, limits, destination }
    }

    /// Takes the write in, or returns it with the reason for the refusal.
    pub(super) fn push(&mut self, command: C) -> Result<(), Refused<C>> {
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

    /// Whether a batch is full, or no more writes will come.
    pub(super) fn fills_a_batch(&self) -> bool {
        self.closed || self.commands.len() >= BATCH || self.bytes >= BATCH_BYTES
    }

    /// Takes one batch out.
    pub(super) fn batch(&mut self) -> Vec<C> {
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

    /// Refuses writes from now on; those taken in can still be done.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Closes, and returns the writes that were not done. They must be dropped where nothing is locked:
    /// their callers then learn that the writer has ended.
    pub(super) fn abandon(&mut self) -> VecDeque<C> {
        self.closed = true;
        self.bytes = 0;
        mem::take(&mut self.commands)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Writes that wait, and their bytes.
    pub(super) fn depth(&self) -> (usize, usize) {
        (self.commands.len(), self.bytes)
    }
}

/// A write that was not taken in.
pub(super) struct Refused<C> {
    command: C,
    reason: String,
}

impl<C: Command> Refused<C> {
    /// Sends the refusal to the caller.
    pub(super) fn tell(self) {
        let refused = Err(StoreError::Unavailable(self.reason));
        // A caller that is gone needs no answer.
        let _gone = self.command.into_reply().send(refused);
    }
}
