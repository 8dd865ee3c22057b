//! The checks of a Socket.IO request, in the order in which Node's server makes them: those of
//! [`Server.verify`][engine] of Engine.IO, and those of [`handleUpgrade`][ws] of `ws` for a WebSocket
//! ([RFC 6455, section 4.2.1][rfc]). What passes is answered by the library, or by [polling](super::polling).
//!
//! Node answers a wrong WebSocket request in plain text, without the number of the error; here every answer is
//! JSON.
//!
//! [engine]: https://github.com/socketio/socket.io/blob/engine.io@6.6.4/packages/engine.io/lib/server.ts
//! [ws]: https://github.com/websockets/ws/blob/8.18.3/lib/websocket-server.js
//! [rfc]: https://www.rfc-editor.org/rfc/rfc6455#section-4.2.1

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{handshake_error::HandshakeError, parameter, polling};
use crate::{config::Config, gateways::app::App, transport::Wire};

/// The versions of the WebSocket protocol that are spoken.
const VERSIONS: [&str; 2] = ["13", "8"];

const BAD_VERSION: HandshakeError =
    HandshakeError::NoWebsocket("Missing or invalid Sec-WebSocket-Version header");

/// What the checks need.
#[derive(Clone)]
pub struct Verifier {
    config: Arc<Config>,
    wire: Wire,
}

impl Verifier {
    /// The checks that the configuration asks for.
    pub fn new(app: &App) -> Self {
        Self { config: app.config.clone(), wire: app.wire.clone() }
    }

    /// Checks what Engine.IO asks of every request.
    fn engine(&self, request: &Request, is_upgrade: bool) -> Result<(), HandshakeError> {
        let (uri, transports) = (request.uri(), self.config.transports);
        let is_websocket = match parameter(uri, "transport") {
            Some("websocket") if transports.websocket => true,
            Some("polling") if transports.polling => false,
            _ => return Err(HandshakeError::UnknownTransport),
        };
        let speaks_known = matches!(parameter(uri, "EIO"), Some("3" | "4"));
        if parameter(uri, "sid").is_some() {
            let known = polling::session(&self.wire, request, &self.config).is_some();
            return match known {
                false => Err(HandshakeError::UnknownSession),
                true if !speaks_known || (is_websocket && !is_upgrade) => {
                    Err(HandshakeError::BadRequest)
                }
                true => Ok(()),
            };
        }
        if request.method() != Method::GET {
            return Err(HandshakeError::BadMethod);
        }
        if is_websocket && !is_upgrade {
            return Err(HandshakeError::BadRequest);
        }
        if speaks_known { Ok(()) } else { Err(HandshakeError::UnsupportedProtocol) }
    }
}

/// Refuses requests that break the protocol, and echoes the first subprotocol that a WebSocket offers: some
/// clients go on with none but that.
pub async fn verify(State(verifier): State<Verifier>, request: Request, next: Next) -> Response {
    let is_upgrade = is_upgrade(request.headers());
    if let Err(error) = verifier.engine(&request, is_upgrade) {
        return error.into_response();
    }
    if parameter(request.uri(), "transport") != Some("websocket") {
        return next.run(request).await;
    }
    if request.method() != Method::GET {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let subprotocol = match websocket(request.headers()) {
        Ok(subprotocol) => subprotocol,
        Err(error) => {
            let mut answer = error.into_response();
            if error == BAD_VERSION {
                let versions = HeaderValue::from_static("13, 8");
                answer.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, versions);
            }
            return answer;
        }
    };
    let mut answer = next.run(request).await;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(subprotocol) = subprotocol
    {
        answer.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    answer
}

/// Whether a request asks for another protocol on its connection.
fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
        && tokens(headers, &header::CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))
}

/// Checks the headers of a request for a WebSocket; returns the first subprotocol that it offers.
fn websocket(headers: &HeaderMap) -> Result<Option<HeaderValue>, HandshakeError> {
    let wrong = HandshakeError::NoWebsocket;
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if !text(header::UPGRADE).is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket")) {
        return Err(wrong("Invalid Upgrade header"));
    }
    if !text(header::SEC_WEBSOCKET_KEY).is_some_and(is_key) {
        return Err(wrong("Missing or invalid Sec-WebSocket-Key header"));
    }
    if !text(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| VERSIONS.contains(&version)) {
        return Err(BAD_VERSION);
    }
    subprotocol(headers).map_err(|()| wrong("Invalid Sec-WebSocket-Protocol header"))
}

/// Whether it is 16 bytes in base64.
fn is_key(key: &str) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24
        && key.strip_suffix("==").is_some_and(|digits| digits.as_bytes().iter().all(is_digit))
}

/// The first of the subprotocols, which must be distinct tokens.
fn subprotocol(headers: &HeaderMap) -> Result<Option<HeaderValue>, ()> {
    const NAME: HeaderName = header::SEC_WEBSOCKET_PROTOCOL;
    if !headers.contains_key(NAME) {
        return Ok(None);
    }
    let mut offered = Vec::new();
    for token in tokens(headers, &NAME) {
        let is_token = !token.is_empty()
            && token
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        if !is_token || offered.contains(&token) {
            return Err(());
        }
        offered.push(token);
    }
    offered.first().map(|token| HeaderValue::from_str(token).map_err(|_| ())).transpose()
}

/// The parts of a header that is a list. One that is no text has one empty part.
fn tokens<'a>(headers: &'a HeaderMap, name: &'a HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter();
    values.flat_map(|value| value.to_str().unwrap_or_default().split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(HeaderName, &str)]) -> HeaderMap {
        let parsed = list.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
        parsed.collect()
    }

    #[test]
    fn an_upgrade_has_both_headers() {
        let both = [(header::CONNECTION, "keep-alive, Upgrade"), (header::UPGRADE, "websocket")];
        assert!(is_upgrade(&headers(&both)));
        assert!(!is_upgrade(&headers(&both[..1])));
        assert!(!is_upgrade(&headers(&both[1..])));
        assert!(!is_upgrade(&headers(&[(header::CONNECTION, "close"), both[1].clone()])));
    }

    #[test]
    fn a_key_is_16_bytes_in_base64() {
        assert!(is_key("dGhlIHNhbXBsZSBub25jZQ=="));
        for wrong in [
            "",
            "abc",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25j-Q==",
            "dGhlIHNhbXBsZSBub25jZQAA",
        ] {
            assert!(!is_key(wrong), "{wrong}");
        }
    }

    #[test]
    fn the_first_subprotocol_is_echoed() {
        for (offered, wanted) in [
            ("a", Ok(Some("a"))),
            ("v1.json , b", Ok(Some("v1.json"))),
            ("", Err(())),
            ("a,,b", Err(())),
            ("a,a", Err(())),
            ("a b", Err(())),
        ] {
            let headers = headers(&[(header::SEC_WEBSOCKET_PROTOCOL, offered)]);
            let found = subprotocol(&headers);
            let found =
                found.as_ref().map(|found| found.as_ref().map(|name| name.to_str().unwrap()));
            assert_eq!(found, wanted.as_ref().map(|wanted| *wanted), "{offered}");
        }
        assert_eq!(subprotocol(&HeaderMap::new()), Ok(None));
    }
}
