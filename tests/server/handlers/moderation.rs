//! Events of the contract that the backend is asked about first.

use roomcast::config::Config;
use serde_json::json;

use super::backend::Backend;

fn asks_first(config: &mut Config) {
    config.handler_events =
        ["default", "message", "join-room", "sendMessage"].into_iter().collect();
}

#[tokio::test]
async fn a_message_passes_is_replaced_or_is_refused() {
    let mut backend = Backend::start().await;
    let server = backend.server(asks_first).await;
    let (mut client, mut member) = (server.client().await, server.client().await);
    let joined = member.ask_later("join-room", json!("r")).await.unwrap();
    let asked = backend.next().await;
    assert_eq!((&asked.body["event"], &asked.body["args"]), (&"join-room".into(), &json!(["r"])));
    asked.nothing();
    assert_eq!(member.ack(joined).await["offset"], 0);
    let message = json!({"room": "r", "text": "a"});

    let ack = client.ask_later("message", message.clone()).await.unwrap();
    let asked = backend.next().await;
    assert_eq!(asked.body["args"], json!([message]));
    // Nothing has happened yet.
    assert!(member.all("message-reply").await.is_empty());
    asked.reply(&json!({}));
    assert_eq!(client.ack(ack).await["offset"], 1);
    assert_eq!(member.next("message-reply").await["text"], "a");

    let ack = client.ask_later("message", message.clone()).await.unwrap();
    backend.next().await.reply(&json!({
        "payload": {"room": "r", "text": "***", "file": {"$binary": "YQ=="}},
        "emit": [{"event": "censored", "data": 1}],
    }));
    assert_eq!(client.ack(ack).await["offset"], 2);
    let event = member.next_event("message-reply").await;
    assert_eq!(
        (&event.data["text"], &event.attachments[..]),
        (&"***".into(), &[b"a".to_vec()][..])
    );
    client.next("censored").await;

    let ack = client.ask_later("message", message.clone()).await.unwrap();
    backend.next().await.reply(&json!({"error": {"message": "no swearing", "code": "swearing"}}));
    assert_eq!(client.ack(ack).await["code"], "swearing");
    assert_eq!(client.next("error").await["event"], "message");

    let ack = client.ask_later("message", message.clone()).await.unwrap();
    backend.next().await.reply(&json!({"handled": true}));
    assert_eq!(client.ack(ack).await, json!({"success": true}));

    // Its own acknowledgement gives way to the backend's; it takes effect all the same.
    let ack = client.ask_later("message", message.clone()).await.unwrap();
    backend.next().await.reply(&json!({"ack": ["mine", 2]}));
    assert_eq!(client.ack(ack).await, json!(["mine", 2]));
    assert_eq!(member.next("message-reply").await["offset"], 3);
    let ack = client.ask_later("message", message).await.unwrap();
    backend.next().await.answer(500, "");
    assert_eq!(client.ack(ack).await["code"], "unavailable");
    assert!(member.all("message-reply").await.is_empty());
}

#[tokio::test]
async fn an_event_that_is_refused_after_all_changes_nothing_of_the_rest() {
    let mut backend = Backend::start().await;
    let server = backend.server(asks_first).await;
    let mut client = server.client().await;
    client.forget().await;
    let ack = client.ask_later("sendMessage", json!({"roomId": "r"})).await.unwrap();
    backend
        .next()
        .await
        .reply(&json!({"emit": [{"event": "never"}], "data": {"a": 1}, "ack": [1]}));
    assert_eq!(client.ack(ack).await["code"], "invalid_payload");
    assert_eq!(client.names().await, ["error", "exception"]);
    client.emit("e", json!(1)).await;
    let asked = backend.next().await;
    assert_eq!(asked.body["client"]["data"], json!({}));
}

#[tokio::test]
async fn a_join_that_is_asked_first_still_replays_and_is_acknowledged_by_itself() {
    let mut backend = Backend::start().await;
    let server = backend.server(asks_first).await;
    for n in 1..=3 {
        let data = json!({"event": "x", "data": {"n": n}, "rooms": ["r"]});
        server.post("/events", &data).await.expect(201);
    }
    let mut client = server.client().await;
    let ack = client.ask_later("join-room", json!({"room": "r", "offset": 1})).await.unwrap();
    backend.next().await.reply(&json!({"emit": [{"event": "welcome"}]}));
    let ack = client.ack(ack).await;
    assert_eq!(
        (&ack["recovered"], &ack["missed"], &ack["offset"]),
        (&true.into(), &2.into(), &3.into())
    );
    client.next("welcome").await;
    assert_eq!(client.all("x").await.len(), 2);
    // The backend acknowledges later what goes on now.
    let ack = client.ask_later("join-room", json!("s")).await.unwrap();
    let asked = backend.next().await;
    let id = asked.id();
    asked.answer(202, "");
    while client.next("room-joined").await["roomName"] != "s" {}
    let given = server.post(&format!("/acks/{id}"), &json!({"args": ["later"]})).await;
    assert_eq!(given.status, 204);
    assert_eq!(client.ack(ack).await, "later");
}

/// Messages that are asked about do not overtake those that are not, nor the other way round.
#[tokio::test]
async fn the_order_of_one_clients_messages_is_kept() {
    let backend = Backend::start().await;
    let server =
        backend.server(|config| config.handler_events = ["channels"].into_iter().collect()).await;
    let mut client = server.client().await;
    client.join("r").await;
    for n in 0..40 {
        let event = if n % 4 == 0 { "channels" } else { "message" };
        client.emit(event, json!({"room": "r", "n": n, "replyToSender": true})).await;
    }
    let passing = backend.always(|_| json!({}));
    let mut seen = Vec::new();
    while seen.len() < 40 {
        let event = client.next_of(&["message-reply", "resource-update"]).await;
        seen.push((event.data["n"].as_u64().unwrap(), event.data["offset"].as_u64().unwrap()));
    }
    assert_eq!(seen, (0..40).map(|n| (n, n + 1)).collect::<Vec<_>>());
    passing.abort();
}
