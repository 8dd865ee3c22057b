//! A hostile network: proxies that cut, stall and half-close connections at random points, while many write. Of
//! each connection that follows another, by whichever transport, on the same node or on another one, either nothing is
//! missing and nothing comes twice, or `recovered` is false.

mod proxy;
mod reader;
mod visit;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use serde_json::json;
use tokio::sync::watch;

use self::{proxy::Network, random::Random, reader::Reader};
use super::server_with;
use crate::support::TestServer;

#[path = "../../consistency/random.rs"]
mod random;

const ROOMS: [&str; 5] = ["a", "b", "c", "d", "e"];

const SENDERS: usize = 20;

/// How many readers come and go at the same time.
const READERS: u64 = 4;

/// How many messages a client may have missed that recovers.
const LIMIT: u64 = 1000;

/// The user of all readers, and of somebody who always stays, so that nothing to it is refused.
const USER: &str = "reader";

/// What was written: how many messages in all, and the newest number of each sequence.
struct Written {
    all: watch::Sender<u64>,
    newest: HashMap<&'static str, AtomicU64>,
}

impl Written {
    fn new() -> Self {
        let sequences = ROOMS.into_iter().chain(["told", "private"]);
        let newest = sequences.map(|sequence| (sequence, AtomicU64::new(0))).collect();
        Self { all: watch::Sender::new(0), newest }
    }

    fn note(&self, sequence: &str, number: u64) {
        self.newest[sequence].fetch_max(number, Relaxed);
        self.all.send_modify(|all| *all += 1);
    }

    fn newest(&self, sequence: &str) -> u64 {
        self.newest[sequence].load(Relaxed)
    }

    /// Waits until so many more messages were written.
    async fn more(&self, count: u64) {
        let mut all = self.all.subscribe();
        let until = *all.borrow() + count;
        all.wait_for(|all| *all >= until).await.unwrap();
    }
}

/// Writes to random rooms until it is told to stop.
async fn write(server: Arc<TestServer>, seed: u64, stop: Arc<AtomicBool>, written: Arc<Written>) {
    let (mut random, mut client) = (Random::new(seed), server.client().await);
    while !stop.load(Relaxed) {
        let room = random.pick(&ROOMS);
        let text = "x".repeat(random.index(200));
        let ack = client.ask("message", json!({"roomName": room, "text": text})).await;
        assert_eq!(ack["success"], true, "{ack}");
        written.note(room, ack["offset"].as_u64().unwrap());
        client.clear();
    }
}

/// Tells everyone, and the readers' user, until it is told to stop.
async fn tell(server: Arc<TestServer>, stop: Arc<AtomicBool>, written: Arc<Written>) {
    let mut client = server.client().await;
    client.authenticate(USER).await;
    let mut n = 0_u64;
    while !stop.load(Relaxed) {
        n += 1;
        server.post("/events", &json!({"event": "told", "data": {"n": n}})).await.expect(201);
        written.note("told", n);
        let message = json!({"targetUserId": USER, "message": n});
        assert_eq!(client.ask("private-message", message).await["delivered"], true);
        written.note("private", n);
        client.clear();
    }
}

/// What each node says of those that came back.
async fn outcomes(server: &TestServer) -> Vec<String> {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut outcomes = Vec::new();
    for node in server.addresses() {
        let figures = http.get(format!("http://{node}/metrics")).send().await.unwrap();
        let figures = figures.text().await.unwrap();
        let of_recovery = |line: &&str| line.starts_with("roomcast_connection_recoveries_total{");
        outcomes.extend(figures.lines().filter(of_recovery).map(str::to_owned));
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_missing_or_comes_twice_whatever_the_network_does() {
    let wanted: u64 = std::env::var("ROOMCAST_RECOVERY_RECONNECTS")
        .map_or(100, |count| count.parse().expect("a number of reconnects"));
    let seed = std::env::var("ROOMCAST_RECOVERY_SEED").map_or(1, |seed| seed.parse().unwrap());
    let server = server_with(|config| {
        config.rate_limit_events = 0;
        config.announce_connections = false;
        config.recovery_limit = LIMIT;
    })
    .await;
    let server = Arc::new(server);
    let (stop, written) = (Arc::<AtomicBool>::default(), Arc::new(Written::new()));
    let writers = (seed..).take(SENDERS);
    let writers = writers
        .map(|seed| tokio::spawn(write(server.clone(), seed, stop.clone(), written.clone())))
        .collect::<Vec<_>>();
    let telling = tokio::spawn(tell(server.clone(), stop.clone(), written.clone()));
    let connections = Arc::<AtomicU64>::default();
    let mut readers = Vec::new();
    for number in 0..READERS {
        let seed = seed * READERS + number;
        let network = Network::to(server.addresses(), seed).await;
        let mut reader = Reader::new(seed, written.clone());
        let connections = connections.clone();
        readers.push(tokio::spawn(async move {
            let mut in_vain = 0;
            while connections.load(Relaxed) < wanted {
                let before = reader.connections();
                reader.visit(&network).await;
                let connected = reader.connections() - before;
                connections.fetch_add(connected, Relaxed);
                in_vain = if connected > 0 { 0 } else { in_vain + 1 };
                assert!(in_vain < 100, "it does not come in any more");
                assert!(reader.faults.is_empty(), "seed {seed}: {:?}", reader.faults);
            }
            (reader, network)
        }));
    }
    let mut done = Vec::new();
    for reader in readers {
        done.push(reader.await.unwrap());
    }
    stop.store(true, Relaxed);
    for task in writers.into_iter().chain([telling]) {
        task.await.unwrap();
    }
    let [mut recovered, mut fresh, mut unexplained, mut came, mut missed] = [0; 5];
    for (mut reader, network) in done {
        // What was written last arrives, too.
        network.calm();
        reader.catch_up(&network).await;
        assert!(reader.faults.is_empty(), "at the end: {:?}", reader.faults);
        recovered += reader.recovered;
        fresh += reader.fresh;
        unexplained += reader.unexplained;
        came += reader.seen;
        missed += reader.missed;
    }
    for line in outcomes(&server).await {
        println!("{line}");
    }
    println!(
        "recovered {recovered}, fresh {fresh} ({unexplained} of them without having missed much), seen {came}, \
         missed and replayed {missed}"
    );
    assert!(recovered > fresh, "{recovered} of {wanted}");
    assert!(came > wanted && missed > recovered);
}
