//! CONNECT and DISCONNECT, and packets for namespaces that a connection is not in.

use roomcast::config::Secret;
use serde_json::{Value, json};

use crate::support::{
    SECRET, TestServer,
    raw::{Poller, Wire},
};

/// The data of a packet that begins so.
async fn expect(wire: &mut Wire, begin: &str) -> Value {
    let text = wire.expect(begin).await;
    serde_json::from_str(text.strip_prefix(begin).unwrap()).unwrap()
}

#[tokio::test]
async fn an_unknown_namespace_is_refused_with_a_code() {
    let server = TestServer::start().await;
    let mut wire = Wire::client(&server).await;
    for (connect, begin) in
        [("40/foo,", "44/foo,"), ("40/foo", "44/foo,"), ("40/f{o,{\"token\":\"x\"}", "44/f{o,")]
    {
        wire.send(connect).await;
        let error = expect(&mut wire, begin).await;
        let wanted = json!({"message": "Invalid namespace", "data": {"code": "not_found"}});
        assert_eq!(error, wanted, "{connect}");
    }
    wire.assert_alive().await;
    let mut old = Wire::websocket(&server, "EIO=3&transport=websocket").await;
    old.send("40/foo").await;
    assert_eq!(expect(&mut old, "44/foo,").await, "Invalid namespace");
}

#[tokio::test]
async fn a_refused_connect_says_why_in_a_code() {
    let server = TestServer::with(|config| config.jwt_secret = Some(Secret::new(SECRET))).await;
    let mut wire = Wire::websocket(&server, "EIO=4&transport=websocket").await;
    for (connect, begin) in [("40", "44"), ("40/chat,", "44/chat,")] {
        wire.send(connect).await;
        let error = expect(&mut wire, begin).await;
        assert!(error["message"].as_str().unwrap().contains("authentication required"), "{error}");
        assert_eq!(error["data"], json!({"code": "unauthorized"}));
    }
    let mut old = Wire::websocket(&server, "EIO=3&transport=websocket").await;
    let error = expect(&mut old, "44").await;
    assert!(error.as_str().unwrap().contains("authentication required"), "{error}");
}

#[tokio::test]
async fn a_connect_over_the_rate_limit_says_when_to_come_back() {
    let server = TestServer::with(|config| {
        config.rate_limit_events = 1;
        config.rate_limit_burst = 1;
    })
    .await;
    let mut wire = Wire::websocket(&server, "EIO=4&transport=websocket").await;
    for _ in 0..2 {
        wire.send("40/unknown,").await;
    }
    for _ in 0..2 {
        assert_eq!(expect(&mut wire, "44/unknown,").await["data"]["code"], "not_found");
    }
    wire.send("40").await;
    let error = expect(&mut wire, "44").await;
    assert_eq!(error["data"]["code"], "rate_limited");
    assert!(error["data"]["retryAfterMs"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn packets_that_are_not_allowed_close_the_connection() {
    let server = TestServer::start().await;
    for (before, packet) in [
        (&["40"][..], "40"),
        (&["40/chat,"], "40/chat,"),
        (&[], "42[\"a\"]"),
        (&[], "430[]"),
        (&[], "41"),
        (&["40"], "42/foo,[\"a\"]"),
        (&["40"], "451-/foo,[\"a\",{\"_placeholder\":true,\"num\":0}]"),
        (&["40"], "42/chat,[\"a\"]"),
        (&["40"], "43/foo,0[]"),
        (&["40"], "41/foo,"),
        (&["40"], "41/chat,"),
        (&["40/chat,"], "42[\"a\"]"),
    ] {
        let mut wire = Wire::websocket(&server, "EIO=4&transport=websocket").await;
        for connect in before {
            wire.send(connect).await;
            wire.expect(&format!("42{}[\"client-connected\"", &connect[2..])).await;
        }
        wire.send(packet).await;
        assert_eq!(wire.close_code().await, Some(1005), "{before:?} {packet}");
    }
}

#[tokio::test]
async fn the_same_by_polling() {
    let server = TestServer::start().await;
    for packet in ["40", "42/foo,[\"a\"]", "41/foo,"] {
        let (poller, _) = Poller::client(&server).await;
        poller.post(packet).await;
        poller.ended().await;
    }
    let poller = Poller::open(&server, 4).await;
    poller.post("42[\"a\"]").await;
    poller.ended().await;
}

#[tokio::test]
async fn who_left_may_come_back_and_nothing_else() {
    let server = TestServer::start().await;
    let mut wire = Wire::client(&server).await;
    wire.send("41").await;
    wire.send("40").await;
    wire.expect("40{").await;
    wire.assert_alive().await;
    wire.send("41").await;
    wire.send("42[\"ping\"]").await;
    assert_eq!(wire.close_code().await, Some(1005));
}

/// Servers of Socket.IO 2 passed over such packets, and nobody knows what their clients send.
#[tokio::test]
async fn clients_of_engine_io_3_are_not_disconnected_for_it() {
    let server = TestServer::start().await;
    let mut wire = Wire::websocket(&server, "EIO=3&transport=websocket").await;
    wire.expect("42[\"client-connected\"").await;
    for packet in ["40", "42/foo,[\"a\"]", "41/foo"] {
        wire.send(packet).await;
        wire.assert_alive().await;
    }
}
