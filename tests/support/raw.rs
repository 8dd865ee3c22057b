//! Clients that send whatever they like.

use std::{net::SocketAddr, time::Duration};

use reqwest::{Method, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{Answer, TestServer};

/// How long anything may take; a test that waits for longer has failed.
const DEADLINE: Duration = Duration::from_secs(20);

/// A frame that is whole, in one piece.
pub const FIN: u8 = 0x80;
/// The kinds of frames.
pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;

/// A TCP connection.
pub struct Wire {
    stream: TcpStream,
    /// What was read and not yet looked at.
    read: Vec<u8>,
}

impl Wire {
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    /// A websocket that is open: the server's handshake and, without a session, its open packet are read.
    pub async fn websocket(server: &TestServer, query: &str) -> Self {
        let mut wire = Self::open(server.address()).await;
        wire.write(&upgrade(query)).await;
        let head = wire.head().await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        if !query.contains("sid=") {
            let open = wire.text().await.unwrap();
            assert!(open.starts_with("0{"), "{open}");
        }
        wire
    }

    /// A websocket whose client is in `/`: all that it is greeted with is read.
    pub async fn client(server: &TestServer) -> Self {
        let mut wire = Self::websocket(server, "EIO=4&transport=websocket").await;
        wire.send("40").await;
        while !wire.text().await.unwrap().starts_with("42[\"client-connected\"") {}
        wire
    }

    /// Writes, as far as the server takes it: it may have hung up, which is for it to decide.
    pub async fn write(&mut self, bytes: &[u8]) {
        let written = timeout(DEADLINE, self.stream.write_all(bytes)).await;
        let _hung_up = written.expect("the server does not read");
    }

    /// Sends a masked frame.
    pub async fn frame(&mut self, first: u8, payload: &[u8]) {
        self.write(&frame(first, payload)).await;
    }

    /// Sends a text frame.
    pub async fn send(&mut self, text: &str) {
        self.frame(FIN | TEXT, text.as_bytes()).await;
    }

    /// The head of the next HTTP answer.
    pub async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = self.read.split_off(end + 4);
                let head = std::mem::replace(&mut self.read, rest);
                return String::from_utf8(head).unwrap();
            }
            assert!(self.more().await, "{:?}", String::from_utf8_lossy(&self.read));
        }
    }

    /// The next text frame; `None` at the end of the connection.
    pub async fn text(&mut self) -> Option<String> {
        loop {
            if let Some((opcode, payload)) = self.take_frame() {
                match opcode {
                    TEXT => return Some(String::from_utf8(payload).unwrap()),
                    CLOSE => return None,
                    _ => continue,
                }
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Waits for a text frame that begins so.
    pub async fn expect(&mut self, start: &str) -> String {
        loop {
            let text = self.text().await.unwrap_or_else(|| panic!("closed before {start}"));
            if text.starts_with(start) {
                return text;
            }
        }
    }

    /// Asserts that the client is still served.
    pub async fn assert_alive(&mut self) {
        self.send("42[\"ping\"]").await;
        self.expect("42[\"pong\"").await;
    }

    /// Waits until the server has closed the websocket or the connection.
    pub async fn closed(&mut self) {
        while self.text().await.is_some() {}
    }

    /// All that comes until the server closes the connection.
    pub async fn rest(mut self) -> String {
        while self.more().await {}
        String::from_utf8_lossy(&self.read).into_owned()
    }

    /// Ends the connection with a reset instead of a farewell.
    pub fn reset(self) {
        // No data may linger: the kernel sends RST.
        socket2::SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }

    /// The code with which the server closes the websocket, 1005 if it says none; `None` if it just hangs up.
    pub async fn close_code(&mut self) -> Option<u16> {
        loop {
            match self.take_frame() {
                Some((CLOSE, payload)) => {
                    let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                    return Some(code.unwrap_or(1005));
                }
                Some(_) => {}
                None if self.more().await => {}
                None => return None,
            }
        }
    }

    /// The next bytes, as many as these.
    pub async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            assert!(self.more().await, "the connection ended");
        }
        self.read.drain(..count).collect()
    }

    fn take_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let (first, second) = (*self.read.first()?, *self.read.get(1)?);
        let (length, start) = match second {
            126 => (u64::from(u16::from_be_bytes(self.read.get(2..4)?.try_into().unwrap())), 4),
            127 => (u64::from_be_bytes(self.read.get(2..10)?.try_into().unwrap()), 10),
            short => (u64::from(short), 2),
        };
        let end = start + usize::try_from(length).unwrap();
        let payload = self.read.get(start..end)?.to_vec();
        self.read.drain(..end);
        Some((first & 0x0f, payload))
    }

    /// Reads on; false at the end.
    async fn more(&mut self) -> bool {
        let read = timeout(DEADLINE, self.stream.read_buf(&mut self.read)).await;
        read.expect("nothing came, and the connection is not closed").is_ok_and(|read| read > 0)
    }
}

