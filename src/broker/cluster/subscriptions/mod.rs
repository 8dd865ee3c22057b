//! The rooms that this node has members in: the subscriptions to their channels, and their log cursors.

mod follow;

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, mpsc},
    time::{sleep, timeout},
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

/// The rooms that this node subscribes to.
#[derive(Debug)]
pub(super) struct Subscriptions {
    rooms: Mutex<HashMap<RoomKey, Arc<SubscribedRoom>>>,
    /// Rooms that have come or gone: to subscribe to, or to unsubscribe from.
    changed: mpsc::UnboundedSender<RoomKey>,
    changes: tokio::sync::Mutex<mpsc::UnboundedReceiver<RoomKey>>,
    log: Option<Store>,
    registry: Arc<Registry>,
    fanout: Fanout,
    counters: Arc<Counters>,
}

/// One room that this node subscribes to.
#[derive(Debug)]
struct SubscribedRoom {
    key: RoomKey,
    /// How many [`Subscription`]s hold it; changed under the lock of all rooms.
    holders: AtomicU64,
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
            rooms.remove(&self.subscribed.key);
            all.tell(&self.subscribed.key);
        }
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

    fn tell(&self, key: &RoomKey) {
        // The receiver lives as long as this.
        let _told = self.changed.send(key.clone());
    }

    /// Subscribes to a room, or shares the subscription that there is.
    pub(super) fn subscribe(self: &Arc<Self>, key: &RoomKey) -> Subscription {
        let mut rooms = self.rooms.lock();
        let subscribed = rooms.entry(key.clone()).or_insert_with(|| {
            self.tell(key);
            Arc::new(SubscribedRoom {
                key: key.clone(),
                holders: AtomicU64::new(0),
                tail: Mutex::default(),
                unlogged: AtomicU64::new(0),
                moved: Notify::new(),
            })
        });
        subscribed.holders.fetch_add(1, Relaxed);
        Subscription { subscribed: subscribed.clone(), all: Arc::downgrade(self) }
    }

    fn get(&self, key: &RoomKey) -> Option<Arc<SubscribedRoom>> {
        self.rooms.lock().get(key).cloned()
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
        // Reading from the log takes longer, so a cursor that is behind is not waited for.
        let is_done = |tail: &Tail| tail.has_passed(position) || !tail.is_live();
        subscribed.wait(|| is_done(&subscribed.tail.lock())).await;
    }

    /// The same for a message without a log.
    pub(super) async fn delivered_unlogged(&self, key: &RoomKey, number: u64) {
        let Some(subscribed) = self.get(key) else { return };
        subscribed.wait(|| subscribed.unlogged.load(Relaxed) >= number).await;
    }
}

impl SubscribedRoom {
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
