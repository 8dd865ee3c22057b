//! Nodes that die, and nodes that are replaced, while clients write.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{management::node, offset_of};
use crate::support::{Connecting, TestClient, process::ServerProcess, redis::RedisServer};

/// The nodes that can be connected to at the moment.
type Addresses = Arc<Mutex<Vec<SocketAddr>>>;

/// Connects to a node that is there.
async fn connect(addresses: &Addresses, turn: usize) -> TestClient {
    for attempt in turn.. {
        let address = {
            let addresses = addresses.lock();
            addresses[attempt % addresses.len()]
        };
        if tokio::net::TcpStream::connect(address).await.is_err() {
            continue;
        }
        let connected = tokio::spawn(Connecting::to(address).join());
        // It may go away just then.
        if let Ok(client) = connected.await {
            return client;
        }
    }
    unreachable!("it tries for ever")
}

/// Writes until told to stop, whatever happens to its node; returns what was acknowledged.
async fn write(name: usize, addresses: Addresses, stop: Arc<AtomicBool>) -> HashMap<u64, String> {
    let mut acknowledged = HashMap::new();
    let mut client = connect(&addresses, name).await;
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let id = format!("{name}-{n}");
        match client.try_ask("message", json!({"roomName": "r", "id": id})).await {
            Some(ack) if ack["success"] == true => {
                acknowledged.insert(offset_of(&ack), id);
            }
            Some(ack) => assert_eq!(ack["code"], "unavailable", "{ack}"),
            None => client = connect(&addresses, name + n).await,
        }
    }
    acknowledged
}

/// Reads until told to stop, recovering where its node dies; returns all that came, in order.
async fn read(name: usize, addresses: Addresses, last: Arc<Mutex<Option<u64>>>) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    let mut epoch = Value::Null;
    for turn in name.. {
        let mut client = connect(&addresses, turn).await;
        let wish = json!({"roomName": "r", "offset": ids.len(), "epoch": epoch});
        let Some(ack) = client.try_ask("join-room", wish).await else { continue };
        if ack["success"] != true {
            assert_eq!(ack["code"], "unavailable", "{ack}");
            continue;
        }
        assert_eq!(ack["recovered"], true, "{ack}");
        epoch = ack["epoch"].clone();
        loop {
            for message in client.arrived("message-reply") {
                assert_eq!(offset_of(&message), ids.len() as u64 + 1, "a gap, or one twice");
                ids.push(message["id"].as_str().unwrap().to_owned());
            }
            client.drop_events("message-reply");
            if last.lock().is_some_and(|last| ids.len() as u64 >= last) {
                return ids;
            }
            if client.try_ask("heartbeat", Value::Null).await.is_none() {
                for message in client.arrived("message-reply") {
                    assert_eq!(offset_of(&message), ids.len() as u64 + 1, "a gap, or one twice");
                    ids.push(message["id"].as_str().unwrap().to_owned());
                }
                break;
            }
        }
    }
    ids
}

/// Clients write and read on all nodes while `happen` happens; nothing that was acknowledged is lost, and
/// every reader has everything once and in order.
async fn under_load(addresses: &Addresses, happen: impl Future<Output = ()>) {
    let stop = Arc::<AtomicBool>::default();
    let last = Arc::<Mutex<Option<u64>>>::default();
    let writers = (0..4).map(|name| tokio::spawn(write(name, addresses.clone(), stop.clone())));
    let writers = writers.collect::<Vec<_>>();
    let readers = (0..3).map(|name| tokio::spawn(read(name, addresses.clone(), last.clone())));
    let readers = readers.collect::<Vec<_>>();
    happen.await;
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = HashMap::new();
    for written in join_all(writers).await {
        acknowledged.extend(written.unwrap());
    }
    let newest = loop {
        let mut client = connect(addresses, 0).await;
        let ack = client.try_ask("message", json!({"roomName": "r", "id": "last"})).await;
        if let Some(ack) = ack.filter(|ack| ack["success"] == true) {
            break offset_of(&ack);
        }
    };
    *last.lock() = Some(newest);
    let read = join_all(readers).await.into_iter().map(Result::unwrap).collect::<Vec<_>>();
    assert!(acknowledged.len() > 100, "there was no load: {}", acknowledged.len());
    println!("{} acknowledged, {newest} stored", acknowledged.len());
    for ids in &read {
        let all = usize::try_from(newest).unwrap();
        assert_eq!(ids[..all], read[0][..all]);
        for (offset, id) in &acknowledged {
            let place = usize::try_from(*offset).unwrap() - 1;
            assert_eq!(ids[place], *id, "{offset} was acknowledged");
        }
    }
}

