//! A client that holds the server to the letter of RFC 6455, and reads as it pleases.

use std::{io, net::SocketAddr, os::fd::AsFd, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// How long anything may take; a test that waits for longer has failed.
const DEADLINE: Duration = Duration::from_mins(1);

/// A message of the server's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    Text(String),
    Binary(Vec<u8>),
    Close,
}

/// A WebSocket with a small receive buffer.
pub struct Peer {
    tcp: TcpStream,
    buffer: Vec<u8>,
    /// The sizes of the next reads, in turn.
    steps: Vec<usize>,
    step: usize,
    /// How many more pings it answers.
    pub answers: usize,
    /// How many pings have come.
    pub pings: usize,
    /// Its id in the namespace that it connected to last.
    pub id: String,
}

impl Peer {
    /// Opens a WebSocket, of the session `sid` if there is one already.
    pub async fn open(address: SocketAddr, sid: Option<&str>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut tcp = socket.connect(address).await.unwrap();
        let sid = sid.map(|sid| format!("&sid={sid}")).unwrap_or_default();
        let head = format!(
            "GET /socket.io/?EIO=4&transport=websocket{sid} HTTP/1.1\r\nhost: x\r\n\
             connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
        );
        tcp.write_all(head.as_bytes()).await.unwrap();
        let mut buffer = Vec::new();
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(tcp.read_buf(&mut buffer).await.unwrap() > 0, "no answer");
        };
        let head = String::from_utf8(buffer.drain(..end).collect()).unwrap().to_lowercase();
        assert!(head.starts_with("http/1.1 101"), "{head}");
        assert!(head.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
        assert!(!head.contains("sec-websocket-extensions"), "shared frames are not compressed");
        Self {
            tcp,
            buffer,
            steps: vec![usize::MAX],
            step: 0,
            answers: usize::MAX,
            pings: 0,
            id: String::new(),
        }
    }

    /// A client of `/`, as far as the welcome.
    pub async fn connect(address: SocketAddr) -> Self {
        let mut peer = Self::open(address, None).await;
        let Some(Frame::Text(hello)) = peer.frame().await else { panic!("no open packet") };
        assert!(hello.starts_with("0{"), "{hello}");
        peer.enter("/").await;
        peer
    }

    /// Connects to a namespace; the first that comes from it must be the CONNECT packet, the next
    /// the welcome.
    pub async fn enter(&mut self, namespace: &str) {
        let prefix = prefix(namespace);
        self.write(&format!("40{prefix}")).await;
        let mut connected = false;
        loop {
            let text = self.text().await;
            if let Some(session) = text.strip_prefix(&format!("40{prefix}")) {
                let session: Value = serde_json::from_str(session).unwrap();
                session["sid"].as_str().unwrap().clone_into(&mut self.id);
                connected = true;
            } else if let Some(event) = event(&text, namespace) {
                assert!(connected, "before the CONNECT packet: {text}");
                assert_eq!(event.0, "connected", "before the welcome: {text}");
                return;
            }
        }
    }

    /// From now on reads so many bytes at a time.
    pub fn reads(mut self, steps: &[usize]) -> Self {
        self.steps = steps.to_vec();
        self
    }

    /// Sends a frame of text.
    pub async fn write(&mut self, text: &str) {
        self.tcp.write_all(&masked(text)).await.unwrap();
    }

    /// Sends a frame of text, as long as the server is there.
    pub async fn try_write(&mut self, text: &str) -> io::Result<()> {
        let written = timeout(DEADLINE, self.tcp.write_all(&masked(text))).await;
        written.expect("the server does not read")
    }

