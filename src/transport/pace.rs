//! How fast a peer has to read.
//!
//! Within each term of `SEND_TIMEOUT` the peer must take everything that was unsent when the term began, or
//! 16 KB for each second of it, whichever is less. The next term begins as soon as it has.

use std::time::{Duration, Instant};

/// The least that a peer with much to read must take, in bytes a millisecond.
const LEAST: u64 = 16;

/// A term.
#[derive(Debug)]
pub(super) struct Pace {
    limit: Duration,
    since: Instant,
    /// What the peer must have taken since the connection began, in bytes, to meet the term.
    due: u64,
}

impl Pace {
    /// Begins a term: the peer has taken `taken` bytes so far, and `unsent` wait.
    pub(super) fn begin(taken: u64, unsent: usize, now: Instant, limit: Duration) -> Self {
        let least = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).saturating_mul(LEAST);
        Self { limit, since: now, due: taken.saturating_add(least.min(unsent as u64)) }
    }

    /// Whether the peer is on pace; a term that is met begins the next.
    pub(super) fn keeps(&mut self, taken: u64, unsent: usize, now: Instant) -> bool {
        if taken >= self.due {
            *self = Self::begin(taken, unsent, now, self.limit);
            return true;
        }
        now.duration_since(self.since) < self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// After how many seconds a peer that reads `pace` bytes a second is too slow, with `first` bytes at the
    /// beginning and `comes` more each second; `None`: never.
    fn lasts(pace: u64, first: u64, comes: u64) -> Option<u64> {
        let began = Instant::now();
        let (mut taken, mut unsent) = (0, first);
        let mut terms = Pace::begin(taken, usize::try_from(unsent).unwrap(), began, LIMIT);
        for second in 1..1000 {
            let reads = pace.min(unsent);
            taken += reads;
            unsent = unsent - reads + comes;
            let now = began + Duration::from_secs(second);
            if unsent == 0 {
                return None;
            }
            if !terms.keeps(taken, usize::try_from(unsent).unwrap(), now) {
                return Some(second);
            }
        }
        None
    }

    #[test]
    fn whoever_reads_16_kb_a_second_goes_on_for_ever() {
        assert_eq!(lasts(16_000, 8_000_000, 0), None);
        assert_eq!(lasts(16_000, 1_000_000, 16_000), None);
        assert_eq!(lasts(15_999, 8_000_000, 0), Some(10));
        assert_eq!(lasts(2_000, 8_000_000, 0), Some(10));
        assert_eq!(lasts(0, 1, 0), Some(10));
    }

    #[test]
    fn little_may_be_read_slowly() {
        // All that was there is read in ten seconds, again and again.
        assert_eq!(lasts(1_000, 9_000, 0), None);
        assert_eq!(lasts(1_000, 5_000, 500), None);
        assert_eq!(lasts(1_000, 10_500, 0), Some(10));
    }

    #[test]
    fn the_term_begins_anew_with_what_is_there_then() {
        let began = Instant::now();
        let mut terms = Pace::begin(100, 1_000_000, began, LIMIT);
        let late = began + Duration::from_secs(9);
        assert!(terms.keeps(160_099, 5, late));
        assert!(terms.keeps(160_100, 5, late));
        assert!(terms.keeps(160_104, 1, began + Duration::from_secs(18)));
        assert!(terms.keeps(160_105, 1, began + Duration::from_secs(19)));
        assert!(!terms.keeps(160_105, 1, began + Duration::from_secs(29)));
    }
}
