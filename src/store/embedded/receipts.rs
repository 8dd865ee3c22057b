//! Receipts: stored beside their message and trimmed with it.

use rusqlite::{Connection, OptionalExtension, params, types::Type};

use super::{
    held::Room,
    log::{Window, sql},
    rooms::Rooms,
    types::{MAX_RECEIPTS, Receipt},
};
use crate::protocol::names::UserId;

/// Records that `user` has read the newest message with this id. `false` if no such message can be read, or
/// if it has the most receipts allowed. A user's second receipt changes nothing and counts as recorded.
pub(super) fn record(
    conn: &Connection,
    rooms: &Rooms,
    room: Room,
    window: Window,
    message_id: &str,
    user: &UserId,
    timestamp_ms: i64,
) -> rusqlite::Result<bool> {
    let Some(offset) = rooms.find_message(conn, room, window, message_id)?.map(sql) else {
        return Ok(false);
    };
    let known = conn
        .prepare_cached("SELECT 1 FROM receipts WHERE room = ?1 AND offset = ?2 AND user = ?3")?
        .query_row(params![room.id, offset, user.as_str()], |_| Ok(()))
        .optional()?
        .is_some();
    if known {
        return Ok(true);
    }
    let count: i64 = conn
        .prepare_cached("SELECT count(*) FROM receipts WHERE room = ?1 AND offset = ?2")?
        .query_row([room.id, offset], |row| row.get(0))?;
    if count >= sql(MAX_RECEIPTS) {
        return Ok(false);
    }
    conn.prepare_cached("INSERT INTO receipts (room, offset, user, at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![room.id, offset, user.as_str(), timestamp_ms])?;
    Ok(true)
}

/// The receipts of the messages `from` to `to`, with their offsets, ordered by offset and then by
/// recording.
pub(super) fn read(
    conn: &Connection,
    room: i64,
    from: u64,
    to: u64,
) -> rusqlite::Result<Vec<(u64, Receipt)>> {
    conn.prepare_cached(
        "SELECT offset, user, at FROM receipts WHERE room = ?1 AND offset BETWEEN ?2 AND ?3 ORDER BY offset, id",
    )?
    .query_map(params![room, sql(from), sql(to)], |row| {
        let user = UserId::parse(row.get_ref(1)?.as_str()?)
            .map_err(|error| rusqlite::Error::FromSqlConversionFailure(1, Type::Text, error.into()))?;
        Ok((row.get::<_, i64>(0)?.cast_unsigned(), Receipt { user, timestamp_ms: row.get(2)? }))
    })?
    .collect()
}
