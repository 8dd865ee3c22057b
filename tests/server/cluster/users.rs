//! Users and their presence across nodes.

use std::time::Duration;

use roomcast::config::{PresenceScope, Secret};
use serde_json::json;

use super::Cluster;
use crate::support::{SECRET, TestClient, token_of};

const NOTHING: [&str; 0] = [];

/// For how many seconds what Redis has of a user is kept, once its last client has gone.
async fn kept_for(cluster: &Cluster, user: &str) -> i64 {
    let ttl = || cluster.redis.command::<i64>(&format!("TTL roomcast:user:{user}"));
    super::eventually("it has gone", async || ttl() > 0).await;
    ttl()
}

#[tokio::test]
async fn a_user_that_anybody_may_claim_to_be_leaves_nothing_behind_for_long() {
    let cluster = Cluster::with(1, |config| config.presence_grace = Duration::ZERO).await;
    let mut client = cluster.client(0).await;
    for n in 0..50 {
        client.authenticate(&format!("invented-{n}")).await;
    }
    client.disconnect().await;
    for n in 0..50 {
        assert!(kept_for(&cluster, &format!("invented-{n}")).await <= 60);
    }
    let cluster = Cluster::with(1, |config| {
        config.presence_grace = Duration::ZERO;
        config.jwt_secret = Some(Secret::new(SECRET));
    })
    .await;
    let token = json!({"token": token_of("zoe")});
    cluster.connecting(0).auth(token).join().await.disconnect().await;
    assert!(kept_for(&cluster, "zoe").await > 29 * 86_400, "its last activity is remembered");
}

#[tokio::test]
async fn a_user_comes_and_goes_once_however_many_nodes_it_is_on() {
    let cluster = Cluster::with(2, |config| config.presence_grace = Duration::ZERO).await;
    let [mut ann, mut ben, mut phone, mut laptop] = cluster.clients().await;
    phone.authenticate("zoe").await;
    for client in [&mut ann, &mut ben] {
        assert_eq!(client.next("user-online").await["userId"], "zoe");
    }
    assert_eq!(phone.names().await, ["authenticated"], "it knows");
    laptop.authenticate("zoe").await;
    for client in [&mut ann, &mut ben] {
        assert_eq!(client.names().await, NOTHING);
    }
    let shown = cluster.nodes[1].get("/users/zoe").await.expect(200);
    assert_eq!((&shown["online"], &shown["status"]), (&json!(true), &json!("online")));
    let mut connections = [phone.id.clone(), laptop.id.clone()];
    connections.sort();
    let mut listed = shown["connections"].as_array().unwrap().clone();
    listed.sort_by_key(ToString::to_string);
    assert_eq!(json!(listed), json!(connections));

    laptop.ask("presenceUpdate", json!({"status": "busy"})).await;
    for client in [&mut ann, &mut ben, &mut phone, &mut laptop] {
        let update = client.next("presenceUpdate").await;
        assert_eq!((&update["userId"], &update["status"]), (&json!("zoe"), &json!("busy")));
    }
    phone.disconnect().await;
    super::eventually("the phone is gone", async || {
        let shown = cluster.nodes[0].get("/users/zoe").await.expect(200);
        shown["connections"] == json!([laptop.id]) && shown["status"] == "busy"
    })
    .await;
    for client in [&mut ann, &mut ben] {
        assert_eq!(client.names().await, NOTHING);
    }
    laptop.disconnect().await;
    for client in [&mut ann, &mut ben] {
        let update = client.next("presenceUpdate").await;
        assert_eq!(update["status"], "offline");
        assert_eq!(client.next("user-offline").await["userId"], "zoe");
        assert_eq!(client.names().await, NOTHING, "once");
    }
    let shown = cluster.nodes[0].get("/users/zoe").await.expect(200);
    assert_eq!((&shown["online"], &shown["status"]), (&json!(false), &json!("offline")));
    assert!(shown["lastActive"].is_string(), "{shown}");
    assert_eq!(cluster.nodes[1].get("/users/nobody").await.expect(200)["lastActive"], json!(null));
}

#[tokio::test]
async fn a_reload_from_one_node_to_another_does_not_flicker() {
    let cluster = Cluster::with(2, |config| config.presence_grace = Duration::from_secs(3)).await;
    let [mut ann, mut zoe] = cluster.clients().await;
    zoe.authenticate("zoe").await;
    ann.next("user-online").await;
    for node in [0, 1, 0] {
        zoe.disconnect().await;
        super::eventually("it has no client", async || {
            cluster.nodes[0].get("/users/zoe").await.expect(200)["connections"] == json!([])
        })
        .await;
        let shown = cluster.nodes[1].get("/users/zoe").await.expect(200);
        assert_eq!(shown["online"], true, "it is within its grace");
        zoe = cluster.client(node).await;
        zoe.authenticate("zoe").await;
    }
    assert_eq!(ann.names().await, NOTHING);
    // The graces that were begun have no effect any more; the last one has.
    let left = std::time::Instant::now();
    zoe.disconnect().await;
    ann.next("user-offline").await;
    assert!(left.elapsed() >= Duration::from_secs(3), "{:?}", left.elapsed());
}

#[tokio::test]
async fn a_grace_goes_on_without_the_node_on_which_it_began() {
    let cluster = Cluster::with(2, |config| config.presence_grace = Duration::from_secs(2)).await;
    let mut nodes = cluster.nodes;
    let mut ann = nodes[0].client().await;
    let mut zoe = nodes[1].client().await;
    let mut yve = nodes[1].client().await;
    yve.authenticate("yve").await;
    zoe.authenticate("zoe").await;
    zoe.disconnect().await;
    for _ in 0..2 {
        ann.next("user-online").await;
    }
    nodes.pop().unwrap().stop().await;
    let mut gone = [ann.next("user-offline").await, ann.next("user-offline").await];
    gone.sort_by_key(|told| told["userId"].to_string());
    assert_eq!((&gone[0]["userId"], &gone[1]["userId"]), (&json!("yve"), &json!("zoe")));
}

async fn in_room(cluster: &Cluster, node: usize, room: &str) -> TestClient {
    let mut client = cluster.client(node).await;
    client.join(room).await;
    client
}

#[tokio::test]
async fn presence_in_rooms_is_told_to_those_who_share_one_on_any_node() {
    let cluster = Cluster::with(2, |config| {
        config.presence_grace = Duration::ZERO;
        config.presence_scope = PresenceScope::Rooms;
    })
    .await;
    let mut near = in_room(&cluster, 0, "r").await;
    let mut far = in_room(&cluster, 0, "elsewhere").await;
    let mut zoe = in_room(&cluster, 1, "r").await;
    let mut other = cluster.client(0).await;
    zoe.authenticate("zoe").await;
    other.authenticate("zoe").await;
    assert_eq!(near.next("user-online").await["userId"], "zoe");
    other.ask("presenceUpdate", json!({"status": "away"})).await;
    for client in [&mut near, &mut zoe, &mut other] {
        assert_eq!(client.next("presenceUpdate").await["status"], "away");
    }
    other.disconnect().await;
    super::eventually("one client is left", async || {
        cluster.nodes[0].get("/users/zoe").await.expect(200)["connections"] == json!([zoe.id])
    })
    .await;
    near.forget().await;
    zoe.disconnect().await;
    assert_eq!(near.next("presenceUpdate").await["status"], "offline");
    near.next("user-offline").await;
    assert_eq!(far.names().await, ["room-joined"]);
}
