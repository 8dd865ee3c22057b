//! Session ids that only their owner knows.
//!
//! A client's socket id is the id of its Engine.IO session, and everyone in a room sees socket ids. By itself
//! that id would let anyone post as a client that polls, read its messages, or take its session over by a
//! websocket upgrade. So a polling client gets its session id with a signature, `<id>.<mac>`, and a request
//! that names a session must bring both; the library behind sees the bare id. Socket.IO 3 and later take the
//! socket id from the CONNECT packet and never show the signed one; older clients take the signed one for
//! their `socket.id`.
//!
//! The open packet of a websocket carries the bare id: no request can join a session that is on a websocket,
//! and without the signature none gets as far as asking.
//!
//! The key is random and lives as long as the process. A session does, too, so a restart invalidates only
//! signatures of sessions that it ends. Of several nodes, only the one that holds the session can serve its
//! requests in any case: a balancer has to be sticky for polling.

use std::sync::Arc;

use aws_lc_rs::{
    hmac::{self, HMAC_SHA256, Key},
    rand::SystemRandom,
};
use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, Uri, header, uri::PathAndQuery},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use subtle::ConstantTimeEq;

use super::parameter;

/// The separator of an id and its signature; it occurs in neither.
const SEPARATOR: char = '.';

/// How much of the HMAC goes on the wire, in bytes: too many bits to guess.
const SIGNATURE: usize = 16;

/// An id that no session can have: the library answers as for any unknown session.
const NO_SESSION: &str = "none";

/// The greatest open packet, in bytes.
const MAX_OPEN_PACKET: usize = 4096;

/// Signs session ids and checks the signatures.
#[derive(Clone)]
pub struct SessionIds(Arc<Key>);

impl SessionIds {
    /// Session ids with a new random key.
    ///
    /// # Panics
    /// If the system has no randomness, which does not happen.
    pub fn new() -> Self {
        #[allow(clippy::expect_used, reason = "the system's random source cannot fail")]
        let key = Key::generate(HMAC_SHA256, &SystemRandom::new()).expect("there is randomness");
        Self(Arc::new(key))
    }

    /// `id` with its signature.
    fn sign(&self, id: &str) -> String {
        format!("{id}{SEPARATOR}{}", self.signature(id))
    }

    /// The id that was signed; `None` if the signature is missing or not this id's.
    fn verify<'a>(&self, signed: &'a str) -> Option<&'a str> {
        let (id, signature) = signed.split_once(SEPARATOR)?;
        let expected = self.signature(id);
        bool::from(expected.as_bytes().ct_eq(signature.as_bytes())).then_some(id)
    }

    fn signature(&self, id: &str) -> String {
        let tag = hmac::sign(&self.0, id.as_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(&tag.as_ref()[..SIGNATURE])
    }
}

impl Default for SessionIds {
    fn default() -> Self {
        Self::new()
    }
}

/// In front of the library: signs the session ids that it hands out, and lets only signed ones in.
pub async fn guard(State(ids): State<SessionIds>, request: Request, next: Next) -> Response {
    if let Some(signed) = parameter(request.uri(), "sid") {
        let query = request.uri().query().unwrap_or_default();
        let query = with_session(query, ids.verify(signed).unwrap_or(NO_SESSION));
        let (mut parts, body) = request.into_parts();
        let Some(uri) = with_query(parts.uri, &query) else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        parts.uri = uri;
        return next.run(Request::from_parts(parts, body)).await;
    }
    let opens =
        request.method() == Method::GET && parameter(request.uri(), "transport") == Some("polling");
    let answer = next.run(request).await;
    if opens && answer.status() == StatusCode::OK {
        return sign_answer(&ids, answer).await;
    }
    answer
}

/// The query with this session id; every other `sid` is dropped.
fn with_session(query: &str, session: &str) -> String {
    let others = query.split('&').filter(|pair| !pair.starts_with("sid="));
    let mut query = String::from("sid=");
    query.push_str(session);
    for pair in others {
        query.push('&');
        query.push_str(pair);
    }
    query
}

