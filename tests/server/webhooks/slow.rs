//! An endpoint that takes its time, but answers.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use serde_json::json;
use tokio::sync::Semaphore;

use super::receiver::{Receiver, Reply, SECRET};
use crate::support::{
    TestClient,
    process::{self, ServerProcess},
};

/// More rooms than webhooks are under way at a time.
const ROOMS: usize = 40;
const EACH: usize = 5;

#[tokio::test]
async fn a_slow_answer_delays_its_own_room_and_nothing_is_told_twice() {
    let mut receiver = Receiver::start().await;
    let server = receiver
        .server(|config| config.webhook_events = ["message.created"].into_iter().collect())
        .await;
    let permitted = Arc::new(Semaphore::new(0));
    let slow = permitted.clone();
    receiver.answer(move |received| match received.data()["room"].as_str() {
        Some("slow") => Reply::When(slow.clone()),
        _ => Reply::Status(204),
    });
    let mut client = server.client().await;
    let mut ids = HashSet::new();
    for n in 0..EACH {
        client.ask("message", json!({"roomName": "slow", "id": n.to_string()})).await;
    }
    let first = receiver.next().await;
    assert_eq!(first.data()["id"], "0");
    ids.insert(first.id);
    for n in 0..ROOMS * EACH {
        let room = format!("r{}", n % ROOMS);
        client.ask("message", json!({"roomName": room, "id": n.to_string()})).await;
    }
    let mut newest = HashMap::<String, u64>::new();
    for _ in 0..ROOMS * EACH {
        let told = receiver.next().await;
        let newest = newest.entry(told.data()["room"].as_str().unwrap().to_owned()).or_default();
        assert_eq!(told.data()["offset"], *newest + 1, "{:?}", told.body);
        *newest += 1;
        assert!(ids.insert(told.id), "it is told twice");
    }
    assert!(!newest.contains_key("slow"), "its first one is not answered yet");
    // One at a time: each answer brings the next one.
    for n in 1..EACH {
        assert!(receiver.rest().is_empty());
        permitted.add_permits(1);
        let told = receiver.next().await;
        assert_eq!(
            (&told.data()["room"], &told.data()["id"]),
            (&json!("slow"), &json!(n.to_string()))
        );
        assert!(ids.insert(told.id), "it is told twice");
    }
    permitted.add_permits(1);
    let tries = |metrics: &str| {
        let tries =
            metrics.lines().filter(|line| line.starts_with("roomcast_webhook_requests_total"));
        tries.map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    let all = (ROOMS + 1) * EACH;
    let expected = format!("roomcast_webhook_requests_total{{outcome=\"delivered\"}} {all}");
    // Each was tried once: no outcome but this one was ever counted.
    server
        .until(|metrics| {
            tries(metrics) == [expected.as_str()] && metrics.contains("roomcast_webhooks_pending 0")
        })
        .await;
    assert!(receiver.rest().is_empty());
}

/// How many webhooks wait, and of how many rooms. 64 MB are allowed for 50,000.
const WAITING: usize = 20_000;
const STREAMS: usize = 200;
const MOST: u64 = 64_000_000 * WAITING as u64 / 50_000;
/// Messages whose acks may be awaited at a time.
const UNDER_WAY: usize = 256;

fn memory(server: &ServerProcess) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
}

/// Sends messages to all rooms in turn, and awaits all acks.
async fn send(client: &mut TestClient, numbers: std::ops::Range<usize>) {
    let mut under_way = VecDeque::new();
    for n in numbers {
        let room = format!("r{}", n % STREAMS);
        let message = json!({"roomName": room, "id": n.to_string(), "text": "x".repeat(350)});
        under_way.push_back(client.ask_later("message", message).await.unwrap());
        if under_way.len() == UNDER_WAY {
            let ack = client.ack(under_way.pop_front().unwrap()).await;
            assert_eq!(ack["success"], true, "{ack}");
        }
    }
    for asked in under_way {
        let ack = client.ack(asked).await;
        assert_eq!(ack["success"], true, "{ack}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_webhooks_wait_on_the_disk_while_messages_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::start().await;
    let answered = Arc::new(Semaphore::new(0));
    let held = answered.clone();
    receiver.answer(move |_| Reply::When(held.clone()));
    let mut command = process::command(&directory.path().join("roomcast.db"));
    command
        .env("WEBHOOK_URL", receiver.url())
        .env("WEBHOOK_SECRET", SECRET)
        .env("WEBHOOK_EVENTS", "message.created")
        .env("WEBHOOK_TIMEOUT", "10m")
        .env("HISTORY_SIZE", "20");
    let server = process::start(command).await;
    let mut client = server.connecting().join().await;
    // What the first messages of all rooms allocate is not what waits.
    send(&mut client, 0..2_000).await;
    let before = memory(&server);
    send(&mut client, 2_000..2_000 + WAITING).await;
    let grown = memory(&server).saturating_sub(before);
    assert!(grown < MOST, "{grown} bytes for {WAITING} webhooks");

    // Live delivery does not wait for the backend.
    let mut member = server.connecting().join().await;
    member.join("r7").await;
    client.ask("message", json!({"roomName": "r7", "id": "live"})).await;
    assert_eq!(member.next("message-reply").await["id"], "live");

    answered.add_permits(Semaphore::MAX_PERMITS);
    let mut newest = HashMap::<String, u64>::new();
    for _ in 0..=2_000 + WAITING {
        let told = receiver.next().await;
        let newest = newest.entry(told.data()["room"].as_str().unwrap().to_owned()).or_default();
        assert_eq!(told.data()["offset"], *newest + 1, "{:?}", told.data()["room"]);
        *newest += 1;
    }
    assert_eq!(newest.len(), STREAMS);
    assert!(receiver.rest().is_empty());
    assert_eq!(server.terminate().await, Some(0));
}
