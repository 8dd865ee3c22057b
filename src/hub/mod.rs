//! The registry: clients, rooms and users of this node.
//!
//! Invariants:
//! - every entry is tied to a live connection: a client is entered when its connection is
//!   established and removed, with its memberships and its user's binding, when it ends;
//! - a client's memberships are changed by that client's inbox alone, one event at a time;
//! - locks are taken in the order namespace map, then room, and never across an await.

pub mod acknowledgement;
mod client;
mod journals;
pub mod observer;
pub mod packet;
mod patterns;
mod room;
pub mod sender;
mod session;
mod users;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use self::patterns::Patterns;
pub use self::{
    client::{Client, EventStyle, Membership},
    journals::Journals,
    patterns::{Hooks, Stay},
    room::{Member, Room, RoomState, Seen},
    session::{Said, Session},
    users::{Status, User, Users},
};
use crate::{
    hub::packet::Packet,
    protocol::{
        client_id::ClientId,
        names::RoomName,
        refusal::{Code, Refusal},
        timestamp::Timestamp,
    },
    store::RoomKey,
    sync::{Mutex, RwLock},
    transport::Readers,
};

/// Everything that is connected to this node.
#[derive(Debug)]
pub struct Registry {
    fixed: Vec<Arc<Namespace>>,
    patterns: Patterns,
    /// The users that have clients here, or had one a moment ago.
    pub users: Users,
    /// What clients were sent, where their connections may be recovered.
    pub journals: Journals,
}

impl Registry {
    /// A registry of these namespaces, and of those that a path with `*` allows, with at most `max_rooms` rooms (0: no limit).
    pub fn new(paths: &[String], max_rooms: u64) -> Self {
        let max = if max_rooms == 0 {
            usize::MAX
        } else {
            usize::try_from(max_rooms).unwrap_or(usize::MAX)
        };
        let quota = Arc::new(Quota { max, live: AtomicUsize::new(0) });
        let is_pattern = |path: &&String| path.contains('*');
        let fixed = paths.iter().filter(|path| !is_pattern(path));
        let fixed =
            fixed.map(|path| Arc::new(Namespace::new(path, path.as_str().into(), quota.clone())));
        Self {
            fixed: fixed.collect(),
            patterns: Patterns::new(paths.iter().filter(is_pattern), quota),
            users: Users::default(),
            journals: Journals::default(),
        }
    }

    /// The namespaces at this moment: in the order of the configuration, then those that are open by a pattern.
    pub fn namespaces(&self) -> Vec<Arc<Namespace>> {
        let mut namespaces = self.fixed.clone();
        namespaces.extend(self.patterns.open());
        namespaces
    }

    /// The names that stand for namespaces in metrics: their paths, and the patterns.
    pub fn labels(&self) -> impl Iterator<Item = &Arc<str>> {
        self.fixed.iter().map(|namespace| &namespace.path).chain(self.patterns.labels())
    }

    /// The namespace at `path`, if it is open.
    pub fn namespace(&self, path: &str) -> Option<Arc<Namespace>> {
        self.fixed(path).cloned().or_else(|| self.patterns.find(path))
    }

    /// The namespace at `path`; one that only a pattern allows may be open nowhere.
    pub fn address(&self, path: &str) -> Option<Arc<Namespace>> {
        self.namespace(path).or_else(|| self.patterns.make(path))
    }

    /// How many namespaces are open by a pattern.
    pub fn open_count(&self) -> usize {
        self.patterns.open_count()
    }

    fn fixed(&self, path: &str) -> Option<&Arc<Namespace>> {
        self.fixed.iter().find(|namespace| &*namespace.path == path)
    }

    /// The clients with this id: one, or those of a connection of Socket.IO 1, which has one id in all namespaces.
    pub fn clients(&self, id: &ClientId) -> Vec<Arc<Client>> {
        self.namespaces().iter().filter_map(|namespace| namespace.client(id)).collect()
    }

    /// The clients with this id, and those that have lost their connection and may come back.
    pub fn clients_and_lost(&self, id: &ClientId) -> Vec<Arc<Client>> {
        self.namespaces().iter().filter_map(|namespace| namespace.client_or_lost(id)).collect()
    }

    /// The clients of all namespaces at this moment.
    pub fn all_clients(&self) -> Vec<Arc<Client>> {
        self.namespaces().iter().flat_map(|namespace| namespace.clients()).collect()
    }

