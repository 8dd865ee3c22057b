//! What clients of Engine.IO 3 (socket.io-client 1.x and 2.x, and what speaks like them) need beyond
//! the library. It touches only requests that say `EIO=3`.
//!
//! `io("/chat", {query: {token}})` of a 2.x client sends `40/chat?token=…,` ([manager.js of
//! 2.5.0][manager]), and the 2.x server takes the path of that as the namespace and lays the query over
//! the one of the URL ([client.js][client], [socket.js][socket]). The library takes all of it for the
//! name of a namespace, and knows none of that name. Later protocols have a place for what a client says
//! of itself to one namespace: the data of the CONNECT packet, `auth`, which wins over the URL here, too.
//! So the packet is said in these words, `40/chat,{"token":"…"}` ([`packet`]), in the frames from the
//! client ([`frames`]), in the stream that the library reads ([`websocket`]).
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

pub use self::websocket::Stream;
use super::parameter;

/// Whether it is Engine.IO 3 that the client speaks.
pub fn speaks(uri: &Uri) -> bool {
    parameter(uri, "EIO") == Some("3")
}
