//! What has to be true after everything.

use std::time::Duration;

use serde_json::json;

use crate::support::TestServer;

/// How long anything may take; a test that waits for longer has failed.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Asserts that a normal client is served, and that nothing else is there before and after.
pub async fn assert_serves(server: &TestServer) {
    assert_deserted(server).await;
    let mut client = server.client().await;
    client.join("room").await;
    let sent = json!({"roomName": "room", "text": "hello", "omitSender": false});
    let ack = client.ask("message", sent).await;
    assert_eq!(ack["success"], true, "{ack}");
    assert_eq!(client.next("message-reply").await["text"], "hello");
    client.disconnect().await;
    assert_deserted(server).await;
    let metrics = server.get("/metrics").await.text;
    assert!(metrics.contains("roomcast_panics_total 0"), "{metrics}");
}

/// Waits until no client, room or user is left.
pub async fn assert_deserted(server: &TestServer) {
    let registry = &server.app.registry;
    eventually("the registry is empty", || {
        registry.connections() == 0
            && registry.users.count() == 0
            && registry.namespaces().iter().all(|namespace| namespace.room_count() == 0)
    })
    .await;
}

/// Waits until it is so.
pub async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    let waiting = async {
        while !is_so() {
            looks.tick().await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, waiting).await.is_ok(), "not in time: {what}");
}
