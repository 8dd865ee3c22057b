//! The writes that wait for the writer, within limits.
//!
//! Each sender has a queue of its own, in the order of its requests, and the queues take turns by bytes: a
//! write waits for its own sender's, and for a share of each other's, however much a hostile one has sent.
//!
//! Taking a write in never waits, so that a sender's order is the log's order even if it does not poll. Callers bound how many of their writes are under way. Above that, a hard limit refuses writes: a
//! waiting caller would hold its message in memory all the same.

use std::{collections::VecDeque, mem};

use hashlink::LinkedHashMap;

use super::{pending::Reply, types::StoreError};
use crate::limits::SenderId;

/// The most writes in one batch.
const BATCH: usize = 1_000;
/// A batch that holds this many bytes takes no further write: the next batch waits for the disk to take it.
const BATCH_BYTES: usize = 2_000_000;
/// A sender whose writes of one turn have this many bytes gives way to the next sender.
const SHARE_BYTES: usize = 64 * 1024;

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

    /// Who it is from; `None` for backends and for the server itself, who share a queue.
    fn sender(&self) -> Option<SenderId> {
        None
    }

    /// Where its outcome is sent.
    fn into_reply(self) -> Reply;
}

/// The writes that wait.
pub(super) struct Backlog<C> {
    /// The writes of each sender that has some, in the order of the senders' turns.
    queues: LinkedHashMap<Option<SenderId>, VecDeque<C>>,
    commands: usize,
    bytes: usize,
    closed: bool,
    limits: Limits,
    /// What the writes wait for, as named in a refusal.
    destination: &'static str,
}

impl<C: Command> Backlog<C> {
    pub(super) fn new(limits: Limits, destination: &'static str) -> Self {
        Self {
            queues: LinkedHashMap::new(),
            commands: 0,
            bytes: 0,
            closed: false,
            limits,
            destination,
        }
    }

    /// Takes the write in, or returns it with the reason for the refusal.
    pub(super) fn push(&mut self, command: C) -> Result<(), Refused<C>> {
        let size = command.bytes();
        let is_full = self.commands >= self.limits.commands
            || self.bytes.saturating_add(size) > self.limits.bytes;
        if self.closed {
            return Err(Refused { command, reason: "the store is closed".into() });
        }
        if is_full {
            let reason = format!("too many writes wait for {}", self.destination);
            return Err(Refused { command, reason });
        }
        self.bytes += size;
        self.commands += 1;
        let sender = command.sender();
        // The map's `entry` would move the sender to the end of the turns.
        match self.queues.get_mut(&sender) {
            Some(queue) => queue.push_back(command),
            None => drop(self.queues.insert(sender, VecDeque::from([command]))),
        }
        Ok(())
    }

    /// Whether a batch is full, or no more writes will come.
    pub(super) fn fills_a_batch(&self) -> bool {
        self.closed || self.commands >= BATCH || self.bytes >= BATCH_BYTES
    }

    /// Takes one batch out.
    pub(super) fn batch(&mut self) -> Vec<C> {
        let mut batch = Vec::with_capacity(self.commands.min(BATCH));
        let mut bytes = 0;
        while batch.len() < BATCH && bytes < BATCH_BYTES {
            let Some((sender, mut queue)) = self.queues.pop_front() else { break };
            let end = (bytes + SHARE_BYTES).min(BATCH_BYTES);
            while batch.len() < BATCH
                && bytes < end
                && let Some(command) = queue.pop_front()
            {
                bytes += command.bytes();
                batch.push(command);
            }
            if !queue.is_empty() {
                self.queues.insert(sender, queue);
            }
        }
        self.commands -= batch.len();
        self.bytes = self.bytes.saturating_sub(bytes);
        batch
    }

    /// Refuses writes from now on; those taken in can still be done.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Closes, and returns the writes that were not done. They must be dropped where nothing is locked:
    /// their callers then learn that the writer has ended.
    pub(super) fn abandon(&mut self) -> Vec<C> {
        self.closed = true;
        (self.commands, self.bytes) = (0, 0);
        mem::take(&mut self.queues).into_iter().flat_map(|(_, queue)| queue).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commands == 0
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Writes that wait, and their bytes.
    pub(super) fn depth(&self) -> (usize, usize) {
        (self.commands, self.bytes)
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

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::protocol::names::UserId;

    /// A write of a user, with its number.
    struct Write(&'static str, usize, usize);

    impl Command for Write {
        fn bytes(&self) -> usize {
            self.2
        }

        fn sender(&self) -> Option<SenderId> {
            Some(SenderId::User(UserId::parse(self.0).unwrap()))
        }

        fn into_reply(self) -> Reply {
            oneshot::channel().0
        }
    }

    fn backlog(writes: impl IntoIterator<Item = Write>) -> Backlog<Write> {
        let mut backlog = Backlog::new(Limits::default(), "the test");
        for write in writes {
            assert!(backlog.push(write).is_ok());
        }
        backlog
    }

    #[test]
    fn a_small_write_does_not_wait_for_all_of_a_large_senders() {
        let large = (0..100).map(|number| Write("large", number, 500_000));
        let mut backlog = backlog(large.chain([Write("small", 0, 100), Write("small", 1, 100)]));
        let first = backlog.batch();
        let small = first.iter().filter(|write| write.0 == "small").map(|write| write.1);
        assert_eq!(small.collect::<Vec<_>>(), [0, 1]);
        assert_eq!(backlog.depth(), (102 - first.len(), (102 - first.len()) * 500_000));
    }

    #[test]
    fn each_senders_writes_keep_their_order_and_none_is_left() {
        let senders = ["a", "b", "c"];
        let writes = (0..3000).map(|n| Write(senders[n % 7 % 3], n, n % 11 * 10_000));
        let mut backlog = backlog(writes);
        let mut taken = Vec::new();
        while !backlog.is_empty() {
            let batch = backlog.batch();
            assert!(!batch.is_empty() && batch.len() <= BATCH);
            taken.extend(batch.into_iter().map(|write| (write.0, write.1)));
        }
        assert_eq!((taken.len(), backlog.depth()), (3000, (0, 0)));
        for sender in senders {
            let numbers = taken.iter().filter(|write| write.0 == sender).map(|write| write.1);
            assert!(numbers.is_sorted(), "{sender}");
        }
        assert!(backlog.queues.is_empty());
    }
}
