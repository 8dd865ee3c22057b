//! What backends see and do, across nodes.

use serde_json::json;

use super::Cluster;
use crate::support::{
    TestServer,
    process::{self, ServerProcess},
    redis::RedisServer,
};

#[tokio::test]
async fn lists_are_of_all_nodes() {
    let cluster = Cluster::start(3).await;
    let mut clients = Vec::new();
    for n in 0..7 {
        let mut client = cluster.client(n % 3).await;
        client.authenticate(&format!("user-{}", n % 2)).await;
        client.join("shared").await;
        client.join(&format!("room-{n}")).await;
        clients.push(client);
    }
    for node in &cluster.nodes {
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = node.get(&format!("/connections?limit=2{cursor}")).await.expect(200);
            assert_eq!((&page["total"], page.get("partial")), (&json!(7), None), "{page}");
            let items = page["items"].as_array().unwrap().iter();
            seen.extend(items.map(|item| item["id"].as_str().unwrap().to_owned()));
            let Some(next) = page["nextCursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        let mut ids = clients.iter().map(|client| client.id.clone()).collect::<Vec<_>>();
        ids.sort_unstable();
        assert_eq!(seen, ids, "in the order of their ids");

        let rooms = node.get("/rooms?limit=3").await.expect(200);
        assert_eq!(rooms["total"], 8);
        let names = rooms["items"].as_array().unwrap().iter().map(|room| &room["name"]);
        assert_eq!(names.collect::<Vec<_>>(), ["room-0", "room-1", "room-2"]);
        let room = node.get("/rooms/shared").await.expect(200);
        assert_eq!(room["connections"], 7);
        assert_eq!(room["members"].as_array().unwrap().len(), 7);
        let of_user = node.get("/connections?userId=user-1&room=shared").await.expect(200);
        assert_eq!(of_user["total"], 3);
        let stats = node.get("/stats").await.expect(200);
        let counts = ["connections", "rooms", "users", "nodes"].map(|name| stats[name].clone());
        assert_eq!(counts, [json!(7), json!(8), json!(2), json!(3)], "{stats}");
        assert_eq!(node.get("/rooms/nobody").await.status, 404);
    }
}

#[tokio::test]
async fn a_client_is_found_wherever_it_is() {
    let cluster = Cluster::start(2).await;
    let [mut ann, mut ben] = cluster.clients().await;
    ben.join("r").await;
    let shown = cluster.nodes[0].get(&format!("/connections/{}", ben.id)).await.expect(200);
    assert_eq!((&shown["id"], &shown["rooms"]), (&json!(ben.id), &json!(["r"])));
    let of_node = cluster.nodes[1].get(&format!("/connections/{}", ben.id)).await.expect(200);
    assert_eq!(shown["node"], of_node["node"]);
    let body = json!({
        "id": "2f1e4c9e-6c0d-4f4e-9a50-0d6f2b8a6b11", "clientId": "c", "clientName": "x", "roomName": "r",
        "messageType": "t", "message": "m", "timestamp": "2026-01-01T00:00:00Z",
    });
    let path = |id: &str| format!("/messages/{id}?eventName=hello");
    cluster.nodes[0].post(&path(&ben.id), &body).await.expect(201);
    assert_eq!(ben.next("hello").await, body);
    let elsewhere = format!("{}&namespace=/chat", path(&ben.id));
    assert_eq!(cluster.nodes[0].post(&elsewhere, &body).await.status, 404);
    assert_eq!(cluster.nodes[0].delete(&format!("/connections/{}", ben.id)).await.status, 204);
    let gone = ben.id.clone();
    ben.ended().await;
    ann.settle().await;
    for node in &cluster.nodes {
        assert_eq!(node.post(&path(&gone), &body).await.status, 404);
        assert_eq!(node.get(&format!("/connections/{gone}")).await.status, 404);
        assert_eq!(node.delete(&format!("/connections/{gone}")).await.status, 404);
    }
}

/// A node as a process of its own.
pub async fn node(redis: &RedisServer) -> ServerProcess {
    node_with(redis, &[]).await
}

/// The same with these settings besides.
pub async fn node_with(redis: &RedisServer, settings: &[(&str, &str)]) -> ServerProcess {
    let mut command = process::command(std::path::Path::new("unused"));
    command
        .env_remove("STORE_URL")
        .env("REDIS_URL", redis.url())
        .env("NODE_ENV", "development")
        .env("LOG_LEVEL", "info")
        .env("ANNOUNCE_CONNECTIONS", "false")
        .envs(settings.iter().copied());
    process::start(command).await
}

fn signal(process: &ServerProcess, name: &str) {
    let id = process.id().to_string();
    let sent = std::process::Command::new("kill").args([name, &id]).status().unwrap();
    assert!(sent.success());
}

#[tokio::test]
async fn nothing_is_silently_partial() {
    let cluster = Cluster::start(1).await;
    let here = &cluster.nodes[0];
    let other = node(&cluster.redis).await;
    let ann = cluster.client(0).await;
    let ben = other.connecting().join().await;
    let all = here.get("/connections").await.expect(200);
    assert_eq!((&all["total"], all.get("partial")), (&json!(2), None));
    let name = |node: &TestServer| node.app.node.clone();
    let of_ben = here.get(&format!("/connections/{}", ben.id)).await.expect(200)["node"].clone();

    // It holds its lease, and says nothing.
    signal(&other, "-STOP");
    super::eventually("it stands still", async || {
        here.get("/stats").await.expect(200).get("partial").is_some()
    })
    .await;
    for path in ["/connections", "/rooms", "/stats"] {
        let shown = here.get(path).await.expect(200);
        assert_eq!(
            (&shown["partial"], &shown["unreachable"]),
            (&json!(true), &json!([of_ben])),
            "{path}: {shown}"
        );
    }
    let missing = here.get(&format!("/connections/{}", ben.id)).await;
    assert_eq!(missing.status, 503, "it may well be there: {}", missing.text);
    assert_eq!(here.get("/rooms/somewhere").await.status, 503);
    let found = here.get(&format!("/connections/{}", ann.id)).await.expect(200);
    assert_eq!(found["node"], name(here));
    assert_eq!(here.get("/stats").await.expect(200)["nodes"], 2);

    signal(&other, "-CONT");
    super::eventually("it answers again", async || {
        let all = here.get("/connections").await.expect(200);
        all["total"] == 2 && all.get("partial").is_none()
    })
    .await;
    other.kill().await;
}

#[tokio::test]
async fn an_event_to_clients_says_which_are_on_no_node() {
    let cluster = Cluster::start(2).await;
    let (mut here, mut there) = (cluster.client(0).await, cluster.client(1).await);
    let body =
        json!({"event": "news", "data": 1, "clients": [here.id, there.id, "gone-gone-gone-gone-"]});
    let sent = cluster.nodes[0].post("/events", &body).await.expect(201);
    assert_eq!(sent["notFound"], json!(["gone-gone-gone-gone-"]));
    assert_eq!(here.next("news").await, 1);
    assert_eq!(there.next("news").await, 1);
}
