//! A lean Socket.IO client: one websocket, no allocation per frame.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    time::Instant,
};

use memchr::memmem;
use roomcast_bench::{
    frame::{self, Frames},
    receive::receive,
    text,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// The key is the example of RFC 6455: the generator does not check the answer to it.
const UPGRADE: &[u8] = b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n\
    Host: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// The longest head that an answer may have.
const MAX_HEAD: usize = 8192;

/// Opens a TCP connection to the server on `port`, with a receive buffer of about `buffer` bytes
/// where that is given.
pub async fn open(port: u16, buffer: Option<u32>) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.set_nodelay(true)?;
    socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
}

/// The sending half of a socket.
#[derive(Clone)]
pub struct Sender(Rc<OwnedWriteHalf>);

impl Sender {
    /// Sends one text packet, waiting for room in the socket's buffer.
    pub async fn send(&self, packet: &[u8]) -> io::Result<()> {
        self.write(&frame::of_client(frame::TEXT, packet)).await
    }

    /// Sends whole frames.
    pub async fn write(&self, frames: &[u8]) -> io::Result<()> {
        let mut rest = frames;
        while !rest.is_empty() {
            match self.0.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.0.writable().await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Answers a ping. A full send buffer is no reason to wait: who cannot write a pong is not
    /// idle, and no measurement lasts until the server would miss it.
    fn pong(&self) {
        let _ = self.0.try_write(&frame::of_client(frame::TEXT, b"3"));
    }
}

/// A client in the namespace `/`.
pub struct Socket {
    read: OwnedReadHalf,
    sender: Sender,
    frames: Frames,
}

impl Socket {
    /// Connects over the websocket transport, up to the namespace's answer.
    pub async fn connect(port: u16) -> io::Result<Self> {
        Self::over(open(port, None).await?).await
    }

    /// As [`connect`](Self::connect), over a connection that is open.
    pub async fn over(mut stream: TcpStream) -> io::Result<Self> {
        stream.write_all(UPGRADE).await?;
        let mut head = Vec::with_capacity(1024);
        let (head_length, status) = read_head(&mut stream, &mut head).await?;
        if status != 101 {
            let line = String::from_utf8_lossy(&head[..head_length]).into_owned();
            return Err(io::Error::other(format!("no upgrade: {line}")));
        }
        let (read, write) = stream.into_split();
        let mut socket = Self { read, sender: Sender(Rc::new(write)), frames: Frames::default() };
        // The open packet may have come along with the head.
        let mut opened = false;
        socket.frames.feed(&mut head[head_length..], |_, packet| opened |= packet[0] == b'0')?;
        if !opened {
            socket.expect(b"0").await?;
        }
        socket.sender.send(b"40").await?;
        socket.expect(b"40").await?;
        Ok(socket)
    }

    /// Joins a room, up to the ack.
    pub async fn join(&mut self, room: &str) -> io::Result<()> {
        let join = format!("420[\"join-room\",{{\"roomName\":\"{room}\"}}]");
        debug_assert!(join.as_bytes().starts_with(text::JOIN));
        self.sender.send(join.as_bytes()).await?;
        let ack = self.expect(text::JOINED).await?;
        if memmem::find(&ack, b"\"success\":true").is_none() {
            let ack = String::from_utf8_lossy(&ack).into_owned();
            return Err(io::Error::other(format!("not joined: {ack}")));
        }
        Ok(())
    }

    /// The half by which others send.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// Reads on until a packet that begins with `prefix`.
    async fn expect(&mut self, prefix: &[u8]) -> io::Result<Vec<u8>> {
        let mut found = None;
        while found.is_none() {
            self.read_once(|_, packet| {
                if found.is_none() && packet.starts_with(prefix) {
                    found = Some(packet.to_vec());
                }
            })
            .await?;
        }
        Ok(found.unwrap_or_default())
    }

    /// Reads for good, handing on every packet with the time at which it was read; returns why it
    /// ended.
    pub async fn read(mut self, mut each: impl FnMut(Instant, &[u8])) -> io::Error {
        loop {
            if let Err(error) = self.read_once(&mut each).await {
                return error;
            }
        }
    }

    /// Reads what is there, waiting for something; answers pings itself.
    async fn read_once(&mut self, mut each: impl FnMut(Instant, &[u8])) -> io::Result<()> {
        let Self { read, sender, frames } = self;
        let mut closed = false;
        // The time is asked for once per read, not per frame.
        let mut now = None;
        receive(read, frames, usize::MAX, |opcode, packet| match (opcode, packet) {
            (frame::TEXT, b"2") => sender.pong(),
            (frame::TEXT, packet) => each(*now.get_or_insert_with(Instant::now), packet),
            (frame::CLOSE, _) => closed = true,
            _ => {}
        })
        .await?;
        if closed { Err(io::Error::other("the server closed the websocket")) } else { Ok(()) }
    }
}

/// An HTTP client on one kept connection.
pub struct Http {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Http {
    /// Connects.
    pub async fn connect(port: u16) -> io::Result<Self> {
        Ok(Self { stream: open(port, None).await?, buffer: Vec::with_capacity(4096) })
    }

    /// Posts a message, and reads the whole answer.
    pub async fn broadcast(&mut self, body: &str) -> io::Result<()> {
        let request = format!(
            "POST /messages/broadcast HTTP/1.1\r\nHost: 127.0.0.1\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        let (head, status) = read_head(&mut self.stream, &mut self.buffer).await?;
        let length = content_length(&self.buffer[..head])
            .ok_or_else(|| io::Error::other("an answer without Content-Length"))?;
        while self.buffer.len() < head + length {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        if status != 201 {
            let answer = String::from_utf8_lossy(&self.buffer).into_owned();
            return Err(io::Error::other(format!("refused: {answer}")));
        }
        Ok(())
    }
}

/// Reads a head into `buffer`, which may get more; its length with the empty line, and the status.
async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<(usize, u16)> {
    loop {
        if let Some(end) = memmem::find(buffer, b"\r\n\r\n") {
            let status = buffer.get(9..12).and_then(|code| str::from_utf8(code).ok());
            let status = status.and_then(|code| code.parse().ok());
            return Ok((end + 4, status.ok_or_else(|| io::Error::other("no HTTP status"))?));
        }
        if buffer.len() > MAX_HEAD {
            return Err(io::Error::other("an endless head"));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    str::from_utf8(head).ok()?.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })
}
