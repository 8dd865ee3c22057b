//! An attacker who knows the public ids of everyone.

use reqwest::Method;
use roomcast::config::{Environment, EventLog};
use serde_json::{Value, json};

use super::assert_serves;
use crate::support::{
    Answer, TestServer,
    raw::{Poller, Wire, assert_unknown, upgrade},
};

/// Everything that an attacker can make of a public id and of a session of its own.
fn forgeries(victim: &str, own: &str) -> Vec<String> {
    vec![
        victim.to_owned(),
        victim[..16].to_owned(),
        victim[4..].to_owned(),
        format!("{}&sid={own}", &victim[..16]),
        format!("{}%00", &victim[..16]),
        format!("{victim}.{own}"),
        "AAAAAAAAAAAAAAAA".into(),
        String::new(),
    ]
}

#[tokio::test]
async fn a_public_id_gives_nothing() {
    let server = TestServer::start().await;
    let (victim, id) = Poller::client(&server).await;
    let own = Poller::open(&server, 4).await;
    for forged in forgeries(&id, &own.session) {
        for method in [Method::GET, Method::POST] {
            assert_unknown(&own.request(method, &forged, b"42[\"ping\"]".to_vec()).await);
        }
        for protocol in [3, 4] {
            let mut wire = Wire::open(server.address()).await;
            wire.write(&upgrade(&format!("EIO={protocol}&transport=websocket&sid={forged}"))).await;
            let head = wire.head().await;
            assert!(head.starts_with("HTTP/1.1 400"), "{forged}: {head}");
        }
    }
    // The victim has noticed nothing.
    assert_eq!(victim.post("42[\"ping\"]").await.text, "ok");
    assert!(victim.poll().await.text.contains("pong"));
    victim.close().await;
    own.close().await;
    assert_serves(&server).await;
}

/// The id of a session stands in its open packet, and nowhere else: in no event, not to the client itself either, in no
/// list, no figure and no log.
#[tokio::test]
async fn the_id_of_a_session_is_told_once() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("events.log");
    let server = TestServer::with(|config| {
        config.environment = Environment::Development;
        config.event_log = Some(EventLog::File(log.clone()));
    })
    .await;
    let mut witness = server.client().await;
    witness.join("r").await;
    let (victim, id) = Poller::client(&server).await;
    let mut heard = String::new();
    for packet in [
        "40/chat,",
        "420[\"authenticate\",\"alice\"]",
        "421[\"join-room\",{\"roomName\":\"r\"}]",
        "422[\"joinRoom\",{\"roomId\":\"s\"}]",
        "423[\"sendMessage\",{\"roomId\":\"r\",\"content\":\"c\"}]",
        "424[\"typingIndicator\",{\"roomId\":\"r\",\"isTyping\":true}]",
        "425[\"private-message\",{\"target\":\"alice\",\"message\":\"m\"}]",
        "426[\"no such event\"]",
        "42/chat,0[\"presenceUpdate\",{\"status\":\"away\"}]",
    ] {
        assert_eq!(victim.post(packet).await.text, "ok");
    }
    while !heard.contains("43/chat,0[") || !heard.contains("426[") && !heard.contains("436[") {
        heard.push_str(&victim.poll().await.text);
    }
    assert!(heard.contains(&id), "{heard}");
    for path in
        ["/connections", "/rooms", "/rooms/r", "/users/alice", "/stats", "/metrics", "/health"]
    {
        heard.push_str(&server.get(path).await.text);
    }
    heard.push_str(&server.get(&format!("/connections/{id}")).await.text);
    let session = victim.session.clone();
    victim.close().await;
    while witness.next("client-disconnected").await["clientId"] != id {}
    let events = witness.everything().await;
    heard.extend(events.iter().map(|event| event.text.as_str()));
    let logged = || std::fs::read_to_string(&log).unwrap_or_default();
    while !logged().contains("disconnect") {
        tokio::task::yield_now().await;
    }
    heard.push_str(&logged());
    assert!(!heard.contains(&session), "{heard}");
    assert!(events.iter().any(|event| event.data["clientId"] == json!(id)));
}

