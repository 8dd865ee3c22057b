//! Numbers, epochs, and how long they last.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use roomcast::protocol::names::RoomName;
use serde_json::{Value, json};

use super::{assert_refused, fill, in_file, next_offset, offset_of, server, with};
use crate::support::{TestClient, TestServer};

#[tokio::test]
async fn room_messages_of_every_kind_are_numbered_together() {
    let server = server().await;
    let (mut sender, mut member) = (server.client().await, server.client().await);
    member.join("r").await;
    for (offset, event, payload, delivered) in [
        (1, "message", json!({"roomName": "r", "id": "a"}), "message-reply"),
        (2, "sendMessage", json!({"roomId": "r", "content": "b", "id": 7}), "newMessage"),
        (3, "channels", json!({"room": "r", "id": "c"}), "resource-update"),
        (4, "message", json!({"roomName": "r", "id": "a"}), "message-reply"),
    ] {
        let ack = sender.ask(event, payload.clone()).await;
        assert_eq!(ack["success"], true, "{ack}");
        assert_eq!(ack["id"], payload["id"]);
        assert_eq!(ack["roomName"], "r");
        assert!(ack["timestamp"].is_string());
        assert_eq!(ack["offset"], offset);
        assert_eq!(member.next(delivered).await["offset"], offset);
    }
    let elsewhere = sender.ask("message", json!({"roomName": "other"})).await;
    assert_eq!(elsewhere["offset"], 1, "a room has numbers of its own");
    let mut chatter = server.client_of("/chat").await;
    let elsewhere = chatter.ask("message", json!({"roomName": "r"})).await;
    assert_eq!(elsewhere["offset"], 1, "a room belongs to its namespace");
}

