//! What clients of Engine.IO 3 (socket.io-client 1.x and 2.x, and what speaks like them) need beyond
//! the library. It stands directly around the library's service and touches only requests that say
//! `EIO=3`; everything else passes as it is.
//!
//! Two things:
//!
//! 1. *A CONNECT packet with a query.* `io("/chat", {query: {token}})` of a 2.x client sends
//!    `40/chat?token=…,` ([manager.js of 2.5.0][manager]), and the 2.x server takes the path of that
//!    as the namespace and lays the query over the one of the URL ([client.js][client],
//!    [socket.js][socket]). The library takes all of it for the name of a namespace, and knows none
//!    of that name. Later protocols have a place for what a client says of itself to one namespace:
//!    the data of the CONNECT packet, `auth`, which wins over the URL here, too. So the packet is
//!    said in these words, `40/chat,{"token":"…"}`, before the library reads it ([`packet`]).
//! 2. *Binary data by polling.* The library answers a poll with `b` and the data in base64, as
//!    Engine.IO 4 has it; Engine.IO 3 has the type of the packet in between, `b4…`, or, for a client
//!    that can take it, no base64 at all ([`polling`]).
//!
//! Where packets are found: by polling in the bodies of requests and answers ([`polling`]), by
//! WebSocket in the frames from the client ([`frames`]). The library offers to take a byte stream in
//! place of an HTTP upgrade, which makes this simple: when it has agreed to the upgrade, it gets a
//! stream that begins after the HTTP head ([`websocket`]).
//!
//! [manager]: https://github.com/socketio/socket.io-client/blob/2.5.0/lib/manager.js
//! [client]: https://github.com/socketio/socket.io/blob/2.5.0/lib/client.js
//! [socket]: https://github.com/socketio/socket.io/blob/2.5.0/lib/socket.js

mod frames;
mod packet;
mod payload;
mod polling;
#[cfg(test)]
mod tests;
mod websocket;

use std::{
    convert::Infallible,
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    extract::Request,
    http::{Method, Uri},
    response::Response,
};
use socketioxide::{layer::SocketIoLayer, service::SocketIoService};
use tower::{Layer, Service};

use super::PATH;

/// Socket.IO, for clients of Engine.IO 4 and 3, in front of the other routes.
#[derive(Clone)]
pub struct SocketLayer {
    library: SocketIoLayer,
    max_payload: usize,
}

impl SocketLayer {
    /// The library's layer, and the greatest size of a request's body that it takes, in bytes.
    pub fn new(library: SocketIoLayer, max_payload: usize) -> Self {
        Self { library, max_payload }
    }
}

impl<S: Clone> Layer<S> for SocketLayer {
    type Service = SocketService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SocketService { library: self.library.layer(inner), max_payload: self.max_payload }
    }
}

/// The service of [`SocketLayer`].
#[derive(Clone)]
pub struct SocketService<S: Clone> {
    /// Its clones share their sessions; two that the layer makes do not.
    library: SocketIoService<S>,
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

    fn call(&mut self, request: Request) -> Self::Future {
        // The one that is ready is used up, a clone of it takes its place.
        let clone = self.library.clone();
        let mut library = mem::replace(&mut self.library, clone);
        let max_payload = self.max_payload;
        let transport = transport(request.uri());
        Box::pin(async move {
            match transport {
                Some(Transport::Polling) if request.method() == Method::POST => {
                    let request = polling::modernize(request, max_payload).await;
                    Ok(library.call(request).await?.map(Body::new))
                }
                Some(Transport::Polling) if request.method() == Method::GET => {
                    let response = library.call(request).await?.map(Body::new);
                    Ok(polling::mend(response).await)
                }
                Some(Transport::Websocket) => websocket::upgrade(library, request).await,
                _ => Ok(library.call(request).await?.map(Body::new)),
            }
        })
    }
}

/// By what an Engine.IO 3 client talks.
#[derive(Clone, Copy)]
enum Transport {
    Polling,
    Websocket,
}

/// The transport of a request of Engine.IO 3; `None` for every other request. The path and the
/// query are read as the library reads them.
fn transport(uri: &Uri) -> Option<Transport> {
    let below = uri.path().strip_prefix(PATH)?;
    if !below.is_empty() && !below.starts_with('/') || parameter(uri, "EIO")? != "3" {
        return None;
    }
    match parameter(uri, "transport")? {
        "polling" => Some(Transport::Polling),
        "websocket" => Some(Transport::Websocket),
        _ => None,
    }
}

/// The first parameter of that name in the query, as it stands there: Engine.IO's own need no
/// percent-encoding.
fn parameter<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    uri.query()?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}
