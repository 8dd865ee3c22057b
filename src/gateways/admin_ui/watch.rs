//! The one task that tells operators what happens.
//!
//! The task tells what is in its [`Picture`], which only the news changes, in the order in which it came. So
//! what an operator is shown first (`all_sockets`) and what it is told later fit together. News that the
//! picture already has is not told.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde::Serialize;
use socketioxide::{SendError, SocketError, socket::Socket};
use tokio::{
    sync::mpsc::{Receiver, UnboundedReceiver},
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::{
    Shared, redact,
    stats::{Node, ServerStats},
    view::{self, Changing, Shown},
};
use crate::{
    hub::{Client, Registry, packet::Packet},
    protocol::{client_id::ClientId, names::RoomName, timestamp::Timestamp},
};

/// How often operators get the counts: the page takes a server that says nothing for ten seconds for dead.
const TICK: Duration = Duration::from_secs(2);

/// A client of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// The namespace's path.
    pub namespace: Arc<str>,
    /// The client's id.
    pub id: ClientId,
}

impl Place {
    /// Where this client is.
    pub(super) fn of(client: &Client) -> Self {
        Self { namespace: client.namespace.path.clone(), id: client.id.clone() }
    }
}

/// Something that has happened, and when.
#[allow(missing_docs, reason = "as the hooks of `Admin` say")]
pub(super) enum News {
    Connected(Arc<Client>, Timestamp),
    Gone(Place, &'static str, Timestamp),
    Joined(Place, RoomName, Timestamp),
    Left(Place, RoomName, Timestamp),
    /// `event` is only the event's name if the event is large; `size` is then its size.
    Received {
        at: Place,
        event: String,
        size: Option<usize>,
        now: Timestamp,
    },
    Sent {
        at: Place,
        packet: Packet,
        now: Timestamp,
    },
}

impl News {
    /// Whether it may be lost without making the picture wrong.
    pub(super) fn is_event(&self) -> bool {
        matches!(self, Self::Received { .. } | Self::Sent { .. })
    }
}

/// The task.
pub(super) struct Watcher {
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    node: Node,
    operators: Vec<Operator>,
    picture: Picture,
}

/// An operator who watches.
struct Operator {
    socket: Arc<Socket>,
    /// It missed something, and gets the whole picture anew.
    is_behind: bool,
}

impl Watcher {
    /// Nobody watches yet.
    pub(super) fn new(shared: Arc<Shared>, registry: Arc<Registry>, node: Node) -> Self {
        Self { shared, registry, node, operators: Vec::new(), picture: Picture::default() }
    }

    /// Runs until the server is gone.
    pub(super) async fn run(
        mut self,
        mut arrivals: UnboundedReceiver<Arc<Socket>>,
        mut news: Receiver<News>,
    ) {
        loop {
            let Some(first) = arrivals.recv().await else { return };
            self.begin(&mut news);
            self.arrive(first);
            let mut tick = interval_at(Instant::now() + TICK, TICK);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while !self.operators.is_empty() {
                tokio::select! {
                    arrival = arrivals.recv() => match arrival {
                        Some(operator) => self.arrive(operator),
                        None => return,
                    },
                    Some(news) = news.recv() => self.tell(news),
                    _ = tick.tick() => self.tick(),
                }
            }
            self.shared.watched.store(false, Ordering::Release);
            self.picture = Picture::default();
        }
    }

    /// Drops the news and the counts that were left over from earlier operators.
    fn begin(&mut self, news: &mut Receiver<News>) {
        while news.try_recv().is_ok() {}
        let _stale = self.shared.counts.take(Timestamp::now());
        // The flag comes before the look: what happens in between is both in the picture and in the news, and
        // so told once.
        self.shared.watched.store(true, Ordering::Release);
        self.look();
    }

    fn look(&mut self) {
        self.shared.overflown.store(false, Ordering::Release);
        if self.shared.detailed {
            self.picture = Picture::of(&self.registry);
        }
    }

    fn arrive(&mut self, socket: Arc<Socket>) {
        let mut operator = Operator { socket, is_behind: false };
        if self.shared.detailed {
            operator.tell("all_sockets", &(self.picture.all(),));
        }
        let stats =
            ServerStats::now(&self.node, &self.registry, self.operators.len() + 1, Vec::new());
        operator.tell("server_stats", &(stats,));
        self.operators.push(operator);
    }

    fn tick(&mut self) {
        self.operators.retain(|operator| operator.socket.connected());
        if self.shared.overflown.load(Ordering::Acquire) {
            self.look();
            self.operators.iter_mut().for_each(|operator| operator.is_behind = true);
        }
        for operator in self.operators.iter_mut().filter(|operator| operator.is_behind) {
            operator.is_behind = false;
            operator.tell("all_sockets", &(self.picture.all(),));
        }
        for update in self.picture.updates() {
            self.tell_all("socket_updated", &(update,));
        }
        let counted = self.shared.counts.take(Timestamp::now());
        let stats = ServerStats::now(&self.node, &self.registry, self.operators.len(), counted);
        for operator in &mut self.operators {
            // Only the newest counts matter.
            operator.try_tell("server_stats", &(&stats,));
        }
    }

