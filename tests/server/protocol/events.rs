//! Events: their names, and how many arguments they have.

use serde_json::json;

use crate::support::{
    TestServer,
    raw::{FIN, Poller, TEXT, Wire, frame},
};

/// Names that the library underneath cannot read, as JSON, and what they are.
const NAMES: [(&str, &str); 7] = [
    (r#""a\nb""#, "a\nb"),
    (r#""\"quoted\"""#, "\"quoted\""),
    (r#""\u00e9""#, "é"),
    (r#""\\""#, "\\"),
    ("7", "7"),
    ("-1.5", "-1.5"),
    ("\"\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\"", "\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}"),
];

#[tokio::test]
async fn a_name_with_escapes_is_a_name() {
    let server = TestServer::start().await;
    let mut wire = Wire::client(&server).await;
    for (text, name) in NAMES {
        wire.send(&format!("427[{text},1]")).await;
        let refused = wire.expect("437[").await;
        assert!(refused.contains("unknown_event"), "{refused}");
        let ack: serde_json::Value = serde_json::from_str(&refused[3..]).unwrap();
        let message = ack[0]["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("unknown event \"{name}\"")), "{message}");
        let error = wire.expect("42[\"error\"").await;
        let error: serde_json::Value = serde_json::from_str(&error[2..]).unwrap();
        assert_eq!(error[1]["event"], name);
    }
    wire.assert_alive().await;
}

#[tokio::test]
async fn a_name_may_be_written_with_escapes() {
    let server = TestServer::start().await;
    let mut wire = Wire::client(&server).await;
    for text in [r#""\u0070ing""#, r#""p\u0069ng""#] {
        wire.send(&format!("423[{text}]")).await;
        wire.expect("433[{\"success\":true}]").await;
    }
    // With a binary attachment, in another namespace, in one byte after the other, and in parts.
    wire.send("40/chat,").await;
    wire.expect("42/chat,[\"client-connected\"").await;
    let event = r#"451-/chat,9["m\u0065ssage",{"text":{"_placeholder":true,"num":0}}]"#;
    for byte in frame(FIN | TEXT, event.as_bytes()) {
        wire.write(&[byte]).await;
    }
    wire.frame(FIN | 2, b"abc").await;
    wire.expect("43/chat,9[{\"success\":true").await;
    wire.frame(TEXT, br#"424["\u0070ing""#).await;
    wire.frame(FIN, b"]").await;
    wire.expect("434[{\"success\":true}]").await;
    wire.assert_alive().await;
}

#[tokio::test]
async fn names_with_escapes_by_polling() {
    let server = TestServer::start().await;
    let (poller, _) = Poller::client(&server).await;
    let events = NAMES.iter().map(|(text, _)| format!("421[{text}]"));
    let body = events.collect::<Vec<_>>().join("\x1e");
    assert_eq!(poller.post(body).await.text, "ok");
    let mut refused = 0;
    while refused < NAMES.len() {
        let answer = poller.poll().await.text;
        refused += answer.split('\x1e').filter(|packet| packet.starts_with("431[")).count();
    }
    poller.close().await;
    let mut old = Wire::websocket(&server, "EIO=3&transport=websocket").await;
    old.send(r#"423["\u0070ing"]"#).await;
    old.expect("433[{\"success\":true}]").await;
}

#[tokio::test]
async fn an_event_of_the_contract_has_one_argument() {
    let server = TestServer::start().await;
    let mut witness = server.client().await;
    let mut wire = Wire::client(&server).await;
    witness.forget().await;
    for arguments in [
        r#""message","lobby","text""#,
        r#""message",{"text":"x"},{}"#,
        r#""join-room","r","s""#,
        r#""heartbeat",null,false"#,
        r#""ping",1,2,3"#,
    ] {
        wire.send(&format!("425[{arguments}]")).await;
        let ack = wire.expect("435[").await;
        assert!(ack.contains("invalid_payload") && ack.contains("takes one"), "{ack}");
        wire.expect("42[\"error\"").await;
    }
    assert_eq!(witness.names().await, Vec::<String>::new());
    // An acknowledgement callback that is undefined becomes null.
    wire.send(r#"426["message",{"text":"x"},null]"#).await;
    wire.expect("436[{\"success\":true").await;
    assert_eq!(witness.next("message").await, json!({"text": "x"}));
    // What is unknown is unknown, whatever it says.
    wire.send(r#"427["unheard of",1,2]"#).await;
    assert!(wire.expect("437[").await.contains("unknown_event"));
}

#[tokio::test]
async fn what_nearly_names_a_room_does_not_go_to_everyone() {
    let server = TestServer::start().await;
    let mut witness = server.client().await;
    let mut client = server.client().await;
    witness.forget().await;
    for (key, meant) in [
        ("roomname", "roomName"),
        ("room_name", "roomName"),
        ("roomID", "roomId"),
        ("channel", "room"),
        ("Room", "room"),
        ("resource_id", "resourceId"),
    ] {
        for (event, rest) in
            [("message", json!({"text": "secret"})), ("custom-event", json!({"event": "e"}))]
        {
            let mut payload = rest;
            payload[key] = json!("lobby");
            let ack = client.ask(event, payload).await;
            assert_eq!(ack["code"], "no_room", "{key}");
            let says = format!("did you mean \"{meant}\"?");
            assert!(ack["message"].as_str().unwrap().ends_with(&says), "{ack}");
        }
    }
    assert_eq!(witness.names().await, Vec::<String>::new());
    // With a room it is a field like any other.
    let ack = client.ask("message", json!({"roomName": "r", "channel": "c"})).await;
    assert_eq!(ack["success"], true);
}

#[tokio::test]
async fn messages_to_everyone_can_be_switched_off() {
    let server = TestServer::with(|config| config.namespace_messages = false).await;
    let mut witness = server.client().await;
    let mut client = server.client().await;
    witness.forget().await;
    for (event, payload) in [
        ("message", json!({"text": "x"})),
        ("message", json!("x")),
        ("custom-event", json!({"event": "e", "data": 1})),
    ] {
        let ack = client.ask(event, payload).await;
        assert_eq!(ack["code"], "forbidden", "{ack}");
        assert!(ack["message"].as_str().unwrap().contains("NAMESPACE_MESSAGES"), "{ack}");
    }
    assert_eq!(witness.names().await, Vec::<String>::new());
    assert_eq!(client.ask("message", json!({"room": "r", "text": "x"})).await["success"], true);
    assert_eq!(client.ask("message", json!({"x": "x"})).await["code"], "no_room");
}
