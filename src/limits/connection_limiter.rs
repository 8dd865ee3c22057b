//! The connection limiter: how many connections may open a second, and be open at a time.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{address::Source, keyed::Keyed, per_second, refused};
use crate::{
    config::Config,
    protocol::refusal::{Code, Refusal},
};

/// `Retry-After` when the server is full.
pub const ROOM_AGAIN: Duration = Duration::from_secs(5);

/// Counts the connections: every Engine.IO session, from its handshake to its end, whether or not
/// it ever enters a namespace.
#[derive(Debug)]
pub struct ConnectionLimiter {
    new: Option<Keyed<Source>>,
    max: u64,
    max_per_source: u64,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: u64,
    /// Only counted if a limit needs it.
    by_source: HashMap<Source, u64>,
}

/// One connection's permit. It travels with the handshake's request, which the library keeps as long as the
/// connection, and is given back when dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    connection_limiter: Arc<ConnectionLimiter>,
    source: Option<Source>,
    banned: AtomicBool,
}

impl ConnectionLimiter {
    /// The limits of this configuration, without connections.
    pub fn new(config: &Config) -> Self {
        Self {
            new: per_second(config.rate_limit_connections, 0).map(Keyed::new),
            max: config.max_connections,
            max_per_source: config.max_connections_per_ip,
            open: Mutex::default(),
        }
    }

    /// A permit for a new connection from this address.
    ///
    /// # Errors
    /// `rate_limited` if the address exceeds its limits, `unavailable` if the server is full.
    pub fn admit(
        self: &Arc<Self>,
        address: Option<IpAddr>,
    ) -> Result<Arc<ConnectionPermit>, Refusal> {
        let source = address.map(Source::of);
        if let (Some(new), Some(source)) = (&self.new, source) {
            new.take(&source).map_err(|wait| {
                refused(wait, "too many new connections a second from this address")
            })?;
        }
        let mut open = self.open.lock();
        if self.max > 0 && open.total >= self.max {
            let message = "the server has reached its limit of connections; try again later";
            return Err(Refusal::new(Code::Unavailable, message).after(ROOM_AGAIN));
        }
        let source = source.filter(|_| self.max_per_source > 0);
        if let Some(source) = source {
            let count = open.by_source.entry(source).or_default();
            if *count >= self.max_per_source {
                return Err(refused(ROOM_AGAIN, "too many connections from this address"));
            }
            *count += 1;
        }
        open.total += 1;
        drop(open);
        Ok(Arc::new(ConnectionPermit {
            connection_limiter: self.clone(),
            source,
            banned: false.into(),
        }))
    }

    /// The number of connections.
    pub fn open(&self) -> u64 {
        self.open.lock().total
    }
}

impl ConnectionPermit {
    /// Bars this connection from all namespaces: it was disconnected for flooding.
    pub fn ban(&self) {
        self.banned.store(true, Ordering::Release);
    }

    /// Whether the connection is barred.
    pub fn is_banned(&self) -> bool {
        self.banned.load(Ordering::Acquire)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut open = self.connection_limiter.open.lock();
        open.total -= 1;
        let Some(source) = self.source else { return };
        if let Some(count) = open.by_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                open.by_source.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection_limiter(config: &Config) -> Arc<ConnectionLimiter> {
        Arc::new(ConnectionLimiter::new(config))
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn a_full_server_has_room_again_when_somebody_leaves() {
        let connection_limiter =
            connection_limiter(&Config { max_connections: 2, ..Config::default() });
        let first = connection_limiter.admit(Some(address(1))).unwrap();
        let _second = connection_limiter.admit(Some(address(2))).unwrap();
        let refusal = connection_limiter.admit(Some(address(3))).unwrap_err();
        assert_eq!((refusal.code, refusal.retry_after), (Code::Unavailable, Some(ROOM_AGAIN)));
        drop(first);
        let _third = connection_limiter.admit(Some(address(3))).unwrap();
        assert_eq!(connection_limiter.open(), 2);
    }

    #[test]
    fn an_address_has_so_many_connections_and_leaves_nothing_behind() {
        let connection_limiter =
            connection_limiter(&Config { max_connections_per_ip: 1, ..Config::default() });
        let first = connection_limiter.admit(Some(address(1))).unwrap();
        assert_eq!(connection_limiter.admit(Some(address(1))).unwrap_err().code, Code::RateLimited);
        let other = connection_limiter.admit(Some(address(2))).unwrap();
        drop((first, other));
        assert!(connection_limiter.open.lock().by_source.is_empty());
        assert_eq!(connection_limiter.open(), 0);
        connection_limiter.admit(Some(address(1))).unwrap();
    }

    #[test]
    fn so_many_new_connections_a_second() {
        let connection_limiter =
            connection_limiter(&Config { rate_limit_connections: 2, ..Config::default() });
        for _ in 0..2 {
            connection_limiter.admit(Some(address(1))).unwrap();
        }
        let refusal = connection_limiter.admit(Some(address(1))).unwrap_err();
        assert_eq!(refusal.code, Code::RateLimited);
        connection_limiter.admit(Some(address(2))).unwrap();
    }
}
