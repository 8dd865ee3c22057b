//! The rooms' messages in SQL: how far a room reaches, appending, trimming.
//!
//! **Trimming is lazy, reading is strict.** A room may hold somewhat more on disk than its limits allow,
//! and is trimmed in chunks. Readers compute the oldest readable offset and never see the surplus.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};

use super::{
    epoch::{Epochs, id_hash},
    types::{Entry, Extent, RoomKey, Settings},
};
use crate::{
    protocol::{audience::Except, epoch::Epoch, position::Position},
    store::codec::{decode_except, encode_except},
};

/// Which of a room's messages may be read now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub size: u64,
    /// Messages with this time stamp or an older one are too old.
    pub expired_at: i64,
}

impl Window {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            size: settings.history_size,
            expired_at: expired_at(settings.clock.now_ms(), settings.history_ttl),
        }
    }
}

/// The newest time stamp that is too old at `now`, in milliseconds.
pub(super) fn expired_at(now_ms: i64, ttl: Option<Duration>) -> i64 {
    let ttl = ttl.map(|ttl| i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX));
    ttl.map_or(i64::MIN, |ttl| now_ms.saturating_sub(ttl))
}

/// A number as SQLite stores it; no count or offset comes near the limit.
pub(super) fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A stored room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub id: i64,
    pub epoch: Epoch,
    /// The newest offset assigned.
    pub head: u64,
    /// The oldest message on disk; `head + 1` if there is none.
    pub first: u64,
}

impl Room {
    /// The room of `key`, if it has a row.
    pub(super) fn load(
        conn: &Connection,
        epochs: Epochs,
        key: &RoomKey,
    ) -> rusqlite::Result<Option<Self>> {
        conn.prepare_cached(
            "SELECT id, epoch, head, (SELECT min(offset) FROM messages WHERE room = rooms.id),
                    (SELECT max(offset) FROM messages WHERE room = rooms.id)
             FROM rooms WHERE namespace = ?1 AND name = ?2",
        )?
        .query_row([&*key.namespace, key.room.as_str()], |row| {
            let emptied_head: i64 = row.get(2)?;
            let (first, last): (Option<i64>, Option<i64>) = (row.get(3)?, row.get(4)?);
            let head = last.unwrap_or(emptied_head).cast_unsigned();
            let epoch = epochs.salted(row.get::<_, i64>(1)?.cast_unsigned());
            let first = first.map_or(head + 1, i64::cast_unsigned);
            Ok(Self { id: row.get(0)?, epoch, head, first })
        })
        .optional()
    }

    /// Creates the row of `key`. Its first message, of the time `now`, must follow in the same transaction.
    pub(super) fn create(
        conn: &Connection,
        epochs: Epochs,
        key: &RoomKey,
        creator: Option<&str>,
        now: i64,
    ) -> rusqlite::Result<Self> {
        let raw = epochs.derived(conn, key)?;
        // Messages of a forgotten room may still be stored under its id.
        conn.prepare_cached(
            "INSERT INTO rooms (id, namespace, name, epoch, head, emptied_at, creator, used)
             VALUES (1 + max(coalesce((SELECT max(id) FROM rooms), 0), coalesce((SELECT max(room) FROM dropped), 0)),
                     ?1, ?2, ?3, 0, 0, ?4, ?5)",
        )?
        .execute(params![&*key.namespace, key.room.as_str(), raw.cast_signed(), creator, now])?;
        Ok(Self { id: conn.last_insert_rowid(), epoch: epochs.salted(raw), head: 0, first: 1 })
    }

