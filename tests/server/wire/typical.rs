//! Publishers are held back by most of those who read, and not by a slow one among them.

use std::time::Duration;

use roomcast::config::Environment;
use serde_json::json;
use tokio::{
    task::JoinHandle,
    time::{Interval, interval},
};
use tokio_util::sync::CancellationToken;

use super::flow::slow_consumers;
use crate::support::{
    TestServer,
    peer::{Frame, Peer, event},
};

/// What a client may have unsent; with more than a quarter of it, it is behind.
const SEND_BUFFER: u64 = 300_000;

/// The size of a message.
const SIZE: usize = 5_000;

/// The size of one that takes a slow reader longer than a backend may wait.
const LARGE: usize = 300_000;

/// How many messages are less than may be unsent, with what the kernel holds.
const FEW: u64 = 50;

/// How many messages are much more.
const MANY: u64 = 200;

/// To whom messages go.
#[derive(Debug, Clone, Copy)]
enum Audience {
    Room,
    Everyone,
}

impl Audience {
    async fn publish(self, server: &TestServer, n: u64, size: usize) -> u16 {
        let text = "x".repeat(size);
        let data = json!({"n": n, "text": text});
        let body = match self {
            Self::Room => json!({"event": "news", "data": data, "rooms": ["r"]}),
            Self::Everyone => json!({"event": "news", "data": data}),
        };
        server.post("/events", &body).await.status.as_u16()
    }
}

async fn server(send_buffer: u64) -> TestServer {
    TestServer::with(|config| {
        config.history_size = 0;
        config.send_buffer = send_buffer;
        config.send_timeout = Duration::from_hours(1);
        config.announce_connections = false;
        // So that a backend needs no key.
        config.environment = Environment::Development;
    })
    .await
}

async fn members(server: &TestServer, count: usize) -> Vec<Peer> {
    let mut members = Vec::new();
    for _ in 0..count {
        let mut peer = Peer::connect(server.address()).await;
        peer.join("r").await;
        members.push(peer);
    }
    members
}

/// The number of the next message; `None` where the server has ended the connection.
async fn next(peer: &mut Peer) -> Option<u64> {
    loop {
        let Some(Frame::Text(text)) = peer.frame().await else { return None };
        if let Some((name, data)) = event(&text, "/")
            && name == "news"
        {
            return data["n"].as_u64();
        }
    }
}

async fn get(peer: &mut Peer, messages: std::ops::Range<u64>) {
    for n in messages {
        assert_eq!(next(peer).await, Some(n));
    }
}

/// Reads so many messages, as fast as they come.
fn read(peers: Vec<Peer>, messages: u64) -> Vec<JoinHandle<Peer>> {
    let read = |mut peer: Peer| async move {
        get(&mut peer, 0..messages).await;
        peer
    };
    peers.into_iter().map(|peer| tokio::spawn(read(peer))).collect()
}

/// Reads a little again and again, never ceases, and never catches up, until it is told to or the server
/// has cut it off.
fn read_slowly(peers: Vec<Peer>, stop: &CancellationToken) -> Vec<JoinHandle<Peer>> {
    let read = |mut peer: Peer, stop: CancellationToken, mut pace: Interval| async move {
        while !stop.is_cancelled() {
            pace.tick().await;
            if !peer.try_read_once().await {
                break;
            }
        }
        peer
    };
    let pace = || interval(Duration::from_millis(20));
    peers
        .into_iter()
        .map(|peer| tokio::spawn(read(peer.reads(&[1024]), stop.clone(), pace())))
        .collect()
}

/// Most read as fast as they can, and so many slowly.
async fn some_are_slow(audience: Audience, all: usize, slow: usize) {
    let server = server(SEND_BUFFER).await;
    let mut fast = members(&server, all).await;
    let slow = fast.split_off(all - slow);
    let stop = CancellationToken::new();
    let reading = read(fast, FEW);
    let slow = read_slowly(slow, &stop);
    for n in 0..FEW {
        assert_eq!(audience.publish(&server, n, SIZE).await, 201, "message {n}");
    }
    let mut fast = Vec::new();
    for peer in reading {
        fast.push(peer.await.unwrap());
    }
    // Slow as they are, they have lost nothing.
    stop.cancel();
    let mut slow_ones = Vec::new();
    for peer in slow {
        let mut peer = peer.await.unwrap().reads(&[usize::MAX]);
        get(&mut peer, 0..FEW).await;
        slow_ones.push(peer);
    }
    assert_eq!(slow_consumers(&server.get("/metrics").await.text), 0);

    // Now more is sent than they may have unsent.
    let reading = read(fast, MANY);
    let count = slow_ones.len() as u64;
    let slow = read_slowly(slow_ones, &CancellationToken::new());
    for n in 0..MANY {
        assert_eq!(audience.publish(&server, n, SIZE).await, 201, "message {n}");
    }
    for peer in reading {
        peer.await.unwrap();
    }
    for peer in slow {
        peer.await.unwrap();
    }
    assert_eq!(slow_consumers(&server.get("/metrics").await.text), count);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_slow_member_of_a_hundred_holds_nobody_up() {
    some_are_slow(Audience::Room, 100, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nor_do_three_of_ten() {
    some_are_slow(Audience::Room, 10, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nor_three_of_ten_of_a_namespace() {
    some_are_slow(Audience::Everyone, 10, 3).await;
}

/// Where most read slowly, they set the pace, and nobody loses anything.
async fn most_are_slow(audience: Audience) {
    let server = server(4_000_000).await;
    let mut members = members(&server, 10).await;
    let stop = CancellationToken::new();
    let slow = read_slowly(members.split_off(4), &stop);
    let fast = read(members, u64::MAX);
    let mut taken = 0;
    let status = loop {
        match audience.publish(&server, taken, LARGE).await {
            201 => taken += 1,
            status => break status,
        }
        assert!(taken < MANY, "nobody was told to wait");
    };
    assert_eq!(status, 503);
    stop.cancel();
    let mut caught_up = Vec::new();
    for peer in slow {
        let mut peer = peer.await.unwrap().reads(&[usize::MAX]);
        get(&mut peer, 0..taken).await;
        caught_up.push(peer);
    }
    assert_eq!(audience.publish(&server, taken, LARGE).await, 201);
    for peer in &mut caught_up {
        assert_eq!(next(peer).await, Some(taken), "what was refused was not sent");
    }
    assert_eq!(slow_consumers(&server.get("/metrics").await.text), 0);
    fast.iter().for_each(JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn most_members_of_a_room_set_its_pace() {
    most_are_slow(Audience::Room).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn most_clients_of_a_namespace_set_its_pace() {
    most_are_slow(Audience::Everyone).await;
}
