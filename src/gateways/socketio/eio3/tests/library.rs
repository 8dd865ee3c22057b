//! Around the library: what it gets, what it answers, and that other clients are not affected.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use serde_json::Value;
use socketioxide::{
    SocketIo,
    extract::{SocketRef, TryData},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{
    config::Transports,
    gateways::socketio::{SocketLayer, connects::Shared, polling},
    hub::Registry,
    limits::Slots,
    memory::{self, Memory},
    telemetry::{event_log::EventLog, metrics::Metrics},
    transport::{self, Wire},
};

const DEADLINE: Duration = Duration::from_secs(10);
const MAX_PAYLOAD: u16 = 1000;
const LIMITS: transport::Limits = transport::Limits {
    send_buffer: 1_000_000,
    send_timeout: DEADLINE,
    heartbeat: DEADLINE,
    max_message: usize::MAX,
};
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const TIMEOUT: transport::Timeouts = transport::Timeouts { head: DEADLINE, write: DEADLINE };

/// A server whose namespace `/chat` tells each client its `auth`, and sends it a file.
fn server() -> Router {
    let (layer, io) = SocketIo::builder().max_payload(MAX_PAYLOAD.into()).build_layer();
    io.ns("/", async || ());
    io.ns("/chat", async |socket: SocketRef, TryData(auth): TryData<Value>| {
        socket.emit("auth", &auth.ok()).unwrap();
        socket.emit("file", &Bytes::from_static(&[1, 2, 3])).unwrap();
    });
    let memory = Memory::new(memory::Limits { outgoing: 0, incoming: 0, process: 0 });
    let connects = Shared {
        config: Arc::default(),
        registry: Arc::new(Registry::new(&[], 0)),
        other: Some("/chat"),
        metrics: Arc::new(Metrics::default()),
        event_log: EventLog::default(),
    };
    let polling = polling::Settings {
        wire: Wire::new(LIMITS, memory),
        max_payload: MAX_PAYLOAD.into(),
        upgrades: true,
        upgrade_timeout: DEADLINE,
    };
    let transports = Transports { websocket: true, polling: true };
    let layer = SocketLayer::new(layer, transports, polling, Arc::new(connects));
    // With its state, the router makes the service once, and so one place for the sessions.
    Router::new().fallback(async || "another route").layer(layer).with_state(())
}

async fn answer(server: &Router, request: Request) -> (StatusCode, HeaderMap, Vec<u8>) {
    let response: Response =
        timeout(DEADLINE, server.clone().oneshot(request)).await.unwrap().unwrap();
    let (parts, body) = response.into_parts();
    (parts.status, parts.headers, to_bytes(body, usize::MAX).await.unwrap().to_vec())
}

/// A session by polling.
struct Session {
    server: Router,
    uri: String,
}

impl Session {
    async fn open(query: &str) -> Self {
        let server = server();
        let mut uri = format!("/socket.io/?{query}&transport=polling");
        let (status, _, body) =
            answer(&server, Request::get(&uri).body(Body::empty()).unwrap()).await;
        assert_eq!(status, StatusCode::OK);
        let body = String::from_utf8(body).unwrap();
        let sid = body.split_once(r#""sid":""#).unwrap().1.split('"').next().unwrap();
        write!(uri, "&sid={sid}").unwrap();
        Self { server, uri }
    }

    async fn post(&self, content_type: &str, body: Vec<u8>) -> StatusCode {
        let request = Request::post(&self.uri).header(header::CONTENT_TYPE, content_type);
        answer(&self.server, request.body(body.into()).unwrap()).await.0
    }

    async fn poll(&self) -> (StatusCode, HeaderMap, Vec<u8>) {
        answer(&self.server, Request::get(&self.uri).body(Body::empty()).unwrap()).await
    }

    /// Everything that polls bring, up to the one that brings `words`.
    async fn poll_until(&self, words: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        while !contains(&all, words) {
            let (status, headers, body) = self.poll().await;
            assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&all));
            assert_eq!(headers[header::CONTENT_LENGTH], body.len().to_string());
            all.extend(body);
        }
        all
    }
}

fn contains(bytes: &[u8], words: &[u8]) -> bool {
    bytes.windows(words.len()).any(|window| window == words)
}

#[tokio::test]
async fn polling_in_text() {
    let session = Session::open("EIO=3&b64=1").await;
    let body = "27:40/chat?token=a%26b&name=é,1:2".into();
    assert_eq!(session.post("text/plain;charset=UTF-8", body).await, StatusCode::OK);
    let got = session.poll_until(b"6:b4AQID").await;
    assert!(contains(&got, "42/chat,[\"auth\",{\"token\":\"a&b\",\"name\":\"é\"}]".as_bytes()));
    assert!(contains(&got, b"8:40/chat,"), "the namespace is answered by its name");
}

