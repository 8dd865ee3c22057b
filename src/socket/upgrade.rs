//! Around the library: from an HTTP request to a WebSocket on the wire, and what clients of
//! [Engine.IO 3](super::eio3) need.
//!
//! The library answers the request; but where it would go on with the HTTP server's connection, it
//! is given a [stream](crate::wire::Stream) of our own instead, which begins behind the HTTP head,
//! and only that of the request which is needed later: a request keeps the whole buffer alive that
//! it was read into.

use std::{
    convert::Infallible,
    mem,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    extract::{ConnectInfo, OriginalUri, Request},
    http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header, request::Parts},
    response::Response,
};
use hyper::upgrade::OnUpgrade;
use socketioxide::{layer::SocketIoLayer, service::SocketIoService};
use tower::{Layer, Service, ServiceExt};

use super::{PATH, eio3, is_socket_io, parameter};
use crate::{
    memory::Account,
    wire::{Raw, Wire},
};

/// The headers that are kept for the handshake of a namespace.
const KEPT: [HeaderName; 6] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::FORWARDED,
    header::ORIGIN,
    HeaderName::from_static("x-client-name"),
    HeaderName::from_static("x-forwarded-for"),
];

/// Socket.IO in front of the other routes, and what speaks WebSocket on the wire.
#[derive(Clone)]
pub struct SocketLayer {
    library: SocketIoLayer,
    wire: Wire,
    max_payload: usize,
}

impl SocketLayer {
    /// The library's layer, on this wire; `max_payload` is the greatest size of a request's body that
    /// the library takes, in bytes.
    pub fn new(library: SocketIoLayer, wire: Wire, max_payload: usize) -> Self {
        Self { library, wire, max_payload }
    }
}

impl<S: Clone> Layer<S> for SocketLayer {
    type Service = SocketService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SocketService {
            library: self.library.layer(inner),
            wire: self.wire.clone(),
            max_payload: self.max_payload,
        }
    }
}

/// The service of [`SocketLayer`].
#[derive(Clone)]
pub struct SocketService<S: Clone> {
    /// Its clones share their sessions; two that the layer makes do not.
    library: SocketIoService<S>,
    wire: Wire,
    max_payload: usize,
}

impl<S> Service<Request> for SocketService<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request>::poll_ready(&mut self.library, context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        // The one that is ready is used up, a clone of it takes its place.
        let clone = self.library.clone();
        let mut library = mem::replace(&mut self.library, clone);
        if !is_socket_io(request.uri()) {
            return Box::pin(async move { Ok(library.call(request).await?.map(Body::new)) });
        }
        // Without it, the library has an answer but no connection to go on with.
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let (wire, max_payload) = (self.wire.clone(), self.max_payload);
        Box::pin(async move {
            let is_v3_poll = eio3::speaks(request.uri())
                && parameter(request.uri(), "transport") == Some("polling");
            let method = is_v3_poll.then(|| request.method().clone());
            if method == Some(Method::POST) {
                request = eio3::modernize(request, max_payload).await;
            }
            let kept = upgrade.map(|upgrade| (upgrade, keep(&request)));
            let response = library.call(request).await?.map(Body::new);
            if let Some((upgrade, Some(kept))) = kept
                && response.status() == StatusCode::SWITCHING_PROTOCOLS
            {
                tokio::spawn(open(library, wire, upgrade, kept));
            }
            Ok(if method == Some(Method::GET) { eio3::mend(response).await } else { response })
        })
    }
}

/// Gives the library the stream.
async fn open<S>(library: SocketIoService<S>, wire: Wire, upgrade: OnUpgrade, mut kept: Parts)
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let Some(&ConnectInfo(peer)) = kept.extensions.get::<ConnectInfo<SocketAddr>>() else { return };
    let Some(Raw { tcp, read }) = Raw::of(upgrade).await else { return };
    let session = parameter(&kept.uri, "sid").map(str::to_owned);
    // Of an upgrade it is the session's, which is known by its id; else the handshake's.
    let known = session.as_deref().and_then(|id| wire.memory().account_of(id.parse().ok()?));
    let account = known.unwrap_or_else(|| Account::of(&kept.extensions, wire.memory()));
    let stream = wire.stream(tcp, peer, read, &account);
    kept.extensions.insert(stream.handle());
    kept.extensions.insert(account);
    let v3 = eio3::speaks(&kept.uri);
    let closed = session.is_some().then(|| stream.closed());
    let request = Request::from_parts(kept, ());
    // What is refused now was refused before.
    let opened = if v3 {
        library.clone().oneshot((eio3::Stream::new(stream), request)).await
    } else {
        library.clone().oneshot((stream, request)).await
    };
    let (Ok(()), Some(session), Some(closed)) = (opened, session, closed) else { return };
    // The library ends a session that fails to upgrade, but not if it was given the stream; such a
    // session would answer every poll at once, with nothing, and for ever. The client's own word
    // for the end by polling does it; where the upgrade succeeded, that is refused and changes
    // nothing.
    closed.await;
    let (version, body) = if v3 { ("3", "1:1") } else { ("4", "1") };
    let uri = format!("{PATH}/?EIO={version}&transport=polling&sid={session}");
    let Ok(uri) = uri.parse::<Uri>() else { return };
    let mut close = Request::new(Body::from(body));
    *close.method_mut() = Method::POST;
    *close.uri_mut() = uri;
    let Ok(_answer) = library.oneshot(close).await;
}

/// What is needed of a request after its connection has become a WebSocket, in memory of its own.
fn keep(request: &Request) -> Option<Parts> {
    let (mut kept, ()) = Request::new(()).into_parts();
    kept.uri = request.uri().to_string().parse().ok()?;
    for name in KEPT {
        for value in request.headers().get_all(&name) {
            let mut copy = HeaderValue::from_bytes(value.as_bytes()).ok()?;
            copy.set_sensitive(value.is_sensitive());
            kept.headers.append(name.clone(), copy);
        }
    }
    kept.extensions = request.extensions().clone();
    kept.extensions.remove::<OriginalUri>();
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_a_handshake_needs() {
        let mut request = Request::builder()
            .uri("/socket.io/?EIO=4&transport=websocket&token=t")
            .header("authorization", "Bearer t")
            .header("sec-websocket-key", "x")
            .body(Body::empty())
            .unwrap();
        let uri = request.uri().clone();
        request.extensions_mut().insert(OriginalUri(uri));
        request.extensions_mut().insert(7_u8);
        let kept = keep(&request).unwrap();
        assert_eq!(kept.uri, *request.uri());
        assert_eq!(kept.headers.len(), 1);
        assert_eq!(kept.headers["authorization"], "Bearer t");
        assert!(kept.extensions.get::<OriginalUri>().is_none());
        assert_eq!(kept.extensions.get(), Some(&7_u8));
    }
}
