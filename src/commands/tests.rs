//! How all events are parsed.

use bytes::Bytes;
use proptest::{prelude::*, sample::select};
use serde_json::{Value, json, value::RawValue};

use super::{
    client_event, client_events,
    event::{ANY_EVENT, Incoming},
    schema::NOTHING,
    server_events,
};
use crate::protocol::{
    payload::{Argument, work},
    refusal::{Code, Refusal},
};

/// Reads an event with that many attachments.
fn read(event: &str, argument: Option<&RawValue>, attachments: usize) -> Result<(), Refusal> {
    let attachments = vec![Bytes::from_static(b"x"); attachments].into();
    let incoming = Incoming::new(event, argument.map(Argument::of), attachments);
    (client_event(event).unwrap().parse)(&incoming)
}

fn parse(event: &str, argument: &str) -> Result<(), Refusal> {
    let argument: Box<RawValue> = serde_json::from_str(argument).unwrap();
    read(event, Some(&argument), 0)
}

fn code(event: &str, argument: &Value) -> Code {
    parse(event, &argument.to_string()).unwrap_err().code
}

fn names() -> Vec<&'static str> {
    client_events().map(|event| event.name).collect()
}

/// What an event may be refused with.
fn documented(event: &str) -> Vec<Code> {
    [client_event(event).unwrap().refusals, &ANY_EVENT].concat()
}

#[test]
fn every_example_is_valid() {
    for event in client_events().filter(|event| event.argument != NOTHING) {
        assert_eq!(parse(event.name, event.example), Ok(()), "{}", event.name);
    }
    for event in server_events() {
        assert!(serde_json::from_str::<Value>(event.example).is_ok(), "{}", event.name);
        assert!(event.receivers.ends_with('.'), "{}", event.name);
    }
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
    for name in names() {
        let (without, with) = (read(name, None, 0), parse(name, "null"));
        assert_eq!(without.map_err(|refusal| refusal.code), with.map_err(|refusal| refusal.code));
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
}

/// Any JSON, in which the fields that events read are frequent.
fn any_json() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        4 => select(vec![
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_comes_is_an_event_or_a_refusal(event in select(names()), argument in any_json(), attachments in 0..3_usize) {
        let json = RawValue::from_string(argument.to_string()).unwrap();
        if let Err(refusal) = read(event, Some(&json), attachments) {
            prop_assert!(!refusal.message.is_empty());
            prop_assert!(documented(event).contains(&refusal.code), "{event}: {:?}", refusal.code);
        }
    }
}

/// Reads an event with one attachment.
fn parse_binary(event: &str, argument: &str) -> Result<(), Refusal> {
    let argument: Box<RawValue> = serde_json::from_str(argument).unwrap();
    read(event, Some(&argument), 1)
}

#[test]
fn a_payload_that_is_itself_binary_is_no_object() {
    let fields = r#""roomName":"r","userId":"u","targetUserId":"u","content":"c","text":"t","message":"m","event":"e","data":1,"messageId":"i","isTyping":true,"status":"away""#;
    for event in names().into_iter().filter(|event| !["ping", "heartbeat"].contains(event)) {
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
        ("message", Code::NoRoom),
        ("channels", Code::NoRoom),
        ("sendMessage", Code::InvalidPayload),
        ("custom-event", Code::InvalidPayload),
        ("typingIndicator", Code::InvalidPayload),
        ("readReceipt", Code::InvalidPayload),
        ("presenceUpdate", Code::InvalidPayload),
        ("private-message", Code::InvalidPayload),
        ("syncMessages", Code::InvalidPayload),
    ] {
        for argument in [r#"[{"roomName":"r"}]"#, "7", "true", "null"] {
            assert_eq!(parse(event, argument).unwrap_err().code, code, "{event} {argument}");
        }
        if event != "message" {
            assert_eq!(parse(event, "\"text\"").unwrap_err().code, code, "{event}");
        }
    }
}

#[test]
fn an_event_is_read_in_a_number_of_passes_however_deep_it_is() {
    for event in ["message", "sendMessage", "private-message", "custom-event"] {
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
