//! Connection state recovery across nodes: a client comes back to another node than it left.

use std::time::Duration;

use roomcast::config::{Config, Secret};
use serde_json::{Value, json};

use super::Cluster;
use crate::{
    handlers::backend::Backend,
    support::{
        Connecting, SECRET, TestClient,
        process::{self, ServerProcess},
        redis::RedisServer,
        token_of,
    },
};

fn recovers(config: &mut Config) {
    config.connection_state_recovery = Duration::from_mins(2);
    config.announce_connections = true;
}

async fn say(sender: &mut TestClient, room: &str, n: u32) {
    let ack = sender.ask("message", json!({"roomName": room, "n": n})).await;
    assert_eq!(ack["success"], true, "{ack}");
}

/// Connects with what `lost` says of its session.
async fn comes_back(connecting: Connecting, lost: &TestClient, token: Option<&str>) -> TestClient {
    let mut auth = lost.back();
    if let Some(user) = token {
        auth["token"] = json!(token_of(user));
    }
    let mut client = connecting.auth(auth).knock().await.unwrap();
    client.offset = client.offset.or_else(|| lost.offset.clone());
    client
}

#[track_caller]
fn assert_recovered(client: &TestClient, lost: &TestClient) {
    assert_eq!((&client.id, &client.pid), (&lost.id, &lost.pid));
}

#[track_caller]
fn assert_fresh(client: &TestClient, lost: &TestClient) {
    assert!(client.pid.is_some());
    assert_ne!(client.id, lost.id);
    assert_ne!(client.pid, lost.pid);
}

async fn numbers(client: &mut TestClient) -> Vec<Value> {
    client.all("message-reply").await.into_iter().map(|message| message["n"].clone()).collect()
}

/// The connection breaks, and the witness hears of it.
async fn loses(mut lost: TestClient, witness: &mut TestClient) -> TestClient {
    lost.tear().await;
    while witness.next("client-disconnected").await["clientId"] != lost.id {}
    lost
}

#[tokio::test]
async fn everything_that_is_kept_follows_from_node_to_node() {
    let cluster = Cluster::with(3, recovers).await;
    let mut ann = cluster.client(0).await;
    let [mut bob, mut cid] = [cluster.client(1).await, cluster.client(0).await];
    ann.join("r").await;
    ann.join("s").await;
    ann.authenticate("ann").await;
    // Another client of the user stays, on a third node.
    let mut other = cluster.client(2).await;
    other.authenticate("ann").await;
    say(&mut bob, "r", 0).await;
    ann.next("message-reply").await;
    ann.settle().await;
    for to in [1, 2, 0, 2, 0, 0, 1] {
        let id = ann.id.clone();
        ann = loses(ann, &mut bob).await;
        let mut wanted = Vec::new();
        for (n, node) in (1..).zip([0, 1, 2]) {
            let events = [
                json!({"event": "n", "data": {"n": 10 * n + 1}, "rooms": ["r"]}),
                json!({"event": "n", "data": 10 * n + 2, "rooms": ["s", "r"]}),
                json!({"event": "n", "data": {"n": 10 * n + 3}, "users": ["ann"]}),
                json!({"event": "n", "data": 10 * n + 4, "clients": [id]}),
                json!({"event": "n", "data": {"n": 10 * n + 5}}),
                json!({"event": "n", "data": "no", "rooms": ["r"], "except": {"rooms": ["s"]}}),
                json!({"event": "n", "data": "no", "except": {"clients": [id]}}),
                json!({"event": "n", "data": {"n": "no"}, "volatile": true}),
            ];
            for event in events {
                cluster.nodes[node].post("/events", &event).await.expect(201);
            }
            say(&mut cid, "r", 10 * n + 6).await;
            say(&mut bob, "s", 10 * n + 7).await;
            let told = json!({"targetUserId": "ann", "message": 10 * n + 8});
            assert_eq!(bob.ask("private-message", told).await["delivered"], true);
            wanted.extend((1..9).map(|k| 10 * n + k));
        }
        let mut back = comes_back(cluster.connecting(to), &ann, None).await;
        assert_recovered(&back, &ann);
        let events = back.everything().await;
        let seen = events.iter().map(|event| match event.name.as_str() {
            "private-message" => event.data["message"]["content"].clone(),
            "n" if !event.data.is_object() => event.data.clone(),
            _ => event.data["n"].clone(),
        });
        let mut seen = seen.collect::<Vec<_>>();
        let of = |room: &[u64]| {
            let is_of = |n: &&Value| room.contains(&(n.as_u64().unwrap_or_default() % 10));
            seen.iter().filter(is_of).cloned().collect::<Vec<_>>()
        };
        // In the order of each room.
        assert_eq!(of(&[1, 6]), [11, 16, 21, 26, 31, 36], "{seen:?}");
        assert_eq!(of(&[3]), [13, 23, 33], "{seen:?}");
        seen.sort_by_key(Value::as_u64);
        assert_eq!(seen, wanted, "to node {to}");
        // It is a member, its user's client, and one of all, as before.
        say(&mut cid, "r", 100).await;
        assert_eq!(back.next("message-reply").await["n"], 100);
        let told = json!({"targetUserId": "ann", "message": "hi"});
        assert_eq!(cid.ask("private-message", told).await["delivered"], true);
        assert_eq!(back.next("private-message").await["message"]["content"], "hi");
        let connection = cluster.nodes[0].get(&format!("/connections/{id}")).await.expect(200);
        assert_eq!(connection["rooms"], json!(["r", "s"]));
        back.settle().await;
        assert!(back.arrived("private-message").is_empty());
        ann = back;
    }
}

