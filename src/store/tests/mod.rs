//! Every behaviour that does not depend on where the store keeps its data.

mod history;
mod idempotency;
mod model;
mod offline;
mod outbox;
pub(super) mod server;

use std::{
    collections::HashSet,
    sync::atomic::{
        AtomicI64, AtomicU64,
        Ordering::{Relaxed, SeqCst},
    },
    time::Duration,
};

use ::redis::aio::PubSub;
use bytes::Bytes;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::watch;

use self::server::RedisServer;
use super::{embedded::Tuning, *};
use crate::{
    limits::SenderId,
    protocol::{audience::Except, names::RoomName},
};

/// Declares tests that run on each of these stores, given a `World`.
macro_rules! on_stores {
    ($stores:tt $($(#[$meta:meta])* async fn $name:ident($($world:tt)+) $body:block)*) => {$(
        mod $name {
            use super::*;

            async fn check($($world)+: World) $body

            $crate::store::tests::runs!($stores);
        }
    )*};
}
pub(super) use on_stores;

macro_rules! runs {
    (($($store:ident)+)) => {$(
        #[tokio::test]
        async fn $store() {
            check(World::$store()).await;
        }
    )+};
}
pub(super) use runs;

/// Declares tests that run on a file and in memory.
macro_rules! on_both {
    ($($tests:tt)*) => { $crate::store::tests::on_stores! { (on_a_file in_memory) $($tests)* } };
}
pub(super) use on_both;

/// Declares tests that run on a file, in memory and in Redis.
macro_rules! on_every {
    ($($tests:tt)*) => {
        $crate::store::tests::on_stores! { (on_a_file in_memory in_redis) $($tests)* }
    };
}
pub(super) use on_every;

/// Declares tests that also run over two instances of Redis: of what does not depend on which room is where.
macro_rules! on_every_and_two {
    ($($tests:tt)*) => {
        $crate::store::tests::on_stores! {
            (on_a_file in_memory in_redis over_two_instances) $($tests)*
        }
    };
}
pub(super) use on_every_and_two;

pub(super) const ALL: Query =
    Query { after: 0, limit: 10_000, max_bytes: usize::MAX, receipts: true };

/// A store whose clock stands still, and everything that its log tail received.
pub(super) struct World {
    _dir: Option<TempDir>,
    /// The first server and the prefix, in Redis.
    redis: Option<(Arc<RedisServer>, String)>,
    /// The other servers.
    others: Vec<Arc<RedisServer>>,
    pub clock: Arc<AtomicI64>,
    pub tail: watch::Sender<Vec<Committed>>,
    pub settings: Settings,
    pub store: Store,
    /// Whether the data outlive [`World::reopen`].
    pub survives: bool,
    /// The rooms that have members.
    occupied: Arc<Mutex<HashSet<RoomKey>>>,
    /// The subscriptions to their channels.
    listening: Vec<PubSub>,
}

pub(super) fn settings(location: Location, clock: &Arc<AtomicI64>) -> Settings {
    let clock = Arc::clone(clock);
    Settings {
        location,
        sync: Sync::Normal,
        history_size: 1_000,
        history_ttl: Some(Duration::from_secs(100)),
        queue_size: 20,
        queue_ttl: Some(Duration::from_secs(100)),
        queue_sender_limit: 0,
        max_rooms: 0,
        max_rooms_per_sender: 0,
        store_max_bytes: 0,
        has_webhooks: true,
        webhook_limit: 1_000,
        idempotency_window: Duration::from_secs(100),
        max_keys: 1_000,
        max_keys_per_sender: 100,
        clock: Clock::from_fn(move || clock.load(SeqCst)),
    }
}

/// No sweeps but those asked for, and space that is taken back again and again.
pub(super) fn tuning() -> Tuning {
    Tuning {
        boot: Some("one".into()),
        tick: Duration::from_hours(1),
        settle: 3,
        reserve: 262_144,
        untidy: 0,
        ..Tuning::default()
    }
}

/// A plain entry.
pub(super) fn entry() -> Entry {
    Entry {
        id: "m".into(),
        event: "e".into(),
        json: "{}".into(),
        attachments: vec![],
        timestamp_ms: 0,
    }
}

pub(super) fn collect(
    tail: &watch::Sender<Vec<Committed>>,
) -> impl FnMut(&[Committed]) + Send + 'static {
    let tail = tail.clone();
    move |committed| tail.send_modify(|all| all.extend_from_slice(committed))
}

impl World {
    pub fn on_a_file() -> Self {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("data/roomcast.db");
        Self { _dir: Some(dir), survives: true, ..Self::at(Location::File(file)) }
    }

    pub fn in_redis() -> Self {
        Self::on(&Arc::new(RedisServer::start()))
    }

    pub fn over_two_instances() -> Self {
        Self::over(&[RedisServer::start().into(), RedisServer::start().into()])
    }

    pub fn in_memory() -> Self {
        Self::at(Location::Memory)
    }

    pub fn at(location: Location) -> Self {
        let clock = Arc::new(AtomicI64::new(1_000_000));
        let tail = watch::Sender::default();
        let settings = settings(location, &clock);
        let occupied = Arc::default();
        let store = open(&settings, tuning(), &tail, &occupied);
        Self {
            _dir: None,
            redis: None,
            others: Vec::new(),
            clock,
            tail,
            settings,
            store,
            survives: false,
            occupied,
            listening: Vec::new(),
        }
    }

    /// Adds a member to the room.
    pub async fn occupy(&mut self, room: &RoomKey) {
        self.occupied.lock().insert(room.clone());
        if let Some((first, prefix)) = &self.redis {
            let server = match room.instance(1 + self.others.len()) {
                0 => first,
                place => &self.others[place - 1],
            };
            let mut listening = server.client().get_async_pubsub().await.unwrap();
            listening.subscribe(room_channel(prefix, room)).await.unwrap();
            self.listening.push(listening);
        }
    }

