//! Epochs: which history of a room an offset counts in.
//!
//! A room gets its epoch when its first message is stored, and keeps it in its row. A room that was
//! never written has none, and an idle join must not cost a row; so its epoch is *derived*: a hash
//! of the file's random seed, the room's key, and how often a room of the same bucket was
//! forgotten. The first message then stores the derived epoch, so that it stays what joiners were
//! told. Forgetting a room bumps its bucket (one of [`BUCKETS`], which bounds the disk), so that
//! the room's next history has another epoch. The price: an unwritten room of the same bucket
//! changes its epoch too, which costs its members at most a page of history instead of a replay.
//!
//! Every epoch is mixed with the file's salt, which changes when commits may have been lost with
//! the power (see [`super::schema`]): offsets handed out before would otherwise be given to other
//! messages unnoticed.

use std::hash::Hasher;

use rusqlite::{Connection, OptionalExtension};

use super::types::RoomKey;
use crate::protocol::epoch::Epoch;

/// The most counters of forgotten rooms.
const BUCKETS: u64 = 65_536;

/// What all epochs of one file are made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Epochs {
    pub seed: u64,
    pub salt: u64,
}

impl Epochs {
    /// The epoch whose stored form is `raw`.
    pub(super) fn salted(self, raw: u64) -> Epoch {
        Epoch(raw ^ self.salt)
    }

    /// The stored form of an epoch.
    pub(super) fn raw(self, epoch: Epoch) -> u64 {
        epoch.0 ^ self.salt
    }

    /// The stored form of the epoch of a room that has no row; `generation` is how often a room of its bucket was
    /// forgotten.
    pub(super) fn derived(self, key: &RoomKey, generation: u64) -> u64 {
        let mut hash = self.key_hash(key);
        hash.write_u64(generation);
        hash.finish()
    }

    /// How often a room of the same bucket was forgotten.
    pub(super) fn generation(self, conn: &Connection, key: &RoomKey) -> rusqlite::Result<u64> {
        let found: Option<i64> = conn
            .prepare_cached("SELECT generation FROM forgotten WHERE bucket = ?1")?
            .query_row([self.bucket(key).cast_signed()], |row| row.get(0))
            .optional()?;
        Ok(found.unwrap_or(0).cast_unsigned())
    }

    /// Notes that `key` was forgotten, so that its next history has another epoch; returns its bucket, and how often
    /// a room of that was forgotten.
    pub(super) fn forget(self, conn: &Connection, key: &RoomKey) -> rusqlite::Result<(u64, u64)> {
        let bucket = self.bucket(key);
        let generation: i64 = conn
            .prepare_cached(
                "INSERT INTO forgotten (bucket, generation) VALUES (?1, 1)
                 ON CONFLICT (bucket) DO UPDATE SET generation = generation + 1 RETURNING generation",
            )?
            .query_row([bucket.cast_signed()], |row| row.get(0))?;
        Ok((bucket, generation.cast_unsigned()))
    }

    /// Whether forgetting one room changes the derived epoch of the other.
    #[cfg(test)]
    pub fn derived_alike(self, one: &RoomKey, other: &RoomKey) -> bool {
        self.bucket(one) == self.bucket(other)
    }

    /// Which of the counters of forgotten rooms is that of `key`.
    pub(super) fn bucket(self, key: &RoomKey) -> u64 {
        self.key_hash(key).finish() % BUCKETS
    }

    fn key_hash(self, key: &RoomKey) -> StableHasher {
        let mut hash = StableHasher::default();
        hash.write_u64(self.seed);
        hash.write(key.namespace.as_bytes());
        // No name has a control character, so this cannot be part of either.
        hash.write(&[0]);
        hash.write(key.room.as_str().as_bytes());
        hash
    }
}

/// FNV-1a with a finishing mix. Its results are stored, so they may never change; the standard
/// library's hashers do not promise that.
#[derive(Clone, Copy)]
struct StableHasher(u64);

impl Default for StableHasher {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.write(&number.to_le_bytes());
    }

    fn finish(&self) -> u64 {
        // The finalizer of splitmix64: every bit of the state reaches every bit of the result.
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_hashes_never_change() {
        let hash = |text: &str| {
            let mut hash = StableHasher::default();
            hash.write(text.as_bytes());
            hash.finish().cast_signed()
        };
        assert_eq!(hash(""), -780_787_492_076_525_413);
        assert_eq!(hash("message-1"), 5_242_897_478_709_824_343);
    }
}
