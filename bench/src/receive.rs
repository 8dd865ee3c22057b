//! Reading frames from a connection.

use std::{cell::RefCell, future::poll_fn, io, pin::Pin, task::Poll};

use tokio::{
    io::{AsyncRead, ReadBuf},
    net::tcp::OwnedReadHalf,
};

use crate::frame::Frames;

/// How much is read at once at most, in bytes.
const MAX_READ: usize = 1 << 16;

thread_local! {
    /// What every connection reads into: the bytes stay here only while they are walked.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; MAX_READ]);
}

/// Waits until there is something to read, takes up to `most` bytes of it, and calls `each` with the
/// opcode and the payload of every frame that they complete. `each` must not read by itself.
///
/// # Errors
/// When the connection fails, the other side closed it, or the bytes are no frames.
pub async fn receive(
    read: &mut OwnedReadHalf,
    frames: &mut Frames,
    most: usize,
    mut each: impl FnMut(u8, &[u8]),
) -> io::Result<()> {
    poll_fn(|cx| {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(&mut scratch[..most.min(MAX_READ)]);
            match Pin::new(&mut *read).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(result) => result?,
            }
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            Poll::Ready(frames.feed(buffer.filled_mut(), &mut each))
        })
    })
    .await
}
