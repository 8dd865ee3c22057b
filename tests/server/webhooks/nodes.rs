//! Several nodes over one Redis: one delivers for all, and another goes on where it dies.

use std::collections::{BTreeMap, HashMap, HashSet};

use roomcast::config::{Environment, Secret};
use serde_json::{Value, json};

use super::receiver::{Received, Receiver, Reply, SECRET, secret};
use crate::support::{
    TestServer,
    process::{self, ServerProcess},
    redis::RedisServer,
};

/// A node in this process.
pub(super) async fn node(receiver: &Receiver, redis: &RedisServer) -> TestServer {
    let (url, redis) = (receiver.url(), Secret::new(redis.url()));
    TestServer::one_node(|config| {
        config.redis_url = Some(redis);
        "webhooks".clone_into(&mut config.redis_prefix);
        config.webhook_url = Some(url);
        config.webhook_secret = secret();
        config.webhook_events = ["*"].into_iter().collect();
        config.environment = Environment::Development;
        config.presence_grace = std::time::Duration::from_millis(100);
    })
    .await
}

/// A node as a process of its own.
async fn process_node(receiver: &Receiver, redis: &RedisServer) -> ServerProcess {
    let mut command = process::command(std::path::Path::new("unused.db"));
    command
        .env_remove("STORE_URL")
        .env("REDIS_URL", redis.url())
        .env("WEBHOOK_URL", receiver.url())
        .env("WEBHOOK_SECRET", SECRET)
        .env("WEBHOOK_EVENTS", "*")
        .env("PRESENCE_GRACE", "100ms");
    process::start(command).await
}

#[tokio::test]
async fn users_and_rooms_are_those_of_all_nodes() {
    let redis = RedisServer::start();
    let mut receiver = Receiver::start().await;
    let (one, other) = (node(&receiver, &redis).await, node(&receiver, &redis).await);
    let mut nodes = HashSet::new();
    while nodes.len() < 2 {
        nodes.insert(receiver.next_of("node.started").await.data()["node"].to_string());
    }
    let (mut ann, mut ann_again) = (one.client().await, other.client().await);
    ann.authenticate("ann").await;
    ann_again.authenticate("ann").await;
    ann.join("r").await;
    ann_again.join("r").await;
    let ack = ann_again.ask("message", json!({"roomName": "r", "n": 1})).await;
    assert_eq!(ack["offset"], 1);
    ann.disconnect().await;
    let mut told = Vec::new();
    // The one that stays is a client and a member still: nothing ends.
    loop {
        let next = receiver.next().await;
        let is_last = next.kind() == "client.disconnected";
        told.push((next.kind().to_owned(), next.data().clone()));
        if is_last {
            break;
        }
    }
    let of = |kind: &str, told: &[(String, Value)]| {
        told.iter().filter(|(it, _)| it == kind).map(|(_, data)| data.clone()).collect::<Vec<_>>()
    };
    ann_again.disconnect().await;
    while of("room.vacated", &told).is_empty() || of("user.offline", &told).is_empty() {
        let next = receiver.next().await;
        told.push((next.kind().to_owned(), next.data().clone()));
    }
    assert_eq!(of("user.online", &told), [json!({"userId": "ann"})]);
    assert_eq!(of("user.offline", &told), [json!({"userId": "ann"})]);
    let room = json!({"room": "r", "namespace": "/"});
    assert_eq!(of("room.occupied", &told), std::slice::from_ref(&room));
    assert_eq!(of("room.vacated", &told), [room]);
    let message = &of("message.created", &told)[0];
    assert_eq!((&message["offset"], &message["data"]["n"]), (&json!(1), &json!(1)), "{message}");
    for kind in ["room.joined", "room.left", "client.connected", "client.disconnected"] {
        assert_eq!(of(kind, &told).len(), 2, "{kind}: {told:?}");
    }
    // After a stop in order, no node is lost.
    one.stop().await;
    other.stop().await;
    assert!(receiver.rest().iter().all(|next| next.kind() != "node.lost"));
}

/// The messages' webhooks of each room, in the order in which they came for the first time.
fn in_order(received: &[Received]) -> BTreeMap<String, Vec<u64>> {
    let mut seen = HashSet::new();
    let mut rooms = BTreeMap::<_, Vec<_>>::new();
    for webhook in received.iter().filter(|it| it.kind() == "message.created") {
        if seen.insert(webhook.id.clone()) {
            let offset = webhook.data()["offset"].as_u64().unwrap();
            rooms
                .entry(webhook.data()["room"].as_str().unwrap().to_owned())
                .or_default()
                .push(offset);
        }
    }
    rooms
}

