//! Messages: what goes out, to whom, to the letter, and in which order.

use serde_json::{Value, json};

use crate::support::{TestClient, TestServer, fields, timeless};

/// A server without history, on which objects go out untouched.
async fn plain() -> TestServer {
    TestServer::with(|config| config.history_size = 0).await
}

/// Two members of the room `r` and of `resource:r`, and a client that is in neither.
async fn company(server: &TestServer) -> [TestClient; 3] {
    let mut clients = [server.client().await, server.client().await, server.client().await];
    for client in &mut clients[..2] {
        client.join("r").await;
        client.join("resource:r").await;
    }
    for client in &mut clients {
        client.forget().await;
    }
    clients
}

async fn attach(client: &mut TestClient, event: &str, payload: &Value, attachments: &[&[u8]]) {
    client.emit_binary(event, &payload.to_string(), attachments).await;
}

#[tokio::test]
async fn whether_the_sender_gets_its_own_copy() {
    let server = plain().await;
    let [mut sender, mut member, mut outsider] = company(&server).await;
    // omitSender, replyToSender, and whether it is heard where named by resourceId and otherwise.
    let absent = json!(null);
    let (yes, no, odd) = (json!(true), json!(false), json!("true"));
    for (omit, reply, by_resource, by_room) in [
        (&absent, &absent, true, false),
        (&absent, &yes, true, true),
        (&absent, &no, false, false),
        (&absent, &odd, false, false),
        (&yes, &absent, false, false),
        (&yes, &yes, false, false),
        (&yes, &no, false, false),
        (&no, &absent, true, true),
        (&no, &yes, true, true),
        (&no, &no, true, true),
        (&odd, &no, true, true),
    ] {
        for key in ["roomName", "roomId", "room", "resourceId"] {
            let payload = json!({key: "r", "omitSender": omit, "replyToSender": reply});
            let heard = if key == "resourceId" { by_resource } else { by_room };
            let ack = sender.ask("message", payload.clone()).await;
            assert_eq!(ack["success"], true);
            let own: &[Value] = if heard { std::slice::from_ref(&payload) } else { &[] };
            assert_eq!(sender.all("message-reply").await, own, "{payload}");
            assert_eq!(member.all("message-reply").await, [payload]);
        }
    }
    // One need not be a member to send, nor to hear oneself where nobody else does.
    outsider.ask("message", json!({"roomId": "r", "omitSender": false})).await;
    assert_eq!(member.next("message-reply").await["roomId"], "r");
    assert_eq!(outsider.names().await, Vec::<String>::new());
    sender.forget().await;
    // In a payload with several keys the one that counts decides.
    sender.ask("message", json!({"roomName": "r", "resourceId": "r"})).await;
    assert_eq!(sender.names().await, Vec::<String>::new());
}

#[tokio::test]
async fn messages_to_a_room_are_acknowledged() {
    let server = TestServer::start().await;
    let [mut sender, _member, _outsider] = company(&server).await;
    for (offset, event) in ["message", "channels", "sendMessage"].into_iter().enumerate() {
        let payload = json!({"id": "m", "resourceId": "r", "content": "c"});
        let ack = timeless(sender.ask(event, payload).await);
        let acknowledged =
            json!({"success": true, "id": "m", "roomName": "resource:r", "offset": offset + 1});
        assert_eq!(ack, acknowledged, "{event}");
    }
    let server = plain().await;
    let [mut sender, _member, _outsider] = company(&server).await;
    let ack = sender.ask("channels", json!({"room": "r"})).await;
    assert_eq!(fields(&ack), ["id", "roomName", "success", "timestamp"]);
}

