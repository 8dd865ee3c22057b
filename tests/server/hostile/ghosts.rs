//! Connections that end at the worst moment.

use futures_util::future::join_all;

use super::{assert_deserted, assert_serves};
use crate::support::{
    TestServer,
    raw::{Wire, upgrade},
};

/// How far the client gets before it is gone.
#[derive(Debug, Clone, Copy)]
enum Until {
    Request,
    Handshake,
    Connect,
    Established,
    Joined,
}

async fn storm(server: &TestServer, protocol: u8, until: Until, reset: bool) {
    let mut wire = Wire::open(server.address()).await;
    wire.write(&upgrade(&format!("EIO={protocol}&transport=websocket"))).await;
    if !matches!(until, Until::Request) {
        wire.head().await;
    }
    if matches!(until, Until::Connect | Until::Established | Until::Joined) {
        if protocol == 4 {
            wire.send("40").await;
        }
        wire.send("40/chat,").await;
    }
    if matches!(until, Until::Established | Until::Joined) {
        wire.expect("42/chat,[\"connected\"").await;
    }
    if matches!(until, Until::Joined) {
        wire.send("420[\"join-room\",\"room\"]").await;
        wire.send("42/chat,[\"authenticate\",\"ann\"]").await;
        wire.send("42[\"message\",{\"room\":\"room\",\"text\":\"hello\"}]").await;
    }
    if reset {
        wire.reset();
    }
}

#[tokio::test]
async fn storms_of_abrupt_closes_leave_nothing() {
    let server = TestServer::with(|config| config.presence_grace = std::time::Duration::ZERO).await;
    let untils =
        [Until::Request, Until::Handshake, Until::Connect, Until::Established, Until::Joined];
    for until in untils {
        for protocol in [3, 4] {
            for reset in [false, true] {
                eprintln!("{until:?}, Engine.IO {protocol}, reset: {reset}");
                join_all((0..30).map(|_| storm(&server, protocol, until, reset))).await;
                assert_deserted(&server).await;
            }
        }
    }
    assert_serves(&server).await;
}
