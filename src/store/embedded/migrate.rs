//! Moves the messages of a file of before the log into the log: some at a time, each time in one transaction with
//! their deletion, so that it can be interrupted at any moment, goes on at the next start, and needs little room.

use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, params};

use super::log::{Record, sql};

/// The most messages moved in one transaction, and the bytes after which it ends.
const MESSAGES: usize = 2_000;
const BYTES: u64 = 4_000_000;
/// How often progress is told.
const TOLD: Duration = Duration::from_secs(5);

/// Whether messages are left to move.
pub(super) fn is_pending(conn: &Connection) -> rusqlite::Result<bool> {
    conn.query_row(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'old_messages'",
        [],
        |row| row.get::<_, i64>(0),
    )
    .map(|tables| tables > 0)
}

/// Moves all messages that are left.
pub(super) fn finish(conn: &mut Connection) -> rusqlite::Result<()> {
    let (begun, mut told, mut moved) = (Instant::now(), Instant::now(), 0);
    while let Some(count) = step(conn)? {
        moved += count;
        if told.elapsed() >= TOLD {
            told = Instant::now();
            let seconds = begun.elapsed().as_secs();
            tracing::info!(
                moved,
                seconds,
                "bringing the store's file to this version's layout; it may be interrupted"
            );
        }
    }
    if moved > 0 {
        tracing::info!(moved, "the store's file has this version's layout");
    }
    Ok(())
}

/// Moves the next messages; returns how many, and `None` if there were none left.
pub(super) fn step(conn: &mut Connection) -> rusqlite::Result<Option<usize>> {
    let transaction = conn.transaction()?;
    let next: Option<(i64, i64)> = transaction
        .prepare_cached("SELECT room, offset FROM old_messages ORDER BY room, offset LIMIT 1")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((room, from)) = next else {
        transaction.execute_batch("DROP TABLE old_messages")?;
        transaction.commit()?;
        return Ok(None);
    };
    let (last, count) = copy(&transaction, room, from)?;
    transaction
        .prepare_cached("DELETE FROM old_messages WHERE room = ?1 AND offset <= ?2")?
        .execute([room, last])?;
    transaction.commit()?;
    Ok(Some(count))
}

/// Copies the room's next messages; returns the offset of the last one, and how many there were. Those of a
/// forgotten room are left out.
fn copy(conn: &Connection, room: i64, from: i64) -> rusqlite::Result<(i64, usize)> {
    let first: Option<i64> = conn
        .prepare_cached("SELECT first FROM rooms WHERE id = ?1")?
        .query_row([room], |row| row.get(0))
        .optional()?;
    let place: i64 = conn
        .prepare_cached("SELECT coalesce(max(place), 0) FROM log")?
        .query_row([], |row| row.get(0))?;
    let mut statement = conn.prepare_cached(
        "SELECT offset, at, id, event, left_out, attachments, json FROM old_messages
         WHERE room = ?1 AND offset >= ?2 ORDER BY offset LIMIT ?3",
    )?;
    let mut rows = statement.query(params![room, from, sql(MESSAGES as u64)])?;
    let (mut last, mut count, mut bytes) = (from, 0, 0);
    while let Some(row) = rows.next()? {
        last = row.get(0)?;
        count += 1;
        if let Some(first) = first {
            let record = Record {
                room,
                offset: last.cast_unsigned(),
                first: first.cast_unsigned(),
                at: row.get(1)?,
                id: row.get_ref(2)?.as_str()?,
                event: row.get_ref(3)?.as_str()?,
                left_out: row.get_ref(4)?.as_blob_or_null()?,
                attachments: row.get_ref(5)?.as_blob_or_null()?,
                json: row.get_ref(6)?.as_str()?,
            };
            record.insert(conn, place.cast_unsigned() + count as u64)?;
            bytes += record.size();
        }
        if bytes >= BYTES {
            break;
        }
    }
    Ok((last, count))
}
