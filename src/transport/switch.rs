//! The switch from the library's channel to our queue, in order.
//!
//! The library's own packet (CONNECT) first sits in a channel of the library, and frames put into the
//! connection's queue would overtake it. So an *upgrade marker* is sent behind it: an
//! acknowledgement of an event that no client ever sent, with a secret in it. Packets sent after the marker
//! wait in the switch. When the library writes the marker to a connection, that connection is the client's: the
//! marker is taken out, the waiting packets take its place, and later packets go directly to the connection's
//! queue.
//!
//! The secret keeps a marker from being forged: a client that made the library write another client's marker
//! would get that client's packets.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Instant,
};

use uuid::Uuid;

use super::{
    Wire,
    connection::{Connection, Pause, Pushed},
    frame::Frames,
    probes::Ask,
    readers::{Delivery, Readers},
};
use crate::{
    memory::{Account, Charge},
    protocol::client_id::ClientId,
    sync::{
        Mutex, MutexGuard, Notify,
        atomic::{AtomicUsize, Ordering},
        timeout,
    },
};

/// The number of the event that a marker acknowledges; clients count from 0.
pub const UPGRADE_MARKER: i64 = 9_007_199_254_740_991;

/// The length of a secret as text.
const SECRET: usize = uuid::fmt::Simple::LENGTH;

/// The markers that the library has not written yet.
#[derive(Debug, Default)]
pub(super) struct UpgradeMarkers {
    switches: Mutex<HashMap<Uuid, Weak<TransportSwitch>>>,
    count: AtomicUsize,
}

impl UpgradeMarkers {
    /// Whether there are any.
    pub(super) fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// Takes out the switch whose marker this text frame is.
    pub(super) fn find(&self, text: &[u8]) -> Option<Arc<TransportSwitch>> {
        let secret = text.strip_prefix(b"43")?.strip_suffix(b"\"]")?;
        let secret = secret.get(secret.len().checked_sub(SECRET)?..)?;
        let secret = Uuid::try_parse_ascii(secret).ok()?;
        self.remove(secret)?.upgrade()
    }

    fn insert(&self, secret: Uuid, switch: Weak<TransportSwitch>) {
        let mut switches = self.switches.lock();
        switches.insert(secret, switch);
        self.count.store(switches.len(), Ordering::Release);
    }

    fn remove(&self, secret: Uuid) -> Option<Weak<TransportSwitch>> {
        let mut switches = self.switches.lock();
        let switch = switches.remove(&secret);
        self.count.store(switches.len(), Ordering::Release);
        switch
    }
}

/// The switch between a client's sender and its connection.
#[derive(Debug)]
pub struct TransportSwitch {
    wire: Wire,
    client: ClientId,
    account: Arc<Account>,
    state: Mutex<SwitchState>,
    /// Notified when the switch opens.
    opened: Notify,
}

/// Where packets go at the moment.
#[derive(Debug)]
pub enum Way {
    /// Through the library.
    Library,
    /// Packets wait for the marker.
    Waiting(Waiting),
    /// To the connection's queue.
    Open(Arc<Connection>),
}

/// Packets that wait for a marker.
#[derive(Debug)]
pub struct Waiting {
    secret: Uuid,
    frames: Vec<Frames>,
    /// Their bytes.
    charge: Charge,
    since: Instant,
}

/// Where packets go, and whether any may be sent.
#[derive(Debug)]
pub struct SwitchState {
    /// Where packets go.
    pub way: Way,
    /// Nothing more may be sent: this session of the client has ended. Packets that wait for the marker were
    /// sent before and still go out.
    pub closed: bool,
}

impl TransportSwitch {
    /// The switch of this client, which begins with the library.
    pub fn new(wire: Wire, client: ClientId, account: Arc<Account>) -> Arc<Self> {
        let state = Mutex::new(SwitchState { way: Way::Library, closed: false });
        Arc::new(Self { wire, client, account, state, opened: Notify::new() })
    }

