//! One room: its members, and the one order in which they get its messages.

use std::{
    any::Any,
    collections::HashMap,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{Client, EventStyle};
use crate::{
    hub::packet::Packet,
    memory::Charge,
    protocol::{
        client_id::ClientId, epoch::Epoch, names::RoomName, position::Position,
        timestamp::Timestamp,
    },
    sync::{Mutex, MutexGuard},
    transport::Readers,
};

/// How many messages a backlog holds for a client that is catching up. Beyond that, the client catches up
/// from the log once more instead.
const MAX_BACKLOG: usize = 512;

/// A backlog holds at most 1/`BACKLOG_PART` of the bytes that a client may have unsent.
const BACKLOG_PART: usize = 4;

/// A room with at least one member, or one about to be.
#[derive(Debug)]
pub struct Room {
    /// Its name.
    pub name: RoomName,
    /// The path of its namespace.
    pub namespace: Arc<str>,
    /// When its first member came.
    pub created_at: Timestamp,
    last_activity: AtomicI64,
    /// It has no member, but one that may come back; set under its lock.
    is_vacant: AtomicBool,
    state: Mutex<RoomState>,
    subscription: OnceLock<Subscription>,
}

/// The room's subscription in the cluster: opaque here, it ends when it is dropped.
struct Subscription(#[expect(dead_code, reason = "held for its Drop")] Box<dyn Any + Send + Sync>);

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription")
    }
}

/// A client in a room.
#[derive(Debug)]
pub struct Member {
    /// The client.
    pub client: Arc<Client>,
    /// How it joined.
    pub style: EventStyle,
    seen: Seen,
}

/// What a member must not be sent, however late it comes from the log: messages that were sent already, left
/// the member out, or came before it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Up to here; `None` without history.
    newest: Option<Position>,
    /// And up to here in the epoch before.
    before: Option<Position>,
}

/// A room's members. Its lock is the room's order: a delivery holds it from the first member to the last.
#[derive(Debug, Default)]
pub struct RoomState {
    members: IndexMap<ClientId, Member>,
    /// The members that have lost their connection and may come back: they get what is kept.
    lost: IndexMap<ClientId, Member>,
    /// The clients that are catching up from the log, with the messages that came meanwhile.
    backlogs: HashMap<ClientId, Backlog>,
    /// The epoch of the newest delivered message; before the first one, of a member's join position.
    epoch: Option<Epoch>,
    readers: Arc<Readers>,
    closed: bool,
}

#[derive(Debug)]
struct Backlog {
    client: Arc<Client>,
    /// The room's epoch when this began.
    epoch: Option<Epoch>,
    /// Messages that leave the client out have no packet.
    messages: Vec<(Position, Option<Packet>)>,
    /// Their bytes.
    charge: Charge,
    overflown: bool,
    /// Messages were dropped since delivery was first paused: they are in the log.
    has_gap: bool,
}

impl Room {
    pub(super) fn new(name: RoomName, namespace: Arc<str>, now: Timestamp) -> Self {
        Self {
            name,
            namespace,
            created_at: now,
            last_activity: AtomicI64::new(now.as_millis()),
            is_vacant: AtomicBool::new(false),
            state: Mutex::default(),
            subscription: OnceLock::new(),
        }
    }

    /// Keeps the subscription as long as the room exists. The first one stays; later ones end here.
    pub fn keep_subscription(&self, subscription: impl Any + Send + Sync) {
        let _first = self.subscription.set(Subscription(Box::new(subscription)));
    }

    /// The members, locked.
    pub fn lock(&self) -> MutexGuard<'_, RoomState> {
        self.state.lock()
    }

    /// Whether it has no member, but one that may come back.
    pub fn is_vacant(&self) -> bool {
        self.is_vacant.load(Ordering::Relaxed)
    }

    pub(super) fn set_vacant(&self, is_vacant: bool) {
        self.is_vacant.store(is_vacant, Ordering::Relaxed);
    }

    /// Remembers that something has just happened here.
    pub fn touch(&self) {
        self.last_activity.store(Timestamp::now().as_millis(), Ordering::Relaxed);
    }

    /// When a message or a signal last came.
    pub fn last_activity(&self) -> Timestamp {
        Timestamp::from_millis(self.last_activity.load(Ordering::Relaxed))
    }
}

