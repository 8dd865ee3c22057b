//! Flow control over several nodes: the readers of all of them count.

use std::time::Duration;

use serde_json::json;

use super::Cluster;
use crate::support::peer::Peer;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_nodes_only_member_is_one_among_all_nodes_members() {
    let cluster = Cluster::with(2, |config| {
        config.send_buffer = 300_000;
        config.send_timeout = Duration::from_hours(1);
    })
    .await;
    let mut slow = Peer::connect(cluster.nodes[0].address()).await;
    slow.join("r").await;
    let mut reading = Vec::new();
    let all = 100;
    for _ in 0..3 {
        let mut fast = Peer::connect(cluster.nodes[1].address()).await;
        fast.join("r").await;
        reading.push(tokio::spawn(async move {
            for n in 0..all {
                assert_eq!(fast.next("news").await["n"], n);
            }
        }));
    }
    // It never ceases to read, and never catches up.
    let mut slow = slow.reads(&[1024]);
    let reads_slowly = tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        while slow.try_read_once().await {
            pace.tick().await;
        }
    });
    for n in 0..all {
        let body =
            json!({"event": "news", "data": {"n": n, "text": "x".repeat(10_000)}, "rooms": ["r"]});
        cluster.nodes[0].post("/events", &body).await.expect(201);
    }
    for fast in reading {
        fast.await.unwrap();
    }
    reads_slowly.await.unwrap();
}
