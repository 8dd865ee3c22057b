//! Connections that begin something and do not go on.

use std::time::Duration;

use futures_util::future::join_all;

use super::{DEADLINE, assert_deserted, assert_serves};
use crate::support::{
    TestServer,
    raw::{Poller, Wire, assert_unknown},
};

/// A server that is in a hurry.
async fn hasty() -> TestServer {
    TestServer::with(|config| {
        config.ping_interval = Duration::from_millis(500);
        config.ping_timeout = Duration::from_secs(1);
        config.connect_timeout = Duration::from_secs(1);
    })
    .await
}

#[tokio::test]
async fn a_connection_that_never_asks_for_a_namespace_is_closed() {
    let server = hasty().await;
    let mut wire = Wire::websocket(&server, "EIO=4&transport=websocket").await;
    // It answers pings, so it is not the heartbeat that ends it.
    while let Some(text) = wire.text().await {
        if text == "2" {
            wire.send("3").await;
        }
    }
    let poller = Poller::open(&server, 4).await;
    let pongs = async {
        while poller.post("3").await.status == 200 {
            tokio::task::yield_now().await;
        }
    };
    pongs.await;
    assert_unknown(&poller.poll().await);
    assert_serves(&server).await;
}

#[tokio::test]
async fn who_was_refused_at_the_door_may_not_stay_before_it() {
    let server = TestServer::with(|config| {
        config.ping_interval = Duration::from_millis(500);
        config.ping_timeout = Duration::from_secs(1);
        config.connect_timeout = Duration::from_secs(1);
        config.jwt_secret = Some(roomcast::config::Secret::new(crate::support::SECRET));
    })
    .await;
    // Engine.IO 3 asks for the first namespace by itself, and pings.
    let mut third = Wire::websocket(&server, "EIO=3&transport=websocket").await;
    let mut pace = tokio::time::interval(Duration::from_millis(300));
    let ended = async {
        loop {
            tokio::select! {
                text = third.text() => if text.is_none() { break },
                _ = pace.tick() => third.send("2").await,
            }
        }
    };
    assert!(tokio::time::timeout(DEADLINE, ended).await.is_ok(), "it is still there");
    let mut fourth = Wire::websocket(&server, "EIO=4&transport=websocket").await;
    fourth.send("40").await;
    let mut refused = false;
    while let Some(text) = fourth.text().await {
        refused |= text.starts_with("44");
        if text == "2" {
            fourth.send("3").await;
        }
    }
    assert!(refused);
}

#[tokio::test]
async fn an_upgrade_that_does_not_go_on_is_not_waited_for() {
    let server = TestServer::with(|config| config.ping_timeout = Duration::from_secs(1)).await;
    for begun in [None, Some("2probe")] {
        let (poller, _) = Poller::client(&server).await;
        assert_eq!(poller.post("3").await.text, "ok");
        let query = format!("EIO=4&transport=websocket&sid={}", poller.session);
        let mut wire = Wire::websocket(&server, &query).await;
        if let Some(begun) = begun {
            wire.send(begun).await;
        }
        wire.closed().await;
        // It goes on by polling.
        assert_eq!(poller.post("42[\"ping\"]").await.text, "ok");
        while !poller.poll().await.text.contains("pong") {}
        poller.close().await;
    }
    assert_serves(&server).await;
}

#[tokio::test]
async fn unanswered_pings_end_the_connection() {
    let server = hasty().await;
    let mut wire = Wire::client(&server).await;
    wire.send("40/chat,").await;
    wire.closed().await;
    // Engine.IO 3: it is the client that pings.
    Wire::websocket(&server, "EIO=3&transport=websocket").await.closed().await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn sessions_that_never_poll_are_forgotten() {
    let server = hasty().await;
    let mut sessions = Vec::new();
    for protocol in [3, 4].into_iter().cycle().take(100) {
        let poller = Poller::open(&server, protocol).await;
        if protocol == 4 {
            assert_eq!(poller.post("40").await.text, "ok");
        }
        sessions.push(poller);
    }
    assert_deserted(&server).await;
    join_all(sessions.iter().map(Poller::ended)).await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn refusals_leave_no_tasks() {
    let server = TestServer::with(|config| {
        config.rate_limit_events = 0;
        config.rate_limit_auth = 0;
        config.jwt_secret = Some(roomcast::config::Secret::new(crate::support::SECRET));
    })
    .await;
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let mut wire = Wire::websocket(&server, "EIO=4&transport=websocket").await;
    let before = alive();
    for _ in 0..500 {
        wire.send("40").await;
        wire.expect("44").await;
    }
    let after = alive();
    assert!(after < before + 20, "{before} tasks, then {after}");
    wire.send("1").await;
    wire.closed().await;
}
