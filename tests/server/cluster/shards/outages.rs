//! Instances that die, come back with everything or with nothing, or stand still, while clients of two nodes write to
//! rooms of all of them.

use std::collections::{BTreeMap, BTreeSet};

use roomcast::config::Config;
use serde_json::{Value, json};

use super::{
    super::{assert_refused, eventually, offset_of, traffic::Traffic},
    Shards, one_of_each, place_of, rooms,
};
use crate::support::redis::RedisServer;

const INSTANCES: usize = 3;
const ROOMS: usize = 24;

/// The rooms of each instance.
fn by_instance() -> Vec<Vec<String>> {
    let of = |place: usize| {
        let own = rooms(ROOMS).into_iter().filter(move |room| place_of(room, INSTANCES) == place);
        own.collect()
    };
    (0..INSTANCES).map(of).collect()
}

fn roomy(config: &mut Config) {
    config.history_size = 1_000_000;
}

/// Rooms of other instances were never refused, and have the histories that they had.
#[track_caller]
fn assert_spared(ended: &(BTreeMap<String, usize>, BTreeSet<String>), victim: usize) {
    let (histories, refused) = ended;
    let is_spared = |room: &&String| place_of(room, INSTANCES) != victim;
    assert_eq!(refused.iter().find(is_spared), None, "it was refused");
    assert!(!refused.is_empty(), "was it away at all?");
    assert!(
        histories.iter().all(|(room, count)| *count == 1 || !is_spared(&room)),
        "{histories:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_killed_costs_its_own_rooms_some_seconds_and_nothing_else() {
    let mut shards = Shards::with(INSTANCES, 2, roomy).await;
    let traffic = Traffic::begin(&shards.nodes, &by_instance()).await;
    let one = one_of_each(&rooms(ROOMS), INSTANCES);
    for _ in 0..2 {
        traffic.flows(0..INSTANCES, 50).await;
        shards.redis[1].kill();
        shards.says(Some(1)).await;
        for node in &shards.nodes {
            assert_eq!(node.get("/health").await.status, 503);
            let ready = node.get("/health/ready").await.expect(200);
            assert_eq!(ready["details"]["redis-2"]["status"], "down", "{ready}");
            let others = (&ready["status"], &ready["info"]["redis"]["status"]);
            assert_eq!(others, (&json!("ok"), &json!("up")));
        }
        traffic.flows([0, 2], 50).await;
        let mut late = shards.nodes[0].client().await;
        assert_refused(&late.ask("join-room", json!(one[1])).await, "unavailable");
        late.join(&one[2]).await;
        shards.redis[1].restart();
        shards.says(None).await;
        late.join(&one[1]).await;
    }
    traffic.flows(0..INSTANCES, 50).await;
    let ended = traffic.end(&shards.nodes[0]).await;
    assert_spared(&ended, 1);
    // It had everything on its disk.
    assert!(ended.0.values().all(|count| *count == 1), "{:?}", ended.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_comes_back_empty_begins_new_histories_of_its_own_rooms() {
    let mut shards = Shards::over(vec![
        RedisServer::persistent(),
        RedisServer::start(),
        RedisServer::persistent(),
    ]);
    shards.begin(INSTANCES, 2, roomy).await;
    let traffic = Traffic::begin(&shards.nodes, &by_instance()).await;
    traffic.flows(0..INSTANCES, 50).await;
    let epochs = epochs(&shards).await;
    shards.redis[1].kill();
    shards.says(Some(1)).await;
    shards.redis[1].restart();
    shards.says(None).await;
    traffic.flows(0..INSTANCES, 50).await;
    for (room, epoch) in self::epochs(&shards).await {
        assert_eq!(epochs[&room] == epoch, place_of(&room, INSTANCES) != 1, "{room}");
    }
    let ended = traffic.end(&shards.nodes[0]).await;
    assert_spared(&ended, 1);
    let own = ended.0.iter().filter(|(room, _)| place_of(room, INSTANCES) == 1);
    assert!(own.clone().count() > 0 && own.clone().all(|(_, count)| *count == 2), "{:?}", ended.0);
}

async fn epochs(shards: &Shards) -> BTreeMap<String, Value> {
    let mut client = shards.nodes[1].client().await;
    let mut epochs = BTreeMap::new();
    for room in rooms(ROOMS) {
        let ack = client.ask("join-room", json!(room)).await;
        assert_eq!(ack["success"], true, "{ack}");
        epochs.insert(room, ack["epoch"].clone());
    }
    epochs
}

/// For longer than the nodes' leases last: one that has nothing but rooms, and the first, which has the leases.
async fn pause(victim: usize) {
    let shards = Shards::with(INSTANCES, 2, roomy).await;
    let traffic = Traffic::begin(&shards.nodes, &by_instance()).await;
    traffic.flows(0..INSTANCES, 50).await;
    let clock = &shards.redis[2];
    let now = || {
        let (seconds, _): (f64, u64) = clock.command("TIME");
        seconds * 1000.0
    };
    shards.redis[victim].freeze();
    // No lease that stands now will stand then.
    let over = now() + 13_000.0;
    shards.says(Some(victim)).await;
    let others = (0..INSTANCES).filter(|place| *place != victim).collect::<Vec<_>>();
    while now() < over {
        traffic.flows(others.clone(), 20).await;
    }
    shards.redis[victim].thaw();
    shards.says(None).await;
    traffic.flows(0..INSTANCES, 50).await;
    let ended = traffic.end(&shards.nodes[0]).await;
    assert_spared(&ended, victim);
    assert!(ended.0.values().all(|count| *count == 1), "{:?}", ended.0);
    eventually("both nodes are there", async || {
        shards.nodes[0].get("/stats").await.expect(200)["nodes"] == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_stands_still_and_goes_on_loses_nothing() {
    pause(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_instance_stands_still_for_longer_than_the_leases_last() {
    pause(0).await;
}

#[tokio::test]
async fn without_the_first_instance_messages_to_rooms_of_the_others_are_still_taken() {
    let mut shards = Shards::start(2, 2).await;
    let all = rooms(12);
    let (mut ann, mut ben) = (shards.nodes[0].client().await, shards.nodes[1].client().await);
    for room in &all {
        ben.join(room).await;
        ann.ask("message", json!({"roomName": room, "n": 1})).await;
        ben.next("message-reply").await;
    }
    let rooms = one_of_each(&all, 2);
    shards.redis[0].kill();
    for node in &shards.nodes {
        eventually("it is not ready", async || node.get("/health/ready").await.status == 503).await;
    }
    let ack = ann.ask("message", json!({"roomName": rooms[1], "n": 2})).await;
    assert_eq!(offset_of(&ack), 2, "{ack}");
    assert_eq!(ben.next("message-reply").await["n"], 2);
    assert_refused(&ann.ask("message", json!({"roomName": rooms[0]})).await, "unavailable");
    ann.drop_events("error");
    shards.redis[0].restart();
    shards.says(None).await;
    for room in &rooms {
        let ack = ann.ask("message", json!({"roomName": room, "n": 3})).await;
        assert_eq!(ack["success"], true, "{ack}");
        assert_eq!(ben.next("message-reply").await["n"], 3);
    }
}
