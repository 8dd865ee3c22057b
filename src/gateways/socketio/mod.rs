//! The Socket.IO gateway: turns what clients send, once, into typed events, calls their commands, and maps
//! the results back to acks and `error` events.

mod connection;
mod connects;
mod cookie;
mod eio3;
mod guard;
mod handshake;
mod handshake_error;
mod inbox;
mod layer;
mod membership;
mod polling;
mod refusals;
mod task;
mod upgrade;
mod verify;

pub use self::{
    cookie::token_of_cookie,
    layer::{build, mount},
    membership::change_membership,
    upgrade::{SocketLayer, SocketService},
    verify::{Verifier, verify},
};

use axum::http::Uri;

/// Whether a request is Socket.IO's, which is at this path.
pub fn is_socket_io(path: &str, uri: &Uri) -> bool {
    uri.path().strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The first parameter of that name in the query, which is the one that the library reads. It is not decoded:
/// Engine.IO's own parameters need no percent-encoding.
fn parameter<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    uri.query()?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}
