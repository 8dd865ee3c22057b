//! What is garbled, too large or too much on the emitters' channels.

use serde_json::json;

use super::{count, pack, start};
use crate::cluster::eventually;

#[tokio::test]
async fn garbled_messages_change_nothing_and_the_next_one_is_heard() {
    let (cluster, it) = start(2).await;
    let mut ann = cluster.client(0).await;
    ann.join("r").await;
    ann.forget().await;
    let deep = (0..10_000).fold(vec![0xc0], |inner: Vec<u8>, _| [&[0x91][..], &inner].concat());
    let event = |nsp: &str, data| json!(["emitter", {"type": 2, "data": data, "nsp": nsp}, {"rooms": ["r"]}]);
    let garbled: Vec<(&str, Vec<u8>)> = vec![
        ("socket.io#/#", vec![]),
        ("socket.io#/#", b"hello".to_vec()),
        ("socket.io#/#", vec![0xc1]),
        ("socket.io#/#", vec![0xdd, 0xff, 0xff, 0xff, 0xff]),
        ("socket.io#/#", vec![0xdf, 0xff, 0xff, 0xff, 0xff]),
        ("socket.io#/#", vec![0xc6, 0xff, 0xff, 0xff, 0xff]),
        ("socket.io#/#", deep),
        ("socket.io#/#", vec![0xc0; 2_000_000]),
        ("socket.io#/#r#", pack(&event("/nowhere", json!(["e", {}])))),
        ("socket.io#/#r#", pack(&event("/", json!(["disconnect", {}])))),
        ("socket.io#/#r#", pack(&event("/", json!(["room-joined", {}])))),
        ("socket.io#/#r#", pack(&event("/", json!({})))),
        ("socket.io#/#", pack(&json!(["emitter", {"data": ["e", 1]}, {"rooms": 7}]))),
        ("socket.io#/#", pack(&json!(["emitter", {"data": ["e", 1]}, {"except": [{}]}]))),
        ("socket.io#emitter", pack(&json!([{"data": ["e", 1]}, {}]))),
        ("socket.io-request#/#", b"{".to_vec()),
        ("socket.io-request#/#", b"\xff\xff".to_vec()),
        ("socket.io-request#/#", br#"{"type":4,"opts":{"rooms":"r"}}"#.to_vec()),
        ("socket.io-request#/#", br#"{"type":2,"opts":{"rooms":[]},"rooms":["\u0000"]}"#.to_vec()),
        ("socket.io-request#", br#"{"type":4,"opts":{"rooms":[]}}"#.to_vec()),
    ];
    let wrong = garbled.len() as u64;
    for (channel, bytes) in garbled {
        assert_eq!(it.publish(channel, &bytes).await, 2, "{channel}");
    }
    it.emit("/", &["r"], json!(["news", {}])).await;
    assert_eq!(ann.next("news").await["offset"], 1);
    assert_eq!(ann.names().await, [] as [&str; 0]);
    assert_eq!(count(&cluster, "pubsub", "unfit").await, wrong);
    assert_eq!(count(&cluster, "pubsub", "done").await, 1);
    let panics = cluster.nodes[0].get("/metrics").await.text;
    assert!(panics.contains("roomcast_panics_total 0"), "{panics}");
}

#[tokio::test]
async fn many_large_messages_are_carried_out_or_counted_and_the_node_goes_on() {
    let (cluster, it) = start(2).await;
    let mut ann = cluster.client(0).await;
    ann.join("r").await;
    ann.forget().await;
    // Together less than Redis holds for a subscriber (32 MB) before it cuts it off.
    let text = "x".repeat(250_000);
    for n in 0..100 {
        it.emit("/", &["elsewhere"], json!(["large", {"n": n, "text": text}])).await;
    }
    it.emit("/", &["r"], json!(["news", {}])).await;
    let settled = async || {
        let done = count(&cluster, "pubsub", "done").await;
        let dropped = count(&cluster, "pubsub", "dropped").await;
        done + dropped + count(&cluster, "pubsub", "refused").await == 101
    };
    eventually("everything accounted for", settled).await;
    it.emit("/", &["r"], json!(["last", {}])).await;
    ann.next("last").await;
}
