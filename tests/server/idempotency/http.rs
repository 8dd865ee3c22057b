//! `Idempotency-Key`, of the POST routes.

use futures_util::future::join_all;
use reqwest::Method;
use roomcast::config::{Environment, Secret};
use serde_json::{Value, json};

use crate::{
    control::World,
    support::{Answer, SECRET, TestClient, TestServer, token_of},
};

async fn post(server: &TestServer, path: &str, key: &str, body: &Value) -> Answer {
    let request = server.request(Method::POST, path).header("idempotency-key", key);
    Answer::of(request.json(body)).await
}

fn is_replayed(answer: &Answer) -> bool {
    match answer.header("idempotency-replayed") {
        None => false,
        Some("true") => true,
        Some(other) => panic!("{other}"),
    }
}

#[track_caller]
fn assert_replays(answer: &Answer, first: &Answer) {
    assert!(is_replayed(answer) && !is_replayed(first), "{answer:?}");
    assert_eq!((answer.status, &answer.text), (first.status, &first.text));
    assert_eq!(answer.header("content-type"), first.header("content-type"));
}

fn message(room: &str, client: &str) -> Value {
    json!({
        "id": "a3bb189e-8bf9-4888-9912-ace4e6543002", "clientId": client, "clientName": "Back",
        "roomName": room, "messageType": "news", "message": "hé", "timestamp": "2026-01-01T12:00:00.000Z",
    })
}

/// A member of `r`, whose user is `ann`.
async fn member(world: &World) -> TestClient {
    let mut ann = world.connecting().join().await;
    ann.authenticate("ann").await;
    ann.join("r").await;
    ann.forget().await;
    ann
}

#[tokio::test]
async fn every_post_with_a_key_is_done_once() {
    for world in World::both(|_| {}).await {
        let mut ann = member(&world).await;
        let client = format!("/messages/{}?eventName=news", ann.id);
        let to_client = format!("/connections/{}/rooms", ann.id);
        let rooms = |rooms: &[&str]| json!({"rooms": rooms});
        let event = |more: Value| {
            let mut event = json!({"event": "news", "data": {"n": 1}});
            event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            event
        };
        let requests = [
            ("/messages/broadcast", message("r", "x"), "message-reply", 201),
            (&client, message("r", "x"), "news", 201),
            ("/events", event(json!({"rooms": ["r"]})), "news", 201),
            ("/events", event(json!({"rooms": ["r"], "volatile": true})), "news", 201),
            ("/events", event(json!({"rooms": ["r", "empty"]})), "news", 201),
            ("/events", event(json!({"users": ["ann"]})), "news", 201),
            ("/events", event(json!({"clients": [ann.id]})), "news", 201),
            ("/events", event(json!({"rooms": ["empty"], "users": ["ann"]})), "news", 201),
            ("/events", event(json!({})), "news", 201),
            ("/users/ann/rooms", rooms(&["joined"]), "room-joined", 200),
            (&to_client, rooms(&["joined too"]), "room-joined", 200),
        ];
        for (at, (path, body, outgoing, status)) in requests.iter().enumerate() {
            let key = format!("key {at}");
            let first = post(world.first(), path, &key, body).await;
            first.expect(*status);
            ann.next(outgoing).await;
            for node in &world.nodes {
                assert_replays(&post(node, path, &key, body).await, &first);
            }
            assert_eq!(ann.names().await, [""; 0], "{path} {body}");
            // Other content, or another query, is a mismatch; and the first answer stays.
            let mut other = body.clone();
            let field = if *status == 200 { "namespace" } else { "data" };
            let field = if path.starts_with("/messages") { "message" } else { field };
            other[field] = if field == "namespace" { json!("/") } else { json!("other") };
            let refused = post(world.first(), path, &key, &other).await.refusal(422);
            assert!(refused.as_str().unwrap().contains("idempotency key"), "{refused}");
            let refused = match path.split_once('?') {
                None => post(world.first(), &format!("{path}?namespace=/"), &key, body).await,
                Some((path, _)) => post(world.first(), path, &key, body).await,
            };
            refused.refusal(422);
            assert_replays(&post(world.first(), path, &key, body).await, &first);
            // Another key is another one.
            let other = post(world.first(), path, &format!("other {at}"), body).await;
            assert!(!is_replayed(&other) && other.status.as_u16() == *status, "{other:?}");
            if *status == 201 {
                ann.next(outgoing).await;
            }
            assert_eq!(ann.names().await, [""; 0], "{path} {body}");
        }
        let page = world.first().get("/rooms/r/messages").await.expect(200);
        assert_eq!(page["items"].as_array().unwrap().len(), 6, "{page}");
    }
}

