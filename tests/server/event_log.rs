//! The event log, as the operator finds it: in a file that can be rotated, or on the standard output.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use reqwest::Method;
use roomcast::config::{Config, EventLog, Secret};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::support::{Answer, Connecting, SECRET, TestServer, token_of};

/// Things that must never be in a log.
const MESSAGE: &str = "what-is-said-stays-private";

struct Log {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Log {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.log");
        Self { _directory: directory, path }
    }

    async fn server(&self, configure: impl FnOnce(&mut Config)) -> TestServer {
        let event_log = Some(EventLog::File(self.path.clone()));
        TestServer::with(|config| {
            config.event_log = event_log;
            configure(config);
        })
        .await
    }

    fn lines(&self) -> Vec<Value> {
        lines(&self.path)
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The lines of this type.
fn of<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == kind).collect()
}

#[tokio::test]
async fn who_comes_and_goes_is_logged_and_the_log_is_whole_at_the_end() {
    let log = Log::new();
    let server = log.server(|_| {}).await;
    let mut witness = server.client().await;
    let mut guest = server.connecting().namespace("/chat").join().await;
    guest.authenticate("alice").await;
    let (first, second) = (witness.id.clone(), guest.id.clone());
    guest.emit("message", json!({"roomName": "r", "text": MESSAGE})).await;
    guest.settle().await;
    guest.disconnect().await;
    server.until(|figures| figures.contains("\nroomcast_connections_closed_total 1\n")).await;
    witness.settle().await;
    server.stop().await;

    let lines = log.lines();
    let connects = of(&lines, "connect");
    assert_eq!(connects.len(), 2);
    assert_eq!(connects[0]["clientId"], first);
    assert_eq!(
        (&connects[1]["clientId"], &connects[1]["namespace"]),
        (&second.clone().into(), &"/chat".into())
    );
    for line in &connects {
        assert_eq!(
            (&line["address"], &line["transport"]),
            (&"127.0.0.1".into(), &"websocket".into())
        );
        assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
    }
    let disconnects = of(&lines, "disconnect");
    assert_eq!(disconnects.len(), 2, "{lines:?}");
    assert_eq!(
        (&disconnects[0]["clientId"], &disconnects[0]["userId"]),
        (&second.into(), &"alice".into())
    );
    assert_eq!(disconnects[0]["reason"], "client namespace disconnect");
    assert_eq!(
        (&disconnects[1]["clientId"], &disconnects[1]["reason"]),
        (&first.into(), &"server shutting down".into())
    );
    assert!(!std::fs::read_to_string(&log.path).unwrap().contains(MESSAGE));
}

