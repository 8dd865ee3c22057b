//! The cases of the protocols' own test suites, with their ping times, for Engine.IO 4 and 3, by polling and by
//! websocket: [engine.io-protocol](https://github.com/socketio/engine.io-protocol/tree/main/test-suite) and
//! [socket.io-protocol](https://github.com/socketio/socket.io-protocol/tree/main/test-suite).
//!
//! The suites need a server that sends everything back. Here `ping` is answered by `pong`, and a `message` to everyone
//! comes back to its sender. Other differences:
//!
//! | case | there | here |
//! | --- | --- | --- |
//! | connection to an unknown namespace | `{"message": "Invalid namespace"}` | the same with `data`, which has a code |
//! | events with several arguments | come back | are refused: an event of the contract has one argument |
//! | acknowledgement with attachments | has them | has none: what the server says has no binary parts |
//! | poll of a session that is closed from the other side | `6` | also `1` |

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Answer, TestServer,
    raw::{BINARY, FIN, Poller, Wire, upgrade},
};

const INTERVAL: Duration = Duration::from_millis(300);
const TIMEOUT: Duration = Duration::from_millis(200);

/// A server with the suites' ping times.
async fn brisk() -> TestServer {
    with_timeout(TIMEOUT).await
}

/// The same, for clients that answer: a busy machine may need longer.
async fn patient() -> TestServer {
    with_timeout(Duration::from_secs(10)).await
}

async fn with_timeout(timeout: Duration) -> TestServer {
    TestServer::with(|config| (config.ping_interval, config.ping_timeout) = (INTERVAL, timeout))
        .await
}

/// A body of polling.
fn body(protocol: u8, packets: &[&str]) -> String {
    match protocol {
        3 => packets
            .iter()
            .flat_map(|packet| [packet.len().to_string(), format!(":{packet}")])
            .collect(),
        _ => packets.join("\x1e"),
    }
}

/// The packets of a body.
fn packets(protocol: u8, mut body: &str) -> Vec<String> {
    if protocol != 3 {
        return body.split('\x1e').map(str::to_owned).collect();
    }
    let mut packets = Vec::new();
    while let Some((length, rest)) = body.split_once(':') {
        let end = rest.char_indices().nth(length.parse().unwrap()).map_or(rest.len(), |(at, _)| at);
        packets.push(rest[..end].to_owned());
        body = &rest[end..];
    }
    packets
}

/// What the polls of a session bring, packet by packet. Pings are answered.
struct Polls<'a> {
    poller: Poller<'a>,
    come: std::collections::VecDeque<String>,
}

impl<'a> Polls<'a> {
    /// A client in `/` that has heard all that it is greeted with.
    async fn client(server: &'a TestServer, protocol: u8) -> Self {
        let poller = Poller::open(server, protocol).await;
        let mut polls = Self { poller, come: std::collections::VecDeque::new() };
        if protocol == 4 {
            polls.post(&["40"]).await;
        }
        while !polls.next().await.starts_with("42[\"client-connected\"") {}
        polls
    }

    async fn post(&self, packets: &[&str]) {
        let answer = self.poller.post(body(self.poller.protocol, packets)).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "ok"), "{packets:?}");
    }

    async fn next(&mut self) -> String {
        loop {
            while let Some(packet) = self.come.pop_front() {
                if packet != "2" {
                    return packet;
                }
                self.post(&["3"]).await;
            }
            let answer = self.poller.poll().await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            self.come.extend(packets(self.poller.protocol, &answer.text));
        }
    }
}

/// A websocket client in `/` that has heard all that it is greeted with.
async fn client(server: &TestServer, protocol: u8) -> Wire {
    let mut wire = Wire::websocket(server, &format!("EIO={protocol}&transport=websocket")).await;
    if protocol == 4 {
        wire.send("40").await;
    }
    wire.expect("42[\"client-connected\"").await;
    wire
}

fn assert_opens(packet: &str, upgrades: &Value) {
    let open: Value = serde_json::from_str(packet.strip_prefix('0').unwrap()).unwrap();
    let keys = open.as_object().unwrap().keys().map(String::as_str).collect::<BTreeSet<_>>();
    let wanted = ["sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"];
    assert_eq!(keys, BTreeSet::from(wanted), "{open}");
    assert!(open["sid"].is_string());
    assert_eq!(&open["upgrades"], upgrades);
    assert_eq!(open["pingInterval"], 300);
    assert_eq!(open["pingTimeout"], 200);
    assert_eq!(open["maxPayload"], 1_000_000);
}