#[tokio::test]
async fn revocations_with_a_key_are_made_once() {
    let server = TestServer::with(|config| {
        config.environment = Environment::Development;
        config.jwt_secret = Some(Secret::new(SECRET));
    })
    .await;
    let body = json!({"userId": "ann", "expiresAt": "2099-01-01T00:00:00Z"});
    let first = post(&server, "/revocations", "k", &body).await;
    first.expect(201);
    assert_replays(&post(&server, "/revocations", "k", &body).await, &first);
    let listed = server.get("/revocations").await.expect(200);
    assert_eq!(listed["total"], 1, "{listed}");
}

#[tokio::test]
async fn what_is_queued_is_queued_once() {
    for world in World::both(|config| config.jwt_secret = Some(Secret::new(SECRET))).await {
        let body = json!({"event": "news", "data": {"id": 7}, "users": ["ann"], "rooms": ["r"]});
        let first = post(world.first(), "/events", "k", &body).await;
        assert_eq!(first.expect(201)["queued"], json!(["ann"]));
        assert_replays(&post(world.first(), "/events", "k", &body).await, &first);
        let token = json!({"token": token_of("ann")});
        let mut ann = world.connecting().auth(token).join().await;
        ann.next("news").await;
        assert!(ann.all("news").await.is_empty());
    }
}

#[tokio::test]
async fn of_fifty_at_once_one_is_done() {
    for world in World::both(|_| {}).await {
        let mut ann = member(&world).await;
        let single = json!({"event": "news", "data": {"n": 1}, "rooms": ["r"]});
        let several =
            json!({"event": "news", "data": {"n": 1}, "rooms": ["r"], "clients": [ann.id]});
        let requests = [
            ("/messages/broadcast", message("r", "x"), "message-reply", 1),
            ("/events", single, "news", 1),
            ("/events", several, "news", 2),
        ];
        for (at, (path, body, outgoing, copies)) in requests.into_iter().enumerate() {
            let key = at.to_string();
            let nodes = (0..50).map(|number| &world.nodes[number % world.nodes.len()]);
            let answers = join_all(nodes.map(|node| post(node, path, &key, &body))).await;
            assert_eq!(answers.iter().filter(|answer| !is_replayed(answer)).count(), 1);
            for answer in &answers {
                assert_eq!((answer.status.as_u16(), &answer.text), (201, &answers[0].text));
            }
            assert_eq!(ann.all(outgoing).await.len(), copies, "{path}");
        }
    }
}

#[tokio::test]
async fn while_the_first_is_under_way_the_second_waits_for_it() {
    for world in World::both(|_| {}).await {
        let mut ann = member(&world).await;
        let body = json!({"event": "q", "rooms": ["r"], "ack": {"timeoutMs": 20_000}});
        let last = &world.nodes[world.nodes.len() - 1];
        let asked = async {
            let event = ann.next_event("q").await;
            // The second has begun to wait only now.
            let second = post(last, "/events", "k", &body);
            let answered = async {
                assert!(ann.all("q").await.is_empty());
                let other = json!({"event": "q", "rooms": ["r"], "data": 1});
                post(last, "/events", "k", &other).await.refusal(422);
                ann.send_frame(&format!("43{}[\"yes\"]", event.ack.unwrap())).await;
            };
            tokio::join!(second, answered).0
        };
        let (first, second) = tokio::join!(post(world.first(), "/events", "k", &body), asked);
        assert_eq!(first.expect(200)["responses"][0]["args"], json!(["yes"]));
        assert_replays(&second, &first);
        assert!(ann.all("q").await.is_empty());
    }
}

