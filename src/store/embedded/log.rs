//! The log in SQL: one table of all rooms' messages in the order of the commits, and how a message is written
//! and read.
//!
//! A record is found by its place, which the [index](super::index) knows, and no place is ever used twice. It has
//! checksums, since SQLite has none: one of what the index is made from, one of the rest.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use crc32fast::Hasher;
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};

use super::types::{Entry, RoomKey, Settings, Stored};
use crate::{protocol::audience::Except, store::codec::decode_except};

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

/// A message as it lies in the log.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub room: i64,
    pub offset: u64,
    /// The oldest message that the room has from now on: what lies before it never comes back.
    pub first: u64,
    pub at: i64,
    pub id: &'a str,
    pub event: &'a str,
    /// Who is left out of the live delivery.
    pub left_out: Option<&'a [u8]>,
    pub attachments: Option<&'a [u8]>,
    pub json: &'a str,
}

impl Record<'_> {
    /// Adds it to the log.
    pub(super) fn insert(&self, conn: &Connection, place: u64) -> rusqlite::Result<()> {
        conn.prepare_cached(
            "INSERT INTO log (place, room, offset, first, at, checksum, id, event, left_out, attachments, json)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            sql(place),
            self.room,
            sql(self.offset),
            sql(self.first),
            self.at,
            self.checksum(),
            self.id,
            self.event,
            self.left_out,
            self.attachments,
            self.json,
        ])?;
        Ok(())
    }

    /// The size of its content.
    pub(super) fn size(&self) -> u64 {
        let blobs = [self.left_out, self.attachments].map(|blob| blob.map_or(0, <[u8]>::len));
        let texts = [self.id, self.event, self.json].map(str::len);
        blobs.iter().chain(&texts).sum::<usize>() as u64
    }

    /// Both checksums: that of what the index is made from in the upper half.
    fn checksum(&self) -> i64 {
        let mut rest = Hasher::new();
        for part in [
            Some(self.event.as_bytes()),
            self.left_out,
            self.attachments,
            Some(self.json.as_bytes()),
        ] {
            let length = part.map_or(u64::MAX, |part| part.len() as u64);
            rest.update(&length.to_le_bytes());
            rest.update(part.unwrap_or_default());
        }
        let head = head_checksum(self.room, self.offset, self.first, self.at, self.id);
        (u64::from(head) << 32 | u64::from(rest.finalize())).cast_signed()
    }
}

/// The checksum of what the index is made from.
fn head_checksum(room: i64, offset: u64, first: u64, at: i64, id: &str) -> u32 {
    let mut hasher = Hasher::new();
    for number in [room.cast_unsigned(), offset, first, at.cast_unsigned()] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(id.as_bytes());
    hasher.finalize()
}

/// The checksum of what the index has from a room's row.
pub(super) fn room_checksum(key: &RoomKey, room: i64, epoch: u64, head: u64, first: u64) -> i64 {
    let mut hasher = Hasher::new();
    for number in [room.cast_unsigned(), epoch, head, first, key.namespace.len() as u64] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(key.namespace.as_bytes());
    hasher.update(key.room.as_str().as_bytes());
    hasher.finalize().into()
}

/// What the index is made from.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub place: u64,
    pub room: i64,
    pub offset: u64,
    pub first: u64,
    pub at: i64,
    pub id: &'a str,
    /// The size of the record's content.
    pub size: u64,
}

/// The columns of a [`Head`]. The rest of a record is not read for it, only its length.
pub(super) const HEAD_COLUMNS: &str = "place, room, offset, first, at, checksum, id,
    octet_length(event) + coalesce(octet_length(left_out), 0) + coalesce(octet_length(attachments), 0) + octet_length(json)";

impl<'a> Head<'a> {
    /// Reads [`HEAD_COLUMNS`]; `None` if the record is damaged.
    pub(super) fn read(row: &'a Row<'_>) -> Option<Self> {
        let number = |at| row.get::<_, i64>(at).ok().map(i64::cast_unsigned);
        let id = row.get_ref(6).ok()?.as_str().ok()?;
        let head = Self {
            place: number(0)?,
            room: row.get(1).ok()?,
            offset: number(2)?,
            first: number(3)?,
            at: row.get(4).ok()?,
            id,
            size: number(7)? + id.len() as u64,
        };
        let found = head_checksum(head.room, head.offset, head.first, head.at, id);
        let is_sound = u64::from(found) == number(5)? >> 32 && head.offset > 0;
        is_sound.then_some(head)
    }
}

/// Reads the message of this room and offset in this place; `None` if it is not there, or is damaged.
pub(super) fn read(
    conn: &Connection,
    room: i64,
    offset: u64,
    place: u64,
) -> rusqlite::Result<Option<Stored>> {
    let stored = with_record(conn, place, |record| {
        if (record.room, record.offset) != (room, offset) {
            return Ok(None);
        }
        Ok(Some(Stored {
            offset,
            entry: Entry {
                id: record.id.to_owned(),
                event: record.event.to_owned(),
                json: record.json.into(),
                attachments: record.attachments.map_or_else(Vec::new, unpack),
                timestamp_ms: record.at,
            },
            except: except(record.left_out)?,
            receipts: Vec::new(),
        }))
    });
    stored.map(Option::flatten)
}

/// Reads the record in this place; `None` if there is none, or it is damaged.
pub(super) fn with_record<T>(
    conn: &Connection,
    place: u64,
    read: impl FnOnce(&Record<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    conn.prepare_cached(
        "SELECT room, offset, first, at, checksum, id, event, left_out, attachments, json FROM log WHERE place = ?1",
    )?
    .query_row([sql(place)], |row| {
        let record = Record {
            room: row.get(0)?,
            offset: row.get::<_, i64>(1)?.cast_unsigned(),
            first: row.get::<_, i64>(2)?.cast_unsigned(),
            at: row.get(3)?,
            id: row.get_ref(5)?.as_str()?,
            event: row.get_ref(6)?.as_str()?,
            left_out: row.get_ref(7)?.as_blob_or_null()?,
            attachments: row.get_ref(8)?.as_blob_or_null()?,
            json: row.get_ref(9)?.as_str()?,
        };
        let is_sound = row.get::<_, i64>(4)? == record.checksum();
        is_sound.then(|| read(&record)).transpose()
    })
    .optional()
    .map(Option::flatten)
}

/// Reads the recipients to skip.
fn except(bytes: Option<&[u8]>) -> rusqlite::Result<Except> {
    decode_except(bytes.unwrap_or_default())
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(7, Type::Blob, error.into()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_tells_every_part_and_never_changes() {
        let record = || Record {
            room: 1,
            offset: 2,
            first: 1,
            at: 3,
            id: "id",
            event: "e",
            left_out: None,
            attachments: Some(b"x"),
            json: "{}",
        };
        let first = record().checksum();
        assert_eq!(first, CHECKSUM, "stored: may never change");
        let others = [
            Record { room: 2, ..record() },
            Record { offset: 3, ..record() },
            Record { first: 2, ..record() },
            Record { at: 4, ..record() },
            Record { id: "ie", ..record() },
            Record { event: "f", ..record() },
            Record { left_out: Some(b""), ..record() },
            Record { left_out: Some(b"x"), attachments: None, ..record() },
            Record { event: "e{", json: "}", ..record() },
        ];
        for (at, other) in others.iter().enumerate() {
            assert_ne!(other.checksum(), first, "{at}");
        }
        assert_eq!(record().size(), 6);
    }

    const CHECKSUM: i64 = -8_485_891_935_230_774_447;
}
