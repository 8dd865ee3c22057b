//! Keys survive `kill -9`, of the server and of a node: what is sent again afterwards is there once.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    process::{self, ServerProcess},
    redis::RedisServer,
};

/// How many messages are sent, over how many lives of the server.
const MESSAGES: usize = 1_000;
const LIVES: usize = 5;
/// So many of them are under way at a time.
const UNDER_WAY: usize = 8;

/// A message that was acknowledged: its offset.
type Known = HashMap<usize, u64>;

/// Sends these messages as one user; what was acknowledged until the server is gone. A message that was acknowledged
/// before must be answered as it was then.
async fn send(
    server: &ServerProcess,
    messages: &[usize],
    known: &mut Known,
    duplicates: &mut usize,
) {
    let Ok(mut client) = server.connecting().knock().await else { return };
    if client.try_ask("authenticate", json!({"userId": "ann"})).await.is_none() {
        return;
    }
    for chunk in messages.chunks(UNDER_WAY) {
        let mut asked = HashMap::new();
        for number in chunk {
            let key = format!("key {number}");
            let payload = json!({"roomName": "r", "n": number, "idempotencyKey": key});
            let Some(id) = client.ask_later("message", payload).await else { return };
            asked.insert(id, *number);
        }
        while !asked.is_empty() {
            let Some((id, ack)) = client.next_ack().await else { return };
            let number = asked.remove(&id).unwrap();
            assert_eq!(ack["success"], true, "{ack}");
            let offset = ack["offset"].as_u64().unwrap();
            *duplicates += usize::from(ack["duplicate"] == true);
            if let Some(before) = known.insert(number, offset) {
                assert_eq!((before, &ack["duplicate"]), (offset, &json!(true)), "{number}: {ack}");
            }
        }
    }
}

async fn history(server: &ServerProcess) -> Vec<Value> {
    let url = format!("http://{}/rooms/r/messages?limit=1000", server.address());
    let page: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    assert_eq!(page["complete"], true);
    page["items"].as_array().unwrap().clone()
}

fn command(store: &Path) -> tokio::process::Command {
    let mut command = process::command(store);
    command.env("NODE_ENV", "development");
    command
}

#[track_caller]
fn assert_each_once(items: &[Value], known: &Known) {
    let numbers = items.iter().map(|item| item["data"]["n"].as_u64().unwrap());
    assert_eq!(numbers.clone().collect::<HashSet<_>>().len(), items.len(), "one is there twice");
    assert_eq!(items.len(), MESSAGES);
    for (number, offset) in known {
        let item = &items[usize::try_from(*offset).unwrap() - 1];
        assert_eq!(item["data"]["n"], json!(number), "acknowledged at {offset}");
    }
}

#[tokio::test]
async fn what_is_sent_again_after_a_kill_is_there_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store.db");
    let messages = (0..MESSAGES).collect::<Vec<_>>();
    let (mut known, mut duplicates) = (Known::new(), 0);
    for life in 1..=LIVES {
        let server = process::start(command(&store)).await;
        let until = MESSAGES * life / LIVES;
        let sending = send(&server, &messages[..until], &mut known, &mut duplicates);
        if life < LIVES {
            // Killed while more is under way than was acknowledged.
            let id = server.id().to_string();
            let killed = async {
                let path = format!("http://{}/metrics", server.address());
                let wanted = format!("roomcast_store_entries_total {}", MESSAGES / LIVES / 2);
                let wanted = wanted.split_once(' ').unwrap();
                loop {
                    let text = reqwest::get(&path).await.unwrap().text().await.unwrap();
                    let stored = text.lines().find_map(|line| line.strip_prefix(wanted.0));
                    let stored = stored.map_or(0, |stored| stored.trim().parse::<usize>().unwrap());
                    if stored >= wanted.1.parse().unwrap() {
                        break;
                    }
                }
                let killed = tokio::process::Command::new("kill").args(["-9", &id]).status().await;
                assert!(killed.unwrap().success());
            };
            tokio::join!(sending, killed);
            server.kill().await;
        } else {
            sending.await;
            let items = history(&server).await;
            assert_eq!(known.len(), MESSAGES);
            assert_each_once(&items, &known);
            assert!(duplicates > 0, "nothing was sent twice");
        }
    }
}

#[tokio::test]
async fn a_request_of_several_messages_is_finished_once_after_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store.db");
    let http = reqwest::Client::new();
    let rooms = (0..50).map(|number| format!("room {number}")).collect::<Vec<_>>();
    let post = async |server: &ServerProcess, request: usize| {
        let url = format!("http://{}/events", server.address());
        let body = json!({"event": "e", "data": {"request": request}, "rooms": rooms});
        let asked = http.post(url).header("idempotency-key", request.to_string()).json(&body);
        asked.send().await.ok().map(|answer| answer.status())
    };
    let server = process::start(command(&store)).await;
    let id = server.id().to_string();
    let posting = join_all((0..20).map(|request| post(&server, request)));
    let killed = async {
        // One of them is done: others are under way.
        while post(&server, 0).await != Some(StatusCode::CREATED) {}
        let killed = tokio::process::Command::new("kill").args(["-9", &id]).status().await;
        assert!(killed.unwrap().success());
    };
    tokio::join!(posting, killed);
    server.kill().await;

    let server = process::start(command(&store)).await;
    for status in join_all((0..20).map(|request| post(&server, request))).await {
        assert_eq!(status, Some(StatusCode::CREATED));
    }
    for room in &rooms {
        let path = format!("/rooms/{}/messages", room.replace(' ', "%20"));
        let url = format!("http://{}{path}", server.address());
        let page: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        let items = page["items"].as_array().unwrap();
        let requests = items.iter().map(|item| item["data"]["request"].as_u64().unwrap());
        assert_eq!(requests.collect::<HashSet<_>>(), (0..20).collect(), "{room}");
        assert_eq!(items.len(), 20, "{room}");
    }
}

#[tokio::test]
async fn what_is_sent_again_to_another_node_after_a_kill_is_there_once() {
    let redis = RedisServer::start();
    let directory = tempfile::tempdir().unwrap();
    let start = async || {
        let mut command = process::command(&directory.path().join("unused.db"));
        command
            .env("REDIS_URL", redis.url())
            .env("NODE_ENV", "development")
            .env_remove("STORE_URL");
        process::start(command).await
    };
    let (one, other) = (start().await, start().await);
    let messages = (0..MESSAGES).collect::<Vec<_>>();
    let (mut known, mut duplicates) = (Known::new(), 0);
    let id = one.id().to_string();
    let sending = send(&one, &messages, &mut known, &mut duplicates);
    let killed = async {
        while redis.command::<Option<u64>>("HGET roomcast:meta:/\u{1f}r h") < Some(100) {
            tokio::task::yield_now().await;
        }
        let killed = tokio::process::Command::new("kill").args(["-9", &id]).status().await;
        assert!(killed.unwrap().success());
    };
    tokio::join!(sending, killed);
    one.kill().await;
    send(&other, &messages, &mut known, &mut duplicates).await;
    assert_each_once(&history(&other).await, &known);
    assert!(duplicates >= 99, "{duplicates}");
}