#[tokio::test]
async fn when_the_node_that_delivers_is_killed_another_goes_on_in_order() {
    const MESSAGES: u64 = 150;
    const ROOMS: [&str; 3] = ["a", "b", "c"];
    let redis = RedisServer::start();
    let mut receiver = Receiver::start().await;
    let first = process_node(&receiver, &redis).await;
    // It is the one that delivers.
    let started = receiver.next_of("node.started").await;
    let second = process_node(&receiver, &redis).await;
    receiver.next_of("node.started").await;
    let mut leaver = first.connecting().join().await;
    leaver.authenticate("leaver").await;
    leaver.join("left").await;
    let mut client = second.connecting().join().await;
    // The endpoint fails now and then, in the middle of everything.
    let mut seen = HashMap::<String, u32>::new();
    receiver.answer(move |webhook| {
        let tries = seen.entry(webhook.id.clone()).or_default();
        *tries += 1;
        let is_unlucky = *tries == 1 && webhook.data()["offset"] == 40;
        if is_unlucky { Reply::Later(1) } else { Reply::Status(204) }
    });
    let mut told = Vec::new();
    let mut first = Some(first);
    for number in 0..MESSAGES {
        for room in ROOMS {
            let ack = client.ask("message", json!({"roomName": room, "n": number})).await;
            assert_eq!(ack["offset"], number + 1, "{ack}");
        }
        if number == MESSAGES / 2 {
            // Some have come, and others are on their way.
            told.push(receiver.next_of("message.created").await);
            first.take().unwrap().kill().await;
        }
    }
    let is_done = |told: &[Received]| {
        let rooms = in_order(told);
        let all =
            ROOMS.iter().all(|room| rooms.get(*room).is_some_and(|it| it.len() as u64 == MESSAGES));
        let kinds = told.iter().map(Received::kind).collect::<HashSet<_>>();
        all && ["node.lost", "user.offline", "room.vacated"].iter().all(|kind| kinds.contains(kind))
    };
    while !is_done(&told) {
        told.push(receiver.next().await);
    }
    for offsets in in_order(&told).values() {
        assert!(offsets.is_sorted(), "{offsets:?}");
    }
    let of = |kind: &str| {
        let found = told.iter().filter(|it| it.kind() == kind);
        found.map(|it| it.data().clone()).collect::<Vec<_>>()
    };
    assert!(of("node.lost").iter().all(|lost| lost == started.data()), "{:?}", of("node.lost"));
    assert!(of("user.offline").iter().all(|user| user["userId"] == "leaver"));
    assert!(of("room.vacated").iter().all(|room| room["room"] == "left"));
}

#[tokio::test]
async fn a_node_that_stood_still_neither_sends_nor_settles_what_is_no_longer_its_own() {
    const ROOMS: [&str; 3] = ["a", "b", "c"];
    let redis = RedisServer::start();
    let mut receiver = Receiver::start().await;
    let first = process_node(&receiver, &redis).await;
    let started = receiver.next_of("node.started").await;
    let second = process_node(&receiver, &redis).await;
    receiver.next_of("node.started").await;
    // It stands still between the request and its answer, in the middle of a page of each room.
    let (id, mut stands_still) = (first.id().to_string(), false);
    receiver.answer(move |webhook| {
        if webhook.data()["offset"] == 5 && !stands_still {
            stands_still = true;
            let sent = std::process::Command::new("kill").args(["-STOP", &id]).status().unwrap();
            assert!(sent.success());
        }
        Reply::Status(204)
    });
    let mut client = second.connecting().join().await;
    let mut told = Vec::new();
    let mut count = 0;
    for until in [40, 60] {
        for number in count..until {
            for room in ROOMS {
                let ack = client.ask("message", json!({"roomName": room, "n": number})).await;
                assert_eq!(ack["offset"], number + 1, "{ack}");
            }
        }
        count = until;
        let is_done = |told: &[Received]| {
            let rooms = in_order(told);
            ROOMS.iter().all(|room| rooms.get(*room).is_some_and(|it| it.len() as u64 == until))
        };
        while !is_done(&told) {
            told.push(receiver.next().await);
        }
        if until == 40 {
            while !told.iter().any(|it| it.kind() == "node.lost") {
                told.push(receiver.next().await);
            }
            first.signal("-CONT");
            // It is among them again, and had the answer that it was waiting for.
            loop {
                let next = receiver.next().await;
                told.push(next.clone());
                if next.kind() == "node.started" {
                    assert_eq!(next.data(), started.data());
                    break;
                }
            }
        }
    }
    for offsets in in_order(&told).values() {
        assert!(offsets.is_sorted(), "{offsets:?}");
    }
    // What was under way when it stood still came twice, and nothing else.
    let count = told.iter().filter(|it| it.kind() == "message.created").count() as u64;
    assert!(count <= 60 * 3 + 3 * 16, "{count} webhooks for {} messages", 60 * 3);
}
