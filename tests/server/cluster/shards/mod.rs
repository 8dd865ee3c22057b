//! Several independent instances of Redis: every room is on one of them, an instance that is away makes its rooms
//! unavailable and no other, and a changed list moves rooms without a word that is wrong.

mod backends;
mod lists;
mod outages;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use roomcast::{
    config::{Config, Secret},
    protocol::names::RoomName,
    store::RoomKey,
};
use serde_json::json;

use super::{eventually, offset_of, on};
use crate::support::{TestServer, redis::RedisServer};

/// Nodes over some of several instances.
struct Shards {
    redis: Vec<RedisServer>,
    nodes: Vec<TestServer>,
}

impl Shards {
    async fn start(instances: usize, nodes: usize) -> Self {
        Self::with(instances, nodes, |_| {}).await
    }

    async fn with(instances: usize, nodes: usize, configure: impl Fn(&mut Config)) -> Self {
        let mut shards = Self::over((0..instances).map(|_| RedisServer::persistent()).collect());
        shards.begin(instances, nodes, configure).await;
        shards
    }

    /// Instances without nodes.
    fn over(redis: Vec<RedisServer>) -> Self {
        Self { redis, nodes: Vec::new() }
    }

    /// Starts nodes over the first of the instances.
    async fn begin(&mut self, instances: usize, nodes: usize, configure: impl Fn(&mut Config)) {
        let url = self.url(instances);
        for _ in 0..nodes {
            let node = TestServer::with(|config| {
                on(&self.redis[0], config, &configure);
                config.redis_url = Some(Secret::new(url.clone()));
            });
            self.nodes.push(node.await);
        }
    }

    fn url(&self, instances: usize) -> String {
        let urls = self.redis[..instances].iter().map(RedisServer::url).collect::<Vec<_>>();
        urls.join(",")
    }

    async fn stop(&mut self) {
        for node in self.nodes.drain(..) {
            node.stop().await;
        }
    }

    /// On which instance each of these rooms is, once all have a history; it is where all nodes look for it.
    fn places(&self, rooms: &[String]) -> BTreeMap<String, usize> {
        let place = |room: &String| {
            let is_there = |redis: &&RedisServer| {
                redis.command::<u64>(&format!("EXISTS roomcast:meta:/\u{1f}{room}")) == 1
            };
            let has = self.redis.iter().filter(is_there).count();
            assert_eq!(has, 1, "{room} is on one instance");
            let place = self.redis.iter().position(|redis| is_there(&redis)).unwrap();
            assert_eq!(place, place_of(room, self.redis.len()));
            place
        };
        rooms.iter().map(|room| (room.clone(), place(room))).collect()
    }

    /// Waits until every node says of all instances that they are there, or that this one is not.
    async fn says(&self, missing: Option<usize>) {
        for node in &self.nodes {
            eventually("health", async || {
                let health = node.get("/health").await.json();
                let down = health["error"].as_object().unwrap().keys().collect::<Vec<_>>();
                match missing {
                    None => down.is_empty(),
                    Some(0) => down == ["redis", "store"],
                    Some(place) => down == [&format!("redis-{}", place + 1)],
                }
            })
            .await;
        }
    }
}

fn rooms(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("room-{n}")).collect()
}

/// The place of a room among so many instances.
fn place_of(room: &str, instances: usize) -> usize {
    let room = RoomName::parse(room).unwrap();
    RoomKey { namespace: "/".into(), room }.instance(instances)
}

/// One of these rooms on each of so many instances.
fn one_of_each(rooms: &[String], instances: usize) -> Vec<String> {
    let of = |place| rooms.iter().find(|room| place_of(room, instances) == place).unwrap().clone();
    (0..instances).map(of).collect()
}

