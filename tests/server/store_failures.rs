//! A store that cannot be opened, and one that cannot be written: nothing is acknowledged or
//! delivered that is not stored, and nothing is destroyed.

use std::{fs, path::Path, time::Duration};

use crate::support::{
    SECRET, TestClient, TestServer,
    process::{self, ServerProcess},
    token_of,
};
use roomcast::config::StoreUrl;
use serde_json::{Value, json};

/// Starts a server that must refuse to with exit code 1; what it says.
async fn refused(store: &Path) -> String {
    let (code, said) = process::refusal(process::command(store)).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(store.to_str().unwrap()), "it must name {}: {said}", store.display());
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    said
}

#[tokio::test]
async fn a_directory_that_cannot_be_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("plain-file");
    fs::write(&file, "not a directory").unwrap();
    let (code, said) = process::refusal(process::command(&file.join("roomcast.db"))).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(file.to_str().unwrap()), "{said}");
    assert!(said.contains("the directory must exist or be creatable, and be writable"), "{said}");
    assert_eq!(said.matches("os error").count(), 1, "said once: {said}");
    assert_eq!(fs::read(&file).unwrap(), b"not a directory");
}

/// A file with some messages, written by a server that has stopped in order.
async fn written(path: &Path) {
    let store_url = StoreUrl::Sqlite(path.to_owned());
    let server = TestServer::with(|config| config.store_url = store_url).await;
    let mut client = server.client().await;
    for n in 0..100 {
        let text = "x".repeat(1000);
        client.ask("message", json!({"roomName": "r", "n": n, "text": text})).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_left_untouched() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("roomcast.db");
    written(&path).await;
    let sound = fs::read(&path).unwrap();
    let mut torn = sound.clone();
    let middle = torn.len() / 2;
    torn[middle..middle + 8192].fill(0xa5);
    let half = sound[..middle].to_vec();
    let foreign = b"these are somebody's notes, not a database\n".repeat(10);
    for damaged in [torn, half, foreign] {
        fs::write(&path, &damaged).unwrap();
        let said = refused(&path).await;
        assert!(said.contains("damaged or not a database"), "{said}");
        assert!(said.contains("restore it from a backup"), "{said}");
        assert!(fs::read(&path).unwrap() == damaged, "it was written to");
    }
    fs::write(&path, sound).unwrap();
    process::start(process::command(&path)).await.kill().await;
}

#[tokio::test]
async fn a_second_server_on_one_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("roomcast.db");
    let first = process::start(process::command(&path)).await;
    let mut client = first.connecting().join().await;
    assert_eq!(client.ask("message", json!({"roomName": "r"})).await["offset"], 1);
    let said = refused(&path).await;
    assert!(said.contains("in use by another roomcast"), "{said}");
    assert_eq!(client.ask("message", json!({"roomName": "r"})).await["offset"], 2, "unharmed");
    first.kill().await;
    process::start(process::command(&path)).await.kill().await;
}

/// Says how large the files that the server writes may become. Without privileges, a limit can be
/// lowered and taken back: that stands for a disk that is full, and has room again.
async fn limit_files(server: &ServerProcess, limit: &str) {
    let done = tokio::process::Command::new("prlimit")
        .arg(format!("--pid={}", server.id()))
        .arg(format!("--fsize={limit}:"))
        .status()
        .await
        .expect("prlimit of util-linux is needed");
    assert!(done.success());
}

/// A server that is told of the limit by an error, as of a full disk, and not ended by a signal.
async fn start_limitable(path: &Path) -> ServerProcess {
    start_limitable_with(path, &[]).await
}

