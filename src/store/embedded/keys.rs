//! The index of the idempotency keys: in which row each is. It is held in memory, and read from the table at start.
//!
//! So the table needs no index of its own: a key is written behind the newest one, and touches no other page. Of a
//! key only the first bytes are held here, so what is found must be compared with the row.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasher, RandomState},
};

use rusqlite::Connection;

use crate::store::idempotency::Digest;

/// The bytes that an entry of a set takes, estimated, and a sender's count.
const ENTRY_COST: usize = 34;
const COUNT_COST: usize = 26;

/// The keys as the transaction under way sees them. After each transaction it must be told how that ended.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// The first bytes of each key, and its row.
    rows: BTreeSet<(u64, i64)>,
    /// The rows of each sender, which is known by its hash: two with the same one would merely share their limit.
    owned: BTreeSet<(u64, i64)>,
    /// How many rows each sender has.
    counts: HashMap<u64, usize>,
    /// The next row: the rows are in the order of the keys' use.
    next: i64,
    changes: Vec<Change>,
    senders: RandomState,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    first_bytes: u64,
    row: i64,
    sender: Option<u64>,
}

/// What the transaction has changed.
#[derive(Debug)]
enum Change {
    Added(Slot),
    Removed(Slot),
}

impl Keys {
    /// Reads the keys from their table.
    pub(super) fn load(conn: &Connection) -> rusqlite::Result<Self> {
        let mut keys = Self { next: 1, ..Self::default() };
        let mut statement =
            conn.prepare("SELECT id, key, sender FROM idempotency_keys ORDER BY id")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (id, key) = (row.get(0)?, row.get(1)?);
            let slot = keys.slot(id, &key, row.get_ref(2)?.as_str_or_null()?);
            keys.put(slot);
            keys.next = id + 1;
        }
        Ok(keys)
    }

    /// The transaction is committed.
    pub(super) fn commit(&mut self) {
        self.changes.clear();
    }

    /// The transaction has changed nothing.
    pub(super) fn roll_back(&mut self) {
        while let Some(change) = self.changes.pop() {
            match change {
                Change::Added(slot) => {
                    self.take(slot);
                    self.next = slot.row;
                }
                Change::Removed(slot) => self.put(slot),
            }
        }
    }

    /// The rows that may be the key's.
    pub(super) fn rows_of(&self, key: &Digest) -> impl Iterator<Item = i64> {
        let first_bytes = first_bytes(key);
        let rows = self.rows.range((first_bytes, i64::MIN)..=(first_bytes, i64::MAX));
        rows.map(|(_, row)| *row)
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// How many keys the sender has.
    pub(super) fn count_of(&self, sender: &str) -> usize {
        self.counts.get(&self.senders.hash_one(sender)).copied().unwrap_or(0)
    }

    /// The rows of the sender's oldest keys.
    pub(super) fn oldest_of(&self, sender: &str, limit: usize) -> Vec<i64> {
        let sender = self.senders.hash_one(sender);
        let rows = self.owned.range((sender, i64::MIN)..=(sender, i64::MAX));
        rows.map(|(_, row)| *row).take(limit).collect()
    }

    /// Adds a key as the newest one; returns its row.
    pub(super) fn add(&mut self, key: &Digest, sender: Option<&str>) -> i64 {
        let slot = self.slot(self.next, key, sender);
        self.next += 1;
        self.put(slot);
        self.changes.push(Change::Added(slot));
        slot.row
    }

    /// Removes the key in this row.
    pub(super) fn remove(&mut self, row: i64, key: &Digest, sender: Option<&str>) {
        let slot = self.slot(row, key, sender);
        self.take(slot);
        self.changes.push(Change::Removed(slot));
    }

    /// The bytes of memory that it takes, estimated.
    pub(super) fn bytes(&self) -> usize {
        (self.rows.len() + self.owned.len()) * ENTRY_COST + self.counts.capacity() * COUNT_COST
    }

    /// What does not depend on how senders are hashed: the rows, those that have a sender, and each sender's count.
    #[cfg(test)]
    pub(super) fn content(&self) -> (Vec<(u64, i64)>, BTreeSet<i64>, Vec<usize>) {
        let owned = self.owned.iter().map(|(_, row)| *row).collect();
        let mut counts = self.counts.values().copied().collect::<Vec<_>>();
        counts.sort_unstable();
        (self.rows.iter().copied().collect(), owned, counts)
    }

    fn slot(&self, row: i64, key: &Digest, sender: Option<&str>) -> Slot {
        let sender = sender.map(|sender| self.senders.hash_one(sender));
        Slot { first_bytes: first_bytes(key), row, sender }
    }

    fn put(&mut self, slot: Slot) {
        self.rows.insert((slot.first_bytes, slot.row));
        if let Some(sender) = slot.sender {
            self.owned.insert((sender, slot.row));
            *self.counts.entry(sender).or_default() += 1;
        }
    }

    fn take(&mut self, slot: Slot) {
        self.rows.remove(&(slot.first_bytes, slot.row));
        let Some(sender) = slot.sender else { return };
        self.owned.remove(&(sender, slot.row));
        if let Some(count) = self.counts.get_mut(&sender) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&sender);
            }
        }
    }
}

