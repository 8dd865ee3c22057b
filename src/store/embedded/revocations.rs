//! Revoked tokens.

use rusqlite::{Connection, params};

use super::{
    log::sql,
    types::{MAX_REVOCATIONS, Revoked},
};

/// Stores a revocation; `false` if there are as many as there may be.
pub(super) fn revoke(conn: &Connection, revoked: &Revoked, now: i64) -> rusqlite::Result<bool> {
    let count: i64 = conn
        .prepare_cached("SELECT count(*) FROM revocations WHERE expires_at > ?1")?
        .query_row([now], |row| row.get(0))?;
    if count >= sql(MAX_REVOCATIONS) {
        return Ok(false);
    }
    conn.prepare_cached("INSERT OR REPLACE INTO revocations VALUES (?1, ?2, ?3)")?
        .execute(params![revoked.id, revoked.expires_at_ms, revoked.json])?;
    Ok(true)
}

/// Removes a revocation; `false` if there is none.
pub(super) fn reinstate(conn: &Connection, id: &str) -> rusqlite::Result<bool> {
    let removed = conn.prepare_cached("DELETE FROM revocations WHERE id = ?1")?.execute([id])?;
    Ok(removed > 0)
}

/// The revocations in force.
pub(super) fn all(conn: &Connection, now: i64) -> rusqlite::Result<Vec<String>> {
    conn.prepare_cached("SELECT json FROM revocations WHERE expires_at > ?1")?
        .query_map([now], |row| row.get(0))?
        .collect()
}

/// Deletes those that are over, at most `budget` of them.
pub(super) fn sweep(conn: &Connection, now: i64, budget: &mut usize) -> rusqlite::Result<()> {
    let removed = conn
        .prepare_cached(
            "DELETE FROM revocations WHERE id IN
             (SELECT id FROM revocations WHERE expires_at <= ?1 LIMIT ?2)",
        )?
        .execute(params![now, sql(*budget as u64)])?;
    *budget = budget.saturating_sub(removed);
    Ok(())
}
