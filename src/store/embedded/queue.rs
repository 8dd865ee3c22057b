//! Messages that wait for offline users.

use rusqlite::{Connection, params};

use super::{
    log::{ENTRY_COLUMNS, entry, pack, sql},
    reader::within,
    types::{Entry, QueuedItem, Settings, StoreError},
};
use crate::{limits::SenderId, protocol::names::UserId};

/// Puts `item` at the end of the user's queue and returns its place.
///
/// A `sender` may hold a tenth of the queue, rounded up, and of all queues what the settings allow. Without
/// a sender there is no such limit.
pub(super) fn enqueue(
    conn: &Connection,
    settings: &Settings,
    expired_at: i64,
    user: &UserId,
    sender: Option<&SenderId>,
    item: &Entry,
) -> rusqlite::Result<Result<u64, StoreError>> {
    let (limit, sender) = (settings.queue_size, sender.map(ToString::to_string));
    let (all, own): (i64, i64) = conn
        .prepare_cached(
            "SELECT count(*), count(CASE WHEN sender = ?3 THEN 1 END) FROM queue WHERE user = ?1 AND at > ?2",
        )?
        .query_row(params![user.as_str(), expired_at, sender], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if all >= sql(limit) || (sender.is_some() && own >= sql(limit.div_ceil(10))) {
        return Ok(Err(StoreError::QueueFull));
    }
    let size = item.size() as u64;
    if let Some(sender) = &sender
        && settings.queue_sender_limit > 0
    {
        let (count, bytes) = outstanding(conn, expired_at, sender)?;
        // One message always fits.
        if count >= settings.queue_sender_limit
            || (count > 0 && bytes.saturating_add(size) > settings.queue_sender_bytes())
        {
            return Ok(Err(StoreError::SenderQueueFull));
        }
    }
    conn.prepare_cached(
        "INSERT INTO queue (user, sender, at, id, event, json, attachments, size)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        user.as_str(),
        sender,
        item.timestamp_ms,
        item.id,
        item.event,
        &*item.json,
        pack(&item.attachments),
        sql(size)
    ])?;
    Ok(Ok(conn.last_insert_rowid().cast_unsigned()))
}

/// How many messages of `sender` wait in all queues, and their bytes.
fn outstanding(conn: &Connection, expired_at: i64, sender: &str) -> rusqlite::Result<(u64, u64)> {
    conn.prepare_cached(
        "SELECT count(*), coalesce(sum(size), 0) FROM queue WHERE sender = ?1 AND at > ?2",
    )?
    .query_row(params![sender, expired_at], |row| {
        Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned()))
    })
}

/// The user's messages after `after`, in order: at most `limit`, and within `max_bytes` except for the
/// first.
pub(super) fn read(
    conn: &Connection,
    expired_at: i64,
    user: &UserId,
    after: u64,
    limit: usize,
    max_bytes: usize,
) -> rusqlite::Result<Vec<QueuedItem>> {
    let mut statement = conn.prepare_cached(&format!(
        "SELECT seq, {ENTRY_COLUMNS} FROM queue WHERE user = ?1 AND at > ?2 AND seq > ?3 ORDER BY seq LIMIT ?4"
    ))?;
    let rows =
        statement.query(params![user.as_str(), expired_at, sql(after), sql(limit as u64)])?;
    within(rows, max_bytes, |row| {
        let entry = entry(row, 1)?;
        Ok((entry.size(), QueuedItem { seq: row.get::<_, i64>(0)?.cast_unsigned(), entry }))
    })
}

/// How many messages wait for the user.
pub(super) fn len(conn: &Connection, expired_at: i64, user: &UserId) -> rusqlite::Result<u64> {
    conn.prepare_cached("SELECT count(*) FROM queue WHERE user = ?1 AND at > ?2")?
        .query_row(params![user.as_str(), expired_at], |row| row.get::<_, i64>(0))
        .map(i64::cast_unsigned)
}

/// Removes the user's messages up to and including `up_to`; returns how many.
pub(super) fn confirm(conn: &Connection, user: &UserId, up_to: u64) -> rusqlite::Result<u64> {
    conn.prepare_cached("DELETE FROM queue WHERE user = ?1 AND seq <= ?2")?
        .execute(params![user.as_str(), sql(up_to)])
        .map(|removed| removed as u64)
}

/// Removes expired messages from the front of all queues, at most `budget` of them.
pub(super) fn sweep(
    conn: &Connection,
    expired_at: i64,
    budget: &mut usize,
) -> rusqlite::Result<()> {
    // Places follow time, so the expired ones come first. Reading only the first `budget` rows bounds the
    // work.
    let front: Vec<(i64, i64)> = conn
        .prepare_cached("SELECT seq, at FROM queue ORDER BY seq LIMIT ?1")?
        .query_map([sql(*budget as u64)], |row| Ok((row.get(0)?, row.get(1)?)))?
        .take_while(|row| !row.as_ref().is_ok_and(|(_, at)| *at > expired_at))
        .collect::<rusqlite::Result<_>>()?;
    if let Some((last, _)) = front.last() {
        let removed = conn.prepare_cached("DELETE FROM queue WHERE seq <= ?1")?.execute([last])?;
        *budget = budget.saturating_sub(removed);
    }
    Ok(())
}
