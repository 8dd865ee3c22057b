//! Polling that is not what it should be.

use futures_util::future::join;
use reqwest::{Method, StatusCode};

use super::assert_serves;
use crate::support::{
    TestServer,
    raw::{Poller, Wire, assert_unknown},
};

#[tokio::test]
async fn bodies_that_are_none() {
    let server = TestServer::start().await;
    for (protocol, body) in [
        (4, &b"x"[..]),
        (4, b"\xff\xfe"),
        (4, b"4"),
        (4, b"42["),
        (4, b"b!!!"),
        (4, b"bAQ=="),
        (4, b"40\x1ex"),
        (4, b"\x1e\x1e\x1e"),
        (4, b"42[\"\xc3\"]"),
        (3, b"x"),
        (3, b"1"),
        (3, b":"),
        (3, b"-1:4"),
        (3, b"99:40"),
        (3, b"0:"),
        (3, b"99999999999999999999999999:40"),
        (3, b"1:4"),
        (3, b"2:\xc3\x28"),
        (3, b"10:42[\"ping\"]99999:4"),
        (3, b"10:b4AQIDBA=="),
        (3, b"\x00\xff"),
        (3, b"\x00\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\xff4"),
        (3, b"\x01\x01\xff4"),
    ] {
        eprintln!("Engine.IO {protocol}: {:?}", String::from_utf8_lossy(body));
        let poller = Poller::open(&server, protocol).await;
        let answer = poller.post(body).await;
        assert!(
            [StatusCode::OK, StatusCode::BAD_REQUEST].contains(&answer.status),
            "{}: {}",
            answer.status,
            answer.text
        );
        poller.post(if protocol == 3 { "1:1" } else { "1" }).await;
        poller.ended().await;
        assert_serves(&server).await;
    }
}

#[tokio::test]
async fn a_body_over_the_limit_ends_the_session() {
    let server = TestServer::start().await;
    let poller = Poller::open(&server, 4).await;
    let answer = poller.post(format!("42[\"{}\"]", "x".repeat(1_000_000))).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_unknown(&poller.poll().await);
    assert_serves(&server).await;
}

#[tokio::test]
async fn two_polls_at_once_end_the_session() {
    let server = TestServer::start().await;
    let (poller, _) = Poller::client(&server).await;
    let (one, other) = join(poller.poll(), poller.poll()).await;
    let refused = [&one, &other].iter().filter(|answer| answer.status == 400).count();
    assert_eq!(refused, 1, "{} {}", one.text, other.text);
    poller.ended().await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn a_post_after_the_close_finds_nothing() {
    let server = TestServer::start().await;
    let (poller, _) = Poller::client(&server).await;
    assert_eq!(poller.post("1").await.text, "ok");
    assert_unknown(&poller.post("42[\"ping\"]").await);
    assert_unknown(&poller.poll().await);
    assert_serves(&server).await;
    // What follows the close in one body is not looked at.
    let (poller, _) = Poller::client(&server).await;
    poller.post("1\x1e42[\"join-room\",\"r\"]").await;
    poller.ended().await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn requests_that_ask_for_nothing_sensible() {
    let server = TestServer::start().await;
    for (method, query) in [
        (Method::GET, ""),
        (Method::GET, "?"),
        (Method::GET, "?EIO=4"),
        (Method::GET, "?transport=polling"),
        (Method::GET, "?EIO=5&transport=polling"),
        (Method::GET, "?EIO=&transport="),
        (Method::GET, "?EIO=4&transport=carrier-pigeon"),
        (Method::GET, "?EIO=4&transport=websocket"),
        (Method::GET, "?EIO=4&transport=polling&sid"),
        (Method::GET, "?EIO=4&transport=polling&sid="),
        (Method::GET, "?EIO=4&transport=polling&sid=%00"),
        (Method::GET, "?EIO=4&transport=polling&sid=é"),
        (Method::POST, "?EIO=4&transport=polling"),
        (Method::POST, "?EIO=4&transport=websocket"),
        (Method::PUT, "?EIO=4&transport=polling"),
        (Method::DELETE, "?EIO=4&transport=polling&sid=x"),
    ] {
        let answer = crate::support::Answer::of(
            server.request(method.clone(), &format!("/socket.io/{query}")),
        )
        .await;
        let opened = answer.status == StatusCode::OK && query.ends_with("&sid");
        assert!(
            opened || answer.status == StatusCode::BAD_REQUEST,
            "{method} {query}: {} {}",
            answer.status,
            answer.text
        );
    }
    assert_serves(&server).await;
}

#[tokio::test]
async fn a_body_that_is_cut_off_leaves_nothing() {
    let server = TestServer::start().await;
    let (poller, _) = Poller::client(&server).await;
    for body in ["", "42[\"pi"] {
        let mut wire = Wire::open(server.address()).await;
        let head = format!(
            "POST /socket.io/?EIO=4&transport=polling&sid={} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{body}",
            poller.session
        );
        wire.write(head.as_bytes()).await;
    }
    poller.ended().await;
    assert_serves(&server).await;
}
