//! The library's side of a connection: what it reads and writes.

mod offer;
mod turn;

use std::{
    cell::RefCell,
    io::{self, ErrorKind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::tcp::OwnedReadHalf,
};
use tokio_util::task::task_tracker::TaskTrackerToken;

use self::{offer::Offer, turn::Turn};
use super::{
    Limits,
    connection::{Connection, polling::Posted},
    event_head::{self, Head},
    frame,
    handle::Handle,
    inbound::{self, Inbound, PONG},
    packets::{Came, Goes, Packets},
    pong::{self, Next},
};

/// How much is read at once.
const READ_SIZE: usize = 16 * 1024;

thread_local! {
    /// The read buffer of each worker thread, so that idle connections need none.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_SIZE]);
}

/// How the answer to a CONNECT packet begins, and how its refusal does.
const ANSWERS: [&[u8]; 2] = [b"40", b"44"];

/// The library's first Engine.IO ping, which it sends at once instead of after `PING_INTERVAL`. It would use up the
/// first poll of a client that waits for its CONNECT answer, so it is taken out and answered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FirstPing {
    /// The library has not sent it.
    Awaited,
    /// It was taken out; its answer is to be inserted.
    Came,
    /// It was answered.
    Answered,
}

/// A connection as the byte stream of a WebSocket. Writing never waits: it appends to the connection's queue,
/// which is still sent after the stream has been dropped.
#[derive(Debug)]
pub struct Stream {
    connection: Arc<Connection>,
    /// None while the client polls.
    reader: Option<OwnedReadHalf>,
    /// What was read and not taken yet.
    read: Bytes,
    inbound: Inbound,
    packets: Arc<dyn Packets>,
    /// The packet that the library has to take before anything else.
    offer: Option<Offer>,
    turn: Turn,
    /// The rest of an inserted frame.
    put_in: Bytes,
    first_ping: FirstPing,
    last_pong: Option<Instant>,
    /// The client has sent something since the last inserted pong.
    has_sent: bool,
    /// How often a pong is inserted for a client that cannot answer pings in time.
    heartbeat: Duration,
    token: Option<TaskTrackerToken>,
}

impl Stream {
    pub(super) fn new(
        connection: Arc<Connection>,
        reader: Option<OwnedReadHalf>,
        read: Bytes,
        packets: Arc<dyn Packets>,
        token: TaskTrackerToken,
        limits: &Limits,
    ) -> Self {
        Self {
            connection,
            reader,
            read,
            inbound: Inbound::of(limits.max_message),
            packets,
            offer: None,
            turn: Turn::default(),
            put_in: Bytes::new(),
            first_ping: FirstPing::Awaited,
            last_pong: None,
            has_sent: false,
            heartbeat: limits.heartbeat / 2,
            token: Some(token),
        }
    }

    /// A handle on the connection that does not keep it.
    pub fn handle(&self) -> Handle {
        Handle::of(&self.connection)
    }

    /// Reads, inserts a frame, or waits.
    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Behind what breaks a rule nothing is put in: where it stands in the frame is not known any more.
        self.check()?;
        self.answer_first_ping(context);
        if self.put_in.is_empty() {
            ready!(self.poll_offer(context))?;
        }
        if !self.put_in.is_empty() {
            self.put(buffer);
            return Poll::Ready(Ok(()));
        }
        if !self.connection.is_paused() && !self.is_late_with_its_pong() {
            return self.poll_fill(context, buffer, usize::MAX);
        }
        if self.wants_pong() && !self.connection.is_over() {
            if !self.inbound.is_between() {
                // A frame that has begun is read to its end, and no further.
                return self.poll_fill(context, buffer, self.inbound.rest());
            }
            self.put_pong(buffer);
            return Poll::Ready(Ok(()));
        }
        self.connection.reader.register(context.waker());
        if self.connection.is_over() {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        if self.connection.is_paused() {
            return Poll::Pending;
        }
        self.poll_fill(context, buffer, usize::MAX)
    }

