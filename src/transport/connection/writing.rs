//! What empties the queue: flush rounds, and once the kernel takes no more the one drainer.

use std::{
    io::{self, ErrorKind},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Connection, State, Writer};
use crate::{
    memory::Slow,
    sync::{MutexGuard, atomic::Ordering, timeout},
    transport::{pace::Pace, socket::Try},
};

/// How soon a write is retried without a readiness event; the wait doubles while the client takes nothing.
const LOOK: Duration = Duration::from_millis(60);

impl Connection {
    /// Makes sure that what was appended gets written.
    pub(super) fn changed(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        self.unsent.store(state.unsent(), Ordering::Relaxed);
        if state.writer != Writer::Nobody || state.queue.is_empty() {
            return;
        }
        state.writer = Writer::Round;
        drop(state);
        self.wire.scheduler().mark(&self.wire, self.clone());
    }

    /// Writes what the kernel takes; for flush rounds.
    pub(in crate::transport) fn flush_dirty(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if state.writer == Writer::Drainer {
            return;
        }
        state.writer = Writer::Nobody;
        if !self.flush(&mut state, Try::Ready) || state.unsent() == 0 {
            return;
        }
        state.writer = Writer::Drainer;
        drop(state);
        self.wire.spawn(self.clone().drain());
    }

    /// Writes until the kernel takes no more or the queue is empty; false if the connection is over.
    pub(super) fn flush(&self, state: &mut State, how: Try) -> bool {
        let Some(socket) = self.tcp.get() else {
            state.answer_poll();
            return !self.is_over();
        };
        let mut progress = false;
        while !state.queue.is_empty() {
            match state.queue.write(|slices| socket.write(how, slices)) {
                Ok(1..) => progress = true,
                Ok(0) => self.end(state),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::debug!(peer = %self.peer, %error, "a connection broke");
                    self.end(state);
                }
            }
        }
        if progress {
            self.progressed(state);
        }
        !self.is_over()
    }

    /// Records that the peer has taken something.
    pub(super) fn progressed(&self, state: &mut State) {
        self.progress.store(self.wire.millis(), Ordering::Relaxed);
        self.unsent.store(state.unsent(), Ordering::Relaxed);
        self.left.notify_waiters();
        if !state.behind.is_empty() && !self.is_behind(&state.queue) {
            state.behind.caught_up();
        }
    }

    /// Writes whenever the kernel takes more, until everything is written.
    pub(super) async fn drain(self: Arc<Self>) {
        let limit = self.wire.limits().send_timeout;
        let mut pace: Option<Pace> = None;
        let (mut how, mut max_wait) = (Try::Ready, LOOK);
        loop {
            {
                let mut state = self.state.lock();
                if !self.flush(&mut state, how) {
                    return;
                }
                if state.unsent() == 0 {
                    if state.closing {
                        break;
                    }
                    state.writer = Writer::Nobody;
                    return;
                }
                let (taken, unsent, now) = (state.taken(), state.unsent(), Instant::now());
                let pace = pace.get_or_insert_with(|| Pace::begin(taken, unsent, now, limit));
                if !pace.keeps(taken, unsent, now) {
                    self.cut_off(&mut state, Slow::Timeout);
                    return;
                }
                if self.reads() {
                    max_wait = LOOK;
                } else {
                    state.behind.ceased();
                }
            }
            max_wait = max_wait.min(limit / 8);
            // The kernel reports readiness only when it could take a good deal. A write is also tried without
            // readiness, so that a peer that reads slowly still counts as reading.
            how = match timeout(max_wait, self.writable()).await {
                Ok(Ok(())) => Try::Ready,
                Ok(Err(_)) | Err(_) => Try::Anyway,
            };
            // The longer the peer takes nothing, the less often a write is tried.
            max_wait *= 2;
        }
        self.part().await;
    }

    /// Waits until the peer might take more.
    async fn writable(&self) -> io::Result<()> {
        self.wait_until(|connection| !connection.is_polled() || connection.unsent() == 0).await;
        match self.tcp.get() {
            Some(socket) => socket.writable().await,
            None => Ok(()),
        }
    }
}
