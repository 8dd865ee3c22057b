//! The one way out to a client.
//!
//! Events and acks go to a client only through its [`ClientSender`], in the order of the calls. A packet is
//! encoded once, as a finished frame of the [wire](crate::transport), however many clients get it and whether
//! they poll or not. A client whose sender cannot take a packet would miss a message without knowing, so it
//! is disconnected: it reconnects and recovers.

pub mod journal;
mod recovery;

use std::{
    borrow::Cow,
    sync::{Arc, Weak},
    time::Duration,
};

use serde::Serialize;
use socketioxide::{
    ProtocolVersion, SendError, SocketError, adapter::LocalAdapter, extract::AckSender,
    handler::FromMessageParts, socket::Socket,
};
use socketioxide_core::Value;

use self::journal::Journal;
use super::{observer::Observer, packet::Packet};
use crate::{
    memory::{Account, Slow},
    protocol::{client_id::ClientId, payload::Payload},
    sync::{MutexGuard, Runtime},
    transport::{
        Ask, Delivery, Handle, Pause, Pushed, Readers, SwitchState, TransportSwitch,
        UPGRADE_MARKER, Way, Wire,
        frame::{Frames, Kind},
    },
};

/// How long to wait before disconnecting again while the library's channel is full.
const DISCONNECT_RETRY: Duration = Duration::from_millis(250);

/// A replay or a page continues once at most this much is unsent, in bytes.
const ROOM: usize = 256 * 1024;

/// How much of a replay or a page is read from the store at once, in bytes.
const PIECE: usize = 128 * 1024;

/// A client's outgoing side.
#[derive(Debug)]
pub struct ClientSender {
    /// Weak, because the socket's handlers hold the client that holds this.
    socket: Weak<Socket>,
    id: ClientId,
    namespace: Arc<str>,
    /// Speaks Engine.IO 3.
    v3: bool,
    account: Arc<Account>,
    switch: Arc<TransportSwitch>,
    /// The connection, as long as it lasts.
    connection: Option<Handle>,
    wire: Wire,
    /// Observes what is sent, if there is one.
    observer: Option<Arc<dyn Observer>>,
    /// Remembers what is sent, where connections may be recovered, and the number of this one.
    journal: Option<(Arc<Journal>, u64)>,
    runtime: Runtime,
}

/// The outcome of sending a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way.
    Yes,
    /// It is on its way, but the client has much unsent and does not read at the moment.
    Unread,
    /// The client is gone.
    Gone,
    /// The client reads too slowly: it misses this packet and is disconnected.
    TooSlow,
}

impl Sent {
    /// Whether the packet is on its way.
    pub const fn is_taken(self) -> bool {
        matches!(self, Self::Yes | Self::Unread)
    }
}

impl From<Pushed> for Sent {
    fn from(pushed: Pushed) -> Self {
        match pushed {
            Pushed::Taken => Self::Yes,
            Pushed::Unread => Self::Unread,
            Pushed::Gone => Self::Gone,
        }
    }
}

impl ClientSender {
    /// The sender to the client `id`, which is `socket` in this namespace; `observer` sees what it sends, `journal`
    /// remembers it. Must be called inside the runtime, after the library has sent its CONNECT packet.
    pub fn new(
        socket: &Arc<Socket>,
        id: ClientId,
        namespace: Arc<str>,
        wire: Wire,
        observer: Option<Arc<dyn Observer>>,
        journal: Option<Arc<Journal>>,
    ) -> Self {
        let account = Account::of(&socket.req_parts().extensions, wire.memory());
        Self {
            socket: Arc::downgrade(socket),
            id: id.clone(),
            namespace,
            v3: socket.protocol() == ProtocolVersion::V4,
            switch: TransportSwitch::new(wire.clone(), id, account.clone()),
            account,
            connection: socket.req_parts().extensions.get().cloned(),
            wire,
            observer,
            journal: journal.map(|journal| {
                let number = journal.count_connection();
                (journal, number)
            }),
            runtime: Runtime::current(),
        }
    }

    /// A sender without a socket: what is sent waits for the marker whose secret `write` is given, and `observer`
    /// sees it.
    #[cfg(test)]
    pub(crate) fn without_socket(
        id: ClientId,
        namespace: Arc<str>,
        wire: Wire,
        observer: Arc<dyn Observer>,
        write: impl FnOnce(&str),
    ) -> Self {
        let account = wire.memory().open_account();
        let switch = TransportSwitch::new(wire.clone(), id.clone(), account.clone());
        switch.send_marker(&mut switch.lock(), |secret| {
            write(secret);
            true
        });
        let runtime = Runtime::current();
        let (socket, v3, connection, observer) = (Weak::new(), false, None, Some(observer));
        let journal = None;
        Self {
            socket,
            id,
            namespace,
            v3,
            account,
            switch,
            connection,
            wire,
            observer,
            journal,
            runtime,
        }
    }

