//! An endpoint that fails, in every way.

use std::time::{Duration, Instant};

use serde_json::json;

use super::receiver::{Receiver, Reply};

#[tokio::test]
async fn what_fails_is_sent_again_and_delays_only_its_own_room() {
    let mut receiver = Receiver::start().await;
    let server = receiver
        .server(|config| config.webhook_events = ["message.created"].into_iter().collect())
        .await;
    let mut failures = vec![Reply::Status(500), Reply::Redirect];
    receiver.answer(move |received| match received.data()["room"].as_str() {
        Some("bad") => failures.pop().unwrap_or(Reply::Status(200)),
        _ => Reply::Status(200),
    });
    let mut client = server.client().await;
    for id in ["1", "2"] {
        client.ask("message", json!({"roomName": "bad", "id": id})).await;
    }
    let first = receiver.next().await;
    for id in ["3", "4"] {
        client.ask("message", json!({"roomName": "good", "id": id})).await;
    }
    for id in ["3", "4"] {
        assert_eq!(receiver.next().await.data()["id"], id);
    }
    // After 5 s; the next one after 30 s more would be too long for a test.
    let again = receiver.next().await;
    assert_eq!((&again.id, &again.body), (&first.id, &first.body), "it is the same webhook");
    assert_eq!(again.data()["id"], "1");
    server
        .until(|metrics| {
            metrics.contains("roomcast_webhook_requests_total{outcome=\"delivered\"} 2")
                && metrics.contains("roomcast_webhook_requests_total{outcome=\"status\"} 2")
                && metrics.contains("roomcast_webhooks_pending 2")
        })
        .await;
}

#[tokio::test]
async fn the_endpoint_says_when_it_has_time() {
    let mut receiver = Receiver::start().await;
    let server = receiver.server(|_| {}).await;
    receiver.next_of("node.started").await;
    let mut replies = vec![Reply::Status(200), Reply::Later(2)];
    receiver.answer(move |received| match received.kind() {
        "room.joined" => replies.pop().unwrap_or(Reply::Status(200)),
        _ => Reply::Status(200),
    });
    let mut client = server.client().await;
    client.join("r").await;
    let first = receiver.next_of("room.joined").await;
    let begun = Instant::now();
    let again = receiver.next_of("room.joined").await;
    assert_eq!(first.id, again.id);
    // Never earlier than asked for; how much later a machine under load makes it, nobody knows.
    assert!(begun.elapsed() >= Duration::from_millis(1_900), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_left_alone_until_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("roomcast.db");
    let mut receiver = Receiver::start().await;
    let configure = |config: &mut roomcast::config::Config| {
        config.store_url = roomcast::config::StoreUrl::Sqlite(path.clone());
        config.webhook_events = ["message.created"].into_iter().collect();
        config.shutdown_grace = Duration::from_secs(1);
    };
    receiver.answer(|_| Reply::Status(410));
    let server = receiver.server(configure).await;
    let mut client = server.client().await;
    client.ask("message", json!({"roomName": "a", "id": "1"})).await;
    receiver.next().await;
    server.until(|metrics| metrics.contains("roomcast_webhooks_off 1")).await;
    client.ask("message", json!({"roomName": "b", "id": "2"})).await;
    server.until(|metrics| metrics.contains("roomcast_webhooks_pending 2")).await;
    server.stop().await;
    assert!(receiver.rest().is_empty());

    receiver.answer(|_| Reply::Status(200));
    let server = receiver.server(configure).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(receiver.next().await.data()["id"].as_str().unwrap().to_owned());
    }
    ids.sort_unstable();
    assert_eq!(ids, ["1", "2"]);
    server.until(|metrics| metrics.contains("roomcast_webhooks_pending 0")).await;
}

#[tokio::test]
async fn an_endpoint_that_hangs_or_is_killed_gets_everything_in_the_end() {
    let mut receiver = Receiver::start().await;
    let server = receiver
        .server(|config| {
            config.webhook_events = ["message.created"].into_iter().collect();
            config.webhook_timeout = Duration::from_millis(300);
        })
        .await;
    let mut hangs = 1;
    receiver.answer(move |_| {
        hangs -= 1;
        if hangs == 0 { Reply::Hang } else { Reply::Status(200) }
    });
    let mut client = server.client().await;
    client.ask("message", json!({"roomName": "a", "id": "1"})).await;
    let first = receiver.next().await;
    server
        .until(|metrics| metrics.contains("roomcast_webhook_requests_total{outcome=\"timeout\"} 1"))
        .await;
    receiver.kill().await;
    client.ask("message", json!({"roomName": "b", "id": "2"})).await;
    client.ask("message", json!({"roomName": "b", "id": "3"})).await;
    server
        .until(|metrics| {
            metrics.contains("roomcast_webhook_requests_total{outcome=\"connection\"}")
        })
        .await;
    receiver.start_again().await;
    let mut rooms = [Vec::new(), Vec::new()];
    while rooms[0].is_empty() || rooms[1].len() < 2 {
        let told = receiver.next().await;
        let room = usize::from(told.data()["room"] == "b");
        rooms[room].push(told.data()["id"].as_str().unwrap().to_owned());
        if room == 0 {
            assert_eq!(told.id, first.id);
        }
    }
    assert_eq!(rooms, [vec!["1"], vec!["2", "3"]]);
}

#[tokio::test]
async fn a_full_outbox_keeps_the_messages() {
    let receiver = Receiver::start().await;
    receiver.answer(|_| Reply::Hang);
    let server = receiver.server(|config| config.webhook_queue = 20).await;
    let mut client = server.client().await;
    client.ask("message", json!({"roomName": "r", "id": "1"})).await;
    for n in 0..40 {
        client.join(&format!("r{n}")).await;
    }
    server
        .until(|metrics| {
            metrics.contains("roomcast_webhooks_pending 20")
                && !metrics.contains("roomcast_webhooks_dropped_total 0")
        })
        .await;
    let store = server.app.store.as_ref().unwrap();
    let room = roomcast::store::RoomKey {
        namespace: "/".into(),
        room: roomcast::protocol::names::RoomName::parse("r").unwrap(),
    };
    let stream = roomcast::store::Stream::of_room(&room);
    assert_eq!(store.webhooks(stream, 10, usize::MAX).await.unwrap().len(), 1);
}