#[tokio::test]
async fn rooms_are_spread_and_members_on_all_nodes_get_everything() {
    let shards = Shards::start(3, 2).await;
    let rooms = rooms(24);
    let (mut ann, mut ben) = (shards.nodes[0].client().await, shards.nodes[1].client().await);
    for room in &rooms {
        ann.join(room).await;
        ben.join(room).await;
    }
    ann.forget().await;
    ben.forget().await;
    for n in 1..=3 {
        for room in &rooms {
            let ack = ann.ask("message", json!({"roomName": room, "n": n})).await;
            assert_eq!(offset_of(&ack), n, "{ack}");
            let message = ben.next("message-reply").await;
            assert_eq!((&message["roomName"], offset_of(&message)), (&json!(room), n));
        }
    }
    let places = shards.places(&rooms);
    assert_eq!(places.values().collect::<BTreeSet<_>>().len(), 3);
    // Signals go by the room's instance, what spans rooms by the first.
    for room in one_of_each(&rooms, 3) {
        let typing = json!({"roomId": room, "isTyping": true});
        ben.ask("typingIndicator", typing).await;
        let told = ann.next("userTyping").await;
        assert_eq!((&told["roomId"], &told["clientId"]), (&json!(room), &json!(ben.id)));
    }
    ann.authenticate("ann").await;
    assert_eq!(ben.next("user-online").await["userId"], "ann");
    let ack = ben.ask("private-message", json!({"targetUserId": "ann", "message": "hi"})).await;
    assert_eq!(ack["success"], true, "{ack}");
    ann.next("private-message").await;
    let listed = shards.nodes[0].get("/rooms?limit=100").await.expect(200);
    assert_eq!(listed["total"], 24, "{listed}");
    eventually("the rooms are counted", async || {
        let figures = shards.nodes[1].get("/metrics").await.text;
        figures.contains("roomcast_store_rooms 24\n") && figures.contains("roomcast_redis_up 1\n")
    })
    .await;
    // Each instance publishes its own rooms' messages, to the two nodes that have members there.
    for (place, redis) in shards.redis.iter().enumerate() {
        let channels: Vec<String> = redis.command("PUBSUB CHANNELS roomcast:room:*");
        let own = places.values().filter(|at| **at == place).count();
        assert_eq!(channels.len(), own, "no instance hears of another's rooms");
        let figures: String = redis.command("INFO commandstats");
        let appended = format!("cmdstat_xadd:calls={},", 3 * own);
        assert!(figures.contains(&appended), "{place} does another's work: {figures}");
    }
}

#[tokio::test]
async fn without_history_messages_go_by_their_rooms_instance() {
    let shards = Shards::with(2, 2, |config| config.history_size = 0).await;
    let (mut ann, mut ben) = (shards.nodes[0].client().await, shards.nodes[1].client().await);
    for room in rooms(8) {
        ben.join(&room).await;
        let ack = ann.ask("message", json!({"roomName": room, "n": 1})).await;
        assert_eq!(ack["success"], true, "{ack}");
        assert_eq!(ben.next("message-reply").await["roomName"], json!(room));
    }
}

/// A session that comes to another node has everything of its rooms, whichever instances they are on.
#[tokio::test]
async fn a_session_moves_with_what_came_by_all_instances() {
    for history in [1000, 0] {
        let shards = Shards::with(3, 2, |config| {
            config.connection_state_recovery = Duration::from_mins(2);
            config.history_size = history;
            config.announce_connections = true;
        })
        .await;
        let rooms = rooms(8);
        let mut witness = shards.nodes[0].client().await;
        let mut ann = shards.nodes[0].client().await;
        let mut ben = shards.nodes[1].client().await;
        for room in &rooms {
            ann.join(room).await;
        }
        let (id, back) = (ann.id.clone(), ann.back());
        drop(ann);
        while witness.next("client-disconnected").await["clientId"] != id {}
        for n in 0..3 {
            for room in &rooms {
                let ack = ben.ask("message", json!({"roomName": room, "n": n})).await;
                assert_eq!(ack["success"], true, "{ack}");
            }
        }
        let mut ann = shards.nodes[1].connecting().auth(back.clone()).knock().await.unwrap();
        assert_eq!((&ann.id, &json!(ann.pid)), (&id, &back["pid"]), "it is recovered");
        let mut got = BTreeMap::<String, Vec<u64>>::new();
        for message in ann.all("message-reply").await {
            let room = message["roomName"].as_str().unwrap().to_owned();
            got.entry(room).or_default().push(message["n"].as_u64().unwrap());
        }
        assert_eq!(got.len(), rooms.len());
        assert!(got.values().all(|got| *got == [0, 1, 2]), "{got:?}");
    }
}
