//! One client: a Socket.IO socket in one namespace.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::{task::AbortHandle, time::Instant};

use super::{Namespace, Room, Session};
use crate::{
    hub::sender::ClientSender,
    limits::SenderId,
    memory::Charge,
    protocol::{
        audience::Except,
        client_id::ClientId,
        names::{RoomName, UserId},
        payload::Payload,
        permissions::Right,
        refusal::Refusal,
        timestamp::Timestamp,
    },
    telemetry::event_log::{Entry, Kind},
};

/// The event style in which a client joined a room; it gets the room's events in the same style.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventStyle {
    /// `join-room`, `watch-resource`: answered by `room-joined`, `user-joined`.
    Dashed,
    /// `joinRoom`: answered by `joinedRoom`, `userJoinedRoom`.
    Camel,
}

impl EventStyle {
    /// The style of a client's event by its name.
    pub fn of(event: &str) -> Self {
        if event.bytes().any(|byte| byte.is_ascii_uppercase()) { Self::Camel } else { Self::Dashed }
    }
}

/// A client's place in a room.
#[derive(Debug, Clone)]
pub struct Membership {
    /// The room.
    pub room: Arc<Room>,
    /// How it was joined.
    pub style: EventStyle,
    /// The room's name in JSON as the client gave it, which answers repeat.
    pub echo: Arc<str>,
    /// A backend has put the client into it: it stays, whatever the client's permissions.
    pub is_granted: bool,
}

/// One Socket.IO socket.
#[derive(Debug)]
pub struct Client {
    /// Its public id.
    pub id: ClientId,
    /// The namespace it is connected to.
    pub namespace: Arc<Namespace>,
    /// What it is called: from its token or its handshake.
    pub name: Arc<str>,
    /// The Engine.IO protocol revision that it speaks: 3 or 4.
    pub protocol: u8,
    /// The address it connected from, where known.
    pub address: Option<IpAddr>,
    /// When it connected.
    pub connected_at: Timestamp,
    /// The only way to send to it.
    pub sender: ClientSender,
    last_activity: AtomicI64,
    session: Mutex<Session>,
    memberships: Mutex<HashMap<RoomName, Membership>>,
    typing: Mutex<HashSet<RoomName>>,
    /// The task that ends the connection when the token expires.
    expiry: Mutex<Option<AbortHandle>>,
    /// What its application's backend keeps with it.
    application: Mutex<Application>,
    /// The newest message of its user's queue that it was sent, by its number there.
    queue_sent: AtomicU64,
    gone: OnceLock<Instant>,
    /// Its application's backend was told that it has gone.
    end_told: AtomicBool,
    /// Why it is being disconnected on purpose.
    ended: OnceLock<Cow<'static, str>>,
}

/// What an application's backend keeps with a client.
#[derive(Debug, Default)]
struct Application {
    /// An object; none at first.
    data: Option<Arc<RawValue>>,
    /// The handshake, where the backend is told it with every event.
    handshake: Option<Arc<RawValue>>,
    /// The bytes of both, on the client's account.
    _charge: Option<Charge>,
}

