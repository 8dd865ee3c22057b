//! The writes that wait for the writer, within limits.
//!
//! Each sender has a queue of its own, in the order of its requests, and the queues take turns by bytes, as in
//! deficit round robin: a sender that had more than its share waits until the others had theirs. A sender that
//! has just come goes first, as in FQ-CoDel (RFC 8290, 4.2). A small write waits for one batch, whatever a
//! hostile sender has sent.
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
const BATCH_BYTES: usize = 256_000;
/// The bytes that each turn is worth. What a write takes beyond them is taken from the sender's next turns.
const SHARE_BYTES: isize = 64 * 1024;

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

type Turns<C> = LinkedHashMap<Option<SenderId>, Queue<C>>;

/// One sender's writes, in order.
struct Queue<C> {
    writes: VecDeque<C>,
    /// How many bytes the sender may still write in this turn; below zero, it waits.
    credit: isize,
}

/// The writes that wait.
pub(super) struct Backlog<C> {
    /// The senders that had no turn yet, in the order in which they came. They go before the others.
    new: Turns<C>,
    /// The senders that had a turn, in the order of their next ones. A sender without writes stays for one round,
    /// so that it is not new at once.
    old: Turns<C>,
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
            new: LinkedHashMap::new(),
            old: LinkedHashMap::new(),
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
        if let Some(queue) = self.old.get_mut(&sender).or_else(|| self.new.get_mut(&sender)) {
            queue.writes.push_back(command);
        } else {
            let queue = Queue { writes: VecDeque::from([command]), credit: SHARE_BYTES };
            self.new.insert(sender, queue);
        }
        Ok(())
    }

    /// Whether a batch is full, or no more writes will come.
    pub(super) fn fills_a_batch(&self) -> bool {
        self.closed || self.commands >= BATCH || self.bytes >= BATCH_BYTES
    }

    /// Takes one batch out.
    pub(super) fn batch(&mut self) -> Vec<C> {
        let wanted = self.commands.min(BATCH);
        let mut batch = Vec::with_capacity(wanted);
        let mut bytes = 0;
        while batch.len() < wanted && bytes < BATCH_BYTES {
            let new = self.new.pop_front();
            let is_new = new.is_some();
            let Some((sender, mut queue)) = new.or_else(|| self.old.pop_front()) else { break };
            while batch.len() < wanted
                && bytes < BATCH_BYTES
                && queue.credit > 0
                && let Some(command) = queue.writes.pop_front()
            {
                let size = command.bytes();
                bytes += size;
                queue.credit = queue.credit.saturating_sub_unsigned(size);
                batch.push(command);
            }
            let has_more = !queue.writes.is_empty();
            if queue.credit <= 0 {
                queue.credit += SHARE_BYTES;
                self.old.insert(sender, queue);
            } else if has_more || is_new {
                self.old.insert(sender, queue);
            }
        }
        self.commands -= batch.len();
        self.bytes = self.bytes.saturating_sub(bytes);
        if self.commands == 0 {
            // Nobody waits, so nobody has taken more than a share of what there was.
            self.old.clear();
        }
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
        let queues = mem::take(&mut self.new).into_iter().chain(mem::take(&mut self.old));
        queues.flat_map(|(_, queue)| queue.writes).collect()
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
    fn a_small_write_does_not_wait_for_large_senders_whatever_their_number() {
        let names: &[&'static str] = &["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        let large = (0..100).map(|number| Write(names[number % 10], number, 500_000));
        let mut backlog = backlog(large);
        // Each of them has had a turn.
        let before = (0..names.len()).map(|_| backlog.batch().len()).sum::<usize>();
        for number in 0..2 {
            assert!(backlog.push(Write("small", number, 100)).is_ok());
        }
        let next = backlog.batch();
        let small = next.iter().filter(|write| write.0 == "small").map(|write| write.1);
        assert_eq!(small.collect::<Vec<_>>(), [0, 1]);
        let left = 102 - before - next.len();
        assert_eq!(backlog.depth(), (left, left * 500_000));
    }

    #[test]
    fn a_sender_pays_with_its_next_turns_for_a_large_write() {
        // The one always has one write that waits, the other one always has some.
        let small = (0..200).map(|number| Write("small", number, 60_000));
        let mut backlog = backlog(small.chain([Write("large", 0, 600_000)]));
        let (mut of_small, mut of_large) = (0, 0);
        for number in 1..=5 {
            for write in backlog.batch() {
                *(if write.0 == "small" { &mut of_small } else { &mut of_large }) += write.2;
            }
            assert!(backlog.push(Write("large", number, 600_000)).is_ok());
        }
        assert!(of_small.abs_diff(of_large) <= 1_200_000, "{of_small} and {of_large} bytes");
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
        assert!(backlog.new.is_empty() && backlog.old.is_empty());
    }
}
