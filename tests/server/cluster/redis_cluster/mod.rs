//! A Redis Cluster: the keys of each room are in one slot, and go where it goes. Masters die, stand still and come back, and
//! slots move, while clients of three nodes write to rooms of all of them.

mod servers;

use std::collections::{BTreeMap, BTreeSet};

use roomcast::config::{Config, Secret};
use serde_json::json;

use self::servers::Servers;
use super::{eventually, offset_of, on, traffic::Traffic};
use crate::support::TestServer;

const MASTERS: usize = 3;

/// Three nodes over three masters with a replica each.
struct World {
    servers: Servers,
    nodes: Vec<TestServer>,
    /// The rooms' channels, which have the slots of their keys.
    channels: BTreeMap<String, String>,
}

impl World {
    async fn start() -> Self {
        let servers = Servers::start(MASTERS).await;
        let mut nodes = Vec::new();
        for _ in 0..3 {
            let roomy = |config: &mut Config| config.history_size = 1_000_000;
            let node = TestServer::with(|config| {
                on(&servers.redis[0], config, roomy);
                config.redis_url = Some(Secret::new(servers.url()));
            });
            nodes.push(node.await);
        }
        let mut world = Self { servers, nodes, channels: BTreeMap::new() };
        let mut member = world.nodes[0].client().await;
        for n in 0..24 {
            let room = format!("room-{n}");
            member.join(&room).await;
            let find = format!("PUBSUB SHARDCHANNELS roomcast:{{*}}:room:/\u{1f}{room}");
            let all = world.servers.redis.iter();
            let mut found = all.flat_map(|redis| redis.command::<Vec<String>>(&find));
            let channel = found.next().unwrap();
            assert_eq!(found.next(), None, "{room} is at one place");
            drop(found);
            world.channels.insert(room, channel);
        }
        world
    }

    /// The rooms, by the master that has them.
    fn groups(&self) -> Vec<Vec<String>> {
        let mut groups = vec![Vec::new(); MASTERS];
        for room in self.channels.keys() {
            groups[self.place(room, 0).1].push(room.clone());
        }
        assert!(groups.iter().all(|rooms| rooms.len() > 1), "{groups:?}");
        groups
    }

    /// The slot of a room, and the master that serves it, as this server says.
    fn place(&self, room: &str, asked: usize) -> (u64, usize) {
        self.servers.place(&self.channels[room], asked)
    }

    /// Waits until all nodes say that all is well.
    async fn works(&self) {
        for node in &self.nodes {
            eventually("health", async || node.get("/health").await.status == 200).await;
        }
    }

    /// Waits until some node says that something is not.
    async fn fails(&self) {
        eventually("health", async || self.nodes[0].get("/health").await.status == 503).await;
    }

    /// Ends the traffic: rooms of other masters than this one were never refused, and kept their histories.
    /// Returns whether something was refused.
    async fn end(self, traffic: Traffic, groups: &[Vec<String>], victim: usize) -> bool {
        let (histories, refused) = traffic.end(&self.nodes[0]).await;
        for (master, rooms) in groups.iter().enumerate() {
            if master != victim {
                let touched = |room: &&String| refused.contains(*room) || histories[*room] != 1;
                assert_eq!(rooms.iter().find(touched), None, "it is on another master");
            }
        }
        for node in self.nodes {
            node.stop().await;
        }
        !refused.is_empty()
    }

