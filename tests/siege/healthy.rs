//! Clients that do as they should: each says something, waits for the acknowledgement and for what it said, and
//! goes on. They are to notice nothing.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde_json::json;
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    DEADLINE,
    support::{Connecting, TestClient, token_of},
};

/// How many there are, two in each room.
const COUNT: usize = 10;
/// How often each says something.
const EVERY: Duration = Duration::from_millis(50);

/// What they have come to.
#[derive(Default)]
pub struct Healthy {
    times: Mutex<Vec<Duration>>,
    over: AtomicBool,
    rounds: AtomicUsize,
}

/// How long they waited, sorted.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Adds others.
    pub fn add(&mut self, others: Self) {
        self.0.extend(others.0);
        self.0.sort_unstable();
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(last) = self.0.last() else { return f.write_str("none came round") };
        let at = |percent: usize| self.0[(self.0.len() - 1) * percent / 100].as_millis();
        write!(
            f,
            "{} round trips, median {} ms, p99 {} ms, longest {} ms",
            self.0.len(),
            at(50),
            at(99),
            last.as_millis()
        )
    }
}

impl Healthy {
    /// How long they have waited since this was last asked.
    pub fn take_times(&self) -> Times {
        let mut times = std::mem::take(&mut *self.times.lock());
        times.sort_unstable();
        Times(times)
    }

    /// Lets them come to their end; what went wrong with them.
    pub async fn end(&self, clients: Vec<JoinHandle<Result<(), String>>>) -> Vec<String> {
        self.over.store(true, Ordering::Relaxed);
        let mut faults = Vec::new();
        for client in clients {
            match client.await {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => faults.push(fault),
                Err(fault) => faults.push(fault.to_string()),
            }
        }
        assert!(self.rounds.load(Ordering::Relaxed) > 0, "there was no healthy client");
        faults
    }
}

/// Connects them, and lets them begin.
pub async fn begin(
    address: SocketAddr,
    healthy: Arc<Healthy>,
) -> Vec<JoinHandle<Result<(), String>>> {
    let mut clients = Vec::new();
    for number in 0..COUNT {
        let user = format!("healthy-{number}");
        let connecting = Connecting::to(address).auth(json!({"token": token_of(&user)}));
        let mut client = connecting.join().await;
        let room = format!("healthy-{}", number / 2);
        client.join(&room).await;
        clients.push((number, room, client));
    }
    let live = |(number, room, client)| tokio::spawn(live(number, room, client, healthy.clone()));
    clients.into_iter().map(live).collect()
}

async fn live(
    number: usize,
    room: String,
    mut client: TestClient,
    healthy: Arc<Healthy>,
) -> Result<(), String> {
    let mut next = None;
    while !healthy.over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let id = format!("{number}-{}", healthy.rounds.fetch_add(1, Ordering::Relaxed));
        let message = json!({"roomName": room, "id": id, "replyToSender": true});
        let round = async {
            let ack = client.try_ask("message", message).await;
            let Some(ack) = ack else { return Err("its connection was closed".to_owned()) };
            if ack["success"] != true {
                return Err(format!("it was refused: {ack}"));
            }
            // The other one's come between.
            loop {
                let came = client.next("message-reply").await;
                let offset = came["offset"].as_u64().unwrap_or_default();
                if *next.get_or_insert(offset) != offset {
                    return Err(format!("{next:?} was to come, and {offset} came"));
                }
                next = Some(offset + 1);
                if came["id"] == id.as_str() {
                    return Ok(());
                }
            }
        };
        match timeout(DEADLINE, round).await {
            Ok(Ok(())) => healthy.times.lock().push(begun.elapsed()),
            Ok(Err(fault)) => return Err(format!("healthy client {number}: {fault}")),
            Err(_) => return Err(format!("healthy client {number} got nothing for {DEADLINE:?}")),
        }
        // Announcements of others.
        client.drop_events("client-connected");
        client.drop_events("client-disconnected");
        sleep(EVERY).await;
    }
    Ok(())
}
