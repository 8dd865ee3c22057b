//! The limit on guesses of the password.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use hashlink::LruCache;
use parking_lot::Mutex;

use crate::limits::Source;

/// How many attempts may fail before the next must wait.
const FREE: u32 = 5;
/// The longest wait.
const LONGEST: Duration = Duration::from_mins(5);
/// After this long without a failure everything is forgotten.
const FORGET: Duration = Duration::from_mins(30);
/// How many addresses are remembered; the ones that failed longest ago go first.
const REMEMBERED: usize = 10_000;

/// The failed attempts of every address. After the fifth in a row the next must wait for a second,
/// and twice as long after each further one.
#[derive(Debug)]
pub(super) struct Attempts {
    failures: Mutex<LruCache<Option<Source>, Failures>>,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Attempts {
    /// Nobody has failed yet.
    pub(super) fn new() -> Self {
        Self { failures: Mutex::new(LruCache::new(REMEMBERED)) }
    }

    /// Begins an attempt; it counts as failed until [`succeeded`](Self::succeeded) says otherwise,
    /// so that attempts side by side are not free.
    ///
    /// # Errors
    /// How long the address must wait before it may try again. A refused attempt does not count.
    pub(super) fn begin(&self, address: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let address = address.map(Source::of);
        let mut failures = self.failures.lock();
        let known = failures.get(&address).copied();
        let known = known.filter(|known| now.saturating_duration_since(known.last) < FORGET);
        let count = known.map_or(0, |known| known.count);
        if let Some(known) = known {
            let until = known.last + wait_after(count);
            if now < until {
                return Err(until - now);
            }
        }
        failures.insert(address, Failures { count: count.saturating_add(1), last: now });
        Ok(())
    }

    /// The attempt succeeded: the address's failures are forgotten.
    pub(super) fn succeeded(&self, address: Option<IpAddr>) {
        self.failures.lock().remove(&address.map(Source::of));
    }
}

fn wait_after(failures: u32) -> Duration {
    match failures.checked_sub(FREE) {
        None => Duration::ZERO,
        Some(over) => Duration::from_secs(1 << over.min(16)).min(LONGEST),
    }
}
