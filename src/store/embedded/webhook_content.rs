//! The messages that webhooks tell of: in the log for as long as their records are there, then with the webhooks.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, params};

use super::log::{sql, unpack, with_record};

/// A room message's JSON and attachments.
pub(super) type Content = (Arc<str>, Vec<Bytes>);

/// What stands for a message that is damaged on the disk: no JSON, so that its webhook is given up.
const DAMAGED: &str = "";

pub(super) fn damaged() -> Content {
    (DAMAGED.into(), Vec::new())
}

/// The content of the message in this place of the log.
pub(super) fn in_log(conn: &Connection, place: u64) -> rusqlite::Result<Content> {
    let found = with_record(conn, place, |record| {
        Ok((record.json.into(), record.attachments.map_or_else(Vec::new, unpack)))
    })?;
    Ok(found.unwrap_or_else(damaged))
}

/// Whether a webhook waits.
pub(super) fn are_waiting(conn: &Connection) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT 1 FROM webhooks LIMIT 1")?.exists([])
}

/// Copies the message in this place of the log to the webhook that waits with it, if one does; returns how many bytes.
pub(super) fn keep(conn: &Connection, place: u64) -> rusqlite::Result<u64> {
    let is_in_log = conn
        .prepare_cached(
            "SELECT 1 FROM webhooks WHERE seq = ?1 AND offset IS NOT NULL AND data IS NULL",
        )?
        .exists([sql(place)])?;
    if !is_in_log {
        return Ok(0);
    }
    let found = with_record(conn, place, |record| {
        Ok((record.json.to_owned(), record.attachments.map(<[u8]>::to_vec)))
    })?;
    let (json, attachments) = found.unwrap_or_else(|| (DAMAGED.to_owned(), None));
    conn.prepare_cached("UPDATE webhooks SET data = ?2, attachments = ?3 WHERE seq = ?1")?
        .execute(params![sql(place), json, attachments])?;
    Ok((json.len() + attachments.map_or(0, |packed| packed.len())) as u64)
}
