//! One connection: its outgoing queue, what empties it, and the bounds of both. A WebSocket connection has a
//! TCP stream; without one, the client [polls](polling).
//!
//! Invariants:
//! - the queue always ends at a frame boundary: the library's buffers and our frames are appended whole;
//! - bytes are written only under the queue's lock: by a flush round or, once the kernel takes no more, by
//!   the one drainer;
//! - unsent data is bounded; a peer that takes nothing is cut off, not waited for.

pub(super) mod polling;

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use futures_util::task::AtomicWaker;
use tokio::sync::oneshot;
use tokio_util::task::task_tracker::TaskTrackerToken;

use self::polling::{Polling, Polls};
use super::{
    Wire,
    frame::{self, Frames},
    pace::Pace,
    pong::Pong,
    probes::{Ask, Probes},
    queue::Queue,
    readers::{Behind, Delivery, Readers},
    socket::{Socket, Try},
};
use crate::{
    memory::{Account, Slow, Transport},
    protocol::client_id::ClientId,
    sync::{
        Mutex, MutexGuard, Notify,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        timeout,
    },
};

/// With more than this unsent, in bytes or in pieces, a client is behind; while most readers are behind,
/// publishers wait. Pieces count because small packets cost more memory than their bytes: with what is still
/// in flight, a queue keeps to 512 places of 32 bytes each.
const BEHIND: (usize, usize) = (256 * 1024, 384);

/// A client that is behind still counts as reading if it took something within this time.
const READS: Duration = Duration::from_millis(250);

/// How soon a write is retried without a readiness event; the wait doubles while the client takes nothing.
const LOOK: Duration = Duration::from_millis(60);

/// How long a peer may take to close its side; after that, a reset answers what it still sends.
const LINGER: Duration = Duration::from_secs(1);

/// The outcome of pushing a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// Queued.
    Taken,
    /// Queued, but the peer is behind and does not read at the moment.
    Unread,
    /// The connection is over.
    Gone,
}

/// The connection of one Engine.IO session.
#[derive(Debug)]
pub struct Connection {
    /// The stream to the peer; unset while the client polls.
    tcp: OnceLock<Socket>,
    /// The polling state, if the client began by polling.
    polling: Option<Box<Polling>>,
    peer: SocketAddr,
    wire: Wire,
    account: Arc<Account>,
    state: Mutex<State>,
    /// The number of unsent bytes, readable without the state's lock.
    unsent: AtomicUsize,
    /// Bytes received of an incomplete message.
    receiving: AtomicUsize,
    /// When the kernel last took something, in milliseconds since the wire was created.
    progress: AtomicU64,
    /// Notified when something has left the queue, and at the end.
    left: Notify,
    /// Nothing can be sent any more; changed under the state's lock.
    over: AtomicBool,
    pauses: AtomicUsize,
    pub(super) reader: AtomicWaker,
    /// Something ends the connection if it is in no namespace for too long.
    pub(super) watched: AtomicBool,
    /// Bytes of its requests that are held beside the queue and the account's charges.
    pub(super) kept: AtomicUsize,
    /// The first of its clients, for the log.
    client: OnceLock<ClientId>,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    polls: Polls,
    probes: Probes,
    behind: Behind,
    writer: Writer,
    /// The library has dropped its side: the connection ends when the queue is empty.
    closing: bool,
}

impl State {
    /// The number of bytes that the peer has not taken.
    fn unsent(&self) -> usize {
        self.queue.unsent() + self.polls.answering
    }

    /// The number of bytes that the peer has taken since the beginning.
    fn taken(&self) -> u64 {
        self.queue.taken().saturating_sub(self.polls.answering as u64)
    }
}

/// Who writes the queue next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// Nobody; the queue is empty.
    Nobody,
    /// The next flush round.
    Round,
    /// The drainer, which is running.
    Drainer,
}

impl Connection {
    /// The connection of a client that speaks WebSocket.
    pub(super) fn new(socket: Socket, peer: SocketAddr, wire: Wire, account: Arc<Account>) -> Self {
        Self { tcp: OnceLock::from(socket), ..Self::without_stream(peer, wire, account) }
    }

    fn without_stream(peer: SocketAddr, wire: Wire, account: Arc<Account>) -> Self {
        Self {
            tcp: OnceLock::new(),
            polling: None,
            peer,
            account,
            state: Mutex::new(State {
                queue: Queue::default(),
                polls: Polls::default(),
                probes: Probes::default(),
                behind: Behind::default(),
                writer: Writer::Nobody,
                closing: false,
            }),
            unsent: AtomicUsize::new(0),
            receiving: AtomicUsize::new(0),
            progress: AtomicU64::new(wire.millis()),
            left: Notify::new(),
            over: AtomicBool::new(false),
            pauses: AtomicUsize::new(0),
            reader: AtomicWaker::new(),
            watched: AtomicBool::new(false),
            kept: AtomicUsize::new(0),
            client: OnceLock::new(),
            wire,
        }
    }