#[tokio::test]
async fn ids_are_the_clients_where_it_gave_one() {
    let server = plain().await;
    let [mut sender, mut member, _outsider] = company(&server).await;
    for given in [json!("x"), json!(7), json!(-1.5), json!("")] {
        for event in ["message", "channels", "sendMessage"] {
            let payload = json!({"id": given, "room": "r", "content": "c"});
            assert_eq!(sender.ask(event, payload).await["id"], given);
        }
        assert_eq!(sender.all("messageSent").await[0]["id"], given);
        assert_eq!(member.all("newMessage").await[0]["id"], given);
        assert_eq!(member.all("message-reply").await[0]["id"], given);
    }
    for odd in [json!({"a": 1}), json!([1]), json!(true)] {
        let payload = json!({"id": odd, "room": "r", "content": "c"});
        let ack = sender.ask("sendMessage", payload.clone()).await;
        assert_eq!(ack["id"].as_str().unwrap().len(), 36, "a UUID");
        assert_eq!(sender.next("messageSent").await["id"], ack["id"]);
        assert_eq!(member.next("newMessage").await["id"], odd);
        sender.ask("message", payload).await;
        assert_eq!(member.next("message-reply").await["id"], odd);
    }
    for payload in
        [json!({"room": "r", "content": 1}), json!({"id": null, "room": "r", "content": 1})]
    {
        let ack = sender.ask("sendMessage", payload.clone()).await;
        assert_eq!(member.next("newMessage").await["id"], ack["id"]);
        let other = sender.ask("message", payload.clone()).await;
        assert_ne!(other["id"], ack["id"]);
        assert_eq!(member.next("message-reply").await, payload);
    }
}

