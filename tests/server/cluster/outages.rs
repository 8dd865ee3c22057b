//! What happens while Redis is away, when it comes back, and when it comes back empty.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use roomcast::config::Config;
use serde_json::{Value, json};

use super::{Cluster, DEADLINE, assert_refused, eventually, offset_of, on};
use crate::support::{TestClient, TestServer, redis::RedisServer};

/// Sends a message until it is taken, and forgets the refusals; returns its offset.
async fn insist(client: &mut TestClient, message: Value) -> u64 {
    loop {
        let ack = client.ask("message", message.clone()).await;
        if ack["success"] == true {
            client.drop_events("error");
            return offset_of(&ack);
        }
        assert_refused(&ack, "unavailable");
    }
}

#[tokio::test]
async fn while_redis_is_away_nothing_is_half_done_and_everything_resumes() {
    let mut cluster = Cluster::over(RedisServer::persistent(), 2, |_| {}).await;
    let [mut ann, mut ben, mut cora] = cluster.clients().await;
    for client in [&mut ann, &mut ben] {
        client.join("r").await;
        client.forget().await;
    }
    ann.ask("message", json!({"roomName": "r", "n": 1})).await;
    ben.next("message-reply").await;

    cluster.redis.kill();
    cluster.ready(false).await;
    let health = cluster.nodes[0].get("/health").await.expect(503);
    assert_eq!(
        (&health["status"], &health["error"]["redis"]["status"]),
        (&json!("error"), &json!("down"))
    );
    assert_eq!(cluster.nodes[0].get("/health/live").await.status, 200);
    assert_refused(&ann.ask("message", json!({"roomName": "r", "n": "lost"})).await, "unavailable");
    assert_refused(&cora.ask("join-room", json!("r")).await, "unavailable");
    assert_refused(&cora.ask("join-room", json!("new")).await, "unavailable");
    let ack = cora.ask("private-message", json!({"targetUserId": "x", "message": "m"})).await;
    assert_refused(&ack, "unavailable");
    // On the node itself signals go on, and so do leaving, authentication and answers.
    ben.ask("custom-event", json!({"event": "wave", "data": 1})).await;
    cora.ask("typingIndicator", json!({"roomId": "r", "isTyping": true})).await;
    assert_eq!(ann.next("userTyping").await["clientId"], cora.id);
    assert_eq!(cora.ask("authenticate", json!("cora")).await["success"], true);
    let listed = cluster.nodes[0].get("/connections").await.expect(200);
    assert_eq!(listed["partial"], true, "{listed}");

    cluster.redis.restart();
    cluster.ready(true).await;
    assert_eq!(insist(&mut ann, json!({"roomName": "r", "n": 2})).await, 2);
    assert_eq!(ben.next("message-reply").await["n"], 2);
    assert_eq!(insist(&mut ben, json!({"roomName": "r", "n": 3})).await, 3);
    assert_eq!(ann.next("message-reply").await["n"], 3);
    cora.join("r").await;
    ann.next("user-joined").await;
    // Who came meanwhile is known now.
    assert_eq!(ben.next("user-online").await["userId"], "cora");
    let health = cluster.nodes[0].get("/health").await.expect(200);
    assert_eq!(health["info"]["redis"]["status"], "up");
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_begins_new_histories() {
    let mut cluster = Cluster::start(2).await;
    let [mut ann, mut ben] = cluster.clients().await;
    ben.authenticate("ben").await;
    ann.forget().await;
    let before = ann.ask("join-room", json!("r")).await["epoch"].clone();
    ben.join("r").await;
    for n in 1..=3 {
        ann.ask("message", json!({"roomName": "r", "n": n})).await;
        ben.next("message-reply").await;
    }
    ann.forget().await;
    cluster.redis.kill();
    cluster.ready(false).await;
    cluster.redis.restart();
    cluster.ready(true).await;
    // The members are still members, and get what is said from now on.
    assert_eq!(insist(&mut ann, json!({"roomName": "r", "n": "first"})).await, 1);
    let first = ben.next("message-reply").await;
    assert_eq!((&first["n"], offset_of(&first)), (&json!("first"), 1));
    let ack = ben.ask("join-room", json!({"roomName": "r", "offset": 3, "epoch": before})).await;
    assert_eq!((&ack["recovered"], ack["epoch"] == before), (&json!(false), false), "{ack}");
    // A user that was there all the time is no news.
    eventually("the user is written again", async || {
        cluster.nodes[0].get("/users/ben").await.expect(200)["connections"] == json!([ben.id])
    })
    .await;
    let shown = cluster.nodes[0].get("/users/ben").await.expect(200);
    assert_eq!(shown["online"], true);
    assert_eq!(ann.names().await, [""; 0], "nobody came or went");
    assert_eq!(cluster.nodes[0].get("/stats").await.expect(200)["nodes"], 2);
}

#[tokio::test]
async fn a_member_that_has_heard_nothing_yet_gets_the_new_history_of_an_emptied_redis() {
    let cluster = Cluster::start(2).await;
    let [mut ann, mut ben] = cluster.clients().await;
    for n in 1..=3 {
        ann.ask("message", json!({"roomName": "r", "n": n})).await;
    }
    let ack = ben.ask("join-room", json!("r")).await;
    assert_eq!(ack["offset"], 3);
    let _: String = cluster.redis.command("FLUSHALL");
    for n in 1..=4 {
        assert_eq!(offset_of(&ann.ask("message", json!({"roomName": "r", "n": n})).await), n);
    }
    for n in 1..=4 {
        let message = ben.next("message-reply").await;
        assert_eq!((offset_of(&message), &message["n"]), (n, &json!(n)));
    }
    let again = ben.ask("join-room", json!("r")).await;
    assert_eq!(again["offset"], 4);
    assert_ne!(again["epoch"], ack["epoch"], "the offset and the epoch are a pair");
}

/// What a node missed is read from the log, which knows who is left out.
#[tokio::test]
async fn who_is_left_out_is_left_out_of_what_is_read_from_the_log_too() {
    let cluster = Cluster::start(2).await;
    let [mut ann, mut ben, mut cora] = cluster.clients().await;
    for client in [&mut ann, &mut ben] {
        client.join("r").await;
    }
    // Ben's node misses some of it whenever its connections are killed.
    let caught_up = async || {
        let figures = cluster.nodes[1].get("/metrics").await.text;
        let line =
            figures.lines().find(|line| line.starts_with("roomcast_cluster_rooms_caught_up_total"));
        line.map_or(0.0, |line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
    };
    let mut sent = 0;
    while caught_up().await < 3.0 {
        kill(&cluster.redis, "pubsub").await;
        let except = json!({"clients": [ben.id]});
        for (n, except) in [(sent + 1, except), (sent + 2, json!({"users": ["nobody"]}))] {
            let body = json!({"event": "e", "data": {"n": n}, "rooms": ["r"], "except": except});
            while cluster.nodes[0].post("/events", &body).await.status != 201 {}
        }
        sent += 2;
        cluster.ready(true).await;
    }
    let last = insist(&mut cora, json!({"roomName": "r"})).await;
    ben.next("message-reply").await;
    ann.next("message-reply").await;
    let numbers = |client: &TestClient| {
        client.arrived("e").iter().map(|event| event["n"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&ben), (1..=sent / 2).map(|n| 2 * n).collect::<Vec<_>>());
    assert_eq!(numbers(&ann), (1..=sent).collect::<Vec<_>>());
    assert_eq!(last, sent + 1);
    // A recovery is whole, whoever was left out.
    let mut back = cluster.client(1).await;
    let ack = back.ask("join-room", json!({"roomName": "r", "offset": 0})).await;
    assert_eq!((&ack["recovered"], &ack["missed"]), (&json!(true), &json!(last)), "{ack}");
}

/// Writes numbered messages until told to stop, however often it is refused; returns those that were
/// acknowledged, with their offsets.
async fn write_on(
    mut client: TestClient,
    name: &'static str,
    mut stop: tokio::sync::oneshot::Receiver<()>,
) -> Vec<(u64, String)> {
    let mut acknowledged = Vec::new();
    for n in 0.. {
        if stop.try_recv() != Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
            break;
        }
        let id = format!("{name}-{n}");
        let ack = client.ask("message", json!({"roomName": "r", "id": id})).await;
        if ack["success"] == true {
            acknowledged.push((offset_of(&ack), id));
        } else {
            assert_refused(&ack, "unavailable");
        }
    }
    acknowledged
}

/// While two clients write, each on its node, `disturb` does its worst, again and again; then every reader
/// has every message, once, in order, and all that was acknowledged is among them.
async fn disturbed(cluster: &mut Cluster, rounds: usize, disturb: impl AsyncFn(&mut RedisServer)) {
    let mut readers: [TestClient; 2] = cluster.clients().await;
    for reader in &mut readers {
        reader.join("r").await;
    }
    let mut writers = Vec::new();
    for (node, name) in [(0, "a"), (1, "b")] {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let writer = tokio::spawn(write_on(cluster.client(node).await, name, stopped));
        writers.push((stop, writer));
    }
    let mut read: [Vec<String>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        // Traffic flows before each round, for every reader.
        for (reader, read) in readers.iter_mut().zip(&mut read) {
            for _ in 0..20 {
                take(reader, read).await;
            }
        }
        disturb(&mut cluster.redis).await;
    }
    let mut acknowledged = Vec::new();
    for (stop, writer) in writers {
        stop.send(()).unwrap();
        acknowledged.extend(writer.await.unwrap());
    }
    cluster.ready(true).await;
    let last = insist(&mut cluster.client(0).await, json!({"roomName": "r", "id": "last"})).await;
    for (reader, read) in readers.iter_mut().zip(&mut read) {
        while (read.len() as u64) < last {
            take(reader, read).await;
        }
    }
    assert_eq!(read[0], read[1]);
    assert!(acknowledged.len() > rounds, "there was no traffic");
    for (offset, id) in acknowledged {
        let place = usize::try_from(offset).unwrap() - 1;
        assert_eq!(read[0][place], id, "{offset} was acknowledged");
    }
}

/// The next message: it must be the next one.
async fn take(reader: &mut TestClient, read: &mut Vec<String>) {
    let message = reader.next("message-reply").await;
    assert_eq!(offset_of(&message), read.len() as u64 + 1, "a gap, or one twice");
    read.push(message["id"].as_str().unwrap().to_owned());
}

fn roomy(config: &mut roomcast::config::Config) {
    config.history_size = 1_000_000;
}

/// How often a node has connected to Redis.
async fn sessions(cluster: &Cluster) -> u64 {
    let figures = cluster.nodes[0].get("/metrics").await.text;
    let line = figures.lines().find(|line| line.starts_with("roomcast_redis_sessions_total"));
    line.unwrap().rsplit_once(' ').unwrap().1.parse().unwrap()
}

/// Kills the connections of a kind, as soon as there are some: the nodes may just be connecting anew.
async fn kill(redis: &RedisServer, kind: &str) {
    while redis.command::<u64>(&format!("CLIENT KILL TYPE {kind} SKIPME yes")) == 0 {
        tokio::task::yield_now().await;
    }
}

/// The connections by which messages come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_miss_nothing_when_listening_connections_are_killed() {
    let mut cluster = Cluster::with(2, roomy).await;
    disturbed(&mut cluster, 12, async |redis: &mut RedisServer| {
        kill(redis, "pubsub").await;
    })
    .await;
    assert!(sessions(&cluster).await > 1);
}

/// The connections by which they are stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_miss_nothing_when_writing_connections_are_killed() {
    let mut cluster = Cluster::with(2, roomy).await;
    disturbed(&mut cluster, 12, async |redis: &mut RedisServer| {
        kill(redis, "normal").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_miss_nothing_when_redis_is_slow() {
    let mut cluster = Cluster::with(2, roomy).await;
    disturbed(&mut cluster, 4, async |redis: &mut RedisServer| {
        let _: String = redis.command("CLIENT PAUSE 700 ALL");
    })
    .await;
    // It was slow, not away.
    assert_eq!(sessions(&cluster).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_miss_nothing_when_redis_stands_still() {
    let mut cluster = Cluster::with(2, roomy).await;
    let health = cluster.nodes[0].url("/health");
    disturbed(&mut cluster, 1, async |redis: &mut RedisServer| {
        redis.freeze();
        // Connections that say nothing for five seconds are given up.
        eventually("it is missed", async || {
            let health = reqwest::get(&health).await.unwrap().json::<Value>().await.unwrap();
            health["error"]["redis"]["status"] == "down"
        })
        .await;
        redis.thaw();
    })
    .await;
    assert!(sessions(&cluster).await > 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_miss_nothing_when_redis_restarts() {
    let mut cluster = Cluster::over(RedisServer::persistent(), 2, roomy).await;
    disturbed(&mut cluster, 3, async |redis: &mut RedisServer| redis.restart()).await;
}

#[tokio::test]
async fn a_node_starts_before_redis_and_is_ready_when_that_is_there() {
    let mut redis = RedisServer::start();
    redis.kill();
    let mut command = crate::support::process::command(std::path::Path::new("unused"));
    command.env_remove("STORE_URL").env("REDIS_URL", redis.url()).env("NODE_ENV", "development");
    let node = crate::support::process::start(command).await;
    let status = async |path: &str| {
        let url = format!("http://{}{path}", node.address());
        reqwest::get(url).await.unwrap().status().as_u16()
    };
    assert_eq!((status("/health/ready").await, status("/health/live").await), (503, 200));
    let mut ann = node.connecting().join().await;
    assert_refused(&ann.ask("join-room", json!("r")).await, "unavailable");
    redis.restart();
    eventually("it is ready", async || status("/health/ready").await == 200).await;
    ann.join("r").await;
    assert_eq!(offset_of(&ann.ask("message", json!({"roomName": "r"})).await), 1);
    node.kill().await;
}

#[tokio::test]
async fn while_the_lease_runs_out_unseen_a_user_is_offline_and_then_back() {
    let at_once = |config: &mut Config| config.presence_grace = Duration::ZERO;
    let mut cluster = Cluster::with(1, at_once).await;
    // The second node renews its lease halfway between two renewals of the first one: not while that clears up after it.
    let first = format!("ZSCORE roomcast:nodes {}", cluster.nodes[0].app.node);
    eventually("it is halfway", async || {
        let (seconds, micros): (i64, i64) = cluster.redis.command("TIME");
        let until: i64 = cluster.redis.command(&first);
        (10_000..10_700).contains(&(until - seconds * 1000 - micros / 1000))
    })
    .await;
    cluster.nodes.push(TestServer::with(|config| on(&cluster.redis, config, at_once)).await);
    let [mut ann, mut zoe] = cluster.clients().await;
    zoe.authenticate("zoe").await;
    ann.next("user-online").await;
    // As if the node had been asleep for longer than its lease: whenever it renews it, it has run out again,
    // until another one has cleared up after it.
    let asleep = Arc::new(AtomicBool::new(true));
    let (sleeps, url, node) =
        (asleep.clone(), cluster.redis.url(), cluster.nodes[1].app.node.clone());
    let sleeper = std::thread::spawn(move || {
        let mut redis = redis::Client::open(url).unwrap().get_connection().unwrap();
        while sleeps.load(Ordering::Relaxed) {
            let mut end = redis::cmd("ZADD");
            end.arg("roomcast:nodes").arg(1).arg(&node).exec(&mut redis).unwrap();
        }
    });
    // Its own node, which is not asleep after all, may find that she is there before the other one says that she has gone.
    let begun = Instant::now();
    while ann.arrived("user-offline").is_empty() {
        assert!(begun.elapsed() < DEADLINE, "she does not go offline");
        ann.ask("heartbeat", json!({})).await;
    }
    asleep.store(false, Ordering::Relaxed);
    sleeper.join().unwrap();
    // It finds out when it renews its lease.
    assert_eq!(ann.next("user-online").await["userId"], "zoe");
    let shown = cluster.nodes[0].get("/users/zoe").await.expect(200);
    assert_eq!(shown["connections"], json!([zoe.id]));
}