    /// The account that the connection is charged to.
    pub(super) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Appends a packet, which may be part of a delivery to many; never waits.
    pub fn push(self: &Arc<Self>, frames: &Frames, delivery: Option<&Delivery<'_>>) -> Pushed {
        let mut state = self.state.lock();
        if self.is_over() || state.closing {
            return Pushed::Gone;
        }
        let was_empty = state.queue.is_empty();
        state.queue.push(frames);
        // A single packet may exceed the limit.
        if !was_empty && !self.keeps_bounds(&mut state) {
            return Pushed::Gone;
        }
        let pushed = self.pace(&mut state, delivery);
        self.changed(state);
        pushed
    }

    /// Whether the peer reads. A peer that reads but is behind is registered with the delivery.
    fn pace(&self, state: &mut State, delivery: Option<&Delivery<'_>>) -> Pushed {
        if !self.is_behind(&state.queue) {
            return Pushed::Taken;
        }
        if !self.reads() {
            return Pushed::Unread;
        }
        if let Some(delivery) = delivery {
            state.behind.register(delivery);
        }
        Pushed::Taken
    }

    /// Counts the connection in this delivery as if it had just received a packet.
    pub(super) fn count(&self, delivery: &Delivery<'_>) -> Pushed {
        let mut state = self.state.lock();
        if self.is_over() { Pushed::Gone } else { self.pace(&mut state, Some(delivery)) }
    }

    /// The client has left this audience.
    pub(super) fn leave(&self, readers: &Arc<Readers>) {
        self.state.lock().behind.leave(readers);
    }

    /// Appends whole frames that the library writes. If the connection is over they are dropped without an
    /// error: the library learns of the end when it reads, because it does not end every session whose write
    /// fails.
    pub(super) fn write(self: &Arc<Self>, bytes: &[u8]) {
        let mut begin = 0;
        if self.wire.fences().any() {
            for found in frame::walk(bytes) {
                let fence = found.text.and_then(|text| self.wire.fences().find(text));
                if let Some(gate) = fence {
                    self.append(&bytes[begin..found.range.start]);
                    gate.open(self);
                    begin = found.range.end;
                }
            }
        }
        self.append(&bytes[begin..]);
    }

    fn append(self: &Arc<Self>, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let pings = frame::walk(bytes).filter(|found| found.text == Some(b"2")).count();
        let mut state = self.state.lock();
        // Nothing may follow a close frame.
        if self.is_over() || state.closing {
            return;
        }
        state.probes.library_pinged(pings);
        state.queue.push_bytes(bytes);
        if self.keeps_bounds(&mut state) {
            self.changed(state);
        }
    }

    /// Sends the peer a probe behind everything appended so far. The receiver completes with the answer, and
    /// fails if none can come any more.
    pub(super) fn probe(self: &Arc<Self>, how: Ask) -> oneshot::Receiver<()> {
        let mut state = self.state.lock();
        if self.is_over() || state.closing {
            return oneshot::channel().1;
        }
        let (frame, answered) = state.probes.ask(how);
        state.queue.push_bytes(&frame);
        if self.keeps_bounds(&mut state) {
            self.changed(state);
        }
        answered
    }

    /// Whether a ping of the library has been unanswered for this long.
    pub(super) fn is_library_waiting(&self, long: Duration) -> bool {
        self.state.lock().probes.is_library_waiting(long)
    }

    /// Takes a pong of the peer. True if it answers a probe, false if it answers the library.
    pub(super) fn answered(&self, pong: Pong) -> bool {
        self.state.lock().probes.answered(pong)
    }

    /// Cuts the connection off if too much is unsent; false if the connection is over.
    fn keeps_bounds(&self, state: &mut State) -> bool {
        let most = self.wire.limits().send_buffer.saturating_sub(self.account.outgoing());
        if state.unsent() <= most {
            return true;
        }
        // Data that only waits for the next flush round is not the client's fault.
        if !self.flush(state, Try::Ready) {
            return false;
        }
        if state.unsent() > most {
            self.cut_off(state, Slow::Buffer);
            return false;
        }
        true
    }

