use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{commands::message::ToRoom, protocol::payload::work};

fn parse(event: &str, argument: &str) -> Result<ClientEvent, Refusal> {
    let argument: Box<RawValue> = serde_json::from_str(argument).unwrap();
    ClientEvent::parse(event, Some(&argument), Arc::default())
}

fn code(event: &str, argument: &Value) -> Code {
    match parse(event, &argument.to_string()) {
        Ok(parsed) => panic!("{event} {argument} is {parsed:?}"),
        Err(refusal) => refusal.code,
    }
}

fn room(argument: &Value) -> (String, Option<&'static str>, String) {
    match parse("join-room", &argument.to_string()) {
        Ok(ClientEvent::Join(Join { room, .. })) => {
            (room.name.to_string(), room.field, room.value.to_string())
        }
        other => panic!("{argument}: {other:?}"),
    }
}

#[test]
fn a_room_is_named_by_a_field_or_by_the_payload_itself() {
    for (argument, name, field, value) in [
        (json!("r"), "r", None, r#""r""#),
        (json!(7), "7", None, "7"),
        (json!({"roomName": "r"}), "r", Some("roomName"), r#""r""#),
        (json!({"resourceId": 7}), "resource:7", Some("resourceId"), "7"),
        (
            json!({"room": 12_345_678_901_234_567_890_u64}),
            "12345678901234567890",
            Some("room"),
            "12345678901234567890",
        ),
        (json!({"resourceId": "a", "room": "b", "roomId": null}), "b", Some("room"), r#""b""#),
    ] {
        assert_eq!(room(&argument), (name.to_owned(), field, value.to_owned()));
    }
}

#[test]
fn of_a_field_that_stands_twice_the_last_counts() {
    let Ok(ClientEvent::Join(join)) = parse("joinRoom", r#"{"room":"a","room":"b"}"#) else {
        panic!()
    };
    assert_eq!(join.room.name.as_str(), "b");
}

#[test]
fn an_offset_is_a_whole_number_that_javascript_can_hold() {
    for (offset, valid) in [
        ("0", true),
        ("9007199254740991", true),
        ("9007199254740992", false),
        ("-1", false),
        ("1.0", false),
        ("1e3", false),
        ("\"1\"", false),
        ("true", false),
        ("null", true),
    ] {
        let join = parse("join-room", &format!(r#"{{"room":"r","offset":{offset}}}"#));
        assert_eq!(join.is_ok(), valid, "{offset}");
        let sync = parse("syncMessages", &format!(r#"{{"room":"r","offset":{offset}}}"#));
        assert_eq!(sync.is_ok(), valid, "{offset}");
    }
    for (limit, valid) in
        [("1", true), ("1000", true), ("0", false), ("1001", false), ("null", true)]
    {
        let sync = parse("syncMessages", &format!(r#"{{"room":"r","limit":{limit}}}"#));
        assert_eq!(sync.is_ok(), valid, "{limit}");
    }
}

#[test]
fn an_event_without_an_argument_is_as_one_with_null() {
    for name in name::ALL {
        let without = ClientEvent::parse(name, None, Arc::default());
        let with = parse(name, "null");
        assert_eq!(
            without.map(|_| ()).map_err(|refusal| refusal.code),
            with.map(|_| ()).map_err(|refusal| refusal.code)
        );
    }
}

#[test]
fn a_refusal_says_which_field_it_is_about() {
    for (event, argument, says) in [
        ("join-room", json!({"roomId": true}), "roomId must be a string or a number"),
        ("join-room", json!({"resourceId": ""}), "resourceId must not be empty"),
        ("message", json!({"room": "x".repeat(201)}), "room must be at most 200 characters long"),
        ("private-message", json!({"target": "", "message": 1}), "target must not be empty"),
        ("authenticate", json!({"userId": "a\u{0}"}), "userId must not contain control characters"),
    ] {
        let refusal = parse(event, &argument.to_string()).unwrap_err();
        assert_eq!((refusal.code, refusal.message.as_ref()), (Code::InvalidPayload, says));
    }
    assert_eq!(code("channels", &json!("r")), Code::NoRoom);
    assert_eq!(code("custom-event", &json!({"event": "pong"})), Code::Forbidden);
    assert_eq!(code("Message", &json!({})), Code::UnknownEvent);
}

/// Any JSON, in which the fields that mean something are frequent.
fn any_json() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        4 => proptest::sample::select(vec![
            "roomName", "roomId", "room", "resourceId", "event", "data", "text", "content", "isTyping",
            "messageId", "userId", "token", "status", "target", "targetUserId", "message", "messageType",
            "offset", "epoch", "limit", "lastMessageId", "omitSender", "replyToSender", "id", "_placeholder", "num",
        ]).prop_map(str::to_owned),
        1 => "\\PC{0,4}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
        Just(json!("online")),
        Just(json!("r")),
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map(key.clone(), inner, 0..8)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

fn any_event() -> impl Strategy<Value = String> {
    prop_oneof![9 => proptest::sample::select(name::ALL.to_vec()).prop_map(str::to_owned), 1 => ".{0,8}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_comes_is_an_event_or_a_refusal(event in any_event(), argument in any_json(), attachments in 0..3_usize) {
        let json = RawValue::from_string(argument.to_string()).unwrap();
        let attachments: Arc<[Bytes]> = vec![Bytes::from_static(b"x"); attachments].into();
        match ClientEvent::parse(&event, Some(&json), attachments) {
            // What is forwarded goes out to the letter.
            Ok(
                ClientEvent::Message(Message::ToRoom(ToRoom { payload, .. }))
                | ClientEvent::Request(Request::ToNamespace(payload, _)),
            ) => {
                prop_assert_eq!(payload.json(), json.get());
            }
            Ok(_) => prop_assert!(name::ALL.contains(&event.as_str())),
            Err(refusal) => prop_assert!(!refusal.message.is_empty()),
        }
    }
}

/// The argument of an event with one attachment.
fn parse_binary(event: &str, argument: &str) -> Result<ClientEvent, Refusal> {
    let argument: Box<RawValue> = serde_json::from_str(argument).unwrap();
    ClientEvent::parse(event, Some(&argument), Arc::from([Bytes::from_static(b"x")]))
}

#[test]
fn a_payload_that_is_itself_binary_is_no_object() {
    let fields = r#""roomName":"r","userId":"u","targetUserId":"u","content":"c","text":"t","message":"m","event":"e","data":1,"messageId":"i","isTyping":true,"status":"away""#;
    for event in name::ALL.iter().filter(|event| ![name::PING, name::HEARTBEAT].contains(event)) {
        assert!(parse_binary(event, &format!("{{{fields}}}")).is_ok(), "{event}");
        for marker in ["_placeholder", "\\u005fplaceholder"] {
            let argument = format!(r#"{{"{marker}":true,"num":0,{fields}}}"#);
            let refusal = parse_binary(event, &argument).unwrap_err();
            assert_eq!(refusal.code, Code::InvalidPayload, "{event} {argument}");
            assert_eq!(parse(event, &argument).unwrap_err().code, Code::InvalidPayload, "{event}");
        }
    }
}

#[test]
fn what_is_no_object_is_refused_where_one_is_wanted() {
    for (event, code) in [
        (name::MESSAGE, Code::NoRoom),
        (name::CHANNELS, Code::NoRoom),
        (name::SEND_MESSAGE, Code::InvalidPayload),
        (name::CUSTOM_EVENT, Code::InvalidPayload),
        (name::TYPING_INDICATOR, Code::InvalidPayload),
        (name::READ_RECEIPT, Code::InvalidPayload),
        (name::PRESENCE_UPDATE, Code::InvalidPayload),
        (name::PRIVATE_MESSAGE, Code::InvalidPayload),
        (name::SYNC_MESSAGES, Code::InvalidPayload),
    ] {
        for argument in [r#"[{"roomName":"r"}]"#, "7", "true", "null"] {
            assert_eq!(parse(event, argument).unwrap_err().code, code, "{event} {argument}");
        }
        if event != name::MESSAGE {
            assert_eq!(parse(event, "\"text\"").unwrap_err().code, code, "{event}");
        }
    }
}

#[test]
fn an_event_is_read_in_a_number_of_passes_however_deep_it_is() {
    for event in [name::MESSAGE, name::SEND_MESSAGE, name::PRIVATE_MESSAGE, name::CUSTOM_EVENT] {
        let work = |size: usize| {
            let (open, close) = ("{\"a\":".repeat(60), "}".repeat(60));
            let deep = format!(
                r#"{open}{{"_placeholder":true,"num":0}}{close},"offset":"{}""#,
                "\\u0061".repeat(size / 6)
            );
            let argument = format!(
                r#"{{"roomName":"r","targetUserId":"u","event":"e","message":"m","content":"c","data":{deep}}}"#
            );
            let (read, parsed) = work::read_by(|| parse_binary(event, &argument));
            assert!(parsed.is_ok(), "{event}: {parsed:?}");
            assert!(read <= 3 * argument.len(), "{event}: {read} bytes of {}", argument.len());
            read
        };
        let (once, twice) = (work(100_000), work(200_000));
        assert!(twice <= 2 * once + 1000, "{event}: {once} for half of it, {twice} for all");
    }
}
