//! The accept loop: HTTP/1 over TCP, until a connection becomes a WebSocket.

use std::{
    convert::Infallible,
    future::pending,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, extract::ConnectInfo, response::Response};
use bytes::Bytes;
use hyper::{
    Request,
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    server::conn::http1::Builder,
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{Service, ServiceExt};

use crate::{
    config::Config,
    limits::{Slot, Slots, UnderWay},
};

/// How long a connection may take to make its first request. Trusted proxies, which open some in advance, are
/// exempt.
const FIRST_HEAD: Duration = Duration::from_secs(15);

/// The answer to a connection when all slots are taken.
const NO_ROOM: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 5\r\n\
    content-length: 0\r\n\r\n";

/// Timeouts for the peer.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a request's head, and between requests.
    pub head: Duration,
    /// For taking an answer, without any progress.
    pub write: Duration,
}

impl Timeouts {
    /// Longer than the minute for which proxies and load balancers keep an idle connection. The side that
    /// sends the requests should close it; otherwise a request could cross with the close.
    const HEAD: Duration = Duration::from_secs(75);

    /// The timeouts of the configuration.
    pub fn of(config: &Config) -> Self {
        Self { head: Self::HEAD, write: config.send_timeout }
    }
}

/// A service that answers requests; each connection has a clone.
pub trait Serves:
    Service<Request<Body>, Response = Response, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static
{
}

impl<S> Serves for S where
    S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// How long nothing is accepted after the system has failed to open a connection.
const RESPITE: Duration = Duration::from_millis(500);

/// Accepts connections and serves their requests until `stop`; then closes idle connections, finishes the
/// requests that have begun, and returns. WebSocket connections are not waited for.
pub async fn serve(
    listener: TcpListener,
    service: impl Serves,
    timeouts: Timeouts,
    slots: Slots,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((tcp, peer)) => {
                let Some(slot) = slots.take(peer.ip()).await else {
                    // Best effort: the connection ends in any case.
                    let _sent = tcp.try_write(NO_ROOM);
                    continue;
                };
                prepare(&tcp, timeouts.write);
                let accepted = Accepted { tcp, slot };
                let head = timeouts.head;
                connections.spawn(connection(accepted, peer, service.clone(), head, stop.clone()));
            }
            // The peer has given up in the meantime.
            Err(error) if is_the_peers(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted");
                tokio::time::sleep(RESPITE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn prepare(tcp: &TcpStream, write_timeout: Duration) {
    // A small packet must not wait for the acknowledgement of the one before.
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    set_write_timeout(tcp, Some(write_timeout));
}

/// Makes the kernel end a connection whose peer takes nothing for this long; `None`: never.
fn set_write_timeout(tcp: &TcpStream, timeout: Option<Duration>) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = socket2::SockRef::from(tcp).set_tcp_user_timeout(timeout) {
        tracing::debug!(%error, "TCP_USER_TIMEOUT could not be set");
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _only_there = (tcp, timeout);
}

/// A connection, and its slot for as long as it is open.
struct Accepted {
    tcp: TcpStream,
    slot: Slot,
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

/// A body of a request or of its answer: the connection is in use until both have ended.
struct Followed<B> {
    body: B,
    request: Arc<UnderWay>,
    /// This is the request's body: at its end the request is complete.
    comes: bool,
}

impl<B: HttpBody + Unpin> HttpBody for Followed<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if self.comes && (matches!(frame, Poll::Ready(None)) || self.body.is_end_stream()) {
            self.request.is_whole();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

async fn connection(
    accepted: Accepted,
    peer: SocketAddr,
    service: impl Serves,
    head_timeout: Duration,
    stop: CancellationToken,
) {
    let (used, requests) = (accepted.slot.used(), accepted.slot.requests());
    let service = service_fn(move |request: Request<Incoming>| {
        let under_way = Arc::new(requests());
        let mut request = request.map(|body| {
            if body.is_end_stream() {
                under_way.is_whole();
                return Body::empty();
            }
            Body::new(Followed { body, request: under_way.clone(), comes: true })
        });
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = service.clone().oneshot(request);
        async move {
            let answer = answer.await?;
            let followed = |body| Followed { body, request: under_way, comes: false };
            Ok::<_, Infallible>(answer.map(followed))
        }
    });
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head_timeout);
    let served = builder.serve_connection(TokioIo::new(accepted), service).with_upgrades();
    let mut served = std::pin::pin!(served);
    let silent = async {
        sleep(FIRST_HEAD.min(head_timeout)).await;
        if used.has_spoken() {
            pending::<()>().await;
        }
    };
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = used.closed() => return tracing::debug!(%peer, "an idle connection is closed for others"),
        () = silent => return tracing::debug!(%peer, "a connection without a request is closed"),
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        // Routine: a peer breaks off, or does not speak HTTP.
        tracing::debug!(%peer, %error, "an HTTP connection ended");
    }
}

/// A connection that has left HTTP by an upgrade.
#[derive(Debug)]
pub struct Raw {
    /// The connection.
    pub tcp: TcpStream,
    /// What was read from it after the request.
    pub read: Bytes,
    /// Its slot.
    pub slot: Slot,
}

impl Raw {
    /// The connection of a request that is being upgraded; `None` if the upgrade fails.
    pub async fn of(upgrade: OnUpgrade) -> Option<Self> {
        let upgraded = match upgrade.await {
            Ok(upgraded) => upgraded,
            Err(error) => {
                tracing::debug!(%error, "an upgrade failed");
                return None;
            }
        };
        let Ok(parts) = upgraded.downcast::<TokioIo<Accepted>>() else {
            tracing::error!("a connection was not accepted by this server's accept loop");
            return None;
        };
        let Accepted { tcp, mut slot } = parts.io.into_inner();
        slot.keep();
        set_write_timeout(&tcp, None);
        // Copied, because it is small, mostly empty, and part of a large buffer.
        Some(Self { tcp, read: Bytes::copy_from_slice(&parts.read_buf), slot })
    }
}

#[cfg(test)]
mod tests;