    /// Answers the client's CONNECT packet with its id, before anything else is sent. Clients of Engine.IO 3 get the
    /// library's answer, which has no id in it.
    pub fn greet(&self) -> Sent {
        if self.v3 {
            return Sent::Yes;
        }
        let answer = match &self.journal {
            None => format!("{{\"sid\":\"{}\"}}", self.id),
            Some((journal, _)) => {
                format!("{{\"sid\":\"{}\",\"pid\":\"{}\"}}", self.id, journal.pid())
            }
        };
        let frames = || self.wire.encode(Kind::Connect, &self.namespace, &[&answer], &[], self.v3);
        self.pass(|| Cow::Owned(frames()), None)
    }

    /// Hands over one packet; never waits.
    pub fn send(&self, packet: &Packet) -> Sent {
        self.send_in(packet, None, false)
    }

    /// The same for a packet that goes elsewhere if it does not reach this client: it is not kept for it then.
    pub fn offer(&self, packet: &Packet) -> Sent {
        self.send_in(packet, None, true)
    }

    /// Hands over a packet that goes to many, and counts the client among its readers; never waits.
    pub fn deliver(&self, packet: &Packet, delivery: &mut Delivery<'_>) -> Sent {
        let sent = self.send_in(packet, Some(delivery), false);
        if sent == Sent::Yes {
            delivery.reached();
        }
        sent
    }

    fn send_in(
        &self,
        packet: &Packet,
        delivery: Option<&Delivery<'_>>,
        only_reached: bool,
    ) -> Sent {
        let sent = match &self.journal {
            None => self.pass(|| packet.frames(&self.wire, &self.namespace, self.v3), delivery),
            Some((journal, number)) => {
                let (sent, asks) = journal.send(self, packet, delivery, only_reached);
                if let Some(end) = asks {
                    self.prove(journal.clone(), *number, end);
                }
                sent
            }
        };
        if let Some(observer) = self.observer.as_ref().filter(|_| sent.is_taken()) {
            observer.sent(&self.namespace, &self.id, packet);
        }
        sent
    }

    /// Acknowledges the client's event of this number with `data` as the only argument; never waits.
    pub fn acknowledge(&self, id: i64, data: &Payload) -> Sent {
        self.pass(
            || {
                let (text, end) = data.parts();
                let parts = ["[", text, end.as_deref().unwrap_or_default(), "]"];
                let (kind, attachments) = (Kind::Ack(id), data.attachments());
                Cow::Owned(self.wire.encode(kind, &self.namespace, &parts, attachments, self.v3))
            },
            None,
        )
    }

    /// Acknowledges the client's event of this number with the items of `list`, which is an array; never waits.
    pub fn acknowledge_with(&self, id: i64, list: &Payload) -> Sent {
        self.pass(
            || {
                let (kind, text, attachments) = (Kind::Ack(id), list.json(), list.attachments());
                Cow::Owned(self.wire.encode(kind, &self.namespace, &[&*text], attachments, self.v3))
            },
            None,
        )
    }