#[tokio::test]
async fn a_connection_of_another_node_is_taken_over() {
    let cluster = Cluster::with(2, recovers).await;
    let [mut ann, mut bob] = [cluster.client(0).await, cluster.client(1).await];
    ann.join("r").await;
    bob.join("r").await;
    ann.settle().await;
    let seen = ann.offset.clone();
    say(&mut bob, "r", 1).await;
    assert_eq!(numbers(&mut ann).await, [1]);
    bob.forget().await;
    // It lost its network before it had that.
    ann.offset = seen;
    let mut back = comes_back(cluster.connecting(1), &ann, None).await;
    assert_recovered(&back, &ann);
    assert_eq!(numbers(&mut back).await, [1]);
    let id = ann.id.clone();
    ann.ended().await;
    assert_eq!(bob.next("user-left").await["socketId"], id);
    assert_eq!(bob.next("user-joined").await["socketId"], id);
    say(&mut bob, "r", 2).await;
    assert_eq!(numbers(&mut back).await, [2]);
    bob.settle().await;
    assert!(bob.arrived("user-left").is_empty() && bob.arrived("user-joined").is_empty());
    let room = cluster.nodes[0].get("/rooms/r").await.expect(200);
    assert_eq!(room["members"].as_array().unwrap().len(), 2, "{room}");
}

#[tokio::test]
async fn a_session_stays_until_what_its_node_has_sent_is_published() {
    let cluster = Cluster::with(2, recovers).await;
    let [mut ann, mut bob] = [cluster.client(0).await, cluster.client(1).await];
    ann.join("r").await;
    ann.settle().await;
    let ann = loses(ann, &mut bob).await;
    say(&mut bob, "r", 1).await;
    // The other node might keep this once more, if it came there later than the session.
    let sending = cluster.nodes[0].app.cluster.as_ref().unwrap().sending();
    let mut early = comes_back(cluster.connecting(1), &ann, None).await;
    assert_fresh(&early, &ann);
    early.next("connected").await;
    drop(sending);
    let mut back = comes_back(cluster.connecting(1), &ann, None).await;
    assert_recovered(&back, &ann);
    assert_eq!(numbers(&mut back).await, [1]);
}

