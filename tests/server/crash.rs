//! Acknowledged means stored: whatever was acknowledged before a `kill -9` is there afterwards.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::support::{
    Connecting, SECRET, TestClient,
    process::{self, ServerProcess},
    token_of,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

const ROUNDS: u64 = 20;
const ROOMS: [&str; 3] = ["a", "b", "c"];
const SENDERS: u64 = 4;
/// So many messages of one sender may wait for their acks.
const UNDER_WAY: u64 = 16;

/// What must be there: of each room the ids by their offsets, and of the offline user's queue.
#[derive(Default)]
struct Acknowledged {
    rooms: HashMap<&'static str, BTreeMap<u64, String>>,
    private: Vec<String>,
}

/// What a client that reads everything has found so far in a room.
#[derive(Default)]
struct Found {
    ids: Vec<String>,
    epoch: Option<Value>,
}

/// A sequence that looks random and is the same for the same seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

async fn user(connecting: Connecting, name: &str) -> TestClient {
    connecting.auth(json!({"token": token_of(name)})).join().await
}

/// Sends at full speed until the server is gone, and tells of every ack; returns what was
/// acknowledged.
async fn send_until_the_end(
    mut client: TestClient,
    name: String,
    acks: mpsc::UnboundedSender<()>,
) -> Acknowledged {
    let mut acknowledged = Acknowledged::default();
    let mut under_way = HashMap::new();
    for n in 0.. {
        let id = format!("{name}-{n}");
        let room = ROOMS[usize::try_from(n).unwrap() % ROOMS.len()];
        let private = n % 16 == 15;
        let asked = if private {
            let message = json!({"targetUserId": "absent", "message": n, "id": id});
            client.ask_later("private-message", message).await
        } else {
            client.ask_later("message", json!({"roomName": room, "id": id})).await
        };
        let Some(asked) = asked else { break };
        under_way.insert(asked, (private, room, id));
        if n < UNDER_WAY {
            continue;
        }
        let Some((number, ack)) = client.next_ack().await else { break };
        // Nobody listens any more when the server is being killed.
        let _ = acks.send(());
        let (private, room, id) = under_way.remove(&number).unwrap();
        assert_eq!((&ack["success"], &ack["id"]), (&json!(true), &json!(id)), "{ack}");
        if private {
            assert_eq!(ack["queued"], true, "{ack}");
            acknowledged.private.push(id);
        } else {
            let offset = ack["offset"].as_u64().unwrap();
            acknowledged.rooms.entry(room).or_default().insert(offset, id);
        }
    }
    // What came before the end counts, too.
    while let Some((number, ack)) = client.next_ack().await {
        let (private, room, id) = under_way.remove(&number).unwrap();
        if private {
            acknowledged.private.push(id);
        } else {
            acknowledged.rooms.entry(room).or_default().insert(ack["offset"].as_u64().unwrap(), id);
        }
    }
    acknowledged
}

/// Reads what a room has beyond what was found before: its offsets must be contiguous.
async fn read_on(client: &mut TestClient, room: &str, found: &mut Found) {
    loop {
        let after = found.ids.len();
        let request = json!({"roomId": room, "offset": after, "limit": 1000});
        let page = client.ask("syncMessages", request).await;
        assert_eq!(page["success"], true, "{page}");
        let epoch = found.epoch.get_or_insert_with(|| page["epoch"].clone());
        assert_eq!(page["epoch"], *epoch, "the history of {room} was lost");
        for _ in 0..page["syncedMessageCount"].as_u64().unwrap() {
            let message = client.next("message-reply").await;
            assert_eq!(message["offset"], found.ids.len() + 1, "a gap in {room}");
            found.ids.push(message["id"].as_str().unwrap().to_owned());
        }
        if page["complete"] == true {
            return;
        }
    }
}

async fn check(server: &ServerProcess, found: &mut HashMap<&str, Found>, must: &Acknowledged) {
    let mut client = user(server.connecting(), "reader").await;
    for room in ROOMS {
        let found = found.entry(room).or_default();
        read_on(&mut client, room, found).await;
        for (offset, id) in must.rooms.get(room).into_iter().flatten() {
            let place = usize::try_from(*offset).unwrap() - 1;
            assert_eq!(found.ids.get(place), Some(id), "{offset} of {room} was acknowledged");
        }
    }
}

