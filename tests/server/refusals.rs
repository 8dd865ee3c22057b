//! Refusals: every code, in the shape of its family, with nothing changed afterwards.

use roomcast::config::Secret;
use serde_json::{Value, json};

use crate::support::{TestClient, TestServer, fields};

/// Refuses twice, with an ack and without one, and returns the ack.
async fn refused(client: &mut TestClient, event: &str, payload: Value, code: &str) -> Value {
    client.forget().await;
    let ack = client.ask(event, payload.clone()).await;
    assert_eq!((&ack["success"], &ack["code"]), (&json!(false), &json!(code)), "{event} {payload}");
    assert_eq!(fields(&ack), ["code", "message", "success"]);
    let told = client.everything().await;
    client.emit(event, payload).await;
    let again = client.everything().await;
    let mut expected =
        vec![("error", json!({"message": ack["message"], "code": code, "event": event}))];
    if event.contains(char::is_uppercase) {
        expected.push(("exception", json!({"status": "error", "message": ack["message"]})));
    }
    for events in [told, again] {
        let events: Vec<_> =
            events.iter().map(|event| (event.name.as_str(), event.data.clone())).collect();
        assert_eq!(events, expected);
    }
    ack
}

#[tokio::test]
async fn every_family_is_told_in_its_own_shape() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for (event, payload, code) in [
        ("join-room", json!({}), "no_room"),
        ("watch-resource", json!({"resourceId": {}}), "invalid_payload"),
        ("leave-room", json!(null), "no_room"),
        ("unwatch-resource", json!(""), "invalid_payload"),
        ("joinRoom", json!({"roomId": true}), "invalid_payload"),
        ("leaveRoom", json!({"x": 1}), "no_room"),
        ("message", json!({"roomId": ""}), "invalid_payload"),
        ("message", json!(7), "no_room"),
        ("channels", json!({"x": 1}), "no_room"),
        ("sendMessage", json!({"content": "x"}), "no_room"),
        ("sendMessage", json!({"roomId": "r"}), "invalid_payload"),
        ("sendMessage", json!("x"), "invalid_payload"),
        ("custom-event", json!({"event": "connect"}), "forbidden"),
        ("custom-event", json!({"event": null}), "invalid_payload"),
        ("typingIndicator", json!({"roomId": "r", "isTyping": "yes"}), "invalid_payload"),
        ("readReceipt", json!({"roomId": "r"}), "invalid_payload"),
        ("authenticate", json!({"userId": []}), "invalid_payload"),
        ("presenceUpdate", json!({"status": "gone"}), "invalid_payload"),
        ("presenceUpdate", json!({"status": "away"}), "unauthorized"),
        ("private-message", json!({"target": "x"}), "invalid_payload"),
        ("private-message", json!({"target": "x", "message": 1}), "not_found"),
        ("syncMessages", json!({"limit": 1}), "no_room"),
        ("syncMessages", json!({"roomId": "r", "limit": 0}), "invalid_payload"),
        ("syncMessages", json!({"roomId": "r", "lastMessageId": "x"}), "not_found"),
        ("join-room", json!({"roomId": "r", "offset": 1.5}), "invalid_payload"),
        ("join-room", json!({"roomId": "r", "offset": -1}), "invalid_payload"),
        ("unheard-of", json!({}), "unknown_event"),
        ("JOIN-ROOM", json!("r"), "unknown_event"),
        ("", json!("r"), "unknown_event"),
    ] {
        if event == "JOIN-ROOM" {
            // Not one of the camelCase family: those are known by their names.
            assert_eq!(client.ask(event, payload).await["code"], code);
            continue;
        }
        let ack = refused(&mut client, event, payload, code).await;
        assert!(ack["message"].as_str().unwrap().len() > 10, "{ack}");
    }
    assert_eq!(server.app.registry.namespaces()[0].room_count(), 0);
}

#[tokio::test]
async fn an_unknown_event_is_told_which_there_are() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let ack = client.ask("send-message", json!(null)).await;
    let message = ack["message"].as_str().unwrap();
    assert!(
        message.starts_with("unknown event \"send-message\"") && message.contains("sendMessage, ")
    );
    // A name may be long, its repetition is not.
    let ack = client.ask(&"é".repeat(5000), json!(null)).await;
    assert!(ack["message"].as_str().unwrap().chars().count() < 500);
}

