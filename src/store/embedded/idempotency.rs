//! Idempotency keys: each with the content that it belongs to, and what is needed to answer again.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Params, params};

use super::{
    keys::Keys,
    log::{expired_at, sql},
    pending::{Outcome, Past},
    types::{Settings, StoreError},
};
use crate::store::idempotency::{Digest, Once};

/// The most keys beyond a limit that are forgotten at a time.
const FORGOTTEN: usize = 512;

/// A key as it is stored.
struct Found {
    row: i64,
    content: Digest,
    /// The number of what was done; of a claim, for how many milliseconds it lasts.
    number: i64,
    /// None while it is claimed.
    answer: Option<String>,
    at: i64,
}

impl Found {
    fn is_over(&self, settings: &Settings) -> bool {
        let now = settings.clock.now_ms();
        match &self.answer {
            Some(_) => self.at <= expired_at(now, Some(settings.idempotency_window)),
            None => self.at.saturating_add(self.number) <= now,
        }
    }
}

/// Ends the claims of an earlier process, which have ended with it, and reads the keys.
pub(super) fn load(conn: &Connection) -> rusqlite::Result<Keys> {
    conn.execute("DELETE FROM idempotency_keys WHERE answer IS NULL", [])?;
    Keys::load(conn)
}

/// The outcome of a write that is not to happen now: it happened before, or somebody else is at it.
pub(super) fn look_up(
    conn: &Connection,
    keys: &Keys,
    settings: &Settings,
    once: &Once,
) -> rusqlite::Result<Option<Result<Outcome, StoreError>>> {
    let found = find(conn, keys, &once.key)?;
    let Some(found) = found.filter(|found| !found.is_over(settings)) else { return Ok(None) };
    if found.content != once.content {
        return Ok(Some(Err(StoreError::KeyReused)));
    }
    let known = match found.answer {
        None => Past::UnderWay.into(),
        Some(answer) => {
            let past = Some(Past::Done(answer.into()));
            Outcome { past, ..found.number.cast_unsigned().into() }
        }
    };
    Ok(Some(Ok(known)))
}

/// Claims a key for as long as `lease`; without a lease remembers it with its answer.
pub(super) fn claim(
    conn: &Connection,
    keys: &mut Keys,
    settings: &Settings,
    once: &Once,
    lease: Option<Duration>,
) -> rusqlite::Result<Result<Outcome, StoreError>> {
    if let Some(known) = look_up(conn, keys, settings, once)? {
        return Ok(known);
    }
    match lease {
        None => remember(conn, keys, settings, once, 0)?,
        Some(lease) => {
            let millis = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
            insert(conn, keys, settings, once, millis, None)?;
        }
    }
    Ok(Ok(1.into()))
}

/// Leaves the answer to what was claimed, unless there is one.
pub(super) fn settle(
    conn: &Connection,
    keys: &mut Keys,
    settings: &Settings,
    once: &Once,
) -> rusqlite::Result<()> {
    match look_up(conn, keys, settings, once)? {
        None | Some(Ok(Outcome { past: Some(Past::UnderWay), .. })) => {
            remember(conn, keys, settings, once, 0)
        }
        Some(_) => Ok(()),
    }
}

/// Gives a claim back.
pub(super) fn release(conn: &Connection, keys: &mut Keys, key: &Digest) -> rusqlite::Result<()> {
    match find(conn, keys, key)? {
        Some(Found { row, answer: None, .. }) => delete_row(conn, keys, row),
        _ => Ok(()),
    }
}

/// Remembers the key of a write that was done, and its number.
pub(super) fn remember(
    conn: &Connection,
    keys: &mut Keys,
    settings: &Settings,
    once: &Once,
    number: u64,
) -> rusqlite::Result<()> {
    insert(conn, keys, settings, once, number, Some(&once.answer))
}