#[tokio::test]
async fn the_offset_is_inside_the_object_and_changes_nothing_else() {
    let server = server().await;
    let (mut sender, mut member) = (server.client().await, server.client().await);
    member.join("r").await;
    for (given, wanted) in [
        (
            r#"{"z":1.0,"offset":"mine","roomName":"r","a":{"offset":2}}"#,
            r#"{"z":1.0,"roomName":"r","a":{"offset":2},"offset":1}"#,
        ),
        (
            r#"{"roomName":"r","b":[2e3],"a":"ö\n"}"#,
            r#"{"roomName":"r","b":[2e3],"a":"ö\n","offset":2}"#,
        ),
    ] {
        sender.emit_text("message", given).await;
        assert_eq!(member.next_event("message-reply").await.text, wanted);
    }
    sender.emit_text("sendMessage", r#"{"offset":9,"roomId":"r","content":"x","k":1}"#).await;
    let message = member.next("newMessage").await;
    let keys = message.as_object().unwrap().keys().collect::<Vec<_>>();
    assert_eq!(keys, ["id", "sender", "clientId", "content", "timestamp", "roomId", "k", "offset"]);
    assert_eq!(message["offset"], 3);
}

#[tokio::test]
async fn a_sender_that_is_left_out_learns_its_offset_by_the_ack() {
    let server = server().await;
    let (mut sender, mut other) = (server.client().await, server.client().await);
    sender.join("r").await;
    assert_eq!(fill(&mut sender, "r", 2).await, 2);
    other.ask("message", json!({"roomName": "r"})).await;
    assert_eq!(next_offset(&mut sender).await, 3, "its own did not come");
    sender.ask("message", json!({"roomName": "r", "replyToSender": true})).await;
    assert_eq!(next_offset(&mut sender).await, 4);
}

/// Sends `count` messages without waiting for one ack before the next; the offsets in the acks.
async fn send_at_once(mut client: TestClient, name: &'static str, count: u64) -> Vec<u64> {
    for n in 0..count {
        let message = json!({"roomName": "r", "from": name, "n": n});
        client.ask_later("message", message).await.unwrap();
    }
    let mut offsets = Vec::new();
    for _ in 0..count {
        offsets.push(offset_of(&client.next_ack().await.unwrap().1));
    }
    offsets
}

#[tokio::test]
async fn members_get_the_messages_of_several_senders_in_one_order_without_gaps() {
    const EACH: u64 = 200;
    let server = server().await;
    let (mut one, mut two) = (server.client().await, server.client().await);
    one.join("r").await;
    two.join("r").await;
    let (a, b) = (server.client().await, server.client().await);
    let (a, b) = tokio::join!(send_at_once(a, "a", EACH), send_at_once(b, "b", EACH));
    assert!(a.is_sorted() && b.is_sorted(), "a sender's own order is kept");
    let mut seen = Vec::new();
    for offset in 1..=2 * EACH {
        let message = one.next("message-reply").await;
        assert_eq!(message["offset"], offset);
        assert_eq!(two.next("message-reply").await, message);
        seen.push(message);
    }
    let acknowledged: BTreeMap<u64, (&str, u64)> = a
        .iter()
        .zip(0..)
        .map(|(offset, n)| (*offset, ("a", n)))
        .chain(b.iter().zip(0..).map(|(offset, n)| (*offset, ("b", n))))
        .collect();
    for message in &seen {
        let (from, n) = acknowledged[&offset_of(message)];
        assert_eq!((&message["from"], &message["n"]), (&json!(from), &json!(n)));
    }
    let offsets = acknowledged.into_keys().collect::<BTreeSet<_>>();
    assert!(offsets.into_iter().eq(1..=2 * EACH), "no offset was acknowledged twice");
}

fn is_epoch(epoch: &Value) -> bool {
    epoch.as_str().is_some_and(|text| text.len() == 16)
}

#[tokio::test]
async fn a_join_tells_where_the_room_stands() {
    let server = server().await;
    let (mut sender, mut member) = (server.client().await, server.client().await);
    let ack = member.ask("join-room", json!({"roomName": "r"})).await;
    assert_eq!(ack["offset"], 0);
    assert!(is_epoch(&ack["epoch"]), "{ack}");
    for field in ["recovered", "missed", "oldestOffset"] {
        assert!(ack.get(field).is_none(), "{field} was not asked for: {ack}");
    }
    fill(&mut sender, "r", 2).await;
    for (event, payload) in [
        ("join-room", json!("r")),
        ("joinRoom", json!({"roomId": "r"})),
        ("watch-resource", json!({"roomName": "r", "offset": null})),
    ] {
        let later = sender.ask(event, payload).await;
        assert_eq!((&later["offset"], &later["epoch"]), (&json!(2), &ack["epoch"]), "{event}");
        assert!(later.get("recovered").is_none());
    }
}

#[tokio::test]
async fn without_history_objects_are_untouched() {
    let server = with(|config| config.history_size = 0).await;
    let (mut sender, mut member) = (server.client().await, server.client().await);
    let ack = member.ask("join-room", json!({"roomName": "r", "offset": 3, "epoch": "x"})).await;
    assert_eq!(ack["success"], true);
    for field in ["offset", "epoch", "recovered", "missed", "oldestOffset"] {
        assert!(ack.get(field).is_none(), "{ack}");
    }
    let text = r#"{"roomName":"r","offset":"mine"}"#;
    sender.emit_text("message", text).await;
    assert_eq!(member.next_event("message-reply").await.text, text);
    let ack = sender.ask("sendMessage", json!({"roomId": "r", "content": 1})).await;
    assert!(ack["success"] == true && ack.get("offset").is_none(), "{ack}");
    assert!(member.next("newMessage").await.get("offset").is_none());
    let ack = sender.ask("syncMessages", json!({"roomId": "r"})).await;
    assert_refused(&ack, "unavailable");
    let receipt = json!({"roomId": "r", "messageId": 1});
    assert_eq!(member.ask("readReceipt", receipt).await["recorded"], false);
}

#[tokio::test]
async fn messages_age_but_their_numbers_stay() {
    let ttl = Duration::from_secs(2);
    let server = with(|config| config.history_ttl = Some(ttl)).await;
    let mut client = server.client().await;
    fill(&mut client, "r", 3).await;
    let begun = std::time::Instant::now();
    let first = client.ask("syncMessages", json!({"roomId": "r"})).await;
    assert_eq!(first["syncedMessageCount"], 3);
    loop {
        let page = client.ask("syncMessages", json!({"roomId": "r"})).await;
        assert_eq!(page["epoch"], first["epoch"]);
        if page["syncedMessageCount"] == 0 {
            assert!(begun.elapsed() > ttl / 2, "too early");
            assert_eq!((&page["offset"], &page["complete"]), (&json!(3), &json!(true)));
            break;
        }
        assert!(begun.elapsed() < 3 * ttl, "never");
    }
    let ack = client.ask("join-room", json!({"roomName": "r", "offset": 2})).await;
    assert_eq!(ack["recovered"], false);
    assert_eq!(ack["oldestOffset"], 4, "nothing can be read, so it is the next");
    assert_eq!(fill(&mut client, "r", 1).await, 4);
}

async fn at(server: &TestServer) -> TestClient {
    server.client().await
}

#[tokio::test]
async fn a_restart_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let first = with(|config| config.store_url = in_file(&directory)).await;
    let mut client = at(&first).await;
    let before = client.ask("join-room", "r".into()).await;
    fill(&mut client, "r", 3).await;
    first.stop().await;
    let second = with(|config| config.store_url = in_file(&directory)).await;
    let mut client = at(&second).await;
    let recover = json!({"roomName": "r", "offset": 1, "epoch": before["epoch"]});
    let after = client.ask("join-room", recover).await;
    assert_eq!(after["epoch"], before["epoch"]);
    assert_eq!((&after["offset"], &after["missed"]), (&json!(3), &json!(2)));
    assert_eq!((next_offset(&mut client).await, next_offset(&mut client).await), (2, 3));
    assert_eq!(fill(&mut client, "r", 1).await, 4);
    second.stop().await;
}