    /// Ends the traffic: no room was lost anything, or has another epoch.
    async fn end_whole(self, traffic: Traffic) {
        let (histories, refused) = traffic.end(&self.nodes[0]).await;
        assert!(histories.values().all(|count| *count == 1), "{histories:?}");
        assert_eq!(refused, BTreeSet::new(), "moving takes no longer than messages wait");
        for node in self.nodes {
            node.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_are_spread_over_slots_and_nothing_is_said_to_all_masters() {
    let world = World::start().await;
    let groups = world.groups();
    let (mut ann, mut ben) = (world.nodes[0].client().await, world.nodes[1].client().await);
    let rooms = groups.concat();
    for room in &rooms {
        ann.join(room).await;
        ben.join(room).await;
    }
    ann.forget().await;
    ben.forget().await;
    for n in 1..=2 {
        for room in &rooms {
            let ack = ann.ask("message", json!({"roomName": room, "n": n})).await;
            assert_eq!(offset_of(&ack), n, "{ack}");
            let message = ben.next("message-reply").await;
            assert_eq!((&message["roomName"], offset_of(&message)), (&json!(room), n));
        }
    }
    for room in &rooms {
        ben.ask("typingIndicator", json!({"roomId": room, "isTyping": true})).await;
        assert_eq!(ann.next("userTyping").await["roomId"], json!(room));
    }
    // What spans rooms.
    ann.authenticate("ann").await;
    assert_eq!(ben.next("user-online").await["userId"], "ann");
    let ack = ben.ask("private-message", json!({"targetUserId": "ann", "message": "hi"})).await;
    assert_eq!(ack["success"], true, "{ack}");
    ann.next("private-message").await;
    let listed = world.nodes[0].get("/rooms?limit=100").await.expect(200);
    assert_eq!(listed["total"], 24, "{listed}");
    assert_eq!(world.nodes[1].get("/stats").await.expect(200)["nodes"], 3);
    // All keys of a room have the tag of its place, and each of the 16 places has one slot.
    let mut slots = BTreeSet::new();
    let mut channels = Vec::new();
    for redis in &world.servers.redis[..MASTERS] {
        for key in redis.command::<Vec<String>>("KEYS *") {
            assert!(key.starts_with("roomcast:{"), "{key}");
            slots.insert(redis.command::<u64>(&format!("CLUSTER KEYSLOT {key}")));
        }
        let heard = redis.command::<Vec<String>>("PUBSUB SHARDCHANNELS roomcast:{*}:room:*");
        assert!(heard.len() > 1, "{heard:?}");
        channels.extend(heard);
        assert_eq!(redis.command::<Vec<String>>("PUBSUB CHANNELS"), [""; 0]);
    }
    assert_eq!((slots.len(), channels.len()), (16, 24));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_master_costs_its_rooms_some_seconds_and_no_others() {
    let mut world = World::start().await;
    let groups = world.groups();
    let traffic = Traffic::begin(&world.nodes, &groups).await;
    traffic.flows(0..MASTERS, 30).await;
    world.servers.redis[1].kill();
    world.fails().await;
    world.servers.promoted(1).await;
    world.works().await;
    traffic.flows(0..MASTERS, 30).await;
    world.servers.redis[1].restart();
    world.servers.demoted(1).await;
    traffic.flows(0..MASTERS, 30).await;
    assert!(world.end(traffic, &groups, 1).await, "was it away at all?");
}

/// The master of what spans rooms stands still, and goes on as soon as its replica has taken over, or later. What it takes
/// before it knows better is lost with an epoch.
async fn stand_still(is_late: bool) {
    let world = World::start().await;
    let groups = world.groups();
    let traffic = Traffic::begin(&world.nodes, &groups).await;
    traffic.flows(0..MASTERS, 30).await;
    world.servers.redis[0].freeze();
    world.fails().await;
    world.servers.promoted(0).await;
    if is_late {
        world.works().await;
        traffic.flows(0..MASTERS, 30).await;
    }
    world.servers.redis[0].thaw();
    world.servers.demoted(0).await;
    world.works().await;
    traffic.flows(0..MASTERS, 30).await;
    let has_refused = world.end(traffic, &groups, 0).await;
    assert!(has_refused || !is_late, "was it away at all?");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_stood_still_for_a_moment_comes_back_as_a_replica() {
    stand_still(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_stood_still_for_long_comes_back_as_a_replica() {
    stand_still(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_moves_under_writers_and_its_rooms_keep_everything() {
    let world = World::start().await;
    let groups = world.groups();
    let traffic = Traffic::begin(&world.nodes, &groups).await;
    traffic.flows(0..MASTERS, 30).await;
    let (slot, from) = world.place(&groups[1][0], 0);
    for (from, to) in [(from, 2), (2, from)] {
        world.servers.move_slot(slot, from, to);
        traffic.flows(0..MASTERS, 30).await;
        assert_eq!(world.place(&groups[1][0], to).1, to);
    }
    // The one that has what spans rooms.
    let online: Vec<String> = world.servers.redis[0].command("KEYS roomcast:{*}:nodes");
    let (slot, from) = world.servers.place(&online[0], 0);
    world.servers.move_slot(slot, from, 1);
    traffic.flows(0..MASTERS, 30).await;
    world.works().await;
    world.end_whole(traffic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_more_takes_slots_under_writers() {
    let mut world = World::start().await;
    let groups = world.groups();
    let traffic = Traffic::begin(&world.nodes, &groups).await;
    traffic.flows(0..MASTERS, 30).await;
    let added = world.servers.add_master().await;
    let mut moved = BTreeSet::new();
    for room in groups.iter().map(|rooms| &rooms[0]) {
        let (slot, from) = world.place(room, 0);
        world.servers.move_slot(slot, from, added);
        traffic.flows(0..MASTERS, 10).await;
        moved.insert(slot);
    }
    assert_eq!(moved.len(), MASTERS);
    traffic.flows(0..MASTERS, 30).await;
    for room in groups.iter().map(|rooms| &rooms[0]) {
        assert_eq!(world.place(room, added).1, added, "{room}");
    }
    world.works().await;
    world.end_whole(traffic).await;
}

/// A replica does not know what its master was about to move: it would take for gone what is elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_whose_move_is_broken_off_by_a_failover_have_new_epochs() {
    let mut world = World::start().await;
    let groups = world.groups();
    let room = &groups[1][0];
    let mut member = world.nodes[0].client().await;
    let before = member.ask("join-room", json!(room)).await;
    let ack = member.ask("message", json!({"roomName": room})).await;
    assert_eq!(offset_of(&ack), 1, "{ack}");
    let (slot, from) = world.place(room, 0);
    world.servers.begin_move(slot, from, 2);
    world.fails().await;
    world.servers.move_keys(slot, from, 2, 5);
    world.servers.redis[from].kill();
    world.servers.promoted(from).await;
    world.works().await;
    let after = world.nodes[1].client().await.ask("join-room", json!(room)).await;
    assert_eq!((&before["success"], &after["success"]), (&json!(true), &json!(true)), "{after}");
    assert_ne!(before["epoch"], after["epoch"], "some of its keys were left behind");
}
