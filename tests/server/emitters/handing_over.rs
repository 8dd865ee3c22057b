//! Nodes that stop, and nodes that are killed, while emitters send.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::json;

use super::{Emitter, configure, start};
use crate::{
    cluster::{eventually, management::node_with, on},
    support::{TestServer, redis::RedisServer},
};

/// The numbers of a room's messages, in their order.
async fn kept(node: &TestServer, room: &str) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        let after = numbers.len();
        let path = format!("/rooms/{room}/messages?limit=1000&after={after}");
        let page = node.get(&path).await.expect(200);
        let items = page["items"].as_array().unwrap().clone();
        numbers.extend(items.iter().map(|item| item["data"]["n"].as_u64().unwrap()));
        if page["complete"] == true {
            return numbers;
        }
    }
}

#[tokio::test]
async fn a_node_that_stops_hands_over_and_nothing_is_lost_or_doubled() {
    let (mut cluster, it) = start(3).await;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let emitting = tokio::spawn(async move {
        let mut n = 0;
        while !stopped.load(Ordering::Relaxed) {
            n += 1;
            it.emit("/", &["p"], json!(["news", {"n": n}])).await;
            it.add_event("/", &["s"], json!(["news", {"n": n}])).await;
            // No faster than they are carried out: what waits too long is dropped.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        n
    });
    // The first node has the turn.
    for _ in 0..2 {
        let before = kept(&cluster.nodes[0], "p").await.len();
        eventually("more messages", async || {
            kept(&cluster.nodes[0], "p").await.len() > before + 20
        })
        .await;
        cluster.nodes.remove(0).stop().await;
    }
    let before = kept(&cluster.nodes[0], "p").await.len();
    eventually("more messages", async || kept(&cluster.nodes[0], "p").await.len() > before + 20)
        .await;
    stop.store(true, Ordering::Relaxed);
    let sent = emitting.await.unwrap();
    for room in ["p", "s"] {
        let last = || kept(&cluster.nodes[0], room);
        eventually("the last one", async || last().await.last() == Some(&sent)).await;
        assert_eq!(last().await, (1..=sent).collect::<Vec<_>>(), "{room}");
    }
}

#[tokio::test]
async fn when_the_node_that_reads_is_killed_another_goes_on_with_the_stream() {
    let redis = RedisServer::start();
    let first = node_with(&redis, &[("EMITTER_PREFIX", "socket.io")]).await;
    let second = TestServer::with(|config| on(&redis, config, configure)).await;
    let it = Emitter::to(&redis).await;
    for n in 1..=500 {
        it.add_event("/", &["s"], json!(["news", {"n": n}])).await;
        if n == 250 {
            eventually("some of them", async || kept(&second, "s").await.len() > 50).await;
        }
    }
    first.kill().await;
    for n in 501..=600 {
        it.add_event("/", &["s"], json!(["news", {"n": n}])).await;
    }
    eventually("the last one", async || kept(&second, "s").await.last() == Some(&600)).await;
    // At least once: the batch that was under way is repeated, as a whole and in its order.
    let mut numbers = kept(&second, "s").await;
    let repeated = numbers.windows(2).filter(|pair| pair[1] <= pair[0]).count();
    assert!(repeated <= 1, "{numbers:?}");
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (1..=600).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_node_that_was_suspended_for_long_does_not_repeat_what_another_did() {
    let redis = RedisServer::start();
    let first = node_with(&redis, &[("EMITTER_PREFIX", "socket.io")]).await;
    let second = TestServer::with(|config| on(&redis, config, configure)).await;
    let it = Emitter::to(&redis).await;
    it.add_event("/", &["s"], json!(["news", {"n": 1}])).await;
    eventually("the first one", async || kept(&second, "s").await == [1]).await;
    first.signal("-STOP");
    for n in 2..=100 {
        it.add_event("/", &["s"], json!(["news", {"n": n}])).await;
    }
    eventually("the last one", async || kept(&second, "s").await.last() == Some(&100)).await;
    let publish = async |n: u64| it.emit("/", &["p"], json!(["news", {"n": n}])).await;
    // Both hear it, one of them later.
    for n in 1..=100 {
        publish(n).await;
    }
    first.signal("-CONT");
    for n in 101..=200 {
        publish(n).await;
    }
    it.add_event("/", &["s"], json!(["news", {"n": 101}])).await;
    eventually("the last one", async || kept(&second, "p").await.last() == Some(&200)).await;
    assert_eq!(kept(&second, "p").await, (1..=200).collect::<Vec<_>>());
    eventually("the last one", async || kept(&second, "s").await.last() == Some(&101)).await;
    let numbers = kept(&second, "s").await;
    // The batch that the suspended node had begun may be repeated.
    let repeated = numbers.windows(2).filter(|pair| pair[1] <= pair[0]).count();
    assert!(repeated <= 1, "{numbers:?}");
    drop(first);
}
