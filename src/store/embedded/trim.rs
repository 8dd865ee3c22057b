//! Trims history to make room: what a store does about `STORE_MAX_BYTES` before it refuses anything.
//!
//! The largest rooms are trimmed first, and their oldest messages first: no room may hold more bytes than a
//! *level*, which falls from pass to pass until enough is freed. So a sender that fills one room, or a
//! thousand, loses its messages before others do. `oldest` shows what is gone, as after any other trimming.

use rusqlite::Connection;

use super::{log::sql, rooms::Rooms, types::RoomKey};
use crate::protocol::names::RoomName;

/// Rooms checked in one step.
const ROOMS: usize = 32;
/// The lowest level: a lower one would free too little.
const LOWEST: u64 = 65_536;

/// How far the trimming has come.
pub(super) struct Trim {
    after_room: i64,
    /// The bytes that a room may hold.
    level: u64,
    /// The most bytes that a room was found to hold in this pass.
    largest: u64,
    /// The messages trimmed in this pass.
    trimmed: u64,
    /// Whether a whole pass at the lowest level has found nothing.
    exhausted: bool,
}

impl Trim {
    /// Begins with nothing trimmed; no room can hold more than `max_bytes`.
    pub(super) fn new(max_bytes: u64) -> Self {
        Self { after_room: 0, level: max_bytes, largest: 0, trimmed: 0, exhausted: false }
    }

    /// Notes that enough was freed: the next trimming begins at a higher level.
    pub(super) fn relax(&mut self) {
        self.level = self.level.saturating_mul(2);
        self.exhausted = false;
    }

    /// Whether no history is left to trim.
    pub(super) fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    /// One step, inside the caller's transaction, in which no room may have changed yet: deletes at most `budget` receipts; returns how many
    /// messages were trimmed.
    pub(super) fn step(
        &mut self,
        conn: &Connection,
        rooms: &mut Rooms,
        now: i64,
        mut budget: usize,
    ) -> rusqlite::Result<u64> {
        let mut trimmed = 0;
        let candidates = self.candidates(conn)?;
        let looked_at = candidates.len();
        for (id, key) in candidates {
            let level = self.level;
            let found =
                rooms.held(id, |held| (held.room(id), held.bytes(), held.newest_within(level)));
            let (Some(key), Some((room, bytes, keep_from))) = (key, found) else { continue };
            self.largest = self.largest.max(bytes);
            if bytes > level {
                let left = rooms.trim(conn, &key, room, keep_from, now, &mut budget)?;
                trimmed += left.first - room.first;
                self.trimmed += left.first - room.first;
                if budget == 0 {
                    // This room may have more to trim.
                    return Ok(trimmed);
                }
            }
            self.after_room = id;
        }
        if looked_at < ROOMS {
            self.exhausted = self.level <= LOWEST && self.trimmed == 0;
            self.trimmed = 0;
            self.after_room = 0;
            self.level = (self.level.min(self.largest) / 2).max(LOWEST);
            self.largest = 0;
        }
        Ok(trimmed)
    }

    fn candidates(&self, conn: &Connection) -> rusqlite::Result<Vec<(i64, Option<RoomKey>)>> {
        conn.prepare_cached(
            "SELECT id, namespace, name FROM rooms WHERE id > ?1 ORDER BY id LIMIT ?2",
        )?
        .query_map([self.after_room, sql(ROOMS as u64)], |row| {
            let name = RoomName::parse(row.get_ref(2)?.as_str()?).ok();
            let namespace = row.get_ref(1)?.as_str()?.into();
            Ok((row.get(0)?, name.map(|room| RoomKey { namespace, room })))
        })?
        .collect()
    }
}
