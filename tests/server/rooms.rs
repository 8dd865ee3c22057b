//! Rooms: joining, leaving, what is acknowledged, who is told, and what a name may be.

use serde_json::{Value, json};

use crate::support::{TestClient, TestServer, fields, timeless};

/// A payload, the room that it names, and the field that its acknowledgement repeats.
fn spellings() -> Vec<(Value, &'static str, Option<&'static str>)> {
    vec![
        (json!({"roomName": "r"}), "r", None),
        (json!({"roomName": 7}), "7", None),
        (json!({"roomId": "r"}), "r", Some("roomId")),
        (json!({"roomId": 7}), "7", Some("roomId")),
        (json!({"room": "r", "x": 1}), "r", Some("room")),
        (json!({"resourceId": "7"}), "resource:7", Some("resourceId")),
        (json!({"resourceId": 7}), "resource:7", Some("resourceId")),
        (json!("r"), "r", None),
        (json!(7), "7", None),
        (json!(-1.5), "-1.5", None),
    ]
}

/// Only the field of a payload that names its room; a bare name is its own.
fn key_of(payload: &Value) -> Value {
    let Value::Object(object) = payload else { return payload.clone() };
    let (key, value) = object.iter().next().unwrap();
    json!({key: value})
}

fn acknowledged(
    client: &TestClient,
    payload: &Value,
    room: &str,
    key: Option<&str>,
    verb: &str,
) -> Value {
    let mut ack = json!({
        "clientId": client.id, "clientName": "Ann", "success": true, "roomName": room,
        "message": format!("Successfully {verb} room: {room}"),
    });
    if let Some(key) = key {
        ack[key] = payload[key].clone();
    }
    ack
}

#[tokio::test]
async fn every_spelling_joins_and_leaves_and_is_acknowledged_in_its_own_words() {
    let server = TestServer::with(|config| config.history_size = 0).await;
    for [join, leave] in [
        ["join-room", "leave-room"],
        ["watch-resource", "unwatch-resource"],
        ["joinRoom", "leaveRoom"],
    ] {
        let camel = join == "joinRoom";
        let mut other = server.client().await;
        other.authenticate("bob").await;
        let mut client = server.connecting().auth(json!({"clientName": "Ann"})).join().await;
        for (payload, room, key) in spellings() {
            other.join(room).await;
            other.forget().await;
            client.forget().await;

            let ack = client.ask(join, payload.clone()).await;
            assert_eq!(ack, acknowledged(&client, &payload, room, key, "joined"), "{payload}");
            let [event] = client.everything().await.try_into().unwrap();
            if camel {
                assert_eq!((event.name.as_str(), event.data), ("joinedRoom", key_of(&payload)));
            } else {
                let message = format!("Successfully joined room: {room}");
                let confirmed = json!({"success": true, "roomName": room, "message": message});
                assert_eq!((event.name.as_str(), timeless(event.data)), ("room-joined", confirmed));
            }
            let [event] = other.everything().await.try_into().unwrap();
            let (name, field) =
                if camel { ("userJoinedRoom", "roomId") } else { ("user-joined", "room") };
            let moved =
                json!({"socketId": client.id, "userId": null, "clientName": "Ann", field: room});
            assert_eq!((event.name.as_str(), timeless(event.data)), (name, moved.clone()));

            let ack = client.ask(leave, payload.clone()).await;
            assert_eq!(ack, acknowledged(&client, &payload, room, key, "left"), "{payload}");
            let [event] = client.everything().await.try_into().unwrap();
            if camel {
                assert_eq!((event.name.as_str(), event.data), ("leftRoom", key_of(&payload)));
            } else {
                let message = format!("Successfully left room: {room}");
                let confirmed = json!({"success": true, "roomName": room, "message": message});
                assert_eq!((event.name.as_str(), timeless(event.data)), ("room-left", confirmed));
            }
            let [event] = other.everything().await.try_into().unwrap();
            let name = if camel { "userLeftRoom" } else { "user-left" };
            assert_eq!((event.name.as_str(), timeless(event.data)), (name, moved));
        }
    }
}

#[tokio::test]
async fn with_history_a_join_tells_where_the_room_stands() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let ack = client.ask("join-room", json!("r")).await;
    assert_eq!(
        fields(&ack),
        ["clientId", "clientName", "epoch", "message", "offset", "roomName", "success"]
    );
    assert_eq!(ack["offset"], 0);
    client.ask("message", json!({"roomId": "r"})).await;
    let again = client.ask("joinRoom", json!({"room": "r"})).await;
    assert_eq!((&again["offset"], &again["epoch"]), (&json!(1), &ack["epoch"]));
}

#[tokio::test]
async fn the_users_id_goes_with_its_moves() {
    let server = TestServer::start().await;
    let mut other = server.client().await;
    other.join("r").await;
    let mut client = server.client().await;
    client.authenticate("alice").await;
    client.join("r").await;
    assert_eq!(other.next("user-joined").await["userId"], "alice");
    client.disconnect().await;
    assert_eq!(other.next("user-left").await["userId"], "alice");
}

