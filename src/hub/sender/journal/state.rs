//! The entries of a journal.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::{Bounds, Route};
use crate::{
    hub::packet::{AllFrames, KeptFor},
    memory::{Account, Charge},
    protocol::not_recovered::NotRecovered,
};

/// How many packets of a connected client are remembered, and how many bytes of them. A client that has fewer than
/// all but these is not recovered.
const MAX_PACKETS: usize = 512;
const MAX_BYTES: usize = 1_000_000;

/// From this many packets on, or bytes, the client is asked to prove what it has. With what comes until it has answered,
/// the entries keep to 256 places. In the model there are never many.
const MANY_PACKETS: usize = if cfg!(all(test, feature = "shuttle")) { 2 } else { 192 };
const MANY_BYTES: usize = 192_000;

/// How many bytes a client that comes back is sent at most.
const MAX_MISSED_BYTES: usize = 8_000_000;

/// What an entry takes in memory besides its frames, in bytes.
const OVERHEAD: usize = 64;

/// How many numbers of packets that come from other nodes, too, are remembered, so that none is taken twice.
const RECENT: usize = 64;

/// The entries, and where packets go.
pub(super) struct State {
    pub(super) entries: VecDeque<Entry>,
    /// How many entries were removed.
    pub(super) removed: u64,
    /// The number of the newest of them.
    pub(super) newest_removed: Option<u64>,
    /// The bytes of the entries.
    pub(super) bytes: usize,
    /// Those that the account knows of.
    charge: Charge,
    /// A packet that is kept was handed to a connection.
    pub(super) has_sent_kept: bool,
    /// Why the session cannot be recovered, if it cannot.
    pub(super) spoiled: Option<NotRecovered>,
    /// How many packets and bytes more may be remembered than usual.
    pub(super) slack: (usize, usize),
    /// The client has been asked to prove what it has.
    pub(super) is_asked: bool,
    /// Up to here, entries were there when the journal was last tidied.
    pub(super) mark: u64,
    /// The number of the client's connections.
    pub(super) connections: u64,
    /// The numbers of the newest packets that are kept and have no place in a log, where there are other nodes.
    pub(super) recent: VecDeque<u64>,
    pub(super) route: Route,
}

/// A packet that the client was sent, or is to be sent.
pub(super) enum Entry {
    /// A packet that is not kept.
    Passing(u64),
    Kept(Arc<AllFrames>),
}

impl State {
    /// No entries yet, charged to this account.
    pub(super) fn new(account: &Arc<Account>) -> Self {
        Self {
            entries: VecDeque::new(),
            removed: 0,
            newest_removed: None,
            bytes: 0,
            charge: account.charge_kept(0),
            has_sent_kept: false,
            spoiled: None,
            slack: (0, 0),
            is_asked: false,
            mark: 0,
            connections: 0,
            recent: VecDeque::new(),
            route: Route::Nowhere,
        }
    }

    /// The number of entries in all, those that were removed among them.
    pub(super) fn end(&self) -> u64 {
        self.removed + self.entries.len() as u64
    }

    /// Appends a packet; removes the oldest, or spoils all, where that is too much.
    pub(super) fn append(&mut self, frames: &Arc<AllFrames>, bounds: &Bounds) {
        if self.is_spoiled() {
            return;
        }
        let entry = match frames.kept() {
            Some(_) => Entry::Kept(frames.clone()),
            None => Entry::Passing(frames.offset()),
        };
        self.bytes += entry.bytes();
        self.charge.follow(self.bytes);
        self.entries.push_back(entry);
        if matches!(self.route, Route::Connected(..)) {
            let (packets, bytes) = (MAX_PACKETS + self.slack.0, MAX_BYTES + self.slack.1);
            while self.entries.len() > packets || self.bytes > bytes {
                self.remove_to(self.removed + 1);
            }
            return;
        }
        let missed = usize::try_from(bounds.missed).unwrap_or(usize::MAX);
        let has_too_many = missed > 0 && self.entries.len() > missed.saturating_add(MAX_PACKETS);
        if has_too_many || self.bytes > MAX_MISSED_BYTES + MAX_BYTES {
            self.spoil(NotRecovered::Missed);
        }
    }

    /// Remembers the number of a packet that may come a second time.
    pub(super) fn note_number(&mut self, number: u64) {
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(number);
    }

