//! How the store names a room, and where it keeps one of several instances of Redis.

use std::sync::Arc;

use crate::protocol::names::RoomName;

/// A room inside its namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomKey {
    /// The namespace, such as `/chat`.
    pub namespace: Arc<str>,
    /// The room's name.
    pub room: RoomName,
}

impl RoomKey {
    /// Which of `count` instances of Redis has the room: the one with the greatest weight (rendezvous hashing). So an
    /// instance more at the end takes its share from each of the others, and no other room moves.
    ///
    /// All nodes must agree, now and after an upgrade: this may never change.
    pub fn instance(&self, count: usize) -> usize {
        if count < 2 {
            return 0;
        }
        let hash = self.hash();
        let weight = |instance: &usize| mixed(hash ^ mixed(*instance as u64 + 1));
        (0..count).max_by_key(weight).unwrap_or(0)
    }

    /// FNV-1a of the names, with a separator that no name has.
    fn hash(&self) -> u64 {
        let names = [self.namespace.as_bytes(), b"\x1f", self.room.as_str().as_bytes()];
        names.into_iter().flatten().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}

/// The finalizer of splitmix64: every bit of the input changes half of the output's.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms() -> Vec<RoomKey> {
        let room = |n| RoomKey {
            namespace: if n % 2 == 0 { "/" } else { "/chat" }.into(),
            room: RoomName::parse(&format!("room-{n}")).unwrap(),
        };
        (0..10_000).map(room).collect()
    }

    #[test]
    fn rooms_are_spread_evenly_and_an_instance_more_takes_only_its_share() {
        let rooms = rooms();
        for count in 1..8 {
            let mut counts = vec![0_usize; count];
            let mut moved = 0_usize;
            for room in &rooms {
                let (before, after) = (room.instance(count), room.instance(count + 1));
                counts[before] += 1;
                assert!(after == before || after == count, "a room moves to the new one only");
                moved += usize::from(after != before);
            }
            let (share, next_share) = (rooms.len() / count, rooms.len() / (count + 1));
            assert!(counts.iter().all(|has| has.abs_diff(share) < share / 10), "{counts:?}");
            assert!(moved.abs_diff(next_share) < next_share / 10, "{moved} of {count}");
        }
    }

    /// Where rooms lie is kept by what lies there.
    #[test]
    fn rooms_stay_where_they_are() {
        let rooms = rooms();
        let placed =
            |count| rooms.iter().take(16).map(|room| room.instance(count)).collect::<Vec<_>>();
        assert_eq!(placed(1), [0; 16]);
        assert_eq!(placed(2), [0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 1, 1, 1, 0, 0]);
        assert_eq!(placed(3), [0, 0, 2, 2, 1, 2, 1, 2, 1, 2, 2, 1, 1, 2, 0, 0]);
        assert_eq!(placed(4), [3, 0, 2, 3, 1, 3, 1, 3, 3, 2, 2, 1, 3, 2, 0, 0]);
    }
}
