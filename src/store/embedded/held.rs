//! One room's messages in the index.

use std::collections::VecDeque;

use super::log::Window;
use crate::protocol::{epoch::Epoch, position::Position};

/// The bytes that a message takes in the log besides its content.
const OVERHEAD: u64 = 48;

/// Where a message is, and what is asked about it most: 20 bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slot {
    place_low: u32,
    at_low: u32,
    /// The upper 16 bits of the place and those of the time.
    high: u32,
    /// A hash of the message's id, seeded anew at each start.
    hash: u32,
    size: u32,
}

/// The greatest place and the greatest time: 48 bits.
const GREATEST: u64 = (1 << 48) - 1;

impl Slot {
    pub(super) fn new(place: u64, at: i64, hash: u32, size: u64) -> Self {
        let at = u64::try_from(at).unwrap_or(0).min(GREATEST);
        let place = place.min(GREATEST);
        Self {
            place_low: low(place),
            at_low: low(at),
            high: low(place >> 32) << 16 | low(at >> 32),
            hash,
            size: u32::try_from(size).unwrap_or(u32::MAX),
        }
    }

    /// Its place in the log; 0 for a message that was not found yet.
    pub(super) fn place(self) -> u64 {
        u64::from(self.high >> 16) << 32 | u64::from(self.place_low)
    }

    /// The message's time stamp.
    pub(super) fn at(self) -> i64 {
        (u64::from(self.high & 0xffff) << 32 | u64::from(self.at_low)).cast_signed()
    }

    pub(super) fn hash(self) -> u32 {
        self.hash
    }

    fn moved(self, place: u64) -> Self {
        Self::new(place, self.at(), self.hash, u64::from(self.size))
    }

    /// The bytes that the message takes in the log.
    pub(super) fn bytes(self) -> u64 {
        bytes_in_log(u64::from(self.size))
    }
}

/// The bytes that a message takes in the log, whose content has `size`.
pub(super) fn bytes_in_log(size: u64) -> u64 {
    size + OVERHEAD
}

/// The lower half of a number.
pub(super) fn low(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0)
}

/// What is known of a room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub id: i64,
    pub epoch: Epoch,
    /// The newest offset assigned.
    pub head: u64,
    /// The oldest message that the room has; `head + 1` if there is none.
    pub first: u64,
}

impl Room {
    /// The position of its newest message.
    pub(super) fn newest(&self) -> Position {
        Position { offset: self.head, epoch: self.epoch }
    }
}

/// A room's messages.
#[derive(Debug)]
pub(super) struct Held {
    pub epoch: Epoch,
    pub head: u64,
    /// Those of the offsets up to `head`, without a gap.
    slots: VecDeque<Slot>,
    bytes: u64,
}

impl Held {
    pub(super) fn new(epoch: Epoch, head: u64) -> Self {
        Self { epoch, head, slots: VecDeque::new(), bytes: 0 }
    }

    /// The oldest message that it has; `head + 1` if there is none.
    pub(super) fn first(&self) -> u64 {
        self.head + 1 - self.slots.len() as u64
    }

    pub(super) fn room(&self, id: i64) -> Room {
        Room { id, epoch: self.epoch, head: self.head, first: self.first() }
    }

    pub(super) fn slot(&self, offset: u64) -> Option<Slot> {
        self.slots.get(self.place_of(offset)?).copied()
    }

    fn place_of(&self, offset: u64) -> Option<usize> {
        usize::try_from(offset.checked_sub(self.first())?).ok()
    }

    /// The time stamp of its newest message; 0 if there is none.
    pub(super) fn newest_at(&self) -> i64 {
        self.slots.back().map_or(0, |slot| slot.at())
    }

    /// How many messages it has.
    pub(super) fn len(&self) -> u64 {
        self.slots.len() as u64
    }

    /// The places of at most `limit` messages from the offset `from` on.
    pub(super) fn places(&self, from: u64, limit: usize) -> Vec<u64> {
        let skipped = usize::try_from(from - self.first()).unwrap_or(usize::MAX);
        self.slots.iter().skip(skipped).take(limit).map(|slot| slot.place()).collect()
    }

