//! The rooms that this node has members in: the subscriptions to their channels, and their log cursors.
//!
//! A room whose last member has left stays subscribed to for a moment, so that a room that somebody leaves and enters
//! again and again does not cost Redis two commands and a read each time.

mod follow;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep, timeout},
};

use super::{
    counters::Counters,
    session::{Away, Session, TIMEOUT},
    tail::{Arrival, Tail},
};
use crate::{
    broker::fanout::Fanout,
    hub::{Registry, packet::Packet},
    protocol::{audience::Except, position::Position},
    store::{Committed, RoomKey, Store},
};

/// How long the acknowledgement of a stored message may wait for its own delivery on this node.
const OWN_DELIVERY: Duration = Duration::from_secs(1);

/// How long a room stays subscribed to after its last member has left.
const KEPT: Duration = Duration::from_secs(5);

/// The most rooms without members that stay subscribed to.
const MOST_KEPT: usize = 1000;

/// The rooms that this node subscribes to.
#[derive(Debug)]
pub(super) struct Subscriptions {
    rooms: Mutex<Rooms>,
    /// Rooms that have come or gone: to subscribe to, or to unsubscribe from.
    changed: mpsc::UnboundedSender<RoomKey>,
    changes: tokio::sync::Mutex<mpsc::UnboundedReceiver<RoomKey>>,
    log: Option<Store>,
    registry: Arc<Registry>,
    fanout: Fanout,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Rooms {
    all: HashMap<RoomKey, Arc<SubscribedRoom>>,
    /// Those that nobody holds, in the order in which the last holders have gone, and when that was.
    vacant: BTreeMap<u64, (Instant, RoomKey)>,
    /// How many have become vacant so far.
    vacated: u64,
}

/// One room that this node subscribes to.
#[derive(Debug)]
struct SubscribedRoom {
    key: RoomKey,
    /// How many [`Subscription`]s hold it; changed under the lock of all rooms.
    holders: AtomicU64,
    /// Its place among the vacant ones, if nobody holds it; changed under the same lock.
    place: AtomicU64,
    tail: Mutex<Tail>,
    /// The number of this node's newest own message without a log that has come back.
    unlogged: AtomicU64,
    /// Notified whenever the log cursor or `unlogged` has moved.
    moved: Notify,
}

/// Keeps a room's channel subscribed to until dropped.
#[derive(Debug)]
pub struct Subscription {
    subscribed: Arc<SubscribedRoom>,
    all: Weak<Subscriptions>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let Some(all) = self.all.upgrade() else { return };
        let mut rooms = all.rooms.lock();
        if self.subscribed.holders.fetch_sub(1, Relaxed) == 1 {
            rooms.vacate(&self.subscribed);
            if rooms.vacant.len() > MOST_KEPT {
                all.tell(rooms.forget_first());
            }
        }
    }
}

impl Rooms {
    fn vacate(&mut self, room: &SubscribedRoom) {
        self.vacated += 1;
        room.place.store(self.vacated, Relaxed);
        self.vacant.insert(self.vacated, (Instant::now(), room.key.clone()));
    }

    /// Removes the room that has been vacant for longest.
    fn forget_first(&mut self) -> Option<RoomKey> {
        let (_, (_, key)) = self.vacant.pop_first()?;
        self.all.remove(&key);
        Some(key)
    }

    /// When the first vacant room is to be forgotten.
    fn next_end(&self) -> Option<Instant> {
        self.vacant.first_key_value().map(|(_, (since, _))| *since + KEPT)
    }
}

impl Subscriptions {
    pub(super) fn new(
        log: Option<Store>,
        registry: Arc<Registry>,
        fanout: Fanout,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        let (changed, told) = mpsc::unbounded_channel();
        Arc::new(Self {
            rooms: Mutex::default(),
            changed,
            changes: tokio::sync::Mutex::new(told),
            log,
            registry,
            fanout,
            counters,
        })
    }

    fn tell(&self, key: impl IntoIterator<Item = RoomKey>) {
        for key in key {
            // The receiver lives as long as this.
            let _told = self.changed.send(key);
        }
    }

