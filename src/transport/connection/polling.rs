//! A connection whose client polls: it fetches packets with one GET after another and sends its own by POST.
//!
//! The queue is that of every other connection, with the same frames and bounds. A *poll* takes whole frames,
//! one answer at a time: the next answer waits until the peer's kernel has taken the one before. Posted
//! packets reach the library as WebSocket frames. An upgrade gives the connection its TCP stream and changes
//! nothing else: what no poll has taken is written to the stream.

mod polls;
mod posts;

use std::{
    mem,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use socketioxide::socket::Sid;
use tokio::net::tcp::OwnedReadHalf;

pub(super) use self::polls::Polls;
pub(crate) use self::posts::Posted;
use self::posts::Posts;
pub use self::{
    polls::{Answering, Polled},
    posts::Post,
};
use super::{Connection, State, Writer};
use crate::{
    memory::Account,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    transport::{
        Raw, Wire,
        socket::{Socket, Try},
    },
};

/// How many websockets of one session may be open that it has not upgraded to. A client opens one; they are not
/// counted among its address's connections.
const MAX_PROBES: usize = 4;

/// The polling state of a connection, beside its queue.
#[derive(Debug, Default)]
pub(super) struct Polling {
    posts: Mutex<Posts>,
    name: OnceLock<Name>,
    /// The number of [`Probing`] websockets.
    probes: AtomicUsize,
}

/// By what requests name the session.
#[derive(Debug)]
struct Name {
    id: Sid,
    /// The only address from which they may come, if the id is no secret.
    address: Option<IpAddr>,
}

impl Connection {
    /// The connection of a client that polls.
    pub(in crate::transport) fn polled(
        peer: SocketAddr,
        wire: Wire,
        account: Arc<Account>,
    ) -> Self {
        Self { polling: Some(Box::default()), ..Self::without_stream(peer, wire, account) }
    }

    /// Whether the client polls.
    pub(in crate::transport) fn is_polled(&self) -> bool {
        self.tcp.get().is_none()
    }

    /// Ends a polling connection and answers the waiting poll.
    pub(super) fn part_polled(&self, state: &mut State) {
        state.closing = true;
        state.answer_poll();
        self.end(state);
    }

    /// Ends the connection if its client polls, and answers a waiting poll.
    pub(in crate::transport) fn end_polled(&self) {
        let mut state = self.state.lock();
        if self.is_polled() && !self.is_over() {
            self.part_polled(&mut state);
        }
    }

    /// Unregisters the session: requests no longer find it.
    pub(super) fn forget_session(&self) {
        if let Some(name) = self.polling.as_ref().and_then(|polling| polling.name.get()) {
            self.wire.sessions().remove(name.id);
        }
    }
}

/// The session of a client that polls.
#[derive(Debug, Clone)]
pub struct Session(Arc<Connection>);

impl Session {
    pub(in crate::transport) fn of(connection: &Arc<Connection>) -> Self {
        Self(connection.clone())
    }

    /// The session of this connection for a request from `address`, unless it is over.
    pub(in crate::transport) fn find(
        connection: Arc<Connection>,
        address: Option<IpAddr>,
    ) -> Option<Self> {
        let only = connection.polling.as_ref()?.name.get()?.address;
        let is_its_own = only.is_none_or(|only| address == Some(only));
        (is_its_own && !connection.is_over()).then_some(Self(connection))
    }

    /// Registers the session by its id, until its end. With an `address`, for requests from there only.
    pub fn name(&self, id: Sid, address: Option<IpAddr>) {
        let Some(polling) = &self.0.polling else { return };
        polling.name.get_or_init(|| Name { id, address });
        let state = self.0.state.lock();
        if !self.0.is_over() {
            self.0.wire.sessions().insert(id, Arc::downgrade(&self.0));
        }
        drop(state);
    }

    /// Counts bytes held for the session until the guard is dropped.
    pub fn hold(&self) -> Held {
        Held { connection: self.0.clone(), bytes: 0 }
    }

    /// Whether the client polls: it has not upgraded.
    pub fn is_polled(&self) -> bool {
        self.0.is_polled()
    }

    /// Whether the session has ended.
    pub fn is_over(&self) -> bool {
        self.0.is_over()
    }

    /// Whether the session was cut off: then nobody waits for the rest of an answer.
    pub fn is_cut_off(&self) -> bool {
        self.0.account.cut_off().is_some()
    }

    /// Ends the session at once.
    pub fn break_off(&self) {
        self.0.break_off();
    }

    /// Waits until the session has ended.
    pub async fn ended(&self) {
        self.0.wait_over().await;
    }

    /// A websocket for an upgrade was opened; `None` if that is one too many.
    pub fn probe(&self) -> Option<Probing> {
        let polling = self.0.polling.as_ref().filter(|_| self.0.is_polled())?;
        let probing = Probing(self.0.clone());
        (polling.probes.fetch_add(1, Ordering::AcqRel) < MAX_PROBES).then_some(probing)
    }

    /// Begins an upgrade; `None` if one is under way, or the session has ended or been upgraded.
    pub fn upgrade(&self) -> Option<Upgrading> {
        let mut state = self.0.state.lock();
        let may_begin = self.0.is_polled() && !self.0.is_over();
        if !may_begin || mem::replace(&mut state.polls.upgrading, true) {
            return None;
        }
        Some(Upgrading(self.0.clone()))
    }
}

/// A websocket that a session may upgrade to, counted until dropped.
#[derive(Debug)]
pub struct Probing(Arc<Connection>);

impl Drop for Probing {
    fn drop(&mut self) {
        if let Some(polling) = &self.0.polling {
            polling.probes.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Bytes held for a session, counted until dropped.
#[derive(Debug)]
pub struct Held {
    connection: Arc<Connection>,
    bytes: usize,
}

impl Held {
    /// Counts more bytes.
    pub fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.connection.kept.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.connection.kept.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// An upgrade under way: while this lives, no other one can begin. The session goes on by polling until it is
/// complete.
#[derive(Debug)]
pub struct Upgrading(Arc<Connection>);

impl Upgrading {
    /// Answers a waiting poll: a client whose probe was answered upgrades once it has no poll outstanding.
    pub fn release_poll(&self) {
        self.0.state.lock().release_poll();
    }

    /// Sends and receives by this stream from now on.
    pub fn complete(self, raw: Raw) {
        let Raw { tcp, read, slot } = raw;
        let (reader, socket) = Socket::split(tcp, slot);
        self.switch(socket, Some((reader, read)));
    }

    pub(in crate::transport) fn switch(
        self,
        socket: Socket,
        reader: Option<(OwnedReadHalf, Bytes)>,
    ) {
        let connection = &self.0;
        let Some(polling) = &connection.polling else { return };
        let mut state = connection.state.lock();
        if connection.is_over() || connection.tcp.set(socket).is_err() {
            return;
        }
        state.release_poll();
        polling.posts.lock().upgraded = reader;
        connection.reader.wake();
        // A drainer that waits for polls waits for the stream from now on.
        connection.left.notify_waiters();
        if state.writer == Writer::Nobody {
            connection.changed(state);
        } else {
            connection.flush(&mut state, Try::Ready);
        }
    }
}

impl Drop for Upgrading {
    fn drop(&mut self) {
        self.0.state.lock().polls.upgrading = false;
    }
}

#[cfg(test)]
mod tests;
