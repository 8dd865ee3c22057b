//! The rooms as the transaction under way sees them: those of the index, and what it has changed itself.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::{
    epoch::Epochs,
    evict::{self, Place},
    held::{Held, Room, Slot, bytes_in_log},
    index::{Change, Index, Totals, Touched},
    log::{self, Record, Window, pack, room_checksum, sql},
    types::{Entry, RoomKey, StoreError},
};
use crate::{
    limits::SenderId,
    protocol::{audience::Except, position::Position},
    store::codec::encode_except,
};

/// The rooms, for the writer. After each transaction it must be told how that ended.
pub(super) struct Rooms {
    index: Arc<Index>,
    epochs: Epochs,
    place: Place,
    change: Change,
    counts: Counts,
    /// As of the last commit.
    committed: Counts,
}

/// Counts of rooms, and the next numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    /// Rooms with a row.
    pub stored: u64,
    /// Rooms forgotten to make place for others, since the start.
    pub evicted: u64,
    /// The next place in the log.
    pub next_place: u64,
    /// The number of the next room.
    pub next_room: i64,
}

impl Rooms {
    /// `place` says how many may have a row.
    pub(super) fn new(
        index: Arc<Index>,
        epochs: Epochs,
        place: Place,
        next_place: u64,
        next_room: i64,
    ) -> Self {
        let stored = index.state().rooms.len() as u64;
        let counts = Counts { stored, evicted: 0, next_place, next_room };
        Self { index, epochs, place, change: Change::default(), counts, committed: counts }
    }

    /// The transaction is committed: the index follows.
    pub(super) fn commit(&mut self) {
        self.index.apply(&mut self.change);
        self.committed = self.counts;
    }

