//! What the server holds for clients that poll, as the system sees it: the memory of the real binary.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    TestClient,
    process::{self, ServerProcess},
};

/// How long anything may take; a test that waits for longer has failed.
const DEADLINE: Duration = Duration::from_mins(1);

const MB: u64 = 1_000_000;

struct Server {
    process: ServerProcess,
    http: Client,
    _store: tempfile::TempDir,
}

impl Server {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let store = tempfile::tempdir().unwrap();
        let mut command = process::command(&store.path().join("store.db"));
        command.envs(settings.iter().copied());
        let process = process::start(command).await;
        let http = Client::builder().no_proxy().build().unwrap();
        Self { process, http, _store: store }
    }

    /// The memory that it has, in bytes.
    fn memory(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.process.id())).unwrap();
        let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4096
    }

    fn url(&self, query: &str) -> String {
        format!("http://{}/socket.io/?EIO=4&transport=polling{query}", self.process.address())
    }

    /// A session's id, signed.
    async fn open(&self, cookie: &str) -> String {
        let answer = self.http.get(self.url("")).header("cookie", cookie).send().await.unwrap();
        let text = answer.text().await.unwrap();
        let open: Value = serde_json::from_str(text.strip_prefix('0').expect(&text)).unwrap();
        open["sid"].as_str().unwrap().to_owned()
    }

    /// The status and the text of a poll.
    async fn poll(&self, session: &str) -> (StatusCode, String) {
        let answer = self.http.get(self.url(&format!("&sid={session}"))).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    async fn post(&self, session: &str, body: String) {
        let request = self.http.post(self.url(&format!("&sid={session}"))).body(body);
        assert_eq!(request.send().await.unwrap().text().await.unwrap(), "ok");
    }

    /// A client that is in `/` and has polled once.
    async fn client(&self) -> String {
        let session = self.open("none").await;
        self.post(&session, "40".into()).await;
        let mut greeting = String::new();
        while !greeting.contains("42[\"connected\"") {
            greeting.push_str(&self.poll(&session).await.1);
        }
        session
    }

    async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.process.address());
        self.http.get(url).send().await.unwrap().text().await.unwrap()
    }

    /// The most memory that it had until its figures were these.
    async fn peak_until(&self, done: impl Fn(&str) -> bool) -> u64 {
        let mut peak = self.memory();
        let watching = async {
            while !done(&self.metrics().await) {
                peak = peak.max(self.memory());
            }
        };
        tokio::time::timeout(DEADLINE, watching).await.expect("the figures stay as they are");
        peak.max(self.memory())
    }
}

async fn fill(publisher: &mut TestClient, messages: usize, size: usize) {
    for n in 0..messages {
        let message = json!({"roomName": "r", "n": n, "text": "x".repeat(size)});
        assert_eq!(publisher.ask("message", message).await["success"], true);
    }
}

/// How many clients were cut off for being slow.
fn cut_off(figures: &str) -> usize {
    let lines = figures.lines().filter(|line| line.starts_with("roomcast_slow_consumers_total"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
}

fn assert_bounded(what: &str, before: u64, peak: u64, most: u64) {
    let grown = peak.saturating_sub(before);
    println!("{what}: {} MB, at most {} MB more", before / MB, grown / MB);
    assert!(grown <= most, "{what}: {} MB more than {} MB", grown / MB, before / MB);
}

#[tokio::test]
async fn pages_that_no_poll_fetches_are_not_piled_up() {
    let server = Server::start(&[("SEND_TIMEOUT", "2s")]).await;
    let mut publisher = server.process.connecting().join().await;
    fill(&mut publisher, 1000, 7000).await;
    let session = server.client().await;
    let before = server.memory();
    let ask = "42[\"syncMessages\",{\"roomId\":\"r\",\"limit\":1000}]";
    server.post(&session, vec![ask; 100].join("\x1e")).await;
    let peak = server.peak_until(|figures| cut_off(figures) == 1).await;
    assert_bounded("100 pages of 7 MB", before, peak, 60 * MB);
    assert_eq!(server.poll(&session).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn messages_that_no_poll_fetches_are_not_piled_up() {
    let server = Server::start(&[("SEND_TIMEOUT", "2s")]).await;
    let mut publisher = server.process.connecting().join().await;
    for _ in 0..30 {
        let session = server.client().await;
        server.post(&session, "42[\"join-room\",\"r\"]".into()).await;
    }
    let before = server.memory();
    fill(&mut publisher, 90, 100_000).await;
    let peak = server.peak_until(|figures| cut_off(figures) == 30).await;
    assert_bounded("9 MB for each of 30", before, peak, 60 * MB);
}

#[tokio::test]
async fn what_a_handshake_says_and_nobody_needs_is_not_kept() {
    let server = Server::start(&[]).await;
    server.open("none").await;
    let before = server.memory();
    let cookie = format!("c={}", "x".repeat(60_000));
    for _ in 0..500 {
        server.open(&cookie).await;
    }
    assert_bounded("500 cookies of 60 KB", before, server.memory(), 12 * MB);
}
