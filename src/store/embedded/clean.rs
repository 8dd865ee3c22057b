//! Takes back the space of records that no room has any more: from the oldest end of the log, whose records are
//! deleted once those that a room still has were copied to the newest end.
//!
//! A record is deleted in a later transaction than the one that copied it, so that a reader that has found its place
//! in the index finds the record there, or finds that the index knows a newer place.

use rusqlite::Connection;

use super::{held::bytes_in_log, log::sql, rooms::Rooms};

/// The most bytes looked at in one step, and copied; one record may be larger.
const LOOKED_AT: u64 = 2_000_000;
const COPIED: u64 = 500_000;

/// How far it has come.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clean {
    /// What a room has of the records up to this place was copied.
    until: u64,
    /// The bytes of the records up to there that are still in the log.
    bytes: u64,
}

struct Old {
    place: u64,
    room: i64,
    offset: u64,
    bytes: u64,
}

impl Clean {
    /// The bytes whose space the next step takes back in any case.
    pub(super) fn pending(&self) -> u64 {
        self.bytes
    }

    /// One step, inside the caller's transaction: deletes what the step before has looked at, and looks at no more
    /// than `rows` records. If the transaction fails, the step must be taken back.
    pub(super) fn step(
        &mut self,
        conn: &Connection,
        rooms: &mut Rooms,
        rows: usize,
    ) -> rusqlite::Result<()> {
        if self.bytes > 0 {
            conn.prepare_cached("DELETE FROM log WHERE place <= ?1")?.execute([sql(self.until)])?;
            rooms.deleted(self.bytes);
            self.bytes = 0;
        }
        let mut copied = 0;
        for old in oldest(conn, self.until, rows)? {
            if self.bytes >= LOOKED_AT || copied >= COPIED {
                break;
            }
            if rooms.has(old.room, old.offset, old.place) {
                let place = rooms.move_forward(old.room, old.offset, old.bytes);
                conn.prepare_cached(
                    "INSERT INTO log SELECT ?2, room, offset, first, at, checksum, id, event, left_out, attachments, json
                     FROM log WHERE place = ?1",
                )?
                .execute([sql(old.place), sql(place)])?;
                copied += old.bytes;
            }
            self.until = old.place;
            self.bytes += old.bytes;
        }
        Ok(())
    }
}

fn oldest(conn: &Connection, after: u64, limit: usize) -> rusqlite::Result<Vec<Old>> {
    conn.prepare_cached(
        "SELECT place, room, offset, octet_length(id) + octet_length(event) + coalesce(octet_length(left_out), 0)
                + coalesce(octet_length(attachments), 0) + octet_length(json)
         FROM log WHERE place > ?1 ORDER BY place LIMIT ?2",
    )?
    .query_map([sql(after), sql(limit as u64)], |row| {
        Ok(Old {
            place: row.get::<_, i64>(0)?.cast_unsigned(),
            room: row.get(1)?,
            offset: row.get::<_, i64>(2)?.cast_unsigned(),
            bytes: bytes_in_log(row.get::<_, i64>(3)?.cast_unsigned()),
        })
    })?
    .collect()
}