fn with_query(uri: Uri, query: &str) -> Option<Uri> {
    let mut parts = uri.into_parts();
    let path = parts.path_and_query.as_ref().map_or("/", PathAndQuery::path);
    parts.path_and_query = Some(format!("{path}?{query}").parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// Signs the session id in the answer to a handshake.
async fn sign_answer(ids: &SessionIds, answer: Response) -> Response {
    let (mut parts, body) = answer.into_parts();
    let signed = axum::body::to_bytes(body, MAX_OPEN_PACKET)
        .await
        .ok()
        .and_then(|body| sign_payload(ids, std::str::from_utf8(&body).ok()?));
    let Some(payload) = signed else {
        // Unsigned it would be of no use to the client.
        tracing::error!("the answer to a handshake is no open packet");
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(payload.len()));
    Response::from_parts(parts, Body::from(payload))
}

/// The payload with the session id of its first packet signed: `0{…}`, or `<length>:0{…}` in Engine.IO 3.
/// What follows stays as it is. `None` if it does not begin with an open packet.
fn sign_payload(ids: &SessionIds, payload: &str) -> Option<String> {
    if payload.starts_with('0') {
        let (packet, rest) = payload.split_at(payload.find('\x1e').unwrap_or(payload.len()));
        return Some(sign_packet(ids, packet)? + rest);
    }
    let (length, packets) = payload.split_once(':')?;
    let length = length.parse::<usize>().ok()?;
    // Lengths are in characters; a packet is ASCII at least up to the end of its id.
    let end = packets.char_indices().nth(length).map_or(packets.len(), |(at, _)| at);
    let (packet, rest) = packets.split_at(end);
    let packet = sign_packet(ids, packet)?;
    Some(format!("{}:{packet}{rest}", packet.chars().count()))
}

fn sign_packet(ids: &SessionIds, packet: &str) -> Option<String> {
    let mut open: serde_json::Map<_, _> = serde_json::from_str(packet.strip_prefix('0')?).ok()?;
    let session = open.get_mut("sid")?;
    *session = ids.sign(session.as_str()?).into();
    Some(format!("0{}", serde_json::Value::Object(open)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "AA9AAA0AAzAAAAHs";

    #[test]
    fn a_signature_is_good_for_its_own_id_and_key_only() {
        let (ids, others) = (SessionIds::new(), SessionIds::new());
        let signed = ids.sign(ID);
        assert_eq!(ids.verify(&signed), Some(ID));
        assert_eq!(others.verify(&signed), None);
        let (_, signature) = signed.split_once('.').unwrap();
        assert_eq!(signature.len(), 22);
        for forged in [
            ID.to_owned(),
            format!("{ID}."),
            format!("{ID}.{}", &signature[..21]),
            format!("{ID}.{signature}A"),
            format!("{ID}.{signature}.{signature}"),
            format!("AA9AAA0AAzAAAAHt.{signature}"),
            format!(".{signature}"),
            String::new(),
            ".".into(),
        ] {
            assert_eq!(ids.verify(&forged), None, "{forged}");
        }
    }

    #[test]
    fn an_open_packet_is_signed_in_both_protocols() {
        let ids = SessionIds::new();
        let signed = ids.sign(ID);
        let open =
            |id: &str| format!(r#"0{{"sid":"{id}","upgrades":["websocket"],"pingInterval":1}}"#);
        assert_eq!(sign_payload(&ids, &open(ID)), Some(open(&signed)));
        let two = |id: &str| format!("{}\x1e40", open(id));
        assert_eq!(sign_payload(&ids, &two(ID)), Some(two(&signed)));
        let third = |id: &str| format!("{}:{}2:40", open(id).len(), open(id));
        assert_eq!(sign_payload(&ids, &third(ID)), Some(third(&signed)));
        for other in ["", "ok", "4{}", "0", "0{}", "0[]", "3:0{}", "x:0{}", "99:40"] {
            assert_eq!(sign_payload(&ids, other), None, "{other}");
        }
    }

    #[test]
    fn the_session_of_a_query_is_replaced_wherever_it_stands() {
        for (query, wanted) in [
            ("EIO=4&sid=a.b&transport=polling", "sid=x&EIO=4&transport=polling"),
            ("sid=a.b&EIO=4&sid=c", "sid=x&EIO=4"),
            ("sid=", "sid=x"),
        ] {
            assert_eq!(with_session(query, "x"), wanted);
        }
        let uri = |query: &str| format!("/socket.io/?{query}").parse::<Uri>().unwrap();
        assert_eq!(parameter(&uri("a=1&sid=a.b&sid=c"), "sid"), Some("a.b"));
        assert_eq!(parameter(&uri("asid=1&sid"), "sid"), None);
        let uri = with_query("/socket.io/?EIO=4".parse().unwrap(), "sid=x").unwrap();
        assert_eq!(uri, "/socket.io/?sid=x");
    }
}
