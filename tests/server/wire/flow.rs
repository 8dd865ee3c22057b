//! Several publishers, readers of all kinds: who reads gets everything, in order.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{TestClient, TestServer, peer::Peer};

/// How many messages each publisher sends.
const EACH: u64 = 120;

/// How many publishers there are.
const PUBLISHERS: u64 = 3;

/// The `n`th message of a publisher, of up to 60 KB.
fn message(from: u64, n: u64) -> Value {
    let size = [3, 130, 60_000, 1, 9_000, 70][usize::try_from((n + from) % 6).unwrap()];
    json!({"roomName": "r", "from": from, "n": n, "text": "x".repeat(size)})
}

async fn publish(server: &TestServer, from: u64) -> TestClient {
    let mut publisher = server.client().await;
    for n in 0..EACH {
        let ack = publisher.ask("message", message(from, n)).await;
        assert_eq!(ack["success"], true, "{ack}");
    }
    publisher
}

/// Reads everything, and returns who was heard in which order.
async fn listen(mut peer: Peer) -> Vec<(u64, u64)> {
    let mut heard = Vec::new();
    for _ in 0..EACH * PUBLISHERS {
        let got = peer.next("message-reply").await;
        let (from, n) = (got["from"].as_u64().unwrap(), got["n"].as_u64().unwrap());
        assert_eq!(got["text"], message(from, n)["text"]);
        heard.push((from, n));
    }
    heard
}

/// How many were cut off, whatever the reason.
pub fn slow_consumers(figures: &str) -> u64 {
    let counts = figures
        .lines()
        .filter(|line| line.starts_with("roomcast_slow_consumers_total{"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .collect::<Vec<_>>();
    assert_eq!(counts.len(), 3, "one for each reason: {figures}");
    counts.iter().sum()
}

async fn flood(history: u64) {
    let server = TestServer::with(|config| {
        config.history_size = history;
        // More than all of it: most readers set the pace, and the slowest ones need not keep up.
        config.send_buffer = 8_000_000;
        config.send_timeout = Duration::from_secs(3);
    })
    .await;
    let mut stalled = Peer::connect(server.address()).await;
    stalled.join("r").await;
    let mut listeners = Vec::new();
    for steps in [&[usize::MAX][..], &[1, 4096, 17], &[100], &[65_536, 3, 2000], &[1500, 1]] {
        let mut peer = Peer::connect(server.address()).await.reads(steps);
        peer.join("r").await;
        listeners.push(tokio::spawn(listen(peer)));
    }
    let publishers = tokio::join!(publish(&server, 0), publish(&server, 1), publish(&server, 2));
    let mut heard = Vec::new();
    for listener in listeners {
        heard.push(listener.await.unwrap());
    }
    for one in &heard {
        assert_eq!(*one, heard[0], "another order");
    }
    for from in 0..PUBLISHERS {
        let numbers = heard[0].iter().filter(|(who, _)| *who == from).map(|(_, n)| *n);
        assert!(numbers.eq(0..EACH), "a gap in what {from} sent");
    }
    // The one that read nothing is gone; the others left when they had heard everything.
    let (mut publisher, ..) = publishers;
    while publisher.next("client-disconnected").await["clientId"] != stalled.id {}
    stalled.drain().await;
    let figures = server.get("/metrics").await.text;
    assert_eq!(slow_consumers(&figures), 1, "{figures}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_who_reads_loses_anything_to_one_who_does_not() {
    Box::pin(flood(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nor_with_history() {
    Box::pin(flood(1000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_stalled_reader_has_unsent_is_bounded() {
    let limit = 1_000_000;
    let server = TestServer::with(|config| {
        config.history_size = 0;
        config.send_buffer = limit;
    })
    .await;
    let mut stalled = Peer::connect(server.address()).await;
    stalled.join("r").await;
    let mut publisher = server.client().await;
    let text = "x".repeat(50_000);
    let mut most = 0;
    // Until it is cut off, which takes some twenty messages.
    for _ in 0..100 {
        publisher.ask("message", json!({"roomName": "r", "text": text})).await;
        let client =
            server.app.registry.namespace("/").unwrap().client(&stalled.id.parse().unwrap());
        most = most.max(client.map_or(0, |client| client.sender.unsent()) as u64);
    }
    assert!(most > limit / 2, "{most}");
    assert!(most <= limit, "{most}");
    let gone = publisher.next("client-disconnected").await;
    assert_eq!(gone["clientId"], stalled.id);
    let figures = server.get("/metrics").await.text;
    assert!(figures.contains("slow_consumers_total{reason=\"send_buffer\"} 1"), "{figures}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_client_that_sends_without_waiting_is_held_back_and_not_refused() {
    let server = TestServer::with(|config| {
        config.history_size = 0;
        config.rate_limit_events = 0;
    })
    .await;
    let mut member = Peer::connect(server.address()).await.reads(&[4096]);
    member.join("r").await;
    let mut publisher = Peer::connect(server.address()).await;
    let all = 20_000_u64;
    let flood = tokio::spawn(async move {
        for n in 0..all {
            publisher.emit("message", &json!({"roomName": "r", "n": n})).await;
        }
        // An event of its own in between would be a refusal.
        publisher.emit("ping", &Value::Null).await;
        loop {
            let text = publisher.text().await;
            assert!(!text.contains("\"error\""), "{text}");
            if text.contains("\"pong\"") {
                return;
            }
        }
    });
    for n in 0..all {
        assert_eq!(member.next("message-reply").await["n"], n);
    }
    flood.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_wait_for_acknowledgements_gets_them_in_order_and_shares_commits() {
    let server = TestServer::with(|config| config.rate_limit_events = 0).await;
    let mut peer = Peer::connect(server.address()).await;
    let all = 1000_u64;
    let mut sent = String::new();
    for n in 0..all {
        // What is no message to a room has its place among them.
        let event = match n % 50 {
            10 => json!(["joinRoom", "r"]),
            20 => json!(["typingIndicator", {"roomId": "r", "isTyping": true}]),
            30 => json!(["message", {"roomId": "", "text": "refused"}]),
            40 => json!(["leaveRoom", "r"]),
            _ => json!(["sendMessage", {"roomId": "r", "content": n}]),
        };
        sent = format!("42{n}{event}");
        peer.write(&sent).await;
    }
    assert!(sent.contains("sendMessage"), "the last one is a message");
    let (mut acknowledged, mut offset) = (0, 0);
    while acknowledged < all {
        let text = peer.text().await;
        let Some(ack) = text.strip_prefix("43") else { continue };
        let (id, ack) = ack.split_at(ack.find('[').unwrap());
        assert_eq!(id.parse(), Ok(acknowledged), "{text}");
        let ack: Value = serde_json::from_str(ack).unwrap();
        if acknowledged % 50 % 10 != 0 || acknowledged % 50 == 0 {
            offset += 1;
            assert_eq!(ack[0]["offset"], offset, "{text}");
        }
        acknowledged += 1;
    }
    let figures = server.get("/metrics").await.text;
    let commits =
        figures.lines().find_map(|line| line.strip_prefix("roomcast_store_commits_total "));
    let commits: u64 = commits.unwrap().parse().unwrap();
    // Each wait for something else ends a batch, and no more than that should.
    assert!(commits < offset / 2, "{commits} commits for {offset} messages");
}