    /// Forgets the rooms that have been vacant for long enough; returns when the next one will have been.
    fn forget_vacant(&self, now: Instant) -> Option<Instant> {
        let mut rooms = self.rooms.lock();
        while rooms.next_end().is_some_and(|end| end <= now) {
            self.tell(rooms.forget_first());
        }
        rooms.next_end()
    }

    /// All rooms that somebody holds; forgets the others.
    fn held(&self) -> Vec<Arc<SubscribedRoom>> {
        let mut rooms = self.rooms.lock();
        while rooms.forget_first().is_some() {}
        rooms.all.values().cloned().collect()
    }

    /// Subscribes to a room, or shares the subscription that there is.
    pub(super) fn subscribe(self: &Arc<Self>, key: &RoomKey) -> Subscription {
        let mut rooms = self.rooms.lock();
        let Rooms { all, vacant, .. } = &mut *rooms;
        let subscribed = all.entry(key.clone()).or_insert_with(|| {
            self.tell([key.clone()]);
            Arc::new(SubscribedRoom {
                key: key.clone(),
                holders: AtomicU64::new(0),
                place: AtomicU64::new(0),
                tail: Mutex::default(),
                unlogged: AtomicU64::new(0),
                moved: Notify::new(),
            })
        });
        if subscribed.holders.fetch_add(1, Relaxed) == 0 {
            vacant.remove(&subscribed.place.load(Relaxed));
        }
        Subscription { subscribed: subscribed.clone(), all: Arc::downgrade(self) }
    }

    fn get(&self, key: &RoomKey) -> Option<Arc<SubscribedRoom>> {
        self.rooms.lock().all.get(key).cloned()
    }

    /// Up to where a room's log has been delivered.
    pub(super) fn position(&self, key: &RoomKey) -> Option<Position> {
        self.get(key)?.tail.lock().position()
    }

    /// A message of the log has come by its room's channel.
    pub(super) fn arrived(self: &Arc<Self>, session: &Session, message: &Committed) {
        let Some(subscribed) = self.get(&message.room) else { return };
        let mut tail = subscribed.tail.lock();
        match tail.arrive(message) {
            Arrival::Next => {
                self.fanout.committed(message);
                subscribed.moved.notify_waiters();
            }
            Arrival::Nothing => {}
            Arrival::Gap => {
                drop(tail);
                let (all, session) = (self.clone(), session.clone());
                tokio::spawn(async move { all.catch_up(&session, &subscribed).await });
            }
        }
    }

    /// A message without a log has come by its room's channel; `own` is its number if this node has sent it.
    pub(super) fn arrived_unlogged(
        &self,
        key: &RoomKey,
        packet: &Packet,
        except: &Except,
        own: Option<u64>,
    ) {
        let Some(subscribed) = self.get(key) else { return };
        if let Some(namespace) = self.registry.namespace(&key.namespace) {
            self.fanout.to_room(&namespace, &key.room, packet, except);
        }
        if let Some(number) = own {
            subscribed.unlogged.fetch_max(number, Relaxed);
            subscribed.moved.notify_waiters();
        }
    }

    /// Waits until a message that this node has stored has been delivered to its own members, so that a
    /// sender can rely on that after the ack. It does not wait for long, as the message is stored already.
    pub(super) async fn delivered(&self, key: &RoomKey, position: Position) {
        let Some(subscribed) = self.get(key) else { return };
        if subscribed.is_vacant() {
            return;
        }
        // Reading from the log takes longer, so a cursor that is behind is not waited for.
        let is_done = |tail: &Tail| tail.has_passed(position) || !tail.is_live();
        subscribed.wait(|| is_done(&subscribed.tail.lock())).await;
    }

    /// The same for a message without a log.
    pub(super) async fn delivered_unlogged(&self, key: &RoomKey, number: u64) {
        let Some(subscribed) = self.get(key) else { return };
        if subscribed.is_vacant() {
            return;
        }
        subscribed.wait(|| subscribed.unlogged.load(Relaxed) >= number).await;
    }
}

