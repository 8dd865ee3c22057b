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
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    extract::{ConnectInfo, OriginalUri, Request},
    http::{HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    response::Response,
};
use hyper::upgrade::OnUpgrade;
use socketioxide::{layer::SocketIoLayer, service::SocketIoService};
use tower::{Layer, Service, ServiceExt};

use super::{
    connects::{Connects, Shared},
    eio3, is_socket_io, parameter, polling,
};
use crate::{
    limits::client_address,
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
    connects: Arc<Shared>,
}

impl SocketLayer {
    /// The library's layer, on this wire; `max_payload` is the greatest size of a request's body that
    /// the library takes, in bytes.
    pub fn new(
        library: SocketIoLayer,
        wire: Wire,
        max_payload: usize,
        connects: Arc<Shared>,
    ) -> Self {
        Self { library, wire, max_payload, connects }
    }
}

impl<S: Clone> Layer<S> for SocketLayer {
    type Service = SocketService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SocketService {
            library: self.library.layer(inner),
            wire: self.wire.clone(),
            max_payload: self.max_payload,
            connects: self.connects.clone(),
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
    connects: Arc<Shared>,
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
        let connects = self.connects_of(&mut request);
        Box::pin(async move {
            let is_polling = parameter(request.uri(), "transport") == Some("polling");
            let is_v3_poll = is_polling && eio3::speaks(request.uri());
            let method = is_v3_poll.then(|| request.method().clone());
            if method == Some(Method::POST) {
                request = eio3::modernize(request, max_payload).await;
            }
            let Some(connects) = connects else {
                // Of a session that there is not: the library says so.
                return Ok(library.call(request).await?.map(Body::new));
            };
            if is_polling && request.method() == Method::POST {
                return polling::post(library, request, max_payload, &connects).await;
            }
            let opens = is_polling && parameter(request.uri(), "sid").is_none();
            let kept = upgrade.map(|upgrade| (upgrade, keep(&request)));
            let mut response = library.call(request).await?.map(Body::new);
            if let Some((upgrade, Some(kept))) = kept
                && response.status() == StatusCode::SWITCHING_PROTOCOLS
            {
                tokio::spawn(open(library, wire, upgrade, kept, connects));
            } else if opens {
                response = polling::register(response, &connects).await;
            }
            Ok(if method == Some(Method::GET) { eio3::mend(response).await } else { response })
        })
    }
}

impl<S: Clone> SocketService<S> {
    /// What is known of the request's session; a new one's travels with the request, which the library
    /// keeps as long as the session.
    fn connects_of(&self, request: &mut Request) -> Option<Arc<Connects>> {
        if let Some(session) = parameter(request.uri(), "sid") {
            return self.connects.polling.lock().get(session)?.upgrade();
        }
        let config = &self.connects.config;
        let address = client_address(request.headers(), request.extensions(), config);
        let v3 = eio3::speaks(request.uri());
        let connects = Connects::new(self.connects.clone(), address, v3);
        request.extensions_mut().insert(connects.clone());
        Some(connects)
    }
}

/// Gives the library the stream.
async fn open<S>(
    library: SocketIoService<S>,
    wire: Wire,
    upgrade: OnUpgrade,
    mut kept: Parts,
    connects: Arc<Connects>,
) where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let Some(&ConnectInfo(peer)) = kept.extensions.get::<ConnectInfo<SocketAddr>>() else { return };
    let Some(raw) = Raw::of(upgrade).await else { return };
    let session = parameter(&kept.uri, "sid").map(str::to_owned);
    // Of an upgrade it is the session's, which is known by its id; else the handshake's.
    let known = session.as_deref().and_then(|id| wire.memory().account_of(id.parse().ok()?));
    let account = known.unwrap_or_else(|| Account::of(&kept.extensions, wire.memory()));
    let stream = wire.stream(raw, peer, &account, connects);
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
    polling::close(library, &session, v3).await;
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