    /// The bytes that its messages take in the log.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn push(&mut self, slot: Slot) {
        grow(&mut self.slots);
        self.slots.push_back(slot);
        self.head += 1;
        self.bytes += slot.bytes();
    }

    /// Puts a message in its place, wherever that is; what is missing in between has the place 0.
    pub(super) fn put(&mut self, offset: u64, slot: Slot) {
        if self.slots.is_empty() {
            self.head = offset - 1;
        }
        while offset < self.first() {
            grow(&mut self.slots);
            self.slots.push_front(Slot::default());
            self.bytes += Slot::default().bytes();
        }
        while offset > self.head {
            self.push(Slot::default());
        }
        if let Some(known) = self.place_of(offset).and_then(|place| self.slots.get_mut(place)) {
            self.bytes = self.bytes + slot.bytes() - known.bytes();
            *known = slot;
        }
    }

    /// The first offset from `from` on whose message was not found.
    pub(super) fn missing(&self) -> Option<u64> {
        let at = self.slots.iter().position(|slot| slot.place() == 0)?;
        Some(self.first() + at as u64)
    }

    /// Forgets the messages before `first`; returns how many.
    pub(super) fn forget_before(&mut self, first: u64) -> u64 {
        let count = usize::try_from(first.saturating_sub(self.first())).unwrap_or(usize::MAX);
        let count = count.min(self.slots.len());
        self.bytes -= self.slots.drain(..count).map(Slot::bytes).sum::<u64>();
        if self.slots.capacity() > 2 * self.slots.len() + 64 {
            let kept = self.slots.len();
            self.slots.shrink_to(kept + kept / 8);
        }
        count as u64
    }

    /// Notes that a message was copied to another place.
    pub(super) fn move_to(&mut self, offset: u64, place: u64) {
        if let Some(slot) = self.place_of(offset).and_then(|at| self.slots.get_mut(at)) {
            *slot = slot.moved(place);
        }
    }

    /// The oldest offset that can be read; `head + 1` if none can.
    pub(super) fn oldest(&self, window: Window) -> u64 {
        let from = self.first().max((self.head + 1).saturating_sub(window.size));
        if window.expired_at == i64::MIN {
            return from;
        }
        let before = usize::try_from(from - self.first()).unwrap_or(usize::MAX);
        let fresh = self.slots.iter().skip(before).position(|slot| slot.at() > window.expired_at);
        fresh.map_or(self.head + 1, |at| from + at as u64)
    }

    /// The oldest message of the newest ones that together take no more than `bytes`.
    pub(super) fn newest_within(&self, bytes: u64) -> u64 {
        let mut sum = 0;
        let kept = self.slots.iter().rev().take_while(|slot| {
            sum += slot.bytes();
            sum <= bytes
        });
        self.head + 1 - kept.count() as u64
    }

    /// The messages whose id may have this hash, of those that `window` lets through by number, newest first.
    pub(super) fn with_hash(&self, window: Window, hash: u32) -> impl Iterator<Item = Found> {
        let from = self.first().max((self.head + 1).saturating_sub(window.size));
        let count = usize::try_from(self.head + 1 - from).unwrap_or(usize::MAX);
        let newest = self.slots.iter().rev().take(count).zip((from..=self.head).rev());
        newest.filter(move |(slot, _)| slot.hash == hash).map(move |(slot, offset)| Found {
            offset,
            place: slot.place(),
            is_fresh: slot.at() > window.expired_at,
        })
    }

    /// The bytes of memory that it takes.
    pub(super) fn allocated(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }
}

/// Lets a room's messages grow by an eighth, and not by as many as there are.
fn grow(slots: &mut VecDeque<Slot>) {
    if slots.len() == slots.capacity() {
        slots.reserve_exact((slots.len() / 8).max(1));
    }
}

/// A message that may have the id that is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub offset: u64,
    pub place: u64,
    /// Whether it is young enough to be read.
    pub is_fresh: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_gives_back_what_it_was_made_of() {
        assert_eq!(size_of::<Slot>(), 20);
        for (place, at) in [(1, 0), (u64::from(u32::MAX) + 7, 1_795_000_000_000), (GREATEST, 5)] {
            let slot = Slot::new(place, at, 9, 400);
            assert_eq!((slot.place(), slot.at(), slot.bytes()), (place, at, 448));
            let moved = slot.moved(place - 1);
            assert_eq!((moved.place(), moved.at(), moved.hash), (place - 1, at, 9));
        }
        assert_eq!(Slot::new(1, -5, 0, 0).at(), 0, "before 1970 is long ago");
    }

    #[test]
    fn a_room_takes_little_more_than_its_slots() {
        let mut held = Held::new(Epoch(1), 0);
        for place in 1..=100_000 {
            held.push(Slot::new(place, 0, 0, 400));
            held.forget_before(held.head.saturating_sub(999));
        }
        assert_eq!((held.first(), held.head), (99_001, 100_000));
        assert!(held.allocated() < 25 * 1_000, "{} bytes", held.allocated());
        held.forget_before(100_001);
        assert!(held.allocated() <= 64 * 20, "{} bytes", held.allocated());
        assert_eq!((held.first(), held.head, held.bytes()), (100_001, 100_000, 0));
    }

    #[test]
    fn messages_come_back_in_any_order() {
        let mut held = Held::new(Epoch(1), 0);
        for (offset, place) in [(7, 1), (9, 2), (5, 3), (8, 4), (7, 5), (6, 6)] {
            held.put(offset, Slot::new(place, 0, 0, 10));
        }
        assert_eq!((held.first(), held.head, held.missing()), (5, 9, None));
        let places: Vec<_> = held.slots.iter().map(|slot| slot.place()).collect();
        assert_eq!(places, [3, 6, 5, 4, 2]);
        assert_eq!(held.bytes(), 5 * 58);
        held.put(11, Slot::new(9, 0, 0, 10));
        assert_eq!(held.missing(), Some(10));
    }
}
