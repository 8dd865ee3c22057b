//! What `@socket.io/redis-streams-emitter` adds to a stream.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{Emitter, configure, count, pack, start};
use crate::{
    cluster::{Cluster, eventually, on},
    support::{TestServer, redis::RedisServer},
};

const NOTHING: [&str; 0] = [];

#[tokio::test]
async fn entries_take_effect_once_and_in_order_on_two_nodes() {
    let (cluster, it) = start(2).await;
    let [mut ann, mut ben] = cluster.clients().await;
    ann.join("r").await;
    ben.join("r").await;
    ann.forget().await;
    ben.forget().await;
    for n in 1..=100 {
        it.add_event("/", &["r"], json!(["news", {"n": n}])).await;
    }
    let packet = json!({"type": 2, "data": ["file", {"bytes": [0, 255]}], "nsp": "/"});
    let opts = json!({"rooms": ["r"], "flags": {}, "except": []});
    let binary = json!({"packet": packet, "opts": opts});
    let encoded = BASE64_STANDARD.encode(pack(&binary));
    let fields = [("nsp", "/"), ("type", "3"), ("data", &*encoded)];
    it.add_fields("*", &fields.map(|(name, value)| (name, value.to_owned()))).await;
    for client in [&mut ann, &mut ben] {
        for n in 1..=100 {
            assert_eq!(client.next("news").await, json!({"n": n, "offset": n}));
        }
        let file = client.next_event("file").await;
        assert_eq!((&file.data["offset"], &*file.attachments), (&json!(101), &[vec![0, 255]][..]));
        assert_eq!(client.names().await, NOTHING);
    }
    assert_eq!(count(&cluster, "stream", "done").await, 101);
}

#[tokio::test]
async fn joining_leaving_and_disconnecting_by_the_stream() {
    let (cluster, it) = start(2).await;
    let [mut ann, mut ben] = cluster.clients().await;
    let opts = |rooms: Value| json!({"rooms": rooms, "except": [], "flags": {}});
    it.add("/", 4, &json!({"opts": opts(json!([])), "rooms": ["r"]})).await;
    for client in [&mut ann, &mut ben] {
        assert_eq!(client.next("room-joined").await["roomName"], "r");
    }
    ann.forget().await;
    it.add("/", 5, &json!({"opts": opts(json!([ben.id])), "rooms": ["r"]})).await;
    it.add_event("/", &["r"], json!(["news", {}])).await;
    ann.next("news").await;
    assert_eq!(ben.next("room-left").await["roomName"], "r");
    // What servers add for one another, and what is garbled, is passed over.
    it.add("/", 2, &json!({})).await;
    it.add("/", 3, &json!([])).await;
    it.add("/", 6, &json!({"opts": opts(json!(["r"])), "close": true})).await;
    ann.ended_in_namespace().await;
    ben.forget().await;
    assert_eq!(count(&cluster, "stream", "unfit").await, 1);
}

#[tokio::test]
async fn reading_begins_at_the_end_and_then_goes_on_where_it_was() {
    let redis = RedisServer::start();
    let it = Emitter::to(&redis).await;
    let add = async |n: u64| it.add_event("/", &["r"], json!(["news", {"n": n}])).await;
    let kept = async |node: &TestServer| {
        let kept = node.get("/rooms/r/messages").await.expect(200);
        let items = kept["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["data"]["n"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    add(1).await;
    add(2).await;
    let node = TestServer::with(|config| on(&redis, config, configure)).await;
    add(3).await;
    eventually("the first entry", async || kept(&node).await == [3]).await;
    node.stop().await;
    // While nobody reads, the stream keeps them.
    add(4).await;
    add(5).await;
    let node = TestServer::with(|config| on(&redis, config, configure)).await;
    eventually("those in between", async || kept(&node).await == [3, 4, 5]).await;
    // A stream that is made anew is read from its beginning.
    node.stop().await;
    redis.command::<()>("DEL socket.io");
    let opts = json!({"rooms": ["r"], "flags": {}, "except": []});
    let data = json!({"packet": {"type": 2, "data": ["news", {"n": 6}]}, "opts": opts});
    let fields = [("nsp", "/".to_owned()), ("type", "3".to_owned()), ("data", data.to_string())];
    it.add_fields("1-1", &fields).await;
    let node = TestServer::with(|config| on(&redis, config, configure)).await;
    eventually("a new stream", async || kept(&node).await == [3, 4, 5, 6]).await;
}

#[tokio::test]
async fn a_key_of_another_type_leaves_publishing_as_it_is() {
    let redis = RedisServer::start();
    redis.command::<()>("SET socket.io 7");
    let cluster = Cluster::over(redis, 1, configure).await;
    let it = Emitter::to(&cluster.redis).await;
    let mut ann = cluster.client(0).await;
    ann.join("r").await;
    it.emit("/", &["r"], json!(["news", {}])).await;
    ann.next("news").await;
    cluster.redis.command::<()>("DEL socket.io");
    it.add_event("/", &["r"], json!(["later", {}])).await;
    ann.next("later").await;
}
