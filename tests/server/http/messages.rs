//! `POST /messages/broadcast` and `POST /messages/{clientId}`.

use serde_json::{Value, json};

use crate::support::TestServer;

fn message(room: &str) -> Value {
    json!({
        "id": "4d2f3c8e-9b1a-4f6e-8a57-0c2b9d6e1f34",
        "clientId": "backend",
        "clientName": "Backend",
        "roomName": room,
        "messageType": "text",
        "message": "Hello",
        "timestamp": "2024-05-01T12:00:00.000Z",
    })
}

/// `answer` is `body`, but that it may have an offset.
#[track_caller]
fn assert_echo(mut answer: Value, body: &Value) {
    if let Some(fields) = answer.as_object_mut() {
        fields.remove("offset");
    }
    assert_eq!(&answer, body);
}

#[tokio::test]
async fn a_broadcast_reaches_every_member_of_the_room_and_nobody_else() {
    let server = TestServer::start().await;
    let (mut alice, mut bob, mut carol) =
        (server.client().await, server.client().await, server.client().await);
    alice.join("r").await;
    bob.join("r").await;
    carol.join("other").await;
    let answer = server.post("/messages/broadcast", &message("r")).await.expect(201);
    assert_echo(answer, &message("r"));
    assert_echo(alice.next("message-reply").await, &message("r"));
    assert_echo(bob.next("message-reply").await, &message("r"));
    assert!(carol.all("message-reply").await.is_empty());
}

#[tokio::test]
async fn a_broadcast_leaves_its_sender_out_unless_it_is_to_be_told() {
    let server = TestServer::start().await;
    let mut sender = server.client().await;
    sender.join("r").await;
    let mut body = message("r");
    body["clientId"] = json!(sender.id);
    server.post("/messages/broadcast", &body).await.expect(201);
    assert!(sender.all("message-reply").await.is_empty());
    body["replyToSender"] = json!(false);
    server.post("/messages/broadcast", &body).await.expect(201);
    assert!(sender.all("message-reply").await.is_empty());
    body["replyToSender"] = json!(true);
    server.post("/messages/broadcast", &body).await.expect(201);
    assert_eq!(sender.next("message-reply").await["replyToSender"], true);
}

#[tokio::test]
async fn a_body_is_forwarded_and_answered_to_the_letter() {
    let server = TestServer::with(|config| config.history_size = 0).await;
    let mut client = server.client().await;
    client.join("7").await;
    let text = r#"{"timestamp":"2024-05-01T12:00:00Z", "roomId":7,"message":"h\u00e9llo \/","messageType":"t","clientName":"n",
        "clientId":"c","replyToSender":null,"id":"4d2f3c8e-9b1a-4f6e-8a57-0c2b9d6e1f34"}"#;
    let answer = server.post_text("/messages/broadcast", text).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (201, text));
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(client.next_event("message-reply").await.text, text);
    let answer = server.post_text(&format!("/messages/{}", client.id), text).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (201, text));
    assert_eq!(client.next_event("message-reply").await.text, text);
}

#[tokio::test]
async fn a_room_may_be_named_in_three_ways_and_belongs_to_a_namespace() {
    let server = TestServer::start().await;
    let mut root = server.client().await;
    let mut chat = server.client_of("/chat").await;
    root.join("resource:7").await;
    chat.join("resource:7").await;
    for (name, value) in [
        ("roomName", json!("resource:7")),
        ("roomId", json!("resource:7")),
        ("resourceId", json!(7)),
    ] {
        let mut body = message("x");
        body.as_object_mut().unwrap().remove("roomName");
        body[name] = value;
        server.post("/messages/broadcast?namespace=/chat", &body).await.expect(201);
        assert_echo(chat.next("message-reply").await, &body);
    }
    assert!(root.all("message-reply").await.is_empty());
}

#[tokio::test]
async fn a_message_to_a_client_goes_to_it_alone_as_the_event_that_is_named() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = (server.client().await, server.client_of("/chat").await);
    let to = |id: &str, query: &str| format!("/messages/{id}{query}");
    let answer = server.post(&to(&bob.id, ""), &message("r")).await.expect(201);
    assert_eq!(answer, message("r"));
    assert_eq!(bob.next("message-reply").await, message("r"));
    for event in ["private-message", "order-changed"] {
        server.post(&to(&bob.id, &format!("?eventName={event}")), &message("r")).await.expect(201);
        assert_eq!(bob.next(event).await, message("r"));
    }
    server.post(&to(&bob.id, "?namespace=/chat"), &message("r")).await.expect(201);
    bob.next("message-reply").await;
    server.post(&to(&bob.id, "?namespace=/"), &message("r")).await.refusal(404);
    assert!(alice.all("message-reply").await.is_empty());
}