impl RoomState {
    /// The members, in no order that matters.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.values()
    }

    /// Whether the client is a member.
    pub fn contains(&self, id: &ClientId) -> bool {
        self.members.contains_key(id)
    }

    /// Makes the client a member; it gets what is delivered from now on.
    pub fn insert(&mut self, client: Arc<Client>, style: EventStyle) {
        self.members.insert(client.id.clone(), Member { client, style, seen: Seen::default() });
    }

    /// Takes the client out; one that may come back goes on getting what is kept.
    ///
    /// A newer client of the same connection, and so with the same id, stays a member.
    pub fn remove(&mut self, client: &Client) {
        let is_it = |known: &Client| std::ptr::eq(known, client);
        client.sender.leave(&self.readers);
        if self.members.get(&client.id).is_some_and(|member| is_it(&member.client))
            && let Some(member) = self.members.swap_remove(&client.id)
            && client.sender.may_come_back()
        {
            self.lost.insert(client.id.clone(), member);
        }
    }

    /// Makes the client a member again, where it was before its connection was lost.
    pub fn insert_again(&mut self, client: Arc<Client>, style: EventStyle) {
        let before = self.lost.swap_remove(&client.id);
        let seen = before.map(|member| member.seen).unwrap_or_default();
        self.members.insert(client.id.clone(), Member { client, style, seen });
    }

    /// Makes a client of another node, which has lost its connection there, a member that may come back here.
    pub fn insert_lost(&mut self, client: Arc<Client>, style: EventStyle) {
        self.lost.insert(client.id.clone(), Member { client, style, seen: Seen::default() });
    }

    /// What a member that was lost must not be sent any more.
    pub fn seen_by_lost(&self, client: &Client) -> Option<Seen> {
        Some(self.lost.get(&client.id)?.seen)
    }

    /// A member that was lost has seen this on another node; false if it is not known what is newer, this or what it
    /// has seen here.
    pub fn add_seen_by_lost(&mut self, client: &Client, seen: Seen) -> bool {
        let member = self.lost.get_mut(&client.id);
        member.is_some_and(|member| member.seen.add(seen))
    }

    /// Forgets a member that was lost and will not come back.
    pub fn forget(&mut self, client: &Client) {
        let is_it = |known: &Client| std::ptr::eq(known, client);
        if self.lost.get(&client.id).is_some_and(|member| is_it(&member.client)) {
            self.lost.swap_remove(&client.id);
        }
    }

    /// The members that were lost and may come back.
    pub fn lost(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.lost.values()
    }

    /// Sends to every member except those that `except` matches; returns the number of recipients.
    ///
    /// `position` is that of a room message. A signal has none and goes out at once, even to a member that is
    /// catching up.
    pub fn deliver(
        &mut self,
        packet: &Packet,
        position: Option<Position>,
        except: impl Fn(&Client) -> bool,
    ) -> usize {
        self.epoch = position.map(|position| position.epoch).or(self.epoch);
        let (mut sent, mut delivery) = (0, self.readers.begin());
        for (id, member) in &mut self.members {
            if let Some(position) = position {
                let held = !self.backlogs.is_empty() && self.backlogs.contains_key(id);
                if held || member.seen.covers(position) {
                    continue;
                }
                member.seen.note(position);
            }
            if except(&member.client) {
                continue;
            }
            sent += usize::from(member.client.sender.deliver(packet, &mut delivery).is_taken());
        }
        drop(delivery);
        if packet.is_kept() {
            self.keep_for_lost(packet, position, &except);
        }
        if let Some(position) = position {
            for backlog in self.backlogs.values_mut() {
                let packet = (!except(&backlog.client)).then_some(packet);
                backlog.push(position, packet);
            }
        }
        sent
    }

    fn keep_for_lost(
        &mut self,
        packet: &Packet,
        position: Option<Position>,
        except: impl Fn(&Client) -> bool,
    ) {
        for member in self.lost.values_mut() {
            if let Some(position) = position {
                if member.seen.covers(position) {
                    continue;
                }
                member.seen.note(position);
            }
            if !except(&member.client) {
                member.client.sender.send(packet);
            }
        }
    }

    /// The readers of what is delivered: publishers should wait while most are behind.
    pub fn readers(&self) -> &Arc<Readers> {
        &self.readers
    }

    /// Pauses the delivery of the room's messages to a client, member or not, that is about to catch up.
    /// Returns, for a member, the newest message that it need not get any more.
    pub fn pause_delivery(&mut self, client: &Arc<Client>) -> Option<Position> {
        self.backlogs.insert(client.id.clone(), Backlog::of(client.clone(), self.epoch));
        self.members.get(&client.id)?.seen.newest
    }

    /// Ends [`pause_delivery`](Self::pause_delivery): calls `enter` with the client's join position, and then
    /// sends the client, if it is a member, the messages that came meanwhile and lie after that position.
    ///
    /// The client is up to date up to `from`, which was read from the log after the pause began; without
    /// `from`, a member keeps its position. Returns false, with nothing done and delivery still paused, if
    /// the log must be read again: the backlog has overflowed, or is of an epoch that may be older or newer
    /// than `from`.
    pub fn resume_delivery(
        &mut self,
        id: &ClientId,
        from: Option<Position>,
        enter: impl FnOnce(&mut Self, Position),
    ) -> bool {
        let Some(mut backlog) = self.backlogs.remove(id) else { return false };
        let seen = match from {
            _ if backlog.overflown => None,
            Some(from) => backlog.begin_at(from, self.epoch),
            None => self.members.get(id).map(|member| member.seen),
        };
        let Some((seen, position)) = seen.and_then(|seen| Some((seen, seen.newest?))) else {
            self.pause_delivery(&backlog.client);
            if let Some(begun_anew) = self.backlogs.get_mut(id) {
                begun_anew.has_gap = true;
            }
            return false;
        };
        self.epoch.get_or_insert(position.epoch);
        enter(self, position);
        if let Some(member) = self.members.get_mut(id) {
            member.seen = seen;
            member.catch_up(backlog);
        }
        true
    }

    /// Ends [`pause_delivery`](Self::pause_delivery) without catching up: a member keeps its position and
    /// gets what came meanwhile.
    pub fn abandon(&mut self, id: &ClientId) {
        let Some(backlog) = self.backlogs.remove(id) else { return };
        let Some(member) = self.members.get_mut(id) else { return };
        if backlog.overflown || backlog.has_gap {
            // The member would miss messages without knowing: it reconnects and recovers.
            member.client.sender.break_off();
        } else {
            member.catch_up(backlog);
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether it has no member and no client that is catching up.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.backlogs.is_empty()
    }

    pub(super) fn close_if_empty(&mut self) -> bool {
        let closes = self.is_empty() && self.lost.is_empty() && !self.closed;
        self.closed |= closes;
        closes
    }
}