    /// Makes sure that what was appended gets written.
    fn changed(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        self.unsent.store(state.unsent(), Ordering::Relaxed);
        if state.writer != Writer::Nobody || state.queue.is_empty() {
            return;
        }
        state.writer = Writer::Round;
        drop(state);
        self.wire.scheduler().mark(&self.wire, self.clone());
    }

    /// Writes what the kernel takes; for flush rounds.
    pub(super) fn flush_dirty(self: &Arc<Self>) {
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
    fn flush(&self, state: &mut State, how: Try) -> bool {
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
    fn progressed(&self, state: &mut State) {
        self.progress.store(self.wire.millis(), Ordering::Relaxed);
        self.unsent.store(state.unsent(), Ordering::Relaxed);
        self.left.notify_waiters();
        if !state.behind.is_empty() && !self.is_behind(&state.queue) {
            state.behind.caught_up();
        }
    }

    /// Writes whenever the kernel takes more, until everything is written.
    async fn drain(self: Arc<Self>) {
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

    /// The library has dropped its side: the queue is still written, or goes out with the waiting poll.
    pub(super) fn close(self: &Arc<Self>, token: TaskTrackerToken) {
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
    async fn part(&self) {
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

    fn cut_off(&self, state: &mut State, why: Slow) {
        let unsent = state.unsent();
        let client = self.client.get().map(ToString::to_string).unwrap_or_default();
        tracing::warn!(peer = %self.peer, client, reason = why.as_str(), unsent, "a slow client is disconnected");
        self.account.mark_cut_off(why);
        self.end(state);
    }

    /// Closes the connection with this code, when everything before is written.
    pub(super) fn refuse(self: &Arc<Self>, code: u16) {
        let mut state = self.state.lock();
        if self.is_over() || state.closing || self.is_polled() {
            return;
        }
        state.queue.push_bytes(&frame::close(code));
        state.closing = true;
        self.changed(state);
    }

    /// Ends the connection at once.
    pub(super) fn break_off(&self) {
        let mut state = self.state.lock();
        if !self.is_over() {
            self.end(&mut state);
        }
    }

    /// Ends the connection at once: a reset for the peer, an end of file for the library.
    fn end(&self, state: &mut State) {
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

    /// Records how many bytes of an incomplete message have come.
    pub(super) fn set_receiving(&self, bytes: usize) {
        self.receiving.store(bytes, Ordering::Relaxed);
    }

    /// Whether nothing can be sent any more.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// The number of bytes that wait to be written.
    pub(super) fn unsent(&self) -> usize {
        self.unsent.load(Ordering::Relaxed)
    }

    fn is_behind(&self, queue: &Queue) -> bool {
        let bytes = BEHIND.0.min(self.wire.limits().send_buffer / 4);
        queue.unsent() > bytes || queue.pieces() > BEHIND.1
    }

    /// Whether the peer took something a moment ago.
    fn reads(&self) -> bool {
        let since = self.wire.millis().saturating_sub(self.progress.load(Ordering::Relaxed));
        u128::from(since) < READS.as_millis()
    }

    /// Waits until at most `unsent` bytes are to be written, or the connection is over.
    pub(super) async fn wait_below(&self, unsent: usize) {
        self.wait_until(|connection| connection.unsent() <= unsent).await;
    }

    /// Waits until nothing can be sent any more.
    pub(super) async fn wait_over(&self) {
        self.wait_until(|_| false).await;
    }

    async fn wait_until(&self, done: impl Fn(&Self) -> bool) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            // From here on no notification is missed.
            left.as_mut().enable();
            if self.is_over() || done(self) {
                return;
            }
            left.await;
        }
    }

    /// Stops reading from the peer until the guard is dropped.
    pub(super) fn pause(self: &Arc<Self>) -> Pause {
        self.pauses.fetch_add(1, Ordering::AcqRel);
        Pause(self.clone())
    }

    pub(super) fn is_paused(&self) -> bool {
        self.pauses.load(Ordering::Acquire) > 0
    }

    /// Names the client, for the log.
    pub(super) fn name(&self, client: &ClientId) {
        self.client.get_or_init(|| client.clone());
    }
}

impl Transport for Connection {
    fn held(&self) -> usize {
        self.unsent() + self.kept.load(Ordering::Relaxed) + self.receiving.load(Ordering::Relaxed)
    }

    fn break_off(&self) {
        self.break_off();
    }
}

/// Keeps a connection from being read until dropped.
#[derive(Debug)]
pub struct Pause(Arc<Connection>);

impl Drop for Pause {
    fn drop(&mut self) {
        if self.0.pauses.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.reader.wake();
        }
    }
}
