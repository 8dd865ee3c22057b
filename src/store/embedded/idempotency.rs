//! Idempotency keys: each with the content that it belongs to, and what is needed to answer again.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    log::{expired_at, sql},
    pending::{Outcome, Past},
    types::{Settings, StoreError},
};
use crate::store::idempotency::{Digest, Once};

/// The most keys beyond a limit that are forgotten at a time.
const FORGOTTEN: u64 = 512;

/// The claims of an earlier process have ended with it.
pub(super) fn end_claims(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute("DELETE FROM idempotency_keys WHERE answer IS NULL", [])?;
    Ok(())
}

/// The outcome of a write that is not to happen now: it happened before, or somebody else is at it.
pub(super) fn look_up(
    conn: &Connection,
    settings: &Settings,
    once: &Once,
) -> rusqlite::Result<Option<Result<Outcome, StoreError>>> {
    let now = settings.clock.now_ms();
    let found: Option<(Digest, i64, Option<String>, i64)> = conn
        .prepare_cached("SELECT content, number, answer, at FROM idempotency_keys WHERE key = ?1")?
        .query_row([&once.key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?;
    let Some((content, number, answer, at)) = found else { return Ok(None) };
    let is_over = match &answer {
        Some(_) => at <= expired_at(now, Some(settings.idempotency_window)),
        None => at.saturating_add(number) <= now,
    };
    if is_over {
        return Ok(None);
    }
    if content != once.content {
        return Ok(Some(Err(StoreError::KeyReused)));
    }
    let known = match answer {
        None => Past::UnderWay.into(),
        Some(answer) => {
            let past = Some(Past::Done(answer.into()));
            Outcome { past, ..number.cast_unsigned().into() }
        }
    };
    Ok(Some(Ok(known)))
}

/// Claims a key for as long as `lease`; without a lease remembers it with its answer.
pub(super) fn claim(
    conn: &Connection,
    settings: &Settings,
    once: &Once,
    lease: Option<Duration>,
) -> rusqlite::Result<Result<Outcome, StoreError>> {
    if let Some(known) = look_up(conn, settings, once)? {
        return Ok(known);
    }
    match lease {
        None => remember(conn, settings, once, 0)?,
        Some(lease) => {
            let millis = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
            insert(conn, settings, once, millis, None)?;
        }
    }
    Ok(Ok(1.into()))
}

/// Leaves the answer to what was claimed, unless there is one.
pub(super) fn settle(conn: &Connection, settings: &Settings, once: &Once) -> rusqlite::Result<()> {
    match look_up(conn, settings, once)? {
        None | Some(Ok(Outcome { past: Some(Past::UnderWay), .. })) => {
            remember(conn, settings, once, 0)
        }
        Some(_) => Ok(()),
    }
}

/// Gives a claim back.
pub(super) fn release(conn: &Connection, key: &Digest) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM idempotency_keys WHERE key = ?1 AND answer IS NULL")?
        .execute([key])?;
    Ok(())
}

/// Remembers the key of a write that was done, and its number.
pub(super) fn remember(
    conn: &Connection,
    settings: &Settings,
    once: &Once,
    number: u64,
) -> rusqlite::Result<()> {
    insert(conn, settings, once, number, Some(&once.answer))
}

fn insert(
    conn: &Connection,
    settings: &Settings,
    once: &Once,
    number: u64,
    answer: Option<&str>,
) -> rusqlite::Result<()> {
    let sender = once.sender.as_ref().map(ToString::to_string);
    let nth = sender.as_ref().map(|sender| nth_of(conn, sender)).transpose()?;
    conn.prepare_cached(
        "INSERT OR REPLACE INTO idempotency_keys (key, content, number, answer, at, sender, nth)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        once.key,
        once.content,
        sql(number),
        answer,
        settings.clock.now_ms(),
        sender,
        nth
    ])?;
    let newest = conn.last_insert_rowid();
    if let (Some(sender), Some(nth)) = (&sender, nth)
        && let Some(last) = excess(nth, settings.max_keys_per_sender)
    {
        conn.prepare_cached(
            "DELETE FROM idempotency_keys WHERE id IN
             (SELECT id FROM idempotency_keys WHERE sender = ?1 AND nth <= ?2 ORDER BY nth LIMIT ?3)",
        )?
        .execute(params![sender, last, sql(FORGOTTEN)])?;
    }
    if let Some(last) = excess(newest, settings.max_keys) {
        conn.prepare_cached(
            "DELETE FROM idempotency_keys WHERE id IN
             (SELECT id FROM idempotency_keys WHERE id <= ?1 ORDER BY id LIMIT ?2)",
        )?
        .execute(params![last, sql(FORGOTTEN)])?;
    }
    Ok(())
}

/// The number of the sender's next key.
fn nth_of(conn: &Connection, sender: &str) -> rusqlite::Result<i64> {
    conn.prepare_cached("SELECT coalesce(max(nth), 0) + 1 FROM idempotency_keys WHERE sender = ?1")?
        .query_row([sender], |row| row.get(0))
}

/// The last of the numbers up to `newest` that are too many, if it is time to look: a chunk at a time costs less.
fn excess(newest: i64, limit: u64) -> Option<i64> {
    let chunk = sql((limit / 16).clamp(1, 64));
    (newest % chunk == 0).then(|| newest - sql(limit)).filter(|last| *last > 0)
}

/// Forgets what is too old, at most `budget` keys.
pub(super) fn sweep(
    conn: &Connection,
    settings: &Settings,
    budget: &mut usize,
) -> rusqlite::Result<()> {
    let now = settings.clock.now_ms();
    // Keys are in the order of their use. Reading only the first `budget` rows bounds the work.
    let removed = conn
        .prepare_cached(
            "DELETE FROM idempotency_keys WHERE id IN (SELECT id FROM idempotency_keys ORDER BY id LIMIT ?3)
             AND CASE WHEN answer IS NULL THEN at + number <= ?1 ELSE at <= ?2 END",
        )?
        .execute(params![
            now,
            expired_at(now, Some(settings.idempotency_window)),
            sql(*budget as u64)
        ])?;
    *budget = budget.saturating_sub(removed);
    Ok(())
}
