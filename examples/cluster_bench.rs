//! What several nodes cost: CPU per message of the nodes and of Redis, and how long a message takes
//! from its sender on one node to its reader on another.
//!
//! `cargo run --profile dist --example cluster_bench [RATE] [SECONDS] [ROUNDS]` (default: 5,000 messages a
//! second for 5 seconds, each case twice). It starts a redis-server and the nodes, each a process of
//! its own; 20 clients send messages of 200 bytes, in rooms of one reader each.

mod support;

use std::{
    net::{Ipv4Addr, TcpListener},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use roomcast::{
    config::{Config, Secret, StoreUrl},
    server,
};
use support::{Fallible, Process, Server, Socket, next};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    sync::mpsc,
};
use tokio_tungstenite::tungstenite::Message;

const SENDERS: u64 = 20;

/// Serves until it is killed; says on the standard output where.
async fn serve(store: &str) -> Fallible<()> {
    let mut config = Config {
        port: 0,
        host: Ipv4Addr::LOCALHOST.into(),
        rate_limit_events: 0,
        rate_limit_burst: 0,
        max_rooms_per_client: 0,
        announce_connections: false,
        ..Config::default()
    };
    if store.starts_with("redis:") {
        config.redis_url = Some(Secret::new(store));
    } else {
        config.store_url = StoreUrl::Sqlite(store.into());
    }
    let server = server::bind(Arc::new(config)).await?;
    println!("{}", server.address());
    server.run(std::future::pending()).await?;
    Ok(())
}

/// A redis-server that keeps nothing on disk.
async fn redis() -> Fallible<(Process, String)> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let port_text = port.to_string();
    let mut child = Command::new("redis-server")
        .args(["--port", &port_text, "--save", "", "--appendonly", "no"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    while let Some(line) = lines.next_line().await? {
        if line.contains("Ready to accept") {
            break;
        }
    }
    Ok((Process(child), format!("redis://127.0.0.1:{port}")))
}

/// A node that is ready.
async fn node(store: &str) -> Fallible<Server> {
    let node = Server::start(["serve", store]).await?;
    let ready = format!("http://{}/health/ready", node.address);
    while !reqwest::get(&ready).await?.status().is_success() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(node)
}

/// Sends `rate` messages a second to its room, each with the moment at which it is sent, and waits for
/// all acks; returns how many were sent.
async fn send(
    socket: Socket,
    room: u64,
    rate: u64,
    time: Duration,
    epoch: Instant,
) -> Fallible<u64> {
    let (mut write, mut read) = socket.split();
    let (tell, mut acknowledged) = tokio::sync::watch::channel(0);
    let reader = tokio::spawn(async move {
        while let Ok(packet) = next(&mut read).await {
            if packet.contains(r#""success":true"#) {
                tell.send_modify(|acks| *acks += 1);
            }
        }
    });
    let text = "x".repeat(120);
    let (start, mut sent) = (Instant::now(), 0);
    while start.elapsed() < time {
        let due = u64::try_from(start.elapsed().as_micros())? * rate / 1_000_000;
        while sent < due {
            let at = epoch.elapsed().as_micros();
            let message = format!(
                r#"42{sent}["message",{{"roomName":"room-{room}","id":"{sent:016}","at":"{at:012}","text":"{text}"}}]"#
            );
            write.feed(Message::text(message)).await?;
            sent += 1;
        }
        write.flush().await?;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let all = acknowledged.wait_for(|acks| *acks == sent);
    tokio::time::timeout(Duration::from_secs(10), all).await.map_err(|_| "some were refused")??;
    reader.abort();
    Ok(sent)
}

/// Reads one room, and tells how long each message took.
async fn read(mut socket: Socket, epoch: Instant, waits: mpsc::UnboundedSender<Duration>) {
    while let Ok(packet) = next(&mut socket).await {
        if packet == "2" && socket.send(Message::text("3")).await.is_err() {
            return;
        }
        let at = packet.split_once("\"at\":\"").and_then(|(_, rest)| rest.get(..12)?.parse().ok());
        if let Some(at) = at {
            let wait = epoch.elapsed().saturating_sub(Duration::from_micros(at));
            if waits.send(wait).is_err() {
                return;
            }
        }
    }
}

async fn measure(
    name: &str,
    nodes: usize,
    shared: bool,
    rate: u64,
    time: Duration,
) -> Fallible<()> {
    let directory = tempfile::tempdir()?;
    let (redis, url) = redis().await?;
    let file = directory.path().join("bench.db").display().to_string();
    let store = if shared { url } else { file };
    let mut all = Vec::new();
    for _ in 0..nodes {
        all.push(node(&store).await?);
    }
    let (first, last) = (&all[0], &all[nodes - 1]);
    let epoch = Instant::now();
    let (waits, mut waited) = mpsc::unbounded_channel();
    let mut sockets = Vec::new();
    for room in 0..SENDERS {
        let mut reader = last.connect().await?;
        reader.send(Message::text(format!(r#"42{room}["join-room","room-{room}"]"#))).await?;
        while !next(&mut reader).await?.starts_with("43") {}
        tokio::spawn(read(reader, epoch, waits.clone()));
        sockets.push(first.connect().await?);
    }
    drop(waits);
    let used = || all.iter().map(|node| node.process.cpu()).collect::<Vec<_>>();
    let (nodes_before, redis_before) = (used(), redis.cpu());
    let begun = Instant::now();
    let mut senders = tokio::task::JoinSet::new();
    for (room, socket) in (0..).zip(sockets) {
        senders.spawn(send(socket, room, rate / SENDERS, time, epoch));
    }
    let mut sent = 0;
    while let Some(done) = senders.join_next().await {
        sent += done??;
    }
    let took = begun.elapsed();
    // The last deliveries may come after the last acks.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut times = Vec::new();
    while let Ok(wait) = waited.try_recv() {
        times.push(wait);
    }
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    let count = f64::from(u32::try_from(sent)?);
    let each = |used: Duration| used.as_secs_f64() * 1e6 / count;
    let nodes_used =
        used().into_iter().zip(nodes_before).map(|(now, before)| each(now.saturating_sub(before)));
    let nodes_used = nodes_used.map(|used| format!("{used:5.1}")).collect::<Vec<_>>().join(" + ");
    println!(
        "{name:22} {:>6.0}/s  nodes {nodes_used} µs  Redis {:5.1} µs  p50 {:>9.2?} p99 {:>9.2?}  {} of {sent} came",
        count / took.as_secs_f64(),
        each(redis.cpu().saturating_sub(redis_before)),
        at(50),
        at(99),
        times.len(),
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Fallible<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [command, store] = arguments.as_slice()
        && command == "serve"
    {
        return serve(store).await;
    }
    let mut numbers = arguments.iter().filter_map(|argument| argument.parse::<u64>().ok());
    let rate = numbers.next().unwrap_or(5_000);
    let time = Duration::from_secs(numbers.next().unwrap_or(5));
    let rounds = numbers.next().unwrap_or(2);
    for _ in 0..rounds {
        measure("one node, SQLite", 1, false, rate, time).await?;
        measure("one node, Redis", 1, true, rate, time).await?;
        measure("from A to B, Redis", 2, true, rate, time).await?;
    }
    Ok(())
}