#[tokio::test]
async fn an_object_goes_out_to_the_letter() {
    let text = r#"{"z":1,"room":"r","a":{"b":[ 1 , 2.0 ],"":null},"n":[1.0,1e400,-0,12345678901234567890,1E+2,0.10],"u":"\u00e9é\/\ud800\u0000𝄞","a":"again","offsets":1}"#;
    let server = plain().await;
    let [mut sender, mut member, _outsider] = company(&server).await;
    for (event, heard) in [("message", "message-reply"), ("channels", "resource-update")] {
        assert_eq!(sender.ask_text(event, text).await["success"], true);
        assert_eq!(member.next_event(heard).await.text, text);
    }
    // To a namespace, and as the data of a custom event, too.
    let to_all = text.replace("\"room\":\"r\"", "\"text\":\"r\"");
    assert_eq!(sender.ask_text("message", &to_all).await["success"], true);
    assert_eq!(member.next_event("message").await.text, to_all);
    assert_eq!(sender.next_event("message").await.text, to_all);
    let custom = format!(r#"{{"event":"tick","data":{text}}}"#);
    assert_eq!(sender.ask_text("custom-event", &custom).await["success"], true);
    assert_eq!(member.next_event("tick").await.text, text);

    // With history the offset is inside, and nothing else is touched.
    let server = TestServer::start().await;
    let [mut sender, mut member, _outsider] = company(&server).await;
    sender.ask_text("message", text).await;
    let numbered = text.replace(r#","offsets":1}"#, r#","offsets":1,"offset":1}"#);
    assert_eq!(member.next_event("message-reply").await.text, numbered);
    sender.ask_text("message", r#"{"room":"r","offset":"mine","x":1.0}"#).await;
    assert_eq!(member.next_event("message-reply").await.text, r#"{"room":"r","x":1.0,"offset":2}"#);
}

#[tokio::test]
async fn a_chat_message_keeps_its_payload_and_says_what_the_server_knows() {
    let server = plain().await;
    let [mut sender, mut member, _outsider] = company(&server).await;
    let payload = r#"{"roomId":"r","sender":"eve","clientId":"eve","userId":"eve","content":{"a":1.0},"timestamp":0,"more":12345678901234567890}"#;
    let ack = sender.ask_text("sendMessage", payload).await;
    let event = member.next_event("newMessage").await;
    let timestamp = ack["timestamp"].as_str().unwrap();
    let expected = format!(
        r#"{{"id":{},"sender":null,"clientId":"{}","content":{{"a":1.0}},"timestamp":"{timestamp}","roomId":"r","userId":"eve","more":12345678901234567890}}"#,
        ack["id"], sender.id
    );
    assert_eq!(event.text, expected);
    let own: Vec<_> =
        sender.everything().await.into_iter().map(|event| (event.name, event.data)).collect();
    let sent = json!({"id": ack["id"], "timestamp": timestamp, "status": "sent"});
    assert!(own.contains(&("messageSent".into(), sent)), "{own:?}");
    assert!(own.contains(&("newMessage".into(), event.data)), "{own:?}");
    assert_eq!(own.len(), 2);

    sender.authenticate("alice").await;
    sender.ask("sendMessage", json!({"roomId": "r", "content": "", "sender": "eve"})).await;
    assert_eq!(member.next("newMessage").await["sender"], "alice");
    for payload in [json!({"roomId": "r"}), json!({"roomId": "r", "content": null})] {
        assert_eq!(sender.ask("sendMessage", payload).await["code"], "invalid_payload");
    }
    for content in [json!(0), json!(false), json!(""), json!([])] {
        sender.ask("sendMessage", json!({"roomId": "r", "content": content})).await;
        assert_eq!(member.next("newMessage").await["content"], content);
    }
}

#[tokio::test]
async fn a_message_without_a_room_goes_to_everyone() {
    let server = TestServer::start().await;
    let mut elsewhere = server.client_of("/chat").await;
    elsewhere.forget().await;
    let [mut sender, mut other, _outsider] = company(&server).await;
    let payload = json!({"text": "hi", "from": "me", "id": 5, "room": null});
    let ack = timeless(sender.ask("message", payload.clone()).await);
    assert_eq!(ack, json!({"success": true, "id": 5, "roomName": null}));
    for text in [payload, json!("bare"), json!("")] {
        if text.is_string() {
            assert_eq!(sender.ask("message", text.clone()).await["success"], true);
        }
        assert_eq!(sender.next("message").await, text);
        assert_eq!(other.next("message").await, text);
    }
    assert_eq!(elsewhere.names().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_message_that_names_no_room_and_has_no_text_is_refused() {
    let server = TestServer::start().await;
    let [mut sender, mut other, _outsider] = company(&server).await;
    let says = "No resourceId specified in the message";
    for (event, payload) in [
        ("message", json!({})),
        ("message", json!({"text": null})),
        ("message", json!({"roomName": null, "content": "x"})),
        ("message", json!(null)),
        ("message", json!(7)),
        ("message", json!(true)),
        ("message", json!(["a"])),
        ("channels", json!({})),
        ("channels", json!({"text": "x"})),
        ("channels", json!("x")),
        ("channels", json!(null)),
    ] {
        let ack = sender.ask(event, payload.clone()).await;
        assert_eq!(
            ack,
            json!({"success": false, "message": says, "code": "no_room"}),
            "{event} {payload}"
        );
        let error = json!({"message": says, "code": "no_room", "event": event});
        assert_eq!(sender.next("error").await, error);
    }
    sender.send_frame(r#"42["message"]"#).await;
    assert_eq!(sender.next("error").await["code"], "no_room");
    assert_eq!(sender.names().await, Vec::<String>::new());
    assert_eq!(other.names().await, Vec::<String>::new());
}

#[tokio::test]
async fn binary_attachments_arrive_with_what_surrounds_them() {
    for history_size in [0, 10] {
        let server = TestServer::with(|config| config.history_size = history_size).await;
        let [mut sender, mut member, _outsider] = company(&server).await;
        sender.authenticate("alice").await;
        member.authenticate("bob").await;
        sender.forget().await;
        let hole = |num: u8| json!({"_placeholder": true, "num": num});
        let [first, second]: [&[u8]; 2] = [b"\x00\xff", b""];
        let bytes = [first, second];

        let payload = json!({"room": "r", "b": hole(1), "deep": [{"a": hole(0)}], "z": 1});
        attach(&mut sender, "message", &payload, &bytes).await;
        let got = member.next_event("message-reply").await;
        // Attachments are numbered in the order in which they stand.
        assert_eq!(got.attachments, [second, first]);
        assert_eq!(
            (&got.data["b"]["num"], &got.data["deep"][0]["a"]["num"]),
            (&json!(0), &json!(1))
        );

        attach(&mut sender, "channels", &json!({"room": "r", "b": hole(0)}), &[first]).await;
        assert_eq!(member.next_event("resource-update").await.attachments, [first]);
        attach(&mut sender, "sendMessage", &json!({"room": "r", "content": hole(0)}), &[first])
            .await;
        assert_eq!(member.next_event("newMessage").await.attachments, [first]);
        attach(&mut sender, "custom-event", &json!({"event": "e", "data": hole(0)}), &[first])
            .await;
        let got = member.next_event("e").await;
        assert_eq!((got.data, got.attachments), (hole(0), vec![first.to_vec()]));
        attach(
            &mut sender,
            "private-message",
            &json!({"target": "bob", "message": hole(0)}),
            &[first],
        )
        .await;
        assert_eq!(member.next_event("private-message").await.attachments, [first]);
        attach(&mut sender, "message", &json!({"text": "all", "b": hole(0)}), &[first]).await;
        assert_eq!(member.next_event("message").await.attachments, [first]);
    }
}

#[tokio::test]
async fn what_surrounds_an_attachment_is_kept_to_the_letter() {
    let server = plain().await;
    let [mut sender, mut member, _outsider] = company(&server).await;
    let text = r#"{"z":[1.0,12345678901234567890123,1e400],"room":"r","b":{"_placeholder":true,"num":0},"a":"\ud800é"}"#;
    sender.send_frame(&format!(r#"451-["message",{text}]"#)).await;
    sender.send_binary(b"x").await;
    assert_eq!(member.next_event("message-reply").await.text, text);
}

#[tokio::test]
async fn a_placeholder_without_an_attachment_of_its_own_disturbs_nobody() {
    let server = TestServer::start().await;
    let [mut sender, mut member, _outsider] = company(&server).await;
    let hole = |num: Value| json!({"_placeholder": true, "num": num});
    for num in [json!(1), json!(-1), json!(0.5), json!("0"), json!(null), json!(1e300)] {
        for (event, payload) in [
            ("message", json!({"room": "r", "b": hole(num.clone())})),
            ("channels", json!({"room": "r", "b": [hole(num.clone())]})),
            ("sendMessage", json!({"room": "r", "content": hole(num.clone())})),
            ("custom-event", json!({"event": "e", "data": hole(num.clone())})),
            ("message", json!({"text": "all", "b": hole(num.clone())})),
            ("private-message", json!({"target": "r", "message": hole(num.clone())})),
        ] {
            attach(&mut sender, event, &payload, &[b"x"]).await;
            assert_eq!(sender.next("error").await["code"], "invalid_payload", "{event} {num}");
        }
    }
    // Each attachment is used once: otherwise a small message would grow without bound.
    let twice = json!({"room": "r", "b": [hole(json!(0)), hole(json!(0))]});
    attach(&mut sender, "message", &twice, &[b"x"]).await;
    assert_eq!(sender.next("error").await["code"], "invalid_payload");
    sender.forget().await;
    assert_eq!(member.names().await, Vec::<String>::new());
    // An object that only looks like one is an object.
    let alike = json!({"room": "r", "b": hole(json!(0))});
    sender.ask("message", alike.clone()).await;
    let got = member.next_event("message-reply").await;
    assert_eq!((got.data["b"].clone(), got.attachments.len()), (alike["b"].clone(), 0));
}

#[tokio::test]
async fn a_custom_event_goes_to_others_under_its_own_name() {
    let server = TestServer::start().await;
    let [mut sender, mut member, mut outsider] = company(&server).await;
    let ack =
        sender.ask("custom-event", json!({"event": "tick", "data": {"n": 1}, "room": "r"})).await;
    assert_eq!((fields(&ack), &ack["success"]), (vec!["message", "success"], &json!(true)));
    assert_eq!(member.next("tick").await, json!({"n": 1}));
    assert_eq!(outsider.names().await, Vec::<String>::new());
    for data in [json!([1, 2]), json!("text"), json!(null), json!(7)] {
        sender.ask("custom-event", json!({"event": "tock", "data": data})).await;
        assert_eq!(member.next("tock").await, data);
        assert_eq!(outsider.next("tock").await, data);
    }
    sender.ask("custom-event", json!({"event": "bare"})).await;
    assert_eq!(member.next("bare").await, json!(null));
    // Numbers and other keys name rooms here, too.
    sender.ask("custom-event", json!({"event": "res", "resourceId": "r"})).await;
    assert_eq!(member.next("res").await, json!(null));
    assert_eq!(sender.names().await, Vec::<String>::new());
    assert_eq!(outsider.names().await, ["bare"]);
    for payload in [
        json!({}),
        json!({"event": ""}),
        json!({"event": 7}),
        json!("tick"),
        json!({"event": "x", "room": ""}),
    ] {
        let ack = sender.ask("custom-event", payload.clone()).await;
        assert_eq!(ack["code"], "invalid_payload", "{payload}");
    }
}

#[tokio::test]
async fn a_custom_event_may_not_pass_for_one_of_the_servers() {
    let server = TestServer::start().await;
    let [mut sender, mut member, _outsider] = company(&server).await;
    for name in [
        "connect",
        "connect_error",
        "disconnect",
        "disconnecting",
        "newListener",
        "removeListener",
        "connected",
        "client-connected",
        "client-disconnected",
        "room-joined",
        "room-left",
        "user-joined",
        "user-left",
        "joinedRoom",
        "leftRoom",
        "userJoinedRoom",
        "userLeftRoom",
        "message",
        "message-reply",
        "resource-update",
        "newMessage",
        "messageSent",
        "userTyping",
        "messageRead",
        "pong",
        "authenticated",
        "user-online",
        "user-offline",
        "presenceUpdate",
        "private-message",
        "message-sent",
        "syncComplete",
        "token-expired",
        "token-revoked",
        "error",
        "exception",
    ] {
        for payload in [json!({"event": name, "data": 1}), json!({"event": name, "room": "r"})] {
            assert_eq!(sender.ask("custom-event", payload).await["code"], "forbidden", "{name}");
        }
    }
    assert_eq!(member.names().await, Vec::<String>::new());
}

#[tokio::test]
async fn others_see_who_types_until_it_stops_or_goes() {
    let server = TestServer::start().await;
    let [mut typist, mut member, mut outsider] = company(&server).await;
    let typing = |room: &str, on: bool| json!({"roomId": room, "isTyping": on});
    let ack = typist.ask("typingIndicator", typing("r", true)).await;
    assert_eq!(ack, json!({"success": true}));
    let expected = json!({
        "userId": null, "clientId": typist.id, "clientName": "anonymous", "roomId": "r", "isTyping": true
    });
    assert_eq!(timeless(member.next("userTyping").await), expected);
    typist.ask("typingIndicator", typing("r", false)).await;
    assert_eq!(member.next("userTyping").await["isTyping"], false);
    // Who stopped by itself stops once.
    typist.ask("leave-room", json!("r")).await;
    assert_eq!(member.names().await, ["user-left"]);

    typist.ask("joinRoom", json!("r")).await;
    typist.ask("typingIndicator", typing("r", true)).await;
    typist.ask("leaveRoom", json!("r")).await;
    assert_eq!(
        member.names().await,
        ["userJoinedRoom", "userTyping", "userTyping", "userLeftRoom"]
    );

    typist.authenticate("alice").await;
    typist.join("r").await;
    typist.ask("typingIndicator", typing("r", true)).await;
    typist.ask("typingIndicator", typing("resource:r", true)).await;
    member.forget().await;
    assert_eq!(typist.all("userTyping").await, Vec::<Value>::new());
    typist.disconnect().await;
    member.next("client-disconnected").await;
    let stopped = member.all("userTyping").await;
    let mut rooms: Vec<_> = stopped.iter().map(|event| event["roomId"].as_str().unwrap()).collect();
    rooms.sort_unstable();
    assert_eq!(rooms, ["r", "resource:r"]);
    assert!(stopped.iter().all(|event| event["isTyping"] == false && event["userId"] == "alice"));

    // Who is no member may type all the same; it is told once.
    outsider.ask("typingIndicator", typing("r", true)).await;
    outsider.disconnect().await;
    member.next("client-disconnected").await;
    assert_eq!(member.all("userTyping").await.len(), 1);
}

#[tokio::test]
async fn typing_is_a_boolean_in_a_room() {
    let server = TestServer::start().await;
    let [mut client, mut member, _outsider] = company(&server).await;
    for wrong in [json!("true"), json!(1), json!(null), json!([])] {
        let ack = client.ask("typingIndicator", json!({"roomId": "r", "isTyping": wrong})).await;
        assert_eq!(ack["code"], "invalid_payload", "{wrong}");
    }
    assert_eq!(client.ask("typingIndicator", json!({"isTyping": true})).await["code"], "no_room");
    assert_eq!(client.ask("typingIndicator", json!("r")).await["code"], "invalid_payload");
    assert_eq!(member.names().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_receipt_is_told_to_the_members_and_recorded_once_a_user() {
    let server = TestServer::start().await;
    let [mut reader, mut member, mut outsider] = company(&server).await;
    member.ask("message", json!({"id": 7, "room": "r"})).await;
    reader.authenticate("alice").await;
    member.forget().await;
    let receipt = json!({"messageId": 7, "roomId": "r"});
    let ack = reader.ask("readReceipt", receipt.clone()).await;
    assert_eq!(ack, json!({"success": true, "recorded": true}));
    let read = json!({"messageId": 7, "userId": "alice", "clientId": reader.id, "roomId": "r"});
    assert_eq!(timeless(member.next("messageRead").await), read);
    assert_eq!(timeless(reader.next("messageRead").await), read);

    // It goes out whatever it names, and from whomever; what is not recorded is said.
    let ack = reader.ask("readReceipt", json!({"messageId": "no such", "room": "r"})).await;
    assert_eq!(ack["recorded"], false);
    assert_eq!(member.next("messageRead").await["messageId"], "no such");
    for nobody in [&mut member, &mut outsider] {
        assert_eq!(nobody.ask("readReceipt", receipt.clone()).await["recorded"], false);
    }
    assert_eq!(member.all("messageRead").await.len(), 2);
    for wrong in [
        json!({"roomId": "r"}),
        json!({"roomId": "r", "messageId": {}}),
        json!({"roomId": "r", "messageId": null}),
    ] {
        assert_eq!(reader.ask("readReceipt", wrong).await["code"], "invalid_payload");
    }
    assert_eq!(reader.ask("readReceipt", json!({"messageId": 7})).await["code"], "no_room");
}

#[tokio::test]
async fn ping_and_heartbeat() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.authenticate("alice").await;
    client.forget().await;
    for payload in [json!(null), json!({"x": 1}), json!("x")] {
        assert_eq!(client.ask("ping", payload.clone()).await, json!({"success": true}));
        let pong = client.next("pong").await;
        assert_eq!(
            (fields(&pong), &pong["message"]),
            (vec!["message", "timestamp"], &json!("Pong response"))
        );
        assert!(pong["timestamp"].as_i64().unwrap() > 1_700_000_000_000);
        assert_eq!(client.ask("heartbeat", payload).await, json!({"success": true}));
    }
    assert_eq!(client.names().await, Vec::<String>::new());
    let active = async || server.presence("alice").await["lastActive"].clone();
    let before = active().await;
    let begun = std::time::Instant::now();
    while active().await == before {
        assert!(begun.elapsed().as_secs() < 10, "a heartbeat does not count as activity");
        client.ask("heartbeat", json!(null)).await;
    }
}

#[tokio::test]
async fn further_arguments_are_refused() {
    let server = plain().await;
    let [mut sender, mut member, _outsider] = company(&server).await;
    for (event, arguments) in
        [("message", r#"{"room":"r"},{"room":"x"},[1e999]"#), ("joinRoom", r#""s",7"#)]
    {
        let ack = sender.ask_text(event, arguments).await;
        assert_eq!((&ack["success"], &ack["code"]), (&json!(false), &json!("invalid_payload")));
    }
    let ack = sender.ask_text("message", r#"{"room":"r"},null"#).await;
    assert_eq!(ack["roomName"], "r");
    assert_eq!(member.next_event("message-reply").await.text, r#"{"room":"r"}"#);
}

#[tokio::test]
async fn what_a_client_sends_is_done_in_the_order_in_which_it_was_sent() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let mut expected = Vec::new();
    client.forget().await;
    for round in 0..50 {
        let room = format!("room-{round}");
        client.emit("join-room", json!(room)).await;
        client.emit("message", json!({"room": room, "omitSender": false})).await;
        client.emit("leave-room", json!(room)).await;
        client.emit("message", json!({"room": room, "omitSender": false})).await;
        expected.extend(["room-joined", "message-reply", "room-left"]);
    }
    assert_eq!(client.names().await, expected);
}

#[tokio::test]
async fn all_members_see_the_messages_of_several_senders_in_one_order() {
    const EACH: usize = 150;
    let server = TestServer::start().await;
    let [mut one, mut two, mut three] = company(&server).await;
    three.join("r").await;
    let send = async |client: &mut TestClient, name: &str| {
        let mut last = 0;
        for n in 0..EACH {
            let payload = json!({"room": "r", "by": name, "n": n, "omitSender": false});
            last = client.ask_later("message", payload).await.unwrap();
        }
        client.ack(last).await;
    };
    tokio::join!(send(&mut one, "one"), send(&mut two, "two"));
    let seen = three.all("message-reply").await;
    assert_eq!(seen.len(), 2 * EACH);
    for (index, message) in seen.iter().enumerate() {
        assert_eq!(message["offset"], index + 1);
    }
    for name in ["one", "two"] {
        let of = seen.iter().filter(|message| message["by"] == name);
        assert!(of.map(|message| message["n"].as_u64().unwrap()).eq(0..EACH as u64));
    }
    assert_eq!(one.all("message-reply").await, seen);
    assert_eq!(two.all("message-reply").await, seen);
}
