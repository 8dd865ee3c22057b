//! How many events one client may send, and what happens to a client that exceeds the limit.

use std::time::{Duration, Instant};

use governor::{
    DefaultDirectRateLimiter, RateLimiter,
    clock::{Clock, DefaultClock},
};
use parking_lot::Mutex;

use super::per_second;
use crate::config::Config;

/// The shortest time between two `error`s about refusals.
const TELL: Duration = Duration::from_secs(1);

/// The time window in which refusals are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// How many times the burst a client may be refused within the window before it counts as
/// flooding. A client with a bug, or one that reconnects with a full outbox, stays below.
const FLOOD_FACTOR: u32 = 10;

/// How long a client has to stop after it was told of its disconnection.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The events of one connection, whatever namespaces they go to.
#[derive(Debug)]
pub struct Throttle {
    limiter: Option<DefaultDirectRateLimiter>,
    /// How many refusals within the window count as flooding; `None` if events are not limited.
    flood: Option<u32>,
    refusals: Mutex<Refusals>,
}

#[derive(Debug, Default)]
struct Refusals {
    told_at: Option<Instant>,
    untold: u32,
    window_began: Option<Instant>,
    in_window: u32,
    flooding_since: Option<Instant>,
}

/// What a client is sent for a refusal besides its ack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// An `error`, which stands for this many refusals.
    Tell(u32),
    /// Nothing: it was told within the last second.
    Silence,
    /// A disconnection for flooding; given once.
    Disconnect,
    /// Nothing more: it was told of its disconnection, and went on as before.
    CutOff,
}

impl Throttle {
    /// A full bucket of events.
    pub fn new(config: &Config) -> Self {
        let quota = per_second(config.rate_limit_events, config.rate_limit_burst);
        Self {
            limiter: quota.map(RateLimiter::direct),
            flood: quota.map(|quota| quota.burst_size().get().saturating_mul(FLOOD_FACTOR)),
            refusals: Mutex::default(),
        }
    }

    /// Takes one event; if there is none left, fails with the time until the next.
    pub fn take(&self) -> Result<(), Duration> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        limiter.check().map_err(|not_until| not_until.wait_time_from(DefaultClock::default().now()))
    }

    /// Counts a refusal at `now`.
    pub fn refused(&self, now: Instant) -> Reaction {
        let mut refusals = self.refusals.lock();
        refusals.untold = refusals.untold.saturating_add(1);
        if refusals.window_began.is_none_or(|began| now.duration_since(began) >= WINDOW) {
            refusals.window_began = Some(now);
            refusals.in_window = 0;
        }
        refusals.in_window = refusals.in_window.saturating_add(1);
        let floods = self.flood.is_some_and(|flood| refusals.in_window > flood);
        if let Some(since) = refusals.flooding_since {
            let goes_on = floods && now.duration_since(since) >= LAST_WORDS;
            return if goes_on { Reaction::CutOff } else { Reaction::Silence };
        }
        if floods {
            refusals.flooding_since = Some(now);
            refusals.window_began = Some(now);
            refusals.in_window = 0;
            return Reaction::Disconnect;
        }
        if refusals.told_at.is_some_and(|told| now.duration_since(told) < TELL) {
            return Reaction::Silence;
        }
        refusals.told_at = Some(now);
        Reaction::Tell(std::mem::take(&mut refusals.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(rate_limit_events: u32, rate_limit_burst: u32) -> Throttle {
        Throttle::new(&Config { rate_limit_events, rate_limit_burst, ..Config::default() })
    }

    #[test]
    fn the_burst_passes_and_no_more() {
        for (events, burst, passes) in [(1, 5, 5), (3, 0, 3), (3, 1, 1)] {
            let throttle = throttle(events, burst);
            for _ in 0..passes {
                throttle.take().unwrap();
            }
            let wait = throttle.take().unwrap_err();
            assert!(!wait.is_zero() && wait <= Duration::from_secs(1), "{wait:?}");
        }
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let throttle = throttle(0, 1);
        for _ in 0..10_000 {
            throttle.take().unwrap();
            assert_ne!(throttle.refused(Instant::now()), Reaction::Disconnect);
        }
    }

    #[test]
    fn one_error_a_second_says_for_how_many_it_stands() {
        let throttle = throttle(1, 1);
        let begun = Instant::now();
        let after = |millis| begun + Duration::from_millis(millis);
        assert_eq!(throttle.refused(begun), Reaction::Tell(1));
        assert_eq!(throttle.refused(after(1)), Reaction::Silence);
        assert_eq!(throttle.refused(after(999)), Reaction::Silence);
        assert_eq!(throttle.refused(after(1000)), Reaction::Tell(3));
    }

    #[test]
    fn who_goes_on_is_disconnected_once() {
        let throttle = throttle(1, 3);
        let begun = Instant::now();
        for _ in 0..30 {
            assert_ne!(throttle.refused(begun), Reaction::Disconnect);
        }
        assert_eq!(throttle.refused(begun), Reaction::Disconnect);
        for _ in 0..40 {
            // Events that were on their way.
            assert_eq!(throttle.refused(begun), Reaction::Silence);
        }
        let later = begun + LAST_WORDS;
        assert_eq!(throttle.refused(later), Reaction::CutOff);
        let slower = begun + WINDOW;
        assert_eq!(throttle.refused(slower), Reaction::Silence);
    }

    #[test]
    fn who_slows_down_is_not() {
        let throttle = throttle(1, 3);
        let begun = Instant::now();
        for round in 0..10_u32 {
            for _ in 0..30 {
                let reaction = throttle.refused(begun + WINDOW * round);
                assert_ne!(reaction, Reaction::Disconnect);
            }
        }
    }
}
