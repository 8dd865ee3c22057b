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
async fn a_room_with_slow_members_does_not_hold_up_the_others() {
    let (cluster, it) = start(2).await;
    let mut ann = cluster.client(0).await;
    ann.join("fast").await;
    ann.forget().await;
    // More than is carried out: what is beyond the bound is dropped and counted, and the node goes on.
    let text = "x".repeat(900_000);
    for n in 0..100 {
        it.emit("/", &["slow"], json!(["large", {"n": n, "text": text}])).await;
    }
    it.emit("/", &["fast"], json!(["news", {}])).await;
    let settled = async || {
        let done = count(&cluster, "pubsub", "done").await;
        done + count(&cluster, "pubsub", "dropped").await
            + count(&cluster, "pubsub", "refused").await
            == 101
    };
    eventually("everything accounted for", settled).await;
    it.emit("/", &["fast"], json!(["last", {}])).await;
    ann.next("last").await;
}