#[tokio::test]
async fn a_message_to_a_client_that_is_not_connected_is_not_found() {
    let server = TestServer::start().await;
    let gone = server.client().await;
    let path = format!("/messages/{}", gone.id);
    let mut other = server.client().await;
    let id = gone.id.clone();
    gone.disconnect().await;
    while other.next("client-disconnected").await["clientId"] != id {}
    assert_eq!(
        server.post(&path, &message("r")).await.refusal(404),
        format!("Client {id} is not connected")
    );
    server.post("/messages/nobody", &message("r")).await.refusal(404);
}

#[tokio::test]
async fn events_of_socket_io_and_of_a_clients_state_cannot_be_sent() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for event in
        ["connect", "disconnect", "newListener", "room-joined", "pong", "token-expired", ""]
    {
        let path = format!("/messages/{}?eventName={event}", client.id);
        let faults = server.post(&path, &message("r")).await.refusal(400);
        assert!(faults[0].as_str().unwrap().starts_with("eventName "), "{faults}");
    }
    client.settle().await;
}

#[tokio::test]
async fn every_fault_of_a_message_is_told_at_once() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let body = json!({"foo": 1, "clientId": 7, "clientName": "", "roomName": null, "message": "m", "replyToSender": 1});
    let expected = json!([
        "id must be a UUID",
        "clientId must be a string",
        "clientName should not be empty",
        "roomName should not be empty",
        "roomName must be a string",
        "messageType should not be empty",
        "messageType must be a string",
        "replyToSender must be a boolean value",
        "timestamp must be a valid ISO 8601 date string",
        "property foo should not exist",
    ]);
    assert_eq!(server.post("/messages/broadcast", &body).await.refusal(400), expected);
    assert_eq!(
        server.post(&format!("/messages/{}", client.id), &body).await.refusal(400),
        expected
    );
    let mut body = message("r");
    body["id"] = json!("7");
    body["foo"] = json!(true);
    assert_eq!(
        server.post("/messages/broadcast", &body).await.refusal(400),
        json!(["id must be a UUID", "property foo should not exist"])
    );
}

#[tokio::test]
async fn what_cannot_be_copied_is_a_fault_and_no_crash() {
    let server = TestServer::start().await;
    for value in [r#""\ud800""#, "1e999", &format!("{}{}", "[".repeat(60), "]".repeat(60))] {
        let text = message("r").to_string().replace(r#""Hello""#, value);
        let faults = server.post_text("/messages/broadcast", text).await.refusal(400);
        assert_eq!(faults, json!(["message must be a string"]), "{value}");
    }
}

#[tokio::test]
async fn an_unknown_namespace_is_refused_with_the_known_ones() {
    let server = TestServer::start().await;
    let expected = json!(["namespace must be one of the following values: /, /chat"]);
    assert_eq!(
        server.post("/messages/broadcast?namespace=/x", &message("r")).await.refusal(400),
        expected
    );
    assert_eq!(
        server.post("/messages/abc?namespace=/x", &message("r")).await.refusal(400),
        expected
    );
    server.post("/messages/broadcast?namespace=chat", &message("r")).await.expect(201);
}

#[tokio::test]
async fn with_history_the_answer_and_what_goes_out_have_the_offset() {
    let server = TestServer::open().await;
    let mut client = server.client().await;
    client.join("r").await;
    for offset in 1..=3 {
        let answer = server.post("/messages/broadcast", &message("r")).await.expect(201);
        assert_eq!(answer["offset"], offset);
        assert_eq!(client.next("message-reply").await, answer);
        assert_eq!(answer.as_object().unwrap().keys().next_back().unwrap(), "offset");
        assert_echo(answer, &message("r"));
    }
    let answer =
        server.post("/messages/broadcast?namespace=/chat", &message("r")).await.expect(201);
    assert_eq!(answer["offset"], 1, "a room belongs to its namespace");
    let answer = server.post(&format!("/messages/{}", client.id), &message("r")).await.expect(201);
    assert_eq!(answer, message("r"), "what goes to one client is no room message");
}
