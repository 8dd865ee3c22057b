//! One room: its members, and the one order in which they get its messages.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, Ordering},
    },
};

use indexmap::IndexMap;
use parking_lot::{Mutex, MutexGuard};
use socketioxide::socket::Sid;

use super::{Client, Spelling};
use crate::{
    clock::Timestamp, cluster::Attendance, names::RoomName, outlet::Packet, store::Epoch,
    wire::Readers,
};

/// How many messages are held for a client that is being brought up to date, before it is brought
/// up to date from the log once more instead.
const MAX_BACKLOG: usize = 512;

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
    state: Mutex<RoomState>,
    /// With other nodes: what keeps the room's channel open, for as long as the room lives.
    attendance: OnceLock<Attendance>,
}

/// A client in a room.
#[derive(Debug)]
pub struct Member {
    /// The client.
    pub client: Arc<Client>,
    /// How it joined.
    pub spelling: Spelling,
    /// The newest message that was sent to it or left it out, or that came before it: what comes
    /// late from the log up to here is not sent a second time.
    seen: u64,
}

/// A room's members. Its lock is the room's order: whoever delivers holds it from the first member
/// to the last.
#[derive(Debug, Default)]
pub struct RoomState {
    members: IndexMap<Sid, Member>,
    /// The clients that are being brought up to date from the log: what comes meanwhile waits here.
    backlogs: HashMap<Sid, Backlog>,
    /// The epoch of the newest message.
    epoch: Option<Epoch>,
    readers: Arc<Readers>,
    closed: bool,
}

#[derive(Debug)]
struct Backlog {
    client: Arc<Client>,
    packets: Vec<(u64, Packet)>,
    overflown: bool,
}

impl Room {
    pub(super) fn new(name: RoomName, namespace: Arc<str>, now: Timestamp) -> Self {
        Self {
            name,
            namespace,
            created_at: now,
            last_activity: AtomicI64::new(now.as_millis()),
            state: Mutex::default(),
            attendance: OnceLock::new(),
        }
    }

    /// Holds on to the room's channel for as long as the room lives.
    pub fn attend(&self, attendance: Attendance) {
        // One is enough: what comes second ends here.
        let _first = self.attendance.set(attendance);
    }

    /// The members, locked.
    pub fn lock(&self) -> MutexGuard<'_, RoomState> {
        self.state.lock()
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
    pub fn contains(&self, id: Sid) -> bool {
        self.members.contains_key(&id)
    }

    /// Makes the client a member; it gets what is delivered from now on.
    pub fn insert(&mut self, client: Arc<Client>, spelling: Spelling) {
        self.members.insert(client.id, Member { client, spelling, seen: 0 });
    }

    /// Takes the client out.
    ///
    /// Nothing happens where a newer client of the same connection, and so of its id, is the member.
    pub fn remove(&mut self, client: &Client) {
        let is_it = |known: &Client| std::ptr::eq(known, client);
        client.outlet.leave(&self.readers);
        if self.members.get(&client.id).is_some_and(|member| is_it(&member.client)) {
            self.members.swap_remove(&client.id);
        }
    }

    /// Sends to every member but those that `except` names; returns to how many.
    ///
    /// `number` is the offset of a room message in its epoch; a signal has none, and has no place among
    /// the messages that a member is being brought up to date with: it goes out at once.
    pub fn deliver(
        &mut self,
        packet: &Packet,
        number: Option<(u64, Epoch)>,
        except: impl Fn(&Client) -> bool,
    ) -> usize {
        if let Some((_, epoch)) = number {
            self.begin(epoch);
        }
        let offset = number.map(|(offset, _)| offset);
        let (mut sent, mut delivery) = (0, self.readers.begin());
        for (id, member) in &mut self.members {
            if let Some(offset) = offset {
                let held = !self.backlogs.is_empty() && self.backlogs.contains_key(id);
                if held || offset <= member.seen {
                    continue;
                }
                member.seen = offset;
            }
            if except(&member.client) {
                continue;
            }
            sent += usize::from(member.client.outlet.deliver(packet, &mut delivery).is_taken());
        }
        drop(delivery);
        if let Some(offset) = offset {
            for backlog in self.backlogs.values_mut() {
                if !except(&backlog.client) {
                    backlog.push(offset, packet);
                }
            }
        }
        sent
    }

    /// Those who read what is delivered: as long as most are behind, publishers should wait.
    pub fn readers(&self) -> &Arc<Readers> {
        &self.readers
    }

    /// A history that was forgotten, as nothing was said for long, begins again at 1.
    fn begin(&mut self, epoch: Epoch) {
        if self.epoch.replace(epoch).is_some_and(|before| before != epoch) {
            for member in self.members.values_mut() {
                member.seen = 0;
            }
        }
    }

    /// From now on holds the room's messages back for a client, member or not, that is about to be
    /// brought up to date. Returns for a member the newest message that it need not get any more.
    pub fn hold(&mut self, client: &Arc<Client>) -> Option<u64> {
        self.backlogs.insert(client.id, Backlog::of(client.clone()));
        self.members.get(&client.id).map(|member| member.seen)
    }

    /// Ends what [`hold`](Self::hold) began: `enter` is called, and then the client, if it is a
    /// member, is sent what came meanwhile and is newer than `seen`. Returns up to which message it
    /// is now up to date; `None`, with nothing done, where more came than is held: the log must be
    /// read again (the holding goes on).
    pub fn release(&mut self, id: Sid, seen: u64, enter: impl FnOnce(&mut Self)) -> Option<u64> {
        let backlog = self.backlogs.remove(&id)?;
        if backlog.overflown {
            self.hold(&backlog.client);
            return None;
        }
        enter(self);
        let Some(member) = self.members.get_mut(&id) else { return Some(seen) };
        member.seen = seen;
        member.catch_up(backlog);
        Some(member.seen)
    }

    /// Ends what [`hold`](Self::hold) began, where the client was not brought up to date: to a
    /// member nothing has happened, so it gets what came meanwhile.
    pub fn abandon(&mut self, id: Sid) {
        let Some(backlog) = self.backlogs.remove(&id) else { return };
        let Some(member) = self.members.get_mut(&id) else { return };
        if backlog.overflown {
            // It would miss messages unawares: it comes back and recovers.
            member.client.outlet.break_off();
        } else {
            member.catch_up(backlog);
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether nobody is in it, nor about to be.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.backlogs.is_empty()
    }

    pub(super) fn close_if_empty(&mut self) -> bool {
        let closes = self.is_empty() && !self.closed;
        self.closed |= closes;
        closes
    }
}

impl Member {
    fn catch_up(&mut self, backlog: Backlog) {
        for (offset, packet) in backlog.packets {
            if offset > self.seen {
                self.client.outlet.send(&packet);
                self.seen = offset;
            }
        }
    }
}

impl Backlog {
    fn of(client: Arc<Client>) -> Self {
        Self { client, packets: Vec::new(), overflown: false }
    }

    fn push(&mut self, offset: u64, packet: &Packet) {
        if self.overflown {
            return;
        }
        if self.packets.len() < MAX_BACKLOG {
            self.packets.push((offset, packet.clone()));
        } else {
            self.packets = Vec::new();
            self.overflown = true;
        }
    }
}