/// The key's row.
fn find(conn: &Connection, keys: &Keys, key: &Digest) -> rusqlite::Result<Option<Found>> {
    for row in keys.rows_of(key) {
        let found = conn
            .prepare_cached(
                "SELECT content, number, answer, at FROM idempotency_keys WHERE id = ?1 AND key = ?2",
            )?
            .query_row(params![row, key], |columns| {
                Ok(Found {
                    row,
                    content: columns.get(0)?,
                    number: columns.get(1)?,
                    answer: columns.get(2)?,
                    at: columns.get(3)?,
                })
            })
            .optional()?;
        // Another key may begin alike.
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Stores the key as the newest one, in the place of an older row of it.
fn insert(
    conn: &Connection,
    keys: &mut Keys,
    settings: &Settings,
    once: &Once,
    number: u64,
    answer: Option<&str>,
) -> rusqlite::Result<()> {
    if let Some(older) = find(conn, keys, &once.key)? {
        delete_row(conn, keys, older.row)?;
    }
    let sender = once.sender.as_ref().map(ToString::to_string);
    let row = keys.add(&once.key, sender.as_deref());
    conn.prepare_cached(
        "INSERT INTO idempotency_keys (id, key, content, number, answer, at, sender)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        row,
        once.key,
        once.content,
        sql(number),
        answer,
        settings.clock.now_ms(),
        sender,
    ])?;
    make_way(conn, keys, settings, sender.as_deref())
}

/// Forgets the oldest keys where there are too many, of the sender and of all.
fn make_way(
    conn: &Connection,
    keys: &mut Keys,
    settings: &Settings,
    sender: Option<&str>,
) -> rusqlite::Result<()> {
    if let Some(sender) = sender {
        let excess = excess(keys.count_of(sender), settings.max_keys_per_sender);
        for row in keys.oldest_of(sender, excess) {
            delete_row(conn, keys, row)?;
        }
    }
    let excess = excess(keys.len(), settings.max_keys);
    if excess > 0 {
        delete(
            conn,
            keys,
            "DELETE FROM idempotency_keys
             WHERE id <= (SELECT max(id) FROM (SELECT id FROM idempotency_keys ORDER BY id LIMIT ?1))
             RETURNING id, key, sender",
            [sql(excess as u64)],
        )?;
    }
    Ok(())
}

/// How many of so many keys are to be forgotten now: a chunk at a time costs less.
fn excess(count: usize, limit: u64) -> usize {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let excess = count.saturating_sub(limit);
    if excess < (limit / 16).clamp(1, 64) { 0 } else { excess.min(FORGOTTEN) }
}

fn delete_row(conn: &Connection, keys: &mut Keys, row: i64) -> rusqlite::Result<()> {
    let statement = "DELETE FROM idempotency_keys WHERE id = ?1 RETURNING id, key, sender";
    delete(conn, keys, statement, [row]).map(drop)
}

/// Deletes what the statement deletes and returns; returns how many.
fn delete(
    conn: &Connection,
    keys: &mut Keys,
    statement: &str,
    params: impl Params,
) -> rusqlite::Result<usize> {
    let mut statement = conn.prepare_cached(statement)?;
    let mut rows = statement.query(params)?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        keys.remove(row.get(0)?, &row.get(1)?, row.get_ref(2)?.as_str_or_null()?);
        count += 1;
    }
    Ok(count)
}

/// Forgets what is too old, at most `budget` keys.
pub(super) fn sweep(
    conn: &Connection,
    keys: &mut Keys,
    settings: &Settings,
    budget: &mut usize,
) -> rusqlite::Result<()> {
    let now = settings.clock.now_ms();
    // Keys are in the order of their use. Reading only the first `budget` rows bounds the work.
    let removed = delete(
        conn,
        keys,
        "DELETE FROM idempotency_keys
         WHERE id <= (SELECT max(id) FROM (SELECT id FROM idempotency_keys ORDER BY id LIMIT ?3))
         AND CASE WHEN answer IS NULL THEN at + number <= ?1 ELSE at <= ?2 END
         RETURNING id, key, sender",
        params![now, expired_at(now, Some(settings.idempotency_window)), sql(*budget as u64)],
    )?;
    *budget = budget.saturating_sub(removed);
    Ok(())
}
