//! A client that is not read from, because it sends too much, is not taken for dead.

use std::time::Duration;

use serde_json::json;

use crate::support::{TestServer, peer::Peer};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flooding_publisher_outlives_many_heartbeats() {
    let server = TestServer::with(|config| {
        config.history_size = 0;
        config.rate_limit_events = 0;
        config.ping_interval = Duration::from_millis(50);
        config.ping_timeout = Duration::from_secs(2);
    })
    .await;
    let mut member = Peer::connect(server.address()).await;
    member.join("r").await;
    let publisher = Peer::connect(server.address()).await;
    let all = 40_000;
    // It writes without ever reading, so its own pongs are never sent: what it sends must do.
    let flood = tokio::spawn(async move {
        let mut publisher = publisher;
        for n in 0..all {
            let text = "x".repeat(200);
            publisher.emit("message", &json!({"roomName": "r", "n": n, "text": text})).await;
        }
        publisher
    });
    for n in 0..all {
        assert_eq!(member.next("message-reply").await["n"], n);
    }
    flood.await.unwrap();
}