#[tokio::test]
async fn of_two_sessions_in_one_query_only_the_first_is_used() {
    let server = TestServer::start().await;
    let (victim, _) = Poller::client(&server).await;
    let own = Poller::open(&server, 4).await;
    let both = format!("{}&sid={}", own.session, victim.session);
    assert_eq!(own.request(Method::POST, &both, b"40".to_vec()).await.text, "ok");
    let mut greeting = String::new();
    while !greeting.contains("40{") {
        greeting.push_str(&own.request(Method::GET, &both, Vec::new()).await.text);
    }
    victim.close().await;
    own.close().await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn the_owner_polls_posts_and_upgrades() {
    let server = TestServer::start().await;
    for protocol in [3, 4] {
        let owner = Poller::open(&server, protocol).await;
        let query = format!("EIO={protocol}&transport=websocket&sid={}", owner.session);
        let mut wire = Wire::websocket(&server, &query).await;
        wire.send("2probe").await;
        wire.expect("3probe").await;
        wire.send("5").await;
        if protocol == 4 {
            wire.send("40").await;
        }
        wire.expect("42[\"connected\"").await;
        wire.assert_alive().await;
        wire.send("1").await;
        wire.closed().await;
    }
    assert_serves(&server).await;
}

#[tokio::test]
async fn a_session_on_a_websocket_is_joined_by_nobody() {
    let server = TestServer::start().await;
    let owner = Poller::open(&server, 4).await;
    let query = format!("EIO=4&transport=websocket&sid={}", owner.session);
    let mut wire = Wire::websocket(&server, &query).await;
    wire.send("2probe").await;
    wire.expect("3probe").await;
    wire.send("5").await;
    wire.send("40").await;
    wire.expect("42[\"connected\"").await;
    // Another transport is refused, a second websocket hung up on.
    for method in [Method::GET, Method::POST] {
        let answer = owner.request(method, &owner.session, b"42[\"ping\"]".to_vec()).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
    }
    let mut second = Wire::open(server.address()).await;
    second.write(&upgrade(&query)).await;
    let head = second.head().await;
    if head.starts_with("HTTP/1.1 101") {
        second.closed().await;
    } else {
        assert!(head.starts_with("HTTP/1.1 400"), "{head}");
    }
    wire.assert_alive().await;
    // Nor is a session that began on a websocket.
    let mut first = Wire::open(server.address()).await;
    first.write(&upgrade("EIO=4&transport=websocket")).await;
    first.head().await;
    let open: Value = serde_json::from_str(&first.text().await.unwrap()[1..]).unwrap();
    let id = open["sid"].as_str().unwrap();
    assert_unknown(&owner.request(Method::GET, id, Vec::new()).await);
    let mut second = Wire::open(server.address()).await;
    second.write(&upgrade(&format!("EIO=4&transport=websocket&sid={id}"))).await;
    assert!(second.head().await.starts_with("HTTP/1.1 400"));
    first.send("40").await;
    first.expect("42[\"connected\"").await;
    for mut owner in [wire, first] {
        owner.assert_alive().await;
        owner.send("1").await;
        owner.closed().await;
    }
    assert_serves(&server).await;
}

/// In Engine.IO 3 the id of a session is the client's public id: it is good from its owner's address only.
#[tokio::test]
async fn an_old_session_is_polled_from_its_own_address_only() {
    let server = TestServer::with(|config| {
        config.trust_proxy = vec!["127.0.0.1/32".parse().unwrap()];
    })
    .await;
    let ask = async |method: Method, query: &str, address: &str, body: &'static str| {
        let path = format!("/socket.io/?transport=polling&{query}");
        let request = server.request(method, &path).header("x-forwarded-for", address);
        Answer::of(request.body(body)).await
    };
    let open = async |protocol: &str| {
        let open = ask(Method::GET, protocol, "192.0.2.1", "").await;
        let (_, session) = open.text.split_once("\"sid\":\"").unwrap();
        format!("{protocol}&sid={}", &session[..16])
    };
    let query = open("EIO=3").await;
    for method in [Method::GET, Method::POST] {
        assert_unknown(&ask(method.clone(), &query, "192.0.2.2", "1:2").await);
    }
    for (address, status) in [("192.0.2.2", "400"), ("192.0.2.1", "101")] {
        let mut wire = Wire::open(server.address()).await;
        let request = String::from_utf8(upgrade(&format!("{query}&transport=websocket"))).unwrap();
        let header = format!("Host: x\r\nX-Forwarded-For: {address}");
        wire.write(request.replace("Host: x", &header).as_bytes()).await;
        let head = wire.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{address}: {head}");
    }
    assert_eq!(ask(Method::POST, &query, "192.0.2.1", "1:2").await.text, "ok");
    // A secret is good from everywhere: a phone changes its network.
    let query = open("EIO=4").await;
    assert_eq!(ask(Method::POST, &query, "192.0.2.2", "40").await.text, "ok");
}

#[tokio::test]
async fn another_server_does_not_know_the_session() {
    let (one, other) = (TestServer::start().await, TestServer::start().await);
    let session = Poller::open(&one, 4).await.session;
    let stranger = Poller::open(&other, 4).await;
    assert_unknown(&stranger.request(Method::GET, &session, Vec::new()).await);
}
