//! Namespaces by pattern across nodes: open where a client is, the same on all of them.

use std::time::Duration;

use roomcast::config::Config;
use serde_json::json;

use super::{Cluster, eventually};

fn tenants(config: &mut Config) {
    config.namespaces = ["/", "/tenant-*"].map(String::from).to_vec();
    config.announce_connections = true;
    config.connection_state_recovery = Duration::from_mins(2);
}

#[tokio::test]
async fn a_namespace_that_a_pattern_allows_is_one_on_all_nodes() {
    let cluster = Cluster::with(2, tenants).await;
    let client = |node: usize, path: &str| cluster.connecting(node).namespace(path).join();
    let mut one = client(0, "/tenant-1").await;
    let mut two = client(1, "/tenant-1").await;
    let mut stranger = client(1, "/tenant-2").await;
    assert_eq!(one.next("client-connected").await["clientId"], one.id);
    assert_eq!(one.next("client-connected").await["clientId"], two.id);
    for client in [&mut one, &mut two, &mut stranger] {
        client.join("r").await;
    }
    stranger.forget().await;
    let ack = one.ask("message", json!({"room": "r", "n": 1})).await;
    assert_eq!(ack["offset"], 1, "{ack}");
    assert_eq!(two.next("message-reply").await["n"], 1);
    two.ask("message", json!({"text": "to everyone"})).await;
    assert_eq!(one.next("message").await["text"], "to everyone");
    assert!(stranger.names().await.is_empty());
    // Backends reach it by a node on which it is not open.
    let body = json!({"event": "news", "rooms": ["r"], "data": {"n": 2}, "namespace": "/tenant-2"});
    cluster.nodes[0].post("/events", &body).await.expect(201);
    assert_eq!(stranger.next("news").await["n"], 2);
    let body = json!({"event": "all", "data": 3, "namespace": "/tenant-2"});
    cluster.nodes[0].post("/events", &body).await.expect(201);
    assert_eq!(stranger.next("all").await, 3);
    let rooms = cluster.nodes[0].get("/rooms?namespace=/tenant-2").await.expect(200);
    assert_eq!(rooms["total"], 1, "{rooms}");
    stranger.disconnect().await;
    // Nothing of it remains where nobody is, but what the log has.
    eventually("the namespace closes", async || {
        cluster.nodes[1].app.registry.namespaces().len() == 2
    })
    .await;
    let mut late = client(0, "/tenant-2").await;
    let ack = late.ask("join-room", json!({"room": "r", "offset": 0})).await;
    assert_eq!(ack["missed"], 1, "{ack}");
}

#[tokio::test]
async fn a_session_comes_to_a_node_on_which_its_namespace_was_not_open() {
    let cluster = Cluster::with(2, tenants).await;
    let mut bob = cluster.client(0).await;
    let mut ann = cluster.connecting(0).namespace("/tenant-1").join().await;
    ann.join("r").await;
    ann.settle().await;
    ann.tear().await;
    eventually("it is away", async || {
        cluster.nodes[0].get("/metrics").await.text.contains("roomcast_connections_away 1")
    })
    .await;
    let body = json!({"event": "news", "rooms": ["r"], "data": {"n": 1}, "namespace": "/tenant-1"});
    cluster.nodes[1].post("/events", &body).await.expect(201);
    let body = json!({"event": "news", "data": {"n": 2}, "namespace": "/tenant-1"});
    cluster.nodes[1].post("/events", &body).await.expect(201);
    bob.settle().await;
    let back = cluster.connecting(1).namespace("/tenant-1").auth(ann.back()).knock().await;
    let mut back = back.unwrap();
    assert_eq!((&back.id, &back.pid), (&ann.id, &ann.pid));
    assert_eq!(back.next("news").await["n"], 1);
    assert_eq!(back.next("news").await["n"], 2);
    let wrong = cluster.connecting(0).namespace("/tenant-2").auth(back.back()).knock().await;
    assert_ne!(wrong.unwrap().id, back.id, "the session of another namespace");
}
