//! Namespaces by pattern.

use roomcast::config::Environment;
use serde_json::json;

use crate::support::{TestServer, raw::Wire};

async fn tenants() -> TestServer {
    TestServer::with(|config| {
        config.namespaces = ["/", "/tenant-*", "/*/chat"].map(String::from).to_vec();
        config.environment = Environment::Development;
        config.rate_limit_events = 0;
    })
    .await
}

#[tokio::test]
async fn a_namespace_that_a_pattern_allows_is_like_any_other() {
    let server = tenants().await;
    let mut one = server.client_of("/tenant-1").await;
    let mut other = server.client_of("/tenant-1").await;
    let mut stranger = server.client_of("/tenant-2").await;
    for client in [&mut one, &mut other, &mut stranger] {
        client.join("r").await;
        client.forget().await;
    }
    let ack = one.ask("message", json!({"room": "r", "n": 1})).await;
    assert_eq!((&ack["success"], &ack["offset"]), (&json!(true), &json!(1)));
    assert_eq!(other.next("message-reply").await["n"], 1);
    one.ask("message", json!({"text": "to everyone"})).await;
    assert_eq!(other.next("message").await["text"], "to everyone");
    assert_eq!(stranger.names().await, Vec::<String>::new());
    // Backends find it, open or not.
    let body = json!({"event": "news", "rooms": ["r"], "data": {"n": 2}, "namespace": "/tenant-2"});
    assert_eq!(server.post("/events", &body).await.status, 201);
    assert_eq!(stranger.next("news").await["n"], 2);
    let body = json!({"event": "news", "rooms": ["r"], "data": {"n": 3}, "namespace": "tenant-3"});
    assert_eq!(server.post("/events", &body).await.json()["offsets"]["r"], 1);
    let mut late = server.client_of("/tenant-3").await;
    let ack = late.ask("join-room", json!({"room": "r", "offset": 0})).await;
    assert_eq!(ack["missed"], 1);
    let body = json!({"event": "news", "data": 1, "namespace": "/other"});
    let refused = server.post("/events", &body).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text.contains("/tenant-*"), "{}", refused.text);
}

#[tokio::test]
async fn a_star_stands_for_one_or_more_characters() {
    let server = tenants().await;
    for allowed in ["/tenant-é", "/tenant-a/b", "/a/chat", "/a/b/chat"] {
        server.client_of(allowed).await.join("r").await;
    }
    let long = format!("/tenant-{}", "x".repeat(200));
    for unknown in
        ["/tenant-", "/tenant", "/chat", "//chat", "/tenant-*x*".trim_matches('x'), &long]
    {
        let refused = server.connecting().namespace(unknown).knock().await;
        let is_allowed = unknown == "/tenant-*x*";
        assert!(is_allowed || refused.is_err(), "{unknown}");
    }
}

#[tokio::test]
async fn nothing_remains_of_a_namespace_that_everybody_has_left() {
    let server = tenants().await;
    let fixed = server.app.registry.namespaces().len();
    let mut wire = Wire::websocket(&server, "EIO=4&transport=websocket").await;
    for number in 0..200 {
        wire.send(&format!("40/tenant-{number},")).await;
        wire.expect(&format!("42/tenant-{number},[\"client-connected\"")).await;
        wire.send(&format!("41/tenant-{number},")).await;
    }
    // One that comes back at once, and one that is cut off.
    for _ in 0..50 {
        wire.send("40/tenant-x,").await;
        wire.expect("40/tenant-x,{").await;
        wire.send("41/tenant-x,").await;
    }
    wire.send("40/tenant-y,").await;
    wire.expect("42/tenant-y,[\"client-connected\"").await;
    assert!(server.app.registry.namespaces().len() > fixed);
    wire.reset();
    while server.app.registry.namespaces().len() > fixed {
        tokio::task::yield_now().await;
    }
    let figures = server.get("/metrics").await.text;
    assert!(figures.contains("roomcast_connections{namespace=\"/tenant-*\",transport=\"websocket\",protocol=\"4\"} 0\n") || !figures.contains("roomcast_connections{namespace=\"/tenant-"), "{figures}");
    assert!(figures.contains("roomcast_rooms{namespace=\"/tenant-*\"} 0\n"), "{figures}");
    server.client_of("/tenant-x").await.join("r").await;
}

#[tokio::test]
async fn refused_clients_open_nothing() {
    let server = TestServer::with(|config| {
        config.namespaces = ["/", "/tenant-*"].map(String::from).to_vec();
        config.jwt_secret = Some(roomcast::config::Secret::new(crate::support::SECRET));
        config.rate_limit_events = 0;
    })
    .await;
    let mut wire = Wire::websocket(&server, "EIO=4&transport=websocket").await;
    for number in 0..100 {
        wire.send(&format!("40/tenant-{number},")).await;
        wire.expect(&format!("44/tenant-{number},")).await;
    }
    while server.app.registry.namespaces().len() > 1 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn gauges_fall_to_0_and_do_not_vanish() {
    let server = TestServer::start().await;
    let gauge = "roomcast_connections{namespace=\"/chat\",transport=\"websocket\",protocol=\"4\"} ";
    let client = server.client_of("/chat").await;
    let figures = server.get("/metrics").await.text;
    assert!(figures.contains(&format!("\n{gauge}1\n")), "{figures}");
    client.disconnect().await;
    while server.app.registry.connections() > 0 {
        tokio::task::yield_now().await;
    }
    let figures = server.get("/metrics").await.text;
    assert!(figures.contains(&format!("\n{gauge}0\n")), "{figures}");
}