#[tokio::test]
async fn joining_twice_and_leaving_from_outside_notify_nobody() {
    let server = TestServer::start().await;
    let mut other = server.client().await;
    other.join("r").await;
    let mut client = server.client().await;
    other.forget().await;
    client.forget().await;
    for event in ["leave-room", "unwatch-resource", "leaveRoom"] {
        let ack = client.ask(event, json!({"roomName": "r"})).await;
        assert_eq!(
            (&ack["success"], &ack["message"]),
            (&json!(true), &json!("Successfully left room: r"))
        );
    }
    assert_eq!(client.names().await, Vec::<String>::new());
    client.join("r").await;
    client.forget().await;
    assert_eq!(other.names().await, ["user-joined"]);
    for event in ["join-room", "watch-resource", "joinRoom"] {
        let ack = client.ask(event, json!({"roomName": "r"})).await;
        assert_eq!(
            (&ack["success"], &ack["message"]),
            (&json!(true), &json!("Successfully joined room: r"))
        );
    }
    assert_eq!(client.names().await, Vec::<String>::new());
    assert_eq!(other.names().await, Vec::<String>::new());
    // It is a member once: one leave is enough.
    client.ask("leave-room", json!("r")).await;
    other.ask("message", json!({"room": "r"})).await;
    assert_eq!(client.names().await, ["room-left"]);
}

#[tokio::test]
async fn a_leave_is_told_by_its_own_spelling_and_a_disconnect_by_the_joins() {
    let server = TestServer::start().await;
    let mut other = server.client().await;
    let mut client = server.client().await;
    for room in ["a", "b", "c"] {
        other.join(room).await;
    }
    client.ask("join-room", json!("a")).await;
    client.ask("joinRoom", json!("b")).await;
    client.ask("watch-resource", json!({"room": "c"})).await;
    other.forget().await;
    client.forget().await;

    client.ask("leaveRoom", json!({"roomId": "a"})).await;
    let [event] = client.everything().await.try_into().unwrap();
    assert_eq!((event.name.as_str(), event.data), ("leftRoom", json!({"roomId": "a"})));
    let [event] = other.everything().await.try_into().unwrap();
    assert_eq!((event.name.as_str(), &event.data["roomId"]), ("userLeftRoom", &json!("a")));

    client.disconnect().await;
    other.next("client-disconnected").await;
    let mut left = other.everything().await;
    left.sort_by(|a, b| a.name.cmp(&b.name));
    let left: Vec<_> = left.iter().map(|event| (event.name.as_str(), event.data.clone())).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert_eq!((left[0].0, &left[0].1["room"]), ("user-left", &json!("c")));
    assert_eq!((left[1].0, &left[1].1["roomId"]), ("userLeftRoom", &json!("b")));
}

#[tokio::test]
async fn the_first_field_that_is_present_names_the_room() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for (payload, room) in [
        (json!({"resourceId": "d", "room": "c", "roomId": "b", "roomName": "a"}), "a"),
        (json!({"resourceId": "d", "room": "c", "roomId": "b"}), "b"),
        (json!({"resourceId": "d", "room": "c"}), "c"),
        (json!({"resourceId": "d"}), "resource:d"),
        (json!({"roomName": null, "roomId": null, "room": null, "resourceId": "d"}), "resource:d"),
    ] {
        assert_eq!(client.ask("join-room", payload.clone()).await["roomName"], room, "{payload}");
    }
    for payload in [json!({}), json!({"roomName": null}), json!(null), json!({"Room": "r"})] {
        assert_eq!(client.ask("joinRoom", payload.clone()).await["code"], "no_room", "{payload}");
    }
}

#[tokio::test]
async fn a_name_has_one_to_two_hundred_characters_and_none_that_control() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let astral = "𝄞".repeat(200);
    for good in [
        "é".repeat(200),
        astral.clone(),
        " ".to_owned(),
        "a\u{2028}b".to_owned(),
        "\"\\/".to_owned(),
    ] {
        for payload in [json!(good), json!({"roomName": good})] {
            let ack = client.ask("join-room", payload).await;
            assert_eq!((&ack["success"], &ack["roomName"]), (&json!(true), &json!(good)));
        }
    }
    client.forget().await;
    let long = format!("{astral}x");
    for wrong in
        [json!(""), json!(long), json!("a\u{0}b"), json!("a\n"), json!("\u{7f}"), json!("\u{9c}")]
    {
        for payload in [wrong.clone(), json!({"roomId": wrong}), json!({"resourceId": wrong})] {
            for event in ["join-room", "leaveRoom"] {
                let ack = client.ask(event, payload.clone()).await;
                assert_eq!(ack["code"], "invalid_payload", "{event} {payload}");
            }
        }
    }
    for wrong in [json!(true), json!([]), json!({}), json!(["r"])] {
        let ack = client.ask("watch-resource", json!({"room": wrong, "resourceId": "good"})).await;
        assert_eq!(ack["code"], "invalid_payload", "{wrong}");
    }
    for wrong in [json!(true), json!(["r"])] {
        assert_eq!(
            client.ask("leave-room", wrong.clone()).await["code"],
            "invalid_payload",
            "{wrong}"
        );
    }
    assert!(client.names().await.iter().all(|name| name == "error" || name == "exception"));
    // The prefix of a resource counts towards the length.
    let fits = "x".repeat(191);
    assert_eq!(client.ask("join-room", json!({"resourceId": fits})).await["success"], true);
    let ack = client.ask("join-room", json!({"resourceId": format!("{fits}x")})).await;
    assert_eq!(ack["code"], "invalid_payload");
}

