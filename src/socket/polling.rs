//! The requests of polling, on their way to the library: the packets in them that open and close
//! namespaces are looked at first, as on a websocket.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::Request,
    http::{Method, StatusCode, Uri, request::Parts},
    response::{IntoResponse, Response},
};
use socketioxide::service::SocketIoService;
use tokio::time::timeout;
use tower::{Service, ServiceExt};

use super::{
    PATH,
    connects::Connects,
    eio3::{self, Encoding, Read},
    parameter,
};
use crate::wire::{Came, Packets, next_offer};

/// What stands between the packets of a body in Engine.IO 4.
const SEPARATOR: char = '\x1e';

/// The greatest open packet, in bytes.
const MAX_OPEN_PACKET: usize = 4096;

/// Gives the library the packets of a client, and answers when what they ask for is taken.
pub async fn post<S>(
    library: SocketIoService<S>,
    request: Request,
    max_payload: usize,
    connects: &Arc<Connects>,
) -> Result<Response, Infallible>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let (parts, body) = request.into_parts();
    let body = match eio3::read(body.into_data_stream(), max_payload).await {
        Read::Whole(body) => body,
        // The library refuses it.
        Read::Else(body) => return answer(library, Request::from_parts(parts, body)).await,
    };
    let v3 = eio3::speaks(&parts.uri);
    let Some(offered) = look_at(&parts, &body, v3, connects) else {
        if let Some(session) = parameter(&parts.uri, "sid") {
            close(library, session, v3).await;
        }
        return Ok(StatusCode::TOO_MANY_REQUESTS.into_response());
    };
    let uri = parts.uri.clone();
    let request = Request::from_parts(parts, Body::from(body));
    let answered = answer(library.clone(), request).await?;
    let mut offers = 0;
    while let Some(wait) = next_offer(offers).filter(|_| !offered.is_empty()) {
        if timeout(wait, connects.all_taken()).await.is_ok() {
            break;
        }
        let mut request = Request::new(Body::from(payload(&offered, v3)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        let _answer = answer(library.clone(), request).await?;
        offers += 1;
    }
    Ok(answered)
}

async fn answer<S>(library: SocketIoService<S>, request: Request) -> Result<Response, Infallible>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    Ok(library.oneshot(request).await?.map(Body::new))
}

/// The packets of a body that are offered to the library; `None` where there are too many.
fn look_at(parts: &Parts, body: &Bytes, v3: bool, connects: &Connects) -> Option<Vec<String>> {
    let mut offered = Vec::new();
    let mut is_over = false;
    let mut look = |packet: &str| {
        if is_over || !(packet.starts_with("40") || packet.starts_with("41")) {
            return;
        }
        match connects.came(packet.as_bytes()) {
            Came::Pass => {}
            Came::Offer => offered.push(packet.to_owned()),
            Came::TooMany => is_over = true,
        }
    };
    if v3 {
        Encoding::of(&parts.headers).visit(body, look);
    } else if let Ok(text) = str::from_utf8(body) {
        text.split(SEPARATOR).for_each(&mut look);
    }
    (!is_over).then_some(offered)
}

/// A body of these packets.
fn payload(packets: &[String], v3: bool) -> String {
    if !v3 {
        return packets.join("\x1e");
    }
    let sized = |packet: &String| format!("{}:{packet}", packet.encode_utf16().count());
    packets.iter().map(sized).collect()
}

/// Makes a new session known by the id in its open packet.
pub async fn register(response: Response, connects: &Arc<Connects>) -> Response {
    if response.status() != StatusCode::OK {
        return response;
    }
    let (parts, body) = response.into_parts();
    // It is the library's, and short.
    let body = to_bytes(body, MAX_OPEN_PACKET).await.unwrap_or_default();
    let session = str::from_utf8(&body)
        .ok()
        .and_then(|text| text.split_once("\"sid\":\"")?.1.split_once('"'));
    if let Some((session, _)) = session {
        connects.register(session);
    } else {
        tracing::error!("the answer to a handshake has no session id");
    }
    Response::from_parts(parts, Body::from(body))
}

/// Ends a session by the client's own word for it.
pub async fn close<S>(library: SocketIoService<S>, session: &str, v3: bool)
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let (version, body) = if v3 { ("3", "1:1") } else { ("4", "1") };
    let uri = format!("{PATH}/?EIO={version}&transport=polling&sid={session}");
    let Ok(uri) = uri.parse::<Uri>() else { return };
    let mut close = Request::new(Body::from(body));
    *close.method_mut() = Method::POST;
    *close.uri_mut() = uri;
    let Ok(_answer) = library.oneshot(close).await;
}