async fn start(redis: &RedisServer, count: usize) -> (Vec<ServerProcess>, Addresses) {
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(node(redis).await);
    }
    let addresses = nodes.iter().map(ServerProcess::address).collect::<Vec<_>>();
    for address in &addresses {
        super::eventually("it is ready", async || {
            reqwest::get(format!("http://{address}/health/ready")).await.unwrap().status() == 200
        })
        .await;
    }
    (nodes, Arc::new(Mutex::new(addresses)))
}

/// Waits until the room has so many messages more.
async fn traffic(addresses: &Addresses, more: u64) {
    let address = addresses.lock()[0];
    let head = async || {
        let room = reqwest::get(format!("http://{address}/rooms/r")).await.unwrap();
        room.json::<Value>().await.unwrap()["offset"].as_u64().unwrap_or(0)
    };
    let begun = head().await;
    super::eventually("messages are written", async || head().await >= begun + more).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_nodes_are_killed_and_their_users_go() {
    let redis = RedisServer::start();
    let (mut nodes, addresses) = start(&redis, 3).await;
    let mut witness = nodes[0].connecting().join().await;
    let mut doomed = nodes[2].connecting().join().await;
    doomed.authenticate("zoe").await;
    witness.next("user-online").await;
    let mut killed = None;
    under_load(&addresses, async {
        traffic(&addresses, 100).await;
        addresses.lock().pop();
        nodes.pop().unwrap().kill().await;
        killed = Some(Instant::now());
        traffic(&addresses, 100).await;
    })
    .await;
    let shown = async || {
        let url = format!("http://{}/users/zoe", nodes[0].address());
        reqwest::get(url).await.unwrap().json::<Value>().await.unwrap()
    };
    super::eventually("the user is gone", async || {
        // So that the witness's own connection is served meanwhile.
        shown().await["online"] == false
    })
    .await;
    assert!(killed.unwrap().elapsed() < Duration::from_secs(30));
    assert_eq!(witness.next("user-offline").await["userId"], "zoe");
    let url = format!("http://{}/stats", nodes[0].address());
    let stats = reqwest::get(url).await.unwrap().json::<Value>().await.unwrap();
    assert_eq!((&stats["nodes"], stats.get("partial")), (&json!(2), None), "{stats}");
    for node in nodes {
        node.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_all_nodes_are_replaced() {
    let redis = RedisServer::start();
    let (mut nodes, addresses) = start(&redis, 2).await;
    under_load(&addresses, async {
        for _ in 0..2 {
            traffic(&addresses, 50).await;
            let new = node(&redis).await;
            super::eventually("it is ready", async || {
                let url = format!("http://{}/health/ready", new.address());
                reqwest::get(url).await.unwrap().status() == 200
            })
            .await;
            let old = nodes.remove(0);
            {
                let mut addresses = addresses.lock();
                addresses.remove(0);
                addresses.push(new.address());
            }
            nodes.push(new);
            assert_eq!(old.terminate().await, Some(0));
        }
        traffic(&addresses, 50).await;
    })
    .await;
    for node in nodes {
        node.kill().await;
    }
}