    /// The clients of the connections that these are on, in all namespaces.
    pub fn on_connections_of(&self, clients: &[Arc<Client>]) -> Vec<Arc<Client>> {
        let connection = |client: &Arc<Client>| client.sender.account().id();
        let connections = clients.iter().map(connection).collect::<HashSet<_>>();
        let mut all = self.all_clients();
        all.retain(|client| connections.contains(&connection(client)));
        all
    }

    /// The number of clients over all namespaces.
    pub fn connections(&self) -> usize {
        self.namespaces().iter().map(|namespace| namespace.connections()).sum()
    }
}

/// How many rooms there are and may be, over all namespaces.
#[derive(Debug)]
struct Quota {
    max: usize,
    live: AtomicUsize,
}

impl Quota {
    /// Counts one more room; fails with the number of rooms if that is too many.
    fn take(&self) -> Result<(), usize> {
        let taken =
            self.live.fetch_update(Relaxed, Relaxed, |live| (live < self.max).then_some(live + 1));
        taken.map(|_| ())
    }

    fn give_back(&self) {
        self.live.fetch_sub(1, Relaxed);
    }
}

/// One namespace: its clients and its rooms.
#[derive(Debug)]
pub struct Namespace {
    /// The namespace's path, `/` or `/chat`.
    pub path: Arc<str>,
    /// The name that it has in metrics: its path, or the pattern that allows it.
    pub label: Arc<str>,
    clients: RwLock<Clients>,
    rooms: RwLock<HashMap<RoomName, Arc<Room>>>,
    /// How many of the rooms have no member, but somebody who may come back.
    vacant: AtomicUsize,
    quota: Arc<Quota>,
    /// Held while a packet goes to everyone, so that all see the same order of such packets.
    everyone: Mutex<()>,
    readers: Arc<Readers>,
}

/// The clients of a namespace.
#[derive(Debug, Default)]
struct Clients {
    connected: HashMap<ClientId, Arc<Client>>,
    /// Those that have lost their connection and may come back: they get what is kept.
    lost: HashMap<ClientId, Arc<Client>>,
}

impl Namespace {
    fn new(path: &str, label: Arc<str>, quota: Arc<Quota>) -> Self {
        Self {
            path: path.into(),
            label,
            clients: RwLock::default(),
            rooms: RwLock::default(),
            vacant: AtomicUsize::new(0),
            quota,
            everyone: Mutex::default(),
            readers: Arc::default(),
        }
    }

    /// Enters a client that has connected, in the place of the same one that was lost.
    pub fn add(&self, client: Arc<Client>) {
        let mut clients = self.clients.write();
        clients.lost.remove(&client.id);
        clients.connected.insert(client.id.clone(), client);
    }

    /// Removes a client that has gone.
    ///
    /// Does nothing if another client has its id: a connection that left the namespace and came back is a new
    /// client with the same id, which must stay.
    pub fn remove(&self, client: &Arc<Client>) {
        {
            let mut clients = self.clients.write();
            if clients.connected.get(&client.id).is_some_and(|known| Arc::ptr_eq(known, client)) {
                clients.connected.remove(&client.id);
                if client.sender.may_come_back() {
                    clients.lost.insert(client.id.clone(), client.clone());
                }
            }
        }
        client.sender.leave(&self.readers);
    }

    /// Enters a client that was lost on another node and may come back here.
    pub fn add_lost(&self, client: Arc<Client>) {
        self.clients.write().lost.insert(client.id.clone(), client);
    }

    /// Forgets a client that was lost and will not come back.
    pub fn forget(&self, client: &Arc<Client>) {
        let mut clients = self.clients.write();
        if clients.lost.get(&client.id).is_some_and(|known| Arc::ptr_eq(known, client)) {
            clients.lost.remove(&client.id);
        }
    }

    /// The client with this id.
    pub fn client(&self, id: &ClientId) -> Option<Arc<Client>> {
        self.clients.read().connected.get(id).cloned()
    }

    /// The client with this id, connected or lost.
    fn client_or_lost(&self, id: &ClientId) -> Option<Arc<Client>> {
        let clients = self.clients.read();
        clients.connected.get(id).or_else(|| clients.lost.get(id)).cloned()
    }

    /// The clients at this moment, in no order.
    pub fn clients(&self) -> Vec<Arc<Client>> {
        self.clients.read().connected.values().cloned().collect()
    }

