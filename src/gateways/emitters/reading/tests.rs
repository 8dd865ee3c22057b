use serde_json::{Value, json};

use super::*;
use crate::support::msgpack::pack;

fn registry() -> Registry {
    Registry::new(&["/".to_owned(), "/chat".to_owned(), "/a#b".to_owned()], 0)
}

fn read(channel: &str, bytes: &[u8]) -> Read {
    let registry = registry();
    Reader { prefix: "socket.io", registry: &registry, max: 10_000 }.message(channel, bytes)
}

#[track_caller]
fn emitted(channel: &str, message: &Value) -> Emit {
    match read(channel, &pack(message)) {
        Ok(Some(Operation::Emit(emit))) => emit,
        other => panic!("{message}: {other:?}"),
    }
}

#[track_caller]
fn refused(channel: &str, message: &Value) -> String {
    read(channel, &pack(message)).err().unwrap_or_else(|| panic!("{message}")).to_string()
}

fn entry(fields: &[(&str, &str)]) -> Read {
    let registry = registry();
    let reader = Reader { prefix: "socket.io", registry: &registry, max: 10_000 };
    reader.entry(fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
}

fn names(rooms: &[RoomName]) -> Vec<&str> {
    rooms.iter().map(RoomName::as_str).collect()
}

fn event(data: &Value, nsp: &str, options: &Value) -> Value {
    json!(["emitter", {"type": 2, "data": data, "nsp": nsp}, options])
}

#[test]
fn an_object_to_rooms_is_a_message_and_nothing_else_is() {
    let options = json!({"rooms": ["a", 7, "a"], "flags": {}, "except": ["b"]});
    let emit = emitted("socket.io#/#", &event(&json!(["e", {"z": 1, "a": [true]}]), "/", &options));
    assert_eq!((&*emit.event, &*emit.data.json()), ("e", r#"{"z":1,"a":[true]}"#));
    assert_eq!((names(&emit.rooms), names(&emit.except.rooms)), (vec!["a", "7"], vec!["b"]));
    assert!(emit.is_message() && !emit.is_list && !emit.volatile);
    for (data, options) in [
        (json!(["e", {}]), json!({"rooms": [], "flags": {}})),
        (json!(["e", {}]), json!({"rooms": ["a"], "flags": {"volatile": true}})),
        (json!(["e", "text"]), json!({"rooms": ["a"], "flags": {}})),
        (json!(["e"]), json!({"rooms": ["a"], "flags": {}})),
        (json!(["e", {}, 1]), json!({"rooms": ["a"], "flags": {}})),
        // As Python's emitter writes that there are none.
        (json!(["e", {}]), json!({"rooms": "", "flags": ""})),
    ] {
        let emit = emitted("socket.io#/#", &event(&data, "/", &options));
        assert!(!emit.is_message(), "{data} {options}");
    }
    let several = emitted("socket.io#/#", &event(&json!(["e", 1, {"b": []}]), "/", &json!({})));
    assert_eq!((&*several.data.json(), several.is_list), (r#"[1,{"b":[]}]"#, true));
    let none = emitted("socket.io#/#", &event(&json!(["e"]), "/", &json!({})));
    assert_eq!((&*none.data.json(), none.is_list), ("[]", true));
}

#[test]
fn the_channel_of_a_room_means_that_room_alone() {
    // Older emitters write the same message to the channels of all its rooms.
    let options = json!({"rooms": ["a", "b"], "flags": {}});
    let message = event(&json!(["e", {}]), "/chat", &options);
    assert_eq!(names(&emitted("socket.io#/chat#a#", &message).rooms), ["a"]);
    assert_eq!(names(&emitted("socket.io#/chat#", &message).rooms), ["a", "b"]);
    let message = event(&json!(["e", {}]), "/", &json!({"rooms": ["x#y"], "flags": {}}));
    assert_eq!(names(&emitted("socket.io#/#x#y#", &message).rooms), ["x#y"]);
    let message = event(&json!(["e", {}]), "/a#b", &json!({"rooms": []}));
    let emit = emitted("socket.io#/a#b#", &message);
    assert_eq!((&*emit.namespace.path, emit.rooms.len()), ("/a#b", 0));
    // Without a slash, as Python's emitter may, and without a namespace or options at all.
    let emit = emitted("socket.io#chat#", &event(&json!(["e", {}]), "chat", &json!({})));
    assert_eq!(&*emit.namespace.path, "/chat");
    let emit = emitted("socket.io#/#", &json!(["emitter", {"data": ["e", {}]}]));
    assert_eq!(&*emit.namespace.path, "/");
}

#[test]
fn binary_values_become_attachments_numbered_from_the_first() {
    let data = json!(["e", {"x": {"bytes": [0, 255]}, "y": {"bytes": []}}]);
    let emit = emitted("socket.io#/#", &event(&data, "/", &json!({"rooms": ["a"]})));
    let hole = |num: u8| format!(r#"{{"bytes":{{"_placeholder":true,"num":{num}}}}}"#);
    assert_eq!(emit.data.json(), format!(r#"{{"x":{},"y":{}}}"#, hole(0), hole(1)));
    assert_eq!(emit.data.attachments(), [Bytes::from_static(b"\x00\xff"), Bytes::new()]);
    assert!(emit.is_message());
    // A client's parser would close its connection.
    for forged in [
        json!(["e", {"_placeholder": true, "num": 0}]),
        json!(["e", {"a": {"bytes": [1]}, "b": {"_placeholder": true, "num": 0}}]),
    ] {
        refused("socket.io#/#", &event(&forged, "/", &json!({})));
    }
}

#[test]
fn a_clients_id_may_stand_as_a_room_to_leave_out() {
    let options = json!({"rooms": [], "except": ["abcdefghijklmnopqrst", "a room"]});
    let except = emitted("socket.io#/#", &event(&json!(["e", 1]), "/", &options)).except;
    assert_eq!(
        except.clients.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["abcdefghijklmnopqrst"]
    );
    assert_eq!(names(&except.rooms), ["abcdefghijklmnopqrst", "a room"]);
    assert_eq!(except.namespace.as_deref(), Some("/"));
}

#[test]
fn what_is_garbled_never_means_everyone() {
    for options in [
        json!({"rooms": 5}),
        json!({"rooms": "a"}),
        json!({"rooms": {"a": 1}}),
        json!({"rooms": [null]}),
        json!({"rooms": [""]}),
        json!({"rooms": ["a\u{1f}b"]}),
        json!({"rooms": [], "except": "a"}),
        json!({"rooms": ["x".repeat(201)]}),
        json!("a"),
        json!([]),
    ] {
        refused("socket.io#/#", &event(&json!(["e", {}]), "/", &options));
    }
    for (channel, message) in [
        ("socket.io#/#", json!(["emitter"])),
        ("socket.io#/#", json!(["emitter", 7])),
        ("socket.io#/#", json!("text")),
        ("socket.io#/#", event(&json!([]), "/", &json!({}))),
        ("socket.io#/#", event(&json!([7]), "/", &json!({}))),
        ("socket.io#/#", event(&json!("e"), "/", &json!({}))),
        ("socket.io#/#", event(&json!(["disconnect"]), "/", &json!({}))),
        ("socket.io#/#", event(&json!(["room-joined", {}]), "/", &json!({}))),
        ("socket.io#/#", event(&json!([""]), "/", &json!({}))),
        ("socket.io#/nowhere#", event(&json!(["e"]), "/nowhere", &json!({}))),
        ("socket.io#/chat#", event(&json!(["e"]), "/", &json!({}))),
        ("socket.io#/#a", event(&json!(["e"]), "/", &json!({}))),
        ("socket.io#/##", event(&json!(["e"]), "/", &json!({}))),
        ("socket.ioX", event(&json!(["e"]), "/", &json!({}))),
    ] {
        refused(channel, &message);
    }
    let large = event(&json!(["e", "x".repeat(10_000)]), "/", &json!({}));
    assert!(refused("socket.io#/#", &large).contains("MAX_PAYLOAD"));
    let deep = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    let deepest = event(&json!(["e", deep(64)]), "/", &json!({}));
    emitted("socket.io#/#", &deepest);
    assert!(
        refused("socket.io#/#", &event(&json!(["e", deep(65)]), "/", &json!({}))).contains("64")
    );
}

#[test]
fn requests_change_rooms_and_disconnect() {
    let request = |value: &Value| read("socket.io-request#/chat#", value.to_string().as_bytes());
    let opts = json!({"rooms": ["a"], "except": ["b"]});
    let joined = request(&json!({"type": 2, "opts": opts, "rooms": ["c", 7]}));
    let Ok(Some(Operation::Change { clients, rooms, joins: true })) = joined else {
        panic!("{joined:?}");
    };
    assert_eq!(
        (&*clients.namespace, names(&clients.rooms), names(&rooms)),
        ("/chat", vec!["a"], vec!["c", "7"])
    );
    assert_eq!(names(&clients.except.rooms), ["b"]);
    let left = request(&json!({"type": 3, "opts": {"rooms": [], "except": []}, "rooms": ["c"]}));
    assert!(matches!(left, Ok(Some(Operation::Change { joins: false, .. }))), "{left:?}");
    for (close, wanted) in [(json!(true), true), (json!(false), false)] {
        let ended = request(&json!({"type": 4, "opts": opts, "close": close}));
        assert!(
            matches!(ended, Ok(Some(Operation::Disconnect { closes, .. })) if closes == wanted)
        );
    }
    for ignored in [
        json!({"uid": "emitter", "type": 6, "data": ["hello"]}),
        json!({"uid": "abc", "requestId": "x", "type": 0}),
        json!({"type": 2, "sid": "abc", "room": "a", "requestId": "x"}),
        json!({}),
    ] {
        assert!(matches!(request(&ignored), Ok(None)), "{ignored}");
    }
    for wrong in [&b"["[..], b"", b"\xff", b"[1]", br#"{"type":2,"opts":{"rooms":7},"rooms":[]}"#] {
        assert!(read("socket.io-request#/chat#", wrong).is_err(), "{wrong:?}");
    }
    let nowhere = json!({"type": 4, "opts": opts}).to_string();
    assert!(read("socket.io-request#/nowhere#", nowhere.as_bytes()).is_err());
    assert!(read("socket.io-request#/chat", nowhere.as_bytes()).is_err());
}

#[test]
fn entries_of_a_stream_are_json_or_messagepack_in_base64() {
    use base64::prelude::BASE64_STANDARD;
    let data = json!({"packet": {"type": 2, "data": ["e", {"a": 1}], "nsp": "/chat"}, "opts": {"rooms": ["a"], "flags": {}, "except": []}});
    let encoded = BASE64_STANDARD.encode(pack(&data));
    for data in [data.to_string(), encoded] {
        let read = entry(&[("uid", "emitter"), ("nsp", "/chat"), ("type", "3"), ("data", &data)]);
        let Ok(Some(Operation::Emit(emit))) = read else { panic!("{read:?}") };
        assert_eq!((&*emit.data.json(), names(&emit.rooms)), (r#"{"a":1}"#, vec!["a"]));
        assert_eq!(&*emit.namespace.path, "/chat");
    }
    let opts = json!({"rooms": ["a"], "except": [], "flags": {}});
    let data = json!({"opts": opts, "rooms": ["b"]}).to_string();
    for (kind, wanted) in [("4", true), ("5", false)] {
        let read = entry(&[("nsp", "/"), ("type", kind), ("data", &data)]);
        assert!(matches!(read, Ok(Some(Operation::Change { joins, .. })) if joins == wanted));
    }
    let data = json!({"opts": opts, "close": true}).to_string();
    let read = entry(&[("nsp", "/"), ("type", "6"), ("data", &data)]);
    assert!(matches!(read, Ok(Some(Operation::Disconnect { closes: true, .. }))));
    // What servers tell one another.
    for fields in [
        &[("uid", "x"), ("nsp", "/"), ("type", "2")][..],
        &[("nsp", "/"), ("type", "9"), ("data", "{}")],
        &[("a", "b")],
        &[],
    ] {
        assert!(matches!(entry(fields), Ok(None)), "{fields:?}");
    }
    for data in
        ["", "{", "{}", "!", "wA==", r#"{"packet":7}"#, r#"{"packet":{"data":["e"]},"opts":7}"#]
    {
        assert!(entry(&[("nsp", "/"), ("type", "3"), ("data", data)]).is_err(), "{data}");
    }
    assert!(entry(&[("nsp", "/"), ("type", "3")]).is_err());
    let large = format!("{{{}}}", " ".repeat(10_000));
    assert!(entry(&[("nsp", "/"), ("type", "3"), ("data", &large)]).is_err());
}
