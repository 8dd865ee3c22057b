//! Rooms, messages and signals across nodes.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{Cluster, eventually, offset_of};
use crate::support::TestClient;

const NOTHING: [&str; 0] = [];

#[tokio::test]
async fn a_room_is_one_on_all_nodes() {
    let cluster = Cluster::start(2).await;
    let [mut ann, mut ben, mut outside] = cluster.clients().await;
    ann.join("r").await;
    ben.ask("joinRoom", json!({"roomId": "r"})).await;
    let told = ann.next("userJoinedRoom").await;
    assert_eq!((&told["socketId"], &told["roomId"]), (&json!(ben.id), &json!("r")));
    for client in [&mut ann, &mut ben, &mut outside] {
        client.forget().await;
    }

    // A message, without its sender; one with it; one that the server completes; a signal.
    let ack = ann.ask("message", json!({"roomName": "r", "id": "m1", "z": 1, "a": [2]})).await;
    assert_eq!(offset_of(&ack), 1, "{ack}");
    let event = ben.next_event("message-reply").await;
    assert_eq!(event.text, r#"{"roomName":"r","id":"m1","z":1,"a":[2],"offset":1}"#);
    ben.ask("channels", json!({"roomName": "r", "n": 2})).await;
    for client in [&mut ann, &mut ben] {
        assert_eq!(client.next("resource-update").await["offset"], 2);
    }
    ann.ask("sendMessage", json!({"roomId": "r", "content": "hi"})).await;
    assert_eq!(ann.next("newMessage").await["offset"], 3);
    assert_eq!(ben.next("newMessage").await["clientId"], ann.id);
    ben.ask("typingIndicator", json!({"roomId": "r", "isTyping": true})).await;
    assert_eq!(ann.next("userTyping").await["clientId"], ben.id);
    ann.ask("custom-event", json!({"event": "wave", "data": {"hand": 1}, "room": "r"})).await;
    assert_eq!(ben.next("wave").await, json!({"hand": 1}));
    ben.ask("readReceipt", json!({"messageId": "m1", "roomId": "r"})).await;
    for client in [&mut ann, &mut ben] {
        assert_eq!(client.next("messageRead").await["messageId"], "m1");
    }
    assert_eq!(ann.names().await, ["messageSent"]);
    assert_eq!(ben.names().await, NOTHING);

    // A typist who leaves stops typing, and has left, for all.
    ben.ask("leave-room", json!("r")).await;
    assert_eq!(ann.next("userTyping").await["isTyping"], false);
    assert_eq!(ann.next("user-left").await["socketId"], ben.id);
    ann.ask("message", json!({"roomName": "r"})).await;
    assert_eq!(ben.names().await, ["room-left"]);
    assert_eq!(outside.names().await, NOTHING);
}

#[tokio::test]
async fn a_namespace_is_one_on_all_nodes() {
    let cluster = Cluster::with(2, |config| config.announce_connections = true).await;
    let [mut ann, mut ben] = cluster.clients().await;
    let cora = cluster.client(1).await;
    for client in [&mut ann, &mut ben] {
        let told = client.next("client-connected").await;
        assert_eq!(told["clientId"], cora.id);
    }
    cora.disconnect().await;
    for client in [&mut ann, &mut ben] {
        client.next("client-disconnected").await;
    }
    ann.ask("message", json!("to all")).await;
    for client in [&mut ann, &mut ben] {
        assert_eq!(client.next("message").await, "to all");
    }
    ben.ask("custom-event", json!({"event": "wave", "data": 7})).await;
    assert_eq!(ann.next("wave").await, 7);
    assert_eq!(ben.names().await, NOTHING);
}

#[tokio::test]
async fn attachments_come_through_as_they_are() {
    let cluster = Cluster::start(2).await;
    let [mut ann, mut ben] = cluster.clients().await;
    ben.join("r").await;
    let bytes: Vec<u8> = (0..=255).collect();
    let text = r#"{"roomName":"r","file":{"_placeholder":true,"num":0}}"#;
    ann.emit_binary("message", text, &[&bytes]).await;
    let logged = ben.next_event("message-reply").await;
    assert_eq!(logged.attachments, std::slice::from_ref(&bytes));
    let text = r#"{"event":"blob","data":{"_placeholder":true,"num":0},"room":"r"}"#;
    ann.emit_binary("custom-event", text, &[&bytes]).await;
    assert_eq!(ben.next_event("blob").await.attachments, [bytes]);
}

/// Sends `count` messages and returns their offsets as they were acknowledged.
async fn write(mut client: TestClient, name: String, count: usize) -> Vec<(u64, String)> {
    let mut asked = Vec::new();
    for n in 0..count {
        let message = json!({"roomName": "r", "id": format!("{name}-{n}")});
        asked.push(client.ask_later("message", message).await.unwrap());
    }
    let mut acknowledged = Vec::new();
    for number in asked {
        let ack = client.ack(number).await;
        acknowledged.push((offset_of(&ack), ack["id"].as_str().unwrap().to_owned()));
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_on_all_nodes_make_one_order_without_gaps() {
    const WRITERS: usize = 6;
    const COUNT: usize = 60;
    let cluster = Cluster::start(3).await;
    let mut readers: [TestClient; 3] = cluster.clients().await;
    for reader in &mut readers {
        reader.join("r").await;
    }
    let mut writers = Vec::new();
    for n in 0..WRITERS {
        writers.push(tokio::spawn(write(cluster.client(n % 3).await, n.to_string(), COUNT)));
    }
    let written = join_all(writers).await.into_iter().flat_map(Result::unwrap);
    let mut written = written.collect::<Vec<_>>();
    written.sort_unstable();
    let offsets = written.iter().map(|(offset, _)| *offset).collect::<Vec<_>>();
    assert_eq!(offsets, (1..=(WRITERS * COUNT) as u64).collect::<Vec<_>>());
    for reader in &mut readers {
        for (offset, id) in &written {
            let message = reader.next("message-reply").await;
            assert_eq!(
                (offset_of(&message), message["id"].as_str().unwrap()),
                (*offset, id.as_str())
            );
        }
        assert_eq!(reader.all("message-reply").await, [Value::Null; 0]);
    }
}

#[tokio::test]
async fn a_client_recovers_on_another_node() {
    let cluster = Cluster::start(2).await;
    let [mut ann, mut ben] = cluster.clients().await;
    let ack = ann.ask("join-room", json!({"roomName": "r"})).await;
    let (epoch, first) = (ack["epoch"].clone(), offset_of(&ack));
    assert_eq!(first, 0);
    ann.disconnect().await;
    for n in 1..=5 {
        ben.ask("message", json!({"roomName": "r", "n": n})).await;
    }
    let mut ann = cluster.client(1).await;
    let ask = json!({"roomName": "r", "offset": 2, "epoch": epoch});
    let ack = ann.ask("join-room", ask).await;
    assert_eq!((&ack["recovered"], &ack["missed"], offset_of(&ack)), (&json!(true), &json!(3), 5));
    ben.ask("message", json!({"roomName": "r", "n": 6})).await;
    for n in 3..=6 {
        let message = ann.next("message-reply").await;
        assert_eq!((&message["n"], &message["offset"]), (&json!(n), &json!(n)));
    }
    let page = ann.ask("syncMessages", json!({"roomId": "r", "offset": 0})).await;
    assert_eq!((&page["syncedMessageCount"], &page["epoch"]), (&json!(6), &epoch));
}

#[tokio::test]
async fn a_client_that_comes_while_others_write_misses_nothing() {
    let cluster = Cluster::start(2).await;
    let [mut ann] = cluster.clients().await;
    ann.join("r").await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let mut writer = cluster.client(0).await;
    let writing = tokio::spawn(async move {
        let mut n = 0;
        while stopped.try_recv().is_err() {
            n += 1;
            let ack = writer.ask("channels", json!({"roomName": "r", "n": n})).await;
            assert_eq!(offset_of(&ack), n, "{ack}");
        }
    });
    // The first member of its node, again and again: each time the node begins to listen anew.
    for _ in 0..20 {
        let mut ben = cluster.client(1).await;
        let ack = ben.ask("join-room", json!({"roomName": "r"})).await;
        // What came just then may be before the ack, which counts it.
        let mut next = offset_of(&ack) + 1;
        for n in 0..5 {
            let offset = offset_of(&ben.next("resource-update").await);
            assert!(offset == next || n == 0 && offset < next, "{offset} after {}", next - 1);
            next = offset + 1;
        }
        ben.disconnect().await;
    }
    stop.send(()).unwrap();
    writing.await.unwrap();
}

#[tokio::test]
async fn without_history_messages_go_to_all_nodes_in_one_order() {
    let cluster = Cluster::with(2, |config| config.history_size = 0).await;
    let [mut ann, mut ben, mut cora] = cluster.clients().await;
    for client in [&mut ann, &mut ben] {
        client.join("r").await;
    }
    for n in 0..50 {
        let writer = if n % 2 == 0 { &mut cora } else { &mut ben };
        let ack = writer.ask("channels", json!({"roomName": "r", "n": n})).await;
        assert_eq!((&ack["success"], ack.get("offset")), (&json!(true), None), "{ack}");
        // Whoever was told that it is sent has it, on this node.
        if n % 2 == 1 {
            assert_eq!(ben.arrived("resource-update").last().unwrap()["n"], n);
        }
    }
    for client in [&mut ann, &mut ben] {
        let order = client.all("resource-update").await;
        let order = order.iter().map(|message| message["n"].as_u64().unwrap());
        assert_eq!(order.collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_node_listens_to_rooms_that_it_has_members_in() {
    let cluster = Cluster::start(2).await;
    let [mut ann, mut ben] = cluster.clients().await;
    ann.join("r").await;
    assert_eq!(cluster.listeners("r"), 1);
    ben.join("r").await;
    assert_eq!(cluster.listeners("r"), 2);
    ann.ask("leave-room", json!("r")).await;
    ben.disconnect().await;
    eventually("nobody listens", async || cluster.listeners("r") == 0).await;
    // And again, as before.
    ann.join("r").await;
    assert_eq!(cluster.listeners("r"), 1);
}

#[tokio::test]
async fn a_backends_events_reach_all_nodes() {
    let cluster = Cluster::start(2).await;
    let [mut ann, mut ben, mut cora] = cluster.clients().await;
    for (client, user) in [(&mut ann, "ann"), (&mut ben, "ben"), (&mut cora, "cora")] {
        client.authenticate(user).await;
        client.join("r").await;
    }
    ben.join("s").await;
    for client in [&mut ann, &mut ben, &mut cora] {
        client.forget().await;
    }
    let post = async |body: Value| cluster.nodes[0].post("/events", &body).await.expect(201);

    let sent =
        post(json!({"event": "e", "data": {"n": 1}, "rooms": ["r"], "except": {"users": ["ben"]}}))
            .await;
    assert_eq!(sent["offsets"], json!({"r": 1}));
    assert_eq!(ann.next("e").await, json!({"n": 1, "offset": 1}));
    cora.next("e").await;
    post(json!({"event": "e", "data": 2, "rooms": ["r", "s"], "except": {"rooms": ["s"]}})).await;
    ann.next("e").await;
    cora.next("e").await;
    assert_eq!(ben.names().await, NOTHING);
    post(json!({"event": "once", "data": 3, "rooms": ["r", "s"], "volatile": true})).await;
    assert_eq!(ben.names().await, ["once"], "not once for each room");
    post(json!({"event": "c", "data": 4, "clients": [ann.id, ben.id]})).await;
    assert_eq!(ben.next("c").await, 4);
    post(json!({"event": "u", "data": 5, "users": ["ann", "ben"]})).await;
    assert_eq!(ben.next("u").await, 5);
    post(json!({"event": "all", "data": 6, "except": {"clients": [cora.id]}})).await;
    assert_eq!(ben.next("all").await, 6);
    assert_eq!(ann.names().await, ["once", "c", "u", "all"]);
    assert_eq!(cora.names().await, ["once"]);

    let body = json!({
        "id": "2f1e4c9e-6c0d-4f4e-9a50-0d6f2b8a6b11", "clientId": ann.id, "clientName": "x", "roomName": "r",
        "messageType": "t", "message": "m", "timestamp": "2026-01-01T00:00:00Z",
    });
    let sent = cluster.nodes[1].post("/messages/broadcast", &body).await.expect(201);
    assert_eq!(sent["offset"], 2);
    ben.next("message-reply").await;
    assert_eq!(ann.names().await, NOTHING, "it is the one that is left out");
}

#[tokio::test]
async fn a_private_message_does_not_overtake_what_its_sender_sent_before() {
    const WAVES: usize = 3000;
    let cluster = Cluster::with(2, |config| config.history_size = 0).await;
    let [mut ann, mut zoe] = cluster.clients().await;
    zoe.authenticate("zoe").await;
    zoe.join("r").await;
    ann.forget().await;
    // What is to be published waits in many pipelines.
    cluster.redis.command::<()>("CLIENT PAUSE 10000 WRITE");
    let wave = |n: usize| json!({"event": "wave", "data": n, "room": "r"});
    for n in 1..WAVES {
        ann.emit("custom-event", wave(n)).await;
    }
    ann.ask("custom-event", wave(WAVES)).await;
    ann.emit("private-message", json!({"targetUserId": "zoe", "message": "hi"})).await;
    cluster.redis.command::<()>("CLIENT UNPAUSE");
    let before = zoe.until("private-message").await;
    let waves = before.iter().filter(|event| event.name == "wave").count();
    assert_eq!(waves, WAVES);
}