    /// The number of clients.
    pub fn connections(&self) -> usize {
        self.clients.read().connected.len()
    }

    /// Sends to every client except those that `except` matches; returns the number of recipients.
    pub fn send(&self, packet: &Packet, except: impl Fn(&Client) -> bool) -> usize {
        let _order = self.everyone.lock();
        let clients = self.clients.read();
        let (mut sent, mut delivery) = (0, self.readers.begin());
        for client in clients.connected.values().filter(|client| !except(client)) {
            sent += usize::from(client.sender.deliver(packet, &mut delivery).is_taken());
        }
        if packet.is_kept() {
            for client in clients.lost.values().filter(|client| !except(client)) {
                client.sender.send(packet);
            }
        }
        sent
    }

    /// The readers of what is sent to everyone: publishers should wait while most are behind.
    pub fn readers(&self) -> &Arc<Readers> {
        &self.readers
    }

    /// The key of this room in the log.
    pub fn key(&self, room: &RoomName) -> RoomKey {
        RoomKey { namespace: self.path.clone(), room: room.clone() }
    }

    /// The room of this name, if it has a member, or one that may come back.
    pub fn room(&self, name: &str) -> Option<Arc<Room>> {
        self.rooms.read().get(name).cloned()
    }

    /// The rooms that have a member, in no order.
    pub fn rooms(&self) -> Vec<Arc<Room>> {
        self.rooms.read().values().filter(|room| !room.is_vacant()).cloned().collect()
    }

    /// The number of rooms that have a member.
    pub fn room_count(&self) -> usize {
        self.rooms.read().len().saturating_sub(self.vacant.load(Relaxed))
    }

    /// Calls `enter` with the room of this name and its locked state, creating the room if there is none.
    ///
    /// # Errors
    /// `too_many_rooms` if a new room would exceed the limit.
    pub fn with_room<T>(
        &self,
        name: &RoomName,
        enter: impl FnOnce(&Arc<Room>, &mut RoomState) -> T,
    ) -> Result<T, Refusal> {
        self.with_vacant_room(name, |room, state| {
            if room.is_vacant() {
                self.take_quota()?;
                self.vacant.fetch_sub(1, Relaxed);
                room.set_vacant(false);
            }
            Ok(enter(room, state))
        })?
    }

    /// The same without making it a room that has a member: [`retire`](Self::retire) it then.
    ///
    /// # Errors
    /// `too_many_rooms` if a new room would exceed the limit.
    pub fn with_vacant_room<T>(
        &self,
        name: &RoomName,
        enter: impl FnOnce(&Arc<Room>, &mut RoomState) -> T,
    ) -> Result<T, Refusal> {
        loop {
            let room = match self.room(name.as_str()) {
                Some(room) => room,
                None => self.make_room(name)?,
            };
            let mut state = room.lock();
            // The last member left between the lookup and the lock: the next lookup makes a new room.
            if state.is_closed() {
                continue;
            }
            return Ok(enter(&room, &mut state));
        }
    }

    fn make_room(&self, name: &RoomName) -> Result<Arc<Room>, Refusal> {
        let mut rooms = self.rooms.write();
        if let Some(room) = rooms.get(name) {
            return Ok(room.clone());
        }
        self.take_quota()?;
        let room = Arc::new(Room::new(name.clone(), self.path.clone(), Timestamp::now()));
        rooms.insert(name.clone(), room.clone());
        Ok(room)
    }

    fn take_quota(&self) -> Result<(), Refusal> {
        self.quota.take().map_err(|live| {
            let message = format!("the server holds {live} rooms, the most that MAX_ROOMS allows");
            Refusal::new(Code::TooManyRooms, message)
        })
    }

    /// Removes the room if nobody is in it. While somebody may come back to it, it is only vacant.
    pub fn retire(&self, room: &Arc<Room>) {
        // Spares most calls the lock that all rooms share.
        if !room.lock().is_empty() {
            return;
        }
        let mut rooms = self.rooms.write();
        let mut state = room.lock();
        let was_vacant = room.is_vacant();
        if state.close_if_empty() {
            rooms.remove(&room.name);
            if was_vacant {
                self.vacant.fetch_sub(1, Relaxed);
            } else {
                self.quota.give_back();
            }
        } else if state.is_empty() && !state.is_closed() && !was_vacant {
            room.set_vacant(true);
            self.vacant.fetch_add(1, Relaxed);
            self.quota.give_back();
        }
    }
}