    /// Locks the state; the holder sends before everybody else.
    pub fn lock(&self) -> MutexGuard<'_, SwitchState> {
        self.state.lock()
    }

    /// Makes later packets wait for a marker, if `write` has sent it: an acknowledgement of [`UPGRADE_MARKER`] with
    /// this text as its argument.
    pub fn send_marker(
        self: &Arc<Self>,
        state: &mut SwitchState,
        write: impl FnOnce(&str) -> bool,
    ) -> bool {
        let secret = Uuid::new_v4();
        // The library may write the marker before `write` returns.
        self.wire.markers().insert(secret, Arc::downgrade(self));
        let sent = write(secret.simple().encode_lower(&mut Uuid::encode_buffer()));
        if sent {
            let since = Instant::now();
            let charge = self.account.charge_outgoing(0);
            state.way = Way::Waiting(Waiting { secret, frames: Vec::new(), charge, since });
        } else {
            self.wire.markers().remove(secret);
        }
        sent
    }

    /// The library has written the marker to this connection.
    pub(super) fn open(&self, connection: &Arc<Connection>) {
        let mut state = self.state.lock();
        if let Way::Waiting(waiting) = &mut state.way {
            connection.name(&self.client);
            for frames in waiting.frames.drain(..) {
                waiting.charge.give_back(frames.size());
                connection.push(&frames, None);
            }
            state.way = Way::Open(connection.clone());
            self.opened.notify_waiters();
        }
    }

    fn connection(&self) -> Option<Arc<Connection>> {
        match &self.state.lock().way {
            Way::Open(connection) => Some(connection.clone()),
            Way::Library | Way::Waiting(_) => None,
        }
    }

    /// Waits until at most `unsent` bytes are unsent, or nothing more can be sent.
    pub async fn wait_below(&self, unsent: usize) {
        if let Some(connection) = self.wait_opened(|waiting| waiting.charge.bytes() > unsent).await
        {
            connection.wait_below(unsent).await;
        }
    }

    /// Waits for the switch to open while `waits` holds for the waiting packets, for `SEND_TIMEOUT` at most.
    /// Returns the connection if the switch is open.
    async fn wait_opened(&self, waits: impl Fn(&Waiting) -> bool) -> Option<Arc<Connection>> {
        loop {
            let opened = self.opened.notified();
            tokio::pin!(opened);
            opened.as_mut().enable();
            match &self.state.lock().way {
                Way::Waiting(waiting) if waits(waiting) => {}
                Way::Open(connection) => return Some(connection.clone()),
                Way::Library | Way::Waiting(_) => return None,
            }
            let limit = self.wire.limits().send_timeout;
            if timeout(limit, opened).await.is_err() {
                return None;
            }
        }
    }

    /// Sends a probe behind everything handed over so far and waits for the client's answer; false if none
    /// comes.
    pub async fn confirm_delivery(&self, how: Ask) -> bool {
        let waits = |_: &Waiting| true;
        match self.wait_opened(waits).await {
            Some(connection) => connection.probe(how).await.is_ok(),
            None => false,
        }
    }

    /// Counts the client in this delivery as if it had just received a packet.
    pub fn count(&self, delivery: &Delivery<'_>) -> Pushed {
        self.connection().map_or(Pushed::Taken, |connection| connection.count(delivery))
    }

    /// The client has left this audience.
    pub fn leave(&self, readers: &Arc<Readers>) {
        if let Some(connection) = self.connection() {
            connection.leave(readers);
        }
    }

    /// Stops reading from the client's connection, if the switch is open.
    pub fn pause(&self) -> Option<Pause> {
        Some(self.connection()?.pause())
    }

    /// The number of bytes that wait to be sent, as far as it is known.
    pub fn unsent(&self) -> usize {
        match &self.state.lock().way {
            Way::Library => 0,
            Way::Waiting(waiting) => waiting.charge.bytes(),
            Way::Open(connection) => connection.unsent(),
        }
    }

    /// Whether nothing can be sent any more.
    pub fn is_over(&self) -> bool {
        let state = self.state.lock();
        state.closed || matches!(&state.way, Way::Open(connection) if connection.is_over())
    }

    /// Whether something waits for the marker.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state.lock().way, Way::Waiting(_))
    }

    /// Ends the session: nothing more is sent.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
    }

    /// Ends the session, and gives up its connection.
    pub fn release(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        if let Way::Open(_) = &state.way {
            state.way = Way::Library;
        }
    }
}

impl Drop for TransportSwitch {
    fn drop(&mut self) {
        if let Way::Waiting(waiting) = &self.state.get_mut().way {
            self.wire.markers().remove(waiting.secret);
        }
    }
}

impl Waiting {
    /// Adds a packet; `Gone` if too much waits, or the marker takes too long.
    pub fn push(&mut self, frames: Frames, wire: &Wire) -> Pushed {
        let limits = wire.limits();
        self.charge.add(frames.size());
        if self.charge.bytes() > limits.send_buffer || self.since.elapsed() > limits.send_timeout {
            return Pushed::Gone;
        }
        self.frames.push(frames);
        Pushed::Taken
    }
}