    /// Sends through the wire.
    pub(super) fn pass<'a>(
        &self,
        frames: impl FnOnce() -> Cow<'a, Frames>,
        delivery: Option<&Delivery<'_>>,
    ) -> Sent {
        let mut state = self.switch.lock();
        if state.closed {
            return Sent::Gone;
        }
        if matches!(state.way, Way::Library) {
            let Some(socket) = self.socket.upgrade() else { return Sent::Gone };
            match self.send_marker(&mut state, &socket) {
                Sent::Yes => {}
                Sent::TooSlow => {
                    self.give_up(state, Slow::Buffer);
                    return Sent::TooSlow;
                }
                gone => return gone,
            }
        }
        match &mut state.way {
            Way::Open(connection) => connection.push(&frames(), delivery).into(),
            Way::Waiting(waiting) => match waiting.push(frames().into_owned(), &self.wire) {
                Pushed::Gone => {
                    self.give_up(state, Slow::Buffer);
                    Sent::TooSlow
                }
                pushed => pushed.into(),
            },
            // Ruled out above.
            Way::Library => Sent::Gone,
        }
    }

    /// Switches to the wire: later packets wait for a marker. The library may have no room for the marker.
    fn send_marker(&self, state: &mut SwitchState, socket: &Arc<Socket>) -> Sent {
        let mut sent = Sent::Gone;
        self.switch.send_marker(state, |secret| {
            sent = outcome(acknowledge(socket, UPGRADE_MARKER, &(secret,)));
            sent == Sent::Yes
        });
        sent
    }

    fn give_up(&self, mut state: MutexGuard<'_, SwitchState>, why: Slow) {
        state.closed = true;
        drop(state);
        if !self.account.break_off(why) {
            self.account.mark_cut_off(why);
            self.disconnect_namespace();
        }
    }

    /// The account of the client's connection.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Why the client's connection was cut off, if it was.
    pub fn slow(&self) -> Option<Slow> {
        self.account.cut_off()
    }

    /// Ends the connection of a client that would miss messages without knowing: it reconnects by itself and joins
    /// its rooms anew. A namespace disconnect would stop it from reconnecting.
    pub fn break_off(&self) {
        self.spoil();
        self.lose();
    }

    /// Ends the client's connection to its namespace, after what was sent before. It cannot recover.
    pub fn disconnect(&self) {
        self.spoil();
        self.switch.close();
        self.disconnect_namespace();
    }

    /// Whether nothing more is sent: the client's session in its namespace is ending.
    pub fn is_closed(&self) -> bool {
        self.switch.lock().closed
    }

    /// Sends nothing more: the client's session in its namespace has ended.
    pub fn close(&self) {
        self.switch.close();
    }

    fn disconnect_namespace(&self) {
        let weak = self.socket.clone();
        // On its own task, because the library calls back, and because the packet itself needs room in the
        // library's channel. The heartbeat ends a client that never makes any.
        self.runtime.spawn(async move {
            while let Some(socket) = weak.upgrade().filter(|socket| socket.connected()) {
                if !matches!(socket.disconnect(), Err(SocketError::InternalChannelFull)) {
                    break;
                }
                tokio::time::sleep(DISCONNECT_RETRY).await;
            }
        });
    }

    /// The socket, unless it is gone.
    pub fn socket(&self) -> Option<Arc<Socket>> {
        self.socket.upgrade()
    }

    /// Whether nothing can be sent any more.
    pub fn is_over(&self) -> bool {
        self.switch.is_over() || self.connection.as_ref().is_some_and(Handle::is_over)
    }

    /// How much of a replay, a page or a queue to read from the store at once, in bytes; the next read waits
    /// for [`room`](Self::room).
    pub fn piece_bytes(&self) -> usize {
        PIECE.min(self.wire.limits().send_buffer / 4)
    }

    /// Waits until a replay or a page may continue: a client that is sent much at once is not slow.
    pub async fn room(&self) {
        tokio::select! {
            biased;
            () = self.switch.wait_below(ROOM.min(self.wire.limits().send_buffer / 4)) => {}
            // The client reconnects to another node and asks again.
            () = self.wire.hurried() => self.break_off(),
        }
    }

    /// Waits until the client has answered a probe sent behind everything before: the answer proves that the
    /// client has it all. False if the client goes first.
    pub async fn confirm_delivery(&self) -> bool {
        let how = if self.v3 { Ask::WebSocket } else { Ask::EngineIo };
        self.switch.confirm_delivery(how).await
    }

    /// Counts the client among the readers of this delivery, which has reached it already.
    pub fn count(&self, delivery: &mut Delivery<'_>) {
        if self.switch.count(delivery) == Pushed::Taken {
            delivery.reached();
        }
    }

    /// The client has left this audience.
    pub fn leave(&self, readers: &Arc<Readers>) {
        self.switch.leave(readers);
    }

    /// Stops reading from the client until the guard is dropped: what it sends waits on its side. `None` if
    /// that is not possible.
    pub fn pause(&self) -> Option<Pause> {
        self.switch.pause()
    }

    /// The number of bytes that wait to be sent, as far as it is known.
    pub fn unsent(&self) -> usize {
        self.switch.unsent()
    }

    /// `websocket` or `polling`: an upgrade changes it.
    pub fn transport(&self) -> &'static str {
        let polls = self.connection.as_ref().is_some_and(Handle::is_polled);
        if polls { "polling" } else { "websocket" }
    }
}

impl Drop for ClientSender {
    /// Packets that wait for a marker were sent before the end of the session, and still go out.
    fn drop(&mut self) {
        if self.switch.is_waiting() {
            let switch = self.switch.clone();
            self.runtime.spawn(async move { switch.wait_below(0).await });
        }
    }
}

/// Acknowledges through the library.
fn acknowledge<T: Serialize>(socket: &Arc<Socket>, id: i64, data: &T) -> Result<(), SendError> {
    let mut value = Value::Str("".into(), None);
    let Ok(sender) = <AckSender as FromMessageParts<LocalAdapter>>::from_message_parts(
        socket,
        &mut value,
        &Some(id),
    );
    sender.send(data)
}

fn outcome(result: Result<(), SendError>) -> Sent {
    match result {
        Ok(()) => Sent::Yes,
        Err(SendError::Socket(SocketError::InternalChannelFull)) => Sent::TooSlow,
        Err(SendError::Socket(SocketError::Closed)) => Sent::Gone,
        Err(SendError::Serialize(error)) => {
            // Payloads are checked at the gateway, so this is a fault of the server.
            tracing::error!(%error, "a packet could not be encoded");
            Sent::Gone
        }
    }
}

#[cfg(test)]
#[cfg(feature = "shuttle")]
pub(crate) mod shuttle_tests;
