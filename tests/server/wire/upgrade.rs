//! From polling to WebSocket, under traffic: nothing is lost, doubled or reordered.

use std::time::Duration;

use roomcast::hub::packet::Packet;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    TestServer,
    peer::{Peer, event},
};

/// A packet that says nothing.
const NOOP: &str = "6";

/// A client that polls.
struct Poller<'a> {
    server: &'a TestServer,
    sid: String,
    /// What the client is called.
    id: String,
}

impl<'a> Poller<'a> {
    async fn connect(server: &'a TestServer) -> Self {
        let hello = server.get("/socket.io/?EIO=4&transport=polling").await.text;
        let hello: serde_json::Value =
            serde_json::from_str(hello.strip_prefix('0').unwrap()).unwrap();
        Self { server, sid: hello["sid"].as_str().unwrap().to_owned(), id: String::new() }
    }

    /// Enters `/`, and takes in all that it is greeted with.
    async fn enter(&mut self) {
        self.post("40").await;
        let greeting = self.until("42[\"client-connected\"").await;
        let connect = greeting[0].strip_prefix("40").unwrap();
        let connect: serde_json::Value = serde_json::from_str(connect).unwrap();
        connect["sid"].as_str().unwrap().clone_into(&mut self.id);
    }

    fn path(&self) -> String {
        format!("/socket.io/?EIO=4&transport=polling&sid={}", self.sid)
    }

    async fn post(&self, packet: &str) {
        let request = self.server.request(reqwest::Method::POST, &self.path());
        let answer = request.body(packet.to_owned()).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }

    /// The packets of one poll.
    async fn poll(&self) -> Vec<String> {
        let answer = self.server.get(&self.path()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.text.split('\x1e').map(str::to_owned).collect()
    }

    /// Polls until a packet begins so, and returns what came with and before it.
    async fn until(&self, begin: &str) -> Vec<String> {
        let mut packets = Vec::new();
        while !packets.iter().any(|packet: &String| packet.starts_with(begin)) {
            for packet in self.poll().await {
                if packet == "2" {
                    self.post("3").await;
                } else {
                    packets.push(packet);
                }
            }
        }
        packets
    }
}

fn numbers(packets: &[String], heard: &mut Vec<u64>) {
    let events = packets.iter().filter_map(|packet| event(packet, "/"));
    heard.extend(
        events
            .filter(|(name, _)| name == "message-reply")
            .map(|(_, data)| data["n"].as_u64().unwrap()),
    );
}

/// Sends the probe of an upgrade, and waits for its answer.
async fn probe(peer: &mut Peer) {
    peer.write("2probe").await;
    while peer.text().await != "3probe" {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_upgrade_under_traffic_loses_nothing() {
    let server = TestServer::with(|config| {
        config.history_size = 0;
        config.rate_limit_events = 0;
    })
    .await;
    let mut publisher = server.client().await;
    publisher.join("r").await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let (last, mut lasts) = tokio::sync::watch::channel(0_u64);
    let publishing = tokio::spawn(async move {
        let mut n = 0;
        while stopped.try_recv().is_err() {
            n += 1;
            publisher.ask("message", json!({"roomName": "r", "n": n})).await;
            last.send_replace(n);
        }
    });
    for _ in 0..10 {
        let mut poller = Poller::connect(&server).await;
        poller.enter().await;
        poller.post("42[\"join-room\",{\"roomName\":\"r\"}]").await;
        let mut heard = Vec::new();
        numbers(&poller.until("42[\"message-reply\"").await, &mut heard);

        let mut peer = Peer::open(server.address(), Some(&poller.sid)).await;
        peer.write("2probe").await;
        // A client polls on until the probe is answered, and pauses before it says that it has
        // upgraded.
        numbers(&poller.poll().await, &mut heard);
        while peer.text().await != "3probe" {}
        peer.write("5").await;
        let now = *lasts.borrow_and_update();
        while heard.last().is_none_or(|last| *last < now + 50) {
            heard.push(peer.next("message-reply").await["n"].as_u64().unwrap());
        }
        let first = heard[0];
        assert!(heard.iter().copied().eq(first..first + heard.len() as u64), "{heard:?}");
        let id = poller.id.parse().unwrap();
        let client = server.app.registry.namespace("/").unwrap().client(&id).unwrap();
        assert_eq!(client.sender.transport(), "websocket");
        assert!(client.sender.pause().is_some(), "it is on the wire");
    }
    stop.send(()).unwrap();
    publishing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_upgrade_that_fails_the_session_goes_on_by_polling() {
    let server = TestServer::start().await;
    let mut poller = Poller::connect(&server).await;
    poller.enter().await;
    for words in [&[][..], &["2probe"], &["2probe", "6"], &["5"]] {
        let mut peer = Peer::open(server.address(), Some(&poller.sid)).await;
        for word in words {
            peer.write(word).await;
        }
        drop(peer);
        poller.post("420[\"ping\"]").await;
        poller.until("42[\"pong\"").await;
    }
    // It is still free to upgrade.
    let mut peer = Peer::open(server.address(), Some(&poller.sid)).await;
    probe(&mut peer).await;
    peer.write("5").await;
    peer.write("42[\"ping\"]").await;
    peer.next("pong").await;
}

/// Until the upgrade is complete a poll brings what there is, and is not answered before: not after the 101, whatever
/// the websocket does or does not; and while a probe is answered, an empty answer comes now and then at most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn until_the_upgrade_is_complete_events_come_by_polling() {
    let server = TestServer::start().await;
    let mut poller = Poller::connect(&server).await;
    poller.enter().await;
    let silent = Peer::open(server.address(), Some(&poller.sid)).await;
    for _ in 0..10 {
        let (came, ()) = tokio::join!(poller.poll(), poller.post("42[\"ping\"]"));
        assert!(came[0].starts_with("42[\"pong\""), "{came:?}");
    }
    let mut probed = Peer::open(server.address(), Some(&poller.sid)).await;
    probe(&mut probed).await;
    for n in 0..10 {
        poller.post(&format!("42{n}[\"ping\"]")).await;
        let came = poller.until(&format!("43{n}[")).await;
        assert!(came.iter().all(|packet| packet == NOOP || packet.starts_with('4')), "{came:?}");
    }
    // So that the client can stop polling.
    assert_eq!(poller.poll().await, [NOOP]);
    probed.write("5").await;
    probed.write("42[\"ping\"]").await;
    probed.next("pong").await;
    silent.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_websockets_of_a_session_the_one_that_is_probed_first_is_upgraded_to() {
    let server = TestServer::start().await;
    for round in 0..50 {
        let mut poller = Poller::connect(&server).await;
        poller.enter().await;
        let open = || Peer::open(server.address(), Some(&poller.sid));
        let (mut one, mut other) = tokio::join!(open(), open());
        if round % 2 == 0 {
            probe(&mut one).await;
            other.write("2probe").await;
            assert_eq!(other.frame().await, None, "there is one already");
        } else {
            let (_, _) = tokio::join!(one.try_write("2probe"), other.try_write("2probe"));
            let first = tokio::select! {
                first = one.frame() => first.is_some(),
                other = other.frame() => other.is_none(),
            };
            if !first {
                std::mem::swap(&mut one, &mut other);
            }
        }
        // Neither has muted it.
        poller.post("42[\"ping\"]").await;
        poller.until("42[\"pong\"").await;
        one.write("5").await;
        one.write("42[\"ping\"]").await;
        one.next("pong").await;
        // The session is on its websocket: another is hung up on, and nobody polls it.
        let mut late = open().await;
        assert_eq!(late.frame().await, None);
        let answer = server.get(&poller.path()).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (400, &json!(3)));
        one.write("42[\"ping\"]").await;
        one.next("pong").await;
    }
}

/// Of a body that comes after the upgrade nothing is taken, and its request does not wait for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_that_an_upgrade_overtakes_ends_with_it() {
    let server = TestServer::start().await;
    let mut poller = Poller::connect(&server).await;
    poller.enter().await;
    let mut posting = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: 11\r\nexpect: 100-continue\r\n\r\n",
        poller.path()
    );
    posting.write_all(head.as_bytes()).await.unwrap();
    // The server waits for the body.
    let mut answer = [0; 25];
    posting.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    let mut peer = Peer::open(server.address(), Some(&poller.sid)).await;
    probe(&mut peer).await;
    peer.write("5").await;
    peer.write("42[\"ping\"]").await;
    peer.next("pong").await;
    posting.write_all(b"420[\"ping\"]").await.unwrap();
    posting.read_exact(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 "), "{answer:?}");
    peer.write("42[\"ping\"]").await;
    peer.next("pong").await;
}

/// The CONNECT answer needs no more round trips than with Node's server: the poll that waits for it brings it, and no
/// ping comes before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_poll_brings_the_connect_answer() {
    let server = TestServer::start().await;
    for _ in 0..20 {
        let poller = Poller::connect(&server).await;
        let (came, ()) = tokio::join!(poller.poll(), poller.post("40"));
        assert!(came[0].starts_with("40{\"sid\":\""), "{came:?}");
    }
}

/// The library sends its first ping at once, and gives up a client that does not answer it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_ping_comes_after_an_interval() {
    let server = TestServer::with(|config| {
        config.ping_interval = Duration::from_millis(700);
        config.ping_timeout = Duration::from_secs(1);
    })
    .await;
    let mut peer = Peer::connect(server.address()).await.reads(&[1024]);
    assert_eq!(peer.pings, 0);
    // The second comes when an unanswered one at the beginning would have ended the connection.
    for _ in 0..2 {
        peer.pinged().await;
    }
    peer.write("42[\"ping\"]").await;
    peer.next("pong").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_poll_has_taken_comes_by_the_websocket() {
    let server = TestServer::with(|config| config.history_size = 0).await;
    let mut publisher = server.client().await;
    let mut poller = Poller::connect(&server).await;
    poller.enter().await;
    poller.post("42[\"join-room\",{\"roomName\":\"r\"}]").await;
    poller.until("42[\"room-joined\"").await;
    // More than one answer to a poll holds.
    let count = 30;
    for n in 0..count {
        let message = json!({"roomName": "r", "n": n, "text": "x".repeat(100_000)});
        publisher.ask("message", message).await;
    }
    let mut heard = Vec::new();
    numbers(&poller.poll().await, &mut heard);
    assert!(!heard.is_empty() && heard.len() < 15, "{heard:?}");
    let mut peer = Peer::open(server.address(), Some(&poller.sid)).await;
    probe(&mut peer).await;
    peer.write("5").await;
    while heard.len() < count {
        heard.push(peer.next("message-reply").await["n"].as_u64().unwrap());
    }
    assert!(heard.iter().copied().eq(0..count as u64), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_words_after_an_upgrade_arrive() {
    let server = TestServer::start().await;
    for _ in 0..20 {
        let mut poller = Poller::connect(&server).await;
        poller.enter().await;
        let mut peer = Peer::open(server.address(), Some(&poller.sid)).await;
        peer.write("2probe").await;
        poller.poll().await;
        while peer.text().await != "3probe" {}
        peer.write("5").await;
        let id = poller.id.parse().unwrap();
        let client = || server.app.registry.namespace("/").unwrap().client(&id).unwrap();
        while client().sender.transport() != "websocket" {
            tokio::task::yield_now().await;
        }
        // The first packet since the upgrade, and the end right behind it.
        client().sender.send(&Packet::of("last-words", &json!({"said": true})));
        client().sender.disconnect();
        assert_eq!(peer.next("last-words").await["said"], true);
        while peer.text().await != "41" {}
    }
}