impl SubscribedRoom {
    /// Whether this node has no member in it.
    fn is_vacant(&self) -> bool {
        self.holders.load(Relaxed) == 0
    }

    async fn wait(&self, done: impl Fn() -> bool) {
        if done() {
            return;
        }
        let waiting = async {
            loop {
                let moved = self.moved.notified();
                tokio::pin!(moved);
                // From here on no notification is missed.
                moved.as_mut().enable();
                if done() {
                    return;
                }
                moved.await;
            }
        };
        let _done_or_late = timeout(OWN_DELIVERY, waiting).await;
    }
}

impl Subscription {
    /// Waits until messages to the room reach this node.
    ///
    /// # Errors
    /// While Redis is away.
    pub(super) async fn ready(&self, lost: impl Future<Output = ()>) -> Result<(), Away> {
        let subscribed = &self.subscribed;
        let waiting = async {
            loop {
                let moved = subscribed.moved.notified();
                tokio::pin!(moved);
                moved.as_mut().enable();
                if !subscribed.tail.lock().is_starting() {
                    return;
                }
                moved.await;
            }
        };
        tokio::select! {
            () = waiting => Ok(()),
            () = lost => Err(Away::unconnected()),
            () = sleep(TIMEOUT) => Err(Away("no answer in time".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        memory::{Limits, Memory},
        protocol::names::RoomName,
        telemetry::metrics::Metrics,
        transport::{self, Wire},
    };

    fn subscriptions() -> Arc<Subscriptions> {
        let config = Config::default();
        let registry = Arc::new(Registry::new(&config.namespaces, config.max_rooms));
        let wire = Wire::new(transport::Limits::of(&config), Memory::new(Limits::of(&config)));
        let fanout = Fanout::new(registry.clone(), Arc::<Metrics>::default(), wire);
        Subscriptions::new(None, registry, fanout, Arc::default())
    }

    fn room(n: usize) -> RoomKey {
        RoomKey { namespace: "/".into(), room: RoomName::parse(&n.to_string()).unwrap() }
    }

    fn count(all: &Subscriptions) -> usize {
        all.rooms.lock().all.len()
    }

    #[tokio::test(start_paused = true)]
    async fn rooms_without_members_are_kept_for_a_moment() {
        let all = subscriptions();
        drop(all.subscribe(&room(1)));
        tokio::time::advance(KEPT / 2).await;
        let held = all.subscribe(&room(1));
        drop(all.subscribe(&room(2)));
        tokio::time::advance(KEPT / 2).await;
        assert_eq!(all.forget_vacant(Instant::now()), Some(Instant::now() + KEPT / 2));
        assert_eq!(count(&all), 2);
        tokio::time::advance(KEPT / 2).await;
        assert_eq!(all.forget_vacant(Instant::now()), None);
        assert_eq!(count(&all), 1);
        // The time counts from when the last one has gone.
        drop(held);
        assert_eq!(all.forget_vacant(Instant::now()), Some(Instant::now() + KEPT));
        tokio::time::advance(KEPT).await;
        assert_eq!(all.forget_vacant(Instant::now()), None);
        assert_eq!(count(&all), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_rooms_are_kept_than_are_allowed() {
        let all = subscriptions();
        let held = (0..10).map(|n| all.subscribe(&room(n))).collect::<Vec<_>>();
        // One that comes and goes all the time has one place.
        for _ in 0..2 * MOST_KEPT {
            drop(all.subscribe(&room(10)));
        }
        assert_eq!(count(&all), 11);
        for n in 10..MOST_KEPT + 20 {
            drop(all.subscribe(&room(n)));
        }
        assert_eq!(count(&all), MOST_KEPT + 10);
        assert!(all.get(&room(19)).is_none() && all.get(&room(20)).is_some(), "the oldest go");
        // A new session begins without them.
        assert_eq!(all.held().len(), held.len());
        assert_eq!(count(&all), held.len());
    }
}
