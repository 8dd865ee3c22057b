//! The upgrade to a WebSocket, and the stream that the library then reads.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    body::Body,
    extract::Request,
    http::{Method, StatusCode, Uri, request::Parts},
    response::Response,
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use socketioxide::service::SocketIoService;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};
use tower::{Service, ServiceExt};

use super::{frames::Frames, parameter};
use crate::socket::PATH;

/// Lets the library answer the request, and, where it agrees to the upgrade, gives it the stream.
pub async fn upgrade<S>(
    mut library: SocketIoService<S>,
    mut request: Request,
) -> Result<Response, Infallible>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    // Without it, the library has an answer but no connection to go on with.
    let connection = request.extensions_mut().remove::<OnUpgrade>();
    let (parts, body) = request.into_parts();
    let response = library.call(Request::from_parts(parts.clone(), body)).await?.map(Body::new);
    if let Some(connection) = connection
        && response.status() == StatusCode::SWITCHING_PROTOCOLS
    {
        tokio::spawn(serve(library, connection, parts));
    }
    Ok(response)
}

async fn serve<S>(library: SocketIoService<S>, connection: OnUpgrade, parts: Parts)
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let Ok(connection) = connection.await else { return };
    let session = parameter(&parts.uri, "sid").map(str::to_owned);
    let (open, closed) = oneshot::channel();
    let stream = Stream::new(TokioIo::new(connection), open);
    // It refuses only what it has refused before.
    if library.clone().oneshot((stream, Request::from_parts(parts, ()))).await.is_err() {
        return;
    }
    let Some(session) = session else { return };
    // The library ends a session that fails to upgrade, but not if it was given the stream; such a
    // session would answer every poll at once, with nothing, and for ever. The client's own word for
    // the end by polling does it; where the upgrade succeeded, that is refused and changes nothing.
    let _dropped = closed.await;
    let Ok(uri) = format!("{PATH}/?EIO=3&transport=polling&sid={session}").parse::<Uri>() else {
        return;
    };
    let mut close = Request::new(Body::from("1:1"));
    *close.method_mut() = Method::POST;
    *close.uri_mut() = uri;
    let Ok(_answer) = library.oneshot(close).await;
}

/// A connection whose incoming bytes are WebSocket frames.
struct Stream<C> {
    connection: C,
    frames: Frames,
    /// What was read and has not been taken yet, from `taken` on.
    output: Vec<u8>,
    taken: usize,
    /// Dropped with the stream.
    _open: oneshot::Sender<Infallible>,
}

impl<C> Stream<C> {
    fn new(connection: C, open: oneshot::Sender<Infallible>) -> Self {
        Self { connection, frames: Frames::default(), output: Vec::new(), taken: 0, _open: open }
    }

    /// Moves what is ready into the buffer.
    fn take(&mut self, buffer: &mut ReadBuf<'_>) {
        let ready = &self.output[self.taken..];
        let size = ready.len().min(buffer.remaining());
        buffer.put_slice(&ready[..size]);
        self.taken += size;
        if self.taken == self.output.len() {
            // A connection that is idle should hold no memory.
            self.output = Vec::new();
            self.taken = 0;
        }
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Stream<C> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.output.is_empty() && buffer.remaining() > 0 {
            let begin = buffer.filled().len();
            ready!(Pin::new(&mut this.connection).poll_read(context, buffer))?;
            let read = &buffer.filled()[begin..];
            if read.is_empty() {
                this.frames.finish(&mut this.output);
                break;
            }
            if this.frames.pass(read) {
                return Poll::Ready(Ok(()));
            }
            this.frames.push(read, &mut this.output);
            buffer.set_filled(begin);
        }
        this.take(buffer);
        Poll::Ready(Ok(()))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Stream<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}
