//! What an answer brings about: rooms, events, the end.

use serde_json::{Value, json};

use super::backend::Backend;
use crate::support::TestServer;

#[tokio::test]
async fn the_client_leaves_and_joins_and_events_are_sent() {
    let mut backend = Backend::start().await;
    let server = backend.server(|_| {}).await;
    let (mut client, mut other) = (server.client().await, server.client().await);
    client.join("old").await;
    other.join("old").await;
    other.join("new").await;
    client.forget().await;
    other.forget().await;
    let ack = client.ask_later("move", json!(1)).await.unwrap();
    backend.next().await.reply(&json!({
        "join": ["new", 7],
        "leave": ["old", "never in it"],
        "emit": [
            {"event": "to-room", "data": {"a": 1}, "rooms": ["new"], "volatile": true},
            {"event": "to-self", "args": [1, "b"]},
            {"event": "error", "data": "state events may be sent"},
            {"event": "all", "data": 1, "everyone": true, "except": {"clients": [client.id]}},
            {"event": "to-client", "data": 1, "clients": [other.id]},
        ],
        "ack": ["done"],
    }));
    assert_eq!(client.ack(ack).await, "done");
    // In the order of the contract's table, not in that of the answer.
    let events = client.everything().await;
    let names = events.iter().map(|event| event.name.as_str()).collect::<Vec<_>>();
    assert_eq!(names, ["room-left", "room-joined", "room-joined", "to-room", "to-self", "error"]);
    assert_eq!(events[4].arguments, [json!(1), json!("b")]);
    let mut names = other.names().await;
    names.sort_unstable();
    assert_eq!(names, ["all", "to-client", "to-room", "user-joined", "user-left"]);
    let ack = client.ask_later("where", json!(1)).await.unwrap();
    let asked = backend.next().await;
    assert_eq!(asked.body["client"]["rooms"], json!(["7", "new"]));
    asked.nothing();
    client.ack(ack).await;
}

#[tokio::test]
async fn nobody_is_told_of_silent_moves() {
    let mut backend = Backend::start().await;
    let server = backend.server(|_| {}).await;
    let (mut client, mut other) = (server.client().await, server.client().await);
    other.join("r").await;
    other.join("s").await;
    client.join("s").await;
    client.forget().await;
    other.forget().await;
    let ack = client.ask_later("e", json!(1)).await.unwrap();
    backend.next().await.reply(&json!({"join": ["r"], "leave": ["s"], "silent": true}));
    assert_eq!(client.ack(ack).await["success"], true);
    assert!(client.everything().await.is_empty());
    assert!(other.everything().await.is_empty());
    let sent = server.post("/events", &json!({"event": "x", "data": 1, "rooms": ["r"]})).await;
    sent.expect(201);
    assert_eq!(client.next("x").await, 1);
}

#[tokio::test]
async fn what_is_to_be_done_in_its_own_order_is() {
    let mut backend = Backend::start().await;
    let server = backend.server(|_| {}).await;
    let mut client = server.client().await;
    client.forget().await;
    client.emit("e", json!(1)).await;
    let say = |word: &str| json!({"emit": [{"event": "said", "data": word, "rooms": ["r"]}]});
    backend.next().await.reply(&json!({"do": [
        say("before"), {"join": ["r"]}, say("in"), {"leave": ["r"], "silent": true}, say("after"),
        {"emit": [{"event": "end"}]},
    ]}));
    let events = client.until("end").await;
    let names = events.iter().map(|event| event.name.as_str()).collect::<Vec<_>>();
    assert_eq!(names, ["room-joined", "said", "end"]);
    assert_eq!(events[1].data, "in");
}

#[tokio::test]
async fn the_backend_puts_clients_where_their_token_does_not() {
    let mut backend = Backend::start().await;
    let server = backend
        .server(|config| {
            config.jwt_secret = Some(roomcast::config::Secret::new(crate::support::SECRET));
            config.auth_required = Some(false);
            config.anonymous_rooms = roomcast::protocol::permissions::Permissions::nothing();
        })
        .await;
    let mut client = server.client().await;
    assert_eq!(client.ask("join-room", json!("r")).await["code"], "forbidden");
    client.emit("e", json!(1)).await;
    backend.next().await.reply(&json!({"join": ["r"]}));
    assert_eq!(client.next("room-joined").await["roomName"], "r");
}

