//! `POST /events`.

use reqwest::Method;
use roomcast::config::{Config, Environment, Secret};
use serde_json::{Value, json};

use crate::support::{Answer, SECRET, TestServer, token_of};

#[tokio::test]
async fn an_event_to_nobody_named_goes_to_everyone_of_the_namespace() {
    let server = TestServer::open().await;
    let (mut root, mut chat) = (server.client().await, server.client_of("/chat").await);
    let body = json!({"event": "news", "data": {"n": 1}});
    let sent = server.post("/events", &body).await.expect(201);
    assert_eq!(sent["offsets"], json!({}));
    assert_eq!(sent["queued"], json!([]));
    assert!(sent["id"].is_string());
    assert_eq!(root.next("news").await, json!({"n": 1}));
    assert!(chat.all("news").await.is_empty());
    server
        .post("/events", &json!({"event": "news", "data": "text", "namespace": "/chat"}))
        .await
        .expect(201);
    assert_eq!(chat.next("news").await, "text");
    assert!(root.all("news").await.is_empty());
}

#[tokio::test]
async fn clients_and_users_that_are_not_there_are_named() {
    let server = TestServer::with(|config| {
        config.environment = Environment::Development;
        config.jwt_secret = Some(Secret::new(SECRET));
    })
    .await;
    let mut alice = server.connecting().auth(json!({"token": token_of("alice")})).join().await;
    let body = |volatile: bool| {
        json!({
            "event": "news", "data": {"n": 1}, "users": ["alice", "bob"], "volatile": volatile,
            "clients": [alice.id, "gone-gone-gone-gone-", "no id at all"],
        })
    };
    let sent = server.post("/events", &body(true)).await.expect(201);
    assert_eq!(sent["notFound"], json!(["bob", "gone-gone-gone-gone-", "no id at all"]));
    assert_eq!(sent["queued"], json!([]));
    let sent = server.post("/events", &body(false)).await.expect(201);
    assert_eq!(sent["notFound"], json!(["gone-gone-gone-gone-", "no id at all"]));
    assert_eq!(sent["queued"], json!(["bob"]));
    assert_eq!(alice.all("news").await.len(), 4);
    let sent = server.post("/events", &json!({"event": "news", "data": 1})).await.expect(201);
    assert_eq!(sent["notFound"], json!([]));
}

#[tokio::test]
async fn an_object_to_rooms_is_a_message_of_each_of_them() {
    let server = TestServer::open().await;
    let (mut both, mut one, mut none) =
        (server.client().await, server.client().await, server.client().await);
    both.join("a").await;
    both.join("b").await;
    one.join("b").await;
    let body = json!({"event": "news", "data": {"id": "m1", "n": 1}, "rooms": ["a", "b"]});
    let sent = server.post("/events", &body).await.expect(201);
    assert_eq!((&sent["id"], &sent["offsets"]), (&json!("m1"), &json!({"a": 1, "b": 1})));
    assert_eq!(both.all("news").await.len(), 2);
    assert_eq!(one.next("news").await["n"], 1);
    assert!(none.all("news").await.is_empty());
    let sent = server
        .post("/events", &json!({"event": "news", "data": {}, "rooms": ["b"]}))
        .await
        .expect(201);
    assert_eq!(sent["offsets"], json!({"b": 2}));
    assert_eq!(one.next("news").await, json!({"offset": 2}));
    let history = server.get("/rooms/a/messages").await.expect(200);
    assert_eq!(history["items"][0]["data"], json!({"id": "m1", "n": 1}));
}

#[tokio::test]
async fn what_is_volatile_or_no_object_comes_once_to_who_is_in_several_rooms() {
    let server = TestServer::open().await;
    let mut client = server.client().await;
    client.join("a").await;
    client.join("b").await;
    for body in [
        json!({"event": "news", "data": {"n": 1}, "rooms": ["a", "b"], "volatile": true}),
        json!({"event": "news", "data": [1, 2], "rooms": ["a", "b"]}),
        json!({"event": "news", "data": null, "rooms": ["a", "b"]}),
        json!({"event": "news", "rooms": ["a", "b"]}),
    ] {
        let sent = server.post("/events", &body).await.expect(201);
        assert_eq!(sent["offsets"], json!({}), "{body}");
        // Untouched, whether there is history or not.
        let data = body.get("data").unwrap_or(&Value::Null);
        assert_eq!(client.all("news").await, std::slice::from_ref(data), "{body}");
    }
}