    /// Sends a binary frame.
    pub async fn write_binary(&mut self, bytes: &[u8]) {
        let mut frame = vec![0x82, 0xff];
        frame.extend((bytes.len() as u64).to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(bytes);
        self.tcp.write_all(&frame).await.unwrap();
    }

    /// Another handle, to write by while this one reads. From now on this one answers no pings: an answer
    /// would stand in the middle of a frame of the other's.
    pub fn writer(&mut self) -> TcpStream {
        self.answers = 0;
        let socket = self.tcp.as_fd().try_clone_to_owned().unwrap();
        TcpStream::from_std(socket.into()).unwrap()
    }

    /// Sends an event to `/`.
    pub async fn emit(&mut self, event: &str, data: &Value) {
        self.write(&format!("42{}", json!([event, data]))).await;
    }

    /// Joins a room of `/`.
    pub async fn join(&mut self, room: &str) {
        self.emit("join-room", &json!({"roomName": room})).await;
        self.next("room-joined").await;
    }

    /// The next event of this name in `/`; others are skipped.
    pub async fn next(&mut self, name: &str) -> Value {
        loop {
            let text = self.text().await;
            if let Some((event, data)) = event(&text, "/")
                && event == name
            {
                return data;
            }
        }
    }

    /// The next text that is no heartbeat.
    pub async fn text(&mut self) -> String {
        match self.frame().await {
            Some(Frame::Text(text)) => text,
            other => panic!("{other:?} instead of a text"),
        }
    }

    /// The next frame that is no heartbeat; `None` when the server has ended the connection.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.parse() {
                if frame == Frame::Text("2".into()) {
                    self.pings += 1;
                    if self.answers > 0 {
                        self.answers -= 1;
                        // The connection may be over by now.
                        let _sent = self.tcp.write_all(&masked("3")).await;
                    }
                    continue;
                }
                return Some(frame);
            }
            self.step += 1;
            let most = self.steps[self.step % self.steps.len()].min(65_536);
            let mut part = vec![0; most];
            let read = timeout(DEADLINE, self.tcp.read(&mut part)).await.expect("nothing came");
            match read {
                Ok(0) => {
                    assert!(self.buffer.is_empty(), "the connection ended within a frame");
                    return None;
                }
                Ok(size) => self.buffer.extend(&part[..size]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Skips what comes before the next ping, and answers that.
    pub async fn pinged(&mut self) {
        loop {
            match self.parse() {
                Some(frame) if frame == Frame::Text("2".into()) => {
                    self.pings += 1;
                    return self.write("3").await;
                }
                Some(_) => {}
                None => self.read_once().await,
            }
        }
    }

    /// Takes in what there is, at most as much as the next read may.
    pub async fn read_once(&mut self) {
        assert!(self.try_read_once().await, "the connection is over");
    }

    /// The same; false where the connection is over.
    pub async fn try_read_once(&mut self) -> bool {
        self.step += 1;
        let mut part = vec![0; self.steps[self.step % self.steps.len()]];
        let read = timeout(DEADLINE, self.tcp.read(&mut part)).await.expect("nothing came");
        let size = read.unwrap_or(0);
        self.buffer.extend(&part[..size]);
        size > 0
    }

    /// Sends a close frame.
    pub async fn write_close(&mut self) {
        self.tcp.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await.unwrap();
    }

    /// Reads to the end and forgets it.
    pub async fn drain(mut self) {
        let mut scratch = vec![0; 65_536];
        while let Ok(1..) = timeout(DEADLINE, self.tcp.read(&mut scratch)).await.expect("no end") {}
    }

    /// Takes one frame off the buffer, if it is whole. A server's frame is not masked, and the
    /// library's are not fragmented.
    fn parse(&mut self) -> Option<Frame> {
        let (&first, &second) = (self.buffer.first()?, self.buffer.get(1)?);
        assert_eq!(first & 0xf0, 0x80, "a whole message without extensions: {first:#x}");
        assert_eq!(second & 0x80, 0, "not masked");
        let (begin, size) = match second {
            126 => {
                let size = u16::from_be_bytes(self.buffer.get(2..4)?.try_into().unwrap());
                assert!(size > 125, "the shortest form");
                (4, usize::from(size))
            }
            127 => {
                let size = u64::from_be_bytes(self.buffer.get(2..10)?.try_into().unwrap());
                assert!(size > 65_535, "the shortest form");
                (10, usize::try_from(size).unwrap())
            }
            size => (2, usize::from(size)),
        };
        if self.buffer.len() < begin + size {
            return None;
        }
        let payload = self.buffer[begin..begin + size].to_vec();
        self.buffer.drain(..begin + size);
        Some(match first & 0x0f {
            1 => Frame::Text(String::from_utf8(payload).expect("text is UTF-8")),
            2 => Frame::Binary(payload),
            8 => Frame::Close,
            opcode => panic!("unexpected opcode {opcode}"),
        })
    }
}

fn prefix(namespace: &str) -> String {
    if namespace == "/" { String::new() } else { format!("{namespace},") }
}

/// The event that a text is in this namespace.
pub fn event(text: &str, namespace: &str) -> Option<(String, Value)> {
    let data = text.strip_prefix(&format!("42{}", prefix(namespace)))?;
    data.starts_with('[').then(|| serde_json::from_str(data).unwrap())
}

/// A client's frame.
pub fn masked(text: &str) -> Vec<u8> {
    let size = text.len();
    let mut frame = vec![0x81];
    match size {
        0..=125 => frame.push(0x80 | u8::try_from(size).unwrap()),
        126..=65_535 => {
            frame.push(0xfe);
            frame.extend(u16::try_from(size).unwrap().to_be_bytes());
        }
        _ => {
            frame.push(0xff);
            frame.extend((size as u64).to_be_bytes());
        }
    }
    let mask = [0x5a, 0x13, 0xc4, 0x9e];
    frame.extend(mask);
    frame.extend(text.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