#[tokio::test]
async fn what_a_backend_answers_after_the_connection_is_lost_follows_the_client() {
    let mut backend = Backend::start().await;
    let url = backend.url();
    let cluster = Cluster::with(2, |config| {
        recovers(config);
        config.handler_url = Some(url.clone());
    })
    .await;
    let mut ann = cluster.client(0).await;
    for to in [1, 0, 0, 1] {
        ann.settle().await;
        ann.emit("own-event", json!({})).await;
        let asked = backend.next().await;
        ann.tear().await;
        let emit = json!([
            {"event": "told", "data": {"n": 1}},
            {"event": "told", "data": {"n": 2}, "clients": [ann.id]},
            {"event": "told", "data": {"n": 3}},
        ]);
        // Its end waits for what it has sent, and the other node for its end.
        let answering = async { asked.reply(&json!({"emit": emit})) };
        let (mut back, ()) =
            tokio::join!(comes_back(cluster.connecting(to), &ann, None), answering);
        assert_recovered(&back, &ann);
        let told = back.all("told").await;
        let told = told.iter().map(|told| told["n"].clone()).collect::<Vec<_>>();
        assert_eq!(told, [1, 2, 3], "to node {to}");
        ann = back;
    }
}

#[tokio::test]
async fn a_session_is_one_connections_wherever_they_come_from() {
    let cluster = Cluster::with(2, recovers).await;
    let [mut ann, mut bob] = [cluster.client(0).await, cluster.client(1).await];
    ann.join("r").await;
    ann.settle().await;
    for _ in 0..5 {
        ann = loses(ann, &mut bob).await;
        say(&mut bob, "r", 1).await;
        let mut all = Vec::new();
        for node in [0, 1, 0, 1, 1, 0] {
            let mut client = cluster.connecting(node).open().await.unwrap();
            client.send_frame(&format!("40{}", ann.back())).await;
            all.push(client);
        }
        let answers = all.iter_mut().map(|client| client.try_next("connect"));
        let answers = futures_util::future::join_all(answers).await;
        let ids = answers.iter().flatten().map(|answer| answer["sid"].clone());
        assert!(ids.into_iter().any(|id| id == ann.id), "{answers:?}");
        let room = cluster.nodes[1].get("/rooms/r").await.expect(200);
        assert_eq!(room["members"].as_array().unwrap().len(), 1, "{room}");
        drop(all);
        ann = comes_back(cluster.connecting(1), &ann, None).await;
        if ann.arrived("connected").is_empty() {
            ann.settle().await;
        }
        ann.join("r").await;
        ann.settle().await;
        bob.forget().await;
    }
}

#[tokio::test]
async fn another_user_does_not_get_it_nor_who_was_put_out() {
    let cluster = Cluster::with(2, |config| {
        recovers(config);
        config.jwt_secret = Some(Secret::new(SECRET));
    })
    .await;
    let user = async |node: usize, name: &str| {
        cluster.connecting(node).auth(json!({"token": token_of(name)})).join().await
    };
    let mut bob = user(1, "bob").await;
    let mut ann = user(0, "ann").await;
    ann.join("r").await;
    ann.settle().await;
    // Neither while it is connected, which it stays, nor while it is away.
    assert_fresh(&comes_back(cluster.connecting(1), &ann, Some("eve")).await, &ann);
    ann.settle().await;
    let ann = loses(ann, &mut bob).await;
    say(&mut bob, "r", 1).await;
    assert_fresh(&comes_back(cluster.connecting(1), &ann, Some("eve")).await, &ann);
    let mut ann = {
        let back = comes_back(cluster.connecting(1), &ann, Some("ann")).await;
        assert_recovered(&back, &ann);
        back
    };
    assert_eq!(numbers(&mut ann).await, [1]);
    // What happens to it while it is away counts on whichever node that is known.
    for node in [0, 1] {
        let mut ann = user(node, "ann").await;
        ann.join("r").await;
        ann.settle().await;
        let ann = loses(ann, &mut bob).await;
        let revocation = json!({"userId": "ann", "expiresAt": crate::control::moment(3600)});
        let made = cluster.nodes[0].post("/revocations", &revocation).await.expect(201);
        let path = format!("/revocations/{}", made["id"].as_str().unwrap());
        assert_eq!(cluster.nodes[0].delete(&path).await.status, 204);
        assert_fresh(&comes_back(cluster.connecting(1 - node), &ann, Some("ann")).await, &ann);
        let ann = loses(user(node, "ann").await, &mut bob).await;
        let path = "/users/ann/connections?reason=kicked";
        cluster.nodes[0].delete(path).await.expect(200);
        assert_fresh(&comes_back(cluster.connecting(1 - node), &ann, Some("ann")).await, &ann);
    }
}

