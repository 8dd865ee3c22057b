//! What has come by publish/subscribe and is not carried out yet.
//!
//! Redis cuts off a subscriber that reads too slowly, so everything is read at once, and beyond a bound it is
//! dropped.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// How many messages may wait, and how many bytes.
const MESSAGES: usize = 20_000;
const BYTES: usize = 32_000_000;

/// A message of publish/subscribe.
#[derive(Debug)]
pub(super) struct Message {
    pub channel: String,
    pub bytes: Bytes,
}

#[derive(Debug, Default)]
pub(super) struct Intake {
    waiting: Mutex<Waiting>,
    came: Notify,
    finished: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Message>,
    bytes: usize,
    /// Whether some are being carried out.
    is_working: bool,
}

impl Intake {
    /// Takes a message in; false if there is no room for it.
    pub(super) fn push(&self, message: Message) -> bool {
        let size = message.channel.len() + message.bytes.len();
        let mut waiting = self.waiting.lock();
        if waiting.messages.len() >= MESSAGES || waiting.bytes + size > BYTES {
            return false;
        }
        waiting.bytes += size;
        waiting.messages.push_back(message);
        drop(waiting);
        self.came.notify_one();
        true
    }

    /// The next messages in their order, at most so many; waits until there is one. They are being carried out
    /// until [`done`](Self::done).
    pub(super) async fn take(&self, most: usize) -> Vec<Message> {
        loop {
            {
                let mut waiting = self.waiting.lock();
                let count = waiting.messages.len().min(most);
                if count > 0 {
                    let taken = waiting.messages.drain(..count).collect::<Vec<_>>();
                    let size = |message: &Message| message.channel.len() + message.bytes.len();
                    waiting.bytes -= taken.iter().map(size).sum::<usize>();
                    waiting.is_working = true;
                    return taken;
                }
            }
            self.came.notified().await;
        }
    }

    /// What was taken is carried out.
    pub(super) fn done(&self) {
        self.waiting.lock().is_working = false;
        self.finished.notify_waiters();
    }

    /// Waits until everything is carried out.
    pub(super) async fn finished(&self) {
        loop {
            let finished = self.finished.notified();
            if self.is_finished() {
                return;
            }
            finished.await;
        }
    }

    fn is_finished(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.messages.is_empty() && !waiting.is_working
    }

    /// Drops what waits; returns how many messages that were.
    pub(super) fn clear(&self) -> usize {
        let mut waiting = self.waiting.lock();
        waiting.bytes = 0;
        std::mem::take(&mut waiting.messages).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: usize, size: usize) -> Message {
        Message { channel: number.to_string(), bytes: Bytes::from(vec![0; size]) }
    }

    #[tokio::test]
    async fn what_waits_is_bounded_and_stays_in_order() {
        let intake = Intake::default();
        for number in 0..MESSAGES {
            assert!(intake.push(message(number, 1)));
        }
        assert!(!intake.push(message(MESSAGES, 1)));
        let taken = intake.take(3).await;
        assert_eq!(taken.iter().map(|it| &*it.channel).collect::<Vec<_>>(), ["0", "1", "2"]);
        assert!(!intake.push(message(0, BYTES)));
        assert!(intake.push(message(0, 1)));
        assert_eq!(intake.clear(), MESSAGES - 2);
        assert!(!intake.is_finished());
        intake.done();
        intake.finished().await;
        assert!(intake.push(message(0, BYTES - 1)));
    }
}
