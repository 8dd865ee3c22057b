//! A place in a room's log.

use serde::{Deserialize, Serialize};

use super::epoch::Epoch;

/// A place in a room's log: an offset and the epoch in which it counts.
///
/// Offsets of different epochs cannot be compared, so positions have no order. The comparisons here hold
/// within one epoch, and are `false` between two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// A message's number in the room, from 1; 0 stands before the first.
    pub offset: u64,
    /// The history that the number counts in.
    pub epoch: Epoch,
}

impl Position {
    /// The place before the first message of an epoch.
    pub const fn start_of(epoch: Epoch) -> Self {
        Self { offset: 0, epoch }
    }

    /// Another place in the same epoch.
    #[must_use]
    pub const fn at(self, offset: u64) -> Self {
        Self { offset, ..self }
    }

    /// Whether what lies up to here includes `other`.
    pub fn covers(self, other: Self) -> bool {
        self.epoch == other.epoch && other.offset <= self.offset
    }

    /// Whether the message at `other` is the next one after this place.
    pub fn is_followed_by(self, other: Self) -> bool {
        self.epoch == other.epoch && other.offset == self.offset + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_of_two_epochs_cover_nothing_of_each_other() {
        let [one, other] = [1, 2].map(|epoch| Position { offset: 5, epoch: Epoch(epoch) });
        assert!(one.covers(one) && one.covers(one.at(4)) && !one.covers(one.at(6)));
        assert!(one.is_followed_by(one.at(6)) && !one.is_followed_by(one.at(7)));
        assert!(!one.covers(other.at(1)) && !one.is_followed_by(other.at(6)));
        assert!(!Position::start_of(one.epoch).covers(other.at(0)));
    }
}
