//! Sentinels: nodes find the Redis that takes writes, and a failover costs seconds in which messages are refused, no
//! connection, and nothing that was acknowledged, unless new epochs say so.

mod servers;
mod stand_in;

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use roomcast::config::{Environment, Secret};
use serde_json::{Value, json};
use tokio::{sync::Semaphore, task::JoinHandle};

use self::{
    servers::{Servers, free_ports},
    stand_in::StandIn,
};
use crate::{
    cluster::{eventually, offset_of},
    support::{TestClient, TestServer, process},
};

/// Two on each node.
const WRITERS: usize = 4;

/// A message's id and offset.
type Message = (String, u64);

/// Two nodes over servers that Sentinels watch; a client of each that reads, and some that write all the time.
struct World {
    servers: Servers,
    nodes: Vec<TestServer>,
    readers: Vec<TestClient>,
    /// What was acknowledged, in the order of the acknowledgements, on each node.
    acknowledged: [Arc<Mutex<Vec<Message>>>; 2],
    refused: Arc<AtomicUsize>,
    /// How many messages may be sent, besides those that were refused.
    allowed: Arc<Semaphore>,
    writers: Vec<JoinHandle<()>>,
    epoch: Value,
}

/// A node over the Redis of this URL.
async fn node(url: String, replicas: u64) -> TestServer {
    TestServer::one_node(|config| {
        config.redis_url = Some(Secret::new(url));
        config.redis_replicas = replicas;
        config.environment = Environment::Development;
        config.rate_limit_events = 0;
        config.rate_limit_burst = 0;
        config.announce_connections = false;
        // One node's writers may write much while the other's are refused.
        config.history_size = 100_000;
    })
    .await
}

impl World {
    /// With this many replicas, so many of which must confirm.
    async fn start(replicas: usize, confirm: u64) -> Self {
        let servers = Servers::start(replicas).await;
        let urls = [servers.url(), servers.url()];
        Self::over(servers, urls, confirm).await
    }

    /// The same with a URL for each node.
    async fn over(servers: Servers, urls: [String; 2], confirm: u64) -> Self {
        let (mut nodes, mut readers) = (Vec::new(), Vec::new());
        for url in urls {
            let node = node(url, confirm).await;
            let mut reader = node.client().await;
            reader.join("r").await;
            readers.push(reader);
            nodes.push(node);
        }
        let acknowledged = [Arc::default(), Arc::default()];
        let (refused, allowed) = (Arc::default(), Arc::new(Semaphore::new(0)));
        let epoch = history(&nodes[0]).await.1;
        let mut world = Self {
            servers,
            nodes,
            readers,
            acknowledged,
            refused,
            allowed,
            writers: Vec::new(),
            epoch,
        };
        for name in 0..WRITERS {
            let client = world.nodes[name % 2].client().await;
            world.writers.push(tokio::spawn(write(
                client,
                name,
                world.acknowledged[name % 2].clone(),
                world.refused.clone(),
                world.allowed.clone(),
            )));
        }
        world
    }

    /// How many messages were acknowledged on each node.
    fn counts(&self) -> [usize; 2] {
        [0, 1].map(|node| self.acknowledged[node].lock().len())
    }

    /// Waits until this many more messages are acknowledged on each node. Others are on their way then.
    async fn acknowledges(&self, more: usize) {
        let wanted = self.counts().map(|count| count + more);
        eventually("messages are acknowledged", async || {
            // The writers never wait for long, and never run far ahead.
            if self.allowed.available_permits() == 0 {
                self.allowed.add_permits(WRITERS);
            }
            self.counts().iter().zip(wanted).all(|(count, wanted)| *count >= wanted)
        })
        .await;
    }

    /// There was a time in which nothing was taken.
    fn has_refused(&self) {
        assert!(
            self.refused.load(Relaxed) > 0,
            "nothing was refused: was there a failover at all?"
        );
    }

    /// Ends the writers. Returns what both nodes say is kept, and whether its epoch is a new one.
    async fn stop_writing(&mut self) -> (Vec<Message>, bool) {
        self.allowed.close();
        for writer in self.writers.drain(..) {
            // It fails if its client has lost its connection, or got another refusal than `unavailable`.
            writer.await.unwrap();
        }
        let (kept, epoch) = history(&self.nodes[0]).await;
        assert_eq!((&kept, &epoch), (&history(&self.nodes[1]).await.0, &epoch));
        let ids = kept.iter().map(|(id, _)| id).collect::<HashSet<_>>();
        assert_eq!(ids.len(), kept.len(), "a message is there twice");
        for (at, (id, offset)) in kept.iter().enumerate() {
            assert_eq!(*offset, at as u64 + 1, "{id}: a gap, or out of order");
        }
        (kept, epoch != self.epoch)
    }

