//! Every behaviour, on both locations where it does not depend on a file.

mod failures;
mod files;
mod history;
mod model;
mod offline;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::{audience::Except, names::RoomName};

/// Declares a test that runs on a file and in memory, given a `World`.
macro_rules! on_both {
    ($($(#[$meta:meta])* async fn $name:ident($($world:tt)+) $body:block)*) => {$(
        mod $name {
            use super::*;

            async fn check($($world)+: World) $body

            #[tokio::test]
            async fn on_a_file() {
                check(World::on_a_file()).await;
            }

            #[tokio::test]
            async fn in_memory() {
                check(World::in_memory()).await;
            }
        }
    )*};
}
pub(super) use on_both;

pub(super) const ALL: Query =
    Query { after: 0, limit: 10_000, max_bytes: usize::MAX, receipts: true };

/// A store with a clock that stands still, and everything that its tail got.
pub(super) struct World {
    _dir: Option<TempDir>,
    pub clock: Arc<AtomicI64>,
    pub tail: Arc<Mutex<Vec<Committed>>>,
    pub settings: Settings,
    pub store: Store,
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
        max_rooms: 0,
        clock: Clock::from_fn(move || clock.load(SeqCst)),
    }
}

/// No sweep but those asked for, and a memory so small that rooms are looked up again and again.
pub(super) fn tuning() -> Tuning {
    Tuning {
        limits: Limits::default(),
        boot: Some("one".into()),
        known_rooms: 2,
        tick: Duration::from_hours(1),
    }
}

fn collect(tail: &Arc<Mutex<Vec<Committed>>>) -> impl FnMut(&[Committed]) + Send + 'static {
    let tail = Arc::clone(tail);
    move |committed| tail.lock().extend_from_slice(committed)
}

impl World {
    pub fn on_a_file() -> Self {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("data/roomcast.db");
        Self { _dir: Some(dir), ..Self::at(Location::File(file)) }
    }

    pub fn in_memory() -> Self {
        Self::at(Location::Memory)
    }

    pub fn at(location: Location) -> Self {
        let clock = Arc::new(AtomicI64::new(1_000_000));
        let tail = Arc::default();
        let settings = settings(location, &clock);
        let store = Store::open_tuned(settings.clone(), tuning(), collect(&tail)).unwrap();
        Self { _dir: None, clock, tail, settings, store }
    }

    /// Ends the store without closing it and opens it again, with changed settings; in memory that
    /// begins an empty one.
    pub fn reopen(&mut self, change: impl FnOnce(&mut Settings, &mut Tuning)) {
        let mut tuning = tuning();
        change(&mut self.settings, &mut tuning);
        let elsewhere = Settings { location: Location::Memory, ..self.settings.clone() };
        // The old one must end before the new one can have the file.
        self.store = Store::open_tuned(elsewhere, Tuning::default(), |_| {}).unwrap();
        self.store = Store::open_tuned(self.settings.clone(), tuning, collect(&self.tail)).unwrap();
    }

    pub fn file(&self) -> &Path {
        match &self.settings.location {
            Location::File(path) => path,
            Location::Memory => panic!("in memory"),
        }
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

    pub fn submit(&self, room: &RoomKey, id: &str) -> Pending<Appended> {
        self.store.append(Append {
            room: room.clone(),
            entry: self.entry(id),
            except: Except::nobody(),
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

    /// How many rows `table` has on disk.
    pub fn rows(&self, table: &str) -> u64 {
        self.store.with_writer(|conn| {
            let sql = format!("SELECT count(*) FROM {table}");
            conn.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap().cast_unsigned()
        })
    }
}

impl Store {
    /// Uses the writer's connection between two commits.
    pub(super) fn with_writer<R>(&self, act: impl FnOnce(&MutexGuard<'_, Connection>) -> R) -> R {
        let conn = self.inner.writer.upgrade().unwrap();
        let guard = conn.lock();
        act(&guard)
    }
}

pub(super) fn room(name: &str) -> RoomKey {
    RoomKey { namespace: "/".into(), room: RoomName::parse(name).unwrap() }
}

pub(super) fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

pub(super) fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}
