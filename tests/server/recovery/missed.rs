//! What is replayed, and what is not.

use serde_json::json;

use super::{
    comes_back, comes_back_with, gone, is_recovered, numbers, say, server, server_with,
    server_with_tokens,
};
use crate::support::{SECRET, TestClient, TestServer, token_of};

async fn sends(server: &TestServer, event: serde_json::Value) {
    server.post("/events", &event).await.expect(201);
}

#[tokio::test]
async fn a_backends_events_are_replayed_in_order_and_signals_are_not() {
    let server = server().await;
    let (mut ann, mut bob) = (server.client().await, server.client().await);
    for room in ["r", "s"] {
        ann.join(room).await;
    }
    ann.authenticate("ann").await;
    // Another client of the user stays.
    let mut other = server.client().await;
    other.authenticate("ann").await;
    ann.settle().await;
    let id = ann.id.clone();
    let (lost, back) = (id.clone(), ann.back());
    drop(ann);
    gone(&mut bob, &id).await;
    sends(&server, json!({"event": "n", "data": {"n": 1}, "rooms": ["r"]})).await;
    sends(&server, json!({"event": "n", "data": "two", "rooms": ["s", "r"]})).await;
    sends(&server, json!({"event": "n", "data": {"n": 3}, "users": ["ann"]})).await;
    sends(&server, json!({"event": "n", "data": "four", "clients": [id]})).await;
    sends(&server, json!({"event": "n", "data": {"n": 5}})).await;
    sends(&server, json!({"event": "n", "data": {"n": 6}, "rooms": ["r"], "users": ["ann"], "clients": [id, id]})).await;
    for volatile in
        [json!({"rooms": ["r"]}), json!({"users": ["ann"]}), json!({"clients": [id]}), json!({})]
    {
        let mut event = json!({"event": "v", "data": {"n": 0}, "volatile": true});
        event.as_object_mut().unwrap().extend(volatile.as_object().unwrap().clone());
        sends(&server, event).await;
    }
    sends(&server, json!({"event": "v", "args": [1, 2], "rooms": ["r"]})).await;
    for except in [json!({"users": ["ann"]}), json!({"clients": [id]}), json!({"rooms": ["s"]})] {
        sends(&server, json!({"event": "x", "data": {"n": 0}, "rooms": ["r"], "except": except}))
            .await;
        sends(&server, json!({"event": "x", "data": {"n": 0}, "except": except})).await;
    }
    sends(&server, json!({"event": "x", "data": "", "rooms": ["elsewhere"]})).await;
    let told = bob.ask("private-message", json!({"targetUserId": "ann", "message": "seven"})).await;
    assert_eq!(told["delivered"], true);
    bob.ask("typingIndicator", json!({"roomId": "r", "isTyping": true})).await;
    bob.ask("custom-event", json!({"event": "v", "data": 1, "room": "r"})).await;
    bob.ask("message", json!({"text": "to all"})).await;
    say(&mut bob, "r", 8).await;
    let mut ann = server.connecting().auth(back).knock().await.unwrap();
    assert_eq!(ann.id, lost);
    let events = ann.everything().await;
    let seen = events.iter().map(|event| match event.name.as_str() {
        "private-message" => event.data["message"]["content"].clone(),
        "n" if event.data.is_string() => event.data.clone(),
        _ => event.data["n"].clone(),
    });
    let wanted = json!([1, "two", 3, "four", 5, 6, 6, 6, 6, "seven", 8]);
    assert_eq!(json!(seen.collect::<Vec<_>>()), wanted);
    // Each sending has an offset of its own.
    let mut offsets = events.iter().map(|event| event.arguments[1].clone()).collect::<Vec<_>>();
    let count = offsets.len();
    offsets.sort_by_key(ToString::to_string);
    offsets.dedup();
    assert_eq!(offsets.len(), count);
    // It is its user's client as before.
    bob.ask("private-message", json!({"targetUserId": "ann", "message": "nine"})).await;
    assert_eq!(ann.next("private-message").await["message"]["content"], "nine");
}

#[tokio::test]
async fn its_own_messages_are_replayed_and_nothing_from_before_its_join() {
    let server = server().await;
    let (mut ann, mut bob) = (server.client().await, server.client().await);
    say(&mut bob, "r", 0).await;
    ann.join("r").await;
    ann.settle().await;
    let seen = ann.offset.clone();
    // Its copy of one of them was lost on the way; the other goes to the others only.
    for (n, own) in [(1, true), (2, false)] {
        let ack = ann.ask("message", json!({"roomName": "r", "n": n, "replyToSender": own})).await;
        assert_eq!(ack["success"], true);
    }
    let left = ann.ask("leave-room", json!({"roomName": "r"})).await;
    assert_eq!(left["success"], true);
    say(&mut bob, "r", 3).await;
    ann.join("r").await;
    say(&mut bob, "r", 4).await;
    ann.settle().await;
    ann.offset = seen;
    let mut again = comes_back(&server, &ann).await;
    assert!(is_recovered(&again, &ann));
    assert_eq!(numbers(&mut again).await, [1, 4]);
}

