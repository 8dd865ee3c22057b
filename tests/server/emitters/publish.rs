//! What `@socket.io/redis-emitter` publishes.

use serde_json::{Value, json};

use super::{count, pack, start};
use crate::cluster::offset_of;

const NOTHING: [&str; 0] = [];

#[tokio::test]
async fn an_object_to_a_room_is_numbered_stored_and_delivered_once_by_two_nodes() {
    let (cluster, it) = start(2).await;
    let [mut ann, mut ben, mut outside] = cluster.clients().await;
    ann.join("r").await;
    ben.join("r").await;
    ann.forget().await;
    ben.forget().await;
    for n in 1..=100 {
        it.emit("/", &["r"], json!(["news", {"n": n, "z": 1, "a": 2}])).await;
    }
    it.emit("/", &["r"], json!(["end", {}])).await;
    for client in [&mut ann, &mut ben] {
        for n in 1..=100 {
            let news = client.next_event("news").await;
            assert_eq!(news.text, format!(r#"{{"n":{n},"z":1,"a":2,"offset":{n}}}"#));
        }
        assert_eq!(offset_of(&client.next("end").await), 101);
        assert_eq!(client.names().await, NOTHING);
    }
    assert_eq!(outside.names().await, NOTHING);
    let kept = cluster.nodes[1].get("/rooms/r/messages?limit=1000").await.expect(200);
    let kept = kept["items"].as_array().unwrap().clone();
    assert_eq!(kept.len(), 101);
    assert_eq!((&kept[0]["event"], &kept[0]["data"]["n"]), (&json!("news"), &json!(1)));
    assert_eq!(count(&cluster, "pubsub", "done").await, 101);
}

#[tokio::test]
async fn several_rooms_except_volatile_and_everyone() {
    let (cluster, it) = start(2).await;
    let [mut ann, mut ben, mut cora] = cluster.clients().await;
    ann.join("a").await;
    ben.join("a").await;
    ben.join("b").await;
    cora.join("b").await;
    for client in [&mut ann, &mut ben, &mut cora] {
        client.forget().await;
    }
    // A message of each room; who is in both has both.
    it.emit("/", &["a", "b"], json!(["to-rooms", {"x": 1}])).await;
    assert_eq!(ann.next("to-rooms").await, json!({"x": 1, "offset": 1}));
    for _ in 0..2 {
        assert_eq!(ben.next("to-rooms").await, json!({"x": 1, "offset": 1}));
    }
    cora.next("to-rooms").await;
    // Not numbered, and once to each.
    it.emit_with(
        "/",
        &["a", "b"],
        json!(["light", {"x": 1}]),
        json!({"volatile": true}),
        &["nobody"],
    )
    .await;
    it.emit("/", &["a", "b"], json!(["words", "as they are"])).await;
    it.emit("/", &["a", "b"], json!(["several", {"x": 1}, [2]])).await;
    it.emit("/", &["a", "b"], json!(["none"])).await;
    for client in [&mut ann, &mut ben, &mut cora] {
        assert_eq!(client.next("light").await, json!({"x": 1}));
        assert_eq!(client.next("words").await, json!("as they are"));
        let several = client.next_event("several").await;
        assert_eq!(several.arguments, [json!({"x": 1}), json!([2])]);
        assert_eq!(client.next_event("none").await.arguments, [] as [Value; 0]);
    }
    // The members of a room are left out, and a client by its id.
    it.emit_with("/", &["a"], json!(["but", {}]), json!({}), &["b"]).await;
    it.emit_with("/", &[], json!(["all-but", 1]), json!({}), &[&cora.id, "a"]).await;
    it.emit_with("/", &[], json!(["all-but", 2]), json!({}), &[&ann.id]).await;
    it.emit("/", &[], json!(["all", {"x": 1}])).await;
    assert_eq!(ann.next("but").await["offset"], 2);
    assert_eq!(ann.next("all").await, json!({"x": 1}));
    for client in [&mut ben, &mut cora] {
        assert_eq!(client.next("all-but").await, 2);
        client.next("all").await;
    }
    for client in [&mut ann, &mut ben, &mut cora] {
        assert_eq!(client.names().await, NOTHING);
    }
}

#[tokio::test]
async fn namespaces_are_kept_apart() {
    let (cluster, it) = start(2).await;
    let mut here = cluster.client(0).await;
    let mut chat = cluster.connecting(1).namespace("/chat").join().await;
    here.join("r").await;
    chat.join("r").await;
    here.forget().await;
    chat.forget().await;
    it.emit("/chat", &["r"], json!(["news", {"for": "chat"}])).await;
    it.emit("/", &["r"], json!(["news", {"for": "all"}])).await;
    it.emit("/chat", &[], json!(["everyone", 1])).await;
    assert_eq!(chat.next("news").await["for"], "chat");
    assert_eq!(here.next("news").await["for"], "all");
    chat.next("everyone").await;
    assert_eq!(here.names().await, NOTHING);
    assert_eq!(chat.names().await, NOTHING);
}

#[tokio::test]
async fn a_clients_id_stands_as_a_room_on_whichever_node_it_is() {
    let (cluster, it) = start(2).await;
    let [mut ann, mut ben] = cluster.clients().await;
    for client in [&mut ann, &mut ben] {
        it.emit("/", &[&client.id], json!(["for-you", {"n": 1}])).await;
        assert_eq!(client.next("for-you").await, json!({"n": 1}));
    }
    // A room with a name that could be an id.
    let room = "Zu2ebEKtSxGmyJfvUq7x";
    ben.join(room).await;
    ben.forget().await;
    it.emit("/", &[room], json!(["for-room", {"n": 1}])).await;
    assert_eq!(ben.next("for-room").await, json!({"n": 1, "offset": 1}));
    let rooms = cluster.nodes[0].get(&format!("/rooms/{}/messages", ann.id)).await;
    assert_eq!(rooms.json()["items"], json!([]), "a client's id makes no history");
    assert_eq!(ann.names().await, NOTHING);
}

#[tokio::test]
async fn binary_data_comes_as_attachments() {
    let (cluster, it) = start(2).await;
    let [mut ann, mut ben] = cluster.clients().await;
    ann.join("r").await;
    ben.join("r").await;
    for client in [&mut ann, &mut ben] {
        client.forget().await;
    }
    it.emit("/", &["r"], json!(["file", {"name": "x", "bytes": [0, 255, 7]}])).await;
    it.emit("/", &["r"], json!(["raw", 1, {"bytes": [9]}])).await;
    for client in [&mut ann, &mut ben] {
        let file = client.next_event("file").await;
        let wanted = json!({"name": "x", "bytes": {"_placeholder": true, "num": 0}, "offset": 1});
        assert_eq!((file.data, file.attachments), (wanted, vec![vec![0, 255, 7]]));
        assert_eq!(client.next_event("raw").await.attachments, [[9]]);
    }
}

#[tokio::test]
async fn older_emitters_publish_to_each_room_and_each_gets_it_once() {
    let (cluster, it) = start(2).await;
    let [mut ann, mut ben] = cluster.clients().await;
    ann.join("a").await;
    ben.join("b").await;
    ann.forget().await;
    ben.forget().await;
    let packet = json!({"type": 2, "data": ["news", {"n": 1}], "nsp": "/"});
    let bytes = pack(&json!(["emitter", packet, {"rooms": ["a", "b"], "flags": ""}]));
    for room in ["a", "b"] {
        it.publish(&format!("socket.io#/#{room}#"), &bytes).await;
    }
    for client in [&mut ann, &mut ben] {
        assert_eq!(client.next("news").await, json!({"n": 1, "offset": 1}));
        assert_eq!(client.names().await, NOTHING);
    }
}

#[tokio::test]
async fn clients_join_leave_and_are_disconnected_on_all_nodes_in_order() {
    let (cluster, it) = start(2).await;
    let [mut ann, mut ben, mut cora] = cluster.clients().await;
    ann.join("a").await;
    ben.join("a").await;
    ben.join("b").await;
    for client in [&mut ann, &mut ben, &mut cora] {
        client.forget().await;
    }
    // What is sent to a room just after is for whoever was put into it.
    let opts = json!({"rooms": ["a"], "except": ["b"]});
    it.request("/", &json!({"type": 2, "opts": opts, "rooms": ["new", "newer"]})).await;
    it.emit("/", &["new"], json!(["welcome", {}])).await;
    assert_eq!(ann.next("room-joined").await["roomName"], "new");
    assert_eq!(ann.next("room-joined").await["roomName"], "newer");
    assert_eq!(ann.next("welcome").await["offset"], 1);
    it.request(
        "/",
        &json!({"type": 2, "opts": {"rooms": [cora.id], "except": []}, "rooms": ["new"]}),
    )
    .await;
    assert_eq!(ann.next("user-joined").await["socketId"], cora.id);
    cora.next("room-joined").await;
    it.request(
        "/",
        &json!({"type": 3, "opts": {"rooms": [], "except": [cora.id]}, "rooms": ["new"]}),
    )
    .await;
    it.emit("/", &["new"], json!(["left", {}])).await;
    assert_eq!(ann.next("room-left").await["roomName"], "new");
    assert_eq!(cora.next("user-left").await["socketId"], ann.id);
    cora.next("left").await;
    assert_eq!(ann.names().await, NOTHING);
    assert_eq!(ben.names().await, NOTHING);
    // What servers say to one another is nothing to us.
    it.request("/", &json!({"uid": "emitter", "type": 6, "data": ["hello"]})).await;
    it.request(
        "/",
        &json!({"type": 4, "opts": {"rooms": ["a"], "except": [ben.id]}, "close": false}),
    )
    .await;
    ann.ended_in_namespace().await;
    it.request("/", &json!({"type": 4, "opts": {"rooms": [], "except": [ben.id]}, "close": true}))
        .await;
    cora.ended_in_namespace().await;
    assert_eq!(ben.names().await, ["user-left"]);
    assert_eq!(count(&cluster, "pubsub", "unfit").await, 0);
}