/// The request for a websocket.
pub fn upgrade(query: &str) -> Vec<u8> {
    format!(
        "GET /socket.io/?{query} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}

/// A masked frame, as clients have to send them. The mask is zero, which changes nothing.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | u8::try_from(length).unwrap()),
        length @ 126..=0xffff => {
            frame.push(0x80 | 0x7e);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            frame.push(0x80 | 0x7f);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// A session that polls.
pub struct Poller<'a> {
    server: &'a TestServer,
    /// The revision of Engine.IO that it speaks.
    pub protocol: u8,
    /// Its session id.
    pub session: String,
}

impl<'a> Poller<'a> {
    /// A session with nothing but its handshake.
    pub async fn open(server: &'a TestServer, protocol: u8) -> Self {
        let query = format!("/socket.io/?EIO={protocol}&transport=polling");
        let answer = server.get(&query).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        let open = &answer.text[answer.text.find('{').unwrap()..];
        let mut open = serde_json::Deserializer::from_str(open).into_iter::<serde_json::Value>();
        let open = open.next().unwrap().unwrap();
        Self { server, protocol, session: open["sid"].as_str().unwrap().to_owned() }
    }

    /// A client in `/`, whose public id is known.
    pub async fn client(server: &'a TestServer) -> (Self, String) {
        let poller = Self::open(server, 4).await;
        assert_eq!(poller.post("40").await.text, "ok");
        let mut greeting = Vec::<String>::new();
        while !greeting.iter().any(|packet| packet.starts_with("42[\"client-connected\"")) {
            let answer = poller.poll().await;
            greeting.extend(answer.text.split('\x1e').map(str::to_owned));
        }
        let connect = greeting.iter().find_map(|packet| packet.strip_prefix("40{\"sid\":\""));
        let id = connect.unwrap().strip_suffix("\"}").unwrap().to_owned();
        (poller, id)
    }

    pub async fn poll(&self) -> Answer {
        self.request(Method::GET, &self.session, Vec::new()).await
    }

    pub async fn post(&self, body: impl Into<Vec<u8>>) -> Answer {
        self.request(Method::POST, &self.session, body.into()).await
    }

    /// A request that names this session.
    pub async fn request(&self, method: Method, session: &str, body: Vec<u8>) -> Answer {
        let query = format!("/socket.io/?EIO={}&transport=polling&sid={session}", self.protocol);
        Answer::of(self.server.request(method, &query).body(body)).await
    }

    /// Waits until the server has ended the session.
    pub async fn ended(&self) {
        let ended = async { while self.poll().await.status == StatusCode::OK {} };
        assert!(timeout(DEADLINE, ended).await.is_ok(), "the session does not end");
        assert_unknown(&self.poll().await);
    }

    /// Leaves.
    pub async fn close(self) {
        self.post("1").await;
        self.ended().await;
    }
}

/// Asserts that the answer is that of a session that does not exist.
#[track_caller]
pub fn assert_unknown(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text);
    assert_eq!(answer.json()["message"], "Session ID unknown");
}
