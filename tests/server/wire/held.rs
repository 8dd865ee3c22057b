//! What is held for one client is bounded, whatever it asks for and whatever it sends.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::support::{
    TestClient, TestServer,
    peer::{Peer, masked},
};

/// A server that waits for ever for whoever does not read, and takes as many events as this machine can send.
async fn patient() -> TestServer {
    TestServer::with(|config| {
        config.send_timeout = Duration::from_hours(1);
        config.rate_limit_events = 0;
    })
    .await
}

/// Fills the room `r` with messages of 100 KB.
async fn fill(server: &TestServer, messages: u64) -> TestClient {
    let mut publisher = server.client().await;
    for n in 0..messages {
        let message = json!({"roomName": "r", "n": n, "text": "x".repeat(100_000)});
        assert_eq!(publisher.ask("message", message).await["success"], true);
    }
    publisher
}

fn largest(server: &TestServer) -> usize {
    server.app.memory.totals().largest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_read_from_the_log_as_the_client_reads_it() {
    let server = patient().await;
    let mut publisher = fill(&server, 60).await;
    let mut readers = Vec::new();
    for _ in 0..4 {
        let mut reader = Peer::connect(server.address()).await;
        reader.emit("syncMessages", &json!({"roomId": "r", "limit": 1000})).await;
        readers.push(reader);
    }
    for n in 0..60 {
        for reader in &mut readers {
            assert_eq!(reader.next("message-reply").await["n"], n);
            // What may be unsent, a message beyond that, and a piece.
            assert!(largest(&server) < 700_000, "{}", largest(&server));
        }
        if n == 0 {
            // What comes meanwhile belongs to the next page.
            let message = json!({"roomName": "r", "n": 60});
            assert_eq!(publisher.ask("message", message).await["offset"], 61);
        }
    }
    for reader in &mut readers {
        let done = reader.next("syncComplete").await;
        assert_eq!((&done["syncedMessageCount"], &done["offset"]), (&json!(60), &json!(60)));
        assert_eq!(done["complete"], true);
        reader.emit("syncMessages", &json!({"roomId": "r", "offset": 60})).await;
        assert_eq!(reader.next("message-reply").await["n"], 60);
        assert_eq!(reader.next("syncComplete").await["syncedMessageCount"], 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_sends_more_than_is_processed_is_not_read_from() {
    const EVENTS: usize = 60;
    let server = patient().await;
    // More than the kernel's buffers take.
    fill(&server, 70).await;
    let mut busy = Peer::connect(server.address()).await;
    // As long as nobody reads this page, all that follows has to wait.
    busy.emit("syncMessages", &json!({"roomId": "r"})).await;
    let mut writer = busy.writer();
    let events = tokio::spawn(async move {
        for n in 0..EVENTS {
            let event = json!(["heartbeat", {"text": "x".repeat(900_000)}]);
            writer.write_all(&masked(&format!("42{n}{event}"))).await.unwrap();
        }
    });
    let limit = server.app.memory.limits().incoming;
    let mut other = server.client().await;
    while largest(&server) < limit / 4 {
        other.settle().await;
    }
    // It has as much time as others need for all this.
    for _ in 0..200 {
        other.settle().await;
        assert!(largest(&server) <= limit, "{}", largest(&server));
    }
    assert!(!events.is_finished(), "54 MB were taken");
    let mut answers = 0;
    while answers < EVENTS {
        answers += usize::from(busy.text().await.starts_with("43"));
        assert!(largest(&server) <= limit, "{}", largest(&server));
    }
    events.await.unwrap();
    // Nothing is left but what is kept of the handshakes.
    server.until(|_| largest(&server) < 1000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_given_back_when_a_client_goes_in_the_middle() {
    let server = patient().await;
    fill(&server, 20).await;
    for _ in 0..4 {
        let mut hasty = Peer::connect(server.address()).await;
        for _ in 0..10 {
            hasty.emit("syncMessages", &json!({"roomId": "r", "text": "x".repeat(50_000)})).await;
        }
        hasty.next("message-reply").await;
    }
    server.until(|figures| figures.contains("\nroomcast_held_bytes 0\n")).await;
    server.until(|figures| figures.contains("\nroomcast_events_waiting 0\n")).await;
    let mut client = server.client().await;
    assert_eq!(client.ask("ping", Value::Null).await["success"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_come_of_an_event_is_charged_until_it_is_whole() {
    let server = patient().await;
    let mut peer = Peer::connect(server.address()).await;
    let mut other = server.client().await;
    let event = "452-0[\"message\",{\"roomName\":\"r\",\"a\":{\"_placeholder\":true,\"num\":0},\
                 \"b\":{\"_placeholder\":true,\"num\":1}}]";
    peer.write(event).await;
    peer.write_binary(&vec![7; 300_000]).await;
    while largest(&server) < 300_000 {
        other.settle().await;
    }
    // A pong in between is no attachment.
    peer.write("3").await;
    peer.write_binary(&[8; 10]).await;
    while !peer.text().await.starts_with("430[{\"success\":true") {}
    // Nothing is left but what is kept of the handshakes.
    server.until(|_| largest(&server) < 1000).await;
    // Who announces attachments and goes on without them is not waited for.
    peer.write("451-[\"message\",{\"roomName\":\"r\",\"a\":{\"_placeholder\":true,\"num\":0}}]")
        .await;
    for _ in 0..3 {
        // The server may have hung up already.
        let _sent = peer.try_write("3").await;
    }
    peer.drain().await;
    server.until(|figures| figures.contains("\nroomcast_sessions 1\n")).await;
}
