//! The account of one connection.

use std::{
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::http::Extensions;
use parking_lot::Mutex;

use super::{Limits, Memory};

/// Reading from a client stops when 1/`CROWDED` of its incoming limit is charged.
const CROWDED: usize = 4;

/// Reading resumes when only 1/`CALM` of the limit is charged.
const CALM: usize = 16;

/// By how much a charge may be off that follows what changes with each packet, in bytes.
const STEP: usize = 4096;

/// Why a connection was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slow {
    /// More was unsent than `SEND_BUFFER` allows.
    Buffer,
    /// The peer took less within `SEND_TIMEOUT` than it must.
    Timeout,
    /// The process was near `MEMORY_LIMIT`, and this connection among those that held most.
    Memory,
}

impl Slow {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::Buffer, Self::Timeout, Self::Memory];

    /// The name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Buffer => "send_buffer",
            Self::Timeout => "send_timeout",
            Self::Memory => "memory_limit",
        }
    }
}

/// The transport of a connection: a WebSocket's byte stream, or a session that polls.
pub trait Transport: Send + Sync {
    /// What the transport itself holds for the connection, besides what is charged, in bytes.
    fn held(&self) -> usize;

    /// Ends the connection at once, so that its client comes back by itself. May be called on a thread
    /// outside of the runtime.
    fn break_off(&self);
}

/// What is held for one connection (one Engine.IO session, whatever namespaces it is in), in bytes.
///
/// The holder of something charges it ([outgoing](Self::charge_outgoing) or
/// [incoming](Self::charge_incoming)) and keeps the [`Charge`] beside it.
pub struct Account {
    memory: Memory,
    id: u64,
    outgoing: AtomicUsize,
    incoming: AtomicUsize,
    kept: AtomicUsize,
    transports: Mutex<Vec<Weak<dyn Transport>>>,
    cut_off: OnceLock<Slow>,
}

/// The sides of an account; what is kept counts for the process alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Outgoing,
    Incoming,
    Kept,
}

impl Account {
    pub(super) fn new(memory: Memory, id: u64) -> Self {
        Self {
            memory,
            id,
            outgoing: AtomicUsize::new(0),
            incoming: AtomicUsize::new(0),
            kept: AtomicUsize::new(0),
            transports: Mutex::default(),
            cut_off: OnceLock::new(),
        }
    }

    /// The account in the extensions of a handshake's request; a new one if there is none.
    pub fn of(extensions: &Extensions, memory: &Memory) -> Arc<Self> {
        extensions.get::<Arc<Self>>().cloned().unwrap_or_else(|| memory.open_account())
    }

    /// The number of the connection in this process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Charges bytes that wait to be sent.
    pub fn charge_outgoing(self: &Arc<Self>, bytes: usize) -> Charge {
        self.charge(Side::Outgoing, bytes)
    }

    /// Charges bytes that were sent, and are kept in case they do not arrive. Whoever keeps them bounds them.
    pub fn charge_kept(self: &Arc<Self>, bytes: usize) -> Charge {
        self.charge(Side::Kept, bytes)
    }

    /// Charges bytes that came from the client; `None`, with nothing charged, if that exceeds its limit. An
    /// empty account takes any amount.
    pub fn charge_incoming(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        let charge = self.charge(Side::Incoming, bytes);
        let held = self.incoming();
        (held <= self.memory.limits().incoming || held <= bytes).then_some(charge)
    }

    /// Whether so much from the client is waiting that nothing more should be read for now.
    pub fn is_crowded(&self) -> bool {
        self.incoming() >= self.memory.limits().incoming / CROWDED
    }

    /// Whether so little from the client is waiting that it can be read again.
    pub fn is_calm(&self) -> bool {
        self.incoming() <= self.memory.limits().incoming / CALM
    }

    fn charge(self: &Arc<Self>, side: Side, bytes: usize) -> Charge {
        self.side(side).fetch_add(bytes, Ordering::Relaxed);
        Charge { account: self.clone(), side, bytes }
    }

    /// What it may hold.
    pub fn limits(&self) -> &Limits {
        self.memory.limits()
    }

    /// The bytes charged that wait to be sent; what the transport holds is not among them.
    pub fn outgoing(&self) -> usize {
        self.outgoing.load(Ordering::Relaxed)
    }

    /// The bytes charged that came from the client.
    pub fn incoming(&self) -> usize {
        self.incoming.load(Ordering::Relaxed)
    }

    /// Everything that is held for the connection.
    pub fn total(&self) -> usize {
        let transports = self.transports().iter().map(|transport| transport.held()).sum::<usize>();
        self.outgoing() + self.incoming() + self.kept.load(Ordering::Relaxed) + transports
    }

    /// Adds a transport of the connection; during an upgrade there may be two.
    pub fn attach(&self, transport: Weak<dyn Transport>) {
        let mut transports = self.transports.lock();
        transports.retain(|known| known.strong_count() > 0);
        transports.push(transport);
    }

    /// Records why the connection is cut off; the caller ends its transport. Only the first reason counts.
    pub fn mark_cut_off(&self, why: Slow) {
        if self.cut_off.set(why).is_ok() {
            self.memory.count_cut_off(why);
        }
    }

