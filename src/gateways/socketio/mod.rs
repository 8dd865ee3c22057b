//! The Socket.IO gateway: turns what clients send, once, into typed events, calls their commands, and maps
//! the results back to acks and `error` events.

mod connection;
mod connects;
mod eio3;
mod guard;
mod handshake;
mod inbox;
mod layer;
mod membership;
mod polling;
mod refusals;
mod session_id;
mod task;
mod upgrade;

pub use self::{
    layer::{build, mount},
    membership::change_membership,
    session_id::{SessionIds, guard},
    upgrade::{SocketLayer, SocketService},
};

use axum::http::Uri;

/// The path of Socket.IO.
const PATH: &str = "/socket.io";

/// Whether a request is Socket.IO's.
pub fn is_socket_io(uri: &Uri) -> bool {
    uri.path().strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The first parameter of that name in the query, which is the one that the library reads. It is not decoded:
/// Engine.IO's own parameters need no percent-encoding.
fn parameter<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    uri.query()?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}
