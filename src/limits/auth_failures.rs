//! The auth failure limiter: callers that fail too often must wait, so that guessing is slow.

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    time::{Duration, Instant},
};

use governor::Quota;
use parking_lot::Mutex;

use super::{address::Source, keyed::Keyed, refused};
use crate::{
    auth::{Identity, Verifier},
    protocol::refusal::Refusal,
};

/// A connection may fail 1/`CONNECTIONS_PART` as often as its address.
const CONNECTIONS_PART: u32 = 10;

/// Who authenticates.
#[derive(Debug, Clone, Copy)]
pub struct Who {
    source: Option<Source>,
    connection: Option<u64>,
}

impl Who {
    /// A caller at this address, and the number of its connection if it has one already.
    pub fn of(address: Option<IpAddr>, connection: Option<u64>) -> Self {
        Self { source: address.map(Source::of), connection }
    }

    fn parts(self) -> impl Iterator<Item = Part> {
        self.source.map(Part::Source).into_iter().chain(self.connection.map(Part::Connection))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Source(Source),
    Connection(u64),
}

/// Limits failed authentications.
///
/// Only failures count. Once the budget is spent, tokens are not checked until the wait is over: otherwise a
/// right guess would get through.
#[derive(Debug)]
pub struct AuthFailureLimiter(Option<Counts>);

#[derive(Debug)]
struct Counts {
    sources: Keyed<Source>,
    connections: Keyed<u64>,
    waiting: Mutex<HashMap<Part, Instant>>,
}

impl AuthFailureLimiter {
    /// Allows `per_minute` failures per address, a tenth of them per connection; 0 for no limit.
    pub fn new(per_minute: u32) -> Self {
        let counts = NonZeroU32::new(per_minute).map(|per_minute| Counts {
            sources: Keyed::new(Quota::per_minute(per_minute)),
            connections: Keyed::new(Quota::per_minute(
                NonZeroU32::new(per_minute.get() / CONNECTIONS_PART).unwrap_or(NonZeroU32::MIN),
            )),
            waiting: Mutex::default(),
        });
        Self(counts)
    }

    /// Verifies `token`, charging failures to `who`.
    ///
    /// # Errors
    /// `rate_limited` after too many failures, with the token unchecked; else what is wrong with the token.
    pub async fn verify(
        &self,
        verifier: &Verifier,
        token: &str,
        who: Who,
    ) -> Result<Identity, Refusal> {
        self.check(who)?;
        verifier.verify(token).await.map_err(|error| {
            if error.may_be_a_guess() {
                self.failed(who);
            }
            error.into()
        })
    }

    /// Whether an attempt may be made now.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn check(&self, who: Who) -> Result<(), Refusal> {
        let Some(counts) = &self.0 else { return Ok(()) };
        let now = Instant::now();
        let waiting = counts.waiting.lock();
        if waiting.is_empty() {
            return Ok(());
        }
        let until = who.parts().filter_map(|part| waiting.get(&part)).max();
        match until.map(|until| until.saturating_duration_since(now)) {
            Some(wait) if !wait.is_zero() => Err(refused(wait, "too many failed authentications")),
            _ => Ok(()),
        }
    }

    /// Counts an attempt that has failed.
    pub fn failed(&self, who: Who) {
        let Some(counts) = &self.0 else { return };
        for part in who.parts() {
            let wait: Result<(), Duration> = match part {
                Part::Source(source) => counts.sources.take(&source),
                Part::Connection(connection) => counts.connections.take(&connection),
            };
            if let Err(wait) = wait {
                let now = Instant::now();
                let mut waiting = counts.waiting.lock();
                // The table stays small: few callers have just failed too often.
                waiting.retain(|_, until| *until > now);
                waiting.insert(part, now + wait);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::refusal::Code;

    fn at(address: &str) -> Who {
        Who::of(Some(address.parse().unwrap()), None)
    }

    #[test]
    fn an_address_that_fails_too_often_must_wait_and_others_need_not() {
        let auth_failures = AuthFailureLimiter::new(3);
        for _ in 0..3 {
            auth_failures.failed(at("192.0.2.1"));
            auth_failures.check(at("192.0.2.1")).unwrap();
        }
        auth_failures.failed(at("192.0.2.1"));
        let refusal = auth_failures.check(at("192.0.2.1")).unwrap_err();
        assert_eq!(refusal.code, Code::RateLimited);
        assert!(refusal.retry_after.unwrap() > Duration::from_secs(10));
        auth_failures.check(at("192.0.2.2")).unwrap();
    }

    #[test]
    fn a_connection_may_fail_a_tenth_as_often() {
        let auth_failures = AuthFailureLimiter::new(30);
        let address = Some("192.0.2.1".parse().unwrap());
        let (one, other) = (1, 2);
        for _ in 0..4 {
            auth_failures.failed(Who::of(address, Some(one)));
        }
        auth_failures.check(Who::of(address, Some(one))).unwrap_err();
        auth_failures.check(Who::of(address, Some(other))).unwrap();
        auth_failures.check(Who::of(address, None)).unwrap();
    }

    #[test]
    fn success_is_not_counted() {
        let auth_failures = AuthFailureLimiter::new(1);
        for _ in 0..1000 {
            auth_failures.check(at("192.0.2.1")).unwrap();
        }
    }
}
