//! Trims history to make room: what a store does about `STORE_MAX_BYTES` before it refuses anything.
//!
//! The largest rooms are trimmed first, and their oldest messages first: no room may hold more bytes than a
//! *level*, which falls from pass to pass until enough is freed. So a sender that fills one room, or a
//! thousand, loses its messages before others do. `oldest` shows what is gone, as after any other trimming.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    log::{Room, sql},
    reserve::xorshift,
    rooms::Rooms,
    types::RoomKey,
};
use crate::protocol::names::RoomName;

/// Rooms checked in one step.
const ROOMS: usize = 32;
/// The most messages measured to estimate a room's size; a room with no more than that is measured exactly.
const SAMPLES: u64 = 8;
/// The bytes that a message takes besides its content.
const OVERHEAD: u64 = 120;
/// The lowest level: a lower one would free no pages.
const LOWEST: u64 = 65_536;

/// How far the trimming has come.
pub(super) struct Trim {
    after_room: i64,
    /// The bytes that a room may hold.
    level: u64,
    /// The most bytes that a room was found to hold in this pass.
    largest: u64,
    random: u64,
    /// The messages trimmed in this pass.
    trimmed: u64,
    /// Whether a whole pass at the lowest level has found nothing.
    exhausted: bool,
}

impl Trim {
    /// Begins with nothing trimmed; no room can hold more than `max_bytes`.
    pub(super) fn new(max_bytes: u64) -> Self {
        let random = 0x2545_f491_4f6c_dd1d;
        Self { after_room: 0, level: max_bytes, largest: 0, random, trimmed: 0, exhausted: false }
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

    /// One step, inside the caller's transaction: deletes at most `budget` rows; returns how many
    /// messages those were.
    pub(super) fn step(
        &mut self,
        conn: &Connection,
        rooms: &mut Rooms,
        now: i64,
        mut budget: usize,
    ) -> rusqlite::Result<u64> {
        let mut trimmed = 0;
        let candidates = self.candidates(conn, rooms)?;
        let looked_at = candidates.len();
        for (key, mut room) in candidates {
            let bytes = self.estimate(conn, &room)?;
            self.largest = self.largest.max(bytes);
            if bytes > self.level {
                let before = room.first;
                room.trim(conn, keep_from(&room, bytes, self.level), &mut budget)?;
                trimmed += room.first - before;
                self.trimmed += room.first - before;
                if room.first > room.head {
                    room.mark_emptied(conn, now)?;
                }
                rooms.trimmed(&key, &room);
                if budget == 0 {
                    // This room may have more to trim.
                    return Ok(trimmed);
                }
            }
            self.after_room = room.id;
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

    fn candidates(
        &self,
        conn: &Connection,
        rooms: &Rooms,
    ) -> rusqlite::Result<Vec<(RoomKey, Room)>> {
        let mut statement = conn.prepare_cached(
            "SELECT namespace, name FROM rooms WHERE id > ?1 ORDER BY id LIMIT ?2",
        )?;
        let mut rows = statement.query(params![self.after_room, sql(ROOMS as u64)])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let Ok(room) = RoomName::parse(row.get_ref(1)?.as_str()?) else { continue };
            let key = RoomKey { namespace: row.get_ref(0)?.as_str()?.into(), room };
            if let Some(room) = Room::load(conn, rooms.epochs(), &key)? {
                found.push((key, room));
            }
        }
        Ok(found)
    }

    /// Estimates the bytes that the room's messages take.
    fn estimate(&mut self, conn: &Connection, room: &Room) -> rusqlite::Result<u64> {
        let count = room.head + 1 - room.first;
        let samples = count.min(SAMPLES);
        let mut bytes = 0;
        for sample in 0..samples {
            let offset = if count <= SAMPLES {
                room.first + sample
            } else {
                self.random = xorshift(self.random);
                room.first + self.random % count
            };
            let size: Option<i64> = conn
                .prepare_cached(
                    "SELECT octet_length(id) + octet_length(event) + octet_length(json)
                            + coalesce(octet_length(attachments), 0) + coalesce(octet_length(left_out), 0)
                     FROM messages WHERE room = ?1 AND offset = ?2",
                )?
                .query_row(params![room.id, sql(offset)], |row| row.get(0))
                .optional()?;
            bytes += size.unwrap_or(0).cast_unsigned() + OVERHEAD;
        }
        Ok(bytes.saturating_mul(count).checked_div(samples).unwrap_or(0))
    }
}

/// The first message to keep of a room that holds `bytes` and may hold `level`.
fn keep_from(room: &Room, bytes: u64, level: u64) -> u64 {
    let count = room.head + 1 - room.first;
    let kept = u128::from(count) * u128::from(level) / u128::from(bytes.max(1));
    room.head + 1 - u64::try_from(kept).unwrap_or(count).min(count)
}