    /// Cuts the connection off; false if it has no transport to end.
    pub fn break_off(&self, why: Slow) -> bool {
        let transports = self.transports();
        if transports.is_empty() {
            return false;
        }
        self.mark_cut_off(why);
        for transport in transports {
            transport.break_off();
        }
        true
    }

    /// Why the connection was cut off, if it was.
    pub fn cut_off(&self) -> Option<Slow> {
        self.cut_off.get().copied()
    }

    fn transports(&self) -> Vec<Arc<dyn Transport>> {
        self.transports.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn side(&self, side: Side) -> &AtomicUsize {
        match side {
            Side::Outgoing => &self.outgoing,
            Side::Incoming => &self.incoming,
            Side::Kept => &self.kept,
        }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("id", &self.id)
            .field("outgoing", &self.outgoing())
            .field("incoming", &self.incoming())
            .field("cut_off", &self.cut_off())
            .finish_non_exhaustive()
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.memory.close_account(self.id);
    }
}

/// Bytes on an account; given back when dropped.
#[derive(Debug)]
pub struct Charge {
    account: Arc<Account>,
    side: Side,
    bytes: usize,
}

impl Charge {
    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds bytes.
    pub fn add(&mut self, bytes: usize) {
        self.account.side(self.side).fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
    }

    /// Makes it about so many bytes. Most calls touch nothing that is shared.
    pub fn follow(&mut self, bytes: usize) {
        if bytes.abs_diff(self.bytes) < STEP {
            return;
        }
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.add(more),
            None => self.give_back(self.bytes - bytes),
        }
    }

    /// Gives bytes back, at most those charged.
    pub fn give_back(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.account.side(self.side).fetch_sub(bytes, Ordering::Relaxed);
        self.bytes -= bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::memory::Totals;

    fn memory() -> Memory {
        Memory::new(Limits { outgoing: 100, incoming: 100, process: 0 })
    }

    #[test]
    fn what_is_dropped_is_given_back() {
        let memory = memory();
        let (one, two) = (memory.open_account(), memory.open_account());
        let mut page = one.charge_outgoing(10);
        let event = one.charge_incoming(5).unwrap();
        let _other = two.charge_outgoing(1);
        page.add(3);
        assert_eq!((one.outgoing(), one.incoming()), (13, 5));
        assert_eq!(memory.totals(), Totals { all: 19, largest: 18 });
        page.give_back(100);
        drop(event);
        assert_eq!(one.total(), 0);
        drop((page, one));
        assert_eq!(memory.totals(), Totals { all: 1, largest: 1 });
    }

    #[test]
    fn what_comes_in_is_bounded_and_slows_down_before() {
        let account = memory().open_account();
        let first = account.charge_incoming(1000).unwrap();
        assert!(account.is_crowded(), "one event may be larger than the bound");
        assert!(account.charge_incoming(1).is_none());
        assert_eq!(account.incoming(), 1000);
        drop(first);
        let small = [20, 4].map(|bytes| account.charge_incoming(bytes).unwrap());
        assert!(!account.is_crowded() && !account.is_calm());
        let _more = account.charge_incoming(76).unwrap();
        assert!(account.is_crowded() && account.charge_incoming(1).is_none());
        drop(small);
        assert!(!account.is_calm());
    }

    #[test]
    fn a_charge_that_follows_is_never_off_by_much() {
        let account = memory().open_account();
        let mut charge = account.charge_kept(0);
        for bytes in [STEP - 1, STEP, 3 * STEP, 3 * STEP + 7, 2 * STEP + 7, 5, 0] {
            charge.follow(bytes);
            assert!(account.total().abs_diff(bytes) < STEP, "{} of {bytes}", account.total());
            assert_eq!(account.total(), charge.bytes());
        }
        charge.follow(10 * STEP);
        assert_eq!(account.total(), 10 * STEP);
        drop(charge);
        assert_eq!(account.total(), 0);
    }

    struct Fake {
        held: usize,
        ended: AtomicBool,
    }

    impl Transport for Fake {
        fn held(&self) -> usize {
            self.held
        }

        fn break_off(&self) {
            self.ended.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_connection_is_cut_off_at_its_transports_for_one_reason() {
        let memory = memory();
        let account = memory.open_account();
        assert!(!account.break_off(Slow::Buffer), "it has no transport yet");
        let transport = Arc::new(Fake { held: 7, ended: AtomicBool::new(false) });
        let (as_transport, gone) = (transport.clone() as Arc<dyn Transport>, 1);
        account.attach(Arc::downgrade(&as_transport));
        assert_eq!(account.total(), 7);
        assert!(account.break_off(Slow::Memory));
        account.mark_cut_off(Slow::Timeout);
        assert!(transport.ended.load(Ordering::Relaxed));
        assert_eq!(account.cut_off(), Some(Slow::Memory));
        let counted = memory.cut_off().filter(|(_, n)| *n > 0).collect::<Vec<_>>();
        assert_eq!(counted, [(Slow::Memory, gone)]);
    }
}
