//! What the backend is asked, and how its answer is acknowledged.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use roomcast::config::SigningSecrets;
use serde_json::{Value, json};

use super::backend::Backend;
use crate::support::fields;

#[tokio::test]
async fn an_event_goes_to_the_backend_and_its_answer_is_acknowledged() {
    let mut backend = Backend::start().await;
    let server = backend.server(|_| {}).await;
    let mut client = server.connecting().auth(json!({"clientName": "Ann"})).join().await;
    client.join("b").await;
    client.join("a").await;
    let ack = client.ask_later("order:create", json!({"n": 1.0, "x": null})).await.unwrap();
    let asked = backend.next().await;
    assert_eq!(asked.path, "/roomcast?a=1");
    assert_eq!(asked.headers["content-type"], "application/json");
    assert!(asked.text.contains(r#""args":[{"n":1.0,"x":null}]"#), "{}", asked.text);
    let body = &asked.body;
    assert_eq!(
        fields(body),
        ["args", "client", "event", "id", "node", "timestamp", "type", "wantsAck"]
    );
    assert_eq!((&body["type"], &body["event"]), (&"event".into(), &"order:create".into()));
    assert_eq!(
        (&body["wantsAck"], &body["node"]),
        (&true.into(), &server.app.node.as_str().into())
    );
    let id = asked.id();
    assert!(uuid::Uuid::parse_str(&id).is_ok(), "{id}");
    let wanted = json!({
        "clientId": client.id, "userId": null, "clientName": "Ann", "namespace": "/", "rooms": ["a", "b"],
        "transport": "websocket", "address": "127.0.0.1", "claims": null, "data": {},
    });
    assert_eq!(body["client"], wanted);
    asked.reply(&json!({"ack": [{"order": 7}]}));
    assert_eq!(client.ack(ack).await, json!({"order": 7}));
}

#[tokio::test]
async fn an_ack_has_any_number_of_arguments_or_is_none_at_all() {
    let mut backend = Backend::start().await;
    let server = backend.server(|_| {}).await;
    let mut client = server.client().await;
    for (answer, wanted) in [
        (json!({"ack": [1, "two", null]}), json!([1, "two", null])),
        (json!({"ack": []}), json!([])),
        (json!({}), json!({"success": true})),
        (json!({"ack": null}), json!({"success": true})),
    ] {
        let ack = client.ask_later("e", json!(1)).await.unwrap();
        backend.next().await.reply(&answer);
        assert_eq!(client.ack(ack).await, wanted, "{answer}");
    }
    let ack = client.ask_later("e", json!(1)).await.unwrap();
    backend.next().await.nothing();
    assert_eq!(client.ack(ack).await, json!({"success": true}));
    let _never = client.ask_later("e", json!(1)).await.unwrap();
    backend.next().await.reply(&json!({"ack": false}));
    let ack = client.ask_later("e", json!(1)).await.unwrap();
    backend.next().await.nothing();
    assert_eq!(client.next_ack().await.unwrap(), (ack, json!({"success": true})));
    // Where none is asked for, none is sent.
    client.forget().await;
    client.emit("e", json!(1)).await;
    let asked = backend.next().await;
    assert_eq!(asked.body["wantsAck"], false);
    asked.reply(&json!({"ack": [1]}));
    assert_eq!(client.names().await, Vec::<String>::new());
}

#[tokio::test]
async fn all_arguments_go_along_binary_ones_too() {
    let mut backend = Backend::start().await;
    let server = backend.server(|_| {}).await;
    let mut client = server.client().await;
    let hole = |num: usize| format!(r#"{{"_placeholder":true,"num":{num}}}"#);
    let arguments = format!(r#"{{"a":{}}},"x",[{}]"#, hole(1), hole(0));
    let ack = client.ask_binary_later("up", &arguments, &[b"\x00\x01", b"abc"]).await;
    let asked = backend.next().await;
    let wanted = json!([{"a": {"$binary": "YWJj"}}, "x", [{"$binary": "AAE="}]]);
    assert_eq!(asked.body["args"], wanted);
    asked.reply(&json!({"ack": [{"$binary": "AP8="}, 1], "emit": [{"event": "down", "data": {"b": {"$binary": "YQ=="}}}]}));
    assert_eq!(client.ack(ack).await, json!([[0, 255], 1]));
    assert_eq!(client.next_event("down").await.attachments, [b"a".to_vec()]);

    // What only looks like it stays what it is, there and back.
    let ack = client.ask_all_later("e", &[r#"{"$binary":"YQ=="}"#, r#"{"$x":1,"y":2}"#]).await;
    let asked = backend.next().await;
    let arguments = json!([{"$literal": {"$binary": "YQ=="}}, {"$x": 1, "y": 2}]);
    assert_eq!(asked.body["args"], arguments);
    asked.reply(&json!({"ack": arguments}));
    assert_eq!(client.ack(ack).await, json!([{"$binary": "YQ=="}, {"$x": 1, "y": 2}]));
}

#[tokio::test]
async fn hostile_names_and_arguments_are_data() {
    let mut backend = Backend::start().await;
    let server = backend.server(|_| {}).await;
    let mut client = server.client().await;
    let long = "n".repeat(10_000);
    for name in [&*long, "__proto__", "constructor", "default", "../../x?y=z#", "\u{1F600}"] {
        let ack = client.ask_all_later(name, &[]).await;
        let asked = backend.next().await;
        assert_eq!((&asked.body["event"], &asked.body["args"]), (&name.into(), &json!([])));
        assert_eq!(asked.path, "/roomcast?a=1");
        asked.nothing();
        assert_eq!(client.ack(ack).await["success"], true);
    }
    let ack = client.ask_all_later("many", &["1"; 1000]).await;
    let asked = backend.next().await;
    assert_eq!(asked.body["args"].as_array().unwrap().len(), 1000);
    asked.nothing();
    client.ack(ack).await;
    let ack =
        client.ask_all_later("p", &[r#"{"__proto__":{"x":1},"_placeholder":true,"num":0}"#]).await;
    let asked = backend.next().await;
    assert!(asked.text.contains(r#"[{"__proto__":{"x":1},"_placeholder":true,"num":0}]"#));
    asked.reply(&json!({"ack": [1]}));
    client.ack(ack).await;
    let deep = format!("{}1{}", "[".repeat(65), "]".repeat(65));
    let ack = client.ask_all_later("deep", &["1", &deep]).await;
    assert_eq!(client.ack(ack).await["code"], "invalid_payload");
    let ack = client.ask_binary_later("up", r#"{"_placeholder":true,"num":7}"#, &[b"x"]).await;
    assert_eq!(client.ack(ack).await["code"], "invalid_payload");
    // Socket.IO's own are nobody's to send.
    let ack = client.ask("disconnecting", json!(1)).await;
    assert_eq!(ack["code"], "unknown_event");
    assert!(!backend.is_asked());
}

#[tokio::test]
async fn only_events_that_are_named_are_asked() {
    let mut backend = Backend::start().await;
    let server = backend
        .server(|config| config.handler_events = ["order:*", "ping"].into_iter().collect())
        .await;
    let mut client = server.client().await;
    assert_eq!(client.ask("other", json!(1)).await["code"], "unknown_event");
    assert_eq!(client.ask("heartbeat", json!(null)).await["success"], true);
    for name in ["order:create", "ping"] {
        let ack = client.ask_later(name, json!(1)).await.unwrap();
        let asked = backend.next().await;
        assert_eq!(asked.body["event"], name);
        asked.nothing();
        client.ack(ack).await;
    }
    assert!(!backend.is_asked());
}

/// HMAC-SHA256 as RFC 2104 defines it, for keys of up to 64 bytes.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let hash = |pad: u8, message: &[u8]| {
        let mut padded = [pad; 64];
        padded.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        digest(&SHA256, &[&padded, message].concat()).as_ref().to_vec()
    };
    hash(0x5c, &hash(0x36, message))
}

#[tokio::test]
async fn requests_are_signed() {
    let mut backend = Backend::start().await;
    let keys = || vec![b"a key of the tests, long enough!".to_vec(), b"the one before".to_vec()];
    let secrets: SigningSecrets = keys().into_iter().collect();
    let server = backend.server(|config| config.handler_secret = secrets).await;
    let mut client = server.client().await;
    client.emit("e", json!({"ä": 1})).await;
    let asked = backend.next().await;
    let header = |name: &str| asked.headers[name].to_str().unwrap().to_owned();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    assert_eq!(id, asked.id());
    let signed = format!("{id}.{timestamp}.{}", asked.text);
    let signature = |key: &Vec<u8>| format!("v1,{}", STANDARD.encode(hmac(key, signed.as_bytes())));
    let wanted = keys().iter().map(signature).collect::<Vec<_>>().join(" ");
    assert_eq!(header("webhook-signature"), wanted);
}

#[tokio::test]
async fn one_clients_events_stay_in_order_and_clients_do_not_wait_for_one_another() {
    let mut backend = Backend::start().await;
    let server = backend.server(|_| {}).await;
    let (mut one, mut other) = (server.client().await, server.client().await);
    let first = one.ask_later("first", json!(1)).await.unwrap();
    let joined = one.ask_later("join-room", json!("r")).await.unwrap();
    let second = one.ask_later("second", json!(1)).await.unwrap();
    let held = backend.next().await;
    assert_eq!((&held.body["event"], &held.body["client"]["rooms"]), (&"first".into(), &json!([])));
    // Another client's goes by.
    let ack = other.ask_later("theirs", json!(1)).await.unwrap();
    backend.next().await.reply(&json!({"ack": ["done"]}));
    assert_eq!(other.ack(ack).await, "done");
    assert!(!backend.is_asked());
    held.reply(&json!({"ack": ["first"]}));
    let (number, answer) = one.next_ack().await.unwrap();
    assert_eq!((number, answer), (first, json!("first")));
    assert_eq!(one.next_ack().await.unwrap().0, joined);
    let asked = backend.next().await;
    assert_eq!(asked.body["client"]["rooms"], json!(["r"]));
    asked.nothing();
    assert_eq!(one.next_ack().await.unwrap().0, second);
}

#[tokio::test]
async fn the_backend_keeps_an_object_with_the_client() {
    let mut backend = Backend::start().await;
    let server = backend.server(|_| {}).await;
    let mut client = server.client().await;
    let mut kept = json!({});
    let fits = json!({"t": "x".repeat(3_992)});
    assert_eq!(fits.to_string().len(), 4_000);
    for next in [json!({"cart": [1], "$x": {"y": 1.50}}), fits, json!({})] {
        let ack = client.ask_later("e", json!(1)).await.unwrap();
        let asked = backend.next().await;
        assert_eq!(asked.body["client"]["data"], kept);
        asked.answer(200, format!("{{ \"data\" : {next:#} }}"));
        assert_eq!(client.ack(ack).await["success"], true);
        kept = next;
    }
    for wrong in [json!([1]), json!("x"), json!({"t": "x".repeat(3_993)})] {
        let ack = client.ask_later("e", json!(1)).await.unwrap();
        let asked = backend.next().await;
        assert_eq!(asked.body["client"]["data"], kept);
        asked.reply(&json!({"data": wrong}));
        assert_eq!(client.ack(ack).await["code"], "unavailable");
    }
}

#[tokio::test]
async fn the_handshake_goes_along_where_that_is_wanted() {
    let mut backend = Backend::start().await;
    let server = backend
        .server(|config| {
            config.handler_handshake = true;
            config.handler_headers = ["cookie", "x-*"].into_iter().collect();
        })
        .await;
    let auth = json!({"key": {"$binary": "YQ=="}, "n": 1});
    let connecting = server.connecting().auth(auth).query("shop", "7").query("shop", "8");
    let connecting = connecting.header("cookie", "sid=1").header("x-tenant", "t");
    let mut client = connecting.header("accept-language", "de").join().await;
    for _ in 0..2 {
        client.emit("e", json!(1)).await;
        let asked = backend.next().await;
        let handshake = &asked.body["handshake"];
        assert_eq!(handshake["auth"], json!({"key": {"$literal": {"$binary": "YQ=="}}, "n": 1}));
        assert_eq!(
            (&handshake["query"]["shop"], &handshake["query"]["EIO"]),
            (&json!(["7", "8"]), &"4".into())
        );
        assert_eq!(handshake["headers"], json!({"cookie": "sid=1", "x-tenant": "t"}));
        asked.nothing();
    }
    let huge = json!({"key": "x".repeat(64_000)});
    let refusal = server.connecting().auth(huge).knock().await.err().unwrap();
    assert!(refusal.as_str().unwrap().contains("handshake"), "{refusal}");
}

#[tokio::test]
async fn older_clients_are_answered_too() {
    let mut backend = Backend::start().await;
    let server = backend.server(|_| {}).await;
    let mut client = server.client_of("/chat").await;
    let ack = client.ask_later("e", json!(1)).await.unwrap();
    let asked = backend.next().await;
    assert_eq!(asked.body["client"]["namespace"], "/chat");
    asked.reply(&json!({"ack": [1, 2]}));
    assert_eq!(client.ack(ack).await, json!([1, 2]));
}

#[tokio::test]
async fn without_a_backend_an_unknown_event_is_one() {
    let server = crate::support::TestServer::start().await;
    let mut client = server.client().await;
    assert_eq!(client.ask("order:create", Value::Null).await["code"], "unknown_event");
    let health = server.get("/health").await.expect(200);
    assert!(health["info"]["handler"].is_null());
}
