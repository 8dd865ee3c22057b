//! What only the embedded store does, on both locations where it does not depend on a file.

mod failures;
mod faults;
mod files;
mod keys;
mod layout;
mod log;
mod migration;
mod outbox;
mod space;

use std::{path::Path, sync::atomic::AtomicI64};

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::{
    limits::SenderId,
    protocol::{audience::Except, position::Position},
    store::{
        Append, Backend, Entry, Fate, Once, Pending, Settled, Store, Sync, Webhook,
        tests::{ALL, World, entry, on_both, room, server::SPAWNING, settings, tuning, user},
    },
};

/// A store's database and its rooms, for a test that is its own writer.
fn without_writer(settings: &Settings) -> (Connection, Rooms) {
    let opened = schema::open(settings, None).unwrap();
    let Loaded { index, next_place, next_room } = opened.loaded;
    let place = Place::new(settings, Box::new(|_| false));
    let rooms = Rooms::new(Arc::new(index), opened.epochs, place, next_place, next_room);
    (opened.conn, rooms)
}

impl World {
    fn file(&self) -> &Path {
        match &self.settings.location {
            Location::File(path) => path,
            Location::Memory => panic!("in memory"),
        }
    }
}

impl Store {
    pub(in crate::store) fn open_tuned(
        settings: Settings,
        tuning: Tuning,
        tail: impl FnMut(&[Committed]) + Send + 'static,
    ) -> Result<Self, OpenError> {
        Self::open_with(settings, tuning, tail, |_| false)
    }

    pub(in crate::store) fn open_with(
        settings: Settings,
        tuning: Tuning,
        tail: impl FnMut(&[Committed]) + Send + 'static,
        in_use: impl Fn(&RoomKey) -> bool + Send + 'static,
    ) -> Result<Self, OpenError> {
        let _no_other_has_the_file = SPAWNING.read();
        let embedded = Embedded::open(settings, tuning, tail, Box::new(in_use))?;
        Ok(Self { backend: Backend::Embedded(Arc::new(embedded)) })
    }

    /// Uses the writer's connection between two commits.
    fn with_writer<R>(&self, act: impl FnOnce(&Connection) -> R) -> R {
        let Backend::Embedded(store) = &self.backend else { panic!("not an embedded store") };
        store.with_writer(act)
    }
}

impl Embedded {
    fn with_writer<R>(&self, act: impl FnOnce(&Connection) -> R) -> R {
        let conn = self.writer.upgrade().unwrap();
        let guard = conn.lock();
        act(&guard)
    }

    /// How many rows `table` has; of messages, how many the rooms have.
    pub fn rows(&self, table: &str) -> u64 {
        if table == "messages" {
            return self.index.totals().messages;
        }
        self.with_writer(|conn| {
            let sql = format!("SELECT count(*) FROM {table}");
            conn.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap().cast_unsigned()
        })
    }

    /// The index must be what a start would read from the file.
    pub fn check_index(&self) {
        let loaded = self.with_writer(|conn| load::load(conn, self.epochs).unwrap());
        let (loaded, held) = (loaded.index.state(), self.index.state());
        assert_eq!(held.ids, loaded.ids);
        assert_eq!(held.generations, loaded.generations);
        for (id, room) in &held.rooms {
            let found = &loaded.rooms[id];
            assert_eq!(
                (room.epoch, room.first(), room.head),
                (found.epoch, found.first(), found.head)
            );
            for offset in room.first()..=room.head {
                let [one, other] = [room, found].map(|room| room.slot(offset).unwrap());
                assert_eq!((one.place(), one.at()), (other.place(), other.at()), "{offset}");
            }
        }
        let sums = |totals: index::Totals| (totals.messages, totals.kept, totals.all);
        assert_eq!(sums(held.totals), sums(loaded.totals));
    }

    /// Whether forgetting one room changes the other's epoch.
    pub fn derived_alike(&self, one: &RoomKey, other: &RoomKey) -> bool {
        self.epochs.derived_alike(one, other)
    }
}
