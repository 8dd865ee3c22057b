//! When a webhook is tried again.

use std::time::{Duration, SystemTime};

/// How long after each of the first tries the next one follows.
const DELAYS: [Duration; 5] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_mins(2),
    Duration::from_mins(10),
    Duration::from_hours(1),
];
/// How long after any later one.
const LAST_DELAY: Duration = Duration::from_hours(6);
/// How long a webhook is tried.
pub(super) const GIVEN_UP_AFTER: Duration = Duration::from_hours(3 * 24);
/// A delay is longer by up to this part of it, so that webhooks that failed together do not come together.
const JITTER: f64 = 0.2;
/// A backend cannot ask for less.
const SHORTEST: Duration = Duration::from_secs(1);

/// How long to wait after so many tries that failed; `jitter` is a random number from 0 to 1. What the backend
/// asks for goes before the schedule.
pub(super) fn delay(tries: u32, retry_after: Option<Duration>, jitter: f64) -> Duration {
    let scheduled = || {
        let at = usize::try_from(tries.saturating_sub(1)).unwrap_or(usize::MAX);
        DELAYS.get(at).copied().unwrap_or(LAST_DELAY)
    };
    let delay = retry_after.map_or_else(scheduled, |wanted| wanted.clamp(SHORTEST, GIVEN_UP_AFTER));
    delay.mul_f64(1.0 + JITTER * jitter.clamp(0.0, 1.0))
}

/// What the header `Retry-After` asks for: a number of seconds, or a date.
pub(super) fn retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(header).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tries_become_rarer() {
        let seconds = |tries| delay(tries, None, 0.0).as_secs();
        let wanted = [5, 30, 120, 600, 3_600, 21_600, 21_600];
        assert_eq!((1..=7).map(seconds).collect::<Vec<_>>(), wanted);
        assert_eq!(delay(u32::MAX, None, 0.0).as_secs(), 21_600);
        for jitter in [0.1, 0.5, 1.0, 7.0] {
            let delay = delay(2, None, jitter);
            assert!(delay > Duration::from_secs(30) && delay <= Duration::from_secs(36));
        }
    }

    #[test]
    fn what_the_backend_asks_for_goes_first() {
        let asked = |seconds| delay(1, Some(Duration::from_secs(seconds)), 0.0).as_secs();
        assert_eq!((asked(120), asked(0), asked(u64::MAX)), (120, 1, 3 * 24 * 3_600));
        let two_minutes = Duration::from_mins(2);
        assert!(delay(1, Some(two_minutes), 1.0) >= two_minutes);
    }

    #[test]
    fn a_retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let asked = |text| retry_after(text, now).map(|wanted| wanted.as_secs());
        assert_eq!(asked(" 17 "), Some(17));
        assert_eq!(asked("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:00 GMT"), Some(0));
        for text in ["", "-1", "soon", "1.5", "99999999999999999999"] {
            assert_eq!(asked(text), None, "{text}");
        }
    }
}
