//! The list of instances changes: rooms move, and nodes that have another list are refused.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
};

use roomcast::config::{Config, Secret};
use serde_json::{Value, json};
use tokio::process::Command;

use super::{
    super::{assert_refused, eventually, offset_of},
    Shards, place_of, rooms,
};
use crate::support::{SECRET, TestClient, TestServer, process, redis::RedisServer, token_of};

/// With users, so that what is sent to one that is offline waits.
fn checked(config: &mut Config) {
    config.jwt_secret = Some(Secret::new(SECRET));
}

async fn user(node: &TestServer, name: &str) -> TestClient {
    node.connecting().auth(json!({"token": token_of(name)})).join().await
}

/// What a client knows of a room: its newest offset, and the epoch.
async fn positions(node: &TestServer, rooms: &[String]) -> BTreeMap<String, (u64, Value)> {
    let mut client = user(node, "reader").await;
    let mut positions = BTreeMap::new();
    for room in rooms {
        let ack = client.ask("join-room", json!(room)).await;
        positions.insert(room.clone(), (offset_of(&ack), ack["epoch"].clone()));
    }
    positions
}

/// Waits until each of the first instances has forgotten what is another's.
async fn tidy(shards: &Shards, instances: usize) {
    for redis in &shards.redis[..instances] {
        eventually("what moved is forgotten", async || {
            let (layout, tidy): (Option<String>, Option<String>) =
                redis.command("HMGET roomcast:log layout tidy");
            layout.is_some() && layout == tidy
        })
        .await;
    }
}

#[tokio::test]
async fn an_added_instance_takes_its_share_of_rooms_and_never_answers_with_a_wrong_offset() {
    let mut shards = Shards::with(3, 0, checked).await;
    shards.begin(1, 1, checked).await;
    let rooms = rooms(30);
    let mut writer = user(&shards.nodes[0], "ann").await;
    for n in 1..=4 {
        for room in &rooms {
            let ack = writer.ask("message", json!({"roomName": room, "n": n})).await;
            assert_eq!(offset_of(&ack), n);
        }
    }
    let queued = json!({"targetUserId": "zoe", "message": "m", "id": "kept"});
    assert_eq!(writer.ask("private-message", queued).await["queued"], true);
    let mut before = positions(&shards.nodes[0], &rooms).await;
    let mut known =
        rooms.iter().map(|room| HashSet::from([before[room].1.to_string()])).collect::<Vec<_>>();
    for (step, (was, instances)) in [(1, 2), (2, 3), (3, 2), (2, 3)].into_iter().enumerate() {
        shards.stop().await;
        shards.begin(instances, 1, checked).await;
        tidy(&shards, instances).await;
        let node = &shards.nodes[0];
        let mut reader = user(node, "reader").await;
        for (at, room) in rooms.iter().enumerate() {
            let (offset, epoch) = before[room].clone();
            let wish = json!({"roomName": room, "offset": offset - 2, "epoch": epoch});
            let ack = reader.ask("join-room", wish).await;
            let has_stayed = place_of(room, was) == place_of(room, instances);
            assert_eq!(
                (&ack["recovered"], ack["epoch"] == epoch),
                (&json!(has_stayed), has_stayed)
            );
            if has_stayed {
                assert_eq!(offset_of(&ack), offset);
                for _ in 0..2 {
                    reader.next("message-reply").await;
                }
            } else {
                // The third instance has missed a list: what it has is kept, under other epochs.
                let kept = if step == 3 { 2 } else { 0 };
                assert_eq!(offset_of(&ack), kept, "{ack}");
                assert!(known[at].insert(ack["epoch"].to_string()), "an epoch of before: {ack}");
            }
        }
        let mut writer = user(node, "ann").await;
        for room in &rooms {
            for _ in 0..2 {
                assert_eq!(writer.ask("message", json!({"roomName": room})).await["success"], true);
            }
        }
        before = positions(node, &rooms).await;
    }
    // What spans rooms has not moved.
    let mut zoe = user(&shards.nodes[0], "zoe").await;
    assert_eq!(zoe.next("private-message").await["id"], "kept");
}

/// The binary over these instances.
fn command(url: String) -> Command {
    let mut command = process::command(Path::new("unused"));
    command.env_remove("STORE_URL").env("REDIS_URL", url).env("NODE_ENV", "development");
    command
}

async fn health(node: &process::ServerProcess) -> Value {
    let answer = reqwest::get(format!("http://{}/health", node.address())).await.unwrap();
    answer.json().await.unwrap()
}

#[tokio::test]
async fn a_node_with_another_list_refuses_to_start_and_says_why() {
    let mut shards = Shards::start(2, 1).await;
    shards.redis.push(RedisServer::start());
    for (list, why) in [
        (&[0, 1, 2][..], "the list has 3, and that of the running nodes (1) has 2: stop all nodes"),
        (&[0, 2][..], "the list has other addresses than that of the running nodes (1)"),
        (&[1, 0][..], "in the same order on all nodes"),
        (&[0, 0][..], "instances 1 and 2 are the same"),
    ] {
        let urls = list.iter().map(|at: &usize| shards.redis[*at].url()).collect::<Vec<_>>();
        let (code, said) = process::refusal(command(urls.join(","))).await;
        assert_ne!(code, Some(0));
        assert!(said.contains("REDIS_URL") && said.contains(why), "{why}: {said}");
    }
    // A node with the list of one comes up, and stays apart.
    let alone = process::start({
        let mut command = command(shards.url(1));
        command.env("LOG_LEVEL", "info");
        command
    })
    .await;
    eventually("it says why", async || health(&alone).await.to_string().contains("stop all nodes"))
        .await;
    assert_eq!(shards.nodes[0].get("/stats").await.expect(200)["nodes"], 1);
    alone.kill().await;
    assert_eq!(shards.nodes[0].get("/health").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stood_still_while_an_instance_was_added_stores_nothing() {
    let mut shards = Shards::over((0..3).map(|_| RedisServer::persistent()).collect());
    let late = process::start(command(shards.url(2))).await;
    eventually("it is ready", async || health(&late).await["status"] == "ok").await;
    let rooms = rooms(24);
    let mut client = late.connecting().join().await;
    for room in &rooms {
        assert_eq!(offset_of(&client.ask("message", json!({"roomName": room})).await), 1);
    }
    late.signal("-STOP");
    eventually("its lease is over", async || {
        let (seconds, _): (u64, u64) = shards.redis[0].command("TIME");
        let live = format!("ZCOUNT roomcast:nodes {seconds}000 +inf");
        shards.redis[0].command::<u64>(&live) == 0
    })
    .await;
    shards.begin(3, 1, |_| {}).await;
    // It is sent messages before it goes on, which it stores at once, and others later.
    let mut asked = Vec::new();
    for room in &rooms {
        asked.push(client.ask_later("message", json!({"roomName": room})).await.unwrap());
    }
    late.signal("-CONT");
    for id in asked {
        assert_refused(&client.ack(id).await, "unavailable");
    }
    eventually("it says why", async || {
        health(&late).await.to_string().contains("that of the running nodes (1) has 3")
    })
    .await;
    for room in &rooms {
        assert_refused(&client.ask("message", json!({"roomName": room})).await, "unavailable");
    }
    let mut reader = shards.nodes[0].client().await;
    for room in &rooms {
        let ack = reader.ask("join-room", json!(room)).await;
        let has_stayed = place_of(room, 2) == place_of(room, 3);
        assert_eq!(offset_of(&ack), u64::from(has_stayed), "{ack}");
    }
    late.kill().await;
}
