//! One connection: its outgoing queue, what takes from it, and what bounds both. Where it speaks
//! WebSocket it has a TCP stream; until then its client [polls](polling).
//!
//! Invariants:
//! - the queue is always at the boundary of a frame: the library's buffers and our frames are taken
//!   whole;
//! - bytes are written under the queue's lock alone, by a flush round or, while the kernel takes no
//!   more, by the one drainer;
//! - what a connection has unsent is bounded; a peer that takes nothing is cut off, not waited for.

pub(super) mod polling;

use std::{
    io::{self, ErrorKind},
    net::{Shutdown, SocketAddr},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use socket2::SockRef;
use socketioxide::socket::Sid;
use tokio::{
    net::{TcpStream, tcp::OwnedWriteHalf},
    sync::{Notify, oneshot},
    time::timeout,
};
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
};
use crate::{
    limits::Slot,
    memory::{Account, Slow, Transport},
};

/// With more than this unsent, in bytes or in packets, a client is behind: while most readers are, those
/// who write to them are held back. The second counts because small packets cost more memory than their
/// bytes: with what is still on its way, a queue keeps to 512 places, of 32 bytes each.
const BEHIND: (usize, usize) = (256 * 1024, 384);

/// A client that is behind, and took something within this time, is one that reads.
const READS: Duration = Duration::from_millis(250);

/// How soon it is looked whether a client that had not taken all takes more, without having been told.
const LOOK: Duration = Duration::from_millis(60);

/// How long a peer may take to end its side, before what it still sends is answered by a reset.
const LINGER: Duration = Duration::from_secs(1);

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It will be sent.
    Taken,
    /// It will be sent, but the peer, which is behind, does not read at the moment.
    Unread,
    /// The connection is over.
    Gone,
}

/// How much the kernel may hold that it has not sent, in bytes: with more, one could not see whether
/// the peer reads, and memory would go where nobody bounds it.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NOTSENT: u32 = 16 * 1024;

/// The connection of one Engine.IO session.
#[derive(Debug)]
pub struct Connection {
    /// The stream to the peer; there is none while the client polls.
    tcp: OnceLock<Tcp>,
    /// What it takes to poll, where it began so.
    polling: Option<Box<Polling>>,
    peer: SocketAddr,
    wire: Wire,
    account: Arc<Account>,
    state: Mutex<State>,
    /// What the state's queue holds, to be read without its lock.
    unsent: AtomicUsize,
    /// What has come of a message that is not whole.
    receiving: AtomicUsize,
    /// When the kernel last took something, in milliseconds since the wire began.
    progress: AtomicU64,
    /// Told when something has left.
    left: Notify,
    /// Nothing can be sent any more; changed under the state's lock.
    over: AtomicBool,
    pauses: AtomicUsize,
    pub(super) reader: AtomicWaker,
    /// Somebody ends it if it is in no namespace for too long.
    pub(super) watched: AtomicBool,
    /// What is held for it beside what its account is charged and its queue: of its requests, in bytes.
    pub(super) kept: AtomicUsize,
    client: OnceLock<Sid>,
}

/// The way to a peer that speaks WebSocket.
#[derive(Debug)]
struct Tcp {
    stream: OwnedWriteHalf,
    /// Free again when the connection is closed.
    _slot: Slot,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    polls: Polls,
    probes: Probes,
    behind: Behind,
    writer: Writer,
    /// The library has dropped its side: when the queue is empty, this is the end.
    closing: bool,
}

impl State {
    /// The number of bytes that the peer has not taken.
    fn unsent(&self) -> usize {
        self.queue.unsent() + self.polls.answering
    }

    /// How many bytes it has taken since the beginning.
    fn taken(&self) -> u64 {
        self.queue.taken().saturating_sub(self.polls.answering as u64)
    }
}

/// Who will write what is in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// Nobody; the queue is empty.
    Nobody,
    /// The next flush round.
    Round,
    /// The drainer, which is at work.
    Drainer,
}

