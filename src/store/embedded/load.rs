//! Reads the index from the log, at start.
//!
//! A room has the messages from its oldest one to its newest. Which one is its oldest, the room's row says and each
//! of its records as of the time when it was written; the latest of them counts. So what was trimmed stays trimmed,
//! whatever the settings are now. Of a message that was copied forward the later copy counts.

use std::{
    collections::HashMap,
    fmt,
    hash::RandomState,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OptionalExtension};

use super::{
    epoch::Epochs,
    held::{Held, Slot, bytes_in_log},
    index::{self, Index, State},
    log::{HEAD_COLUMNS, Head, room_checksum},
    types::RoomKey,
};
use crate::protocol::names::RoomName;

/// What was read.
pub(super) struct Loaded {
    pub index: Index,
    /// The first place that no record and no webhook has or had.
    pub next_place: u64,
    /// The first number of a room that no record has.
    pub next_room: i64,
}

/// Why the index could not be read.
#[derive(Debug)]
pub(super) enum LoadError {
    Sqlite(rusqlite::Error),
    Damaged(String),
}

impl From<rusqlite::Error> for LoadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// A room whose records are being read.
struct Room {
    key: RoomKey,
    held: Held,
    /// The oldest message that it has, as far as is known.
    first: u64,
    head: u64,
}

impl Room {
    fn add(&mut self, head: &Head<'_>, slot: Slot) {
        if head.first > self.first {
            self.first = head.first;
            self.held.forget_before(self.first);
        }
        if head.offset >= self.first {
            self.held.put(head.offset, slot);
        }
    }

    /// The finished room; an error if a message is missing.
    fn finish(mut self) -> Result<(RoomKey, Held), LoadError> {
        let is_empty = self.held.first() > self.held.head;
        if is_empty {
            self.held.head = self.head.max(self.first - 1);
        }
        let missing = if !is_empty && self.held.first() > self.first {
            Some(self.first)
        } else {
            self.held.missing()
        };
        match missing {
            None => Ok((self.key, self.held)),
            Some(offset) => Err(damaged(format_args!(
                "message {offset} of the room {} in {} is missing",
                self.key.room, self.key.namespace
            ))),
        }
    }
}

/// Reads the index. Says in the log of the process how far it is, if that takes long.
pub(super) fn load(conn: &Connection, epochs: Epochs) -> Result<Loaded, LoadError> {
    let mut rooms = rooms(conn, epochs)?;
    let ids = RandomState::new();
    let mut state = State::default();
    let (mut last_place, mut last_room) = (0, rooms.keys().copied().max().unwrap_or(0));
    let (begun, mut told) = (Instant::now(), Instant::now());
    let mut statement = conn.prepare(&format!("SELECT {HEAD_COLUMNS} FROM log ORDER BY place"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Some(head) = Head::read(row) else {
            return Err(damaged(format_args!("the record after place {last_place} of its log")));
        };
        last_place = head.place;
        last_room = last_room.max(head.room);
        state.totals.all += bytes_in_log(head.size);
        // Another room is forgotten, and its records are merely still there.
        if let Some(room) = rooms.get_mut(&head.room) {
            let hash = index::hash(&ids, head.id);
            room.add(&head, Slot::new(head.place, head.at, hash, head.size));
        }
        if head.place % 100_000 == 0 && told.elapsed() > Duration::from_secs(5) {
            told = Instant::now();
            tracing::info!(
                place = last_place,
                seconds = begun.elapsed().as_secs(),
                "reading the store's log"
            );
        }
    }
    for (id, room) in rooms {
        let (key, held) = room.finish()?;
        state.insert(key, id, held);
    }
    state.generations = conn
        .prepare("SELECT bucket, generation FROM forgotten")?
        .query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?
        .map(|row| {
            row.map(|(bucket, generation)| (bucket.cast_unsigned(), generation.cast_unsigned()))
        })
        .collect::<rusqlite::Result<_>>()?;
    let dropped: Option<i64> = conn
        .query_row("SELECT room FROM dropped ORDER BY room DESC LIMIT 1", [], |row| row.get(0))
        .optional()?;
    // Webhooks have places, too (see outbox.rs).
    let webhook: Option<i64> =
        conn.query_row("SELECT max(seq) FROM webhooks", [], |row| row.get(0))?;
    Ok(Loaded {
        index: Index::new(state, ids),
        next_place: last_place.max(webhook.unwrap_or(0).cast_unsigned()) + 1,
        next_room: last_room.max(dropped.unwrap_or(0)) + 1,
    })
}

fn rooms(conn: &Connection, epochs: Epochs) -> Result<HashMap<i64, Room>, LoadError> {
    let mut statement = conn.prepare(
        "SELECT id, namespace, name, epoch, head, first, checksum FROM rooms ORDER BY namespace",
    )?;
    let mut rows = statement.query([])?;
    let mut rooms = HashMap::new();
    let mut namespace: std::sync::Arc<str> = "".into();
    while let Some(row) = rows.next()? {
        let text = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        if *namespace != *text {
            namespace = text.into();
        }
        let name = row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?;
        let Ok(room) = RoomName::parse(name) else {
            return Err(damaged(format_args!("a room is named {name:?}")));
        };
        let key = RoomKey { namespace: namespace.clone(), room };
        let id = row.get(0)?;
        let (raw, head, first): (i64, i64, i64) = (row.get(3)?, row.get(4)?, row.get(5)?);
        let (raw, head, first) = (raw.cast_unsigned(), head.cast_unsigned(), first.cast_unsigned());
        let checksum: Option<i64> = row.get(6)?;
        let is_sound =
            checksum.is_none_or(|found| found == room_checksum(&key, id, raw, head, first));
        if !is_sound || first == 0 || first > head.saturating_add(1).max(1) {
            return Err(damaged(format_args!("the row of the room {}", key.room)));
        }
        let room = Room { key, held: Held::new(epochs.salted(raw), 0), first, head };
        rooms.insert(id, room);
    }
    Ok(rooms)
}

fn damaged(what: impl fmt::Display) -> LoadError {
    LoadError::Damaged(what.to_string())
}
