//! Rates and quotas: how much one client, one address, one caller may ask of the server.
//!
//! Every limit is off with 0 and then costs nothing. Hitting a limit gives a [`Refusal`] with the time to try
//! again; each gateway puts it in its own format. Counts per address are kept in a table that forgets quiet
//! addresses, so that no number of addresses makes it grow for ever.
//!
//! | limit | counted per | where |
//! | --- | --- | --- |
//! | events | connection | [`Throttle`], asked for every event, CONNECT and DISCONNECT |
//! | failed authentications | address and client | [`AuthFailureLimiter`] |
//! | new connections, open connections | address; all | [`ConnectionLimiter`], asked for every handshake |
//! | connections, with a session or without | all; the fullest address gives first | [`Slots`], asked by the accept loop |
//! | large events at a time | all | [`LargeEvents`], asked before an event is read |
//! | HTTP requests | API key, else address | [`Limits::request`] |
//! | log lines that anybody can cause | topic, and address | [`Sampler`] |

mod address;
mod auth_failures;
mod connection_limiter;
mod depth;
mod keyed;
mod large_events;
mod sampler;
mod sender;
mod slots;
mod throttle;

use std::{net::IpAddr, num::NonZeroU32, sync::Arc, time::Duration};

use governor::Quota;
use parking_lot::Mutex;

use self::keyed::Keyed;
pub use self::{
    address::{Source, client_address, disbelieved_peer},
    auth_failures::{AuthFailureLimiter, Who},
    connection_limiter::{ConnectionLimiter, ConnectionPermit, ROOM_AGAIN},
    depth::{MAX_DEPTH, is_deeper_than},
    large_events::LargeEvents,
    sampler::{Sampler, Sampling},
    sender::SenderId,
    slots::{Slot, Slots, UnderWay, Use, raise_descriptor_limit},
    throttle::{Reaction, Throttle},
};
use crate::{
    config::Config,
    protocol::refusal::{Code, Refusal},
};

/// The limits that the gateways share.
#[derive(Debug)]
pub struct Limits {
    /// The connection limiter.
    pub connection_limiter: Arc<ConnectionLimiter>,
    /// The connections that there are descriptors for.
    pub slots: Slots,
    /// The auth failure limiter.
    pub auth_failures: AuthFailureLimiter,
    /// The turns in which large events are read.
    pub large_events: LargeEvents,
    requests: Option<Keyed<Caller>>,
    /// Whether the warning about an untrusted `X-Forwarded-For` has been given.
    warned: Mutex<bool>,
}

/// Who makes an HTTP request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caller {
    /// The holder of the API key with this number.
    Key(usize),
    /// Everyone at this address.
    Address(Source),
}

impl Limits {
    /// The limits of this configuration.
    pub fn new(config: &Config) -> Self {
        Self {
            connection_limiter: Arc::new(ConnectionLimiter::new(config)),
            slots: Slots::new(raise_descriptor_limit(), config.trust_proxy.clone()),
            auth_failures: AuthFailureLimiter::new(config.rate_limit_auth),
            large_events: LargeEvents::of_runtime(),
            requests: per_second(config.rate_limit_http, 0).map(Keyed::new),
            warned: Mutex::default(),
        }
    }

    /// Counts one HTTP request of `caller`.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn request(&self, caller: Caller) -> Result<(), Refusal> {
        let Some(requests) = &self.requests else { return Ok(()) };
        requests
            .take(&caller)
            .map_err(|wait| refused(wait, "too many requests a second: slow down"))
    }

    /// Whether HTTP requests are counted at all.
    pub fn counts_requests(&self) -> bool {
        self.requests.is_some()
    }

    /// Warns once about `X-Forwarded-For` from an untrusted private address: most likely that is the
    /// operator's own proxy, and every client behind it counts as one.
    pub fn warn_of_proxy(&self, peer: IpAddr) {
        let neighbour = match peer.to_canonical() {
            IpAddr::V4(peer) => peer.is_private() || peer.is_loopback() || peer.is_link_local(),
            IpAddr::V6(peer) => {
                peer.is_loopback() || peer.is_unique_local() || peer.is_unicast_link_local()
            }
        };
        if neighbour && !std::mem::replace(&mut *self.warned.lock(), true) {
            tracing::warn!(
                %peer,
                "X-Forwarded-For is not trusted: all clients behind this peer count as one address; \
                 if it is your proxy, add it to TRUST_PROXY"
            );
        }
    }
}

/// A refusal with the time to try again, also in its message, because a `connect_error` has nothing else.
pub fn refused(wait: Duration, message: &str) -> Refusal {
    // Rounded up, so that a client that waits is not refused again.
    let seconds = wait.as_millis().div_ceil(1000).max(1);
    let message = format!("{message}; try again in {seconds} s");
    Refusal::new(Code::RateLimited, message).after(wait.max(Duration::from_millis(1)))
}

/// `rate` a second, of which `burst` at once (0: as many as `rate`); `None` if there is no limit.
fn per_second(rate: u32, burst: u32) -> Option<Quota> {
    let rate = NonZeroU32::new(rate)?;
    Some(Quota::per_second(rate).allow_burst(NonZeroU32::new(burst).unwrap_or(rate)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_off_with_zero() {
        let limits = Limits::new(&Config {
            rate_limit_http: 0,
            rate_limit_connections: 0,
            rate_limit_auth: 0,
            ..Config::default()
        });
        let address = "192.0.2.1".parse().unwrap();
        let mut admitted = Vec::new();
        for _ in 0..10_000 {
            limits.request(Caller::Key(0)).unwrap();
            admitted.push(limits.connection_limiter.admit(Some(address)).unwrap());
            limits.auth_failures.failed(Who::of(Some(address), None));
        }
        limits.auth_failures.check(Who::of(Some(address), None)).unwrap();
    }

    #[test]
    fn requests_are_counted_per_caller() {
        let limits = Limits::new(&Config { rate_limit_http: 2, ..Config::default() });
        let address = Caller::Address(Source::of("192.0.2.1".parse().unwrap()));
        for caller in [Caller::Key(0), Caller::Key(1), address] {
            limits.request(caller).unwrap();
            limits.request(caller).unwrap();
            let refusal = limits.request(caller).unwrap_err();
            assert_eq!(refusal.code, Code::RateLimited);
            assert!(refusal.retry_after.unwrap() <= Duration::from_millis(500));
            assert!(refusal.message.ends_with("try again in 1 s"), "{refusal}");
        }
    }
}