async fn start_limitable_with(path: &Path, settings: &[(&str, &str)]) -> ServerProcess {
    let mut shell = tokio::process::Command::new("sh");
    shell.args(["-c", r#"trap "" XFSZ; exec "$0""#, env!("CARGO_BIN_EXE_roomcast")]);
    let mut command = process::wrapped(shell, path);
    command.env("JWT_SECRET", SECRET).env("QUEUE_CONFIRM", "1h");
    command.envs(settings.iter().copied());
    process::start(command).await
}

/// A server whose directory is a file system of its own, so small that it can be filled.
async fn start_on_a_small_disk(directory: &Path, settings: &[(&str, &str)]) -> ServerProcess {
    let mut unshare = tokio::process::Command::new("unshare");
    // Without privileges: in namespaces of its own anybody may mount.
    unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
    unshare.arg(r#"mount -t tmpfs -o size=48m tmpfs "$1" && exec "$2""#);
    unshare.arg("sh").arg(directory).arg(env!("CARGO_BIN_EXE_roomcast"));
    let mut command = process::wrapped(unshare, &directory.join("roomcast.db"));
    process::start({
        command.envs(settings.iter().copied());
        command
    })
    .await
}

async fn is_ready(server: &ServerProcess) -> bool {
    let url = format!("http://{}/health/ready", server.address());
    reqwest::get(url).await.unwrap().status().is_success()
}

#[tokio::test]
async fn a_disk_that_stays_full_takes_messages_again_once_old_ones_have_expired() {
    let directory = tempfile::tempdir().unwrap();
    let server = start_on_a_small_disk(directory.path(), &[("HISTORY_TTL", "10s")]).await;
    let mut client = server.connecting().join().await;
    let text = "x".repeat(500_000);
    let mut stored = 0;
    loop {
        let ack = client.ask("message", json!({"roomName": "r", "text": text})).await;
        if ack["success"] == false {
            assert_eq!(ack["code"], "unavailable", "{ack}");
            break;
        }
        stored += 1;
        assert!(stored < 200, "the disk has room for more than it has");
    }
    assert!(stored > 10, "{stored}: the reserve is not that large");
    assert!(!is_ready(&server).await);
    // Nobody makes room: only what is there grows old.
    let healed = async { while !is_ready(&server).await {} };
    tokio::time::timeout(Duration::from_mins(1), healed).await.expect("it never heals");
    for n in 1..=20 {
        let ack = client.ask("message", json!({"roomName": "r", "text": text})).await;
        assert_eq!(ack["offset"], stored + n, "{ack}");
        assert!(is_ready(&server).await, "it was ready a moment ago");
    }
    let ack = client.ask("join-room", json!({"roomName": "r", "offset": 0})).await;
    assert_eq!(ack["recovered"], false, "what has expired is told: {ack}");
    assert!(ack["oldestOffset"].as_u64().unwrap() > 1, "{ack}");
    server.kill().await;
}

async fn user(server: &ServerProcess, name: &str) -> TestClient {
    server.connecting().auth(json!({"token": token_of(name)})).join().await
}

/// Writes to an offline user; the ack.
async fn write(client: &mut TestClient, id: &str, text: &str) -> Value {
    let message = json!({"targetUserId": "absent", "message": text, "id": id});
    client.ask("private-message", message).await
}

#[tokio::test]
async fn a_full_disk_refuses_messages_and_recovers_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let server = start_limitable(&directory.path().join("roomcast.db")).await;
    let (mut sender, mut member) = (user(&server, "sender").await, user(&server, "member").await);
    member.join("r").await;
    limit_files(&server, "500000").await;
    let text = "x".repeat(50_000);
    let mut stored = 0;
    // Ten of these fill the limit, whatever else the files hold.
    let refusal = loop {
        let ack = sender.ask("message", json!({"roomName": "r", "text": text})).await;
        if ack["success"] == false {
            break ack;
        }
        stored += 1;
        assert_eq!(ack["offset"], stored);
        assert_eq!(member.next("message-reply").await["offset"], stored);
        assert!(stored < 10, "the limit has no effect");
    };
    assert!(stored > 0, "nothing fitted");
    assert_eq!(refusal["code"], "unavailable", "{refusal}");
    let told = sender.next("error").await;
    assert_eq!((&told["code"], &told["event"]), (&json!("unavailable"), &json!("message")));
    for (event, payload) in [
        ("sendMessage", json!({"roomId": "r", "content": text})),
        ("channels", json!({"roomName": "another", "text": text})),
    ] {
        let ack = sender.ask(event, payload).await;
        assert_eq!(ack["code"], "unavailable", "{event}: {ack}");
    }
    assert_eq!(write(&mut sender, "lost", &text).await["code"], "unavailable");
    assert_eq!(sender.all("message-sent").await, Vec::<Value>::new());
    assert_eq!(member.all("message-reply").await, Vec::<Value>::new(), "refused, so not delivered");
    assert_eq!(member.all("newMessage").await, Vec::<Value>::new());
    // What is stored can be read all the same.
    let join = json!({"roomName": "r", "offset": 0});
    let ack = user(&server, "late").await.ask("join-room", join).await;
    assert_eq!((&ack["recovered"], &ack["missed"]), (&json!(true), &json!(stored)));

    limit_files(&server, "unlimited").await;
    let ack = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            let ack = sender.ask("message", json!({"roomName": "r", "id": "after"})).await;
            if ack["success"] == true {
                return ack;
            }
        }
    });
    let ack = ack.await.expect("it does not recover");
    assert_eq!(ack["offset"], stored + 1, "what was refused took no offset");
    assert_eq!(member.next("message-reply").await["offset"], stored + 1);
    assert_eq!(write(&mut sender, "kept", "x").await["queued"], true);
    let page = member.ask("syncMessages", json!({"roomId": "r"})).await;
    assert_eq!(page["syncedMessageCount"], stored + 1);
    let mut absent = user(&server, "absent").await;
    assert_eq!(
        absent.next("private-message").await["id"],
        "kept",
        "and the other was never queued"
    );
    server.kill().await;
}