#[tokio::test]
async fn users_and_clients_are_found_in_every_namespace() {
    let server = TestServer::open().await;
    let (mut root, mut chat, mut other) =
        (server.client().await, server.client_of("/chat").await, server.client().await);
    root.authenticate("alice").await;
    chat.authenticate("alice").await;
    let body =
        json!({"event": "news", "data": {}, "users": ["alice", "nobody"], "namespace": "/chat"});
    let sent = server.post("/events", &body).await.expect(201);
    assert_eq!((&sent["queued"], &sent["refused"]), (&json!([]), &json!([])));
    root.next("news").await;
    chat.next("news").await;
    let body = json!({"event": "news", "data": {}, "clients": [chat.id, "gone"]});
    server.post("/events", &body).await.expect(201);
    chat.next("news").await;
    assert!(root.all("news").await.is_empty());
    assert!(other.all("news").await.is_empty());
    server
        .post("/events", &json!({"event": "news", "data": {}, "clients": ["gone"]}))
        .await
        .expect(201);
    assert!(root.all("news").await.is_empty(), "a client that is not there is not everyone");
}

#[tokio::test]
async fn each_list_is_a_sending_of_its_own() {
    let server = TestServer::open().await;
    let mut client = server.client().await;
    client.authenticate("7").await;
    client.join("7").await;
    let body = json!({"event": "news", "data": {}, "rooms": [7], "users": [7], "clients": [client.id, client.id]});
    server.post("/events", &body).await.expect(201);
    assert_eq!(client.all("news").await.len(), 4);
}

#[tokio::test]
async fn who_is_excepted_is_left_out() {
    let server = TestServer::open().await;
    let (mut alice, mut bob, mut carol) =
        (server.client().await, server.client().await, server.client().await);
    alice.authenticate("alice").await;
    for client in [&mut alice, &mut bob, &mut carol] {
        client.join("r").await;
    }
    carol.join("vip").await;
    for audience in [json!({}), json!({"rooms": ["r"]}), json!({"rooms": ["r"], "volatile": true})]
    {
        for (except, reached) in [
            (json!({"users": ["alice"]}), [0, 1, 1]),
            (json!({"clients": [bob.id]}), [1, 0, 1]),
            (json!({"rooms": ["vip"]}), [1, 1, 0]),
            (json!({"users": ["alice"], "clients": [bob.id], "rooms": ["vip"]}), [0, 0, 0]),
            (json!({"users": [], "clients": null}), [1, 1, 1]),
        ] {
            let mut body = audience.clone();
            body["event"] = json!("news");
            body["data"] = json!({});
            body["except"] = except;
            server.post("/events", &body).await.expect(201);
            let got = [
                alice.all("news").await.len(),
                bob.all("news").await.len(),
                carol.all("news").await.len(),
            ];
            assert_eq!(got, reached, "{body}");
        }
    }
}

#[tokio::test]
async fn an_excepted_room_is_one_of_the_namespace() {
    let server = TestServer::open().await;
    let (mut root, mut chat) = (server.client().await, server.client_of("/chat").await);
    for client in [&mut root, &mut chat] {
        client.authenticate("alice").await;
        client.join("r").await;
    }
    let body = json!({"event": "news", "data": {}, "users": ["alice"], "except": {"rooms": ["r"]}, "namespace": "/chat"});
    server.post("/events", &body).await.expect(201);
    root.next("news").await;
    assert!(chat.all("news").await.is_empty());
}

