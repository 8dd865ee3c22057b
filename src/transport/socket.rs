//! The way to a peer that speaks WebSocket: the writing half of its TCP stream.

use std::{
    io::{self, ErrorKind, IoSlice},
    net::Shutdown,
    time::Duration,
};

use socket2::SockRef;
use tokio::net::{
    TcpStream,
    tcp::{OwnedReadHalf, OwnedWriteHalf},
};

use crate::limits::Slot;

/// How much the kernel may hold that it has not sent, in bytes: with more, one could not see whether
/// the peer reads, and memory would go where nobody bounds it.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NOTSENT: u32 = 16 * 1024;

/// How to try to write.
#[derive(Debug, Clone, Copy)]
pub(super) enum Try {
    /// Where the kernel has said that it takes more.
    Ready,
    /// Whatever it has said.
    Anyway,
}

/// The writing half.
#[derive(Debug)]
pub(super) struct Socket {
    stream: OwnedWriteHalf,
    /// Free again when the connection is closed.
    _slot: Slot,
}

impl Socket {
    /// Both halves of a stream.
    pub(super) fn split(tcp: TcpStream, slot: Slot) -> (OwnedReadHalf, Self) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Err(error) = SockRef::from(&tcp).set_tcp_notsent_lowat(NOTSENT) {
            tracing::debug!(%error, "TCP_NOTSENT_LOWAT could not be set");
        }
        let (reader, stream) = tcp.into_split();
        (reader, Self { stream, _slot: slot })
    }

    /// Writes what the kernel takes.
    pub(super) fn write(&self, how: Try, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match (how, slices) {
            (Try::Ready, [one]) => self.stream.try_write(one),
            (Try::Ready, slices) => self.stream.try_write_vectored(slices),
            (Try::Anyway, slices) => SockRef::from(self.stream.as_ref()).send_vectored(slices),
        }
    }

    /// Waits until the kernel might take more.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    /// Ends our side, and waits until the peer has ended its own.
    pub(super) async fn finish(&self) -> io::Result<()> {
        let stream: &TcpStream = self.stream.as_ref();
        SockRef::from(stream).shutdown(Shutdown::Write)?;
        let mut scratch = [0; 1024];
        loop {
            stream.readable().await?;
            match stream.try_read(&mut scratch) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Ends both sides at once: a reset for the peer.
    pub(super) fn reset(&self) {
        let socket = SockRef::from(self.stream.as_ref());
        // They fail where the peer has ended the connection already.
        let _closed = socket.set_linger(Some(Duration::ZERO));
        let _closed = socket.shutdown(Shutdown::Both);
    }
}
