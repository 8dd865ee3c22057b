//! The rooms that the writer knows by heart: as many as fit, so that an append to a busy room looks
//! nothing up.

use hashlink::LruCache;
use rusqlite::Connection;

use super::{
    epoch::Epochs,
    log::Room,
    types::{RoomKey, StoreError},
};

/// The writer's memory of the rooms. It follows the transaction that is under way; after a rollback
/// it must be [`Rooms::reset`].
pub(super) struct Rooms {
    known: LruCache<RoomKey, Room>,
    epochs: Epochs,
    /// Rooms with a row.
    count: u64,
    limit: u64,
}

impl Rooms {
    /// Remembers at most `capacity` rooms; `limit` rooms may have a row, 0: any number.
    pub fn new(
        conn: &Connection,
        epochs: Epochs,
        capacity: usize,
        limit: u64,
    ) -> rusqlite::Result<Self> {
        Ok(Self { known: LruCache::new(capacity), epochs, count: count(conn)?, limit })
    }

    pub fn epochs(&self) -> Epochs {
        self.epochs
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// The room of `key`, if it has a row.
    pub fn find(
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

    /// The room of `key`, which gets a row if it has none.
    pub fn find_or_create(
        &mut self,
        conn: &Connection,
        key: &RoomKey,
    ) -> rusqlite::Result<Result<&mut Room, StoreError>> {
        if self.find(conn, key)?.is_none() {
            if self.limit > 0 && self.count >= self.limit {
                return Ok(Err(StoreError::TooManyRooms { limit: self.limit }));
            }
            let room = Room::create(conn, self.epochs, key)?;
            self.count += 1;
            self.known.insert(key.clone(), room);
        }
        // Just found or inserted, and the memory holds at least one room.
        self.known.get_mut(key).map(Ok).ok_or(rusqlite::Error::QueryReturnedNoRows)
    }

    /// `room` was trimmed outside of this memory.
    pub fn trimmed(&mut self, key: &RoomKey, room: &Room) {
        if let Some(known) = self.known.peek_mut(key) {
            *known = *room;
        }
    }

    /// Removes an empty room; its next history begins at 1 with another epoch.
    pub fn forget(
        &mut self,
        conn: &Connection,
        key: &RoomKey,
        room: &Room,
    ) -> rusqlite::Result<()> {
        conn.prepare_cached("DELETE FROM rooms WHERE id = ?1")?.execute([room.id])?;
        self.epochs.forget(conn, key)?;
        self.known.remove(key);
        self.count = self.count.saturating_sub(1);
        Ok(())
    }

    /// Forgets what a transaction that was rolled back did; `count` is how many rooms there were
    /// before it.
    pub fn reset(&mut self, count: u64) {
        self.known.clear();
        self.count = count;
    }
}

fn count(conn: &Connection) -> rusqlite::Result<u64> {
    conn.query_row("SELECT count(*) FROM rooms", [], |row| row.get::<_, i64>(0))
        .map(i64::cast_unsigned)
}