impl Connection {
    /// The connection of a client that speaks WebSocket.
    pub(super) fn new(
        stream: OwnedWriteHalf,
        peer: SocketAddr,
        wire: Wire,
        account: Arc<Account>,
        slot: Slot,
    ) -> Self {
        let tcp = OnceLock::from(Tcp { stream, _slot: slot });
        Self { tcp, ..Self::without_stream(peer, wire, account) }
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

    /// What is charged for it.
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
        // One packet may be larger than all that is allowed.
        if !was_empty && !self.keeps_bounds(&mut state) {
            return Pushed::Gone;
        }
        let pushed = self.pace(&mut state, delivery);
        self.changed(state);
        pushed
    }

    /// Whether the peer reads, and where it does but is behind, registers it with the delivery.
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

    /// Counts it in this delivery as if it had just got a packet.
    pub(super) fn count(&self, delivery: &Delivery<'_>) -> Pushed {
        let mut state = self.state.lock();
        if self.is_over() { Pushed::Gone } else { self.pace(&mut state, Some(delivery)) }
    }

    /// The client has left this audience.
    pub(super) fn leave(&self, readers: &Arc<Readers>) {
        self.state.lock().behind.leave(readers);
    }

    /// Appends what the library writes: whole frames. Where the connection is over they are forgotten:
    /// the library hears of that when it reads, because not every session of which a write fails is
    /// ended by it.
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
        let pings = frame::walk(bytes).filter(|found| found.text == Some(b"2")).count();
        let mut state = self.state.lock();
        if self.is_over() {
            return;
        }
        state.probes.library_pinged(pings);
        state.queue.push_bytes(bytes);
        if self.keeps_bounds(&mut state) {
            self.changed(state);
        }
    }

    /// Asks the peer for an answer behind everything that was appended until now: what this returns
    /// completes with the answer, and fails where none can come any more.
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

    /// Whether a ping of the library's is not answered for this long.
    pub(super) fn is_library_waiting(&self, long: Duration) -> bool {
        self.state.lock().probes.is_library_waiting(long)
    }

    /// The peer has sent a pong; whether it answers a probe, and not the library.
    pub(super) fn answered(&self, pong: Pong) -> bool {
        self.state.lock().probes.answered(pong)
    }

    /// Cuts the connection off if it has more unsent than it may; whether it goes on.
    fn keeps_bounds(&self, state: &mut State) -> bool {
        let most = self.wire.limits().send_buffer.saturating_sub(self.account.outgoing());
        if state.unsent() <= most {
            return true;
        }
        // What waits for the next round only is no fault of the client's.
        if !self.flush(state, Try::Ready) {
            return false;
        }
        if state.unsent() > most {
            self.cut_off(state, Slow::Buffer);
            return false;
        }
        true
    }

    /// Sees to it that what was appended will be written.
    fn changed(self: &Arc<Self>, mut state: parking_lot::MutexGuard<'_, State>) {
        self.unsent.store(state.unsent(), Ordering::Relaxed);
        if state.writer != Writer::Nobody || state.queue.is_empty() {
            return;
        }
        state.writer = Writer::Round;
        drop(state);
        self.wire.rounds().mark(&self.wire, self.clone());
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

    /// Writes until the kernel takes no more or there is no more; false at the connection's end.
    fn flush(&self, state: &mut State, how: Try) -> bool {
        let Some(Tcp { stream, .. }) = self.tcp.get() else {
            state.answer_poll();
            return !self.is_over();
        };
        let mut progress = false;
        while !state.queue.is_empty() {
            let written = state.queue.write(|slices| match (how, slices) {
                (Try::Ready, [one]) => stream.try_write(one),
                (Try::Ready, slices) => stream.try_write_vectored(slices),
                (Try::Anyway, slices) => SockRef::from(stream.as_ref()).send_vectored(slices),
            });
            match written {
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

    /// Takes note that the peer has taken something.
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
            // The kernel says that it takes more only when it could take a good deal. It is asked
            // without being ready, too, so that a peer that reads little by little is not taken for
            // one that does not read.
            how = match timeout(max_wait, self.writable()).await {
                Ok(Ok(())) => Try::Ready,
                Ok(Err(_)) | Err(_) => Try::Anyway,
            };
            // The longer it takes nothing, the less often it is looked at.
            max_wait *= 2;
        }
        self.part().await;
    }

    /// Waits until the peer might take more.
    async fn writable(&self) -> io::Result<()> {
        self.wait_until(|connection| !connection.is_polled() || connection.unsent() == 0).await;
        match self.tcp.get() {
            Some(tcp) => tcp.stream.writable().await,
            None => Ok(()),
        }
    }

    /// The library is done with the connection: what is in the queue is still written, or goes with the
    /// poll that waits for it.
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
        // A drainer is at work already: it parts, and is waited for here.
        let connection = self.clone();
        self.wire.spawn(async move {
            connection.wait_over().await;
            drop(token);
        });
    }

    /// Ends our side, and gives the peer time to end its own, because a reset would take from it
    /// what it has not read yet.
    async fn part(&self) {
        let parted = async {
            let Some(tcp) = self.tcp.get() else { return Ok(()) };
            let stream: &TcpStream = tcp.stream.as_ref();
            SockRef::from(stream).shutdown(Shutdown::Write)?;
            let mut scratch = [0; 1024];
            loop {
                stream.readable().await?;
                match stream.try_read(&mut scratch) {
                    Ok(0) => return Ok(()),
                    Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                    Ok(_) | Err(_) => {}
                }
            }
        };
        // Whatever happens, it is the end.
        let _parted: Result<io::Result<()>, _> = timeout(LINGER, parted).await;
        let mut state = self.state.lock();
        state.probes.clear();
        state.behind.ceased();
        self.over.store(true, Ordering::Release);
        self.left.notify_waiters();
    }

    fn cut_off(&self, state: &mut State, why: Slow) {
        let unsent = state.unsent();
        let client = self.client.get().map(ToString::to_string).unwrap_or_default();
        tracing::warn!(peer = %self.peer, client, reason = why.as_str(), unsent, "a slow client is cut off");
        self.account.mark_cut_off(why);
        self.end(state);
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
        if let Some(tcp) = self.tcp.get() {
            let socket = SockRef::from(tcp.stream.as_ref());
            // They fail where the peer has ended the connection already.
            let _closed = socket.set_linger(Some(Duration::ZERO));
            let _closed = socket.shutdown(Shutdown::Both);
        }
        self.forget_session();
        self.reader.wake();
        self.left.notify_waiters();
    }

    /// Takes note of what has come of a message that is not whole, in bytes.
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

    /// Nothing is read from the peer while one of these lives.
    pub(super) fn pause(self: &Arc<Self>) -> Pause {
        self.pauses.fetch_add(1, Ordering::AcqRel);
        Pause(self.clone())
    }

    pub(super) fn is_paused(&self) -> bool {
        self.pauses.load(Ordering::Acquire) > 0
    }

    /// Names the client, for the log.
    pub(super) fn name(&self, client: Sid) {
        self.client.get_or_init(|| client);
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

/// Bounds what the kernel holds of a stream.
pub(super) fn prepare(tcp: &TcpStream) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = SockRef::from(tcp).set_tcp_notsent_lowat(NOTSENT) {
        tracing::debug!(%error, "TCP_NOTSENT_LOWAT could not be set");
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _only_there = tcp;
}

/// How to try to write.
#[derive(Debug, Clone, Copy)]
enum Try {
    /// Where the kernel has said that it takes more.
    Ready,
    /// Whatever it has said.
    Anyway,
}

/// Keeps a connection from being read.
#[derive(Debug)]
pub struct Pause(Arc<Connection>);

impl Drop for Pause {
    fn drop(&mut self) {
        if self.0.pauses.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.reader.wake();
        }
    }
}
