//! The one way out to a client.
//!
//! Whatever goes to a client, events and acks alike, goes through its [`Outlet`], in the order of
//! the calls. A packet is encoded once, however many clients get it. A client whose outlet cannot
//! take a packet would miss a message unawares, so it is disconnected: it comes back and recovers.

use std::{
    borrow::Cow,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use socketioxide::{SendError, SocketError, extract::AckSender, socket::Socket};

use crate::{admin::Admin, payload::Payload};

/// How long a client that is to be disconnected may take to read what is before the farewell.
const FAREWELL_RETRY: Duration = Duration::from_millis(250);

/// An event with its one argument, ready for any number of clients.
///
/// One argument, because rxjs' `fromEvent` turns several into an array.
#[derive(Debug, Clone)]
pub struct Packet {
    event: Cow<'static, str>,
    payload: Payload,
}

impl Packet {
    /// `event` with `payload` as its argument.
    pub fn new(event: impl Into<Cow<'static, str>>, payload: Payload) -> Self {
        Self { event: event.into(), payload }
    }

    /// `event` with the JSON form of `data`.
    pub fn of<T: Serialize + ?Sized>(event: &'static str, data: &T) -> Self {
        Self::new(event, Payload::of(data))
    }

    /// The event's name.
    pub fn event(&self) -> &str {
        &self.event
    }

    /// Its argument.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }
}

/// A client's outgoing side.
#[derive(Debug)]
pub struct Outlet {
    /// Weak, because the socket's handlers hold the client that holds this.
    socket: Weak<Socket>,
    /// The client missed a packet: nothing more is sent but the farewell.
    broken: AtomicBool,
    /// Who is told what is sent, where the Admin UI is on.
    admin: Option<Admin>,
    runtime: tokio::runtime::Handle,
}

/// What became of a packet that was handed to an outlet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way.
    Yes,
    /// The client is gone.
    Gone,
    /// The client reads too slowly; with this packet it began to miss some and is disconnected.
    TooSlow,
}

impl Outlet {
    /// The outlet to `socket`; `admin` is told what goes out by it. Must be called inside the
    /// runtime.
    pub fn new(socket: &Arc<Socket>, admin: Option<Admin>) -> Self {
        Self {
            socket: Arc::downgrade(socket),
            broken: AtomicBool::new(false),
            admin,
            runtime: tokio::runtime::Handle::current(),
        }
    }

    /// Hands over one packet; never waits.
    pub fn send(&self, packet: &Packet) -> Sent {
        if self.broken.load(Ordering::Acquire) {
            return Sent::Gone;
        }
        let Some(socket) = self.socket.upgrade() else { return Sent::Gone };
        if let Some(admin) = &self.admin {
            admin.sent(&socket, packet);
        }
        self.outcome(socket.emit(&packet.event, &(&packet.payload,)))
    }

    /// Answers the event that `sender` belongs to with `data` as the only argument; never waits.
    /// Does nothing where the client asked for no answer.
    pub fn acknowledge(&self, sender: AckSender, data: &Payload) -> Sent {
        if self.broken.load(Ordering::Acquire) {
            return Sent::Gone;
        }
        self.outcome(sender.send(&(data,)))
    }

    fn outcome(&self, result: Result<(), SendError>) -> Sent {
        match result {
            Ok(()) => Sent::Yes,
            Err(SendError::Socket(SocketError::InternalChannelFull)) => {
                if !self.broken.swap(true, Ordering::AcqRel) {
                    self.disconnect();
                }
                Sent::TooSlow
            }
            Err(SendError::Socket(SocketError::Closed)) => Sent::Gone,
            Err(SendError::Serialize(error)) => {
                // Payloads are checked at the door, so this is a fault of the server's own.
                tracing::error!(%error, "a packet could not be encoded");
                Sent::Gone
            }
        }
    }

    /// Whether the client read too slowly, missed a packet, and was disconnected for it.
    pub fn was_too_slow(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Ends the client's connection to its namespace, after what was sent before.
    pub fn disconnect(&self) {
        let Some(socket) = self.socket.upgrade() else { return };
        if !matches!(socket.disconnect(), Err(SocketError::InternalChannelFull)) {
            return;
        }
        // The farewell itself needs room in the full buffer. The heartbeat ends a client that
        // never makes any.
        let weak = self.socket.clone();
        self.runtime.spawn(async move {
            loop {
                tokio::time::sleep(FAREWELL_RETRY).await;
                let Some(socket) = weak.upgrade().filter(|socket| socket.connected()) else {
                    break;
                };
                if !matches!(socket.disconnect(), Err(SocketError::InternalChannelFull)) {
                    break;
                }
            }
        });
    }

    /// The socket, unless it is gone.
    pub fn socket(&self) -> Option<Arc<Socket>> {
        self.socket.upgrade()
    }

    /// `websocket` or `polling`: an upgrade changes it.
    pub fn transport(&self) -> &'static str {
        match self.socket.upgrade().map(|socket| socket.transport_type()) {
            Some(socketioxide::TransportType::Polling) => "polling",
            _ => "websocket",
        }
    }
}