#[tokio::test]
async fn what_names_no_session_is_a_new_client() {
    let cluster = Cluster::with(2, recovers).await;
    let [mut ann, mut bob] = [cluster.client(0).await, cluster.client(1).await];
    ann.join("r").await;
    ann.settle().await;
    let mut ann = loses(ann, &mut bob).await;
    let pid = ann.pid.clone().unwrap();
    let (secret, node) = pid.split_once('-').unwrap();
    let zeros = "0".repeat(32);
    for wrong in [
        secret.to_owned(),
        format!("{zeros}-{node}"),
        format!("{secret}-{zeros}"),
        format!("{secret}-{node}-{node}"),
        format!("{secret}-*"),
        format!("{secret}-{}", "é".repeat(16)),
        "-".to_owned(),
        "x".repeat(100_000),
    ] {
        ann.pid = Some(wrong);
        assert_fresh(&comes_back(cluster.connecting(1), &ann, None).await, &ann);
    }
    ann.pid = Some(pid);
    let offset = ann.offset.replace("123".to_owned());
    // An offset that is none of the session's ends it, as on one node.
    assert_fresh(&comes_back(cluster.connecting(1), &ann, None).await, &ann);
    ann.offset = offset;
    assert_fresh(&comes_back(cluster.connecting(1), &ann, None).await, &ann);
}

/// The real binary over a Redis.
async fn node(redis: &RedisServer) -> ServerProcess {
    let directory = tempfile::tempdir().unwrap();
    let mut command = process::command(&directory.path().join("store"));
    command.env("REDIS_URL", redis.url()).env("CONNECTION_STATE_RECOVERY", "2m");
    command.env("NODE_ENV", "development");
    process::start(command).await
}

#[tokio::test]
async fn what_a_node_had_that_was_killed_is_gone_and_what_it_gave_away_is_not() {
    let redis = RedisServer::start();
    let (first, second, third) = (node(&redis).await, node(&redis).await, node(&redis).await);
    let mut bob = second.connecting().join().await;
    let mut ann = first.connecting().join().await;
    let mut zoe = first.connecting().join().await;
    for client in [&mut ann, &mut zoe] {
        client.join("r").await;
        client.settle().await;
    }
    let ann = loses(ann, &mut bob).await;
    let mut ann = {
        let back = comes_back(second.connecting(), &ann, None).await;
        assert_recovered(&back, &ann);
        back
    };
    ann.settle().await;
    first.kill().await;
    // Nobody listens there any more, so that nobody waits.
    let mut back = comes_back(second.connecting(), &zoe, None).await;
    assert_fresh(&back, &zoe);
    back.next("connected").await;
    let ann = loses(ann, &mut bob).await;
    say(&mut bob, "r", 1).await;
    let mut again = comes_back(third.connecting(), &ann, None).await;
    assert_recovered(&again, &ann);
    assert_eq!(again.next("message-reply").await["n"], 1);
}

#[tokio::test]
async fn a_node_that_stands_still_keeps_nobody_waiting_and_does_no_harm_later() {
    let redis = RedisServer::start();
    let (first, second) = (node(&redis).await, node(&redis).await);
    let mut bob = second.connecting().join().await;
    let mut ann = first.connecting().join().await;
    bob.join("r").await;
    ann.join("r").await;
    ann.settle().await;
    bob.drop_events("user-left");
    first.signal("-STOP");
    let mut back = comes_back(second.connecting(), &ann, None).await;
    assert_fresh(&back, &ann);
    back.next("connected").await;
    back.join("r").await;
    first.signal("-CONT");
    // It hears of the question now, and ends the old connection.
    let id = ann.id.clone();
    ann.ended().await;
    assert_eq!(bob.next("user-left").await["socketId"], id);
    say(&mut bob, "r", 1).await;
    assert_eq!(back.next("message-reply").await["n"], 1);
    let mut third = first.connecting().join().await;
    third.settle().await;
    bob.settle().await;
    assert!(bob.arrived("user-left").is_empty(), "once");
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for node in [&first, &second] {
        let url = format!("http://{}/rooms/r", node.address());
        let room: Value = http.get(url).send().await.unwrap().json().await.unwrap();
        assert_eq!(room["members"].as_array().unwrap().len(), 2, "{room}");
    }
}
