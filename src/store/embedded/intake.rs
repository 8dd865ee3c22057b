//! The writer's queue: what is asked of it, in the order in which it was asked.
//!
//! Submitting never waits, so that the callers' order is the log's order even where a caller does
//! not poll. What bounds the queue are its callers, who await one write before they bring the next,
//! and above that a hard limit beyond which writes are refused: a waiting caller would hold its
//! message in memory all the same.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use super::{
    pending::Reply,
    types::{Entry, RoomKey, StoreError},
};
use crate::{audience::Except, names::UserId};

/// One commit takes at most so many writes …
const BATCH: usize = 1_000;
/// … and begins no further one beyond so many bytes.
const BATCH_BYTES: usize = 8_000_000;

/// What the writer is asked to do.
pub(super) enum Work {
    Append { room: RoomKey, entry: Arc<Entry>, except: Except },
    Receipt { room: RoomKey, message_id: String, user: UserId, timestamp_ms: i64 },
    Enqueue { user: UserId, sender: Option<String>, entry: Entry },
    Confirm { user: UserId, up_to: u64 },
    Sweep,
}

impl Work {
    fn bytes(&self) -> usize {
        let own = match self {
            Self::Append { entry, .. } => entry.size(),
            Self::Enqueue { entry, .. } => entry.size(),
            Self::Receipt { message_id, .. } => message_id.len(),
            Self::Confirm { .. } | Self::Sweep => 0,
        };
        own + size_of::<Self>()
    }
}

/// Work and who waits for it.
pub(super) struct Command {
    pub work: Work,
    pub reply: Reply,
}

/// The hard limits of the queue.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub commands: usize,
    pub bytes: usize,
    /// Commits begin at least so far apart, so that under load one commit serves many; a write
    /// after a pause does not wait.
    pub spacing: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { commands: 100_000, bytes: 512_000_000, spacing: Duration::from_millis(1) }
    }
}

pub(super) struct Intake {
    state: Mutex<State>,
    arrived: Condvar,
    limits: Limits,
}

#[derive(Default)]
struct State {
    commands: VecDeque<Command>,
    bytes: usize,
    closed: bool,
    /// What the writer waits for; a push that does not fulfil it need not wake it.
    awaits: Awaits,
}

#[derive(Default, PartialEq)]
enum Awaits {
    #[default]
    Nothing,
    Any,
    FullBatch,
}

/// What the writer found.
pub(super) enum Taken {
    /// Work, in order.
    Batch(Vec<Command>),
    /// None came until the time given.
    Idle,
    /// None is left and none will come.
    Closed,
}

impl State {
    fn full_batch(&self) -> bool {
        self.closed || self.commands.len() >= BATCH || self.bytes >= BATCH_BYTES
    }
}

impl Intake {
    pub fn new(limits: Limits) -> Self {
        Self { state: Mutex::default(), arrived: Condvar::new(), limits }
    }

    /// Takes the work in, or says why not.
    pub fn push(&self, command: Command) {
        let size = command.work.bytes();
        let mut state = self.state.lock();
        let refused = if state.closed {
            Some("the store is closed")
        } else if state.commands.len() >= self.limits.commands
            || state.bytes.saturating_add(size) > self.limits.bytes
        {
            Some("too many writes wait for the disk")
        } else {
            None
        };
        if let Some(reason) = refused {
            drop(state);
            // A caller that is gone needs no answer.
            let _ = command.reply.send(Err(StoreError::Unavailable(reason.into())));
            return;
        }
        state.bytes += size;
        state.commands.push_back(command);
        let wake = match state.awaits {
            Awaits::Nothing => false,
            Awaits::Any => true,
            Awaits::FullBatch => state.full_batch(),
        };
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
    }

    /// Waits until `idle_at` for work, and while there is little of it until `spacing` after
    /// `last_commit`; takes one batch.
    pub fn take(&self, last_commit: Instant, idle_at: Instant) -> Taken {
        let mut state = self.state.lock();
        state.awaits = Awaits::Any;
        while state.commands.is_empty() && !state.closed {
            if self.arrived.wait_until(&mut state, idle_at).timed_out() {
                break;
            }
        }
        state.awaits = Awaits::FullBatch;
        let start_at = last_commit + self.limits.spacing;
        while !state.commands.is_empty() && !state.full_batch() {
            if self.arrived.wait_until(&mut state, start_at).timed_out() {
                break;
            }
        }
        state.awaits = Awaits::Nothing;
        if state.commands.is_empty() {
            return if state.closed { Taken::Closed } else { Taken::Idle };
        }
        let mut batch = Vec::with_capacity(state.commands.len().min(BATCH));
        let mut bytes = 0;
        while batch.len() < BATCH && bytes < BATCH_BYTES {
            let Some(command) = state.commands.pop_front() else { break };
            bytes += command.work.bytes();
            batch.push(command);
        }
        state.bytes = state.bytes.saturating_sub(bytes);
        Taken::Batch(batch)
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

    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Writes that wait, and their bytes.
    pub fn depth(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.commands.len(), state.bytes)
    }
}
