//! The wire: the byte streams of all connections, and what flows through them.
//!
//! The library has a bounded channel for each socket: what does not fit is lost to that client, every
//! recipient's copy is encoded anew, and a peer that does not read is noticed late. So roomcast owns the
//! stream of every WebSocket connection from the upgrade on:
//!
//! - each connection has one outgoing queue (`connection`), of which the kernel gets as much as it takes; the
//!   library's own frames (open, ping, connect, disconnect, close) go through it, too;
//! - a packet is encoded once, as a finished [frame], which all its recipients share;
//! - a flush round (`flush`) writes what has accumulated with one system call per connection;
//! - a switch (`switch`) keeps packets from overtaking what the library has yet to write;
//! - what the library says of the session to the client, and its ping at the very beginning, are taken out (`stream`);
//! - unsent data is bounded, in bytes and in time: a client over `SEND_BUFFER`, or one that takes too little
//!   within `SEND_TIMEOUT` (`pace`), is cut off without affecting the others;
//! - publishers wait while most of their readers are behind (`readers`);
//! - a client that sends more than can be processed is not read from (`stream`);
//! - a client's answer to a probe (`probes`) proves that it has what was sent before.
//!
//! It relies on two facts, which the tests check: the library writes whole frames at a time, and no
//! compression is negotiated.

mod connection;
mod event_head;
mod flush;
pub mod frame;
mod frame_rules;
mod handle;
mod inbound;
mod pace;
mod packets;
mod pong;
mod probes;
mod queue;
mod readers;
mod serve;
mod sessions;
#[cfg(test)]
#[cfg(feature = "shuttle")]
pub(crate) mod shuttle_tests;
#[cfg_attr(all(test, feature = "shuttle"), path = "shuttle_tests/socket.rs")]
mod socket;
mod stream;
mod switch;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use socketioxide::socket::Sid;
use tokio::net::tcp::OwnedReadHalf;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use self::{
    connection::Connection,
    flush::FlushScheduler,
    frame::{Frames, Kind},
    sessions::Sessions,
    socket::Socket,
    switch::UpgradeMarkers,
};
pub use self::{
    connection::{
        Pause, Pushed,
        polling::{Answering, Held, Polled, Post, Session, Upgrading},
    },
    event_head::{ADDED, MARK},
    handle::Handle,
    inbound::MAX_CONTROL,
    packets::{Came, Goes, Packets},
    probes::Ask,
    readers::{Counts, Delivery, Readers},
    serve::{Raw, Serves, Timeouts, serve},
    stream::Stream,
    switch::{SwitchState, TransportSwitch, UPGRADE_MARKER, Way},
};
use crate::{
    config::Config,
    memory::{Account, Memory, Transport},
    sync::Runtime,
};

/// The bits that count a process's packets; the others tell processes apart.
const NUMBERS: u64 = (1 << 40) - 1;

/// What bounds a connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How much may be unsent, in bytes.
    pub send_buffer: usize,
    /// The time in which the peer must take what is unsent, or 16 KB for each second of it.
    pub send_timeout: Duration,
    /// How often the library must hear from a client to consider it alive.
    pub heartbeat: Duration,
    /// The largest message of a client, in bytes.
    pub max_message: usize,
}

impl Limits {
    /// Those of the configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            send_buffer: usize::try_from(config.send_buffer).unwrap_or(usize::MAX),
            send_timeout: config.send_timeout,
            heartbeat: config.ping_interval.min(config.ping_timeout),
            max_message: usize::try_from(config.max_payload).unwrap_or(usize::MAX),
        }
    }
}

/// What all connections share; clones are handles to the same one.
#[derive(Clone)]
pub struct Wire(Arc<Shared>);

struct Shared {
    limits: Limits,
    memory: Memory,
    scheduler: FlushScheduler,
    markers: UpgradeMarkers,
    sessions: Sessions,
    /// The streams that are not closed yet.
    streams: TaskTracker,
    hurried: CancellationToken,
    runtime: Runtime,
    began: Instant,
    /// The number of the next packet, where packets are numbered.
    numbers: OnceLock<AtomicU64>,
}