/// Writes that end at any byte, as on a disk that is nearly full: each message is acknowledged and there, or
/// refused and nowhere; while the log is trimmed and turned over.
#[tokio::test]
async fn a_write_cut_short_at_any_byte_leaves_no_half_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("roomcast.db");
    let settings = [("HISTORY_SIZE", "60")];
    let server = start_limitable_with(&path, &settings).await;
    let mut client = user(&server, "sender").await;
    let text = "x".repeat(9_000);
    let (mut stored, mut refused) = (vec![0_u64; 3], 0);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..8 {
        for n in 0..150 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if n % 10 == 5 {
                // Some way into the write-ahead log, or a little beyond what it is.
                let wal = fs::metadata(path.with_extension("db-wal")).map_or(0, |file| file.len());
                let limit = (seed >> 33) % (wal + 20_000) + 4_096;
                limit_files(&server, &limit.to_string()).await;
            }
            let at = usize::try_from(seed >> 40).unwrap() % 3;
            let message = json!({"roomName": format!("r{at}"), "n": n, "text": &text[..usize::try_from(seed % 9_000).unwrap()]});
            let ack = client.ask("message", message).await;
            if ack["success"] == true {
                stored[at] += 1;
                assert_eq!(ack["offset"], stored[at], "{round}/{n}: {ack}");
            } else {
                assert_eq!(ack["code"], "unavailable", "{ack}");
                refused += 1;
                limit_files(&server, "unlimited").await;
                let healed = async {
                    while client.ask("message", json!({"roomName": "probe"})).await["success"]
                        != true
                    {}
                };
                tokio::time::timeout(Duration::from_secs(20), healed)
                    .await
                    .expect("it does not recover");
                break;
            }
        }
        limit_files(&server, "unlimited").await;
    }
    assert!(refused >= 4, "{refused}");
    for restarted in [false, true] {
        let again =
            if restarted { Some(start_limitable_with(&path, &settings).await) } else { None };
        let server = again.as_ref().unwrap_or(&server);
        let mut reader = user(server, "reader").await;
        for (at, head) in stored.iter().enumerate() {
            let ack = reader
                .ask("join-room", json!({"roomName": format!("r{at}"), "offset": head}))
                .await;
            assert_eq!((&ack["offset"], &ack["recovered"]), (&json!(head), &json!(true)), "{ack}");
        }
        if !restarted {
            server.signal("-KILL");
            let mut gone = false;
            while !gone {
                gone = std::fs::read_to_string(format!("/proc/{}/stat", server.id()))
                    .map_or(true, |stat| stat.contains(") Z "));
            }
        }
    }
}