    /// Reads at most `most` bytes. Removes the answers to our own probes, which the library would take for
    /// answers to its pings.
    fn poll_fill(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        most: usize,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() && !ready!(self.poll_read_ahead(context))? {
            return Poll::Ready(Ok(()));
        }
        while self.inbound.is_at_frame() {
            match pong::next(&self.read) {
                Next::Pong(pong, size) if self.connection.answered(pong) => {
                    self.read.advance(size);
                    if self.read.is_empty() && !ready!(self.poll_read_ahead(context))? {
                        return Poll::Ready(Ok(()));
                    }
                }
                // At the end of the connection the bytes are passed on as they are.
                Next::Unknown if ready!(self.poll_read_ahead(context))? => {}
                Next::Pong(..) | Next::Unknown | Next::Else => break,
            }
        }
        if self.inbound.is_at_frame() {
            ready!(self.poll_head(context))?;
        }
        let size = most.min(buffer.remaining()).min(self.read.len());
        let (size, control) = self.inbound.pass(&self.read[..size]);
        self.has_sent |= size > 0;
        self.connection.set_receiving(self.inbound.held());
        if size == 0 {
            self.check()?;
        }
        if self.inbound.is_astray() {
            return Poll::Ready(Err(ErrorKind::InvalidData.into()));
        }
        if let Some(packet) = control {
            self.look_at(packet)?;
        }
        buffer.put_slice(&self.read.split_to(size));
        if self.read.is_empty() {
            // Frees the buffer that it was part of.
            self.read = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Looks at the head of the next frame: closes the connection over an event for an unknown namespace, and
    /// marks a name that the library cannot read.
    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match event_head::look(&self.read) {
                // A frame that is refused for its size need not come.
                Head::Unknown
                    if !self.inbound.is_too_large(&self.read)
                        && ready!(self.poll_read_ahead(context))? => {}
                Head::Packet { namespace: Some(namespace), .. }
                    if !self.packets.knows(&namespace) =>
                {
                    return Poll::Ready(Err(ErrorKind::InvalidData.into()));
                }
                Head::Packet { mark_at: Some(at), .. } => {
                    self.read = event_head::mark(&self.read, at);
                    self.inbound.is_marked();
                    return Poll::Ready(Ok(()));
                }
                Head::Plain | Head::Unknown | Head::Packet { .. } => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Closes the connection if what has come breaks a rule of the protocol.
    fn check(&self) -> io::Result<()> {
        let Some(code) = self.inbound.fault() else { return Ok(()) };
        self.connection.refuse(code);
        Err(ErrorKind::InvalidData.into())
    }

    /// Appends what the library writes to the connection's queue, without its first ping and with what
    /// [`Packets::goes`] makes of its answers to CONNECT packets.
    fn write(&mut self, bytes: &[u8]) {
        let mut begin = 0;
        for found in frame::walk(bytes) {
            let goes = match found.text {
                Some(text) if ANSWERS.iter().any(|answer| text.starts_with(answer)) => {
                    self.packets.goes(text)
                }
                Some(b"2") if self.first_ping == FirstPing::Awaited => {
                    self.first_ping = FirstPing::Came;
                    self.connection.reader.wake();
                    Goes::Nowhere
                }
                _ => Goes::AsIs,
            };
            if goes == Goes::AsIs {
                continue;
            }
            self.connection.write(&bytes[begin..found.range.start]);
            begin = found.range.end;
            if let Goes::Instead(text) = goes {
                self.connection.write(&frame::text(&text));
            }
        }
        self.connection.write(&bytes[begin..]);
    }

    /// Appends what is there to what was read already; false at the end of the connection.
    fn poll_read_ahead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => match ready!(self.connection.poll_posted(context)) {
                Posted::Upgraded(reader, read) if read.is_empty() => none.insert(reader),
                Posted::Upgraded(reader, read) => {
                    *none = Some(reader);
                    return Poll::Ready(Ok(append(&mut self.read, read)));
                }
                Posted::Frames(frames) => {
                    return Poll::Ready(Ok(append(&mut self.read, frames)));
                }
                Posted::Over => return Poll::Ready(Ok(false)),
            },
        };
        SCRATCH.with_borrow_mut(|scratch| {
            let mut scratch = ReadBuf::new(scratch);
            ready!(Pin::new(reader).poll_read(context, &mut scratch))?;
            let came = Bytes::copy_from_slice(scratch.filled());
            Poll::Ready(Ok(append(&mut self.read, came)))
        })
    }

    /// Handles a packet that opens or closes a namespace.
    fn look_at(&mut self, packet: Vec<u8>) -> io::Result<()> {
        match self.packets.came(&packet) {
            Came::Pass => {}
            Came::Offer => {
                self.offer = Some(Offer::new(packet));
            }
            Came::TooMany => {
                self.connection.break_off();
                return Err(ErrorKind::ConnectionReset.into());
            }
            Came::Ends => return Err(ErrorKind::InvalidData.into()),
        }
        Ok(())
    }

    /// Waits until the offered packet is taken, and offers it again.
    fn poll_offer(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(offer) = &mut self.offer else { return Poll::Ready(Ok(())) };
        self.connection.reader.register(context.waker());
        if self.connection.is_over() {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        if self.packets.poll_taken(context).is_pending()
            && let Some(again) = ready!(offer.poll_again(context))
        {
            self.put_in = again;
            return Poll::Ready(Ok(()));
        }
        self.offer = None;
        Poll::Ready(Ok(()))
    }

    /// Passes on the rest of an inserted frame.
    fn put(&mut self, buffer: &mut ReadBuf<'_>) {
        let size = self.put_in.len().min(buffer.remaining());
        buffer.put_slice(&self.put_in.split_to(size));
    }

    /// Whether the last inserted pong is a heartbeat ago.
    fn wants_pong(&self) -> bool {
        self.last_pong.is_none_or(|last| last.elapsed() >= self.heartbeat)
    }

    /// Whether the client sends but leaves a ping of the library unanswered: it reads late, or its answer
    /// waits behind what it sent before. Sending is a sign of life.
    fn is_late_with_its_pong(&self) -> bool {
        self.has_sent && self.wants_pong() && self.connection.is_library_waiting(self.heartbeat)
    }

    /// Inserts the answer to the first ping, as soon as no frame of the client is under way.
    fn answer_first_ping(&mut self, context: &Context<'_>) {
        match self.first_ping {
            FirstPing::Awaited => self.connection.reader.register(context.waker()),
            FirstPing::Came if self.put_in.is_empty() && self.inbound.is_between() => {
                self.first_ping = FirstPing::Answered;
                self.put_in = Bytes::from_static(&PONG);
            }
            FirstPing::Came | FirstPing::Answered => {}
        }
    }

    fn put_pong(&mut self, buffer: &mut ReadBuf<'_>) {
        self.last_pong = Some(Instant::now());
        self.has_sent = false;
        self.put_in = Bytes::from_static(&PONG);
        self.put(buffer);
    }
}

/// Appends what came; false if that is nothing.
fn append(read: &mut Bytes, came: Bytes) -> bool {
    let any = !came.is_empty();
    *read = if read.is_empty() { came } else { [&**read, &*came].concat().into() };
    any
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.turn.is_over() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let polled = this.poll_next(context, buffer);
        this.turn.note(polled.is_ready().then(|| buffer.filled().len() - before));
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().write(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The queue must still be written: dropping the stream closes the connection.
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
