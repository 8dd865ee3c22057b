//! The accept loop: HTTP/1 over TCP, until a connection becomes a WebSocket.

use std::{convert::Infallible, io, net::SocketAddr, time::Duration};

use axum::{body::Body, extract::ConnectInfo, response::Response};
use bytes::Bytes;
use hyper::{
    Request, body::Incoming, server::conn::http1::Builder, service::service_fn, upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{Service, ServiceExt};

use crate::config::Config;

/// How long the other end may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a request's head to come, and between requests.
    pub head: Duration,
    /// To take an answer, as long as there is no progress.
    pub write: Duration,
}

impl Patience {
    /// Longer than the minute for which proxies and balancers keep an idle connection: whoever sends
    /// the requests should be the one that ends it, or a request could meet the end on its way.
    const HEAD: Duration = Duration::from_secs(75);

    /// That of the configuration.
    pub fn of(config: &Config) -> Self {
        Self { head: Self::HEAD, write: config.send_timeout }
    }
}

/// What answers requests: each connection has a copy.
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

/// How long nothing is accepted after the system could give no more connections.
const RESPITE: Duration = Duration::from_millis(500);

/// Accepts connections and serves their requests until `stop`; then closes what is idle, finishes
/// what was begun, and returns. Connections that have become a WebSocket are not waited for.
pub async fn serve(
    listener: TcpListener,
    service: impl Serves,
    patience: Patience,
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
                prepare(&tcp, patience.write);
                let served = connection(tcp, peer, service.clone(), patience.head, stop.clone());
                connections.spawn(served);
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

/// The kernel ends a connection whose peer takes nothing for so long; `None`: it never does.
fn set_write_timeout(tcp: &TcpStream, timeout: Option<Duration>) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = socket2::SockRef::from(tcp).set_tcp_user_timeout(timeout) {
        tracing::debug!(%error, "TCP_USER_TIMEOUT could not be set");
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _only_there = (tcp, timeout);
}

async fn connection(
    tcp: TcpStream,
    peer: SocketAddr,
    service: impl Serves,
    head_timeout: Duration,
    stop: CancellationToken,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        service.clone().oneshot(request)
    });
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head_timeout);
    let served = builder.serve_connection(TokioIo::new(tcp), service).with_upgrades();
    let mut served = std::pin::pin!(served);
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        // Peers that break off, or do not speak HTTP, are everyday life.
        tracing::debug!(%peer, %error, "an HTTP connection ended");
    }
}

/// A connection that speaks HTTP no more.
#[derive(Debug)]
pub struct Raw {
    /// The connection.
    pub tcp: TcpStream,
    /// What was read from it after the request.
    pub read: Bytes,
}

impl Raw {
    /// The connection of a request that is being upgraded; `None` if it breaks before.
    pub async fn of(upgrade: OnUpgrade) -> Option<Self> {
        let upgraded = match upgrade.await {
            Ok(upgraded) => upgraded,
            Err(error) => {
                tracing::debug!(%error, "an upgrade failed");
                return None;
            }
        };
        let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
            tracing::error!("a connection was not accepted by this server's accept loop");
            return None;
        };
        let tcp = parts.io.into_inner();
        set_write_timeout(&tcp, None);
        // A copy: it is small, mostly empty, and part of a large buffer.
        Some(Self { tcp, read: Bytes::copy_from_slice(&parts.read_buf) })
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_head_that_never_ends_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let patience = Patience { head: Duration::from_millis(300), write: DEADLINE };
        let router = Router::new().fallback(async || "served");
        tokio::spawn(serve(listener, router, patience, CancellationToken::new()));
        let begun = "GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ";
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        for (first, drips) in [("", false), (begun, false), (begun, true)] {
            let mut peer = TcpStream::connect(address).await.unwrap();
            peer.write_all(first.as_bytes()).await.unwrap();
            let ended = async {
                let mut answer = Vec::new();
                loop {
                    tokio::select! {
                        read = peer.read_buf(&mut answer) => break read,
                        _ = pace.tick() => {}
                    }
                    // A byte now and then is no sign of life.
                    if drips && peer.write_all(b"x").await.is_err() {
                        break Ok(0);
                    }
                }
            };
            let ended = tokio::time::timeout(DEADLINE, ended).await;
            assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{first:?}: {ended:?}");
        }
        let mut peer = TcpStream::connect(address).await.unwrap();
        peer.write_all(format!("{begun}\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        peer.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("served"), "{answer}");
    }
}
