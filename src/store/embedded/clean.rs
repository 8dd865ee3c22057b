//! Takes back the space of records that no room has any more: from the oldest end of the log, whose records are
//! deleted once those that a room still has were copied to the newest end.
//!
//! A webhook that waits and whose message is in such a record gets a copy of it.
//!
//! A record is deleted in a later transaction than the one that copied it, so that a reader that has found its place
//! in the index finds the record there, or finds that the index knows a newer place.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::{held::bytes_in_log, index::Totals, log::sql, rooms::Rooms, webhook_content};

/// The most bytes looked at in one step, and copied; one record may be larger.
const LOOKED_AT: u64 = 500_000;
const COPIED: u64 = 250_000;
/// The most bytes that may be copied in advance, and those that each tick allows.
const CREDIT: u64 = 4_000_000;

/// How far it has come.
///
/// What is copied costs as much as what is new. Where rooms are written at different speeds, the oldest records are
/// mostly those of slow rooms, which would be copied again and again to take back little. So the bytes copied are
/// bounded by the bytes written, times a factor that grows with the share of what no room has any more: a factor of two
/// where that is a half, which is always enough.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clean {
    /// What a room has of the records up to this place was copied.
    until: u64,
    /// The bytes of the records up to there that are still in the log.
    bytes: u64,
    /// The bytes that may be copied.
    credit: u64,
    /// When copying was last allowed as time goes by.
    allowed: Instant,
}

impl Default for Clean {
    fn default() -> Self {
        Self { until: 0, bytes: 0, credit: CREDIT, allowed: Instant::now() }
    }
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

    /// Allows some copying for `written` new bytes in a log with these sums.
    pub(super) fn allow_for(&mut self, written: u64, log: Totals) {
        let twice = u128::from(written) * 2 * u128::from(log.dead()) / u128::from(log.kept.max(1));
        self.credit =
            self.credit.saturating_add(u64::try_from(twice).unwrap_or(u64::MAX)).min(CREDIT);
    }

    /// Allows some copying as time goes by, once in each `tick`.
    pub(super) fn allow_for_tick(&mut self, tick: Duration) {
        if self.allowed.elapsed() >= tick {
            (self.credit, self.allowed) = (CREDIT, Instant::now());
        }
    }

    /// One step, inside the caller's transaction: deletes what the step before has looked at, and looks at no more
    /// than `rows` records. Unless it is `urgent`, it copies no more than is allowed. If the transaction fails, the step
    /// must be taken back. Returns whether it has changed anything.
    pub(super) fn step(
        &mut self,
        conn: &Connection,
        rooms: &mut Rooms,
        rows: usize,
        urgent: bool,
    ) -> rusqlite::Result<bool> {
        let before = self.until;
        let deletes = self.bytes > 0;
        if deletes {
            conn.prepare_cached("DELETE FROM log WHERE place <= ?1")?.execute([sql(self.until)])?;
            rooms.deleted(self.bytes);
            self.bytes = 0;
        }
        let mut copied = 0;
        let webhooks_wait = webhook_content::are_waiting(conn)?;
        for old in oldest(conn, self.until, rows)? {
            if copied >= COPIED {
                break;
            }
            if rooms.has(old.room, old.offset, old.place) {
                if !urgent && self.credit == 0 {
                    break;
                }
                self.credit = self.credit.saturating_sub(old.bytes);
                let place = rooms.move_forward(old.room, old.offset, old.bytes);
                conn.prepare_cached(
                    "INSERT INTO log SELECT ?2, room, offset, first, at, checksum, id, event, left_out, attachments, json
                     FROM log WHERE place = ?1",
                )?
                .execute([sql(old.place), sql(place)])?;
                copied += old.bytes;
            }
            if webhooks_wait {
                copied += webhook_content::keep(conn, old.place)?;
            }
            self.until = old.place;
            self.bytes += old.bytes;
        }
        Ok(deletes || self.until > before)
    }
}

/// The oldest records, `limit` at most, and no more than are looked at in one step.
fn oldest(conn: &Connection, after: u64, limit: usize) -> rusqlite::Result<Vec<Old>> {
    let mut statement = conn.prepare_cached(
        "SELECT place, room, offset, octet_length(id) + octet_length(event) + coalesce(octet_length(left_out), 0)
                + coalesce(octet_length(attachments), 0) + octet_length(json)
         FROM log WHERE place > ?1 ORDER BY place LIMIT ?2",
    )?;
    let mut rows = statement.query([sql(after), sql(limit as u64)])?;
    let (mut found, mut looked_at) = (Vec::new(), 0);
    while looked_at < LOOKED_AT
        && let Some(row) = rows.next()?
    {
        let old = Old {
            place: row.get::<_, i64>(0)?.cast_unsigned(),
            room: row.get(1)?,
            offset: row.get::<_, i64>(2)?.cast_unsigned(),
            bytes: bytes_in_log(row.get::<_, i64>(3)?.cast_unsigned()),
        };
        looked_at += old.bytes;
        found.push(old);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_records_are_read_than_are_looked_at() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(
            "CREATE TABLE log (place INTEGER PRIMARY KEY, room, offset, id, event, left_out, attachments, json);
             INSERT INTO log SELECT value, 1, value, '', '', NULL, NULL, printf('%.*c', 100000, 'x')
             FROM (WITH RECURSIVE n (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 100) SELECT * FROM n);",
        )
        .unwrap();
        let found = |after, limit| {
            let found = oldest(&conn, after, limit).unwrap();
            found.iter().map(|old| old.place).collect::<Vec<_>>()
        };
        assert_eq!(found(0, 100), [1, 2, 3, 4, 5]);
        assert_eq!(found(7, 2), [8, 9]);
        assert_eq!(found(99, 100), [100]);
        assert!(found(100, 100).is_empty());
    }
}
