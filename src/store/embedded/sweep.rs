//! Deletes what is too old, a little at a time: one bounded step a second, and the next at once while there
//! is more to delete. Nothing waits for it, since what is too old can no longer be read anyway.

use rusqlite::Connection;

use super::{
    evict, idempotency,
    keys::Keys,
    log::{Window, expired_at, sql},
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
    id: i64,
    key: Option<RoomKey>,
    emptied_at: i64,
    used: i64,
}

impl Sweep {
    /// One step, inside the caller's transaction, in which no room may have changed yet; deletes at most `budget`
    /// rows besides forgotten rooms. After an error the caller rolls back and begins anew with a fresh sweep.
    pub(super) fn step(
        &mut self,
        conn: &Connection,
        rooms: &mut Rooms,
        keys: &mut Keys,
        settings: &Settings,
        mut budget: usize,
    ) -> rusqlite::Result<Progress> {
        let now = settings.clock.now_ms();
        queue::sweep(conn, expired_at(now, settings.queue_ttl), &mut budget)?;
        revocations::sweep(conn, now, &mut budget)?;
        idempotency::sweep(conn, keys, settings, &mut budget)?;
        if budget == 0 {
            return Ok(Progress::More);
        }
        evict::purge(conn, &mut budget)?;
        let candidates = self.candidates(conn)?;
        let looked_at = candidates.len();
        for Candidate { id, key, emptied_at, used } in candidates {
            if budget == 0 {
                return Ok(Progress::More);
            }
            let window = Window::new(settings);
            let found =
                rooms.held(id, |held| (held.room(id), held.oldest(window), held.newest_at()));
            let (Some(key), Some((room, oldest, newest_at))) = (key, found) else {
                self.after_room = id;
                continue;
            };
            if room.first <= room.head {
                let left = rooms.trim(conn, &key, room, oldest, now, &mut budget)?;
                if left.first <= left.head {
                    let used_at = if rooms.is_in_use(&key) { now } else { newest_at };
                    if used_at > used.saturating_add(USE_NOTED_AFTER) {
                        evict::record_use(conn, id, used_at)?;
                    }
                }
                if budget == 0 {
                    // This room may have more to delete.
                    return Ok(Progress::More);
                }
            } else if settings.history_ttl.is_some()
                && emptied_at <= expired_at(now, settings.history_ttl)
            {
                // It was emptied a TTL ago, so its last message is at least two TTLs old.
                rooms.forget(conn, &key, id)?;
            }
            self.after_room = id;
        }
        if looked_at == ROOMS {
            return Ok(Progress::Later);
        }
        self.after_room = 0;
        Ok(Progress::Finished)
    }

    fn candidates(&self, conn: &Connection) -> rusqlite::Result<Vec<Candidate>> {
        conn.prepare_cached(
            "SELECT id, namespace, name, emptied_at, used FROM rooms WHERE id > ?1 ORDER BY id LIMIT ?2",
        )?
        .query_map([self.after_room, sql(ROOMS as u64)], |row| {
            let name = RoomName::parse(row.get_ref(2)?.as_str()?).ok();
            let namespace = row.get_ref(1)?.as_str()?.into();
            Ok(Candidate {
                id: row.get(0)?,
                key: name.map(|room| RoomKey { namespace, room }),
                emptied_at: row.get(3)?,
                used: row.get(4)?,
            })
        })?
        .collect()
    }
}