impl Member {
    fn catch_up(&mut self, backlog: Backlog) {
        for (position, packet) in backlog.messages {
            if self.seen.covers(position) {
                continue;
            }
            self.seen.note(position);
            if let Some(packet) = packet {
                self.client.sender.send(&packet);
            }
        }
    }
}

impl Seen {
    /// Whether nothing is missing of what came up to this position.
    pub fn reaches(&self, position: Position) -> bool {
        position.offset == 0 || self.covers(position)
    }

    /// Adds what was seen elsewhere; false, with nothing changed, if it is not known what is newer.
    fn add(&mut self, other: Self) -> bool {
        match (self.newest, other.newest) {
            (None, _) => *self = other,
            (Some(_), None) => {}
            (Some(own), Some(newest)) if own.epoch == newest.epoch => {
                self.newest = Some(own.at(own.offset.max(newest.offset)));
                self.before = self.before.or(other.before);
            }
            (Some(_), Some(_)) => return false,
        }
        true
    }

    /// Whether the message at this position is not to be sent.
    pub fn covers(&self, message: Position) -> bool {
        let covers = |seen: Option<Position>| seen.is_some_and(|seen| seen.covers(message));
        covers(self.newest) || covers(self.before)
    }

    /// Notes the message at this position.
    pub fn note(&mut self, message: Position) {
        let newest = self.newest.replace(message);
        if newest.is_some_and(|newest| newest.epoch != message.epoch) {
            self.before = newest;
        }
    }
}

impl Backlog {
    fn of(client: Arc<Client>, epoch: Option<Epoch>) -> Self {
        let charge = client.sender.account().charge_outgoing(0);
        let messages = Vec::new();
        Self { client, epoch, messages, charge, overflown: false, has_gap: false }
    }

    fn push(&mut self, position: Position, packet: Option<&Packet>) {
        if self.overflown {
            return;
        }
        let most = self.client.sender.account().limits().outgoing / BACKLOG_PART;
        self.charge.add(packet.map_or(0, |packet| packet.payload().size()));
        let fits = self.messages.len() < MAX_BACKLOG && self.charge.bytes() <= most;
        if fits || self.messages.is_empty() {
            self.messages.push((position, packet.cloned()));
        } else {
            self.messages = Vec::new();
            self.charge.give_back(usize::MAX);
            self.overflown = true;
        }
    }

    /// Drops what is older than `from`, and returns what a client that is up to date up to `from` has seen;
    /// `None` if it is unknown what is older.
    ///
    /// Epochs have no order of their own. It follows from their sequence in the room, and from `from` being
    /// read after the backlog began. `now` is the room's epoch.
    fn begin_at(&mut self, from: Position, now: Option<Epoch>) -> Option<Seen> {
        let newest = Some(from);
        let is_of = |epoch| move |(position, _): &(Position, _)| position.epoch == epoch;
        if let Some(reached) = self.messages.iter().position(is_of(from.epoch)) {
            self.messages.drain(..reached);
            return Some(Seen { newest, before: None });
        }
        match self.epoch {
            // The whole backlog is newer.
            Some(epoch) if epoch == from.epoch => Some(Seen { newest, before: None }),
            // The log has begun a new epoch that the room has not seen yet: everything of the old one, here
            // or still to come, is older.
            Some(epoch) if self.messages.iter().all(is_of(epoch)) => {
                self.messages.clear();
                Some(Seen { newest, before: Some(Position { offset: u64::MAX, epoch }) })
            }
            None if self.messages.is_empty() && now.is_none_or(|now| now == from.epoch) => {
                Some(Seen { newest, before: None })
            }
            _ => None,
        }
    }
}
