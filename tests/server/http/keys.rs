//! Who may use which routes.

use reqwest::Method;
use roomcast::config::{Environment, Secret};
use serde_json::json;

use crate::support::{Answer, TestServer};

const ROUTES: [(Method, &str); 9] = [
    (Method::GET, "/connections"),
    (Method::GET, "/connections/x"),
    (Method::DELETE, "/connections/x"),
    (Method::GET, "/rooms"),
    (Method::GET, "/rooms/x"),
    (Method::GET, "/rooms/x/messages"),
    (Method::GET, "/users/x"),
    (Method::GET, "/stats"),
    (Method::POST, "/events"),
];

#[tokio::test]
async fn without_keys_the_management_routes_are_closed_and_say_how_to_open_them() {
    let server = TestServer::start().await;
    for (method, path) in ROUTES {
        let message =
            Answer::of(server.request(method, path).bearer_auth("guess")).await.refusal(403);
        assert!(message.as_str().unwrap().contains("API_KEYS"), "{path}: {message}");
    }
    server.post("/messages/broadcast", &json!({})).await.refusal(400);
    server.post("/messages/x", &json!({})).await.refusal(400);
}

#[tokio::test]
async fn in_development_the_management_routes_are_open_without_keys() {
    let server = TestServer::open().await;
    for (method, path) in ROUTES {
        let answer = Answer::of(server.request(method, path)).await;
        assert!(!matches!(answer.status.as_u16(), 401 | 403), "{path}: {}", answer.text);
    }
}

#[tokio::test]
async fn with_keys_every_route_but_those_of_operation_needs_one() {
    let server = TestServer::with(|config| {
        config.api_keys = vec![Secret::new("first"), Secret::new("second")];
        config.environment = Environment::Development;
    })
    .await;
    let messages = [(Method::POST, "/messages/broadcast"), (Method::POST, "/messages/x")];
    for (method, path) in ROUTES.into_iter().chain(messages) {
        let request = || server.request(method.clone(), path);
        let answer = Answer::of(request()).await;
        assert!(answer.refusal(401).as_str().unwrap().contains("X-API-Key"));
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        for wrong in ["", "firs", "first,second", "First"] {
            Answer::of(request().bearer_auth(wrong)).await.refusal(401);
            let message = Answer::of(request().header("x-api-key", wrong)).await.refusal(401);
            assert!(wrong.is_empty() || !message.to_string().contains(wrong), "{message}");
        }
        Answer::of(request().basic_auth("first", Some("first"))).await.refusal(401);
        for key in ["first", "second"] {
            for request in [request().bearer_auth(key), request().header("x-api-key", key)] {
                let answer = Answer::of(request).await;
                assert!(!matches!(answer.status.as_u16(), 401 | 403), "{path}: {}", answer.text);
            }
        }
        let answer = Answer::of(request().header("authorization", "bearer  first")).await;
        assert!(!matches!(answer.status.as_u16(), 401 | 403), "{path}: {}", answer.text);
    }
    for open in [
        "/health",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/api",
        "/api-json",
        "/api-yaml",
        "/",
    ] {
        assert_eq!(server.get(open).await.status, 200, "{open}");
    }
}

#[tokio::test]
async fn a_key_opens_a_management_route() {
    let server = TestServer::with_key("secret").await;
    let stats =
        Answer::of(server.request(Method::GET, "/stats").bearer_auth("secret")).await.expect(200);
    assert_eq!(stats["connections"], 0);
}