fn first_bytes(key: &Digest) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&key[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key that begins like all those with the same `first`.
    fn key(first: u8, last: u8) -> Digest {
        let mut key = [first; 16];
        key[15] = last;
        key
    }

    type Seen = (BTreeSet<(u64, i64)>, BTreeSet<(u64, i64)>, HashMap<u64, usize>, i64);

    fn seen(keys: &Keys) -> Seen {
        (keys.rows.clone(), keys.owned.clone(), keys.counts.clone(), keys.next)
    }

    #[test]
    fn keys_that_begin_alike_have_a_row_each() {
        let mut keys = Keys::default();
        let rows = [1, 2, 3].map(|last| keys.add(&key(7, last), None));
        let other = keys.add(&key(8, 1), None);
        assert_eq!(keys.rows_of(&key(7, 2)).collect::<Vec<_>>(), rows);
        assert_eq!(keys.rows_of(&key(8, 9)).collect::<Vec<_>>(), [other]);
        keys.remove(rows[1], &key(7, 2), None);
        assert_eq!(keys.rows_of(&key(7, 2)).collect::<Vec<_>>(), [rows[0], rows[2]]);
        assert_eq!(keys.rows_of(&key(9, 1)).next(), None);
    }

    #[test]
    fn a_senders_oldest_are_its_own() {
        let mut keys = Keys::default();
        let rows = [1, 2, 3].map(|last| {
            keys.add(&key(1, last), Some("u:bob"));
            keys.add(&key(2, last), None);
            keys.add(&key(3, last), Some("u:ann"))
        });
        assert_eq!((keys.len(), keys.count_of("u:ann"), keys.count_of("u:eve")), (9, 3, 0));
        assert_eq!(keys.oldest_of("u:ann", 2), rows[..2]);
        keys.remove(rows[0], &key(3, 1), Some("u:ann"));
        assert_eq!((keys.oldest_of("u:ann", 9), keys.count_of("u:ann")), (rows[1..].to_vec(), 2));
        for (row, last) in rows[1..].iter().zip([2, 3]) {
            keys.remove(*row, &key(3, last), Some("u:ann"));
        }
        assert_eq!((keys.count_of("u:ann"), keys.counts.len()), (0, 1), "it is forgotten");
    }

    #[test]
    fn what_failed_leaves_nothing() {
        let mut keys = Keys::default();
        let kept = keys.add(&key(1, 1), Some("u:ann"));
        keys.add(&key(2, 1), None);
        keys.commit();
        let before = seen(&keys);
        keys.remove(kept, &key(1, 1), Some("u:ann"));
        let again = keys.add(&key(1, 1), Some("u:ann"));
        keys.remove(again, &key(1, 1), Some("u:ann"));
        for last in 2..9 {
            keys.add(&key(1, last), Some("u:bob"));
        }
        assert_ne!(seen(&keys), before);
        keys.roll_back();
        assert_eq!(seen(&keys), before);
        keys.roll_back();
        assert_eq!(seen(&keys), before, "it is taken back once");
        keys.remove(kept, &key(1, 1), Some("u:ann"));
        keys.commit();
        keys.roll_back();
        assert_eq!(keys.count_of("u:ann"), 0, "what is committed stays");
    }
}
