//! The stream of a WebSocket connection, as the library reads it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::Frames;

/// A connection whose incoming bytes are WebSocket frames.
pub(crate) struct Stream<C> {
    connection: C,
    frames: Frames,
    /// Bytes that were read and not taken yet, from `taken` on.
    output: Vec<u8>,
    taken: usize,
}

impl<C> Stream<C> {
    /// A stream around the connection's.
    pub(crate) fn new(connection: C) -> Self {
        Self { connection, frames: Frames::default(), output: Vec::new(), taken: 0 }
    }

    /// Moves ready bytes into the buffer.
    fn take(&mut self, buffer: &mut ReadBuf<'_>) {
        let ready = &self.output[self.taken..];
        let size = ready.len().min(buffer.remaining());
        buffer.put_slice(&ready[..size]);
        self.taken += size;
        if self.taken == self.output.len() {
            // An idle connection should hold no memory.
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
