//! Deletes what is too old, a little at a time: one bounded step a second, and the next at once while there
//! is more to delete. Nothing waits for it, since what is too old can no longer be read anyway.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    evict, idempotency,
    log::{Room, Window, expired_at, sql},
    queue, revocations,
    rooms::Rooms,
    types::{RoomKey, Settings},
};
use crate::protocol::names::RoomName;

/// Rooms checked in one step.
const ROOMS: usize = 256;
/// How much later than recorded a room must have been used for its row to be updated: ten minutes, in
/// milliseconds.
const USE_NOTED_AFTER: i64 = 600_000;
/// Rows deleted in one step.
pub(super) const ROWS: usize = 500;

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// There is more to delete than one step may.
    More,
    /// There are more rooms to check.
    Later,
    /// Every room was checked since the pass began; the next step begins another.
    Finished,
}

/// How far the pass over all rooms has come.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    after_room: i64,
}

struct Candidate {
    key: Option<RoomKey>,
    room: Room,
    emptied_at: i64,
    used: i64,
    newest_at: i64,
}

impl Sweep {
    /// One step, inside the caller's transaction; deletes at most `budget` rows besides forgotten
    /// rooms. After an error the caller rolls back and begins anew with a fresh sweep.
    pub(super) fn step(
        &mut self,
        conn: &Connection,
        rooms: &mut Rooms,
        settings: &Settings,
        mut budget: usize,
    ) -> rusqlite::Result<Progress> {
        let now = settings.clock.now_ms();
        queue::sweep(conn, expired_at(now, settings.queue_ttl), &mut budget)?;
        revocations::sweep(conn, now, &mut budget)?;
        idempotency::sweep(conn, settings, &mut budget)?;
        if budget == 0 {
            return Ok(Progress::More);
        }
        evict::purge(conn, &mut budget)?;
        let candidates = self.candidates(conn, rooms)?;
        let looked_at = candidates.len();
        for Candidate { key, mut room, emptied_at, used, newest_at } in candidates {
            if budget == 0 {
                return Ok(Progress::More);
            }
            let Some(key) = key else {
                self.after_room = room.id;
                continue;
            };
            if room.first <= room.head {
                let keep_from = keep_from(conn, &room, Window::new(settings), budget)?;
                room.trim(conn, keep_from, &mut budget)?;
                if room.first > room.head {
                    room.mark_emptied(conn, now)?;
                } else {
                    let used_at = if rooms.is_in_use(&key) { now } else { newest_at };
                    if used_at > used.saturating_add(USE_NOTED_AFTER) {
                        evict::record_use(conn, room.id, used_at)?;
                    }
                }
                rooms.trimmed(&key, &room);
                if budget == 0 {
                    // This room may have more to delete.
                    return Ok(Progress::More);
                }
            } else if settings.history_ttl.is_some()
                && emptied_at <= expired_at(now, settings.history_ttl)
            {
                // It was emptied a TTL ago, so its last message is at least two TTLs old.
                rooms.forget(conn, &key, room.id)?;
            }
            self.after_room = room.id;
        }
        if looked_at == ROOMS {
            return Ok(Progress::Later);
        }
        self.after_room = 0;
        Ok(Progress::Finished)
    }

    fn candidates(&self, conn: &Connection, rooms: &Rooms) -> rusqlite::Result<Vec<Candidate>> {
        conn.prepare_cached(
            "SELECT id, namespace, name, epoch, head, emptied_at, used,
                    (SELECT at FROM messages WHERE room = rooms.id ORDER BY offset DESC LIMIT 1),
                    (SELECT min(offset) FROM messages WHERE room = rooms.id),
                    (SELECT max(offset) FROM messages WHERE room = rooms.id)
             FROM rooms WHERE id > ?1 ORDER BY id LIMIT ?2",
        )?
        .query_map([self.after_room, sql(ROOMS as u64)], |row| {
            let name = RoomName::parse(row.get_ref(2)?.as_str()?).ok();
            let namespace = row.get_ref(1)?.as_str()?.into();
            let (first, last): (Option<i64>, Option<i64>) = (row.get(8)?, row.get(9)?);
            let head = last.map_or_else(|| row.get(4), Ok)?.cast_unsigned();
            let epoch = rooms.epochs().salted(row.get::<_, i64>(3)?.cast_unsigned());
            Ok(Candidate {
                key: name.map(|room| RoomKey { namespace, room }),
                room: Room {
                    id: row.get(0)?,
                    epoch,
                    head,
                    first: first.map_or(head + 1, i64::cast_unsigned),
                },
                emptied_at: row.get(5)?,
                used: row.get(6)?,
                newest_at: row.get::<_, Option<i64>>(7)?.unwrap_or(0),
            })
        })?
        .collect()
    }
}

/// The first message to keep, judging by the next `budget` messages.
fn keep_from(
    conn: &Connection,
    room: &Room,
    window: Window,
    budget: usize,
) -> rusqlite::Result<u64> {
    let by_size = (room.head + 1).saturating_sub(window.size).max(room.first);
    if window.expired_at == i64::MIN {
        return Ok(by_size);
    }
    let horizon = by_size.saturating_add(budget as u64).min(room.head + 1);
    let fresh: Option<i64> = conn
        .prepare_cached(
            "SELECT offset FROM messages WHERE room = ?1 AND offset >= ?2 AND offset < ?3 AND at > ?4
             ORDER BY offset LIMIT 1",
        )?
        .query_row(params![room.id, sql(by_size), sql(horizon), window.expired_at], |row| row.get(0))
        .optional()?;
    Ok(fresh.map_or(horizon, i64::cast_unsigned))
}