#[tokio::test]
async fn a_step_that_is_refused_is_told_to_the_client() {
    let mut backend = Backend::start().await;
    let server = backend.server(|config| config.max_rooms_per_client = 1).await;
    let mut client = server.client().await;
    client.forget().await;
    let ack = client.ask_later("e", json!(1)).await.unwrap();
    backend
        .next()
        .await
        .reply(&json!({"join": ["a", "b"], "emit": [{"event": "never"}], "ack": [1]}));
    assert_eq!(client.ack(ack).await["code"], "too_many_rooms");
    assert_eq!(client.names().await, ["room-joined", "error"]);
}

#[tokio::test]
async fn the_client_is_disconnected_when_all_else_is_done() {
    let mut backend = Backend::start().await;
    let server = backend.server(|config| config.handler_disconnect = true).await;
    let mut client = server.client().await;
    client.join("r").await;
    let ack = client.ask_later("bye", json!(1)).await.unwrap();
    backend.next().await.reply(&json!({
        "disconnect": "banned", "ack": ["bye"], "emit": [{"event": "last"}], "data": {"n": 1},
    }));
    assert_eq!(client.ack(ack).await, "bye");
    client.next("last").await;
    let id = client.id.clone();
    client.ended_in_namespace().await;
    let told = backend.next().await;
    let body = &told.body;
    assert_eq!((&body["type"], &body["reason"]), (&"disconnect".into(), &"banned".into()));
    assert_eq!(
        (&body["client"]["clientId"], &body["client"]["rooms"]),
        (&id.into(), &json!(["r"]))
    );
    assert_eq!(body["client"]["data"], json!({"n": 1}));
    assert!(body["event"].is_null() && body["args"].is_null());
    // What the backend answers to that is not carried out, and it is not told again.
    told.answer(500, "");
    let mut last = server.client().await;
    last.settle().await;
    assert!(!backend.is_asked());
}

#[tokio::test]
async fn an_end_is_told_with_its_reason_behind_the_clients_last_event() {
    let mut backend = Backend::start().await;
    let server = backend.server(|config| config.handler_disconnect = true).await;
    let mut client = server.client().await;
    client.emit("last words", json!(1)).await;
    client.disconnect().await;
    let asked = backend.next().await;
    assert_eq!(asked.body["event"], "last words");
    assert!(!backend.is_asked());
    asked.nothing();
    let told = backend.next().await;
    assert_eq!(told.body["reason"], "client namespace disconnect");
    told.nothing();
}

/// The effects on others of an answer about a client that has gone still happen, its own are dropped.
#[tokio::test]
async fn a_client_that_goes_while_its_event_is_asked_leaves_no_trace() {
    let mut backend = Backend::start().await;
    let server = backend.server(|_| {}).await;
    let mut witness = server.client().await;
    witness.join("r").await;
    let mut client = server.client().await;
    client.ask_later("order", json!(1)).await.unwrap();
    let asked = backend.next().await;
    client.disconnect().await;
    gone(&server).await;
    asked.reply(&json!({
        "join": ["r"], "ack": [1],
        "emit": [{"event": "ordered", "data": 1, "rooms": ["r"], "volatile": true}, {"event": "own"}],
    }));
    assert_eq!(witness.next("ordered").await, 1);
    witness.next("client-disconnected").await;
    assert!(witness.all("user-joined").await.is_empty());
    witness.ask("leave-room", json!("r")).await;
    server.emptied(&mut witness).await;
}

