//! Connection state recovery: a client that lost its connection comes back with its id, its rooms and everything
//! that it missed, or as a new one.

mod ends;
mod handlers;
mod missed;
mod network;
mod queue;

use std::time::Duration;

use roomcast::config::{Config, Environment, Secret};
use serde_json::{Value, json};

use crate::support::{Event, SECRET, TestClient, TestServer};

const WINDOW: Duration = Duration::from_mins(2);

/// A server that recovers connections: on several nodes, clients come back to another one than they left.
async fn server_with(configure: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::with(|config| {
        config.connection_state_recovery = WINDOW;
        config.environment = Environment::Development;
        configure(config);
    })
    .await
}

async fn server() -> TestServer {
    server_with(|_| {}).await
}

/// The same, for clients with tokens.
async fn server_with_tokens() -> TestServer {
    server_with(|config| config.jwt_secret = Some(Secret::new(SECRET))).await
}

/// Sends a message to a room, which its sender does not get.
async fn say(sender: &mut TestClient, room: &str, n: u32) {
    let ack = sender.ask("message", json!({"roomName": room, "n": n})).await;
    assert_eq!(ack["success"], true, "{ack}");
}

/// Connects with what `lost` says of its session, and more of `auth`.
async fn comes_back_with(server: &TestServer, lost: &TestClient, auth: Value) -> TestClient {
    let mut back = lost.back();
    back.as_object_mut().unwrap().extend(auth.as_object().unwrap().clone());
    let mut client = server.connecting().auth(back).knock().await.unwrap();
    // As socket.io-client does, which forgets no offset.
    client.offset = client.offset.or_else(|| lost.offset.clone());
    client
}

async fn comes_back(server: &TestServer, lost: &TestClient) -> TestClient {
    comes_back_with(server, lost, json!({})).await
}

/// Whether the client took `recovered` for true.
fn is_recovered(client: &TestClient, lost: &TestClient) -> bool {
    assert!(client.pid.is_some());
    assert_eq!(client.pid == lost.pid, client.id == lost.id);
    client.pid == lost.pid
}

/// The numbers of the messages that have come.
async fn numbers(client: &mut TestClient) -> Vec<Value> {
    client.all("message-reply").await.into_iter().map(|message| message["n"].clone()).collect()
}

/// Waits until the server knows that a client has gone.
async fn gone(witness: &mut TestClient, id: &str) {
    while witness.next("client-disconnected").await["clientId"] != id {}
}

#[tokio::test]
async fn who_comes_back_is_who_it_was_and_has_everything() {
    let server = server().await;
    let (mut ann, mut bob) = (server.client().await, server.client().await);
    ann.join("one").await;
    assert_eq!(ann.ask("joinRoom", json!({"roomId": "two"})).await["success"], true);
    bob.join("one").await;
    assert_eq!(bob.ask("joinRoom", json!({"roomId": "two"})).await["success"], true);
    for n in 0..3 {
        say(&mut bob, "one", n).await;
    }
    assert_eq!(numbers(&mut ann).await, [0, 1, 2]);
    bob.forget().await;
    let (id, back) = (ann.id.clone(), ann.back());
    drop(ann);
    gone(&mut bob, &id).await;
    assert_eq!(bob.next("user-left").await["socketId"], id);
    assert_eq!(bob.next("userLeftRoom").await["socketId"], id);
    server.get(&format!("/connections/{id}")).await.refusal(404);
    for n in 3..8 {
        say(&mut bob, if n % 2 == 0 { "one" } else { "two" }, n).await;
    }
    let mut ann = server.connecting().auth(back.clone()).knock().await.unwrap();
    assert_eq!((&ann.id, &json!(ann.pid)), (&id, &back["pid"]));
    let events = ann.everything().await;
    let names = events.iter().map(|event| event.name.as_str()).collect::<Vec<_>>();
    assert_eq!(names, ["message-reply"; 5], "nothing of itself is told to it");
    assert_eq!(events.iter().map(|event| &event.data["n"]).collect::<Vec<_>>(), [3, 4, 5, 6, 7]);
    assert_eq!(bob.next("client-connected").await["clientId"], id);
    assert_eq!(bob.next("user-joined").await["socketId"], id);
    assert_eq!(bob.next("userJoinedRoom").await["socketId"], id);
    let connection = server.get(&format!("/connections/{id}")).await.expect(200);
    assert_eq!(connection["rooms"], json!(["one", "two"]));
    // It is a member as before.
    say(&mut bob, "two", 8).await;
    say(&mut bob, "one", 9).await;
    assert_eq!(numbers(&mut ann).await, [8, 9]);
    say(&mut ann, "one", 10).await;
    assert_eq!(numbers(&mut bob).await, [10]);
    let left = ann.ask("leaveRoom", json!({"roomId": "two"})).await;
    assert_eq!(left["success"], true, "{left}");
    assert_eq!(bob.next("userLeftRoom").await["socketId"], id);
}

