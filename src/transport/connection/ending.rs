//! How connections end: in order, when the queue is empty, or at once.

use std::{sync::Arc, time::Duration};

use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Connection, Polls, State, Writer};
use crate::{
    memory::Slow,
    sync::{atomic::Ordering, timeout},
    transport::frame,
};

/// How long a peer may take to close its side; after that, a reset answers what it still sends.
const LINGER: Duration = Duration::from_secs(1);

impl Connection {
    /// The library has dropped its side: the queue is still written, or goes out with the waiting poll.
    pub(in crate::transport) fn close(self: &Arc<Self>, token: TaskTrackerToken) {
        {
            let mut state = self.state.lock();
            state.closing = true;
            if self.is_over() {
                return;
            }
            if self.is_polled() {
                self.part_polled(&mut state);
                return;
            }
            if state.writer != Writer::Drainer {
                state.writer = Writer::Drainer;
                let connection = self.clone();
                self.wire.spawn(async move {
                    connection.drain().await;
                    drop(token);
                });
                return;
            }
        }
        // A running drainer closes the connection; this task waits for it.
        let connection = self.clone();
        self.wire.spawn(async move {
            connection.wait_over().await;
            drop(token);
        });
    }

    /// Closes our side and gives the peer time to close its own: a reset would discard what the peer has not
    /// read yet.
    pub(super) async fn part(&self) {
        if let Some(socket) = self.tcp.get() {
            // The connection is over whatever the outcome.
            let _parted = timeout(LINGER, socket.finish()).await;
        }
        let mut state = self.state.lock();
        state.probes.clear();
        state.behind.ceased();
        self.over.store(true, Ordering::Release);
        self.forget_session();
        self.left.notify_waiters();
    }

    pub(super) fn cut_off(&self, state: &mut State, why: Slow) {
        let unsent = state.unsent();
        let client = self.client.get().map(ToString::to_string).unwrap_or_default();
        tracing::warn!(peer = %self.peer, client, reason = why.as_str(), unsent, "a slow client is disconnected");
        self.account.mark_cut_off(why);
        self.end(state);
    }

    /// Closes the connection with this code, when everything before is written.
    pub(in crate::transport) fn refuse(self: &Arc<Self>, code: u16) {
        let mut state = self.state.lock();
        if self.is_over() || state.closing || self.is_polled() {
            return;
        }
        state.queue.push_bytes(&frame::close(code));
        state.closing = true;
        self.changed(state);
    }

    /// Ends the connection at once.
    pub(in crate::transport) fn break_off(&self) {
        let mut state = self.state.lock();
        if !self.is_over() {
            self.end(&mut state);
        }
    }

    /// Ends the connection at once: a reset for the peer, an end of file for the library.
    pub(super) fn end(&self, state: &mut State) {
        state.queue.clear();
        state.probes.clear();
        state.behind.ceased();
        state.polls = Polls::default();
        self.unsent.store(0, Ordering::Relaxed);
        self.over.store(true, Ordering::Release);
        if let Some(socket) = self.tcp.get() {
            socket.reset();
        }
        self.forget_session();
        self.reader.wake();
        self.left.notify_waiters();
    }
}
