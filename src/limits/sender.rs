//! The sender that is charged for what a client stores.

use std::{fmt, net::IpAddr};

use super::Source;
use crate::protocol::names::UserId;

/// The sender that is charged for what a client stores: its user if tokens prove it, else its address. A new
/// connection, or another unproven name, is not a new sender.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SenderId {
    /// A user that its token proves.
    User(UserId),
    /// Everyone at this address; `None` if it is unknown.
    Address(Option<Source>),
}

impl SenderId {
    /// The sender of clients at `address` that have proved nothing.
    pub fn at(address: Option<IpAddr>) -> Self {
        Self::Address(address.map(Source::of))
    }
}

impl fmt::Display for SenderId {
    /// As it is stored: the prefix keeps users and addresses apart.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "u:{user}"),
            Self::Address(Some(source)) => write!(f, "a:{source}"),
            Self::Address(None) => f.write_str("a:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_one_sender_whatever_it_calls_itself() {
        let at = |text: &str| SenderId::at(Some(text.parse().unwrap())).to_string();
        assert_eq!(at("192.0.2.1"), "a:192.0.2.1");
        assert_eq!(at("2001:db8::1"), at("2001:db8::2"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        let user = SenderId::User(UserId::parse("192.0.2.1").unwrap());
        assert_ne!(user.to_string(), at("192.0.2.1"));
    }
}
