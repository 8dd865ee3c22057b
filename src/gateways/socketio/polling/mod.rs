//! Engine.IO by HTTP long polling: one GET after another fetches what waits for the client, POSTs bring what
//! it sends ([protocol](https://github.com/socketio/engine.io-protocol#http-long-polling-1)).
//!
//! The library behind sees a WebSocket from the beginning: a handshake opens a
//! [session](crate::transport::Session) and gives the library its stream, bodies of POSTs become frames on
//! it, and frames that the library or a sender writes become the bodies of answers. So a client that polls
//! has the bounds of all others, and an upgrade switches the session to another byte stream.

mod compression;
mod payload;
mod probe;

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    body::{Body, Bytes},
    extract::{ConnectInfo, Request},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use hyper::upgrade::OnUpgrade;
use serde_json::{Map, Value, json};
use socketioxide::{service::SocketIoService, socket::Sid};
use tokio::time::timeout;
use tower::{Service, ServiceExt};

use self::{
    compression::Coding,
    payload::{Encoding, Parsed},
};
use super::{
    connects::Connects,
    eio3,
    handshake_error::HandshakeError,
    parameter,
    upgrade::{Kept, refuse_size},
};
use crate::{
    config::Config,
    limits::client_address,
    memory::Account,
    transport::{Held, Polled, Raw, Session, Wire, frame::Message},
};

/// No answer is like the one before: none may be cached.
const NO_STORE: [(HeaderName, HeaderValue); 1] =
    [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];

/// What polling needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the sessions are.
    pub wire: Wire,
    /// The greatest size of a body, in bytes.
    pub max_payload: usize,
    /// Whether a client may upgrade to a websocket.
    pub upgrades: bool,
    /// How long an upgrade may take.
    pub upgrade_timeout: std::time::Duration,
}

/// Whether a request is one of polling.
pub(super) fn is_poll(uri: &Uri) -> bool {
    parameter(uri, "transport") == Some("polling")
        && matches!(parameter(uri, "EIO"), Some("3" | "4"))
}

/// The session that a request names, if its client began by polling.
pub(super) fn session(wire: &Wire, request: &Request, config: &Config) -> Option<Session> {
    let id = parameter(request.uri(), "sid")?.parse::<Sid>().ok()?;
    let address = client_address(request.headers(), request.extensions(), config);
    wire.find_session(id, address)
}

/// Whether a request of polling opens a session.
pub(super) fn opens(request: &Request) -> bool {
    request.method() == Method::GET && parameter(request.uri(), "sid").is_none()
}

/// Answers a request of polling that opens no session.
pub(super) async fn answer(
    settings: &Settings,
    session: Option<Session>,
    request: Request,
) -> Response {
    let Some(session) = session else {
        let names_one = parameter(request.uri(), "sid").is_some();
        let error =
            if names_one { HandshakeError::UnknownSession } else { HandshakeError::BadMethod };
        return error.into_response();
    };
    if !session.is_polled() {
        return HandshakeError::BadRequest.into_response();
    }
    match *request.method() {
        Method::GET => poll(settings, &session, request.uri(), request.headers()).await,
        Method::POST => post(settings, &session, request).await,
        _ => StatusCode::BAD_REQUEST.into_response(),
    }
}

/// Opens a session.
pub(super) async fn open<S>(
    library: SocketIoService<S>,
    settings: &Settings,
    kept: Option<Kept>,
    connects: Arc<Connects>,
) -> Response
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let Some(mut kept) = kept else { return refuse_size() };
    let encoding = Encoding::of_answers(&kept.parts.uri);
    let peer = kept.parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map_or_else(|| ([0; 4], 0).into(), |ConnectInfo(peer)| *peer);
    let Some(uri) = as_websocket(&kept.parts.uri) else {
        return HandshakeError::BadRequest.into_response();
    };
    kept.parts.uri = uri;
    let account = Account::of(&kept.parts.extensions, settings.wire.memory());
    let (stream, session) = settings.wire.session(peer, &account, connects.clone());
    let bound_to = connects.bound_to();
    let request = kept.request(&stream, account, connects);
    let opened = if eio3::speaks(request.uri()) {
        library.oneshot((eio3::Stream::new(stream), request)).await
    } else {
        library.oneshot((stream, request)).await
    };
    if opened.is_err() {
        return HandshakeError::BadRequest.into_response();
    }
    // Later messages go with the first poll.
    let Polled::Messages(messages, answering) = session.poll(1).await else {
        return HandshakeError::BadRequest.into_response();
    };
    let opened =
        messages.first().and_then(|open| greet(&session, open, settings.upgrades, bound_to));
    let Some(open) = opened else {
        tracing::error!("the library does not begin a session with an open packet");
        session.break_off();
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let (is_binary, body) = encoding.encode(vec![open]);
    respond(&session, is_binary, None, answering.pieces(body))
}

