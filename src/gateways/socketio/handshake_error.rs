//! The errors of Engine.IO's handshake, as Node's server answers them.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

/// Why a request is refused. The numbers are [Engine.IO's][errors].
///
/// [errors]: https://github.com/socketio/socket.io/blob/engine.io@6.6.4/packages/engine.io/lib/server.ts
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HandshakeError {
    /// No such transport, or not allowed.
    UnknownTransport,
    /// No such session.
    UnknownSession,
    /// A session is opened by GET.
    BadMethod,
    /// The request does not fit the transport or the session.
    BadRequest,
    /// The same; this says why.
    NoWebsocket(&'static str),
    /// No such revision of the protocol.
    UnsupportedProtocol,
}

impl HandshakeError {
    fn code(self) -> u8 {
        match self {
            Self::UnknownTransport => 0,
            Self::UnknownSession => 1,
            Self::BadMethod => 2,
            Self::BadRequest | Self::NoWebsocket(_) => 3,
            Self::UnsupportedProtocol => 5,
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::UnknownTransport => "Transport unknown",
            Self::UnknownSession => "Session ID unknown",
            Self::BadMethod => "Bad handshake method",
            Self::BadRequest => "Bad request",
            Self::NoWebsocket(why) => why,
            Self::UnsupportedProtocol => "Unsupported protocol version",
        }
    }
}

impl IntoResponse for HandshakeError {
    fn into_response(self) -> Response {
        let body = axum::Json(json!({"code": self.code(), "message": self.message()}));
        (StatusCode::BAD_REQUEST, body).into_response()
    }
}
