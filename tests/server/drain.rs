//! The real binary is told to stop. While hundreds of clients send it says first that it is not ready
//! any more, loses nothing that it has acknowledged, and ends within its grace; and whatever hangs, it
//! leaves the cluster and closes its store in order.

#![cfg(unix)]

use std::{
    collections::HashSet,
    io::{Read, Write},
    net::SocketAddr,
    path::Path,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdout, Command},
    sync::Barrier,
    time::timeout,
};

use crate::support::{Connecting, peer::Peer, redis::RedisServer};

/// How many clients send.
const CLIENTS: usize = 200;

/// How many rooms they share.
const ROOMS: usize = 10;

/// How long the server may take to stop.
const GRACE: Duration = Duration::from_secs(10);

/// How long anything else may take; a test that waits for longer has failed.
const DEADLINE: Duration = Duration::from_mins(1);

/// The binary with its store in a directory, on a free port.
struct Roomcast {
    child: Child,
    address: SocketAddr,
    log: Lines<BufReader<ChildStdout>>,
}

impl Roomcast {
    async fn start(directory: &Path) -> Self {
        Self::start_with(directory, &[]).await
    }

    async fn start_with(directory: &Path, settings: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_roomcast"))
            .env_clear()
            .current_dir(directory)
            .envs([
                ("HOST", "127.0.0.1"),
                ("PORT", "0"),
                ("LOG_FORMAT", "json"),
                ("NODE_ENV", "development"),
                ("LOG_LEVEL", "info"),
                ("HISTORY_SIZE", "100000"),
                ("ANNOUNCE_CONNECTIONS", "false"),
                ("STORE_URL", "sqlite:roomcast.db"),
                ("SHUTDOWN_GRACE", "10s"),
            ])
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = timeout(DEADLINE, async {
            loop {
                let line = log.next_line().await.unwrap().expect("it ended before it listened");
                let line: Value = serde_json::from_str(&line).unwrap();
                let fields = line.get("fields").unwrap_or(&line);
                if fields["message"] == "listening" {
                    return u16::try_from(fields["port"].as_u64().unwrap()).unwrap();
                }
            }
        });
        let port = port.await.expect("it does not listen in time");
        Self { child, address: ([127, 0, 0, 1], port).into(), log }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn terminate(&self) {
        let id = self.child.id().unwrap().to_string();
        let sent = std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(sent.success());
    }

    /// Its exit code.
    async fn ended(mut self) -> Option<i32> {
        // Whoever writes to a log that nobody reads waits.
        let read = async { while let Ok(Some(_)) = self.log.next_line().await {} };
        let (ended, ()) = tokio::join!(timeout(DEADLINE, self.child.wait()), read);
        ended.expect("it does not end").unwrap().code()
    }
}

/// The status of the answer, on a connection of its own; `None` if there is none.
fn status(address: SocketAddr, path: &str) -> Option<u16> {
    let mut stream = std::net::TcpStream::connect_timeout(&address, DEADLINE).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.parse().ok()
}

/// One client: it sends as fast as it gets acks, until the server is gone. Answers what was acknowledged.
async fn send(address: SocketAddr, number: usize, ready: Arc<Barrier>) -> Vec<String> {
    let mut client = Connecting::to(address).join().await;
    let room = format!("room-{}", number % ROOMS);
    client.join(&room).await;
    ready.wait().await;
    let mut acknowledged = Vec::new();
    for count in 0.. {
        let id = format!("{number}-{count}");
        let message = json!({"roomName": room, "id": id, "omitSender": true});
        let Some(ack) = client.try_ask("message", message).await else { break };
        if ack["success"] != true {
            assert_eq!(ack["code"], "unavailable", "{ack}");
            break;
        }
        acknowledged.push(id);
    }
    acknowledged
}

/// The ids of all messages in the store.
async fn stored(server: &Roomcast) -> HashSet<String> {
    let mut ids = HashSet::new();
    for room in 0..ROOMS {
        let mut after = 0;
        loop {
            let path = format!("/rooms/room-{room}/messages?after={after}&limit=1000");
            let page: Value = reqwest::get(server.url(&path)).await.unwrap().json().await.unwrap();
            let items = page["items"].as_array().unwrap();
            for item in items {
                let offset = item["offset"].as_u64().unwrap();
                assert_eq!(offset, after + 1, "a gap in room-{room}");
                after = offset;
                assert!(
                    ids.insert(item["data"]["id"].as_str().unwrap().to_owned()),
                    "twice: {item}"
                );
            }
            if page["complete"] == true {
                break;
            }
        }
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_stop_under_load() {
    let directory = tempfile::tempdir().unwrap();
    let server = Roomcast::start(directory.path()).await;
    let ready = Arc::new(Barrier::new(CLIENTS + 1));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(send(server.address, number, ready.clone())))
        .collect();
    timeout(DEADLINE, ready.wait()).await.expect("the clients do not get in");
    let address = server.address;
    assert_eq!(status(address, "/health/ready"), Some(200));
    // On a thread of its own, which the clients of this process do not keep waiting.
    let balancer = std::thread::spawn(move || {
        loop {
            match status(address, "/health/ready") {
                Some(200) => {}
                // It still serves, on new connections too, and says that it will not for long.
                Some(503) => return status(address, "/health/live"),
                other => panic!("{other:?}: it closed its door without notice"),
            }
        }
    });
    server.terminate();
    let told = Instant::now();

    assert_eq!(server.ended().await, Some(0));
    assert!(told.elapsed() < GRACE, "{:?}", told.elapsed());
    assert_eq!(balancer.join().unwrap(), Some(200));
    let acknowledged: Vec<String> =
        join_all(clients).await.into_iter().flat_map(Result::unwrap).collect();
    assert!(acknowledged.len() > CLIENTS, "there was no load: {}", acknowledged.len());

    let server = Roomcast::start(directory.path()).await;
    let stored = stored(&server).await;
    let lost: Vec<_> = acknowledged.iter().filter(|id| !stored.contains(*id)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    eprintln!("{} acknowledged, {} stored", acknowledged.len(), stored.len());
    server.terminate();
    assert_eq!(server.ended().await, Some(0));
}

/// Everything that a stop could wait for: a client that has stopped reading in the middle of a page, one in the
/// middle of a replay, one that has never read, requests that do not end, and answers that nobody takes.
async fn hang(server: &Roomcast) -> (Vec<Peer>, Vec<TcpStream>) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let text = "x".repeat(60_000);
    let mut deaf = Peer::connect(server.address).await;
    deaf.emit("authenticate", &json!("deaf")).await;
    deaf.next("authenticated").await;
    deaf.join("big").await;
    for number in 0..100 {
        let data = json!({"number": number, "text": text});
        let message = json!({"event": "message-reply", "rooms": ["big"], "data": data});
        let sent = http.post(server.url("/events")).json(&message).send().await.unwrap();
        assert_eq!(sent.status(), 201, "{}", sent.text().await.unwrap());
    }
    let mut paging = Peer::connect(server.address).await;
    paging.emit("syncMessages", &json!({"roomId": "big", "offset": 0, "limit": 1000})).await;
    paging.next("message-reply").await;
    let mut recovering = Peer::connect(server.address).await;
    recovering.emit("join-room", &json!({"roomName": "big", "offset": 0})).await;
    recovering.next("message-reply").await;
    let mut requests = Vec::new();
    for request in [
        "",
        "GET /health HT",
        "POST /events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: 1000\r\n\r\n{\"event\"",
        "GET /rooms/big/messages?limit=1000 HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nhost: x\r\n\r\n",
    ] {
        let mut tcp = TcpStream::connect(server.address).await.unwrap();
        tcp.write_all(request.as_bytes()).await.unwrap();
        requests.push(tcp);
    }
    // Comes behind them.
    Connecting::to(server.address).join().await.disconnect().await;
    (vec![deaf, paging, recovering], requests)
}

/// Nobody is cut off for being slow before the stop does it.
const PATIENT: [(&str, &str); 2] = [("SEND_TIMEOUT", "10m"), ("SEND_BUFFER", "64MB")];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_hangs_the_store_is_closed_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let server = Roomcast::start_with(directory.path(), &PATIENT).await;
    let hanging = hang(&server).await;
    server.terminate();
    assert_eq!(server.ended().await, Some(0));
    drop(hanging);
    let wal = std::fs::metadata(directory.path().join("roomcast.db-wal"));
    assert_eq!(wal.map_or(0, |wal| wal.len()), 0, "the store was not checkpointed");
    let server = Roomcast::start(directory.path()).await;
    let page = server.url("/rooms/big/messages?after=99");
    let page: Value = reqwest::get(page).await.unwrap().json().await.unwrap();
    assert_eq!(page["offset"], 100);
    server.terminate();
    assert_eq!(server.ended().await, Some(0));
}

/// A patient server over this Redis, once it has found it.
async fn start_over(redis: &RedisServer, directory: &std::path::Path) -> Roomcast {
    let url = redis.url();
    let settings = [PATIENT.as_slice(), &[("REDIS_URL", &url)]].concat();
    let server = Roomcast::start_with(directory, &settings).await;
    let ready =
        async { while reqwest::get(server.url("/health/ready")).await.unwrap().status() != 200 {} };
    timeout(DEADLINE, ready).await.expect("it does not find its Redis");
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_hangs_the_node_leaves_the_cluster() {
    let redis = RedisServer::start();
    let directory = tempfile::tempdir().unwrap();
    let server = start_over(&redis, directory.path()).await;
    let hanging = hang(&server).await;
    assert_eq!(redis.command::<u32>("ZCARD roomcast:nodes"), 1);
    assert_eq!(redis.command::<Vec<String>>("KEYS roomcast:node:*:users").len(), 1);
    server.terminate();
    assert_eq!(server.ended().await, Some(0));
    drop(hanging);
    assert_eq!(redis.command::<u32>("ZCARD roomcast:nodes"), 0, "its lease is left");
    assert!(redis.command::<Vec<String>>("KEYS roomcast:node:*:users").is_empty());
    assert_eq!(redis.command::<u32>("SCARD roomcast:online"), 1, "in its grace");
    assert_eq!(redis.command::<u32>("ZCARD roomcast:departures"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_in_time_although_redis_stands_still() {
    let redis = RedisServer::start();
    let directory = tempfile::tempdir().unwrap();
    let server = start_over(&redis, directory.path()).await;
    let hanging = hang(&server).await;
    redis.freeze();
    server.terminate();
    assert_eq!(server.ended().await, Some(0));
    redis.thaw();
    drop(hanging);
}