#[tokio::test]
async fn every_event_ends_with_an_offset_that_all_recipients_of_a_node_share() {
    let server = server().await;
    let (mut ann, mut bob) = (server.client().await, server.client().await);
    let mut old = server.connecting().engine_3();
    old = old.namespace("/");
    let _old = old.open().await.unwrap();
    ann.join("r").await;
    bob.join("r").await;
    ann.forget().await;
    bob.forget().await;
    say(&mut server.client().await, "r", 1).await;
    let offset = |event: &Event| match &event.arguments[..] {
        [_, Value::String(offset)] if !offset.is_empty() => offset.clone(),
        other => panic!("{other:?}"),
    };
    let [one, two] = [ann.next_event("message-reply").await, bob.next_event("message-reply").await];
    if server.node_count() == 1 {
        assert_eq!(offset(&one), offset(&two));
    }
    ann.emit("ping", Value::Null).await;
    assert_ne!(offset(&ann.next_event("pong").await), offset(&one));
    // A bare string is not taken for an offset.
    ann.emit("message", json!("hello")).await;
    let event = bob.next_event("message").await;
    assert_eq!(event.data, "hello");
    assert_ne!(offset(&event), "hello");
    // An acknowledgement has none, nor has an event that asks for one.
    assert_eq!(ann.ask("heartbeat", json!({})).await, json!({"success": true}));
    let asked =
        json!({"event": "q", "data": {"a": 1}, "clients": [ann.id], "ack": {"timeoutMs": 100}});
    let (_answer, event) = tokio::join!(server.post("/events", &asked), ann.next_event("q"));
    assert_eq!(event.arguments, [json!({"a": 1})]);
    // Binary attachments stay where they are.
    bob.emit_binary("message", r#"{"roomName":"r","data":{"_placeholder":true,"num":0}}"#, &[b"x"])
        .await;
    let event = ann.next_event("message-reply").await;
    assert_eq!(event.attachments, [b"x".to_vec()]);
    offset(&event);
}

#[tokio::test]
async fn without_the_setting_nothing_is_added() {
    let server = server_with(|config| config.connection_state_recovery = Duration::ZERO).await;
    let mut ann = server.client().await;
    assert_eq!(ann.pid, None);
    ann.emit("ping", Value::Null).await;
    assert_eq!(ann.next_event("pong").await.arguments.len(), 1);
    let again = server.connecting().auth(json!({"pid": "x", "offset": "1"})).join().await;
    assert_eq!(again.pid, None);
}

#[tokio::test]
async fn engine_io_3_knows_no_offsets() {
    let server = server().await;
    let mut old = server.connecting().engine_3().open().await.unwrap();
    let welcome = old.next_event("connected").await;
    assert_eq!(welcome.arguments.len(), 1, "{welcome:?}");
    let mut new = server.client().await;
    new.emit("message", json!({"text": "hi"})).await;
    assert_eq!(old.next_event("message").await.arguments.len(), 1);
    assert_eq!(new.next_event("message").await.arguments.len(), 2);
}

#[tokio::test]
async fn what_was_in_flight_comes_once() {
    let server = server().await;
    let (mut ann, mut bob) = (server.client().await, server.client().await);
    ann.join("r").await;
    say(&mut bob, "r", 0).await;
    assert_eq!(ann.next("message-reply").await["n"], 0);
    let seen = ann.offset.clone();
    for n in 1..6 {
        say(&mut bob, "r", n).await;
    }
    // It was sent all of them, and lost its connection before it had them.
    assert_eq!(numbers(&mut ann).await, [1, 2, 3, 4, 5]);
    ann.offset = seen;
    let mut again = comes_back(&server, &ann).await;
    assert!(is_recovered(&again, &ann), "a connection that is thought to be alive is taken over");
    assert_eq!(numbers(&mut again).await, [1, 2, 3, 4, 5]);
    ann.ended().await;
    // And once more, in the middle of what it was sent again.
    let events = again.arrived("message-reply");
    assert!(events.is_empty());
    let mut third = comes_back(&server, &again).await;
    assert!(is_recovered(&third, &again));
    assert!(numbers(&mut third).await.is_empty());
    say(&mut bob, "r", 6).await;
    assert_eq!(numbers(&mut third).await, [6]);
}

#[tokio::test]
async fn a_connection_that_is_cut_while_it_recovers_recovers_again() {
    let server = server().await;
    let (mut ann, mut bob) = (server.client().await, server.client().await);
    ann.join("r").await;
    ann.settle().await;
    let (id, back) = (ann.id.clone(), ann.back());
    drop(ann);
    gone(&mut bob, &id).await;
    for n in 0..4 {
        say(&mut bob, "r", n).await;
    }
    let mut offsets = Vec::new();
    let mut second = server.connecting().auth(back).knock().await.unwrap();
    for n in 0..4 {
        let event = second.next_event("message-reply").await;
        assert_eq!(event.data["n"], n);
        offsets.push(event.arguments[1].clone());
    }
    drop(second.everything().await);
    for (seen, offset) in offsets.iter().enumerate().take(2) {
        say(&mut bob, "r", 4 + u32::try_from(seen).unwrap()).await;
        let back = json!({"pid": second.pid, "offset": offset});
        let mut third = server.connecting().auth(back).knock().await.unwrap();
        assert_eq!(third.id, id);
        let wanted = (seen + 1..5 + seen).collect::<Vec<_>>();
        assert_eq!(numbers(&mut third).await, wanted);
        second = third;
    }
}

#[tokio::test]
async fn both_namespaces_of_a_connection_come_back() {
    let server = server().await;
    let mut bob = server.client_of("/chat").await;
    let mut root = server.client().await;
    root.join("r").await;
    root.settle().await;
    root.send_frame("40/chat,").await;
    let chat = loop {
        let event = root.next_event("connect").await;
        if event.namespace == "/chat" {
            break event.data;
        }
    };
    let connected = root.next_event("connected").await;
    assert_eq!(connected.namespace, "/chat");
    let offset = connected.arguments[1].clone();
    let mut other = server.client().await;
    say(&mut other, "r", 1).await;
    bob.emit("message", json!({"text": "not kept"})).await;
    let back = root.back();
    let mut again = server.connecting().auth(back).knock().await.unwrap();
    assert_eq!(again.id, root.id);
    assert_eq!(numbers(&mut again).await, [1]);
    let pid = chat["pid"].as_str().unwrap();
    let auth = json!({"pid": pid, "offset": offset});
    let wrong = server.connecting().auth(auth.clone()).knock().await.unwrap();
    assert_ne!(wrong.pid.as_deref(), Some(pid), "the session of another namespace");
    let chat_again = server.connecting().namespace("/chat").auth(auth).knock().await.unwrap();
    assert_eq!((chat_again.pid.as_deref(), json!(chat_again.id)), (Some(pid), chat["sid"].clone()));
}
