//! A rate limit per key that forgets quiet keys.

use std::{
    hash::Hash,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    state::keyed::HashMapStateStore,
};

/// How many keys may be known before the first sweep for quiet ones.
const FEW: usize = 1024;

/// One bucket per key. A key whose bucket is full again is as good as unknown and is forgotten.
#[derive(Debug)]
pub(super) struct Keyed<K: Hash + Eq + Clone> {
    limiter: RateLimiter<K, HashMapStateStore<K>, DefaultClock>,
    clock: DefaultClock,
    /// How many calls are left until the next sweep for quiet keys.
    until_sweep: AtomicUsize,
}

impl<K: Hash + Eq + Clone> Keyed<K> {
    pub(super) fn new(quota: Quota) -> Self {
        let clock = DefaultClock::default();
        let store = HashMapStateStore::default();
        let limiter = RateLimiter::new(quota, store, clock.clone());
        Self { limiter, clock, until_sweep: AtomicUsize::new(FEW) }
    }

    /// Takes one from the key's bucket; if it is empty, fails with the time until there is one again.
    pub(super) fn take(&self, key: &K) -> Result<(), Duration> {
        self.sweep();
        let taken = self.limiter.check_key(key);
        taken.map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }

    /// Forgets the quiet keys, once every as many calls as there are keys. So a call costs the same however
    /// many there are, and there are never more than twice as many keys as active ones.
    fn sweep(&self) {
        let count_down = |left: usize| Some(left.checked_sub(1).unwrap_or(usize::MAX));
        let before =
            self.until_sweep.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count_down);
        // The caller that takes the last one sweeps; the others go on meanwhile.
        if before == Ok(0) {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
            self.until_sweep.store(self.limiter.len().max(FEW), Ordering::Relaxed);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.limiter.len()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn keys_have_buckets_of_their_own() {
        let keyed = Keyed::new(Quota::per_minute(NonZeroU32::new(2).unwrap()));
        for key in ["a", "b"] {
            keyed.take(&key).unwrap();
            keyed.take(&key).unwrap();
            let wait = keyed.take(&key).unwrap_err();
            assert!(wait > Duration::from_secs(20) && wait <= Duration::from_secs(30), "{wait:?}");
        }
    }

    #[test]
    fn quiet_keys_are_forgotten() {
        // A bucket that is full again after a nanosecond.
        let keyed = Keyed::new(Quota::with_period(Duration::from_nanos(1)).unwrap());
        for key in 0..100_000 {
            keyed.take(&key).unwrap();
        }
        assert!(keyed.len() <= 2 * FEW + 2, "{}", keyed.len());
    }

    #[test]
    fn keys_that_are_not_quiet_are_kept() {
        let keyed = Keyed::new(Quota::per_hour(NonZeroU32::MIN));
        for key in 0..5000 {
            keyed.take(&key).unwrap();
        }
        for key in 0..5000 {
            keyed.take(&key).unwrap_err();
        }
    }
}
