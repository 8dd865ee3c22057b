//! Acknowledgements that come later, by `POST /acks/{id}`, to whichever node.

use serde_json::json;

use super::backend::Backend;
use crate::support::{TestServer, redis::RedisServer};

async fn acknowledge(server: &TestServer, id: &str, args: serde_json::Value) -> u16 {
    let answer = server.post(&format!("/acks/{id}"), &json!({"args": args})).await;
    answer.status.as_u16()
}

/// The id of the next event, whose acknowledgement is to come later.
async fn accepted(backend: &mut Backend) -> String {
    let asked = backend.next().await;
    let id = asked.id();
    asked.answer(202, "");
    id
}

#[tokio::test]
async fn an_ack_comes_later_and_once() {
    let mut backend = Backend::start().await;
    let server = backend.server(|_| {}).await;
    let mut client = server.client().await;
    let ack = client.ask_later("slow", json!(1)).await.unwrap();
    let id = accepted(&mut backend).await;
    // The next event does not wait for it.
    assert_eq!(client.ask("join-room", json!("r")).await["success"], true);
    let args = json!([{"file": {"$binary": "AQI="}}, "x"]);
    assert_eq!(acknowledge(&server, &id, args).await, 204);
    assert_eq!(client.ack(ack).await, json!([{"file": [1, 2]}, "x"]));
    assert_eq!(acknowledge(&server, &id, json!([1])).await, 404);
    assert_eq!(acknowledge(&server, "unknown", json!([])).await, 404);
}

#[tokio::test]
async fn what_is_no_acknowledgement_is_refused_and_may_be_given_again() {
    let mut backend = Backend::start().await;
    let server = backend.server(|_| {}).await;
    let mut client = server.client().await;
    let ack = client.ask_later("slow", json!(1)).await.unwrap();
    let asked = backend.next().await;
    let path = format!("/acks/{}", asked.id());
    asked.answer(202, "{}");
    client.settle().await;
    for wrong in [
        json!({}),
        json!({"args": 1}),
        json!({"args": [], "ack": 1}),
        json!({"args": [{"$binary": 1}]}),
    ] {
        server.post(&path, &wrong).await.refusal(400);
    }
    assert_eq!(server.post(&path, &json!({"args": []})).await.status, 204);
    assert_eq!(client.ack(ack).await, json!([]));
}

#[tokio::test]
async fn nobody_waits_where_no_ack_was_asked_for_or_the_client_has_gone() {
    let mut backend = Backend::start().await;
    let server = backend.server(|_| {}).await;
    let mut client = server.client().await;
    client.emit("slow", json!(1)).await;
    let id = accepted(&mut backend).await;
    client.settle().await;
    assert_eq!(acknowledge(&server, &id, json!([1])).await, 404);
    client.ask_later("slow", json!(1)).await.unwrap();
    let id = accepted(&mut backend).await;
    client.settle().await;
    client.disconnect().await;
    let mut witness = server.client().await;
    server.emptied(&mut witness).await;
    assert_eq!(acknowledge(&server, &id, json!([1])).await, 404);
}

#[tokio::test]
async fn an_ack_that_does_not_come_is_a_refusal() {
    let mut backend = Backend::start().await;
    let server = backend.server(|_| {}).await;
    let mut client = server.client().await;
    let ack = client.ask_later("slow", json!(1)).await.unwrap();
    let id = accepted(&mut backend).await;
    client.settle().await;
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(31)).await;
    tokio::time::resume();
    assert_eq!(client.ack(ack).await["code"], "unavailable");
    assert_eq!(client.next("error").await["event"], "slow");
    assert_eq!(acknowledge(&server, &id, json!([1])).await, 404);
}

#[tokio::test]
async fn an_ack_finds_its_client_on_another_node() {
    let redis = RedisServer::start();
    let mut backend = Backend::start().await;
    let (url, prefix) = (redis.url(), uuid::Uuid::new_v4().simple().to_string());
    let configure = |config: &mut roomcast::config::Config| {
        config.redis_url = Some(roomcast::config::Secret::new(url.clone()));
        config.redis_prefix.clone_from(&prefix);
    };
    let one = backend.server(configure).await;
    let other = backend.server(configure).await;
    let mut client = one.client().await;
    let ack = client.ask_later("slow", json!(1)).await.unwrap();
    let id = accepted(&mut backend).await;
    client.settle().await;
    let args = json!([{"$binary": "AQI="}, 2]);
    assert_eq!(acknowledge(&other, &id, args).await, 204);
    assert_eq!(client.ack(ack).await, json!([[1, 2], 2]));
    assert_eq!(acknowledge(&other, &id, json!([])).await, 404);

    // An event's arguments, too, reach the clients of all nodes.
    let mut elsewhere = other.client().await;
    elsewhere.join("r").await;
    client.emit("e", json!(1)).await;
    backend.next().await.reply(&json!({"emit": [
        {"event": "several", "args": [1, {"$binary": "Aw=="}, {"a": 2}], "rooms": ["r"]},
        {"event": "none", "args": [], "everyone": true},
    ]}));
    let event = elsewhere.next_event("several").await;
    assert_eq!(event.arguments[0], 1);
    assert_eq!((&event.arguments[2], &event.attachments[..]), (&json!({"a": 2}), &[vec![3]][..]));
    assert!(elsewhere.next_event("none").await.arguments.is_empty());
    // Several arguments are never stored.
    let history = other.get("/rooms/r/messages").await;
    assert!(history.status == 404 || history.json()["items"] == json!([]), "{}", history.text);
}
