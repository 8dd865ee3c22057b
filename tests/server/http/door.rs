//! What all routes share, and the routes of operation.

use std::{sync::atomic::Ordering, time::Duration};

use reqwest::{Method, header};
use serde_json::json;

use crate::support::{Answer, TestServer};

#[tokio::test]
async fn what_is_not_there_is_not_found_in_the_words_of_nestjs() {
    let server = TestServer::open().await;
    for (method, path) in [
        (Method::GET, "/x"),
        (Method::POST, "/rooms"),
        (Method::GET, "/messages/broadcast"),
        (Method::DELETE, "/health"),
        (Method::PUT, "/api"),
        (Method::GET, "/rooms/"),
        (Method::GET, "/api/nothing.js"),
        (Method::GET, "/socket.io-client"),
    ] {
        let message = Answer::of(server.request(method.clone(), &format!("{path}?token=secret")))
            .await
            .refusal(404);
        assert_eq!(message, format!("Cannot {method} {path}"));
    }
}

#[tokio::test]
async fn a_body_that_is_no_json_is_refused() {
    let server = TestServer::open().await;
    for path in ["/messages/broadcast", "/messages/x", "/events"] {
        for text in ["", "{", "{\"a\":1,}", "{} {}", "nonsense"] {
            let message = server.post_text(path, text).await.refusal(400);
            assert!(
                message.as_str().unwrap().starts_with("the body is not valid JSON"),
                "{path} {text}: {message}"
            );
        }
        for text in ["[]", "7", "null", "\"text\""] {
            let message = server.post_text(path, text).await.refusal(400);
            assert_eq!(message, "the body must be a JSON object", "{path} {text}");
        }
        let request =
            server.request(Method::POST, path).header(header::CONTENT_TYPE, "application/json");
        let message = Answer::of(request.body(b"{\"a\":\"\xff\"}".to_vec())).await.refusal(400);
        assert_eq!(message, "the body is not UTF-8");
    }
}

#[tokio::test]
async fn a_body_must_be_said_to_be_json() {
    let server = TestServer::open().await;
    for kind in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("application/jsonx"),
    ] {
        let mut request = server.request(Method::POST, "/events").body("{}");
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        assert!(
            Answer::of(request).await.refusal(415).as_str().unwrap().contains("application/json"),
            "{kind:?}"
        );
    }
    for kind in ["application/json; charset=utf-8", "Application/JSON", "application/vnd.api+json"]
    {
        let request = server.request(Method::POST, "/events").body(r#"{"event":"e"}"#);
        Answer::of(request.header(header::CONTENT_TYPE, kind)).await.expect(201);
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_one_at_the_limit_is_not() {
    let server = TestServer::with(|config| {
        config.max_payload = 1000;
        config.environment = roomcast::config::Environment::Development;
    })
    .await;
    let of = |size: usize| {
        let frame = json!({"event": "e", "data": ""}).to_string();
        json!({"event": "e", "data": "x".repeat(size - frame.len())})
    };
    server.post("/events", &of(1000)).await.expect(201);
    let message = server.post("/events", &of(1001)).await.refusal(413);
    assert!(message.as_str().unwrap().contains("MAX_PAYLOAD"), "{message}");
    // Far more than any buffer on the way holds: the answer must still arrive.
    server.post("/events", &of(20_000_000)).await.refusal(413);
    let asking = server.request(Method::POST, "/events").header(header::EXPECT, "100-continue");
    Answer::of(asking.json(&of(2000))).await.refusal(413);
}

#[tokio::test]
async fn health_is_told_in_the_shape_of_terminus() {
    let server = TestServer::start().await;
    let up = json!({"server": {"status": "up"}, "store": {"status": "up"}});
    let health = server.get("/health").await.expect(200);
    assert_eq!(health, json!({"status": "ok", "info": up, "error": {}, "details": up}));
    assert_eq!(server.get("/health/ready").await.expect(200)["status"], "ok");
    assert_eq!(server.get("/health/live").await.expect(200), json!({"status": "ok"}));
}

#[tokio::test]
async fn a_server_that_stops_lives_but_is_not_ready() {
    let server = TestServer::start().await;
    // From the outside it cannot be asked: it takes no new connections then.
    server.app.draining.store(true, Ordering::Release);
    for path in ["/health", "/health/ready"] {
        let health = server.get(path).await.expect(503);
        assert_eq!(health["status"], "error");
        assert_eq!(health["error"]["server"]["status"], "down");
        assert_eq!(health["info"], json!({"store": {"status": "up"}}));
        assert_eq!(health["details"]["server"], health["error"]["server"]);
    }
    server.get("/health/live").await.expect(200);
}

#[tokio::test]
async fn a_server_stops_within_its_grace_and_takes_no_more() {
    let server = TestServer::with(|config| config.shutdown_grace = Duration::from_secs(5)).await;
    let client = server.client().await;
    let address = server.address();
    tokio::join!(server.stop(), client.ended());
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.join("r").await;
    let answer = server.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(answer.text.ends_with("# EOF\n"));
    for line in answer.text.lines().filter(|line| !line.starts_with('#')) {
        let (_, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
    let count =
        |text: &str| answer.text.lines().any(|line| line.contains(text) && line.ends_with(" 1"));
    assert!(count("connections_opened_total"), "{}", answer.text);
    assert!(count("event=\"join-room\""), "{}", answer.text);
    let request = server.request(Method::GET, "/metrics");
    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3";
    let answer = Answer::of(request.header(header::ACCEPT, accept)).await;
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text; version=1.0.0")
    );
}

#[tokio::test]
async fn the_document_is_served_in_both_forms() {
    let server = TestServer::start().await;
    let document = server.get("/api-json").await.expect(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    for path in [
        "/messages/broadcast",
        "/messages/{clientId}",
        "/events",
        "/rooms/{room}/messages",
        "/health",
        "/stats",
    ] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    assert!(document["components"]["securitySchemes"]["bearer"].is_object());
    let yaml = server.get("/api-yaml").await;
    assert_eq!(yaml.header("content-type"), Some("application/yaml; charset=utf-8"));
    assert!(yaml.text.starts_with("openapi: 3.1"), "{}", &yaml.text[..40]);
}

#[tokio::test]
async fn swagger_ui_works_with_and_without_the_slash_and_from_this_server_alone() {
    let server = TestServer::start().await;
    let page = server.get("/api").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    assert!(page.text.contains("<base href=\"api/\">"));
    let below = server.get("/api/").await;
    assert!(below.text.contains("swagger-ui") && !below.text.contains("<base"));
    assert!(!page.text.contains("http://") && !page.text.contains("https://"), "{}", page.text);
    let files = page.text.split('"').filter_map(|text| text.strip_prefix("./")).collect::<Vec<_>>();
    assert!(files.contains(&"swagger-ui-bundle.js"), "{files:?}");
    for file in files {
        let answer = server.get(&format!("/api/{file}")).await;
        assert_eq!(answer.status, 200, "{file}");
    }
    assert!(server.get("/api/swagger-initializer.js").await.text.contains("../api-json"));
}

#[tokio::test]
async fn the_page_at_the_root_can_be_turned_off() {
    let server = TestServer::start().await;
    let page = server.get("/").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    assert!(page.text.contains("roomcast"));
    let server = TestServer::with(|config| config.playground = false).await;
    assert_eq!(server.get("/").await.refusal(404), "Cannot GET /");
}
