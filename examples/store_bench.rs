//! What the store costs: messages per second, CPU per message and how long an acknowledgement
//! takes.
//!
//! `cargo run --profile dist --example store_bench [RATE] [SECONDS]` (default: 10,000 messages a second
//! for 5 seconds, and as many as it can). A message has 200 bytes.
//!
//! With `REDIS_URL` it measures the store in that Redis instead, whose CPU it tells too; with several, separated by
//! commas, that of each.

mod support;

use std::time::{Duration, Instant};

use roomcast::{
    protocol::{audience::Except, names::RoomName},
    store::{Append, Clock, Entry, Location, RedisSettings, RoomKey, Settings, Store, Sync},
};
use support::cpu_of;
use tokio::sync::mpsc;

/// Where the store is.
enum Place {
    Disk(Location, Sync),
    Redis(Vec<redis::Client>),
}

impl Place {
    /// CPU time of each Redis so far.
    fn redis_cpu(&self) -> Vec<Duration> {
        let Self::Redis(clients) = self else { return Vec::new() };
        clients.iter().map(cpu_of_redis).collect()
    }
}

fn cpu_of_redis(client: &redis::Client) -> Duration {
    let info = client
        .get_connection()
        .and_then(|mut connection| redis::cmd("INFO").arg("cpu").query::<String>(&mut connection));
    let info = info.unwrap_or_else(|error| panic!("{error}"));
    let seconds: f64 = info
        .lines()
        .filter_map(|line| {
            line.strip_prefix("used_cpu_sys:").or(line.strip_prefix("used_cpu_user:"))
        })
        .filter_map(|seconds| seconds.parse::<f64>().ok())
        .sum();
    Duration::from_secs_f64(seconds)
}