/// The request of a session that polls, for the library, which reads the first parameter of each name.
fn as_websocket(uri: &Uri) -> Option<Uri> {
    let query = uri.query().unwrap_or_default();
    format!("{}?transport=websocket&{query}", uri.path()).parse().ok()
}

/// Registers the session under the id in its open packet, for requests from that address only if there is one;
/// returns the packet for a client that polls.
fn greet(
    session: &Session,
    open: &Message,
    upgrades: bool,
    bound_to: Option<IpAddr>,
) -> Option<Message> {
    let text = std::str::from_utf8(&open.payload).ok()?;
    let mut open: Map<String, Value> = serde_json::from_str(text.strip_prefix('0')?).ok()?;
    session.name(open.get("sid")?.as_str()?.parse().ok()?, bound_to);
    open.insert("upgrades".into(), if upgrades { json!(["websocket"]) } else { json!([]) });
    Some(Message::text(format!("0{}", Value::Object(open))))
}

async fn poll(settings: &Settings, session: &Session, uri: &Uri, headers: &HeaderMap) -> Response {
    let (encoding, coding) = (Encoding::of_answers(uri), Coding::accepted(headers));
    let most = settings.max_payload.min(settings.wire.limits().send_buffer);
    let respond_with = |messages| {
        let (is_binary, body) = encoding.encode(messages);
        respond(session, is_binary, None, body)
    };
    match session.poll(most).await {
        Polled::Messages(messages, answering) => {
            let (is_binary, body) = encoding.encode(messages);
            let compressed = match coding {
                Some(coding) => coding.compress(&body).await.map(|body| (coding, body)),
                None => None,
            };
            let (coding, body) = match compressed {
                Some((coding, body)) => (Some(coding), vec![body]),
                None => (None, body),
            };
            respond(session, is_binary, coding, answering.pieces(body))
        }
        Polled::Nothing => respond_with(Vec::new()),
        Polled::Close => respond_with(vec![Message::text("1")]),
        Polled::Over => HandshakeError::UnknownSession.into_response(),
        Polled::Overlaps => StatusCode::BAD_REQUEST.into_response(),
    }
}

/// The answer with this body, which ends early if the client is cut off.
fn respond(
    session: &Session,
    is_binary: bool,
    coding: Option<Coding>,
    body: Vec<Bytes>,
) -> Response {
    let size = body.iter().map(Bytes::len).sum::<usize>();
    let kind = if is_binary { "application/octet-stream" } else { "text/plain; charset=UTF-8" };
    let session = session.clone();
    let pieces = body.into_iter().map(move |piece| {
        if session.is_cut_off() { Err("the client is cut off") } else { Ok(piece) }
    });
    let headers =
        [(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_LENGTH, size.to_string())];
    let mut answer = (headers, NO_STORE, Body::from_stream(stream::iter(pieces))).into_response();
    if let Some(coding) = coding {
        answer.headers_mut().insert(header::CONTENT_ENCODING, coding.header());
    }
    answer
}

async fn post(settings: &Settings, session: &Session, request: Request) -> Response {
    let Some(post) = session.post() else {
        // As with polls, only one at a time is allowed.
        session.break_off();
        return StatusCode::BAD_REQUEST.into_response();
    };
    let encoding = Encoding::of_post(request.uri(), request.headers());
    // Charged until all of it is processed.
    let mut held = session.hold();
    let body = match read(request.into_body(), settings.max_payload, &mut held).await {
        Ok(body) => body,
        Err(status) => {
            // The session does not survive a lost message.
            drop(post);
            session.ended().await;
            return status.into_response();
        }
    };
    let Parsed { frames, ends } = encoding.frames(&body);
    drop(body);
    post.give(frames.into()).await;
    if ends {
        session.ended().await;
    } else if session.is_over() {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=UTF-8")];
    (headers, NO_STORE, "ok").into_response()
}

/// A body of at most `most` bytes.
async fn read(body: Body, most: usize, held: &mut Held) -> Result<Bytes, StatusCode> {
    let mut body = body.into_data_stream();
    let mut whole = Vec::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|_| StatusCode::BAD_REQUEST)?;
        if whole.len() + chunk.len() > most {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        held.add(chunk.len());
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.into())
}

/// Upgrades a session to a websocket. Until that is complete the session goes on by polling, whatever becomes of the
/// websocket.
pub(super) async fn upgrade(settings: Settings, session: Session, upgrade: OnUpgrade) {
    let Some(mut raw) = Raw::of(upgrade).await else { return };
    let Some(_probing) = session.probe() else { return };
    let probed = async {
        tokio::select! {
            probed = probe::probe(&session, &mut raw) => probed,
            () = session.ended() => None,
        }
    };
    if let Ok(Some(upgrading)) = timeout(settings.upgrade_timeout, probed).await {
        upgrading.complete(raw);
    }
}