async fn start(store: &std::path::Path) -> ServerProcess {
    let mut command = process::command(store);
    command
        .env("JWT_SECRET", SECRET)
        .env("HISTORY_SIZE", "1000000")
        .env("QUEUE_SIZE", "1000000")
        .env("QUEUE_CONFIRM", "1h");
    process::start(command).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9() {
    let seed = match std::env::var("CRASH_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => u64::from(std::process::id()),
    };
    println!("CRASH_SEED={seed} repeats these moments");
    let mut random = Random(seed);
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("roomcast.db");
    let (mut must, mut found) = (Acknowledged::default(), HashMap::new());
    for round in 0..ROUNDS {
        let server = start(&store).await;
        check(&server, &mut found, &must).await;
        let (tell, mut acks) = mpsc::unbounded_channel();
        // All are there before the first sends: the end comes soon.
        let mut clients = Vec::new();
        for sender in 0..SENDERS {
            let name = format!("{round}-{sender}");
            clients.push((user(server.connecting(), &name).await, name));
        }
        let senders: Vec<_> = clients
            .into_iter()
            .map(|(client, name)| tokio::spawn(send_until_the_end(client, name, tell.clone())))
            .collect();
        for _ in 0..=random.below(400) {
            acks.recv().await.unwrap();
        }
        server.kill().await;
        for sender in senders {
            let acknowledged = sender.await.unwrap();
            for (room, messages) in acknowledged.rooms {
                must.rooms.entry(room).or_default().extend(messages);
            }
            must.private.extend(acknowledged.private);
        }
    }
    let server = start(&store).await;
    check(&server, &mut found, &must).await;
    let mut again = HashMap::new();
    check(&server, &mut again, &must).await;
    let mut ids = HashSet::new();
    for (room, found) in &found {
        assert_eq!(found.ids, again[room].ids, "{room} reads the same from its beginning");
        for id in &found.ids {
            assert!(ids.insert(id), "{id} is stored twice");
        }
    }
    let acknowledged: usize = must.rooms.values().map(BTreeMap::len).sum();
    println!("{acknowledged} messages acknowledged, {} found", ids.len());
    println!("{} private messages acknowledged", must.private.len());
    assert!(acknowledged > 500 && must.private.len() > 20, "too few to prove anything");

    let mut absent = user(server.connecting(), "absent").await;
    let mut missing: HashSet<_> = must.private.iter().cloned().collect();
    let mut newest = HashMap::new();
    while !missing.is_empty() {
        let message = absent.next("private-message").await;
        missing.remove(message["id"].as_str().unwrap());
        // Each sender's own messages come in the order in which they were sent.
        let n = message["message"]["content"].as_u64();
        let before = newest.insert(message["from"].clone(), n);
        assert!(before.flatten() < n, "{message} after {before:?}");
    }
    server.kill().await;
}

/// What one sender's messages have become, while little history is kept and the log is turned over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_trimmed_stays_trimmed_after_kill_9() {
    const KEPT: u64 = 100;
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("roomcast.db");
    let begin = async |kept: u64| {
        let mut command = process::command(&store);
        command.env("JWT_SECRET", SECRET).env("HISTORY_SIZE", kept.to_string());
        process::start(command).await
    };
    let server = begin(KEPT).await;
    let mut client = user(server.connecting(), "idle").await;
    for n in 1..=50 {
        let ack = client.ask("message", json!({"roomName": "idle", "n": n})).await;
        assert_eq!(ack["offset"], n, "{ack}");
    }
    server.kill().await;
    let text = "x".repeat(3_000);
    let (mut acknowledged, mut epoch) = (0, Value::Null);
    for round in 0..12 {
        let server = begin(KEPT).await;
        let mut client = user(server.connecting(), "busy").await;
        let message = json!({"roomName": "busy", "text": text});
        for _ in 0..32 {
            client.ask_later("message", message.clone()).await;
        }
        for _ in 0..500 + 37 * round {
            let (_, ack) = client.next_ack().await.unwrap();
            acknowledged = ack["offset"].as_u64().unwrap();
            client.ask_later("message", message.clone()).await;
        }
        server.kill().await;
        // Ever more may be read from now on, but what is gone is gone.
        let server = begin(1_000_000).await;
        let mut client = user(server.connecting(), "reader").await;
        let ack = client.ask("join-room", json!({"roomName": "busy", "offset": 0})).await;
        let (head, oldest) =
            (ack["offset"].as_u64().unwrap(), ack["oldestOffset"].as_u64().unwrap());
        assert!(head >= acknowledged, "{head} of {acknowledged}");
        // It is trimmed when it has an eighth too many.
        assert!(oldest + KEPT + KEPT / 8 > head && oldest + KEPT <= head + 1, "{oldest} of {head}");
        assert!(round == 0 || ack["epoch"] == epoch, "{ack}");
        epoch = ack["epoch"].clone();
        let mut found = 0;
        while oldest + found <= head {
            let request = json!({"roomId": "busy", "offset": oldest + found - 1, "limit": 50});
            let page = client.ask("syncMessages", request).await;
            for _ in 0..page["syncedMessageCount"].as_u64().unwrap() {
                assert_eq!(client.next("message-reply").await["offset"], oldest + found);
                found += 1;
            }
        }
        let ack = client.ask("join-room", json!({"roomName": "idle", "offset": 0})).await;
        assert_eq!((&ack["recovered"], &ack["missed"]), (&json!(true), &json!(50)), "{ack}");
        for n in 1..=50 {
            let message = client.next("message-reply").await;
            assert_eq!((&message["offset"], &message["n"]), (&json!(n), &json!(n)), "{message}");
        }
        server.kill().await;
    }
    let size = std::fs::metadata(&store).unwrap().len();
    assert!(size < 8_000_000, "{size} bytes for some 100 messages of 3 KB");
}
