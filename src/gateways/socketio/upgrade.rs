//! In front of the library: from an HTTP request to a WebSocket on the wire, or to [polling].
//!
//! The library answers the request for a WebSocket. Instead of the HTTP server's connection it is then given
//! a [stream](crate::transport::Stream) of our own, which begins behind the HTTP head, and only the parts of
//! the request that are needed later: a request keeps the whole buffer alive that it was read into.

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
    extract::{ConnectInfo, Request},
    http::{HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use hyper::upgrade::OnUpgrade;
use socketioxide::{layer::SocketIoLayer, service::SocketIoService};
use tower::{Layer, Service, ServiceExt};

use super::{
    connects::{Connects, Shared},
    eio3, is_socket_io, polling,
};
use crate::{
    config::{Patterns, Transports},
    gateways::http_error::HttpError,
    limits::{ConnectionPermit, client_address},
    memory::Account,
    transport::{Raw, Stream, Wire},
};

/// The headers that are kept for the handshake of a namespace, beside those that `HANDLER_HEADERS` names.
const KEPT: [HeaderName; 5] = [
    header::AUTHORIZATION,
    header::ORIGIN,
    HeaderName::from_static("x-client-name"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-proto"),
];

/// How much may be kept of a request, in bytes: as much as Node's server takes of a request's head.
const MAX_KEPT: usize = 16 * 1024;

/// The layer that puts Socket.IO in front of the other routes.
#[derive(Clone)]
pub struct SocketLayer {
    library: SocketIoLayer,
    transports: Transports,
    polling: polling::Settings,
    connects: Arc<Shared>,
}

impl SocketLayer {
    /// The library's layer, with these transports; `connects` is what all connections share.
    pub fn new(
        library: SocketIoLayer,
        transports: Transports,
        polling: polling::Settings,
        connects: Arc<Shared>,
    ) -> Self {
        Self { library, transports, polling, connects }
    }
}

impl<S: Clone> Layer<S> for SocketLayer {
    type Service = SocketService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SocketService {
            library: self.library.layer(inner),
            transports: self.transports,
            polling: self.polling.clone(),
            connects: self.connects.clone(),
        }
    }
}

/// The service of [`SocketLayer`].
#[derive(Clone)]
pub struct SocketService<S: Clone> {
    /// Its clones share their sessions; two that the layer makes do not.
    library: SocketIoService<S>,
    transports: Transports,
    polling: polling::Settings,
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
        // The service that is ready is used; a clone takes its place.
        let clone = self.library.clone();
        let mut library = mem::replace(&mut self.library, clone);
        if !is_socket_io(&self.connects.config.socket_path, request.uri()) {
            return Box::pin(async move { Ok(library.call(request).await?.map(Body::new)) });
        }
        let (polling, config) = (self.polling.clone(), self.connects.config.clone());
        let session = polling::session(&polling.wire, &request, &config);
        if self.transports.polling && polling::is_poll(request.uri()) {
            let opens = polling::opens(&request).then(|| self.connects_of(&request));
            return Box::pin(async move {
                Ok(match opens {
                    Some(connects) => {
                        let kept = keep(&request, &config.handler_headers);
                        polling::open(library, &polling, kept, connects).await
                    }
                    None => polling::answer(&polling, session, request).await,
                })
            });
        }
        // Without it, the library answers, but has no connection to go on with.
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let connects = self.connects_of(&request);
        Box::pin(async move {
            let kept = upgrade.as_ref().map(|_| keep(&request, &config.handler_headers));
            if matches!(kept, Some(None)) {
                return Ok(refuse_size());
            }
            let response = library.call(request).await?.map(Body::new);
            if response.status() == StatusCode::SWITCHING_PROTOCOLS
                && let (Some(upgrade), Some(kept)) = (upgrade, kept.flatten())
            {
                if let Some(session) = session {
                    tokio::spawn(polling::upgrade(polling, session, upgrade));
                } else {
                    tokio::spawn(open(library, polling.wire, upgrade, kept, connects));
                }
            }
            Ok(response)
        })
    }
}

impl<S: Clone> SocketService<S> {
    /// The limits on packets that open and close namespaces, for a new session.
    fn connects_of(&self, request: &Request) -> Arc<Connects> {
        let config = &self.connects.config;
        let address = client_address(request.headers(), request.extensions(), config);
        Connects::new(self.connects.clone(), address, eio3::speaks(request.uri()))
    }
}

