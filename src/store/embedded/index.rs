//! The index: which messages each room has, and where they are in the log. It is held in memory, and read from
//! the log at start ([`super::load`]).
//!
//! It is what readers believe: a message is in its room once the commit has succeeded and the index was
//! updated, and it has left the room once the index has forgotten it, however long it still lies in the log.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
};

use parking_lot::{RwLock, RwLockReadGuard};

use super::{
    epoch::Epochs,
    held::{Found, Held, Room, Slot, low},
    log::Window,
    types::{Extent, Query, RoomKey},
};
use crate::protocol::position::Position;

/// The bytes that a room takes in the index besides its name and its messages.
const ROOM_COST: usize = 200;

/// What a page of history will consist of.
#[derive(Debug)]
pub(super) struct View {
    pub extent: Extent,
    pub room: i64,
    /// The offset of the first message.
    pub from: u64,
    /// Where the messages are.
    pub places: Vec<u64>,
}

/// Sums of the whole log.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    /// The messages that the rooms have.
    pub messages: u64,
    /// The bytes that those take in the log.
    pub kept: u64,
    /// The bytes that all records take, those that no room has any more among them.
    pub all: u64,
    /// The bytes that the index takes in memory, estimated.
    pub index: usize,
}

impl Totals {
    /// The bytes of the records that no room has any more.
    pub(super) fn dead(self) -> u64 {
        self.all.saturating_sub(self.kept)
    }
}

/// All rooms.
#[derive(Debug, Default)]
pub(super) struct State {
    pub ids: HashMap<RoomKey, i64>,
    pub rooms: HashMap<i64, Held>,
    /// How often a room of each bucket was forgotten (see [`Epochs`]).
    pub generations: HashMap<u64, u64>,
    pub totals: Totals,
}

impl State {
    /// Adds a room that is not in the index yet.
    pub(super) fn insert(&mut self, key: RoomKey, id: i64, held: Held) {
        self.totals.messages += held.len();
        self.totals.kept += held.bytes();
        self.totals.index += held.allocated() + cost(&key);
        self.ids.insert(key, id);
        self.rooms.insert(id, held);
    }

    fn remove(&mut self, key: &RoomKey) {
        let held = self.ids.remove(key).and_then(|id| self.rooms.remove(&id));
        let Some(held) = held else { return };
        self.totals.messages -= held.len();
        self.totals.kept -= held.bytes();
        self.totals.index -= held.allocated() + cost(key);
    }

    fn update(&mut self, touched: &Touched) {
        let Some(held) = self.rooms.get_mut(&touched.room.id) else { return };
        let (count, bytes, allocated) = (held.len(), held.bytes(), held.allocated());
        for slot in &touched.appended {
            held.push(*slot);
        }
        held.forget_before(touched.room.first);
        let totals = &mut self.totals;
        totals.messages = totals.messages + held.len() - count;
        totals.kept = totals.kept + held.bytes() - bytes;
        totals.index = totals.index + held.allocated() - allocated;
    }
}

fn cost(key: &RoomKey) -> usize {
    ROOM_COST + key.room.as_str().len()
}

/// What a transaction has changed; in force once it is committed.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// Rooms that were forgotten, and those that have got a row since; of each name the last one counts.
    pub names: HashMap<RoomKey, Option<Room>>,
    /// Rooms that have changed, by id.
    pub touched: HashMap<i64, Touched>,
    pub generations: Vec<(u64, u64)>,
    /// Messages that were copied forward: of which room, which one, where to.
    pub moved: Vec<(i64, u64, u64)>,
    /// The bytes that were added to the log, and those that were deleted.
    pub added: u64,
    pub deleted: u64,
}

impl Change {
    pub(super) fn clear(&mut self) {
        self.names.clear();
        self.touched.clear();
        self.generations.clear();
        self.moved.clear();
        (self.added, self.deleted) = (0, 0);
    }
}

/// A room as the transaction leaves it.
#[derive(Debug)]
pub(super) struct Touched {
    pub room: Room,
    /// Its new messages, up to its head.
    pub appended: Vec<Slot>,
}

/// The index. Only the writer changes it.
#[derive(Debug, Default)]
pub(super) struct Index {
    state: RwLock<State>,
    ids: RandomState,
}

impl Index {
    pub(super) fn new(state: State, ids: RandomState) -> Self {
        Self { state: RwLock::new(state), ids }
    }

    pub(super) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read()
    }

    /// Puts a committed change in force, and empties it.
    pub(super) fn apply(&self, change: &mut Change) {
        let mut state = self.state.write();
        for (key, room) in change.names.drain() {
            state.remove(&key);
            if let Some(room) = room {
                state.insert(key, room.id, Held::new(room.epoch, room.head));
            }
        }
        for (_, touched) in change.touched.drain() {
            state.update(&touched);
        }
        for (room, offset, place) in change.moved.drain(..) {
            if let Some(held) = state.rooms.get_mut(&room) {
                held.move_to(offset, place);
            }
        }
        state.generations.extend(change.generations.drain(..));
        state.totals.all = (state.totals.all + change.added).saturating_sub(change.deleted);
        (change.added, change.deleted) = (0, 0);
    }

    pub(super) fn hash(&self, id: &str) -> u32 {
        hash(&self.ids, id)
    }

    pub(super) fn totals(&self) -> Totals {
        self.state().totals
    }

    /// The room of `key`, if it is stored.
    pub(super) fn room(&self, key: &RoomKey) -> Option<Room> {
        let state = self.state();
        let id = *state.ids.get(key)?;
        state.rooms.get(&id).map(|held| held.room(id))
    }

    /// Whether the room's message with this offset is in this place of the log.
    pub(super) fn is_at(&self, room: i64, offset: u64, place: u64) -> bool {
        let state = self.state();
        let slot = state.rooms.get(&room).and_then(|held| held.slot(offset));
        slot.is_some_and(|slot| slot.place() == place)
    }

    /// The room's messages whose id may be `id`, newest first.
    pub(super) fn with_id(&self, room: i64, window: Window, id: &str) -> Vec<Found> {
        let hash = self.hash(id);
        let state = self.state();
        state.rooms.get(&room).map_or_else(Vec::new, |held| held.with_hash(window, hash).collect())
    }

    /// How far the room of `key` reaches, stored or not.
    pub(super) fn extent(&self, epochs: Epochs, window: Window, key: &RoomKey) -> Extent {
        let nothing = Query { after: 0, limit: 0, max_bytes: 0, receipts: false };
        self.view(epochs, window, key, nothing).extent
    }

    /// What a page of the room's history will consist of.
    pub(super) fn view(&self, epochs: Epochs, window: Window, key: &RoomKey, query: Query) -> View {
        let state = self.state();
        let stored = state.ids.get(key).and_then(|id| Some((*id, state.rooms.get(id)?)));
        let Some((room, held)) = stored else {
            let generation = state.generations.get(&epochs.bucket(key)).copied().unwrap_or(0);
            let epoch = epochs.salted(epochs.derived(key, generation));
            let extent = Extent { head: Position::start_of(epoch), oldest: 1 };
            return View { extent, room: 0, from: 1, places: Vec::new() };
        };
        let oldest = held.oldest(window);
        let from = oldest.max(query.after.saturating_add(1));
        let places = held.places(from, query.limit);
        let extent = Extent { head: held.room(room).newest(), oldest };
        View { extent, room, from, places }
    }
}

pub(super) fn hash(ids: &RandomState, id: &str) -> u32 {
    low(ids.hash_one(id))
}