impl Client {
    /// A client that has just connected.
    #[allow(
        clippy::too_many_arguments,
        reason = "the facts of a connection, each named at its one call"
    )]
    pub fn new(
        id: ClientId,
        namespace: Arc<Namespace>,
        name: Arc<str>,
        protocol: u8,
        address: Option<IpAddr>,
        sender: ClientSender,
        session: Session,
    ) -> Self {
        let now = Timestamp::now();
        Self {
            id,
            namespace,
            name,
            protocol,
            address,
            connected_at: now,
            sender,
            last_activity: AtomicI64::new(now.as_millis()),
            session: Mutex::new(session),
            memberships: Mutex::default(),
            typing: Mutex::default(),
            expiry: Mutex::default(),
            application: Mutex::default(),
            queue_sent: AtomicU64::new(0),
            gone: OnceLock::new(),
            end_told: AtomicBool::new(false),
            ended: OnceLock::new(),
        }
    }

    /// Ends its connection to its namespace on purpose, after what was sent before.
    pub fn disconnect(&self, reason: impl Into<Cow<'static, str>>) {
        self.note_end(reason);
        self.sender.disconnect();
    }

    /// Remembers why it will be disconnected on purpose. The first reason counts.
    pub fn note_end(&self, reason: impl Into<Cow<'static, str>>) {
        let _first = self.ended.set(reason.into());
    }

    /// Why it was disconnected on purpose, if it was.
    pub fn ended(&self) -> Option<&Cow<'static, str>> {
        self.ended.get()
    }

    /// Remembers that its connection has ended. Events that it sent before may still wait.
    pub fn mark_gone(&self) {
        let _first = self.gone.set(Instant::now());
    }

    /// Whether its application's backend is still to be told that it has gone; true once.
    pub fn tell_end_once(&self) -> bool {
        !self.end_told.swap(true, Ordering::Relaxed)
    }

    /// When its connection ended, if it has.
    pub fn gone_at(&self) -> Option<Instant> {
        self.gone.get().copied()
    }

    /// The newest message of its user's queue that it was sent, on a former connection at the least; 0 if none.
    pub fn queue_sent(&self) -> u64 {
        self.queue_sent.load(Ordering::Relaxed)
    }

    /// Remembers the newest message of its user's queue that it was sent.
    pub fn note_queue_sent(&self, seq: u64) {
        self.queue_sent.fetch_max(seq, Ordering::Relaxed);
    }

    /// The object that the application's backend keeps with it.
    pub fn data(&self) -> Option<Arc<RawValue>> {
        self.application.lock().data.clone()
    }

    /// The handshake, where it is kept.
    pub fn handshake(&self) -> Option<Arc<RawValue>> {
        self.application.lock().handshake.clone()
    }

    /// Replaces the object that the application's backend keeps with it.
    pub fn set_data(&self, data: Arc<RawValue>) {
        let handshake = self.handshake();
        self.keep(Some(data), handshake);
    }

    /// Keeps the handshake.
    pub fn set_handshake(&self, handshake: Arc<RawValue>) {
        let data = self.data();
        self.keep(data, Some(handshake));
    }

    fn keep(&self, data: Option<Arc<RawValue>>, handshake: Option<Arc<RawValue>>) {
        let bytes = [&data, &handshake].into_iter().flatten().map(|kept| kept.get().len()).sum();
        let charge = self.sender.account().charge_incoming(bytes);
        *self.application.lock() = Application { data, handshake, _charge: charge };
    }

    /// Acknowledges the client's event of this number, where the client asks for that.
    pub fn acknowledge(&self, ack: Option<i64>, answer: &Payload) {
        if let Some(id) = ack {
            self.sender.acknowledge(id, answer);
        }
    }

    /// Acknowledges the client's event of this number with these arguments, where the client asks for that.
    pub fn acknowledge_with(&self, ack: Option<i64>, list: &Payload) {
        if let Some(id) = ack {
            self.sender.acknowledge_with(id, list);
        }
    }

    /// The user, once known.
    pub fn user(&self) -> Option<UserId> {
        self.session.lock().user.clone()
    }

    /// The sender that is charged for what it stores: its user if `users_prove` who they are, else its
    /// address.
    pub fn sender_id(&self, users_prove: bool) -> SenderId {
        match self.user().filter(|_| users_prove) {
            Some(user) => SenderId::User(user),
            None => SenderId::at(self.address),
        }
    }

    /// Who it is and what it may do, at this moment.
    pub fn session(&self) -> Session {
        self.session.lock().clone()
    }

    /// Replaces who it is and what it may do.
    pub fn set_session(&self, session: Session) {
        *self.session.lock() = session;
    }

    /// Replaces the task that watches for the end of its token.
    pub fn set_expiry(&self, watch: Option<AbortHandle>) {
        if let Some(before) = std::mem::replace(&mut *self.expiry.lock(), watch) {
            before.abort();
        }
    }

    /// Whether it has this right to `room`.
    pub fn may(&self, right: Right, room: &RoomName) -> bool {
        let session = self.session.lock();
        session.permissions.allows(right, room)
            || right == Right::Join && session.join.contains(room)
    }

    /// Refuses a room to which its permissions do not give this right.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn permit(&self, right: Right, room: &RoomName) -> Result<(), Refusal> {
        if self.may(right, room) {
            return Ok(());
        }
        let message = format!(
            "the room \"{room}\" is not permitted ({}): see the token's \"rooms\" and ROOMS_DEFAULT or, without a token, ANONYMOUS_ROOMS",
            right.as_str()
        );
        Err(Refusal::forbidden(message))
    }

    /// Refuses to send to everyone if its permissions name rooms.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn permit_namespace(&self) -> Result<(), Refusal> {
        if self.session.lock().permissions.restricted() {
            return Err(Refusal::forbidden(
                "sending to the whole namespace is not permitted: the token or ANONYMOUS_ROOMS permits only some rooms, so name one of them",
            ));
        }
        Ok(())
    }

    /// Remembers that it has just sent something.
    pub fn touch(&self) {
        self.last_activity.store(Timestamp::now().as_millis(), Ordering::Relaxed);
    }

    /// When it last sent something.
    pub fn last_activity(&self) -> Timestamp {
        Timestamp::from_millis(self.last_activity.load(Ordering::Relaxed))
    }

    /// Its place in the room of this name, if it is a member.
    pub fn membership(&self, room: &RoomName) -> Option<Membership> {
        self.memberships.lock().get(room).cloned()
    }

    /// Whether `except` leaves it out.
    pub fn is_left_out(&self, except: &Except) -> bool {
        except.clients.contains(&self.id)
            || (!except.users.is_empty()
                && self.user().is_some_and(|user| except.users.contains(&user)))
            || (except.namespace.as_ref().is_none_or(|path| *path == self.namespace.path)
                && except.rooms.iter().any(|room| self.is_in(room.as_str())))
    }

    /// The names of its rooms, in no order.
    pub fn rooms(&self) -> Vec<RoomName> {
        self.memberships.lock().keys().cloned().collect()
    }

    /// Whether it is in a room of this name.
    pub fn is_in(&self, room: &str) -> bool {
        self.memberships.lock().contains_key(room)
    }

    /// The number of its rooms.
    pub fn room_count(&self) -> usize {
        self.memberships.lock().len()
    }

    /// Adds a membership.
    pub fn add_membership(&self, room: RoomName, membership: Membership) {
        self.memberships.lock().insert(room, membership);
    }

    /// Keeps it in a room from now on, whatever its permissions.
    pub fn grant(&self, room: &RoomName) {
        if let Some(membership) = self.memberships.lock().get_mut(room) {
            membership.is_granted = true;
        }
    }

    /// Removes a membership.
    pub fn remove_membership(&self, room: &RoomName) -> Option<Membership> {
        self.memberships.lock().remove(room)
    }

    /// Remembers whether it is typing in `room`; returns whether it was.
    pub fn set_typing(&self, room: &RoomName, typing: bool) -> bool {
        let mut rooms = self.typing.lock();
        if typing { !rooms.insert(room.clone()) } else { rooms.remove(room) }
    }

    /// The beginning of a line of the event log about this client.
    pub fn entry(&self, kind: Kind) -> Entry<'_> {
        Entry {
            client_id: Some(self.id.to_string().into()),
            user_id: self.user(),
            namespace: Some(Cow::Borrowed(&self.namespace.path)),
            address: self.address,
            transport: Some(self.sender.transport()),
            ..Entry::new(kind)
        }
    }
}