    /// The transaction has changed nothing.
    pub(super) fn roll_back(&mut self) {
        self.change.clear();
        self.counts = self.committed;
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// The sums of the log as of the last commit.
    pub(super) fn totals(&self) -> Totals {
        self.index.totals()
    }

    /// Whether the room has members.
    pub(super) fn is_in_use(&self, key: &RoomKey) -> bool {
        self.place.is_in_use(key)
    }

    /// The room of `key`, if it has a row.
    pub(super) fn find(&self, key: &RoomKey) -> Option<Room> {
        let room = match self.change.names.get(key) {
            Some(room) => *room,
            None => self.index.room(key),
        }?;
        Some(self.change.touched.get(&room.id).map_or(room, |touched| touched.room))
    }

    /// The room of `key`. If it has no row, it gets one, and `sender` is charged for it.
    pub(super) fn find_or_create(
        &mut self,
        conn: &Connection,
        key: &RoomKey,
        sender: Option<&SenderId>,
        now: i64,
    ) -> rusqlite::Result<Result<Room, StoreError>> {
        if let Some(room) = self.find(key) {
            return Ok(Ok(room));
        }
        let creator = sender.map(ToString::to_string);
        if let Some(creator) = &creator
            && self.place.is_used_up(conn, creator)?
            && !self.evict(conn, Some(creator), now)?
        {
            return Ok(Err(self.place.refusal(sender)));
        }
        if self.place.is_full(self.counts.stored) && !self.evict(conn, None, now)? {
            return Ok(Err(self.place.refusal(None)));
        }
        let room = self.create(conn, key, creator.as_deref(), now)?;
        if let Some(creator) = &creator {
            evict::count_room(conn, creator)?;
        }
        Ok(Ok(room))
    }

    /// Creates the row of `key`. Its first message, of the time `now`, must follow in the same transaction.
    fn create(
        &mut self,
        conn: &Connection,
        key: &RoomKey,
        creator: Option<&str>,
        now: i64,
    ) -> rusqlite::Result<Room> {
        let raw = self.epochs.derived(key, self.epochs.generation(conn, key)?);
        let id = self.counts.next_room;
        conn.prepare_cached(
            "INSERT INTO rooms (id, namespace, name, epoch, head, emptied_at, creator, used, first, checksum)
             VALUES (?1, ?2, ?3, ?4, 0, 0, ?5, ?6, 1, ?7)",
        )?
        .execute(params![
            id,
            &*key.namespace,
            key.room.as_str(),
            raw.cast_signed(),
            creator,
            now,
            room_checksum(key, id, raw, 0, 1)
        ])?;
        self.counts.next_room += 1;
        self.counts.stored += 1;
        let room = Room { id, epoch: self.epochs.salted(raw), head: 0, first: 1 };
        self.change.names.insert(key.clone(), Some(room));
        Ok(room)
    }

    /// Forgets a room, of those that `creator` has begun or of all; `false` if none could be found.
    fn evict(
        &mut self,
        conn: &Connection,
        creator: Option<&str>,
        now: i64,
    ) -> rusqlite::Result<bool> {
        let victim = self.place.victim(conn, creator, now, |room| self.newest_at(room))?;
        let Some(victim) = victim else { return Ok(false) };
        self.forget(conn, &victim.key, victim.id)?;
        self.counts.evicted += 1;
        Ok(true)
    }

    /// Removes a room; its next history begins at 1 with another epoch.
    pub(super) fn forget(
        &mut self,
        conn: &Connection,
        key: &RoomKey,
        room: i64,
    ) -> rusqlite::Result<()> {
        evict::drop_room(conn, room)?;
        self.change.generations.push(self.epochs.forget(conn, key)?);
        self.change.touched.remove(&room);
        self.change.names.insert(key.clone(), None);
        self.counts.stored = self.counts.stored.saturating_sub(1);
        Ok(())
    }

    /// Stores `entry` as the room's next message, and trims the room to its newest `size` messages if it has some
    /// more: then no more than `budget` receipts are deleted, which shrinks by as many.
    pub(super) fn append(
        &mut self,
        conn: &Connection,
        mut room: Room,
        entry: &Entry,
        except: &Except,
        size: u64,
        budget: &mut usize,
    ) -> rusqlite::Result<Position> {
        room.head += 1;
        if room.head + 1 - room.first >= size + slack(size) {
            room.first = trim(conn, room, room.head + 1 - size, budget)?;
        }
        let left_out = encode_except(except);
        let attachments = pack(&entry.attachments);
        let record = Record {
            room: room.id,
            offset: room.head,
            first: room.first,
            at: entry.timestamp_ms,
            id: &entry.id,
            event: &entry.event,
            left_out: (!left_out.is_empty()).then_some(left_out.as_slice()),
            attachments: attachments.as_deref(),
            json: &entry.json,
        };
        let place = self.next_place(bytes_in_log(record.size()));
        record.insert(conn, place)?;
        let slot = Slot::new(place, record.at, self.index.hash(record.id), record.size());
        self.touch(room).appended.push(slot);
        Ok(room.newest())
    }

    /// Trims the room to the messages from `keep_from` on, for good: no more than `budget` receipts are deleted,
    /// which shrinks by as many. Returns what has become of the room.
    pub(super) fn trim(
        &mut self,
        conn: &Connection,
        key: &RoomKey,
        mut room: Room,
        keep_from: u64,
        now: i64,
        budget: &mut usize,
    ) -> rusqlite::Result<Room> {
        let before = room.first;
        room.first = trim(conn, room, keep_from, budget)?;
        if room.first == before {
            return Ok(room);
        }
        // The row's head counts only while the room has no message.
        let checksum =
            room_checksum(key, room.id, self.epochs.raw(room.epoch), room.head, room.first);
        conn.prepare_cached("UPDATE rooms SET head = ?2, first = ?3, checksum = ?4 WHERE id = ?1")?
            .execute(params![room.id, sql(room.head), sql(room.first), checksum])?;
        if room.first > room.head {
            // It makes way before all others, as nothing would be lost.
            conn.prepare_cached("UPDATE rooms SET emptied_at = ?2, used = 0 WHERE id = ?1")?
                .execute(params![room.id, now])?;
        }
        self.touch(room);
        Ok(room)
    }

    /// The newest readable message with this id.
    pub(super) fn find_message(
        &self,
        conn: &Connection,
        room: Room,
        window: Window,
        id: &str,
    ) -> rusqlite::Result<Option<u64>> {
        let appended =
            self.change.touched.get(&room.id).map_or(&[][..], |touched| &touched.appended);
        let hash = self.index.hash(id);
        let unseen = (0..=room.head).rev().zip(appended.iter().rev());
        let unseen = unseen.filter(|(_, slot)| slot.hash() == hash);
        let unseen =
            unseen.map(|(offset, slot)| (offset, slot.place(), slot.at() > window.expired_at));
        let size = window.size.saturating_sub(appended.len() as u64);
        let indexed = self.index.with_id(room.id, Window { size, ..window }, id).into_iter();
        let indexed = indexed.map(|found| (found.offset, found.place, found.is_fresh));
        for (offset, place, is_fresh) in unseen.chain(indexed) {
            if offset < room.first || offset + window.size <= room.head {
                break;
            }
            let found = log::read(conn, room.id, offset, place)?;
            if found.is_some_and(|found| found.entry.id == id) {
                return Ok(is_fresh.then_some(offset));
            }
        }
        Ok(None)
    }

    /// What the index has of a room; not what the transaction has changed.
    pub(super) fn held<R>(&self, room: i64, read: impl FnOnce(&Held) -> R) -> Option<R> {
        self.index.state().rooms.get(&room).map(read)
    }

    /// Whether the room has the message in this place of the log.
    pub(super) fn has(&self, room: i64, offset: u64, place: u64) -> bool {
        self.index.is_at(room, offset, place)
    }

    /// A new place for a message that is copied forward, and takes `bytes`.
    pub(super) fn move_forward(&mut self, room: i64, offset: u64, bytes: u64) -> u64 {
        let place = self.next_place(bytes);
        self.change.moved.push((room, offset, place));
        place
    }

    /// The place in the log of the message that was appended just now.
    pub(super) fn newest_place(&self) -> u64 {
        self.counts.next_place - 1
    }

    /// A place for a webhook that is of no message in the log. Nothing will lie there.
    pub(super) fn place_for_webhook(&mut self) -> u64 {
        self.next_place(0)
    }

    /// Notes that `bytes` were deleted from the log.
    pub(super) fn deleted(&mut self, bytes: u64) {
        self.change.deleted += bytes;
    }

    fn next_place(&mut self, bytes: u64) -> u64 {
        let place = self.counts.next_place;
        self.counts.next_place += 1;
        self.change.added += bytes;
        place
    }

    fn touch(&mut self, room: Room) -> &mut Touched {
        let touched =
            self.change.touched.entry(room.id).or_insert(Touched { room, appended: Vec::new() });
        touched.room = room;
        touched
    }

    /// The time of a room's newest message; 0 if it has none.
    fn newest_at(&self, room: i64) -> i64 {
        let appended = self.change.touched.get(&room).and_then(|touched| touched.appended.last());
        match appended {
            Some(slot) => slot.at(),
            None => self.held(room, Held::newest_at).unwrap_or(0),
        }
    }
}

/// How many messages a room may hold beyond `size` before it is trimmed: at most an eighth.
fn slack(size: u64) -> u64 {
    (size / 8).clamp(1, 64)
}

/// Deletes the receipts of the messages before `keep_from`; returns the oldest message to keep. A message may have a
/// thousand receipts, and is kept until they are gone.
fn trim(
    conn: &Connection,
    room: Room,
    keep_from: u64,
    budget: &mut usize,
) -> rusqlite::Result<u64> {
    if keep_from <= room.first || *budget == 0 {
        return Ok(room.first);
    }
    let deleted = conn
        .prepare_cached(
            "DELETE FROM receipts WHERE id IN
             (SELECT id FROM receipts WHERE room = ?1 AND offset < ?2 LIMIT ?3)",
        )?
        .execute(params![room.id, sql(keep_from), sql(*budget as u64)])?;
    let is_done = deleted < *budget;
    *budget -= deleted;
    Ok(if is_done { keep_from } else { room.first })
}