#[tokio::test]
async fn handshake() {
    let server = brisk().await;
    for protocol in [4, 3] {
        let query = format!("EIO={protocol}&transport=");
        let opened = server.get(&format!("/socket.io/?{query}polling")).await;
        assert_opens(&packets(protocol, &opened.text)[0], &json!(["websocket"]));
        let mut wire = Wire::open(server.address()).await;
        wire.write(&upgrade(&format!("{query}websocket"))).await;
        assert!(wire.head().await.starts_with("HTTP/1.1 101"));
        assert_opens(&wire.text().await.unwrap(), &json!([]));
        for method in [Method::POST, Method::PUT] {
            let path = format!("/socket.io/?{query}polling");
            assert_eq!(Answer::of(server.request(method, &path)).await.status, 400);
        }
        for query in [format!("EIO={protocol}"), format!("{query}abc")] {
            assert_eq!(server.get(&format!("/socket.io/?{query}")).await.status, 400, "{query}");
        }
        for query in [
            "transport=websocket".to_owned(),
            "EIO=abc&transport=websocket".to_owned(),
            format!("EIO={protocol}"),
            format!("{query}abc"),
        ] {
            let mut wire = Wire::open(server.address()).await;
            wire.write(&upgrade(&query)).await;
            assert!(wire.head().await.starts_with("HTTP/1.1 400"), "{query}");
        }
    }
    for query in ["transport=polling", "EIO=abc&transport=polling"] {
        assert_eq!(server.get(&format!("/socket.io/?{query}")).await.status, 400, "{query}");
    }
}

#[tokio::test]
async fn messages_by_polling() {
    let server = TestServer::start().await;
    for protocol in [4, 3] {
        let mut polls = Polls::client(&server, protocol).await;
        polls.post(&["42[\"ping\"]"]).await;
        assert!(polls.next().await.starts_with("42[\"pong\""));
        polls.post(&["420[\"heartbeat\"]", "421[\"heartbeat\"]", "422[\"heartbeat\"]"]).await;
        for id in 0..3 {
            assert!(polls.next().await.starts_with(&format!("43{id}[")));
        }
        // How Engine.IO 3 has binary data in a body, `transports.test.mjs` tells.
        if protocol == 4 {
            let event = r#"451-["message",{"text":"a","data":{"_placeholder":true,"num":0}}]"#;
            let binary = "bAQIDBA==";
            polls.post(&[event, binary, "423[\"heartbeat\"]"]).await;
            assert_eq!([polls.next().await, polls.next().await], [event, binary]);
            assert!(polls.next().await.starts_with("433["));
        }
        polls.poller.post(body(protocol, &["1"])).await;
    }
}

#[tokio::test]
async fn messages_by_websocket() {
    let server = TestServer::start().await;
    for protocol in [4, 3] {
        let mut wire = client(&server, protocol).await;
        wire.send("42[\"ping\"]").await;
        wire.expect("42[\"pong\"").await;
        let event = r#"452-["message",{"text":"a","data":[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]}]"#;
        wire.send(event).await;
        let first = if protocol == 3 { vec![4] } else { Vec::new() };
        for part in [[1, 2, 3], [4, 5, 6]] {
            wire.frame(FIN | BINARY, &[&first[..], &part].concat()).await;
        }
        assert_eq!(wire.text().await.unwrap(), event);
        for part in [[1, 2, 3], [4, 5, 6]] {
            let sent = [&first[..], &part].concat();
            let head = [FIN | BINARY, u8::try_from(sent.len()).unwrap()];
            assert_eq!(wire.bytes(2 + sent.len()).await, [&head[..], &sent].concat());
        }
    }
}

#[tokio::test]
async fn what_has_no_valid_format_closes_the_session() {
    let server = TestServer::start().await;
    for protocol in [4, 3] {
        let poller = Poller::open(&server, protocol).await;
        poller.post("abc").await;
        poller.ended().await;
        for packet in ["abc", "4abc", "42{}", "42abc\"message\"", "42abc[\"message\",1]"] {
            let mut wire = client(&server, protocol).await;
            wire.send(packet).await;
            wire.closed().await;
        }
    }
    // Nor is that a CONNECT.
    let mut wire = Wire::websocket(&server, "EIO=4&transport=websocket").await;
    wire.send("4abc").await;
    wire.closed().await;
}

#[tokio::test]
async fn two_polls_at_the_same_time_close_the_session() {
    let server = TestServer::start().await;
    for protocol in [4, 3] {
        let polls = Polls::client(&server, protocol).await;
        let (one, other) = join(polls.poller.poll(), polls.poller.poll()).await;
        let (first, second) = if one.status == 200 { (one, other) } else { (other, one) };
        assert_eq!(packets(protocol, &first.text), ["1"]);
        assert_eq!(second.status, 400, "{}", second.text);
        assert_eq!(polls.poller.poll().await.status, 400);
    }
}

#[tokio::test]
async fn heartbeat() {
    let server = patient().await;
    let poller = Poller::open(&server, 4).await;
    for _ in 0..3 {
        assert_eq!(poller.poll().await.text, "2");
        assert_eq!(poller.post("3").await.text, "ok");
    }
    let mut polls = Polls::client(&server, 3).await;
    for _ in 0..3 {
        polls.post(&["2"]).await;
        assert_eq!(polls.next().await, "3");
    }
    let mut wire = Wire::websocket(&server, "EIO=4&transport=websocket").await;
    for _ in 0..3 {
        assert_eq!(wire.text().await.unwrap(), "2");
        wire.send("3").await;
    }
    let mut wire = client(&server, 3).await;
    for _ in 0..3 {
        wire.send("2").await;
        assert_eq!(wire.text().await.unwrap(), "3");
    }
}

