//! Rooms that make way for others.

use serde_json::json;

use super::with;
use crate::support::TestServer;

/// A client without a user sends to so many rooms that nobody is in.
async fn invent(server: &TestServer, rooms: u64) {
    let mut client = server.client().await;
    for n in 0..rooms {
        let ack = client.ask("message", json!({"roomName": format!("invented-{n}")})).await;
        assert_eq!(ack["success"], true, "{ack}");
    }
}

#[tokio::test]
async fn a_client_that_sends_to_ever_new_names_forgets_its_own_rooms_and_no_others() {
    let server = with(|config| {
        config.max_rooms = 20;
        config.max_rooms_per_sender = 5;
        config.api_keys = vec![roomcast::config::Secret::new("backend")];
    })
    .await;
    let event = json!({"event": "news", "data": {"n": 1}, "rooms": ["kept"]});
    let begun = server.request(reqwest::Method::POST, "/events").header("x-api-key", "backend");
    crate::support::Answer::of(begun.json(&event)).await.expect(201);
    invent(&server, 50).await;
    let mut late = server.client().await;
    let ack = late.ask("join-room", json!({"roomName": "kept", "offset": 0})).await;
    assert_eq!((&ack["recovered"], &ack["missed"]), (&json!(true), &json!(1)), "{ack}");
    let ack = late.ask("join-room", json!({"roomName": "invented-49", "offset": 0})).await;
    assert_eq!(ack["offset"], 1, "the newest ones are there: {ack}");
    let ack = late.ask("join-room", json!({"roomName": "invented-0"})).await;
    assert_eq!(ack["offset"], 0, "the oldest ones are not: {ack}");
}

#[tokio::test]
async fn when_all_places_are_taken_anybody_can_still_start_a_room() {
    let server = with(|config| {
        config.max_rooms = 20;
        config.max_rooms_per_sender = 0;
    })
    .await;
    let mut member = server.client().await;
    member.join("lived-in").await;
    let first = member.ask("message", json!({"roomName": "lived-in"})).await;
    assert_eq!(first["offset"], 1);
    let mut away = server.client().await;
    let known = away.ask("join-room", json!({"roomName": "left"})).await;
    away.ask("message", json!({"roomName": "left"})).await;
    away.ask("leave-room", json!({"roomName": "left"})).await;

    invent(&server, 60).await;
    let mut other = server.client().await;
    let ack = other.ask("message", json!({"roomName": "a-new-one"})).await;
    assert_eq!((&ack["success"], &ack["offset"]), (&json!(true), &json!(1)), "{ack}");
    let second = member.ask("message", json!({"roomName": "lived-in"})).await;
    assert_eq!(second["offset"], 2, "a room with members stays");

    // Whoever comes back to a forgotten room is told that what it knows is of another history.
    let again = json!({"roomName": "left", "offset": 1, "epoch": known["epoch"]});
    let ack = away.ask("join-room", again).await;
    assert_eq!((&ack["recovered"], &ack["offset"]), (&json!(false), &json!(0)), "{ack}");
    assert_ne!(ack["epoch"], known["epoch"]);
}