#[tokio::test]
async fn what_must_be_authenticated_or_permitted() {
    let server = TestServer::with(|config| {
        config.jwt_secret = Some(Secret::new("a secret of at least thirty-two bytes"));
        config.auth_required = Some(false);
    })
    .await;
    let mut client = server.client().await;
    refused(&mut client, "authenticate", json!("alice"), "unauthorized").await;
    refused(&mut client, "presenceUpdate", json!({"status": "away"}), "unauthorized").await;
}

#[tokio::test]
async fn a_full_queue_refuses() {
    let server = TestServer::with(|config| {
        config.jwt_secret = Some(Secret::new("a secret of at least thirty-two bytes"));
        config.auth_required = Some(false);
        config.queue_size = 10;
    })
    .await;
    let mut client = server.client().await;
    let message = json!({"target": "nobody", "message": "x"});
    // One sender may hold a tenth.
    let ack = client.ask("private-message", message.clone()).await;
    assert_eq!((&ack["delivered"], &ack["queued"]), (&json!(false), &json!(true)));
    refused(&mut client, "private-message", message, "queue_full").await;
}

#[tokio::test]
async fn without_history_there_is_nothing_to_synchronise() {
    let server = TestServer::with(|config| config.history_size = 0).await;
    let mut client = server.client().await;
    refused(&mut client, "syncMessages", json!({"roomId": "r"}), "unavailable").await;
}

#[tokio::test]
async fn what_the_store_cannot_take_is_not_delivered() {
    let server = TestServer::start().await;
    let mut member = server.client().await;
    let mut client = server.client().await;
    member.join("r").await;
    member.forget().await;
    server.app.store.as_ref().unwrap().close().await;
    for event in ["message", "channels", "sendMessage"] {
        refused(&mut client, event, json!({"roomId": "r", "content": 1}), "unavailable").await;
    }
    assert_eq!(member.names().await, Vec::<String>::new());
}

#[tokio::test]
async fn more_rooms_than_may_be_are_refused() {
    let server = TestServer::with(|config| config.max_rooms_per_client = 1).await;
    let mut client = server.client().await;
    client.join("a").await;
    refused(&mut client, "joinRoom", json!("b"), "too_many_rooms").await;
    refused(&mut client, "join-room", json!("b"), "too_many_rooms").await;
}

#[tokio::test]
async fn a_refused_event_changes_nothing() {
    let server = TestServer::start().await;
    let mut member = server.client().await;
    let mut client = server.client().await;
    client.authenticate("alice").await;
    client.join("r").await;
    member.join("r").await;
    member.forget().await;
    for (event, payload) in [
        ("join-room", json!({"roomName": "", "roomId": "s"})),
        ("leave-room", json!({"roomName": "", "roomId": "r"})),
        ("authenticate", json!({"userId": ""})),
        ("presenceUpdate", json!({"status": "none"})),
        ("typingIndicator", json!({"roomId": "r"})),
        ("sendMessage", json!({"roomId": "r"})),
        ("custom-event", json!({"event": "error", "room": "r"})),
        ("readReceipt", json!({"roomId": "r"})),
    ] {
        assert_eq!(client.ask(event, payload).await["success"], false, "{event}");
    }
    assert_eq!(member.names().await, Vec::<String>::new());
    let known = server.app.registry.clients(&client.id.parse().unwrap());
    assert_eq!(
        known[0]
            .rooms()
            .iter()
            .map(roomcast::protocol::names::RoomName::as_str)
            .collect::<Vec<_>>(),
        ["r"]
    );
    assert_eq!(known[0].user().unwrap().as_str(), "alice");
    let ack = client.ask("message", json!({"roomId": "r"})).await;
    assert_eq!(ack["offset"], 1);
}

