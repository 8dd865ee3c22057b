//! Clients that enter and leave namespaces over and over on one connection.

use reqwest::StatusCode;

use super::{DEADLINE, assert_serves};
use crate::support::{
    TestClient, TestServer,
    raw::{Poller, Wire, assert_unknown},
};

/// How often a client leaves a namespace and comes back at once.
const RETURNS: usize = 300;

/// A server that allows a client as good as nothing.
async fn strict() -> TestServer {
    TestServer::with(|config| {
        config.rate_limit_events = 1;
        config.rate_limit_burst = 5;
    })
    .await
}

/// What a hostile client sends again and again.
const STORMS: [&[&str]; 5] =
    [&["40/unknown,"], &["40"], &["40/chat,"], &["41/unknown,"], &["40/chat,", "40/unknown,"]];

#[tokio::test]
async fn a_storm_of_connects_is_cut_off_on_a_websocket() {
    let server = strict().await;
    for protocol in [4, 3] {
        for storm in STORMS {
            let query = format!("EIO={protocol}&transport=websocket");
            let mut wire = Wire::websocket(&server, &query).await;
            // As many as are on their way when it is cut off: nobody reads them.
            for _ in 0..2000 {
                for packet in storm {
                    wire.send(packet).await;
                }
            }
            tokio::time::timeout(DEADLINE, wire.closed()).await.expect("it goes on for ever");
        }
    }
    assert_serves(&server).await;
    let figures = server.get("/metrics").await.text;
    let floods = figures.lines().find_map(|line| line.strip_prefix("roomcast_floods_total "));
    // The others end in order, over a packet that is not allowed.
    let floods: usize = floods.unwrap().parse().unwrap();
    assert!((6..=10).contains(&floods), "{floods}");
}

#[tokio::test]
async fn a_storm_of_connects_is_cut_off_by_polling() {
    let server = strict().await;
    for protocol in [4, 3] {
        for storm in STORMS {
            let poller = Poller::open(&server, protocol).await;
            let packets = storm.iter().cycle().take(100);
            let body = if protocol == 3 {
                let sized = packets.map(|packet| format!("{}:{packet}", packet.len()));
                sized.collect::<Vec<_>>().concat()
            } else {
                packets.copied().collect::<Vec<_>>().join("\x1e")
            };
            assert_eq!(poller.post(body).await.status, StatusCode::BAD_REQUEST);
            assert_unknown(&poller.poll().await);
        }
    }
    assert_serves(&server).await;
}

#[tokio::test]
async fn who_comes_and_goes_is_announced_as_often_as_it_may_send() {
    let server = strict().await;
    let mut witness = server.client().await;
    let mut wire = Wire::websocket(&server, "EIO=4&transport=websocket").await;
    let mut came = 0;
    'storm: for _ in 0..500 {
        wire.send("40").await;
        loop {
            let Some(text) = wire.text().await else { break 'storm };
            if text.starts_with("44{") {
                assert!(text.contains("too many events"), "{text}");
                break;
            }
            if text.starts_with("40{") {
                came += 1;
                wire.send("41").await;
                break;
            }
        }
    }
    wire.closed().await;
    let announced = witness.all("client-connected").await.len();
    // Its own, and those of the other.
    assert_eq!(announced, came + 1);
    assert!((1..20).contains(&came), "{came}");
    witness.disconnect().await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn the_namespaces_of_a_connection_share_their_bucket() {
    let server = strict().await;
    let mut client = server.client().await;
    client.enter("/chat").await.unwrap();
    client.turn_to("/");
    while pings(&mut client, 1).await > 0 {}
    client.turn_to("/chat");
    // A bucket of its own would be full; what refills in the meantime is no five.
    let taken = pings(&mut client, 5).await;
    assert!(taken < 5, "{taken}");
}

#[tokio::test]
async fn who_leaves_and_comes_back_has_the_bucket_that_it_had() {
    let server = strict().await;
    let mut client = server.client().await;
    let mut taken = pings(&mut client, 5).await;
    for _ in 0..10 {
        client.send_frame("41").await;
        if client.enter("/").await.is_err() {
            break;
        }
        taken += pings(&mut client, 5).await;
    }
    // It was full once; what refills in the meantime is no other five.
    assert!((5..10).contains(&taken), "{taken}");
}

/// How many of so many events are taken.
async fn pings(client: &mut TestClient, count: usize) -> usize {
    let mut taken = 0;
    for _ in 0..count {
        taken += usize::from(client.ask("ping", serde_json::Value::Null).await["success"] == true);
    }
    taken
}

#[tokio::test]
async fn a_connection_is_in_so_many_namespaces() {
    let server = TestServer::with(|config| {
        config.namespaces = ["/", "/a", "/b"].map(String::from).to_vec();
        config.max_namespaces_per_connection = 2;
    })
    .await;
    let mut client = server.client().await;
    client.enter("/a").await.unwrap();
    let message = client.enter("/b").await.unwrap_err();
    assert!(message.as_str().unwrap().contains("MAX_NAMESPACES_PER_CONNECTION"), "{message}");
    client.send_frame("41/a,").await;
    client.enter("/b").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_leaves_and_comes_back_at_once_is_answered_on_a_websocket() {
    let server = TestServer::with(|config| config.rate_limit_events = 0).await;
    for (namespace, connect) in [("", "40{"), ("/chat,", "40/chat,{")] {
        let mut wire = Wire::client(&server).await;
        if !namespace.is_empty() {
            wire.send(&format!("40{namespace}")).await;
            wire.expect(connect).await;
        }
        for _ in 0..RETURNS {
            wire.send(&format!("41{namespace}")).await;
            wire.send(&format!("40{namespace}")).await;
            wire.expect(connect).await;
        }
        wire.send("1").await;
        wire.closed().await;
    }
    assert_serves(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_leaves_and_comes_back_at_once_is_answered_by_polling() {
    let server = TestServer::with(|config| config.rate_limit_events = 0).await;
    let (poller, _) = Poller::client(&server).await;
    for _ in 0..RETURNS {
        assert_eq!(poller.post("41\x1e40").await.text, "ok");
        while !poller.poll().await.text.split('\x1e').any(|packet| packet.starts_with("40{")) {}
    }
    poller.close().await;
    assert_serves(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_is_refused_and_asks_again_at_once_is_answered() {
    let server = TestServer::with(|config| {
        config.rate_limit_events = 0;
        config.rate_limit_auth = 0;
        config.jwt_secret = Some(roomcast::config::Secret::new(crate::support::SECRET));
    })
    .await;
    let mut wire = Wire::websocket(&server, "EIO=4&transport=websocket").await;
    for _ in 0..RETURNS {
        wire.send("40").await;
        wire.expect("44{").await;
    }
    wire.send("1").await;
    wire.closed().await;
}
