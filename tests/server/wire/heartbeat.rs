//! A client that is not read from, because it sends too much, is not taken for dead.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{TestServer, peer::Peer};

/// How long a client has to answer a ping. The member's answers stand behind megabytes that it has yet to read.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flooding_publisher_outlives_many_heartbeats() {
    let server = TestServer::with(|config| {
        config.history_size = 0;
        config.rate_limit_events = 0;
        config.ping_interval = Duration::from_millis(50);
        config.ping_timeout = PING_TIMEOUT;
    })
    .await;
    let mut member = Peer::connect(server.address()).await;
    member.join("r").await;
    let publisher = Peer::connect(server.address()).await;
    // It writes without ever reading, so its own pongs are never sent: what it sends must do.
    let flood = tokio::spawn(async move {
        let (mut publisher, begun, mut count) = (publisher, Instant::now(), 0);
        let text = "x".repeat(200);
        loop {
            let is_last = begun.elapsed() > PING_TIMEOUT * 3 / 2;
            let message = json!({"roomName": "r", "n": count, "text": text, "last": is_last});
            publisher.emit("message", &message).await;
            count += 1;
            if is_last {
                return publisher;
            }
        }
    });
    for n in 0.. {
        let message = member.next("message-reply").await;
        assert_eq!(message["n"], n);
        if message["last"] == true {
            break;
        }
    }
    flood.await.unwrap();
}