#[tokio::test]
async fn a_resource_and_the_room_of_its_whole_name_are_one() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let mut other = server.client().await;
    client.ask("join-room", json!({"resourceId": 7})).await;
    other.join("resource:7").await;
    assert_eq!(client.next("user-joined").await["room"], "resource:7");
    // `7` alone is another room.
    other.ask("message", json!({"roomName": "7"})).await;
    assert_eq!(client.all("message-reply").await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_client_may_be_in_so_many_rooms_and_no_more() {
    let server = TestServer::with(|config| config.max_rooms_per_client = 2).await;
    let mut client = server.client().await;
    client.join("a").await;
    client.join("b").await;
    client.forget().await;
    let ack = client.ask("joinRoom", json!("c")).await;
    assert_eq!((&ack["success"], &ack["code"]), (&json!(false), &json!("too_many_rooms")));
    assert_eq!(client.names().await, ["error", "exception"]);
    assert!(server.app.registry.namespaces()[0].room("c").is_none());
    // One that it is in counts once; another is free when one was left.
    client.join("b").await;
    client.ask("leave-room", json!("a")).await;
    client.join("c").await;
}

#[tokio::test]
async fn a_server_holds_so_many_rooms_and_no_more() {
    let server = TestServer::with(|config| (config.max_rooms, config.history_size) = (1, 0)).await;
    let mut client = server.client().await;
    client.join("a").await;
    assert_eq!(client.ask("join-room", json!("b")).await["code"], "too_many_rooms");
    client.ask("leave-room", json!("a")).await;
    client.join("b").await;
}

#[tokio::test]
async fn a_room_ends_with_its_last_member() {
    let server = TestServer::one_node(|_| {}).await;
    let namespace = server.app.registry.namespaces()[0].clone();
    let mut observer = server.client().await;
    let mut first = server.client().await;
    let mut second = server.client().await;
    first.join("r").await;
    second.ask("joinRoom", json!("r")).await;
    assert_eq!(namespace.room("r").unwrap().lock().members().len(), 2);
    first.ask("leaveRoom", json!("r")).await;
    assert!(namespace.room("r").is_some());
    second.disconnect().await;
    observer.next("client-disconnected").await;
    assert!(namespace.room("r").is_none());
    // A message to a room without members makes none.
    observer.ask("message", json!({"room": "r"})).await;
    observer.ask("typingIndicator", json!({"room": "r", "isTyping": true})).await;
    assert_eq!(namespace.room_count(), 0);
}

#[tokio::test]
async fn no_name_reaches_the_channel_of_a_client_or_a_user() {
    let server = TestServer::start().await;
    let mut victim = server.client().await;
    victim.authenticate("alice").await;
    victim.forget().await;
    let mut client = server.client().await;
    victim.forget().await;
    for name in
        [victim.id.clone(), "alice".into(), "user:alice".into(), format!("client:{}", victim.id)]
    {
        client.join(&name).await;
        for event in
            ["message", "channels", "sendMessage", "typingIndicator", "readReceipt", "custom-event"]
        {
            let payload =
                json!({"room": name, "content": 1, "isTyping": true, "messageId": 1, "event": "x"});
            assert_eq!(client.ask(event, payload).await["success"], true);
        }
    }
    assert_eq!(victim.names().await, Vec::<String>::new());
    victim.ask("private-message", json!({"target": "alice", "message": "to myself"})).await;
    client.settle().await;
    assert_eq!(client.all("private-message").await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_member_that_is_being_brought_up_to_date_still_hears_signals() {
    let server = TestServer::start().await;
    let mut member = server.client().await;
    let mut other = server.client().await;
    member.join("r").await;
    member.forget().await;
    let room = server.app.registry.namespaces()[0].room("r").unwrap();
    let id = member.id.parse().unwrap();
    // As a second join does while it reads the history.
    let client = server.app.registry.namespaces()[0].client(&id).unwrap();
    room.lock().pause_delivery(&client);
    other.join("r").await;
    other.ask("message", json!({"room": "r"})).await;
    other.ask("typingIndicator", json!({"room": "r", "isTyping": true})).await;
    assert_eq!(member.names().await, ["user-joined", "userTyping"]);
    assert!(room.lock().resume_delivery(&id, None, |_, _| ()));
    assert_eq!(member.names().await, ["message-reply"]);
}
