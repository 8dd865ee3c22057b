//! Slow is not stalled.

use std::time::Duration;

use serde_json::json;

use super::flow::slow_consumers;
use crate::support::{TestServer, peer::Peer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_is_cut_off_after_a_while() {
    let server = TestServer::with(|config| {
        config.history_size = 0;
        config.send_timeout = Duration::from_millis(300);
    })
    .await;
    let mut stalled = Peer::connect(server.address()).await;
    stalled.join("r").await;
    let mut publisher = server.client().await;
    let message = json!({"roomName": "r", "text": "x".repeat(500_000)});
    publisher.ask("message", message).await;
    assert_eq!(publisher.next("client-disconnected").await["clientId"], stalled.id);
    let figures = server.get("/metrics").await.text;
    assert!(figures.contains("slow_consumers_total{reason=\"send_timeout\"} 1"), "{figures}");
    stalled.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_slowly_but_steadily_gets_everything() {
    // Reading takes several times as long as a client may take nothing.
    let timeout = Duration::from_millis(800);
    let server = TestServer::with(|config| {
        config.history_size = 0;
        config.send_timeout = timeout;
    })
    .await;
    let mut slow = Peer::connect(server.address()).await;
    slow.join("r").await;
    let mut publisher = server.client().await;
    for n in 0..20 {
        let message = json!({"roomName": "r", "n": n, "text": "x".repeat(10_000)});
        publisher.ask("message", message).await;
    }
    // Its pace is what is tested: some 2 KB every 40 ms, 200 KB in four seconds.
    let mut slow = slow.reads(&[2048]);
    let mut pace = tokio::time::interval(Duration::from_millis(40));
    for n in 0..20 {
        for _ in 0..5 {
            pace.tick().await;
            slow.read_once().await;
        }
        assert_eq!(slow.next("message-reply").await["n"], n);
    }
    assert_eq!(slow_consumers(&server.get("/metrics").await.text), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_next_to_nothing_is_cut_off_though_it_reads() {
    let server = TestServer::with(|config| {
        config.history_size = 0;
        config.send_timeout = Duration::from_secs(2);
    })
    .await;
    let mut slow = Peer::connect(server.address()).await;
    slow.join("r").await;
    let mut publisher = server.client().await;
    // More than the kernel's buffers take.
    for _ in 0..4 {
        let message = json!({"roomName": "r", "text": "x".repeat(900_000)});
        publisher.ask("message", message).await;
    }
    // 10 KB a second, of 16 KB that it should.
    let mut slow = slow.reads(&[1000]);
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    while slow.try_read_once().await {
        pace.tick().await;
    }
    assert!(publisher.next("client-disconnected").await["clientId"].is_string());
    let figures = server.get("/metrics").await.text;
    assert!(figures.contains("slow_consumers_total{reason=\"send_timeout\"} 1"), "{figures}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_sends_more_than_is_read_is_told_to_wait() {
    let server = TestServer::with(|config| config.history_size = 0).await;
    let mut slow = Peer::connect(server.address()).await;
    slow.join("r").await;
    let mut slow = slow.reads(&[4096]);
    let body = |n: u64| {
        json!({
            "id": "3f2b1f6e-9c1e-4b57-8f0e-3f8f4d1c2a10", "clientId": "backend", "clientName": "b",
            "roomName": "r", "messageType": "t", "message": format!("{n} {}", "x".repeat(300_000)),
            "timestamp": "2026-01-01T00:00:00Z",
        })
    };
    let (told, mut stop) = tokio::sync::oneshot::channel();
    // It never ceases to read, and never catches up, until somebody was told to wait.
    let reading = tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        while stop.try_recv().is_err() {
            pace.tick().await;
            slow.read_once().await;
        }
        slow
    });
    let mut taken = 0;
    let refused = loop {
        let answer = server.post("/messages/broadcast", &body(taken)).await;
        if answer.status != 201 {
            break answer;
        }
        taken += 1;
    };
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert_eq!(refused.headers["retry-after"], "1");
    told.send(()).unwrap();
    let mut slow = reading.await.unwrap();
    for n in 0..taken {
        let got = slow.next("message-reply").await;
        assert!(got["message"].as_str().unwrap().starts_with(&format!("{n} ")));
    }
    server.post("/messages/broadcast", &body(taken)).await;
    let next = slow.next("message-reply").await;
    assert!(next["message"].as_str().unwrap().starts_with(&format!("{taken} ")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_is_paced_to_the_clients_reading() {
    let server = TestServer::with(|config| config.send_buffer = 200_000).await;
    let mut publisher = server.client().await;
    let all = 150;
    for n in 0..all {
        let message = json!({"roomName": "r", "n": n, "text": "x".repeat(10_000)});
        publisher.ask("message", message).await;
    }
    // Seven times as much as may be unsent, asked for by a join and once more by a page.
    let mut late = Peer::connect(server.address()).await.reads(&[1000, 7]);
    late.emit("join-room", &json!({"roomName": "r", "offset": 0})).await;
    late.emit("syncMessages", &json!({"roomId": "r", "limit": 1000})).await;
    for n in (0..all).chain(0..all) {
        assert_eq!(late.next("message-reply").await["n"], n);
    }
    assert_eq!(late.next("syncComplete").await["syncedMessageCount"], all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_reads_are_bounded_too() {
    let server = TestServer::with(|config| {
        config.send_buffer = 100_000;
        config.send_timeout = Duration::from_hours(1);
    })
    .await;
    let mut peer = Peer::open(server.address(), None).await;
    // Each is answered by the library, without a client to whom it would be sent.
    while peer.try_write("40/unknown,").await.is_ok() {}
    // Nobody else has noticed.
    let mut client = server.client().await;
    client.join("r").await;
    client.ask("message", json!({"roomName": "r", "omitSender": false})).await;
    client.next("message-reply").await;
}
