//! Requests that open a session, or should not.

use reqwest::{Method, StatusCode};
use roomcast::config::Transports;
use serde_json::{Value, json};

use crate::support::{
    Answer, TestServer,
    raw::{Poller, Wire},
};

/// The headers of a good request for a WebSocket, by what they are for.
const HOST: &str = "Host: x\r\n";
const UPGRADE: &str = "Upgrade: websocket\r\n";
const CONNECTION: &str = "Connection: Upgrade\r\n";
const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";

async fn ask(server: &TestServer, method: Method, query: &str) -> Answer {
    Answer::of(server.request(method, &format!("/socket.io/{query}"))).await
}

fn error(code: u8, message: &str) -> Value {
    json!({"code": code, "message": message})
}

/// The head and the body of the answer to a request for a WebSocket.
async fn upgrade(
    server: &TestServer,
    method: &str,
    query: &str,
    headers: &str,
) -> (String, String) {
    let mut wire = Wire::open(server.address()).await;
    let request = format!("{method} /socket.io/?{query} HTTP/1.1\r\n{headers}\r\n");
    wire.write(request.as_bytes()).await;
    let head = wire.head().await.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let body = wire.bytes(length.map_or(0, |length| length.parse().unwrap())).await;
    (head, String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn a_request_that_is_wrong_is_told_by_a_number() {
    let server = TestServer::start().await;
    for (method, query, code, message) in [
        (Method::GET, "", 0, "Transport unknown"),
        (Method::GET, "?EIO=4", 0, "Transport unknown"),
        (Method::GET, "?EIO=4&transport=abc", 0, "Transport unknown"),
        (Method::POST, "?EIO=4&transport=abc", 0, "Transport unknown"),
        (Method::GET, "?EIO=4&transport=polling&sid=zz", 1, "Session ID unknown"),
        (Method::POST, "?EIO=4&transport=polling&sid=zz", 1, "Session ID unknown"),
        (Method::GET, "?EIO=4&transport=websocket&sid=zz", 1, "Session ID unknown"),
        (Method::POST, "?EIO=4&transport=polling", 2, "Bad handshake method"),
        (Method::PUT, "?EIO=4&transport=polling", 2, "Bad handshake method"),
        (Method::POST, "?EIO=4&transport=websocket", 2, "Bad handshake method"),
        (Method::GET, "?EIO=4&transport=websocket", 3, "Bad request"),
        // Node takes every other revision for 3.
        (Method::GET, "?EIO=5&transport=polling", 5, "Unsupported protocol version"),
        (Method::GET, "?transport=polling", 5, "Unsupported protocol version"),
    ] {
        let answer = ask(&server, method.clone(), query).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{method} {query}");
        assert_eq!(answer.json(), error(code, message), "{method} {query}");
    }
}

#[tokio::test]
async fn a_request_must_fit_its_session() {
    let server = TestServer::start().await;
    let poller = Poller::open(&server, 4).await;
    for query in ["?EIO=5&transport=polling", "?EIO=4&transport=websocket"] {
        let answer = ask(&server, Method::GET, &format!("{query}&sid={}", poller.session)).await;
        assert_eq!(answer.json(), error(3, "Bad request"), "{query}");
    }
    assert_eq!(poller.post("40").await.text, "ok", "it is still there");
}

/// [RFC 6455, section 4.2.1](https://www.rfc-editor.org/rfc/rfc6455#section-4.2.1)
#[tokio::test]
async fn a_websocket_is_asked_for_by_the_book() {
    const QUERY: &str = "EIO=4&transport=websocket";
    let server = TestServer::start().await;
    let good = [HOST, UPGRADE, CONNECTION, KEY, VERSION];
    let (head, _) = upgrade(&server, "GET", QUERY, &good.concat()).await;
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    assert!(!head.contains("sec-websocket-protocol"), "{head}");
    for (place, header, message) in [
        (1, "", "Bad request"),
        (1, "Upgrade: h2c\r\n", "Invalid Upgrade header"),
        (2, "", "Bad request"),
        (2, "Connection: keep-alive\r\n", "Bad request"),
        (3, "", "Missing or invalid Sec-WebSocket-Key header"),
        (3, "Sec-WebSocket-Key: abc\r\n", "Missing or invalid Sec-WebSocket-Key header"),
        (4, "", "Missing or invalid Sec-WebSocket-Version header"),
        (4, "Sec-WebSocket-Version: 12\r\n", "Missing or invalid Sec-WebSocket-Version header"),
    ] {
        let mut headers = good;
        headers[place] = header;
        let (head, body) = upgrade(&server, "GET", QUERY, &headers.concat()).await;
        assert!(head.starts_with("http/1.1 400"), "{headers:?}: {head}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body, error(3, message), "{headers:?}");
        assert_eq!(message.contains("Version"), head.contains("sec-websocket-version: 13, 8"));
    }
    let (head, _) = upgrade(&server, "POST", QUERY, &good.concat()).await;
    assert!(head.starts_with("http/1.1 400"), "{head}");
    let session = Poller::open(&server, 4).await.session;
    let query = format!("{QUERY}&sid={session}");
    let (head, _) = upgrade(&server, "POST", &query, &good.concat()).await;
    assert!(head.starts_with("http/1.1 405"), "{head}");
    let (head, _) = upgrade(&server, "GET", &query, &good.concat()).await;
    assert!(head.starts_with("http/1.1 101"), "{head}");
}

#[tokio::test]
async fn the_first_subprotocol_is_echoed() {
    let server = TestServer::start().await;
    for (offered, echoed) in [("a", "a"), ("one, two", "one"), ("v1.2+json ,b", "v1.2+json")] {
        let offer = format!("Sec-WebSocket-Protocol: {offered}\r\n");
        let headers = [HOST, UPGRADE, CONNECTION, KEY, VERSION, &offer].concat();
        let (head, _) = upgrade(&server, "GET", "EIO=4&transport=websocket", &headers).await;
        let echo = format!("sec-websocket-protocol: {echoed}\r\n");
        assert!(head.starts_with("http/1.1 101") && head.contains(&echo), "{head}");
    }
    for offered in ["a,,b", "a, a", "a b"] {
        let offer = format!("Sec-WebSocket-Protocol: {offered}\r\n");
        let headers = [HOST, UPGRADE, CONNECTION, KEY, VERSION, &offer].concat();
        let (head, _) = upgrade(&server, "GET", "EIO=4&transport=websocket", &headers).await;
        assert!(head.starts_with("http/1.1 400"), "{offered}: {head}");
    }
}

#[tokio::test]
async fn a_transport_that_is_not_allowed_is_unknown() {
    for (websocket, polling) in [(true, false), (false, true)] {
        let server =
            TestServer::with(|config| config.transports = Transports { websocket, polling }).await;
        let headers = [HOST, UPGRADE, CONNECTION, KEY, VERSION].concat();
        let (head, body) = upgrade(&server, "GET", "EIO=4&transport=websocket", &headers).await;
        let answer = ask(&server, Method::GET, "?EIO=4&transport=polling").await;
        if websocket {
            assert!(head.starts_with("http/1.1 101"), "{head}");
            assert_eq!(answer.json(), error(0, "Transport unknown"));
        } else {
            assert!(head.starts_with("http/1.1 400"), "{head}");
            assert!(body.contains("\"code\":0"), "{body}");
            // It offers no upgrade either.
            assert!(answer.text.contains(r#""upgrades":[]"#), "{}", answer.text);
        }
    }
}

#[tokio::test]
async fn socket_io_has_the_path_that_is_configured() {
    let server = TestServer::with(|config| config.socket_path = "/rt/ws".into()).await;
    let status = async |path: &str| server.get(path).await.status;
    for path in ["/rt/ws/?EIO=4&transport=polling", "/rt/ws?EIO=4&transport=polling"] {
        assert_eq!(status(path).await, 200, "{path}");
    }
    for path in ["/socket.io/?EIO=4&transport=polling", "/rt/wsx?EIO=4&transport=polling"] {
        assert_eq!(status(path).await, 404, "{path}");
    }
    let page = server.get("/").await.text;
    assert!(page.contains(r#"data-socket-path="/rt/ws""#));
    let mut wire = Wire::open(server.address()).await;
    let headers = [HOST, UPGRADE, CONNECTION, KEY, VERSION].concat();
    let request = format!("GET /rt/ws/?EIO=4&transport=websocket HTTP/1.1\r\n{headers}\r\n");
    wire.write(request.as_bytes()).await;
    assert!(wire.head().await.starts_with("HTTP/1.1 101"));
    wire.expect("0{").await;
    wire.send("40").await;
    wire.expect("40{").await;
    wire.assert_alive().await;
}