    /// Removes the members of all rooms.
    pub async fn vacate(&mut self) {
        self.occupied.lock().clear();
        for mut listening in self.listening.drain(..) {
            // Nobody listens any more only once this is answered.
            listening.punsubscribe("*").await.unwrap();
            listening.unsubscribe("*").await.unwrap();
        }
    }

    /// A store of its own on a server.
    pub fn on(server: &Arc<RedisServer>) -> Self {
        Self::over(std::slice::from_ref(server))
    }

    /// A store of its own over several servers.
    pub fn over(servers: &[Arc<RedisServer>]) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let prefix = format!("test:{}", NEXT.fetch_add(1, Relaxed));
        let clock = Arc::new(AtomicI64::new(1_000_000));
        let tail = watch::Sender::default();
        for server in servers {
            server.subscribe(&prefix, collect(&tail));
        }
        let settings = settings(Location::Memory, &clock);
        let (first, others) = servers.split_first().unwrap();
        let store = Store::redis(&settings, &settings_of(first, others, &prefix));
        Self {
            _dir: None,
            redis: Some((first.clone(), prefix)),
            others: others.to_vec(),
            clock,
            tail,
            settings,
            store,
            survives: true,
            occupied: Arc::default(),
            listening: Vec::new(),
        }
    }

    /// Ends the store without closing it and opens it again, with changed settings. In memory the new one
    /// is empty.
    pub fn reopen(&mut self, change: impl FnOnce(&mut Settings, &mut Tuning)) {
        let mut tuning = tuning();
        change(&mut self.settings, &mut tuning);
        if let Some((server, prefix)) = &self.redis {
            let redis = settings_of(server, &self.others, prefix);
            self.store = Store::redis(&self.settings, &redis);
            return;
        }
        let elsewhere = Settings { location: Location::Memory, ..self.settings.clone() };
        // The old one must end before the new one can have the file.
        self.store = Store::open_tuned(elsewhere, Tuning::default(), |_| {}).unwrap();
        self.store = open(&self.settings, tuning, &self.tail, &self.occupied);
    }

    /// What the log tail received, once there are `count` messages.
    pub async fn tail(&self, count: usize) -> Vec<Committed> {
        let mut tail = self.tail.subscribe();
        let arrived = tail.wait_for(|committed| committed.len() >= count);
        tokio::time::timeout(Duration::from_secs(20), arrived).await.unwrap().unwrap().clone()
    }

    pub fn advance(&self, seconds: i64) {
        self.clock.fetch_add(seconds * 1_000, SeqCst);
    }

    pub fn entry(&self, id: &str) -> Entry {
        Entry {
            id: id.into(),
            event: "message-reply".into(),
            json: format!(r#"{{"id":"{id}","text":"grüße"}}"#).into(),
            attachments: Vec::new(),
            timestamp_ms: self.clock.load(SeqCst),
        }
    }

    pub fn submit(&self, room: &RoomKey, id: &str) -> Pending<Position> {
        self.submit_from(None, room, id)
    }

    /// The same for a client's message.
    pub fn submit_from(
        &self,
        sender: Option<SenderId>,
        room: &RoomKey,
        id: &str,
    ) -> Pending<Position> {
        self.store.append(Append {
            room: room.clone(),
            entry: self.entry(id),
            except: Except::nobody(),
            sender,
            webhook: None,
        })
    }

    pub async fn append(&self, room: &RoomKey, id: &str) -> u64 {
        self.submit(room, id).await.unwrap().offset
    }

    pub async fn all(&self, room: &RoomKey) -> Page {
        self.store.read(room, ALL).await.unwrap()
    }

    pub async fn offsets(&self, room: &RoomKey) -> Vec<u64> {
        self.all(room).await.items.iter().map(|item| item.offset).collect()
    }

    pub async fn receipt(&self, room: &RoomKey, id: &str, who: &str) -> bool {
        let now = self.clock.load(SeqCst);
        self.store.record_receipt(room.clone(), id.into(), user(who), now).await.unwrap()
    }

    /// How many rows `table` has, or its equivalent in Redis.
    pub fn rows(&self, table: &str) -> u64 {
        match (&self.store.backend, &self.redis) {
            (Backend::Embedded(store), _) => store.rows(table),
            (Backend::Redis(_), Some((first, prefix))) => {
                let servers = std::iter::once(first).chain(&self.others);
                servers.map(|server| server.rows(prefix, table)).sum()
            }
            (Backend::Redis(_), None) => panic!("a store in Redis without Redis"),
        }
    }
}

/// The settings of a store over several servers.
fn settings_of(first: &RedisServer, others: &[Arc<RedisServer>], prefix: &str) -> RedisSettings {
    let mut settings = first.settings(prefix);
    settings.primaries.extend(others.iter().map(|server| server.client().into()));
    settings
}

pub(super) fn room(name: &str) -> RoomKey {
    RoomKey { namespace: "/".into(), room: RoomName::parse(name).unwrap() }
}

fn open(
    settings: &Settings,
    tuning: Tuning,
    tail: &watch::Sender<Vec<Committed>>,
    occupied: &Arc<Mutex<HashSet<RoomKey>>>,
) -> Store {
    let occupied = Arc::clone(occupied);
    let in_use = move |room: &RoomKey| occupied.lock().contains(room);
    Store::open_with(settings.clone(), tuning, collect(tail), in_use).unwrap()
}

/// A user as a sender.
pub(super) fn sender(name: &str) -> SenderId {
    SenderId::User(user(name))
}

pub(super) fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

pub(super) fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}
