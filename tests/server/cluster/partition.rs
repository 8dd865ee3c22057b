//! One of three nodes is cut off from Redis by the network, for longer than its lease: it misses nothing that the others take,
//! and what it had on the way arrives late.

use std::net::SocketAddr;

use roomcast::config::{Config, Secret};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

use super::{eventually, on, traffic::Traffic};
use crate::support::{TestServer, redis::RedisServer};

/// A way to a server that can be blocked: then nothing passes, nobody is told, and nothing is thrown away.
struct Way {
    address: SocketAddr,
    is_open: watch::Sender<bool>,
}

impl Way {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let is_open = watch::Sender::new(true);
        let opened = is_open.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut opened = opened.clone();
                tokio::spawn(async move {
                    opened.wait_for(|is_open| *is_open).await.unwrap();
                    let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    tokio::spawn(pass(from_client, to_server, opened.clone()));
                    pass(from_server, to_client, opened).await;
                });
            }
        });
        Self { address, is_open }
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut opened: watch::Receiver<bool>) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let is_open = opened.wait_for(|is_open| *is_open).await.is_ok();
        if !is_open || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

/// Waits until a node counts so many. The clients of another one hear something meanwhile.
async fn counts(node: &TestServer, count: u64, other: &TestServer) {
    eventually("the nodes are counted", async || {
        other.post("/events", &json!({"event": "beat", "data": count})).await.expect(201);
        node.get("/stats").await.expect(200)["nodes"] == count
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_cut_off_for_longer_than_its_lease_has_missed_nothing() {
    let redis = RedisServer::start();
    let way = Way::to(redis.port()).await;
    let mut all = Vec::new();
    for url in [format!("redis://{}/0", way.address), redis.url(), redis.url()] {
        let roomy = |config: &mut Config| config.history_size = 1_000_000;
        let node = TestServer::with(|config| {
            on(&redis, config, roomy);
            config.redis_url = Some(Secret::new(&url));
        });
        all.push(node.await);
    }
    let rooms = (0..6).map(|n| format!("room-{n}")).collect::<Vec<_>>();
    let traffic = Traffic::begin(&all, &[rooms]).await;
    traffic.flows([0], 50).await;
    for _ in 0..2 {
        counts(&all[1], 3, &all[0]).await;
        way.is_open.send_replace(false);
        eventually("it notices", async || all[0].get("/health").await.status == 503).await;
        traffic.flows([0], 50).await;
        counts(&all[1], 2, &all[0]).await;
        traffic.flows([0], 50).await;
        way.is_open.send_replace(true);
        eventually("it is back", async || all[0].get("/health").await.status == 200).await;
        traffic.flows([0], 50).await;
    }
    let (histories, refused) = traffic.end(&all[1]).await;
    assert!(histories.values().all(|count| *count == 1), "no epoch has changed: {histories:?}");
    assert!(!refused.is_empty(), "was it cut off at all?");
}