#[tokio::test]
async fn polling_in_binary() {
    let session = Session::open("EIO=3").await;
    let body = [&[0, 1, 8, 255][..], b"40/chat?token=abc,", &[0, 1, 255, b'2']].concat();
    assert_eq!(session.post("application/octet-stream", body).await, StatusCode::OK);
    let got = session.poll_until(&[1, 4, 255, 4, 1, 2, 3]).await;
    assert!(contains(&got, br#"42/chat,["auth",{"token":"abc"}]"#));
}

#[tokio::test]
async fn the_greatest_size_of_a_body_holds() {
    let connect = "16:40/chat?token=a,";
    let rest = |size: usize| {
        let length = size - connect.len() - 4;
        format!("{length}:42[\"{}\"]", "x".repeat(length - 6))
    };
    let body = |size| format!("{connect}{}", rest(size));
    assert_eq!(body(usize::from(MAX_PAYLOAD)).len(), usize::from(MAX_PAYLOAD));
    for (size, status) in
        [(MAX_PAYLOAD + 1, StatusCode::PAYLOAD_TOO_LARGE), (MAX_PAYLOAD - 9, StatusCode::OK)]
    {
        let session = Session::open("EIO=3").await;
        assert_eq!(session.post("text/plain", body(size.into()).into()).await, status, "{size}");
    }
}

#[tokio::test]
async fn engine_io_4_is_left_alone() {
    let session = Session::open("EIO=4").await;
    assert_eq!(session.post("text/plain", "40/chat?token=a,".into()).await, StatusCode::OK);
    let refused = br#"44/chat?token=a,{"message":"Invalid namespace","data":{"code":"not_found"}}"#;
    session.poll_until(refused).await;
    assert_eq!(session.post("text/plain", "40/chat,".into()).await, StatusCode::OK);
    session.poll_until(b"bAQID").await;
}

#[tokio::test]
async fn other_routes_are_left_alone() {
    for path in
        ["/", "/other?EIO=3&transport=polling", "/socket.io-admin?EIO=3&transport=websocket"]
    {
        let (status, _, body) =
            answer(&server(), Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!((status, &body[..]), (StatusCode::OK, &b"another route"[..]), "{path}");
    }
}

/// A masked frame of text.
fn frame(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    assert!(length <= 125);
    [&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat()
}

async fn connect(server: &Router) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = server.clone();
    tokio::spawn(transport::serve(
        listener,
        server,
        TIMEOUT,
        Slots::new(None, Vec::new()),
        CancellationToken::new(),
    ));
    TcpStream::connect(address).await.unwrap()
}

/// Reads until `words` come; returns everything that was read.
async fn read_until(connection: &mut TcpStream, words: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let reading = async {
        while !contains(&all, words) {
            assert_ne!(
                connection.read_buf(&mut all).await.unwrap(),
                0,
                "{}",
                String::from_utf8_lossy(&all)
            );
        }
    };
    assert!(timeout(DEADLINE, reading).await.is_ok(), "{}", String::from_utf8_lossy(&all));
    all
}

#[tokio::test]
async fn a_websocket_on_a_connection_that_had_requests_before() {
    let mut connection = connect(&server()).await;
    let before = "GET /socket.io/?EIO=3&transport=polling HTTP/1.1\r\nHost: a\r\n\r\n";
    let upgrade =
        format!("GET /socket.io/?EIO=3&transport=websocket HTTP/1.1\r\nHost: a\r\n{UPGRADE}\r\n");
    // All at once: the frame is right behind the head of the request.
    let bytes = [before.as_bytes(), upgrade.as_bytes(), &frame("40/chat?token=abc,")].concat();
    connection.write_all(&bytes).await.unwrap();
    let got = read_until(&mut connection, &[0x82, 4, 4, 1, 2, 3]).await;
    assert!(contains(&got, b"HTTP/1.1 101"));
    assert!(contains(&got, b"40/chat,"));
    assert!(contains(&got, br#"42/chat,["auth",{"token":"abc"}]"#));
}

/// A session, and a websocket on which it has been probed.
async fn probed() -> (Session, TcpStream) {
    let session = Session::open("EIO=3").await;
    let mut connection = connect(&session.server).await;
    let uri = session.uri.replace("polling", "websocket");
    connection
        .write_all(format!("GET {uri} HTTP/1.1\r\nHost: a\r\n{UPGRADE}\r\n").as_bytes())
        .await
        .unwrap();
    connection.write_all(&frame("2probe")).await.unwrap();
    (session, connection)
}

#[tokio::test]
async fn a_session_that_upgrades() {
    let (session, mut connection) = probed().await;
    session.poll().await;
    read_until(&mut connection, b"3probe").await;
    connection.write_all(&[frame("5"), frame("40/chat?token=abc,")].concat()).await.unwrap();
    read_until(&mut connection, br#"42/chat,["auth",{"token":"abc"}]"#).await;
}

#[tokio::test]
async fn a_session_whose_upgrade_fails_goes_on_by_polling() {
    let (session, mut connection) = probed().await;
    read_until(&mut connection, b"3probe").await;
    drop(connection);
    assert_eq!(session.post("text/plain", "11:40/chat?a=,".into()).await, StatusCode::OK);
    session.poll_until(br#"42/chat,["auth",{"a":""}]"#).await;
}

#[tokio::test]
async fn what_is_no_websocket_is_refused_by_the_library() {
    for path in [
        "/socket.io/?EIO=3&transport=websocket",
        "/socket.io/?EIO=3&transport=websocket&sid=unknown",
    ] {
        let (status, ..) = answer(&server(), Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}");
    }
}