/// What it sent by the hundred does not keep a client there that has gone.
#[tokio::test]
async fn the_events_of_a_client_that_has_gone_are_not_asked_for_ever() {
    let mut backend = Backend::start().await;
    let timeout = std::time::Duration::from_hours(1);
    let server = backend.server(|config| config.handler_timeout = timeout).await;
    let mut witness = server.client().await;
    witness.forget().await;
    let mut client = server.client().await;
    let id = client.id.clone();
    for name in ["first", "second", "third"] {
        client.emit(name, json!(1)).await;
    }
    client.disconnect().await;
    let asked = backend.next().await;
    gone(&server).await;
    asked.nothing();
    let asked = backend.next().await;
    assert_eq!(asked.body["event"], "second");
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(31)).await;
    tokio::time::resume();
    asked.nothing();
    assert_eq!(witness.next("client-disconnected").await["clientId"], id);
    assert!(!backend.is_asked());
}

/// Waits until the server knows that a client's connection has ended, while its event is still being asked.
async fn gone(server: &TestServer) {
    let begun = std::time::Instant::now();
    let is_gone = || {
        let namespaces = server.app.registry.namespaces().into_iter();
        namespaces
            .flat_map(|namespace| namespace.clients())
            .any(|client| client.gone_at().is_some())
    };
    while !is_gone() {
        assert!(begun.elapsed().as_secs() < 10, "no client has gone");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_answer_that_is_not_valid_as_a_whole_changes_nothing() {
    let mut backend = Backend::start().await;
    let server = backend.server(|_| {}).await;
    let mut client = server.client().await;
    client.forget().await;
    let emits = |emit: Value| json!({"emit": [emit]});
    let deep =
        serde_json::from_str::<Value>(&format!("{}{}", "[".repeat(65), "]".repeat(65))).unwrap();
    let wrong = [
        json!({"ack": 1}),
        json!({"ack": true}),
        json!({"ack": [{"$binary": 1}]}),
        json!({"ack": [deep]}),
        json!({"join": "r"}),
        json!({"join": [""]}),
        json!({"join": [{}]}),
        json!({"leave": ["a\u{1}"]}),
        json!({"silent": 1}),
        json!({"handled": "yes"}),
        json!({"disconnect": 1}),
        json!({"emit": {}}),
        json!({"emits": []}),
        json!({"success": true}),
        json!({"error": "no"}),
        json!({"error": {"code": "x"}}),
        json!({"error": {"message": "m", "code": ""}}),
        json!({"do": [{"emit": [], "leave": []}, {}]}),
        json!({"do": [{"join": ["r"]}], "emit": []}),
        json!({"client": 1}),
        json!({"client": {"userId": ""}}),
        json!({"client": {"expiresAt": "soon"}}),
        json!({"client": {"rooms": 7}}),
        emits(json!({})),
        emits(json!({"event": ""})),
        emits(json!({"event": "connect"})),
        emits(json!({"event": "disconnect"})),
        emits(json!({"event": "e", "rooms": []})),
        emits(json!({"event": "e", "rooms": null})),
        emits(json!({"event": "e", "room": "r"})),
        emits(json!({"event": "e", "users": "u"})),
        emits(json!({"event": "e", "namespace": "/nowhere"})),
        emits(json!({"event": "e", "data": 1, "args": [1]})),
        emits(json!({"event": "e", "args": 1})),
        emits(json!({"event": "e", "everyone": true, "rooms": ["r"]})),
        emits(json!({"event": "e", "except": {"room": "r"}})),
        json!([]),
        json!("text"),
        json!(null),
    ];
    for answer in wrong {
        // What would be done, were it not for the fault.
        let mut whole = json!({"join": ["r"], "data": {"a": 1}, "emit": [{"event": "never"}]});
        if answer["emit"].is_null() && answer["do"].is_null() && answer.is_object() {
            whole.as_object_mut().unwrap().extend(answer.as_object().unwrap().clone());
        } else {
            whole = answer.clone();
        }
        let ack = client.ask_later("e", json!(1)).await.unwrap();
        let asked = backend.next().await;
        assert_eq!(asked.body["client"]["rooms"], json!([]), "before {answer}");
        assert_eq!(asked.body["client"]["data"], json!({}), "before {answer}");
        asked.reply(&whole);
        assert_eq!(client.ack(ack).await["code"], "unavailable", "{answer}");
        assert_eq!(client.names().await, ["error"], "{answer}");
    }
}
