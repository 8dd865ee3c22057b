//! A file that a former version has written is taken over, also where that is interrupted again and again.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{
    SECRET, TestClient,
    process::{self, ServerProcess},
    token_of,
};

/// Written by a server of the version before the log: its database has the version 5.
const FORMER: &[u8] = include_bytes!("../fixtures/store-version-5.db");
/// Messages added to it, so that moving them takes a while.
const MANY: u64 = 60_000;
/// Those, and the fixture's own.
const ALL: u64 = MANY + 46;

fn command(store: &Path) -> Command {
    let mut command = process::command(store);
    command.env("JWT_SECRET", SECRET).env("QUEUE_CONFIRM", "1h").env("QUEUE_TTL", "0");
    command.env("HISTORY_TTL", "0").env("HISTORY_SIZE", "1000000");
    command
}

async fn user(server: &ServerProcess, name: &str) -> TestClient {
    server.connecting().auth(json!({"token": token_of(name)})).join().await
}

/// Reads all that a room has; their offsets must follow one another.
async fn page(client: &mut TestClient, room: &str, first: u64) -> Vec<Value> {
    let mut messages = Vec::new();
    loop {
        let after = first - 1 + messages.len() as u64;
        let request = json!({"roomId": room, "offset": after, "limit": 1000});
        let ack = client.ask("syncMessages", request).await;
        assert_eq!(ack["success"], true, "{ack}");
        for _ in 0..ack["syncedMessageCount"].as_u64().unwrap() {
            let message = client.next("message-reply").await;
            assert_eq!(message["offset"], first + messages.len() as u64, "{room}");
            messages.push(message);
        }
        if ack["complete"] == true {
            return messages;
        }
    }
}

/// What the fixture holds must be there.
async fn check(server: &ServerProcess) {
    let mut client = user(server, "ann").await;
    let ack = client.ask("join-room", json!({"roomName": "support", "offset": 0})).await;
    assert_eq!((&ack["recovered"], &ack["oldestOffset"]), (&json!(false), &json!(21)), "{ack}");
    assert_eq!((&ack["epoch"], &ack["offset"]), (&json!("f207f883d86227b0"), &json!(60)), "{ack}");
    let support = page(&mut client, "support", 21).await;
    assert_eq!(support.len(), 40);
    for (message, n) in support.iter().zip(21..) {
        assert_eq!(message["id"], format!("s-{n}"), "{message}");
        assert_eq!(message["text"], format!("grüße {n}"), "{message}");
    }
    let files = page(&mut client, "files", 1).await;
    assert_eq!(files.len(), 5);
    assert_eq!(page(&mut client, "large", 1).await[0]["text"], "x".repeat(20_000));
    let mut absent = user(server, "absent").await;
    assert_eq!(absent.next("private-message").await["id"], "p-1");
}

/// The fixtures of all versions, which hold the same.
fn files_of_all_versions() -> Vec<PathBuf> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let files = fs::read_dir(fixtures).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "db")).collect()
}

#[tokio::test]
async fn a_file_of_every_version_is_taken_over() {
    let files = files_of_all_versions();
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        is_taken_over(&file).await;
    }
}

async fn is_taken_over(file: &Path) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("roomcast.db");
    fs::copy(file, &path).unwrap();
    for _ in 0..2 {
        let server = process::start(command(&path)).await;
        check(&server).await;
        server.kill().await;
    }
    let server = process::start(command(&path)).await;
    let mut client = user(&server, "eve").await;
    client.join("support").await;
    let ack = client.ask("message", json!({"roomName": "support", "id": "next"})).await;
    assert_eq!(ack["offset"], 61, "{ack}");
    let ack = client.ask("readReceipt", json!({"roomId": "support", "messageId": "s-60"})).await;
    assert_eq!(ack["success"], true, "{ack}");
    assert_eq!(server.terminate().await, Some(0));
    let conn = Connection::open(&path).unwrap();
    let read: i64 = conn
        .query_row("SELECT count(*) FROM receipts WHERE offset = 60", [], |row| row.get(0))
        .unwrap();
    assert_eq!(read, 2, "that of before, and that of now");
}

/// The fixture with many more messages.
fn large(path: &Path) {
    fs::write(path, FORMER).unwrap();
    let conn = Connection::open(path).unwrap();
    conn.execute_batch(&format!(
        "INSERT INTO rooms SELECT 9, '/', 'many', epoch, 0, 0, NULL, 1 FROM rooms WHERE id = 1;
         WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < {MANY})
         INSERT INTO messages (room, offset, at, id_hash, id, event, json)
         SELECT 9, n, 1795812292116 + n, n, 'm-' || n, 'message-reply',
                json_object('id', 'm-' || n, 'text', printf('%.*c', 300, 'x')) FROM n;"
    ))
    .unwrap();
}

/// How many messages are still to be moved; `None` if all were.
fn left(path: &Path) -> Option<u64> {
    let conn = Connection::open(path).unwrap();
    let count = |sql| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap().cast_unsigned();
    let begun = count("SELECT count(*) FROM sqlite_schema WHERE name = 'log'") > 0;
    if !begun {
        return Some(ALL);
    }
    let pending = count("SELECT count(*) FROM sqlite_schema WHERE name = 'old_messages'") > 0;
    pending.then(|| count("SELECT count(*) FROM old_messages"))
}

#[tokio::test]
async fn a_server_that_is_killed_while_it_takes_a_file_over_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("roomcast.db");
    large(&path);
    let (mut amid, mut before) = (0, ALL);
    for delay in 1.. {
        let mut child = command(&path).spawn().unwrap();
        // Later and later, so that it comes to its end.
        tokio::time::sleep(Duration::from_millis(20 * delay)).await;
        child.kill().await.unwrap();
        let Some(left) = left(&path) else { break };
        assert!(left <= before, "{left} after {before}");
        amid += u32::from(left < before && left > 0);
        before = left;
    }
    assert!(amid > 2, "it was killed {amid} times amid its work");
    let server = process::start(command(&path)).await;
    check(&server).await;
    let many = page(&mut user(&server, "ann").await, "many", 1).await;
    assert_eq!(many.len() as u64, MANY);
    for (message, n) in many.iter().zip(1..) {
        assert_eq!(message["id"], format!("m-{n}"));
    }
    server.kill().await;
}

#[tokio::test]
async fn a_file_is_taken_over_with_little_room_on_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("roomcast.db");
    large(&path);
    let size = fs::metadata(&path).unwrap().len();
    let server = process::start(command(&path)).await;
    check(&server).await;
    server.terminate().await;
    let after = fs::metadata(&path).unwrap().len();
    assert!(after < size + 8_000_000, "{size} bytes have become {after}");
}