    /// Checks what the writers were told against what is kept. Of each node's acknowledgements, all those from these
    /// places on must be kept in any case, and the ones before if no new epoch says that something was lost.
    async fn check(mut self, safe_from: [usize; 2]) {
        let (kept, is_new_epoch) = self.stop_writing().await;
        let places = kept.iter().cloned().collect::<HashMap<_, _>>();
        for (acknowledged, safe_from) in self.acknowledged.iter().zip(safe_from) {
            let acknowledged = acknowledged.lock();
            let from = if is_new_epoch { safe_from } else { 0 };
            for (id, offset) in &acknowledged[from..] {
                let found = places.get(id);
                assert_eq!(
                    found,
                    Some(offset),
                    "{id} was acknowledged (new epoch: {is_new_epoch})"
                );
            }
        }
        for reader in &mut self.readers {
            check_reader(reader, &kept, is_new_epoch).await;
        }
        for node in self.nodes {
            node.stop().await;
        }
    }
}

/// The reader is still connected, and was sent everything that is kept, once and in order; before that, what it was
/// sent of the epochs before.
async fn check_reader(reader: &mut TestClient, kept: &[Message], is_new_epoch: bool) {
    let newest = kept.last().unwrap();
    let mut seen = Vec::new();
    while seen.last() != Some(newest) {
        let message = reader.next("message-reply").await;
        seen.push((message["id"].as_str().unwrap().to_owned(), offset_of(&message)));
    }
    let mut epochs = seen.chunk_by(|one, next| next.1 == one.1 + 1).collect::<Vec<_>>();
    assert!(epochs.iter().all(|epoch| epoch[0].1 == 1), "missed, or out of order: {epochs:?}");
    assert_eq!(epochs.pop(), Some(kept), "what it was sent is not what is kept");
    assert!(is_new_epoch || epochs.is_empty(), "twice: {epochs:?}");
}

/// Writes what is allowed until it is told to stop, over one connection.
async fn write(
    mut client: TestClient,
    name: usize,
    acknowledged: Arc<Mutex<Vec<Message>>>,
    refused: Arc<AtomicUsize>,
    allowed: Arc<Semaphore>,
) {
    for n in 0.. {
        let id = format!("{name}-{n}");
        let Ok(permit) = allowed.acquire().await else { return };
        let ack = client.ask("message", json!({"roomName": "r", "id": id})).await;
        client.drop_events("error");
        if ack["success"] == true {
            permit.forget();
            acknowledged.lock().push((id, offset_of(&ack)));
        } else {
            assert_eq!(ack["code"], "unavailable", "{ack}");
            refused.fetch_add(1, Relaxed);
        }
    }
}