    /// Stores `entry` as the room's next message.
    pub(super) fn append(
        &mut self,
        conn: &Connection,
        entry: &Entry,
        except: &Except,
    ) -> rusqlite::Result<()> {
        let left_out = encode_except(except);
        let offset = self.head + 1;
        conn.prepare_cached("INSERT INTO messages VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?
            .execute(params![
                self.id,
                sql(offset),
                entry.timestamp_ms,
                id_hash(&entry.id),
                entry.id,
                entry.event,
                &*entry.json,
                pack(&entry.attachments),
                (!left_out.is_empty()).then_some(left_out),
            ])?;
        self.head = offset;
        Ok(())
    }

    /// The position of its newest message.
    pub(super) fn newest(&self) -> Position {
        Position { offset: self.head, epoch: self.epoch }
    }

    /// How many messages a room may hold beyond `size` before a chunk is trimmed: at most an
    /// eighth.
    pub(super) fn slack(size: u64) -> u64 {
        (size / 8).clamp(1, 64)
    }

    /// Deletes the messages before `keep_from`, oldest first, with their receipts: at most `budget`
    /// rows, which shrinks by as many as were deleted.
    pub(super) fn trim(
        &mut self,
        conn: &Connection,
        keep_from: u64,
        budget: &mut usize,
    ) -> rusqlite::Result<()> {
        let chunk = *budget as u64;
        let until = keep_from.min(self.first.saturating_add(chunk));
        if until <= self.first {
            return Ok(());
        }
        // Receipts first: a message may have a thousand of them, and may go only after they are gone.
        let receipts = conn
            .prepare_cached(
                "DELETE FROM receipts WHERE id IN
                 (SELECT id FROM receipts WHERE room = ?1 AND offset < ?2 LIMIT ?3)",
            )?
            .execute(params![self.id, sql(until), sql(chunk)])?;
        *budget = budget.saturating_sub(receipts);
        let until = until.min(self.first.saturating_add(*budget as u64));
        if until <= self.first {
            return Ok(());
        }
        let messages = conn
            .prepare_cached("DELETE FROM messages WHERE room = ?1 AND offset < ?2")?
            .execute(params![self.id, sql(until)])?;
        *budget = budget.saturating_sub(messages);
        self.first = until;
        Ok(())
    }

    /// Notes that the last message was deleted at `now`. The room makes way before all others, as nothing
    /// would be lost.
    pub(super) fn mark_emptied(&self, conn: &Connection, now: i64) -> rusqlite::Result<()> {
        conn.prepare_cached("UPDATE rooms SET head = ?2, emptied_at = ?3, used = 0 WHERE id = ?1")?
            .execute(params![self.id, sql(self.head), now])?;
        Ok(())
    }

    /// The oldest offset that can be read; `head + 1` if none can.
    pub(super) fn oldest(&self, conn: &Connection, window: Window) -> rusqlite::Result<u64> {
        let from = self.first.max((self.head + 1).saturating_sub(window.size));
        if window.expired_at == i64::MIN || from > self.head {
            return Ok(from);
        }
        let fresh: Option<i64> = conn
            .prepare_cached("SELECT offset FROM messages WHERE room = ?1 AND offset >= ?2 AND at > ?3 ORDER BY offset LIMIT 1")?
            .query_row(params![self.id, sql(from), window.expired_at], |row| row.get(0))
            .optional()?;
        Ok(fresh.map_or(self.head + 1, i64::cast_unsigned))
    }

    /// The newest readable message with this id.
    pub(super) fn find(
        &self,
        conn: &Connection,
        window: Window,
        message_id: &str,
    ) -> rusqlite::Result<Option<u64>> {
        let from = (self.head + 1).saturating_sub(window.size);
        let found: Option<(i64, i64)> = conn
            .prepare_cached(
                "SELECT offset, at FROM messages
                 WHERE room = ?1 AND id_hash = ?2 AND offset >= ?3 AND id = ?4 ORDER BY offset DESC LIMIT 1",
            )?
            .query_row(params![self.id, id_hash(message_id), sql(from), message_id], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        Ok(found
            .filter(|(_, at)| *at > window.expired_at)
            .map(|(offset, _)| offset.cast_unsigned()))
    }
}

/// How far the room of `key` reaches, stored or not.
pub(super) fn extent(
    conn: &Connection,
    epochs: Epochs,
    window: Window,
    key: &RoomKey,
) -> rusqlite::Result<(Extent, Option<Room>)> {
    let Some(room) = Room::load(conn, epochs, key)? else {
        let epoch = epochs.salted(epochs.derived(conn, key)?);
        return Ok((Extent { head: Position::start_of(epoch), oldest: 1 }, None));
    };
    let oldest = room.oldest(conn, window)?;
    Ok((Extent { head: room.newest(), oldest }, Some(room)))
}

/// The columns of an [`Entry`], for [`entry`].
pub(super) const ENTRY_COLUMNS: &str = "at, id, event, json, attachments";

/// Reads an [`Entry`] from [`ENTRY_COLUMNS`] beginning at column `from`.
pub(super) fn entry(row: &Row<'_>, from: usize) -> rusqlite::Result<Entry> {
    let attachments = row.get_ref(from + 4)?.as_blob_or_null()?;
    Ok(Entry {
        timestamp_ms: row.get(from)?,
        id: row.get(from + 1)?,
        event: row.get(from + 2)?,
        json: row.get_ref(from + 3)?.as_str()?.into(),
        attachments: attachments.map_or_else(Vec::new, unpack),
    })
}

/// Reads the recipients to skip from the column `at`.
pub(super) fn except(row: &Row<'_>, at: usize) -> rusqlite::Result<Except> {
    let bytes = row.get_ref(at)?.as_blob_or_null()?.unwrap_or_default();
    decode_except(bytes)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(at, Type::Blob, error.into()))
}

/// Attachments as one column, each after its length; `None` if there are none.
pub(super) fn pack(attachments: &[Bytes]) -> Option<Vec<u8>> {
    if attachments.is_empty() {
        return None;
    }
    let mut packed = Vec::with_capacity(attachments.iter().map(|bytes| 8 + bytes.len()).sum());
    for bytes in attachments {
        packed.put_u64_le(bytes.len() as u64);
        packed.put_slice(bytes);
    }
    Some(packed)
}

/// Attachments from their column.
pub(super) fn unpack(packed: &[u8]) -> Vec<Bytes> {
    let mut rest = Bytes::copy_from_slice(packed);
    let mut attachments = Vec::new();
    while rest.len() >= 8 {
        let length = usize::try_from(rest.get_u64_le()).unwrap_or(usize::MAX);
        attachments.push(rest.split_to(length.min(rest.len())));
    }
    attachments
}
