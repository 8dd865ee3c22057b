//! A hostile network: a proxy that cuts, stalls and half-closes connections at random points, while many write. Of
//! each connection that follows another, on the same node or on another one, either nothing is missing and nothing comes
//! twice, or `recovered` is false.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_tungstenite::{connect_async, tungstenite::Message};

use self::random::Random;
use super::server_with;
use crate::support::TestServer;

#[path = "../../consistency/random.rs"]
mod random;

const ROOMS: [&str; 5] = ["a", "b", "c", "d", "e"];

const SENDERS: usize = 20;

/// How long anything may take; a test that waits for longer has failed.
const DEADLINE: Duration = Duration::from_secs(30);

/// What becomes of a connection.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// It is cut on both sides.
    Cut,
    /// Nothing passes any more, and the server is not told when the client gives up.
    Stall,
    /// The client is told that nothing more comes; the server is not.
    HalfClose,
}

/// The network between a client and the server.
struct Network {
    address: SocketAddr,
    /// Told when a connection stalls: its client gives up then.
    stalled: Arc<Notify>,
}

impl Network {
    /// Each connection goes to one of these nodes.
    async fn to(servers: Vec<SocketAddr>, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stalled) = (listener.local_addr().unwrap(), Arc::<Notify>::default());
        let told = stalled.clone();
        tokio::spawn(async move {
            let mut random = Random::new(seed);
            while let Ok((client, _)) = listener.accept().await {
                let fate = random.pick(&[Fate::Cut, Fate::Cut, Fate::Stall, Fate::HalfClose]);
                // Often within the answer to the CONNECT packet.
                let most = if random.chance(30) { 700 } else { 20_000 };
                let bytes = random.index(most);
                let upstream = TcpStream::connect(random.pick(&servers)).await.unwrap();
                tokio::spawn(pass(client, upstream, fate, bytes, told.clone()));
            }
        });
        Self { address, stalled }
    }
}

/// Passes everything until so many bytes of the server's have passed.
async fn pass(client: TcpStream, upstream: TcpStream, fate: Fate, bytes: usize, told: Arc<Notify>) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), upstream.into_split());
    let asks = tokio::spawn(async move {
        let _ends = tokio::io::copy(&mut from_client, &mut to_server).await;
        to_server
    });
    let (mut left, mut buffer) = (bytes, vec![0; 4096]);
    while left > 0 {
        let Ok(count @ 1..) = from_server.read(&mut buffer).await else { break };
        let passed = count.min(left);
        left -= passed;
        if to_client.write_all(&buffer[..passed]).await.is_err() {
            break;
        }
    }
    match fate {
        Fate::Cut => asks.abort(),
        Fate::Stall => {
            told.notify_one();
            // The client gives up, and the server is not told: it ends the connection by itself.
            let _open = (asks.await, from_server.read_to_end(&mut buffer).await);
        }
        Fate::HalfClose => {
            let _closed = to_client.shutdown().await;
            let _open = (asks.await, from_server.read_to_end(&mut buffer).await);
        }
    }
}

/// A client as socket.io-client is one, and what it has seen.
#[derive(Default)]
struct Client {
    pid: Option<String>,
    offset: Option<String>,
    /// The newest number of each sequence, since it last was a new client.
    newest: HashMap<String, u64>,
    recovered: u64,
    fresh: u64,
    seen: u64,
    faults: Vec<String>,
}

impl Client {
    /// Connects once, and takes what comes until the connection ends.
    async fn visit(&mut self, network: &Network) {
        let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", network.address);
        let connecting = connect_async(url);
        let Some(Ok((mut socket, _))) = self.unless_stalled(network, connecting).await else {
            return;
        };
        let mut said = json!({});
        if let Some(pid) = &self.pid {
            said = json!({"pid": pid, "offset": self.offset});
        }
        if socket.send(Message::text(format!("40{said}"))).await.is_err() {
            return;
        }
        while let Some(Some(Ok(frame))) = self.unless_stalled(network, socket.next()).await {
            let Message::Text(text) = frame else { continue };
            for answer in self.take(text.as_str()) {
                let _lost = socket.send(Message::text(answer)).await;
            }
        }
    }

    async fn unless_stalled<T>(
        &self,
        network: &Network,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::select! {
            done = tokio::time::timeout(DEADLINE, work) => Some(done.expect("nothing came")),
            () = network.stalled.notified() => None,
        }
    }