#[tokio::test]
async fn what_is_refused_is_logged_without_what_was_said() {
    let log = Log::new();
    let server = log
        .server(|config| {
            config.rate_limit_events = 1;
            config.rate_limit_burst = 3;
        })
        .await;
    let mut client = server.client().await;
    let unknown = format!("unheard-of-{}", "x".repeat(200));
    for event in ["leave-room", "sendMessage", &unknown] {
        let ack = client.ask(event, json!({"text": MESSAGE})).await;
        assert_eq!(ack["success"], false);
    }
    for _ in 0..60 {
        client.emit("message", json!({"roomName": "r", "text": MESSAGE})).await;
    }
    client.ended().await;
    server.until(|figures| figures.contains("\nroomcast_connections_closed_total 1\n")).await;
    server.stop().await;

    let lines = log.lines();
    let refusals = of(&lines, "refusal");
    let codes = refusals.iter().map(|line| line["code"].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(codes[..3], ["no_room", "no_room", "unknown_event"], "{refusals:?}");
    assert!(codes[3..].iter().all(|code| *code == "rate_limited"), "{codes:?}");
    // One for the first of many, and one for the end; one a second in between.
    assert!(codes.len() >= 5 && codes.len() < 20, "{codes:?}");
    let name = refusals[2]["event"].as_str().unwrap();
    assert!(name.starts_with("unheard-of-x") && name.chars().count() == 51, "{name}");
    assert_eq!(refusals.last().unwrap()["reason"], "flooding");
    assert_eq!(of(&lines, "disconnect")[0]["reason"], "flooding");
    assert!(!std::fs::read_to_string(&log.path).unwrap().contains(MESSAGE));
}

#[tokio::test]
async fn failed_authentications_are_logged_without_the_proof() {
    let log = Log::new();
    let key = "the-right-key-of-a-backend";
    let server = log
        .server(|config| {
            config.jwt_secret = Some(Secret::new(SECRET));
            config.api_keys = vec![Secret::new(key)];
            config.trust_proxy = vec!["127.0.0.1/32".parse().unwrap()];
        })
        .await;
    let token = format!("{}x", token_of("alice"));
    let from = |address| server.connecting().header("x-forwarded-for", address);
    from("192.0.2.1").auth(json!({"token": token})).knock().await.err().unwrap();
    from("192.0.2.2").query("token", &token).knock().await.err().unwrap();
    let mut client = from("192.0.2.3").auth(json!({"token": token_of("alice")})).join().await;
    let ack = client.ask("authenticate", json!({"userId": "alice", "token": token})).await;
    assert_eq!(ack["code"], "unauthorized");
    let wrong = format!("{key}x");
    let request = server.request(Method::GET, "/stats").header("x-api-key", &wrong);
    Answer::of(request.header("x-forwarded-for", "192.0.2.4")).await.refusal(401);
    server.stop().await;

    let lines = log.lines();
    let failures = of(&lines, "auth_failure");
    let addresses = failures.iter().map(|line| line["address"].as_str().unwrap());
    assert_eq!(addresses.collect::<Vec<_>>(), ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"]);
    assert!(failures.iter().all(|line| line["code"] == "unauthorized"), "{failures:?}");
    assert_eq!(failures[0]["namespace"], "/");
    assert_eq!(
        (&failures[2]["userId"], &failures[2]["event"]),
        (&"alice".into(), &"authenticate".into())
    );
    assert_eq!(failures[3]["transport"], "http");
    let text = std::fs::read_to_string(&log.path).unwrap();
    for secret in [&token, &token_of("alice"), key, SECRET] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[tokio::test]
async fn of_connections_that_are_refused_few_are_logged_and_all_are_counted() {
    let log = Log::new();
    let server = log.server(|config| config.max_connections = 1).await;
    let _first = server.client().await;
    let begun = Instant::now();
    for _ in 0..30 {
        assert_eq!(server.connecting().open().await.err(), Some(503));
    }
    let seconds = begun.elapsed().as_secs();
    server.stop().await;
    let lines = log.lines();
    let refusals = of(&lines, "refusal");
    // Five a second, and one for what was left out.
    assert!(!refusals.is_empty() && refusals.len() as u64 <= 6 * (seconds + 2), "{refusals:?}");
    assert_eq!(refusals.iter().map(|line| count(line)).sum::<u64>(), 30, "{refusals:?}");
    assert_eq!(
        (&refusals[0]["code"], &refusals[0]["address"]),
        (&"unavailable".into(), &"127.0.0.1".into())
    );
}

/// How many a line stands for.
fn count(line: &Value) -> u64 {
    line.get("count").map_or(1, |count| count.as_u64().unwrap())
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_said_at_the_start() {
    let config = Config {
        port: 0,
        event_log: Some(EventLog::File("/nowhere/events.log".into())),
        ..Config::default()
    };
    let error = roomcast::server::bind(std::sync::Arc::new(config)).await.err().unwrap();
    let error = error.to_string();
    assert!(error.contains("/nowhere/events.log") && error.contains("EVENT_LOG"), "{error}");
}

/// The server as a process of its own.
struct Process {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    address: std::net::SocketAddr,
}

impl Process {
    async fn start(event_log: &str) -> Self {
        Self::start_with(&[("EVENT_LOG", event_log)]).await
    }

    async fn start_with(settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roomcast"));
        command.env_clear().kill_on_drop(true).stdout(Stdio::piped());
        let set = [
            ("PORT", "0"),
            ("HOST", "127.0.0.1"),
            ("STORE_URL", "memory:"),
            ("LOG_FORMAT", "json"),
        ];
        let mut child = command.envs(set).envs(settings.iter().copied()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = loop {
            let line: Value =
                serde_json::from_str(&stdout.next_line().await.unwrap().unwrap()).unwrap();
            if line["message"] == "listening" {
                break line["address"].as_str().unwrap().parse().unwrap();
            }
        };
        Self { child, stdout, address }
    }

    async fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &id]).status().await.unwrap();
        assert!(sent.success());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_log_that_was_moved_away_is_opened_anew_on_sighup() {
    let log = Log::new();
    let mut process = Process::start(log.path.to_str().unwrap()).await;
    let first = Connecting::to(process.address).join().await;
    let moved = log.path.with_extension("1");
    // What the thread has not written yet goes to the moved file as well.
    std::fs::rename(&log.path, &moved).unwrap();
    process.signal("HUP").await;
    let begun = Instant::now();
    while !log.path.exists() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the log was not opened anew");
        tokio::task::yield_now().await;
    }
    let second = Connecting::to(process.address).join().await;
    process.signal("TERM").await;
    assert!(process.child.wait().await.unwrap().success());
    let (before, after) = (lines(&moved), lines(&log.path));
    assert_eq!(of(&before, "connect")[0]["clientId"], first.id);
    assert_eq!(before.len(), 1, "{before:?}");
    assert_eq!(of(&after, "connect")[0]["clientId"], second.id);
    assert_eq!(of(&after, "disconnect").len(), 2, "{after:?}");
}

#[tokio::test]
async fn on_the_standard_output_the_lines_stand_among_those_of_the_log() {
    let mut process = Process::start("stdout").await;
    let client = Connecting::to(process.address).join().await;
    let connect = loop {
        let line: Value =
            serde_json::from_str(&process.stdout.next_line().await.unwrap().unwrap()).unwrap();
        if line["type"] == "connect" {
            break line;
        }
    };
    assert_eq!(connect["clientId"], client.id);
}

#[tokio::test]
async fn refused_logins_to_the_admin_ui_do_not_fill_the_log() {
    const KNOCKS: u64 = 500;
    let mut process = Process::start_with(&[
        ("ADMIN_USERNAME", "root"),
        ("ADMIN_PASSWORD", "$2b$10$heqvAkYMez.Va6Et2uXInOnkCT6/uQj1brkrbyG3LpopDklcq7ZOS"),
        ("RATE_LIMIT_EVENTS", "0"),
    ])
    .await;
    let begun = Instant::now();
    let mut client = Connecting::to(process.address).join().await;
    for _ in 0..KNOCKS {
        client.enter("/admin").await.unwrap_err();
    }
    let seconds = begun.elapsed().as_secs();
    process.signal("TERM").await;
    let (mut written, mut left_out) = (0, 0);
    while let Some(line) = process.stdout.next_line().await.unwrap() {
        let line: Value = serde_json::from_str(&line).unwrap();
        written += u64::from(line["message"] == "a login to the Admin UI was refused");
        if line["module"] == "roomcast::gateways::admin_ui::namespace" {
            left_out += line["left_out"].as_u64().unwrap();
        }
    }
    assert!((1..=2 * (seconds + 2)).contains(&written), "{written} lines in {seconds} s");
    assert_eq!(written + left_out, KNOCKS);
}