#[tokio::test]
async fn refusals_are_not_remembered() {
    let server = TestServer::open().await;
    let body = message("r", "x");
    for _ in 0..2 {
        post(&server, "/messages/nobody", "k", &body).await.refusal(404);
    }
    let mut wrong = body.clone();
    wrong["more"] = json!(1);
    post(&server, "/messages/broadcast", "k", &wrong).await.refusal(400);
    post(&server, "/events", "k", &json!({"event": ""})).await.refusal(400);
    let text = server.request(Method::POST, "/messages/broadcast").header("idempotency-key", "k");
    Answer::of(text.body(body.to_string())).await.refusal(415);
    // None of them has used the key up.
    for path in ["/messages/broadcast", "/events"] {
        let body =
            if path == "/events" { json!({"event": "e", "rooms": ["r"]}) } else { body.clone() };
        let first = post(&server, path, "k", &body).await;
        first.expect(201);
        assert_replays(&post(&server, path, "k", &body).await, &first);
    }
    let ann = server.client().await;
    let path = format!("/messages/{}", ann.id);
    post(&server, &path, "k", &body).await.expect(201);
}

#[tokio::test]
async fn a_key_counts_within_its_api_key_and_route() {
    let server = TestServer::with(|config| {
        config.api_keys = vec![Secret::new("first"), Secret::new("second")];
    })
    .await;
    let send = async |api_key: &str, path: &str| {
        let request = server.request(Method::POST, path).header("idempotency-key", "k");
        let body = json!({"event": "e", "data": {}, "rooms": ["r"]});
        let answer = Answer::of(request.bearer_auth(api_key).json(&body)).await;
        answer.expect(201);
        is_replayed(&answer)
    };
    assert!(!send("first", "/events").await);
    assert!(!send("second", "/events").await);
    assert!(send("first", "/events").await && send("second", "/events").await);
    let request = server.request(Method::POST, "/messages/broadcast").bearer_auth("first");
    let request = request.header("idempotency-key", "k").json(&message("r", "x"));
    assert!(!is_replayed(&Answer::of(request).await));
    // Whoever has no API key learns nothing.
    let request = server.request(Method::POST, "/events").header("idempotency-key", "k");
    Answer::of(request.json(&json!({}))).await.refusal(401);
    let request = server.request(Method::POST, "/events").header("idempotency-key", "");
    Answer::of(request.json(&json!({}))).await.refusal(401);
}

#[tokio::test]
async fn what_is_no_key_is_refused() {
    let server = TestServer::open().await;
    let body = json!({"event": "e", "rooms": ["r"]});
    for wrong in ["", " ", &"x".repeat(201)] {
        let message = post(&server, "/events", wrong, &body).await.refusal(400);
        assert!(message[0].as_str().unwrap().contains("Idempotency-Key"), "{message}");
    }
    let twice = server.request(Method::POST, "/events").header("idempotency-key", "a");
    Answer::of(twice.header("idempotency-key", "b").json(&body)).await.refusal(400);
    let longest = "x".repeat(200);
    post(&server, "/events", &longest, &body).await.expect(201);
    assert!(is_replayed(&post(&server, "/events", &longest, &body).await));
    // Other methods have none.
    let listed = server.request(Method::GET, "/rooms").header("idempotency-key", "");
    Answer::of(listed).await.expect(200);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_with_a_key_too() {
    let server = TestServer::with(|config| {
        config.environment = Environment::Development;
        config.max_payload = 1_000;
    })
    .await;
    let body = json!({"event": "e", "data": {"x": "x".repeat(1_000)}, "rooms": ["r"]});
    post(&server, "/events", "k", &body).await.refusal(413);
}

#[tokio::test]
async fn keys_count_without_history_too() {
    let server = TestServer::with(|config| {
        config.environment = Environment::Development;
        config.history_size = 0;
        config.queue_size = 0;
    })
    .await;
    let mut ann = server.client().await;
    ann.join("r").await;
    let event = json!({"event": "news", "data": {"n": 1}, "rooms": ["r"]});
    for (path, body, outgoing) in
        [("/messages/broadcast", message("r", "x"), "message-reply"), ("/events", event, "news")]
    {
        let first = post(&server, path, "k", &body).await;
        first.expect(201);
        assert_replays(&post(&server, path, "k", &body).await, &first);
        ann.next(outgoing).await;
        assert!(ann.all(outgoing).await.is_empty(), "{path}");
    }
}

#[tokio::test]
async fn a_window_of_zero_turns_keys_off() {
    let server = TestServer::with(|config| {
        config.environment = Environment::Development;
        config.idempotency_window = std::time::Duration::ZERO;
    })
    .await;
    let body = json!({"event": "e", "data": {}, "rooms": ["r"]});
    for offset in [1, 2] {
        let answer = post(&server, "/events", "k", &body).await;
        assert!(!is_replayed(&answer));
        assert_eq!(answer.expect(201)["offsets"], json!({"r": offset}));
    }
}