fn append(room: &RoomKey, number: u64) -> Append {
    let json =
        format!(r#"{{"roomName":"{}","n":{number},"text":"{}"}}"#, room.room, "x".repeat(150));
    let id = format!(
        "{:032x}",
        u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    );
    let entry = Entry {
        id,
        event: "message-reply".into(),
        json: json.into(),
        attachments: Vec::new(),
        timestamp_ms: Clock::system().now_ms(),
    };
    Append { room: room.clone(), entry, except: Except::nobody(), sender: None, webhook: None }
}

/// The settings of a store at this place.
fn settings(place: &Place) -> Settings {
    let (location, sync) = match place {
        Place::Disk(location, sync) => (location.clone(), *sync),
        Place::Redis(_) => (Location::Memory, Sync::Normal),
    };
    Settings {
        location,
        sync,
        history_size: 1_000,
        history_ttl: Some(Duration::from_hours(24)),
        queue_size: 1_000,
        queue_ttl: None,
        max_rooms: 0,
        max_rooms_per_sender: 0,
        store_max_bytes: 0,
        has_webhooks: false,
        webhook_limit: 100_000,
        idempotency_window: Duration::from_mins(5),
        max_keys: 1_000_000,
        max_keys_per_sender: 10_000,
        queue_sender_limit: 0,
        clock: Clock::system(),
    }
}

/// Sends `rate` messages a second (0: as many as 10,000 under way allow) for `time` and prints what
/// it cost.
async fn measure(title: &str, place: &Place, rooms: u64, rate: u64, time: Duration) {
    let settings = settings(place);
    let store = match place {
        Place::Disk(..) => match Store::open(settings, |_| {}, |_| false) {
            Ok(store) => store,
            Err(error) => return println!("{title}: {error}"),
        },
        Place::Redis(clients) => {
            let prefix = "store_bench".to_owned();
            let redis = RedisSettings {
                primaries: clients.iter().cloned().map(Into::into).collect(),
                replicas: 0,
                prefix,
                node: "bench".into(),
            };
            Store::redis(&settings, &redis)
        }
    };
    let keys: Vec<_> = (0..rooms)
        .filter_map(|n| {
            Some(RoomKey {
                namespace: "/".into(),
                room: RoomName::parse(&format!("room-{n}")).ok()?,
            })
        })
        .collect();
    let (under_way, mut answers) = mpsc::channel(10_000);
    let waits = tokio::spawn(async move {
        let mut waits = Vec::new();
        while let Some((begun, pending)) = answers.recv().await {
            let pending: roomcast::store::Pending<_> = pending;
            let begun: Instant = begun;
            if let Err(error) = pending.await {
                println!("{error}");
            }
            waits.push(begun.elapsed());
        }
        waits
    });
    let redis_before = place.redis_cpu();
    let (begun, cpu_before) = (Instant::now(), cpu_of(std::process::id()));
    let mut sent = 0;
    while begun.elapsed() < time {
        let due = if rate == 0 {
            sent + 100
        } else {
            u64::try_from(begun.elapsed().as_micros()).unwrap_or(0) * rate / 1_000_000
        };
        while sent < due {
            let Some(key) = keys.get(usize::try_from(sent * 7 % rooms).unwrap_or(0)) else {
                return;
            };
            if under_way.send((Instant::now(), store.append(append(key, sent)))).await.is_err() {
                return;
            }
            sent += 1;
        }
        if rate > 0 {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }
    drop(under_way);
    let mut waits = waits.await.unwrap_or_default();
    let (took, used) = (begun.elapsed(), cpu_of(std::process::id()).saturating_sub(cpu_before));
    let redis_used = place.redis_cpu().into_iter().zip(redis_before);
    waits.sort_unstable();
    let at = |percent: usize| waits.get(waits.len() * percent / 100).copied().unwrap_or_default();
    let stats = store.stats();
    println!(
        "{title:34} {:>8.0}/s  {:>5.1} µs CPU each  {:>6.1} a commit  {:>5} µs a commit  ack p50 {:>8.2?} p99 {:>8.2?}",
        f64::from(u32::try_from(sent).unwrap_or(u32::MAX)) / took.as_secs_f64(),
        used.as_secs_f64() * 1e6 / f64::from(u32::try_from(sent.max(1)).unwrap_or(u32::MAX)),
        f64::from(u32::try_from(stats.entries).unwrap_or(u32::MAX))
            / f64::from(u32::try_from(stats.commits.max(1)).unwrap_or(u32::MAX)),
        stats.total_commit_micros / stats.commits.max(1),
        at(50),
        at(99),
    );
    for (place, (after, before)) in redis_used.enumerate() {
        let each = after.saturating_sub(before).as_secs_f64() * 1e6
            / f64::from(u32::try_from(sent.max(1)).unwrap_or(1));
        println!("{:34} {each:>23.1} µs CPU each of Redis {}", "", place + 1);
    }
    store.close().await;
}

#[tokio::main]
async fn main() {
    let mut arguments =
        std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let rate = arguments.next().unwrap_or(10_000);
    let time = Duration::from_secs(arguments.next().unwrap_or(5));
    let directory = std::env::temp_dir().join(format!("store_bench-{}", std::process::id()));
    let redis = std::env::var("REDIS_URL").ok().map(|urls| {
        let open = |url| redis::Client::open(url).unwrap_or_else(|error| panic!("{error}"));
        Place::Redis(urls.split(',').map(open).collect())
    });
    for (title, rate) in [("paced", rate), ("all out", 0)] {
        for rooms in [1, 1_000] {
            let title = format!("{title}, {rooms} room(s)");
            if let Some(redis) = &redis {
                measure(&format!("{title}, Redis"), redis, rooms, rate, time).await;
                continue;
            }
            let file = directory.join(format!("{title}.db"));
            let full = file.with_extension("full.db");
            for (kind, place) in [
                ("normal", Place::Disk(Location::File(file), Sync::Normal)),
                ("full", Place::Disk(Location::File(full), Sync::Full)),
                ("memory", Place::Disk(Location::Memory, Sync::Normal)),
            ] {
                measure(&format!("{title}, {kind}"), &place, rooms, rate, time).await;
            }
        }
    }
    if redis.is_some() {
        return;
    }
    if let Err(error) = std::fs::remove_dir_all(&directory) {
        println!("{}: {error}", directory.display());
    }
}
