//! Private messages and offline queues across nodes.

use std::time::Duration;

use roomcast::config::{Config, Secret};
use serde_json::{Value, json};

use super::{Cluster, assert_refused, eventually};
use crate::support::{
    SECRET, TestClient,
    process::{self, ServerProcess},
    redis::RedisServer,
    token_of,
};

fn checked(config: &mut Config) {
    config.jwt_secret = Some(Secret::new(SECRET));
}

async fn user(cluster: &Cluster, node: usize, name: &str) -> TestClient {
    cluster.connecting(node).auth(json!({"token": token_of(name)})).join().await
}

async fn write(client: &mut TestClient, to: &str, id: &str) -> Value {
    client.ask("private-message", json!({"targetUserId": to, "message": "m", "id": id})).await
}

async fn queued(cluster: &Cluster, user: &str) -> Value {
    cluster.nodes[0].get(&format!("/users/{user}")).await.expect(200)["queued"].clone()
}

/// Waits until what waited for zoe is removed, which takes an answer of the client's.
async fn confirmed(cluster: &Cluster, zoe: &mut TestClient) {
    while queued(cluster, "zoe").await != 0 {
        zoe.settle().await;
    }
}

/// Waits until the user has so many clients for all nodes.
async fn online(cluster: &Cluster, user: &str, clients: usize) {
    eventually("the user is there", async || {
        let shown = cluster.nodes[0].get(&format!("/users/{user}")).await.expect(200);
        shown["connections"].as_array().unwrap().len() == clients
    })
    .await;
}

#[tokio::test]
async fn a_private_message_reaches_every_client_on_every_node() {
    let cluster = Cluster::with(3, checked).await;
    let mut ann = user(&cluster, 0, "ann").await;
    let mut zoes = Vec::new();
    for node in 0..3 {
        zoes.push(user(&cluster, node, "zoe").await);
    }
    online(&cluster, "zoe", 3).await;
    let ack = write(&mut ann, "zoe", "1").await;
    assert_eq!((&ack["delivered"], &ack["queued"]), (&json!(true), &json!(false)), "{ack}");
    for zoe in &mut zoes {
        let message = zoe.next("private-message").await;
        assert_eq!((&message["id"], &message["from"]), (&json!("1"), &json!("ann")));
    }
    // On one other node alone.
    zoes.swap_remove(0).disconnect().await;
    zoes.swap_remove(0).disconnect().await;
    online(&cluster, "zoe", 1).await;
    assert_eq!(write(&mut ann, "zoe", "2").await["delivered"], true);
    assert_eq!(zoes[0].next("private-message").await["id"], "2");
    // Someone that is left out is not offline, wherever it is.
    let body = json!({"event": "e", "data": {}, "users": ["zoe"], "except": {"users": ["zoe"]}});
    assert_eq!(cluster.nodes[0].post("/events", &body).await.expect(201)["queued"], json!([]));
}

#[tokio::test]
async fn what_waits_for_a_user_comes_on_whichever_node_it_connects_to() {
    let cluster = Cluster::with(2, |config| {
        checked(config);
        config.queue_confirm = Duration::from_millis(200);
    })
    .await;
    let mut ann = user(&cluster, 0, "ann").await;
    for id in ["1", "2", "3"] {
        let ack = write(&mut ann, "zoe", id).await;
        assert_eq!((&ack["delivered"], &ack["queued"]), (&json!(false), &json!(true)), "{ack}");
    }
    assert_eq!(queued(&cluster, "zoe").await, 3);
    let mut zoe = user(&cluster, 1, "zoe").await;
    for id in ["1", "2", "3"] {
        assert_eq!(zoe.next("private-message").await["id"], id);
    }
    confirmed(&cluster, &mut zoe).await;
}

#[tokio::test]
async fn one_node_drains_a_queue_and_the_newest_client_gets_it() {
    let cluster = Cluster::with(2, |config| {
        checked(config);
        // Longer than everything here takes, but the end.
        config.queue_confirm = Duration::from_secs(4);
    })
    .await;
    let mut ann = user(&cluster, 0, "ann").await;
    write(&mut ann, "zoe", "1").await;
    let mut first = user(&cluster, 0, "zoe").await;
    first.next("private-message").await;
    // The older one may have lost its network without a word.
    let mut second = user(&cluster, 1, "zoe").await;
    assert_eq!(second.next("private-message").await["id"], "1");
    online(&cluster, "zoe", 2).await;
    // It has not held its connection: what it got counts for nothing.
    second.disconnect().await;
    online(&cluster, "zoe", 1).await;
    assert_eq!(queued(&cluster, "zoe").await, 1);
    let mut third = user(&cluster, 1, "zoe").await;
    assert_eq!(third.next("private-message").await["id"], "1");
    confirmed(&cluster, &mut third).await;
    // What is new goes to both.
    write(&mut ann, "zoe", "2").await;
    assert_eq!(third.next("private-message").await["id"], "2");
    while first.next("private-message").await["id"] != "2" {}
}

#[tokio::test]
async fn without_authentication_nobody_can_be_written_to_who_is_not_there() {
    let cluster = Cluster::start(2).await;
    let [mut ann, mut zoe] = cluster.clients().await;
    assert_refused(&write(&mut ann, "zoe", "1").await, "not_found");
    zoe.authenticate("zoe").await;
    let ack = write(&mut ann, "zoe", "2").await;
    assert_eq!(ack["delivered"], true, "as soon as it is acknowledged that it is there: {ack}");
    assert_eq!(zoe.next("private-message").await["id"], "2");
}

#[tokio::test]
async fn a_node_that_was_stopped_for_long_does_not_remove_what_another_one_delivers() {
    let redis = RedisServer::start();
    let start = async || {
        let directory = tempfile::tempdir().unwrap();
        let mut command = process::command(&directory.path().join("store"));
        command.env("REDIS_URL", redis.url()).env("JWT_SECRET", SECRET);
        command.env("QUEUE_CONFIRM", "100ms");
        process::start(command).await
    };
    let (first, second) = (start().await, start().await);
    let join = async |node: &ServerProcess, name: &str| {
        node.connecting().auth(json!({"token": token_of(name)})).join().await
    };
    let mut ann = join(&second, "ann").await;
    assert_eq!(write(&mut ann, "zoe", "1").await["queued"], true);
    // What it answers comes when its node is stopped.
    let mut older = join(&first, "zoe").await;
    older.fall_silent();
    assert_eq!(older.next("private-message").await["id"], "1");
    first.signal("-STOP");
    older.speak().await;
    // As after some seconds.
    let _expired: bool = redis.command("PEXPIRE roomcast:claim:zoe 1");
    let mut newer = join(&second, "zoe").await;
    newer.fall_silent();
    assert_eq!(newer.next("private-message").await["id"], "1");
    first.signal("-CONT");
    for _ in 0..10 {
        older.settle().await;
    }
    // It has not answered, so that nobody is known to have the message, and the older one gets it again.
    newer.disconnect().await;
    assert_eq!(older.next("private-message").await["id"], "1");
}