#[tokio::test]
async fn what_a_join_replays_is_replayed_again_and_a_page_is_not() {
    let server = server().await;
    let (mut ann, mut bob) = (server.client().await, server.client().await);
    for n in 1..4 {
        say(&mut bob, "r", n).await;
        say(&mut bob, "s", 10 + n).await;
    }
    ann.settle().await;
    let seen = ann.offset.clone();
    let ack = ann.ask("join-room", json!({"roomName": "r", "offset": 1})).await;
    assert_eq!(ack["missed"], 2);
    let page = ann.ask("syncMessages", json!({"roomId": "s"})).await;
    assert_eq!(page["syncedMessageCount"], 3);
    ann.settle().await;
    ann.offset = seen;
    let mut again = comes_back(&server, &ann).await;
    assert!(is_recovered(&again, &ann));
    assert_eq!(numbers(&mut again).await, [2, 3]);
}

#[tokio::test]
async fn more_than_a_client_may_have_unsent_is_replayed_at_its_pace() {
    let server = server_with(|config| {
        config.send_buffer = 400_000;
        config.rate_limit_events = 0;
    })
    .await;
    let (mut ann, mut bob) = (server.client().await, server.client().await);
    ann.join("r").await;
    ann.settle().await;
    let (id, back) = (ann.id.clone(), ann.back());
    drop(ann);
    gone(&mut bob, &id).await;
    let text = "x".repeat(100_000);
    for n in 0..20 {
        let ack = bob.ask("message", json!({"roomName": "r", "n": n, "text": text})).await;
        assert_eq!(ack["success"], true);
    }
    let mut ann = server.connecting().auth(back).knock().await.unwrap();
    assert_eq!(ann.id, id);
    assert_eq!(numbers(&mut ann).await, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_busy_client_proves_what_it_has_and_can_come_back() {
    let server = server_with(|config| config.rate_limit_events = 0).await;
    let (mut ann, mut bob) = (server.client().await, server.client().await);
    ann.join("r").await;
    for n in 0..2000 {
        bob.emit("message", json!({"roomName": "r", "n": n})).await;
        if n % 100 == 99 {
            bob.settle().await;
            assert_eq!(numbers(&mut ann).await.last().unwrap(), n);
        }
    }
    let seen = ann.offset.clone();
    say(&mut bob, "r", 2000).await;
    ann.settle().await;
    ann.offset = seen;
    let mut again = comes_back(&server, &ann).await;
    assert!(is_recovered(&again, &ann));
    assert_eq!(numbers(&mut again).await, [2000]);
}

async fn with_rooms(
    server: &TestServer,
    rooms: serde_json::Value,
    lost: Option<&TestClient>,
) -> TestClient {
    let token = crate::control::token(&json!({"sub": "ann", "rooms": rooms}));
    match lost {
        Some(lost) => comes_back_with(server, lost, json!({"token": token})).await,
        None => server.connecting().auth(json!({"token": token})).join().await,
    }
}

#[tokio::test]
async fn a_narrower_token_recovers_without_the_rooms_that_it_lost() {
    let server = server_with_tokens().await;
    let mut bob = server.connecting().auth(json!({"token": token_of("bob")})).join().await;
    let mut ann = with_rooms(&server, json!(["a", "b"]), None).await;
    ann.join("a").await;
    ann.join("b").await;
    ann.settle().await;
    let granted =
        server.post(&format!("/connections/{}/rooms", ann.id), &json!({"rooms": ["g"]})).await;
    granted.expect(200);
    ann.next("room-joined").await;
    ann.settle().await;
    let seen = ann.offset.clone();
    for (n, room) in ["b", "a", "g", "b", "a"].into_iter().enumerate() {
        say(&mut bob, room, u32::try_from(n).unwrap()).await;
    }
    ann.settle().await;
    ann.offset = seen;
    let mut again = with_rooms(&server, json!(["a"]), Some(&ann)).await;
    assert!(is_recovered(&again, &ann));
    assert_eq!(numbers(&mut again).await, [1, 2, 4]);
    assert_eq!(again.next("room-left").await["roomName"], "b");
    let connection = server.get(&format!("/connections/{}", again.id)).await.expect(200);
    assert_eq!(connection["rooms"], json!(["a", "g"]));
    say(&mut bob, "b", 9).await;
    assert!(numbers(&mut again).await.is_empty());
    assert_eq!(SECRET.len(), 47);
}