    /// Takes a packet; returns the answers.
    fn take(&mut self, text: &str) -> Vec<String> {
        if text == "2" {
            return vec!["3".to_owned()];
        }
        if let Some(answer) = text.strip_prefix("40") {
            let answer: Value = serde_json::from_str(answer).unwrap();
            let pid = answer["pid"].as_str().map(str::to_owned);
            assert!(pid.is_some(), "{answer}");
            if self.pid == pid {
                self.recovered += 1;
                return Vec::new();
            }
            (self.pid, self.fresh) = (pid, self.fresh + 1);
            self.newest.clear();
            let user = json!(["authenticate", {"userId": "reader"}]).to_string();
            let joins =
                ROOMS.iter().map(|room| json!(["join-room", {"roomName": room}]).to_string());
            return joins.chain([user]).map(|event| format!("42{event}")).collect();
        }
        let Some(event) = text.strip_prefix("42") else { return Vec::new() };
        let event: Vec<Value> = serde_json::from_str(event).unwrap();
        self.offset = event.last().and_then(Value::as_str).map(str::to_owned);
        let (sequence, number) = match event[0].as_str().unwrap() {
            "message-reply" => (event[1]["roomName"].as_str().unwrap(), &event[1]["offset"]),
            "told" => ("told", &event[1]["n"]),
            "private-message" => ("private", &event[1]["message"]["content"]),
            _ => return Vec::new(),
        };
        let number = number.as_u64().unwrap();
        self.seen += 1;
        if let Some(before) = self.newest.insert(sequence.to_owned(), number)
            && number != before + 1
        {
            let connection = self.recovered + self.fresh;
            self.faults
                .push(format!("{sequence}: {number} after {before}, connection {connection}"));
        }
        Vec::new()
    }
}

/// Writes to random rooms until it is told to stop.
async fn write(server: Arc<TestServer>, seed: u64, stop: Arc<AtomicBool>) {
    let (mut random, mut client) = (Random::new(seed), server.client().await);
    while !stop.load(Relaxed) {
        let room = random.pick(&ROOMS);
        let text = "x".repeat(random.index(200));
        let ack = client.ask("message", json!({"roomName": room, "text": text})).await;
        assert_eq!(ack["success"], true, "{ack}");
        client.clear();
    }
}

/// Tells everyone, and the reader's user, until it is told to stop.
async fn tell(server: Arc<TestServer>, stop: Arc<AtomicBool>) {
    let mut client = server.client().await;
    // Somebody of the user is always there, so that nothing is refused.
    client.authenticate("reader").await;
    let mut n = 0_u64;
    while !stop.load(Relaxed) {
        n += 1;
        server.post("/events", &json!({"event": "told", "data": {"n": n}})).await.expect(201);
        let message = json!({"targetUserId": "reader", "message": n});
        assert_eq!(client.ask("private-message", message).await["delivered"], true);
        client.clear();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_missing_or_comes_twice_whatever_the_network_does() {
    let wanted: u64 = std::env::var("ROOMCAST_RECOVERY_RECONNECTS")
        .map_or(100, |count| count.parse().expect("a number of reconnects"));
    let seed = std::env::var("ROOMCAST_RECOVERY_SEED").map_or(1, |seed| seed.parse().unwrap());
    let server = server_with(|config| {
        config.rate_limit_events = 0;
        config.announce_connections = false;
    })
    .await;
    let server = Arc::new(server);
    let network = Network::to(server.addresses(), seed).await;
    let (stop, next) = (Arc::<AtomicBool>::default(), AtomicU64::new(seed));
    let writers = (0..SENDERS)
        .map(|_| tokio::spawn(write(server.clone(), next.fetch_add(1, Relaxed), stop.clone())));
    let mut tasks = writers.collect::<Vec<_>>();
    tasks.push(tokio::spawn(tell(server.clone(), stop.clone())));
    let mut client = Client::default();
    while client.recovered + client.fresh < wanted {
        client.visit(&network).await;
        assert!(client.faults.is_empty(), "seed {seed}: {:?}", client.faults);
    }
    stop.store(true, Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    println!("recovered {}, fresh {}, seen {}", client.recovered, client.fresh, client.seen);
    assert!(client.recovered > client.fresh, "{} of {wanted}", client.recovered);
    assert!(client.seen > wanted);
}
