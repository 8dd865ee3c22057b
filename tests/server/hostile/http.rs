//! HTTP that is not what it should be.

use super::assert_serves;
use crate::support::{TestServer, raw::Wire};

#[tokio::test]
async fn garbage_is_refused_and_hung_up_on() {
    let server = TestServer::start().await;
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(1_000_000));
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "a: b\r\n".repeat(10_000));
    for garbage in [
        &b"\r\n\r\n\r\n\r\n x"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad\0name: y\r\n\r\n",
        b"\xff\xfe\xfd\xfc\r\n\r\n",
        long.as_bytes(),
        many.as_bytes(),
        // Two lengths, or a length and chunks: where one request ends is a matter of opinion.
        b"POST /messages/broadcast HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"POST /messages/broadcast HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /messages/broadcast HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /messages/broadcast HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ] {
        eprintln!("{:?}", String::from_utf8_lossy(&garbage[..garbage.len().min(60)]));
        let mut wire = Wire::open(server.address()).await;
        wire.write(garbage).await;
        let answer = wire.rest().await;
        let refused = ["HTTP/1.1 400", "HTTP/1.1 414", "HTTP/1.1 431", "HTTP/1.1 505"];
        assert!(
            answer.is_empty() || refused.iter().any(|status| answer.starts_with(status)),
            "{answer}"
        );
        assert_serves(&server).await;
    }
}

#[tokio::test]
async fn a_request_hidden_in_a_body_is_none() {
    let server = TestServer::start().await;
    let hidden = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    for body in [
        format!("Content-Length: {}\r\n\r\n{hidden}", hidden.len()),
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len()),
        // The length loses against the chunks, and the connection is not used again.
        format!(
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n",
            hidden.len()
        ),
    ] {
        let mut wire = Wire::open(server.address()).await;
        let request = format!(
            "POST /messages/broadcast HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Type: application/json\r\n{body}"
        );
        wire.write(request.as_bytes()).await;
        let answers = wire.rest().await;
        assert!(answers.starts_with("HTTP/1.1 400"), "{answers}");
        assert_eq!(answers.matches("HTTP/1.1").count(), 1, "{answers}");
    }
    assert_serves(&server).await;
}
