//! The library's side of a connection: what it reads and writes.

use std::{
    cell::RefCell,
    io::{self, ErrorKind},
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::tcp::OwnedReadHalf,
};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{
    connection::Connection,
    inbound::{Inbound, PONG},
};

/// How much is read at once.
const READ_SIZE: usize = 16 * 1024;

thread_local! {
    /// Where connections are read to: one for each worker, so that an idle connection has none.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_SIZE]);
}

/// A connection that may be gone.
#[derive(Debug, Clone)]
pub struct Handle(Weak<Connection>);

impl Handle {
    /// Ends the connection at once.
    pub fn break_off(&self) {
        if let Some(connection) = self.0.upgrade() {
            connection.break_off();
        }
    }
}

/// A WebSocket connection as a byte stream. Writing never waits: what is written is in the
/// connection's queue, and is still sent after the stream has been dropped.
#[derive(Debug)]
pub struct Stream {
    connection: Arc<Connection>,
    reader: OwnedReadHalf,
    /// What was read and not taken yet.
    read: Bytes,
    inbound: Inbound,
    /// The rest of a pong that was put in.
    pong: &'static [u8],
    last_pong: Option<Instant>,
    /// How often a pong is put in while the client is not read from.
    heartbeat: Duration,
    token: Option<TaskTrackerToken>,
}

impl Stream {
    pub(super) fn new(
        connection: Arc<Connection>,
        reader: OwnedReadHalf,
        read: Bytes,
        token: TaskTrackerToken,
        heartbeat: Duration,
    ) -> Self {
        Self {
            connection,
            reader,
            read,
            inbound: Inbound::default(),
            pong: &[],
            last_pong: None,
            heartbeat,
            token: Some(token),
        }
    }

    /// Completes when the connection is closed.
    pub fn closed(&self) -> impl Future<Output = ()> + use<> {
        let connection = self.connection.clone();
        async move { connection.wait_over().await }
    }

    /// A handle on the connection that does not keep it.
    pub fn handle(&self) -> Handle {
        Handle(Arc::downgrade(&self.connection))
    }

    /// Reads at most `most` bytes.
    fn poll_fill(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        most: usize,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            ready!(self.poll_read_ahead(context))?;
        }
        let size = most.min(buffer.remaining()).min(self.read.len());
        let part = self.read.split_to(size);
        self.inbound.pass(&part);
        buffer.put_slice(&part);
        if self.read.is_empty() {
            // Lets go of the buffer that it was part of.
            self.read = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what is there; nothing at the end of the connection.
    fn poll_read_ahead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut scratch = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.reader).poll_read(context, &mut scratch))?;
            self.read = Bytes::copy_from_slice(scratch.filled());
            Poll::Ready(Ok(()))
        })
    }

    /// Puts in what is left of a pong.
    fn put_pong(&mut self, buffer: &mut ReadBuf<'_>) {
        let size = self.pong.len().min(buffer.remaining());
        buffer.put_slice(&self.pong[..size]);
        self.pong = &self.pong[size..];
    }

    /// Whether the client, which is not read from, needs somebody to speak for it.
    fn wants_pong(&self) -> bool {
        self.last_pong.is_none_or(|last| last.elapsed() >= self.heartbeat)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.pong.is_empty() {
            this.put_pong(buffer);
            return Poll::Ready(Ok(()));
        }
        if !this.connection.is_paused() {
            return this.poll_fill(context, buffer, usize::MAX);
        }
        if this.wants_pong() && !this.connection.is_over() {
            if !this.inbound.is_between() {
                // What has begun is read to its end, and no further.
                return this.poll_fill(context, buffer, this.inbound.rest());
            }
            this.last_pong = Some(Instant::now());
            this.pong = &PONG;
            this.put_pong(buffer);
            return Poll::Ready(Ok(()));
        }
        this.connection.reader.register(context.waker());
        if this.connection.is_over() {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        if this.connection.is_paused() {
            return Poll::Pending;
        }
        this.poll_fill(context, buffer, usize::MAX)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.connection.write(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The queue is still to be written: the end comes with the stream's.
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            self.connection.close(token);
        }
    }
}
