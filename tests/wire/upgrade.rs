//! From polling to WebSocket, under traffic: nothing is lost, doubled or reordered.

use roomcast::hub::packet::Packet;
use serde_json::json;

use super::{
    peer::{Peer, event},
    support::TestServer,
};

/// A client that polls.
struct Poller<'a> {
    server: &'a TestServer,
    sid: String,
}

impl<'a> Poller<'a> {
    async fn connect(server: &'a TestServer) -> Self {
        let hello = server.get("/socket.io/?EIO=4&transport=polling").await.text;
        let hello: serde_json::Value =
            serde_json::from_str(hello.strip_prefix('0').unwrap()).unwrap();
        Self { server, sid: hello["sid"].as_str().unwrap().to_owned() }
    }

    /// The client's public id: the session's without its signature.
    fn id(&self) -> &str {
        self.sid.split('.').next().unwrap()
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
        let poller = Poller::connect(&server).await;
        poller.post("40").await;
        poller.until("42[\"connected\"").await;
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
        let id = poller.id().parse().unwrap();
        let client = server.app.registry.namespace("/").unwrap().client(id).unwrap();
        assert_eq!(client.sender.transport(), "websocket");
        assert!(client.sender.pause().is_some(), "it is on the wire");
    }
    stop.send(()).unwrap();
    publishing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_upgrade_that_fails_the_session_goes_on_by_polling() {
    let server = TestServer::start().await;
    let poller = Poller::connect(&server).await;
    poller.post("40").await;
    poller.until("42[\"connected\"").await;
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
    peer.write("2probe").await;
    while peer.text().await != "3probe" {}
    peer.write("5").await;
    peer.write("42[\"ping\"]").await;
    peer.next("pong").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_poll_has_taken_comes_by_the_websocket() {
    let server = TestServer::with(|config| config.history_size = 0).await;
    let mut publisher = server.client().await;
    let poller = Poller::connect(&server).await;
    poller.post("40").await;
    poller.until("42[\"connected\"").await;
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
    peer.write("2probe").await;
    while peer.text().await != "3probe" {}
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
        let poller = Poller::connect(&server).await;
        poller.post("40").await;
        poller.until("42[\"client-connected\"").await;
        let mut peer = Peer::open(server.address(), Some(&poller.sid)).await;
        peer.write("2probe").await;
        poller.poll().await;
        while peer.text().await != "3probe" {}
        peer.write("5").await;
        let id = poller.id().parse().unwrap();
        let client = || server.app.registry.namespace("/").unwrap().client(id).unwrap();
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
