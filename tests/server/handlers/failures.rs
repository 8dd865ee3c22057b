//! A backend that is wrong, late, silent, huge, elsewhere or gone: a clear refusal, and nothing else.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::backend::Backend;
use crate::support::{TestClient, TestServer};

/// What a client is told whose event could not be answered.
async fn refused(client: &mut TestClient, ack: u64) {
    let answer = client.ack(ack).await;
    assert_eq!(
        (&answer["success"], &answer["code"]),
        (&false.into(), &"unavailable".into()),
        "{answer}"
    );
    let error = client.next("error").await;
    assert_eq!((&error["code"], &error["event"]), (&"unavailable".into(), &"e".into()));
    assert_eq!(error["message"], answer["message"]);
    // Nothing that only the operator should know.
    let message = answer["message"].as_str().unwrap();
    assert!(!message.contains("127.0.0.1") && !message.contains("http"), "{message}");
}

#[tokio::test]
async fn whatever_is_no_answer_is_unavailable() {
    let mut backend = Backend::start().await;
    let server = backend.server(|config| config.max_payload = 100_000).await;
    let mut client = server.client().await;
    for (status, text) in [
        (500, r#"{"message": "no"}"#),
        (503, ""),
        (200, ""),
        (200, "<html>"),
        (200, r#"{"ack": [1]"#),
        (200, r#"{"ack": [1]} x"#),
        (201, r#"{"ack": [1]}"#),
        (206, r#"{"ack": [1]}"#),
        (404, "Not Found"),
        (400, r#"{"error": "no message"}"#),
        (304, ""),
    ] {
        let ack = client.ask_later("e", json!(1)).await.unwrap();
        backend.next().await.answer(status, text);
        refused(&mut client, ack).await;
    }
    let ack = client.ask_later("e", json!(1)).await.unwrap();
    backend.next().await.answer(200, format!(r#"{{"ack": ["{}"]}}"#, "x".repeat(100_000)));
    refused(&mut client, ack).await;
    let ack = client.ask_later("e", json!(1)).await.unwrap();
    backend.next().await.answer_for_ever();
    refused(&mut client, ack).await;
    let ack = client.ask_later("e", json!(1)).await.unwrap();
    backend.next().await.break_off();
    refused(&mut client, ack).await;
    // A redirect leads nowhere, not even to the same backend.
    let ack = client.ask_later("e", json!(1)).await.unwrap();
    let to = backend.url();
    backend.next().await.redirect(&to);
    refused(&mut client, ack).await;
    assert!(!backend.is_asked());
    // Nothing of it lasts.
    let ack = client.ask_later("e", json!(1)).await.unwrap();
    backend.next().await.reply(&json!({"ack": ["well"]}));
    assert_eq!(client.ack(ack).await, "well");
}

#[tokio::test]
async fn a_backend_refuses_with_words_a_code_and_data_of_its_own() {
    let mut backend = Backend::start().await;
    let server = backend.server(|_| {}).await;
    let mut client = server.client().await;
    let error = json!({"message": "sold out", "code": "sold_out", "data": {"left": 0}});
    for (status, answer, code) in [
        (200, json!({"error": error, "join": 7, "ack": [1]}), "sold_out"),
        (409, error.clone(), "sold_out"),
        (
            400,
            json!({"message": "sold out", "statusCode": 400, "error": "Bad Request", "data": {"left": 0}}),
            "rejected",
        ),
        (200, json!({"error": {"message": "sold out", "data": {"left": 0}}}), "rejected"),
    ] {
        let ack = client.ask_later("buy", json!(1)).await.unwrap();
        backend.next().await.answer(status, answer.to_string());
        let told = client.ack(ack).await;
        let wanted =
            json!({"success": false, "message": "sold out", "code": code, "data": {"left": 0}});
        assert_eq!(told, wanted);
        let wanted =
            json!({"message": "sold out", "code": code, "event": "buy", "data": {"left": 0}});
        assert_eq!(client.next("error").await, wanted);
    }
    let ack = client.ask_later("buy", json!(1)).await.unwrap();
    backend.next().await.answer(422, json!({"message": ["n must be a number", "x"]}).to_string());
    assert_eq!(client.ack(ack).await["message"], "n must be a number; x");
    // A code such as the server's own is only a word: it starts no clean-up.
    for _ in 0..100 {
        let ack = client.ask_later("buy", json!(1)).await.unwrap();
        backend
            .next()
            .await
            .answer(429, json!({"message": "slow", "code": "rate_limited"}).to_string());
        assert_eq!(client.ack(ack).await["code"], "rate_limited");
    }
}

#[tokio::test]
async fn a_backend_that_never_answers_costs_its_own_events_only() {
    let mut backend = Backend::start().await;
    let server = backend.server(|config| config.handler_timeout = Duration::from_millis(300)).await;
    let (mut client, mut other) = (server.client().await, server.client().await);
    let ack = client.ask_later("e", json!(1)).await.unwrap();
    let held = backend.next().await;
    assert_eq!(other.ask("join-room", json!("r")).await["success"], true);
    refused(&mut client, ack).await;
    // What comes too late is not carried out, and not asked again.
    held.reply(&json!({"join": ["r"], "ack": [1]}));
    client.settle().await;
    assert!(client.all("room-joined").await.is_empty());
    assert!(!backend.is_asked());
}

#[tokio::test]
async fn a_backend_that_is_not_there_is_unavailable_at_once() {
    // A port on which nobody listens.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let server = TestServer::with(|config| {
        config.handler_url = Some(url);
        config.handler_timeout = Duration::from_hours(1);
    })
    .await;
    let mut client = server.client().await;
    for _ in 0..3 {
        let ack = client.ask_later("e", json!(1)).await.unwrap();
        refused(&mut client, ack).await;
    }
    let health = server.get("/health").await.expect(200);
    let handler = &health["info"]["handler"];
    assert_eq!(handler["status"], "up");
    let detail = handler["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("failing since 2") && detail.ends_with("3 times: connection"),
        "{detail}"
    );
    let figures = server.get("/metrics").await.text;
    let wanted = r#"roomcast_handler_requests_total{kind="event",outcome="connection"} 3"#;
    assert!(figures.contains(wanted), "{figures}");
}

#[tokio::test]
async fn requests_under_way_are_bounded_and_so_is_the_wait() {
    let mut backend = Backend::start().await;
    let server = backend
        .server(|config| {
            config.handler_concurrency = 1;
            config.handler_timeout = Duration::from_millis(1500);
        })
        .await;
    let (mut one, mut two) = (server.client().await, server.client().await);
    let first = one.ask_later("e", json!(1)).await.unwrap();
    let held = backend.next().await;
    let second = two.ask_later("e", json!(1)).await.unwrap();
    server.until(|figures| figures.contains("roomcast_handler_waiting 1\n")).await;
    assert!(server.get("/metrics").await.text.contains("roomcast_handler_under_way 1\n"));
    assert!(!backend.is_asked());
    held.nothing();
    one.ack(first).await;
    let held = backend.next().await;
    // The place is taken again, for longer than anybody may wait for it.
    let third = one.ask_later("e", json!(1)).await.unwrap();
    refused(&mut two, second).await;
    drop(held);
    let answer = one.ack(third).await;
    // It got the place, or waited in vain: that depends on when the one before was given up.
    assert_eq!(answer["code"], "unavailable", "{answer}");
    server.until(|figures| figures.contains("roomcast_handler_under_way 0\n")).await;
    assert!(server.get("/metrics").await.text.contains("roomcast_handler_waiting 0\n"));
}

#[tokio::test]
async fn what_is_held_for_an_event_is_given_back() {
    let mut backend = Backend::start().await;
    let server = backend.server(|_| {}).await;
    let mut client = server.client().await;
    let large = json!({"x": "y".repeat(500_000)});
    let ack = client.ask_later("e", large).await.unwrap();
    let asked = backend.next().await;
    let held = |figures: &str| -> f64 {
        let line = figures.lines().find_map(|line| line.strip_prefix("roomcast_held_bytes "));
        line.unwrap().parse().unwrap()
    };
    // The event, and the body of the request.
    assert!(held(&server.get("/metrics").await.text) > 1_000_000.0);
    asked.nothing();
    client.ack(ack).await;
    server.until(|figures| held(figures) < 100_000.0).await;
}

#[tokio::test]
async fn health_tells_that_the_backend_answers_again() {
    let mut backend = Backend::start().await;
    let server = backend.server(|_| {}).await;
    let mut client = server.client().await;
    let detail = |health: &Value| health["details"]["handler"]["detail"].clone();
    assert_eq!(detail(&server.get("/health").await.expect(200)), "answering");
    let ack = client.ask_later("e", json!(1)).await.unwrap();
    backend.next().await.answer(500, "");
    client.ack(ack).await;
    let failing = detail(&server.get("/health/ready").await.expect(200));
    assert!(failing.as_str().unwrap().ends_with("1 times: status"), "{failing}");
    let ack = client.ask_later("e", json!(1)).await.unwrap();
    backend.next().await.answer(400, r#"{"message": "no"}"#);
    client.ack(ack).await;
    assert_eq!(detail(&server.get("/health").await.expect(200)), "answering");
}

/// Ten thousand of them are a measurement (`bench/handlers.js --hold`).
#[tokio::test]
async fn many_clients_that_wait_cost_nobody_else_anything() {
    const CLIENTS: usize = 200;
    let backend = Backend::start().await;
    let server = backend
        .server(|config| {
            config.handler_concurrency = 4;
            config.handler_timeout = Duration::from_hours(1);
        })
        .await;
    let mut waiting = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = server.client().await;
        let ack = client.ask_later("e", json!({"x": "y".repeat(1_000)})).await.unwrap();
        waiting.push((client, ack));
    }
    server.until(|figures| figures.contains("roomcast_handler_waiting 196\n")).await;
    let figures = server.get("/metrics").await.text;
    assert!(figures.contains("roomcast_handler_under_way 4\n"), "{figures}");
    let held = figures.lines().find_map(|line| line.strip_prefix("roomcast_held_bytes ")).unwrap();
    let each = held.parse::<f64>().unwrap() / f64::from(u32::try_from(CLIENTS).unwrap());
    assert!((1_000.0..10_000.0).contains(&each), "{each} bytes for each client");
    // What is not asked does not wait.
    let mut other = server.client().await;
    assert_eq!(other.ask("join-room", json!("r")).await["success"], true);
    assert_eq!(other.ask("heartbeat", json!(null)).await["success"], true);
    let _answering = backend.always(|_| json!({"ack": ["done"]}));
    for (client, ack) in &mut waiting {
        assert_eq!(client.ack(*ack).await, "done");
    }
    server.until(|figures| figures.contains("roomcast_handler_waiting 0\n")).await;
}