#[tokio::test]
async fn no_more_rooms_are_stored_than_max_rooms() {
    let server = with(|config| config.max_rooms = 2).await;
    let (mut sender, mut member) = (server.client().await, server.client().await);
    for room in ["a", "b"] {
        member.join(room).await;
        assert_eq!(fill(&mut sender, room, 1).await, 1);
        member.next("message-reply").await;
    }
    let ack = sender.ask("message", json!({"roomName": "c"})).await;
    assert_refused(&ack, "too_many_rooms");
    assert_eq!(fill(&mut sender, "a", 1).await, 2, "those that there are go on");
    assert_eq!(member.next("message-reply").await["offset"], 2, "what was refused reached nobody");
}

#[tokio::test]
async fn no_more_rooms_live_than_max_rooms_whatever_their_namespace() {
    let server = TestServer::one_node(|config| config.max_rooms = 2).await;
    let (mut client, mut chatter) = (server.client().await, server.client_of("/chat").await);
    client.join("a").await;
    chatter.join("a").await;
    assert_refused(&client.ask("join-room", "b".into()).await, "too_many_rooms");
    assert_refused(&chatter.ask("joinRoom", "b".into()).await, "too_many_rooms");
    client.ask("leave-room", "a".into()).await;
    chatter.join("b").await;
    assert_refused(&client.ask("join-room", "a".into()).await, "too_many_rooms");
}

#[tokio::test]
async fn a_member_of_a_forgotten_room_hears_it_begin_again() {
    let ttl = Duration::from_millis(500);
    let server = with(|config| config.history_ttl = Some(ttl)).await;
    // Redis is swept once a minute by all nodes together, which its own tests wait for.
    if server.is_shared() {
        return;
    }
    let (mut member, mut sender) = (server.client().await, server.client().await);
    let mut newcomer = server.client().await;
    member.join("quiet").await;
    assert_eq!(fill(&mut sender, "quiet", 3).await, 3);
    for offset in 1..=3 {
        assert_eq!(next_offset(&mut member).await, offset);
    }
    newcomer.join("quiet").await;
    let before = sender.ask("join-room", json!("quiet")).await["epoch"].clone();
    let forgotten =
        async { while sender.ask("join-room", json!("quiet")).await["epoch"] == before {} };
    tokio::time::timeout(Duration::from_secs(10), forgotten).await.unwrap();
    assert_eq!(fill(&mut sender, "quiet", 1).await, 1);
    assert_eq!(next_offset(&mut member).await, 1);
    assert_eq!(next_offset(&mut newcomer).await, 1, "also who has heard nothing of it before");
}

/// As above, but nothing at all is delivered while the room lives before it is forgotten.
#[tokio::test]
async fn a_member_that_has_heard_nothing_yet_hears_a_forgotten_room_begin_again() {
    let server = TestServer::one_node(|config| {
        config.history_ttl = Some(Duration::from_millis(20));
        config.rate_limit_events = 0;
    })
    .await;
    let (mut member, mut sender) = (server.client().await, server.client().await);
    assert_eq!(fill(&mut sender, "quiet", 3).await, 3);
    let ack = member.ask("join-room", json!("quiet")).await;
    assert_eq!(ack["offset"], 3);
    let store = server.app.store.as_ref().unwrap();
    let key = server.app.registry.namespaces()[0].key(&RoomName::parse("quiet").unwrap());
    while store.extent(&key).await.unwrap().head.offset > 0 {
        store.sweep().await.unwrap();
    }
    assert_eq!(fill(&mut sender, "quiet", 4).await, 4);
    for offset in 1..=4 {
        assert_eq!(next_offset(&mut member).await, offset);
    }
    let again = member.ask("join-room", json!("quiet")).await;
    assert_eq!(again["offset"], 4);
    assert_ne!(again["epoch"], ack["epoch"], "the offset and the epoch are a pair");
}
