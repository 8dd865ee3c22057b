//! Making place for a new room: the least recently used one without members is forgotten.
//!
//! A room's row holds a time *not later* than its last use, so that an append need not write it. If the
//! first room in that order has been used since, or has members, its row is updated and the next room is
//! checked. So each use costs at most one such check, and only when place is needed.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    log::sql,
    types::{RoomKey, Settings, StoreError},
};
use crate::{limits::SenderId, protocol::names::RoomName};

/// The most rooms checked to make place for one.
const LOOKS: usize = 32;

/// Tells whether a room has members, who would miss its messages.
pub(super) type InUse = Box<dyn Fn(&RoomKey) -> bool + Send>;

/// How many rooms there may be, and which of them must stay.
pub(super) struct Place {
    limit: u64,
    per_sender: u64,
    in_use: InUse,
}

/// A room that may be forgotten.
pub(super) struct Victim {
    pub id: i64,
    pub key: RoomKey,
}

impl Place {
    pub(super) fn new(settings: &Settings, in_use: InUse) -> Self {
        Self { limit: settings.max_rooms, per_sender: settings.max_rooms_per_sender, in_use }
    }

    /// Whether the room has members.
    pub(super) fn is_in_use(&self, key: &RoomKey) -> bool {
        (self.in_use)(key)
    }

    /// Whether one more than `stored` rooms would be too many.
    pub(super) fn is_full(&self, stored: u64) -> bool {
        self.limit > 0 && stored >= self.limit
    }

    /// Whether `creator` may begin no further room.
    pub(super) fn is_used_up(&self, conn: &Connection, creator: &str) -> rusqlite::Result<bool> {
        Ok(self.per_sender > 0 && begun(conn, creator)? >= self.per_sender)
    }

    pub(super) fn refusal(&self, sender: Option<&SenderId>) -> StoreError {
        match sender {
            Some(_) => StoreError::TooManyRoomsBegun { limit: self.per_sender },
            None => StoreError::TooManyRooms { limit: self.limit },
        }
    }

    /// The least recently used room without members, of those that `creator` has begun or of all; `None` if
    /// none of the checked rooms may go. `newest_at` tells the time of a room's newest message.
    pub(super) fn victim(
        &self,
        conn: &Connection,
        creator: Option<&str>,
        now: i64,
        newest_at: impl Fn(i64) -> i64,
    ) -> rusqlite::Result<Option<Victim>> {
        for _ in 0..LOOKS {
            let Some((victim, recorded)) = first(conn, creator)? else { return Ok(None) };
            let used = if self.is_in_use(&victim.key) {
                now.max(recorded + 1)
            } else {
                newest_at(victim.id)
            };
            if used <= recorded {
                return Ok(Some(victim));
            }
            record_use(conn, victim.id, used)?;
        }
        Ok(None)
    }
}

/// The room with the oldest recorded use, and that time.
fn first(conn: &Connection, creator: Option<&str>) -> rusqlite::Result<Option<(Victim, i64)>> {
    let (condition, order) = match creator {
        Some(_) => ("creator = ?1", "rooms_by_creator"),
        None => ("?1 IS NULL", "rooms_by_use"),
    };
    conn.prepare_cached(&format!(
        "SELECT id, namespace, name, used FROM rooms INDEXED BY {order}
         WHERE {condition} ORDER BY used LIMIT 1"
    ))?
    .query_row([creator], |row| {
        let name = row.get_ref(2)?.as_str()?;
        let room = RoomName::parse(name).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, error.into())
        })?;
        let key = RoomKey { namespace: row.get_ref(1)?.as_str()?.into(), room };
        Ok((Victim { id: row.get(0)?, key }, row.get(3)?))
    })
    .optional()
}

/// Records a use of the room.
pub(super) fn record_use(conn: &Connection, room: i64, used: i64) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE rooms SET used = ?2 WHERE id = ?1")?.execute([room, used])?;
    Ok(())
}

/// How many stored rooms `creator` has begun.
fn begun(conn: &Connection, creator: &str) -> rusqlite::Result<u64> {
    let found: Option<i64> = conn
        .prepare_cached("SELECT rooms FROM creators WHERE creator = ?1")?
        .query_row([creator], |row| row.get(0))
        .optional()?;
    Ok(found.unwrap_or(0).cast_unsigned())
}

/// Notes that `creator` has begun a room.
pub(super) fn count_room(conn: &Connection, creator: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO creators (creator, rooms) VALUES (?1, 1)
         ON CONFLICT (creator) DO UPDATE SET rooms = rooms + 1",
    )?
    .execute([creator])?;
    Ok(())
}

/// Removes a room's row, and marks its receipts, if any, for deletion. Its messages are nobody's from now on.
pub(super) fn drop_room(conn: &Connection, room: i64) -> rusqlite::Result<()> {
    let creator: Option<String> = conn
        .prepare_cached("DELETE FROM rooms WHERE id = ?1 RETURNING creator")?
        .query_row([room], |row| row.get(0))?;
    if let Some(creator) = creator {
        conn.prepare_cached("UPDATE creators SET rooms = rooms - 1 WHERE creator = ?1")?
            .execute([&creator])?;
        conn.prepare_cached("DELETE FROM creators WHERE creator = ?1 AND rooms < 1")?
            .execute([&creator])?;
    }
    conn.prepare_cached(
        "INSERT INTO dropped (room) SELECT ?1 WHERE EXISTS (SELECT 1 FROM receipts WHERE room = ?1)",
    )?
    .execute([room])?;
    Ok(())
}

/// Deletes receipts of forgotten rooms: at most `budget` of them, which shrinks by as many.
pub(super) fn purge(conn: &Connection, budget: &mut usize) -> rusqlite::Result<()> {
    while *budget > 0 {
        let next: Option<i64> = conn
            .prepare_cached("SELECT room FROM dropped LIMIT 1")?
            .query_row([], |row| row.get(0))
            .optional()?;
        let Some(room) = next else { return Ok(()) };
        let receipts = conn
            .prepare_cached(
                "DELETE FROM receipts WHERE id IN (SELECT id FROM receipts WHERE room = ?1 LIMIT ?2)",
            )?
            .execute(params![room, sql(*budget as u64)])?;
        if receipts < *budget {
            conn.prepare_cached("DELETE FROM dropped WHERE room = ?1")?.execute([room])?;
        }
        *budget = budget.saturating_sub(receipts.max(1));
    }
    Ok(())
}