impl Wire {
    /// A wire without connections; they are charged to accounts of `memory`. Must be called inside the
    /// runtime.
    pub fn new(limits: Limits, memory: Memory) -> Self {
        Self(Arc::new(Shared {
            limits,
            memory,
            scheduler: FlushScheduler::default(),
            markers: UpgradeMarkers::default(),
            sessions: Sessions::default(),
            streams: TaskTracker::new(),
            hurried: CancellationToken::new(),
            runtime: Runtime::current(),
            began: Instant::now(),
            numbers: OnceLock::new(),
        }))
    }

    /// Numbers all packets from now on. The first number is random, so that no two processes share any.
    pub fn number_packets(&self) {
        let first = Uuid::new_v4().as_u64_pair().0 & !NUMBERS;
        let _once = self.0.numbers.set(AtomicU64::new(first));
    }

    /// Whether packets are numbered.
    pub fn numbers_packets(&self) -> bool {
        self.0.numbers.get().is_some()
    }

    /// The number for one more packet; 0 if they are not numbered.
    pub fn next_number(&self) -> u64 {
        self.0.numbers.get().map_or(0, |next| next.fetch_add(1, Ordering::Relaxed))
    }

    /// What bounds a connection.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// The accounts of all connections.
    pub fn memory(&self) -> &Memory {
        &self.0.memory
    }

    /// The library's stream of a connection that has just become a WebSocket. The connection is charged to
    /// `account`; `packets` inspects what comes.
    pub fn stream(
        &self,
        raw: Raw,
        peer: SocketAddr,
        account: &Arc<Account>,
        packets: Arc<dyn Packets>,
    ) -> Stream {
        let Raw { tcp, read, slot } = raw;
        let (reader, socket) = Socket::split(tcp, slot);
        let connection = Connection::new(socket, peer, self.clone(), account.clone());
        self.stream_of(&Arc::new(connection), Some(reader), read, packets)
    }

    /// The same for a client that polls, with its session for the requests.
    pub fn session(
        &self,
        peer: SocketAddr,
        account: &Arc<Account>,
        packets: Arc<dyn Packets>,
    ) -> (Stream, Session) {
        let connection = Arc::new(Connection::polled(peer, self.clone(), account.clone()));
        let session = Session::of(&connection);
        (self.stream_of(&connection, None, Bytes::new(), packets), session)
    }

    fn stream_of(
        &self,
        connection: &Arc<Connection>,
        reader: Option<OwnedReadHalf>,
        read: Bytes,
        packets: Arc<dyn Packets>,
    ) -> Stream {
        let transport: Arc<dyn Transport> = connection.clone();
        connection.account().attach(Arc::downgrade(&transport));
        let token = self.0.streams.token();
        Stream::new(connection.clone(), reader, read, packets, token, &self.0.limits)
    }

    /// The session of this id for a request from `address`, if its client began by polling.
    pub fn find_session(&self, id: Sid, address: Option<IpAddr>) -> Option<Session> {
        Session::find(self.sessions().find(id)?, address)
    }

    /// Encodes a packet, as [`Frames::encode`] does.
    pub fn encode(
        &self,
        kind: Kind,
        namespace: &str,
        data: &[&str],
        attachments: &[Bytes],
        v3: bool,
    ) -> Frames {
        self.scheduler().note();
        Frames::encode(kind, namespace, data, attachments, v3)
    }

    /// How many packets have been encoded.
    #[cfg(test)]
    pub fn encoded(&self) -> u64 {
        self.scheduler().encoded()
    }

    /// Ends all waiting for clients to read: the server stops.
    pub fn hurry(&self) {
        self.0.hurried.cancel();
    }

    /// Completes when nothing may wait for a client to read any more.
    pub async fn hurried(&self) {
        self.0.hurried.cancelled().await;
    }

    /// Waits until every connection is closed and what was in its queue is written.
    pub async fn closed(&self) {
        self.0.streams.close();
        self.0.sessions.end();
        self.0.streams.wait().await;
    }

    fn scheduler(&self) -> &FlushScheduler {
        &self.0.scheduler
    }

    fn markers(&self) -> &UpgradeMarkers {
        &self.0.markers
    }

    fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.0.runtime.spawn(future);
    }

    /// Milliseconds since the wire began.
    fn millis(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}