/// Gives the library the stream of the new session.
async fn open<S>(
    library: SocketIoService<S>,
    wire: Wire,
    upgrade: OnUpgrade,
    mut kept: Kept,
    connects: Arc<Connects>,
) where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let Some(&ConnectInfo(peer)) = kept.parts.extensions.get::<ConnectInfo<SocketAddr>>() else {
        return;
    };
    let Some(raw) = Raw::of(upgrade).await else { return };
    let account = Account::of(&kept.parts.extensions, wire.memory());
    let stream = wire.stream(raw, peer, &account, connects.clone());
    let request = kept.request(&stream, account, connects);
    // Not refused: the library has accepted this request before.
    let _opened = if eio3::speaks(request.uri()) {
        library.oneshot((eio3::Stream::new(stream), request)).await
    } else {
        library.oneshot((stream, request)).await
    };
}

/// The parts of a request that are needed as long as its session lives, in memory of their own.
pub(super) struct Kept {
    /// The request.
    pub parts: Parts,
    size: usize,
}

impl Kept {
    /// The request for the library, with all that belongs to the session.
    pub(super) fn request(
        &mut self,
        stream: &Stream,
        account: Arc<Account>,
        connects: Arc<Connects>,
    ) -> Request<()> {
        let handle = stream.handle();
        handle.keep(self.size);
        let mut request = Request::from_parts(self.parts.clone(), ());
        let extensions = request.extensions_mut();
        extensions.insert(handle);
        extensions.insert(account);
        extensions.insert(connects);
        request
    }
}

/// Copies the parts to keep; `None` if they are larger than `MAX_KEPT`.
pub(super) fn keep(request: &Request, wanted: &Patterns) -> Option<Kept> {
    let (mut kept, ()) = Request::new(()).into_parts();
    let uri = request.uri().to_string();
    let mut size = uri.len();
    kept.uri = uri.parse().ok()?;
    let is_wanted = |name: &&HeaderName| !KEPT.contains(name) && wanted.matches(name.as_str());
    let others = request.headers().keys().filter(is_wanted).cloned();
    for name in KEPT.into_iter().chain(others) {
        for value in request.headers().get_all(&name) {
            size += value.len();
            let mut copy = HeaderValue::from_bytes(value.as_bytes()).ok()?;
            copy.set_sensitive(value.is_sensitive());
            kept.headers.append(name.clone(), copy);
        }
    }
    let (from, to) = (request.extensions(), &mut kept.extensions);
    if let Some(peer) = from.get::<ConnectInfo<SocketAddr>>() {
        to.insert(*peer);
    }
    if let Some(permit) = from.get::<Arc<ConnectionPermit>>() {
        to.insert(permit.clone());
    }
    if let Some(account) = from.get::<Arc<Account>>() {
        to.insert(account.clone());
    }
    (size <= MAX_KEPT).then_some(Kept { parts: kept, size })
}

/// The answer to a request whose parts to keep are too large.
pub(super) fn refuse_size() -> Response {
    let message = format!(
        "the URL and the headers that identify the client are larger than {MAX_KEPT} bytes together"
    );
    HttpError::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, message).into_response()
}

#[cfg(test)]
mod tests {
    use axum::extract::OriginalUri;

    use super::*;

    #[test]
    fn what_is_kept_is_what_a_handshake_needs() {
        let mut request = Request::builder()
            .uri("/socket.io/?EIO=4&transport=websocket&token=t")
            .header("authorization", "Bearer t")
            .header("sec-websocket-key", "x")
            .header("cookie", "c=d")
            .body(Body::empty())
            .unwrap();
        let uri = request.uri().clone();
        request.extensions_mut().insert(OriginalUri(uri));
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 1], 1))));
        let nothing = Patterns::default();
        let Kept { parts: kept, size } = keep(&request, &nothing).unwrap();
        assert_eq!(size, 45 + 8);
        assert_eq!(kept.uri, *request.uri());
        assert_eq!(kept.headers.len(), 1);
        assert_eq!(kept.headers["authorization"], "Bearer t");
        assert!(kept.extensions.get::<OriginalUri>().is_none());
        assert_eq!(kept.extensions.len(), 1);
        let wanted = ["cookie", "auth*"].into_iter().collect();
        let Kept { parts: kept, size } = keep(&request, &wanted).unwrap();
        assert_eq!((size, kept.headers.len()), (45 + 8 + 3, 2));
        assert_eq!(kept.headers["cookie"], "c=d");
    }

    #[test]
    fn no_more_is_kept_than_a_handshake_may_say() {
        let request = |size: usize| {
            let token = "x".repeat(size - "/socket.io/".len());
            let request = Request::builder().uri("/socket.io/").header("authorization", token);
            let request = request.header("cookie", "x".repeat(MAX_KEPT));
            keep(&request.body(Body::empty()).unwrap(), &Patterns::default())
        };
        assert!(request(MAX_KEPT).is_some());
        assert!(request(MAX_KEPT + 1).is_none());
    }
}