#[tokio::test]
async fn malformed_frames_end_at_most_their_own_connection() {
    let server = TestServer::start().await;
    let mut member = server.client().await;
    member.join("r").await;
    member.forget().await;
    for frame in [
        "",
        "4",
        "42",
        "42[",
        "42[]",
        "42{}",
        "42[1]",
        "42[null]",
        "42[\"message\"",
        "42[\"message\",]",
        "42[\"message\",{]",
        "42[\"message\",{\"room\":\"r\"",
        "42\"message\"",
        "42999999999999999999999[\"message\"]",
        "42-1[\"ping\"]",
        "43",
        "431[]",
        "4399[1]",
        "44",
        "45",
        "45-[]",
        "451-",
        "451-[\"message\"]",
        "4599999-[\"message\"]",
        "46",
        "461-1[]",
        "47",
        "4é",
        "42/nowhere,[\"message\"]",
        "40",
        "40{",
        "40[]",
        "40/",
        "41/nowhere,",
        "41",
        "1",
        "2",
        "2probe",
        "3",
        "5",
        "6",
        "9",
        "é",
        "42[\"join-room\",\"r\",",
        "42[\"\\ud800\"]",
        "42[\"caf\\u00e9\"]",
    ] {
        let mut client = server.connecting().knock().await.unwrap();
        client.send_frame(frame).await;
        client.try_send_frame("42[\"message\",{\"room\":\"r\"}]").await;
    }
    for bytes in [&b""[..], b"\x00", b"4", b"\xff\xfe"] {
        let mut client = server.connecting().knock().await.unwrap();
        client.send_binary(bytes).await;
        client
            .try_send_frame(
                "451-[\"message\",{\"room\":\"r\",\"b\":{\"_placeholder\":true,\"num\":5}}]",
            )
            .await;
    }
    // The server serves, and holds nothing of them.
    let mut sender = server.client().await;
    sender.ask("message", json!({"room": "r", "last": true})).await;
    loop {
        let message = member.next("message-reply").await;
        if message["last"] == true {
            break;
        }
        assert_eq!(fields(&message), ["offset", "room"]);
    }
    sender.disconnect().await;
    member.ask("leave-room", json!("r")).await;
    server.emptied(&mut member).await;
}

#[tokio::test]
async fn a_payload_nested_deeply_is_no_danger() {
    let server = TestServer::start().await;
    let mut member = server.client().await;
    member.join("r").await;
    let mut client = server.client().await;
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let payload = |content: &str| format!(r#"{{"room":"r","content":{content},"offset":0}}"#);
    let deep = nested(50_000);
    for event in ["message", "channels", "sendMessage"] {
        let ack = client.ask_text(event, &payload(&deep)).await;
        assert_eq!(ack["code"], "invalid_payload", "{event}: {ack}");
        assert_eq!(client.ask_text(event, &payload(&nested(60))).await["success"], true);
    }
    assert!(member.next_event("message-reply").await.text.contains(&nested(60)));
    for event in ["join-room", "authenticate", "presenceUpdate", "private-message", "custom-event"]
    {
        assert_eq!(client.ask_text(event, &deep).await["success"], false, "{event}");
    }
}

#[tokio::test]
async fn a_payload_of_very_many_fields_holds_nobody_up() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let fields: Vec<_> = (0..80_000).map(|n| format!("\"{n}\":0")).collect();
    let payload = format!(r#"{{"room":"r","content":0,"offset":0,{}}}"#, fields.join(","));
    for event in ["message", "sendMessage"] {
        // Quadratic work would take minutes, and nothing is waited for that long.
        assert_eq!(client.ask_text(event, &payload).await["success"], true);
    }
}

#[tokio::test]
async fn a_message_over_the_maximum_ends_its_connection_and_no_other() {
    let server = TestServer::with(|config| config.max_payload = 10_000).await;
    let mut member = server.client().await;
    member.join("r").await;
    let mut client = server.client().await;
    let fits = json!({"room": "r", "content": "x".repeat(9000)});
    assert_eq!(client.ask("message", fits).await["success"], true);
    client.emit("message", json!({"room": "r", "content": "x".repeat(11_000)})).await;
    client.ended().await;
    member.next("client-disconnected").await;
    assert_eq!(member.all("message-reply").await.len(), 1);
}
