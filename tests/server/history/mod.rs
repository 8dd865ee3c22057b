//! Section 7 of the contract: what was sent before can be had again, in order and only once.

mod forgotten;
mod held;
mod offsets;
mod queue;
mod receipts;
mod recovery;
mod sync;

use crate::support::{TestClient, TestServer};
use roomcast::config::{Config, StoreUrl};
use serde_json::{Value, json};

/// The events that carry room messages.
const MESSAGES: [&str; 3] = ["message-reply", "newMessage", "resource-update"];

/// A server that lets its clients send as fast as they can.
async fn server() -> TestServer {
    with(|_| {}).await
}

/// The same with other settings besides.
async fn with(configure: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::with(|config| {
        config.rate_limit_events = 0;
        config.rate_limit_burst = 0;
        configure(config);
    })
    .await
}

/// The store in a file of this directory.
fn in_file(directory: &tempfile::TempDir) -> StoreUrl {
    StoreUrl::Sqlite(directory.path().join("roomcast.db"))
}

/// Sends `count` messages to a room, each with its place `n` from 1; returns the last one's offset.
async fn fill(client: &mut TestClient, room: &str, count: u64) -> u64 {
    let mut offset = 0;
    for n in 1..=count {
        let ack = client.ask("message", json!({"roomName": room, "n": n})).await;
        offset = offset_of(&ack);
    }
    offset
}

#[track_caller]
fn offset_of(object: &Value) -> u64 {
    object["offset"].as_u64().unwrap_or_else(|| panic!("no offset in {object}"))
}

/// The next room message's offset.
async fn next_offset(client: &mut TestClient) -> u64 {
    offset_of(&client.next_of(&MESSAGES).await.data)
}

#[track_caller]
fn assert_refused(ack: &Value, code: &str) {
    assert_eq!((&ack["success"], &ack["code"]), (&json!(false), &json!(code)), "{ack}");
}