    /// Whether the client is to prove what it has.
    pub(super) fn wants_proof(&self) -> bool {
        let is_much = self.entries.len() >= MANY_PACKETS || self.bytes >= MANY_BYTES;
        is_much && !self.is_asked
    }

    /// Removes the entries up to the one of this number in all.
    pub(super) fn remove_to(&mut self, end: u64) {
        while self.removed < end
            && let Some(entry) = self.entries.pop_front()
        {
            self.removed += 1;
            self.bytes -= entry.bytes();
            self.newest_removed = Some(entry.number());
        }
        self.charge.follow(self.bytes);
    }

    /// Makes these all entries there are, charged to this account.
    pub(super) fn replace(&mut self, entries: VecDeque<Entry>, account: &Arc<Account>) {
        self.bytes = entries.iter().map(Entry::bytes).sum();
        self.charge = account.charge_kept(self.bytes);
        self.entries = entries;
    }

    /// Whether the session cannot be recovered.
    pub(super) fn is_spoiled(&self) -> bool {
        self.spoiled.is_some()
    }

    /// Forgets everything: the session cannot be recovered.
    pub(super) fn spoil(&mut self, why: NotRecovered) {
        self.spoiled.get_or_insert(why);
        self.entries = VecDeque::new();
        self.bytes = 0;
        self.charge.give_back(usize::MAX);
    }

    /// The number in all of the first entry that a client has missed whose newest offset is this one.
    ///
    /// # Errors
    /// If something is missing, that is not known, or the client has missed too much.
    pub(super) fn missed_after(
        &self,
        offset: Option<u64>,
        bounds: &Bounds,
    ) -> Result<u64, NotRecovered> {
        if let Some(why) = self.spoiled {
            return Err(why);
        }
        let first = self.first_after(offset).ok_or(NotRecovered::Offset)?;
        if self.is_too_much(first, bounds) {
            return Err(NotRecovered::Missed);
        }
        Ok(self.removed + first as u64)
    }

    /// The place of the first entry after this offset, if it is known.
    fn first_after(&self, offset: Option<u64>) -> Option<usize> {
        match offset {
            None => (self.removed == 0 && !self.has_sent_kept).then_some(0),
            Some(offset) => {
                let is_it = |entry: &Entry| entry.number() == offset;
                let found = self.entries.iter().position(is_it).map(|at| at + 1);
                let before = (self.newest_removed == Some(offset)).then_some(0);
                // A packet that went out twice does not say which of the two the client has.
                let is_twice = found.is_some_and(|at| self.entries.iter().skip(at).any(is_it));
                if is_twice || (found.is_some() && before.is_some()) {
                    return None;
                }
                found.or(before)
            }
        }
    }

    /// Whether a client that has missed the entries from this place on has missed too much.
    fn is_too_much(&self, first: usize, bounds: &Bounds) -> bool {
        let (mut count, mut bytes, mut rooms) = (0, 0, HashMap::new());
        for (frames, audience) in self.entries.iter().skip(first).filter_map(Entry::kept) {
            count += 1;
            bytes += frames.size();
            if let KeptFor::Room(room) = audience
                && bounds.history > 0
            {
                // Nobody gets what the room's history has no more.
                let in_room: &mut u64 = rooms.entry(room).or_default();
                *in_room += 1;
                let age = frames.kept().map(|kept| kept.since.elapsed()).unwrap_or_default();
                if *in_room > bounds.history || bounds.age.is_some_and(|most| age > most) {
                    return true;
                }
            }
        }
        (bounds.missed > 0 && count > bounds.missed) || bytes > MAX_MISSED_BYTES
    }
}

impl Entry {
    pub(super) fn number(&self) -> u64 {
        match self {
            Self::Passing(number) => *number,
            Self::Kept(frames) => frames.offset(),
        }
    }

    /// What it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        OVERHEAD + self.frames().map_or(0, |frames| frames.size())
    }

    /// The frames of a packet that is kept.
    pub(super) fn frames(&self) -> Option<&Arc<AllFrames>> {
        match self {
            Self::Passing(_) => None,
            Self::Kept(frames) => Some(frames),
        }
    }

    /// The same, and whom it is for.
    pub(super) fn kept(&self) -> Option<(&Arc<AllFrames>, &KeptFor)> {
        let frames = self.frames()?;
        Some((frames, &frames.kept()?.audience))
    }
}
