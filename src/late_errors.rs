//! A byte stream whose write errors are told where it is read.
//!
//! The library enters a websocket's session before it writes the first packet, and forgets the
//! session when that write fails: nobody would ever end it, and a client of Engine.IO 3, which is in
//! its namespace by then, would stay there as a ghost. A peer that asks for a websocket and hangs up at
//! once brings that about at will. What it does heed is a read that fails, and every session is read.
//! So a failed write is taken for done, and the reader is told.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose write errors are told by the next read, and by writes only after that.
#[derive(Debug)]
pub struct LateErrors<S> {
    stream: S,
    state: State,
    /// Who waits for something to read.
    reader: Option<Waker>,
}

#[derive(Debug)]
enum State {
    Working,
    /// A write failed, and the reader does not know yet.
    Failed(io::Error),
    Told,
}

impl<S> LateErrors<S> {
    /// Around `stream`.
    pub const fn new(stream: S) -> Self {
        Self { stream, state: State::Working, reader: None }
    }

    /// The stream inside.
    pub const fn get_ref(&self) -> &S {
        &self.stream
    }

    /// What a write of `length` bytes came to.
    fn written(&mut self, result: io::Result<usize>, length: usize) -> io::Result<usize> {
        let Err(error) = result else { return result };
        self.state = State::Failed(error);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Ok(length)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LateErrors<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if matches!(self.state, State::Failed(_))
            && let State::Failed(error) = std::mem::replace(&mut self.state, State::Told)
        {
            return Poll::Ready(Err(error));
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_pending() {
            self.reader = Some(cx.waker().clone());
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LateErrors<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.state {
            State::Working => Pin::new(&mut self.stream)
                .poll_write(cx, buf)
                .map(|result| self.written(result, buf.len())),
            State::Failed(_) => Poll::Ready(Ok(buf.len())),
            State::Told => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        match self.state {
            State::Working => Pin::new(&mut self.stream)
                .poll_write_vectored(cx, bufs)
                .map(|result| self.written(result, length)),
            State::Failed(_) => Poll::Ready(Ok(length)),
            State::Told => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.state {
            State::Working => Pin::new(&mut self.stream)
                .poll_flush(cx)
                .map(|result| self.written(result.map(|()| 0), 0).map(|_| ())),
            State::Failed(_) => Poll::Ready(Ok(())),
            State::Told => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};

    use super::*;

    #[tokio::test]
    async fn bytes_pass_both_ways() {
        let (here, mut there) = duplex(100);
        let mut here = LateErrors::new(here);
        here.write_all(b"ping").await.unwrap();
        let mut four = [0; 4];
        there.read_exact(&mut four).await.unwrap();
        assert_eq!(&four, b"ping");
        there.write_all(b"pong").await.unwrap();
        here.read_exact(&mut four).await.unwrap();
        assert_eq!(&four, b"pong");
    }

    #[tokio::test]
    async fn a_failed_write_is_told_by_the_read_and_then_by_writes() {
        let (here, there) = duplex(100);
        drop(there);
        let mut here = LateErrors::new(here);
        assert_eq!(here.write(b"ping").await.unwrap(), 4);
        assert_eq!(here.write(b"ping").await.unwrap(), 4);
        here.flush().await.unwrap();
        assert_eq!(here.read(&mut [0; 4]).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(here.write(b"ping").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken() {
        /// Never has anything to read, and takes nothing.
        struct Dead;
        impl AsyncRead for Dead {
            fn poll_read(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
                _: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Poll::Pending
            }
        }
        impl AsyncWrite for Dead {
            fn poll_write(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
                _: &[u8],
            ) -> Poll<io::Result<usize>> {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }
        let (mut reader, mut writer) = split(LateErrors::new(Dead));
        let reading = tokio::spawn(async move { reader.read(&mut [0; 4]).await });
        // On one thread the reader runs, and waits, as soon as this task does.
        tokio::task::yield_now().await;
        writer.write_all(b"ping").await.unwrap();
        assert_eq!(reading.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