/// The room's messages, and its epoch.
async fn history(node: &TestServer) -> (Vec<Message>, Value) {
    let (mut kept, mut after) = (Vec::new(), 0);
    loop {
        let page = node.get(&format!("/rooms/r/messages?limit=1000&after={after}")).await;
        let page = page.expect(200);
        for item in page["items"].as_array().unwrap() {
            after = offset_of(item);
            kept.push((item["id"].as_str().unwrap().to_owned(), after));
        }
        if page["complete"] == true {
            return (kept, page["epoch"].clone());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_primary_takes_nothing_with_it_that_a_replica_has_confirmed() {
    let mut world = World::start(1, 1).await;
    world.acknowledges(50).await;
    world.servers.redis[0].kill();
    let now = world.servers.promoted(0).await;
    let primary = world.servers.redis[now].port;
    // It is needed as a replica before anything is acknowledged again.
    world.servers.redis[0].start(Some(primary));
    world.acknowledges(50).await;
    world.has_refused();
    world.check([0, 0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_primary_comes_back_as_a_replica() {
    let world = World::start(2, 0).await;
    world.acknowledges(50).await;
    world.servers.redis[0].suspend();
    world.servers.promoted(0).await;
    world.acknowledges(50).await;
    let promoted = world.counts();
    world.servers.redis[0].resume();
    // It believes that it takes writes until the Sentinels tell it otherwise.
    eventually("the old primary is a replica", async || world.servers.redis[0].is_replica()).await;
    world.acknowledges(50).await;
    world.has_refused();
    world.check(promoted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_leave_a_primary_that_the_sentinels_have_replaced() {
    let world = World::start(2, 0).await;
    world.acknowledges(50).await;
    // It goes on serving the nodes.
    world.servers.redis[0].cut_off();
    let now = world.servers.promoted(0).await;
    for node in &world.nodes {
        let connected = format!("name=roomcast-{}", node.app.node);
        eventually("the node is with the new primary", async || {
            let clients = world.servers.redis[now].command::<String>("CLIENT LIST");
            // Two of the store, and those of the cluster.
            clients.unwrap_or_default().matches(&connected).count() >= 3
        })
        .await;
    }
    world.acknowledges(WRITERS).await;
    let moved = world.counts();
    world.acknowledges(50).await;
    world.servers.redis[0].rejoin();
    eventually("the old primary is a replica", async || world.servers.redis[0].is_replica()).await;
    world.acknowledges(50).await;
    world.check(moved).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_behind_begins_new_epochs() {
    let mut world = World::start(1, 0).await;
    world.acknowledges(20).await;
    // The replica may not copy any more.
    let [primary, replica] = &world.servers.redis[..] else { panic!("there are two") };
    replica.command::<String>("CONFIG SET masterauth wrong").unwrap();
    primary.command::<u64>("CLIENT KILL USER copier").unwrap();
    eventually("it has no replica", async || {
        primary.field("connected_slaves").is_some_and(|count| count == "0")
    })
    .await;
    world.acknowledges(20).await;
    world.servers.redis[0].kill();
    world.servers.promoted(0).await;
    world.acknowledges(WRITERS).await;
    let promoted = world.counts();
    world.acknowledges(20).await;
    assert_ne!(history(&world.nodes[0]).await.1, world.epoch, "a loss, and no word of it");
    world.has_refused();
    world.check(promoted).await;
}

/// A node that is cut off with the old primary goes on there; the other node is with the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_writes_to_a_primary_that_was_replaced_is_lost_and_told() {
    let servers = Servers::start(1).await;
    let old = servers.redis[0].port;
    let stand_in = StandIn::start(0, old).await;
    let urls = [Servers::url_of([stand_in.port]), servers.url()];
    let mut world = World::over(servers, urls, 0).await;
    world.acknowledges(20).await;
    world.servers.redis[0].cut_off();
    let now = world.servers.promoted(0).await;
    // Those of the second node are with the new primary.
    let clients = async || world.servers.redis[now].command::<String>("CLIENT LIST");
    eventually("a node is with the new primary", async || {
        clients().await.is_some_and(|clients| clients.contains("name=roomcast-"))
    })
    .await;
    world.acknowledges(WRITERS).await;
    let moved = world.counts();
    world.acknowledges(20).await;

    world.servers.redis[0].rejoin();
    eventually("the old primary is a replica", async || world.servers.redis[0].is_replica()).await;
    stand_in.say(1, world.servers.redis[now].port);
    world.acknowledges(WRITERS).await;
    let joined = world.counts();
    world.acknowledges(20).await;
    let (kept, is_new_epoch) = world.stop_writing().await;
    assert!(is_new_epoch, "a loss, and no word of it");
    let places = kept.iter().cloned().collect::<HashMap<_, _>>();
    for (node, from) in [(0, joined[0]), (1, moved[1])] {
        for (id, offset) in &world.acknowledged[node].lock()[from..] {
            assert_eq!(places.get(id), Some(offset), "{id} was acknowledged");
        }
    }
    for reader in &mut world.readers {
        check_reader(reader, &kept, true).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_enough_replicas_nothing_is_acknowledged() {
    let world = World::start(2, 2).await;
    world.acknowledges(20).await;
    world.servers.redis[1].suspend();
    // What was on its way may have been confirmed before.
    eventually("messages are refused", async || {
        world.allowed.add_permits(WRITERS);
        world.refused.load(Relaxed) > WRITERS
    })
    .await;
    let before = world.counts();
    let refused = world.refused.load(Relaxed);
    eventually("more are", async || world.refused.load(Relaxed) > refused + WRITERS).await;
    assert_eq!(world.counts(), before, "acknowledged without the replica");
    world.servers.redis[1].resume();
    world.acknowledges(20).await;
    world.has_refused();
    world.check([0, 0]).await;
}

/// One that is dead, one that is suspended, and one that has not heard of the failover.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_answer_counts_whatever_other_sentinels_are_like() {
    let servers = Servers::start(1).await;
    let stand_in = StandIn::start(0, servers.redis[0].port).await;
    servers.sentinels[0].command::<String>("SENTINEL FAILOVER mymaster").unwrap();
    let now = servers.promoted(0).await;
    servers.sentinels[1].suspend();
    let [dead] = free_ports(1)[..] else { panic!("one was asked for") };
    let ports = [stand_in.port, dead, servers.sentinels[1].port, servers.sentinels[0].port];
    let node = node(Servers::url_of(ports), 0).await;
    let mut ann = node.client().await;
    let ack = ann.ask("message", json!({"roomName": "r"})).await;
    assert_eq!(ack["offset"], 1, "{ack}");
    let stored = servers.redis[now].command::<u64>("EXISTS roomcast:log");
    assert_eq!(stored, Some(1), "it is not in the new primary");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_does_not_start_with_a_name_or_password_that_the_sentinels_refuse() {
    let servers = Servers::start(0).await;
    let url = servers.url();
    for (url, why) in [
        (
            url.replace("/mymaster", "/yourmaster"),
            "no Sentinel watches a primary named \"yourmaster\"",
        ),
        (url.replace("of-sentinels", "wrong"), "?sentinel_username="),
        (url.split_once('?').unwrap().0.to_owned(), "?sentinel_username="),
    ] {
        let mut command = process::command(Path::new("unused"));
        command.env_remove("STORE_URL").env("REDIS_URL", &url).env("NODE_ENV", "development");
        let (code, said) = process::refusal(command).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("REDIS_URL") && said.contains(why), "{said}");
        assert!(!said.contains("of-redis") && !said.contains("wrong"), "{said}");
    }
}