#[tokio::test]
async fn who_does_not_answer_pings_or_sends_none_is_closed() {
    let server = brisk().await;
    for protocol in [4, 3] {
        Poller::open(&server, protocol).await.ended().await;
        let query = format!("EIO={protocol}&transport=websocket");
        Wire::websocket(&server, &query).await.closed().await;
    }
}

#[tokio::test]
async fn close() {
    let server = TestServer::start().await;
    for protocol in [4, 3] {
        let polls = Polls::client(&server, protocol).await;
        let close = body(protocol, &["1"]);
        let (poll, posted) = join(polls.poller.poll(), polls.poller.post(close)).await;
        assert_eq!(posted.status, 200, "{}", posted.text);
        // The poll may come when the session is closed already.
        if poll.status == 200 {
            let packets = packets(protocol, &poll.text);
            assert!(packets == ["6"] || packets == ["1"], "{packets:?}");
        }
        assert_eq!(polls.poller.poll().await.status, 400);
        let mut wire = client(&server, protocol).await;
        wire.send("1").await;
        wire.closed().await;
    }
}

#[tokio::test]
async fn upgrade_to_a_websocket() {
    let server = TestServer::start().await;
    for protocol in [4, 3] {
        let polls = Polls::client(&server, protocol).await;
        let query = format!("EIO={protocol}&transport=websocket&sid={}", polls.poller.session);
        let mut wire = Wire::websocket(&server, &query).await;
        wire.send("2probe").await;
        assert_eq!(wire.text().await.unwrap(), "3probe");
        assert_eq!(packets(protocol, &polls.poller.poll().await.text), ["6"]);
        wire.send("5").await;
        wire.send("42[\"ping\"]").await;
        wire.expect("42[\"pong\"").await;
        // The session is the websocket's alone.
        assert_eq!(polls.poller.poll().await.status, 400);
        let mut other = Wire::open(server.address()).await;
        other.write(&upgrade(&query)).await;
        if other.head().await.starts_with("HTTP/1.1 101") {
            other.closed().await;
        }
        wire.assert_alive().await;
    }
}

#[tokio::test]
async fn connect_and_disconnect() {
    let server = TestServer::start().await;
    for (connect, begin, custom) in [
        ("40", "40", ""),
        ("40{\"token\":\"123\"}", "40", ""),
        ("40/chat,", "40/chat,", "/chat,"),
        ("40/chat,{\"token\":\"abc\"}", "40/chat,", "/chat,"),
    ] {
        let mut wire = Wire::websocket(&server, "EIO=4&transport=websocket").await;
        wire.send(connect).await;
        let answer = wire.text().await.unwrap();
        let answer: Value = serde_json::from_str(answer.strip_prefix(begin).unwrap()).unwrap();
        assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
        assert!(answer["sid"].is_string());
        wire.expect(&format!("42{custom}[\"client-connected\"")).await;
        wire.send(&format!("42{custom}[\"ping\"]")).await;
        wire.expect(&format!("42{custom}[\"pong\"")).await;
    }
    let mut wire = Wire::websocket(&server, "EIO=4&transport=websocket").await;
    wire.send("40/random").await;
    let refused = wire.text().await.unwrap();
    let refused: Value = serde_json::from_str(refused.strip_prefix("44/random,").unwrap()).unwrap();
    assert_eq!(refused["message"], "Invalid namespace");
    // Who leaves another namespace stays in this one.
    let mut wire = client(&server, 4).await;
    wire.send("40/chat").await;
    wire.expect("42/chat,[\"client-connected\"").await;
    wire.send("41/chat").await;
    wire.assert_alive().await;
    // Who has left all of them is still connected, and is pinged.
    let server = patient().await;
    let mut wire = client(&server, 4).await;
    wire.send("41").await;
    wire.expect("2").await;
}

#[tokio::test]
async fn acknowledgements() {
    let server = TestServer::start().await;
    for protocol in [4, 3] {
        let mut wire = client(&server, protocol).await;
        wire.send("42456[\"heartbeat\",{}]").await;
        assert_eq!(wire.text().await.unwrap(), "43456[{\"success\":true}]");
        wire.send(r#"451-789["message",{"text":"a","data":{"_placeholder":true,"num":0}}]"#).await;
        let first = if protocol == 3 { vec![4] } else { Vec::new() };
        wire.frame(FIN | BINARY, &[&first[..], &[1, 2, 3]].concat()).await;
        let ack = wire.expect("43789[{").await;
        assert!(ack.contains("\"success\":true"), "{ack}");
    }
}
