//! What clients of Engine.IO 3 (socket.io-client 1.x and 2.x, and compatible ones) need beyond the library.
//! It touches only requests with `EIO=3`.
//!
//! `io("/chat", {query: {token}})` of a 2.x client sends `40/chat?token=…,` ([manager.js of 2.5.0][manager]).
//! The 2.x server takes the path as the namespace and lays the query over the one of the URL
//! ([client.js][client], [socket.js][socket]). The library takes all of it for the name of a namespace, and
//! knows no such name. Later protocols carry what a client tells one namespace in the CONNECT packet's data,
//! `auth`, which wins over the URL here, too. So the packet is rewritten to `40/chat,{"token":"…"}`
//! ([`packet`]), in the frames from the client ([`frames`]), in the stream that the library reads
//! ([`websocket`]).
//!
//! [manager]: https://github.com/socketio/socket.io-client/blob/2.5.0/lib/manager.js
//! [client]: https://github.com/socketio/socket.io/blob/2.5.0/lib/client.js
//! [socket]: https://github.com/socketio/socket.io/blob/2.5.0/lib/socket.js

mod frames;
mod packet;
#[cfg(test)]
mod tests;
mod websocket;

use axum::http::Uri;

pub(super) use self::websocket::Stream;
use super::parameter;

/// Whether the client speaks Engine.IO 3.
pub(super) fn speaks(uri: &Uri) -> bool {
    parameter(uri, "EIO") == Some("3")
}
