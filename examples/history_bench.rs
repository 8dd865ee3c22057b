//! What history costs a server: messages per second, CPU of the server per message, and how long an
//! acknowledgement takes, with the history on and off.
//!
//! `cargo run --profile dist --example history_bench [RATE] [SECONDS] [ROUNDS]` (default: 10,000 messages
//! a second for 5 seconds, each case twice, on and off in turn). The server is a process of its own;
//! 20 clients send messages of 200 bytes and wait for their acks, one more client is a member of
//! every room and reads.

mod support;

use std::{
    ffi::OsStr,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use roomcast::{
    config::{Config, StoreUrl},
    server,
};
use support::{Fallible, Server, Socket, next};
use tokio_tungstenite::tungstenite::Message;

const SENDERS: u64 = 20;

/// Serves until it is killed; says on the standard output where.
async fn serve(history: u64, store: &str) -> Fallible<()> {
    let config = Config {
        port: 0,
        host: Ipv4Addr::LOCALHOST.into(),
        store_url: StoreUrl::Sqlite(store.into()),
        history_size: history,
        queue_size: 0,
        rate_limit_events: 0,
        rate_limit_burst: 0,
        max_rooms_per_client: 0,
        announce_connections: false,
        ..Config::default()
    };
    let server = server::bind(Arc::new(config)).await?;
    println!("{}", server.address());
    server.run(std::future::pending()).await?;
    Ok(())
}

/// Sends `rate` messages a second; the waits for their acks.
async fn send(
    socket: Socket,
    sender: u64,
    rooms: u64,
    rate: u64,
    time: Duration,
) -> Fallible<Vec<Duration>> {
    let (mut write, mut read) = socket.split();
    let (under_way, mut begun) = tokio::sync::mpsc::channel::<Instant>(2_000);
    let acks = tokio::spawn(async move {
        let mut waits = Vec::new();
        // Acks come in the order of the messages.
        while let Some(begun) = begun.recv().await {
            while !next(&mut read).await?.starts_with("43") {}
            waits.push(begun.elapsed());
        }
        Fallible::Ok(waits)
    });
    let text = "x".repeat(140);
    let (start, mut sent) = (Instant::now(), 0);
    while start.elapsed() < time {
        let due = u64::try_from(start.elapsed().as_micros())? * rate / 1_000_000;
        while sent < due {
            let room = (sent * SENDERS + sender) % rooms;
            let id = sent * SENDERS + sender;
            let message = format!(
                r#"42{sent}["message",{{"roomName":"room-{room}","id":"{id:016}","text":"{text}"}}]"#
            );
            write.feed(Message::text(message)).await?;
            under_way.send(Instant::now()).await?;
            sent += 1;
        }
        write.flush().await?;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(under_way);
    acks.await?
}

async fn measure(history: u64, rooms: u64, rate: u64, time: Duration) -> Fallible<()> {
    let directory = tempfile::tempdir()?;
    let (history_size, store) = (history.to_string(), directory.path().join("bench.db"));
    let arguments: [&OsStr; 3] = ["serve".as_ref(), history_size.as_ref(), store.as_ref()];
    let server = Server::start(arguments).await?;
    let mut member = server.connect().await?;
    for room in 0..rooms {
        let join = format!(r#"42{room}["join-room",{{"roomName":"room-{room}"}}]"#);
        member.send(Message::text(join)).await?;
        while !next(&mut member).await?.starts_with("43") {}
    }
    let received = Arc::new(AtomicU64::new(0));
    let count = received.clone();
    let reader = tokio::spawn(async move {
        while let Ok(packet) = next(&mut member).await {
            if packet == "2" && member.send(Message::text("3")).await.is_err() {
                return;
            }
            count.fetch_add(u64::from(packet.starts_with("42")), Relaxed);
        }
    });
    let mut senders = tokio::task::JoinSet::new();
    let mut sockets = Vec::new();
    for _ in 0..SENDERS {
        sockets.push(server.connect().await?);
    }
    let (begun, cpu) = (Instant::now(), server.process.cpu());
    for (sender, socket) in (0..).zip(sockets) {
        senders.spawn(send(socket, sender, rooms, rate / SENDERS, time));
    }
    let mut waits = Vec::new();
    while let Some(done) = senders.join_next().await {
        waits.extend(done??);
    }
    let (took, used) = (begun.elapsed(), server.process.cpu().saturating_sub(cpu));
    waits.sort_unstable();
    let at = |percent: usize| waits.get(waits.len() * percent / 100).copied().unwrap_or_default();
    let sent = f64::from(u32::try_from(waits.len())?);
    // The last acks may come before the last deliveries.
    for _ in 0..200 {
        if received.load(Relaxed) >= waits.len() as u64 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!(
        "{:11} {rooms:>3} room(s) {:>7.0}/s  {:>5.1} µs CPU each  ack p50 {:>9.2?} p99 {:>9.2?}  delivered {}",
        if history == 0 { "no history" } else { "history" },
        sent / took.as_secs_f64(),
        used.as_secs_f64() * 1e6 / sent,
        at(50),
        at(99),
        received.load(Relaxed),
    );
    reader.abort();
    Ok(())
}

#[tokio::main]
async fn main() -> Fallible<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [command, history, store] = arguments.as_slice()
        && command == "serve"
    {
        return serve(history.parse()?, store).await;
    }
    let mut numbers = arguments.iter().filter_map(|argument| argument.parse::<u64>().ok());
    let rate = numbers.next().unwrap_or(10_000);
    let time = Duration::from_secs(numbers.next().unwrap_or(5));
    let rounds = numbers.next().unwrap_or(2);
    for rooms in [1, 400] {
        for _ in 0..rounds {
            for history in [1_000, 0] {
                measure(history, rooms, rate, time).await?;
            }
        }
    }
    Ok(())
}
