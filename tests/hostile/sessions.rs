//! An attacker who knows the public ids of everyone.

use reqwest::Method;

use crate::{
    assert_serves,
    raw::{Poller, Wire, assert_unknown, upgrade},
    support::TestServer,
};

/// Everything that an attacker can make of public ids and of a session of its own.
fn forgeries(victim: &str, own: &str) -> Vec<String> {
    let (own_id, own_signature) = own.split_once('.').unwrap();
    vec![
        victim.to_owned(),
        format!("{victim}."),
        format!("{victim}.{own_signature}"),
        format!("{victim}.{}", "A".repeat(own_signature.len())),
        format!("{victim}.{}", &own_signature[..1]),
        format!("{victim}.{own_signature}&sid={victim}"),
        format!("{victim}&sid={own}"),
        format!("{victim}%2E{own_signature}"),
        format!("{victim}%00.{own_signature}"),
        format!("{own_id}{own_signature}"),
        own_id.to_owned(),
        "AAAAAAAAAAAAAAAA".into(),
        String::new(),
    ]
}

#[tokio::test]
async fn a_public_id_gives_nothing() {
    let server = TestServer::start().await;
    let (victim, id) = Poller::client(&server).await;
    let own = Poller::open(&server, 4).await;
    assert_ne!(victim.session, id);
    assert!(victim.session.starts_with(&id), "the library's id is in front of the signature");
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

#[tokio::test]
async fn of_two_sessions_in_one_query_only_the_checked_one_is_used() {
    let server = TestServer::start().await;
    let (victim, id) = Poller::client(&server).await;
    let own = Poller::open(&server, 4).await;
    let both = format!("{}&sid={id}", own.session);
    assert_eq!(own.request(Method::POST, &both, b"40".to_vec()).await.text, "ok");
    let mut greeting = String::new();
    while !greeting.contains("40{") {
        greeting.push_str(&own.request(Method::GET, &both, Vec::new()).await.text);
    }
    assert!(!greeting.contains(&id), "{greeting}");
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
    // Even with its signature: another transport is refused, a second websocket hung up on.
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
    // And the id of a session that began on a websocket has no signature at all.
    let mut first = Wire::open(server.address()).await;
    first.write(&upgrade("EIO=4&transport=websocket")).await;
    first.head().await;
    let open: serde_json::Value = serde_json::from_str(&first.text().await.unwrap()[1..]).unwrap();
    let id = open["sid"].as_str().unwrap();
    assert_eq!(id.len(), 16);
    assert_unknown(&owner.request(Method::GET, id, Vec::new()).await);
    wire.send("1").await;
    wire.closed().await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn another_server_does_not_take_the_signature() {
    let (one, other) = (TestServer::start().await, TestServer::start().await);
    let session = Poller::open(&one, 4).await.session;
    let stranger = Poller::open(&other, 4).await;
    assert_unknown(&stranger.request(Method::GET, &session, Vec::new()).await);
}
