//! Which address a request comes from, and what counts as one address.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use axum::{
    extract::ConnectInfo,
    http::{Extensions, HeaderMap},
};

use crate::config::Config;

/// The header in which proxies name the client.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The prefix length of the smallest IPv6 network that one customer gets.
const IPV6_PREFIX: u32 = 64;

/// What counts as one address: an IPv4 address, or the /64 network of an IPv6 address, all of
/// which one machine may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

impl Source {
    /// The source that this address belongs to.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::MAX << (128 - IPV6_PREFIX);
                Ipv6Addr::from_bits(address.to_bits() & network).into()
            }
            address @ IpAddr::V4(_) => address,
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a request comes from: its peer or, if the peer is in `TRUST_PROXY`, the rightmost address of
/// `X-Forwarded-For` that is not. Addresses further left may be made up by the client. `None` if the peer is
/// unknown.
pub fn client_address(
    headers: &HeaderMap,
    extensions: &Extensions,
    config: &Config,
) -> Option<IpAddr> {
    let ConnectInfo(peer) = extensions.get::<ConnectInfo<SocketAddr>>()?;
    let mut address = peer.ip().to_canonical();
    if !config.trusts_proxy(address) {
        return Some(address);
    }
    let values = headers.get_all(FORWARDED_FOR).iter();
    let hops = values.flat_map(|value| value.to_str().unwrap_or_default().split(','));
    for hop in hops.collect::<Vec<_>>().into_iter().rev() {
        // Nothing left of an invalid address can be trusted: the last known hop counts.
        let Some(hop) = parse(hop.trim()) else { break };
        address = hop;
        if !config.trusts_proxy(address) {
            break;
        }
    }
    Some(address)
}

/// The peer, if it sends `X-Forwarded-For` without being in `TRUST_PROXY`.
pub fn disbelieved_peer(
    headers: &HeaderMap,
    extensions: &Extensions,
    config: &Config,
) -> Option<IpAddr> {
    let ConnectInfo(peer) = extensions.get::<ConnectInfo<SocketAddr>>()?;
    let disbelieved = headers.contains_key(FORWARDED_FOR) && !config.trusts_proxy(peer.ip());
    disbelieved.then(|| peer.ip())
}

/// Parses an address; some proxies add the port: `192.0.2.1:80`, `[2001:db8::1]:80`.
fn parse(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok();
    let address = address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(peer: &str, forwarded: &[&str], trusted: &str) -> String {
        let trust_proxy = trusted
            .split(',')
            .filter(|network| !network.is_empty())
            .map(|network| network.parse().unwrap())
            .collect();
        let config = Config { trust_proxy, ..Config::default() };
        let mut extensions = Extensions::new();
        extensions.insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 4000)));
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, value.parse().unwrap());
        }
        client_address(&headers, &extensions, &config).unwrap().to_string()
    }

    #[test]
    fn nobody_is_believed_unless_named() {
        assert_eq!(address("10.0.0.1", &["192.0.2.7"], ""), "10.0.0.1");
        assert_eq!(address("10.0.0.1", &["192.0.2.7"], "10.0.0.2/32"), "10.0.0.1");
        assert_eq!(address("::ffff:10.0.0.1", &["192.0.2.7"], "10.0.0.0/8"), "192.0.2.7");
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxy_counts() {
        let trusted = "10.0.0.0/8,2001:db8::/32";
        for (forwarded, wanted) in [
            (&["192.0.2.7"][..], "192.0.2.7"),
            // The left part is what the client made up.
            (&["127.0.0.1, 192.0.2.7"], "192.0.2.7"),
            (&["127.0.0.1, 192.0.2.7, 10.1.1.1"], "192.0.2.7"),
            (&["127.0.0.1, 192.0.2.7", "2001:db8::1,10.1.1.1"], "192.0.2.7"),
            (&["192.0.2.7:8080"], "192.0.2.7"),
            (&["[2001:470::7]:8080"], "2001:470::7"),
            (&["[2001:470::7]"], "2001:470::7"),
            // Only proxies, or an unreadable hop: the last known one counts.
            (&["10.2.2.2, 10.1.1.1"], "10.2.2.2"),
            (&["192.0.2.7, unknown, 10.1.1.1"], "10.1.1.1"),
            (&["192.0.2.7, "], "10.0.0.1"),
            (&[], "10.0.0.1"),
        ] {
            assert_eq!(address("10.0.0.1", forwarded, trusted), wanted, "{forwarded:?}");
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let source = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
    }
}