#[tokio::test]
async fn data_goes_out_to_the_letter() {
    let server = TestServer::open().await;
    let mut client = server.client().await;
    let data = r#"{"z":1.0,"a":{"n":12345678901234567890},"u":"\u00e9"}"#;
    server
        .post_text("/events", format!(r#"{{"event":"message","data":{data}}}"#))
        .await
        .expect(201);
    assert_eq!(client.next_event("message").await.text, data);
}

#[tokio::test]
async fn an_event_that_is_wrong_reaches_nobody_and_tells_everything() {
    let server = TestServer::open().await;
    let mut client = server.client().await;
    for (body, faults) in [
        (json!({"event": "news", "rooms": []}), json!(["rooms should not be empty"])),
        (json!({"event": "news", "rooms": null}), json!(["rooms should not be empty"])),
        (
            json!({"event": "news", "users": null, "clients": null}),
            json!(["users should not be empty", "clients should not be empty"]),
        ),
        (
            json!({"event": "news", "users": [], "clients": []}),
            json!(["users should not be empty", "clients should not be empty"]),
        ),
        (json!({"event": "news", "rooms": "r"}), json!(["rooms must be an array"])),
        (
            json!({"event": "news", "rooms": [true, {}]}),
            json!(["each value in rooms must be a string"]),
        ),
        (json!({"event": "news", "rooms": [""]}), json!(["each value in rooms must not be empty"])),
        (json!({"event": "news", "room": "r"}), json!(["property room should not exist"])),
        (json!({"event": "news", "except": ["r"]}), json!(["except must be an object"])),
        (
            json!({"event": "news", "except": {"room": "r", "users": 7}}),
            json!(["except.users must be an array", "except.property room should not exist"]),
        ),
        (
            json!({"event": "news", "namespace": "/x"}),
            json!(["namespace must be one of the following values: /, /chat"]),
        ),
        (
            json!({"event": "news", "namespace": 7, "volatile": "yes"}),
            json!(["namespace must be a string", "volatile must be a boolean value"]),
        ),
        (
            json!({"event": "news", "data": {"_placeholder": true, "num": 0}}),
            json!(["data must not be the placeholder of a binary attachment"]),
        ),
        (json!({"event": ""}), json!(["event should not be empty"])),
        (json!({"data": {}}), json!(["event should not be empty"])),
        (json!({"event": 7}), json!(["event must be a string"])),
    ] {
        assert_eq!(server.post("/events", &body).await.refusal(400), faults, "{body}");
    }
    for event in ["connect", "disconnecting", "connected", "user-online", "messageSent", "error"] {
        let faults =
            server.post("/events", &json!({"event": event, "data": {}})).await.refusal(400);
        assert!(faults[0].as_str().unwrap().contains("reserved"), "{event}: {faults}");
    }
    assert!(client.all("news").await.is_empty());
    assert!(client.all("error").await.is_empty());
}

/// Where users cannot be claimed, messages may wait for them.
fn with_tokens(config: &mut Config) {
    config.environment = Environment::Development;
    config.jwt_secret = Some(Secret::new(SECRET));
    config.presence_grace = std::time::Duration::ZERO;
}

#[tokio::test]
async fn an_event_waits_for_a_user_that_is_offline() {
    let server = TestServer::with(with_tokens).await;
    let body = json!({"event": "news", "data": {"id": 7}, "users": ["alice"]});
    let sent = server.post("/events", &body).await.expect(201);
    assert_eq!(
        (&sent["id"], &sent["queued"], &sent["refused"]),
        (&json!(7), &json!(["alice"]), &json!([]))
    );
    assert_eq!(server.get("/users/alice").await.expect(200)["queued"], 1);
    let volatile =
        json!({"event": "news", "data": {"id": 8}, "users": ["alice"], "volatile": true});
    assert_eq!(server.post("/events", &volatile).await.expect(201)["queued"], json!([]));
    let mut alice = server.connecting().auth(json!({"token": token_of("alice")})).join().await;
    assert_eq!(alice.next("news").await, json!({"id": 7}));
    assert_eq!(server.post("/events", &body).await.expect(201)["queued"], json!([]));
    assert_eq!(alice.all("news").await.len(), 1);
}

#[tokio::test]
async fn a_user_whose_queue_is_full_is_told_of() {
    let server = TestServer::with(|config| {
        with_tokens(config);
        config.queue_size = 1;
    })
    .await;
    let body = json!({"event": "news", "data": {}, "users": ["alice"]});
    assert_eq!(server.post("/events", &body).await.expect(201)["queued"], json!(["alice"]));
    let sent = server
        .post("/events", &json!({"event": "news", "data": {}, "users": ["alice", "bob"]}))
        .await
        .expect(201);
    assert_eq!((&sent["queued"], &sent["refused"]), (&json!(["bob"]), &json!(["alice"])));
}

#[tokio::test]
async fn who_is_online_but_excepted_has_nothing_queued() {
    let server = TestServer::with(with_tokens).await;
    let mut alice = server.connecting().auth(json!({"token": token_of("alice")})).join().await;
    let body =
        json!({"event": "news", "data": {}, "users": ["alice"], "except": {"clients": [alice.id]}});
    assert_eq!(server.post("/events", &body).await.expect(201)["queued"], json!([]));
    assert!(alice.all("news").await.is_empty());
}

#[tokio::test]
async fn a_key_is_needed_before_the_body_is_looked_at() {
    let server = TestServer::with_key("k").await;
    server.post_text("/events", "nonsense").await.refusal(401);
    let request = server.request(Method::POST, "/events").bearer_auth("k");
    Answer::of(request.json(&json!({}))).await.refusal(400);
}