    fn tell(&mut self, news: News) {
        match news {
            News::Connected(client, now) => {
                let at = Place::of(&client);
                if let Some(shown) = self.picture.connect(&at, client) {
                    self.tell_all("socket_connected", &(shown, now));
                }
            }
            News::Gone(at, reason, now) => {
                let Some(rooms) = self.picture.remove(&at) else { return };
                let (path, id) = (&*at.namespace, at.id.as_str());
                self.tell_all("socket_disconnected", &(path, id, reason, now));
                // It has left all its rooms, the one of its own id among them.
                for room in rooms.iter().map(RoomName::as_str).chain([id]) {
                    self.tell_all("room_left", &(path, room, id, now));
                }
            }
            News::Joined(at, room, now) => {
                if self.picture.join(&at, &room) {
                    self.tell_all("room_joined", &(&*at.namespace, &room, at.id.as_str(), now));
                }
            }
            News::Left(at, room, now) => {
                if self.picture.leave(&at, &room) {
                    self.tell_all("room_left", &(&*at.namespace, &room, at.id.as_str(), now));
                }
            }
            News::Received { at, event, size, now } => {
                let event = match size {
                    None => redact::event(&event),
                    Some(size) => redact::large(&event, size),
                };
                self.tell_all("event_received", &(&*at.namespace, at.id.as_str(), event, now));
            }
            News::Sent { at, packet, now } => {
                let (name, payload) = (packet.event(), packet.payload());
                let size = name.len() + payload.size();
                let event = if size > redact::MAX_SHOWN {
                    redact::large(name, size)
                } else {
                    let name = crate::protocol::payload::json_of(name);
                    redact::event(&format!("[{name},{}]", payload.json()))
                };
                self.tell_all("event_sent", &(&*at.namespace, at.id.as_str(), event, now));
            }
        }
    }

    fn tell_all<T: Serialize>(&mut self, event: &str, arguments: &T) {
        let may_be_lost = event.starts_with("event_");
        for operator in &mut self.operators {
            if may_be_lost {
                operator.try_tell(event, arguments);
            } else {
                operator.tell(event, arguments);
            }
        }
    }
}

impl Operator {
    /// Sends what must not be missed.
    fn tell<T: Serialize>(&mut self, event: &str, arguments: &T) {
        self.is_behind |= !self.try_tell(event, arguments);
    }

    /// Returns whether the event was sent, or the operator is gone.
    fn try_tell<T: Serialize>(&self, event: &str, arguments: &T) -> bool {
        let told = self.socket.emit(event, arguments);
        !matches!(told, Err(SendError::Socket(SocketError::InternalChannelFull)))
    }
}

/// The clients and their rooms, as the operators know them.
#[derive(Default)]
struct Picture(HashMap<Place, Known>);

struct Known {
    client: Arc<Client>,
    changing: Changing,
    rooms: BTreeSet<RoomName>,
}

impl Known {
    fn shown(&self) -> Shown {
        Shown::new(&self.client, &self.changing, self.rooms.iter())
    }
}

impl Picture {
    fn of(registry: &Registry) -> Self {
        Self(
            registry
                .all_clients()
                .into_iter()
                .map(|client| {
                    let rooms = client.rooms().into_iter().collect();
                    let changing = Changing::of(&client);
                    (Place::of(&client), Known { client, changing, rooms })
                })
                .collect(),
        )
    }

    fn all(&self) -> Vec<Shown> {
        self.0.values().map(Known::shown).collect()
    }

    /// Adds the client, and returns it if it is new.
    fn connect(&mut self, at: &Place, client: Arc<Client>) -> Option<Shown> {
        if self.0.contains_key(at) {
            return None;
        }
        let changing = Changing::of(&client);
        let known = Known { client, changing, rooms: BTreeSet::new() };
        let shown = known.shown();
        self.0.insert(at.clone(), known);
        Some(shown)
    }

    /// Removes the client, and returns its rooms if it was known.
    fn remove(&mut self, at: &Place) -> Option<BTreeSet<RoomName>> {
        self.0.remove(at).map(|known| known.rooms)
    }

    fn join(&mut self, at: &Place, room: &RoomName) -> bool {
        self.0.get_mut(at).is_some_and(|known| known.rooms.insert(room.clone()))
    }

    fn leave(&mut self, at: &Place, room: &RoomName) -> bool {
        self.0.get_mut(at).is_some_and(|known| known.rooms.remove(room))
    }

    /// The changes of the clients since the last call.
    fn updates(&mut self) -> Vec<serde_json::Value> {
        let mut updates = Vec::new();
        for known in self.0.values_mut() {
            let changing = Changing::of(&known.client);
            if changing != known.changing {
                updates.push(view::update(&known.client, &changing));
                known.changing = changing;
            }
        }
        updates
    }
}
