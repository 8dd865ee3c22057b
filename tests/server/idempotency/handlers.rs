//! An event that the application's backend is asked about first.

use serde_json::json;

use super::{again, assert_refused};
use crate::handlers::backend::Backend;

#[tokio::test]
async fn the_clients_own_key_and_payload_count_whatever_the_backend_makes_of_them() {
    let mut backend = Backend::start().await;
    let server = backend.server(|config| {
        config.handler_events = ["message"].into_iter().collect();
    });
    let server = server.await;
    let (mut ann, mut ben) = (server.client().await, server.client().await);
    ben.join("r").await;
    let mut tell = async |n: u32, stamp: u32| {
        let payload = json!({"roomName": "r", "n": n, "idempotencyKey": "k"});
        let answering = async {
            let asked = backend.next().await;
            assert_eq!(asked.body["args"][0]["idempotencyKey"], "k");
            asked.reply(&json!({"payload": {"roomName": "r", "n": n, "stamp": stamp}}));
        };
        tokio::join!(ann.ask("message", payload), answering).0
    };
    let first = tell(1, 10).await;
    assert_eq!(tell(1, 20).await, again(&first));
    assert_refused(&tell(2, 10).await, "idempotency_mismatch");
    assert_eq!(ben.next("message-reply").await["stamp"], 10);
    assert!(ben.all("message-reply").await.is_empty());
}
