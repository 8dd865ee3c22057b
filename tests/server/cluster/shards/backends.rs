//! What backends see of several instances: their keys, and the webhooks that they are told.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use roomcast::config::Config;
use serde_json::json;

use super::{
    super::{DEADLINE, eventually, offset_of},
    Shards, one_of_each, rooms,
};
use crate::{
    support::{Answer, TestServer},
    webhooks::receiver::{Received, Receiver, secret},
};

async fn post(node: &TestServer, room: &str, key: &str) -> Answer {
    let body = json!({
        "id": "a3bb189e-8bf9-4888-9912-ace4e6543002", "clientId": "x", "clientName": "Back",
        "roomName": room, "messageType": "news", "message": "m", "timestamp": "2026-01-01T12:00:00.000Z",
    });
    let request = node.request(Method::POST, "/messages/broadcast").header("idempotency-key", key);
    Answer::of(request.json(&body)).await
}

#[tokio::test]
async fn a_backends_key_is_one_for_all_rooms() {
    let shards = Shards::start(3, 2).await;
    let all = rooms(24);
    let mut client = shards.nodes[0].client().await;
    for room in &all {
        assert_eq!(offset_of(&client.ask("message", json!({"roomName": room})).await), 1);
    }
    let rooms = one_of_each(&all, 3);
    for (at, room) in rooms.iter().enumerate() {
        let key = format!("key-{at}");
        let first = post(&shards.nodes[0], room, &key).await;
        assert_eq!(offset_of(&first.expect(201)), 2);
        for node in &shards.nodes {
            let again = post(node, room, &key).await;
            assert_eq!(again.header("idempotency-replayed"), Some("true"));
            assert_eq!(again.text, first.text);
            for other in rooms.iter().filter(|other| *other != room) {
                post(node, other, &key).await.refusal(422);
            }
        }
    }
    // Many at once, on both nodes: one message.
    let tries = (0..20).map(|n| post(&shards.nodes[n % 2], &rooms[2], "at once"));
    for answer in futures_util::future::join_all(tries).await {
        assert_eq!(offset_of(&answer.expect(201)), 3);
    }
    // A client's key belongs to its room.
    for room in &rooms {
        let message = json!({"roomName": room, "idempotencyKey": "mine"});
        let ack = client.ask("message", message.clone()).await;
        assert_eq!((&ack["success"], ack.get("duplicate")), (&json!(true), None), "{ack}");
        let again = client.ask("message", message).await;
        assert_eq!((&again["offset"], &again["duplicate"]), (&ack["offset"], &json!(true)));
    }
}

#[tokio::test]
async fn webhooks_come_from_all_instances_in_the_order_of_their_rooms() {
    let mut receiver = Receiver::start().await;
    let url = receiver.url();
    let configure = |config: &mut Config| {
        config.webhook_url = Some(url.clone());
        config.webhook_secret = secret();
        config.webhook_events = ["message.created", "room.*"].into_iter().collect();
    };
    let mut shards = Shards::with(3, 2, configure).await;
    let all = rooms(12);
    let mut client = shards.nodes[1].client().await;
    for room in &all {
        client.join(room).await;
        for n in 1..=3 {
            let ack = client.ask("message", json!({"roomName": room})).await;
            assert_eq!(offset_of(&ack), n);
        }
    }
    let rooms = one_of_each(&all, 3);
    let mut told = BTreeMap::<String, Vec<String>>::new();
    let expected = ["room.occupied", "room.joined", "1", "2", "3"];
    let take = |told: &mut BTreeMap<String, Vec<String>>, webhook: &Received| {
        let data = webhook.data();
        let what = match data["offset"].as_u64() {
            Some(offset) => offset.to_string(),
            None => webhook.kind().to_owned(),
        };
        told.entry(data["room"].as_str().unwrap().to_owned()).or_default().push(what);
    };
    while told.len() < all.len() || told.values().any(|told| told.len() < expected.len()) {
        take(&mut told, &receiver.next().await);
    }
    assert!(told.values().all(|told| *told == expected), "{told:?}");
    eventually("all are settled", async || {
        shards.nodes[0].get("/webhooks").await.expect(200)["pending"] == 0
    })
    .await;
    // While one instance is away, the others' go on; its own come when it is back.
    shards.redis[2].kill();
    shards.says(Some(2)).await;
    for room in &rooms[..2] {
        assert_eq!(offset_of(&client.ask("message", json!({"roomName": room})).await), 4);
        let mut told = BTreeMap::new();
        take(&mut told, &receiver.next().await);
        assert_eq!(told[room], ["4"]);
    }
    shards.redis[2].restart();
    shards.says(None).await;
    loop {
        let ack = client.ask("message", json!({"roomName": rooms[2]})).await;
        if ack["success"] == true {
            assert_eq!(offset_of(&ack), 4);
            break;
        }
    }
    let mut told = BTreeMap::new();
    take(&mut told, &receiver.next().await);
    assert_eq!(told[&rooms[2]], ["4"]);
    client.disconnect().await;
    let mut vacated = BTreeSet::new();
    let begun = std::time::Instant::now();
    while vacated.len() < all.len() {
        assert!(begun.elapsed() < DEADLINE, "{vacated:?}");
        let webhook = receiver.next().await;
        if webhook.kind() == "room.vacated" {
            vacated.insert(webhook.data()["room"].as_str().unwrap().to_owned());
        }
    }
}
