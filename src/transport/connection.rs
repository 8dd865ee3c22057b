//! One connection: its outgoing queue, what empties it, and the bounds of both. A WebSocket connection has a
//! TCP stream; without one, the client [polls](polling).
//!
//! Invariants:
//! - the queue always ends at a frame boundary: the library's buffers and our frames are appended whole;
//! - bytes are written only under the queue's lock: by a flush round or, once the kernel takes no more, by
//!   the one drainer;
//! - unsent data is bounded; a peer that takes nothing is cut off, not waited for.

mod ending;
pub(super) mod polling;
mod writing;

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use tokio::sync::oneshot;

use self::polling::{Polling, Polls};
use super::{
    Wire,
    frame::{self, Frames},
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
        Mutex, Notify,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

/// With more than this unsent, in bytes or in pieces, a client is behind; while most readers are behind,
/// publishers wait. Pieces count because small packets cost more memory than their bytes: with what is still
/// in flight, a queue keeps to 512 places of 32 bytes each.
const BEHIND: (usize, usize) = (256 * 1024, 384);

/// A client that is behind still counts as reading if it took something within this time.
const READS: Duration = Duration::from_millis(250);

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
        if self.wire.markers().any() {
            for found in frame::walk(bytes) {
                let marker = found.text.and_then(|text| self.wire.markers().find(text));
                if let Some(switch) = marker {
                    self.append(&bytes[begin..found.range.start]);
                    switch.open(self);
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
