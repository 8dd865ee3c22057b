//! The writer's cache of rooms, so that an append to a busy room looks nothing up.

use hashlink::LruCache;
use rusqlite::Connection;

use super::{
    epoch::Epochs,
    evict::{self, Place},
    log::Room,
    types::{RoomKey, StoreError},
};
use crate::limits::SenderId;

/// The writer's cache of rooms. It follows the transaction that is under way; after a rollback it must be
/// [`Rooms::reset`].
pub(super) struct Rooms {
    known: LruCache<RoomKey, Room>,
    epochs: Epochs,
    counts: Counts,
    place: Place,
}

/// Counts of rooms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    /// Rooms with a row.
    pub stored: u64,
    /// Rooms forgotten to make place for others, since the start.
    pub evicted: u64,
}

impl Rooms {
    /// Caches at most `capacity` rooms. `place` says how many may have a row.
    pub(super) fn new(
        conn: &Connection,
        epochs: Epochs,
        capacity: usize,
        place: Place,
    ) -> rusqlite::Result<Self> {
        let counts = Counts { stored: count(conn)?, evicted: 0 };
        Ok(Self { known: LruCache::new(capacity), epochs, counts, place })
    }

    pub(super) fn epochs(&self) -> Epochs {
        self.epochs
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether the room has members.
    pub(super) fn is_in_use(&self, key: &RoomKey) -> bool {
        self.place.is_in_use(key)
    }

    /// The room of `key`, if it has a row.
    pub(super) fn find(
        &mut self,
        conn: &Connection,
        key: &RoomKey,
    ) -> rusqlite::Result<Option<&mut Room>> {
        if !self.known.contains_key(key)
            && let Some(room) = Room::load(conn, self.epochs, key)?
        {
            self.known.insert(key.clone(), room);
        }
        Ok(self.known.get_mut(key))
    }

    /// The room of `key`. If it has no row, it gets one, and `sender` is charged for it.
    pub(super) fn find_or_create(
        &mut self,
        conn: &Connection,
        key: &RoomKey,
        sender: Option<&SenderId>,
        now: i64,
    ) -> rusqlite::Result<Result<&mut Room, StoreError>> {
        if self.find(conn, key)?.is_none() {
            let creator = sender.map(ToString::to_string);
            if let Some(creator) = &creator
                && self.place.is_used_up(conn, creator)?
                && !self.evict(conn, Some(creator), now)?
            {
                return Ok(Err(self.place.refusal(sender)));
            }
            if self.place.is_full(self.counts.stored) && !self.evict(conn, None, now)? {
                return Ok(Err(self.place.refusal(None)));
            }
            let room = Room::create(conn, self.epochs, key, creator.as_deref(), now)?;
            if let Some(creator) = &creator {
                evict::count_room(conn, creator)?;
            }
            self.counts.stored += 1;
            self.known.insert(key.clone(), room);
        }
        // Just found or inserted, and the cache holds at least one room.
        self.known.get_mut(key).map(Ok).ok_or(rusqlite::Error::QueryReturnedNoRows)
    }

    /// Forgets a room, of those that `creator` has begun or of all; `false` if none could be found.
    fn evict(
        &mut self,
        conn: &Connection,
        creator: Option<&str>,
        now: i64,
    ) -> rusqlite::Result<bool> {
        let Some(victim) = self.place.victim(conn, creator, now)? else { return Ok(false) };
        self.forget(conn, &victim.key, victim.id)?;
        self.counts.evicted += 1;
        Ok(true)
    }

    /// Updates the cache after `room` was trimmed outside of it.
    pub(super) fn trimmed(&mut self, key: &RoomKey, room: &Room) {
        if let Some(known) = self.known.peek_mut(key) {
            *known = *room;
        }
    }

    /// Removes a room; its next history begins at 1 with another epoch.
    pub(super) fn forget(
        &mut self,
        conn: &Connection,
        key: &RoomKey,
        room: i64,
    ) -> rusqlite::Result<()> {
        evict::drop_room(conn, room)?;
        self.epochs.forget(conn, key)?;
        self.known.remove(key);
        self.counts.stored = self.counts.stored.saturating_sub(1);
        Ok(())
    }

    /// Drops what a rolled-back transaction did; `counts` are those before it.
    pub(super) fn reset(&mut self, counts: Counts) {
        self.known.clear();
        self.counts = counts;
    }
}

fn count(conn: &Connection) -> rusqlite::Result<u64> {
    conn.query_row("SELECT count(*) FROM rooms", [], |row| row.get::<_, i64>(0))
        .map(i64::cast_unsigned)
}
