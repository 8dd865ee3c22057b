//! CORS, and the Origin of Socket.IO requests.

use reqwest::Method;
use roomcast::config::CorsOrigin;
use serde_json::json;

use crate::support::{Answer, TestServer};

const PAGE: &str = "https://app.example";
const POLL: &str = "/socket.io/?EIO=4&transport=polling";
const OLD_POLL: &str = "/socket.io/?EIO=3&transport=polling";

async fn server_of(origins: &[&str]) -> TestServer {
    let origins = origins.iter().map(ToString::to_string).collect();
    TestServer::with(|config| config.cors_origin = CorsOrigin::List(origins)).await
}

async fn get_from(server: &TestServer, origin: &str, path: &str) -> Answer {
    Answer::of(server.request(Method::GET, path).header("origin", origin)).await
}

#[tokio::test]
async fn by_default_every_origin_may_read_and_connect() {
    let server = TestServer::start().await;
    for path in ["/health", POLL] {
        let answer = get_from(&server, PAGE, path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{path}");
        assert_eq!(answer.header("access-control-allow-credentials"), None, "{path}");
        assert_eq!(
            answer.header("access-control-expose-headers"),
            Some("retry-after,idempotency-replayed"),
            "{path}"
        );
    }
    server.connecting().header("origin", PAGE).join().await;
    server.connecting().header("origin", "null").join().await;
}

#[tokio::test]
async fn old_clients_poll_with_credentials_so_their_origin_is_mirrored() {
    let server = TestServer::start().await;
    let answer = get_from(&server, PAGE, OLD_POLL).await;
    assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    assert!(answer.header("vary").unwrap().contains("origin"));
}

#[tokio::test]
async fn a_listed_origin_is_mirrored_and_another_is_not() {
    let server = server_of(&["https://other.example", PAGE]).await;
    let answer = get_from(&server, PAGE, "/health").await;
    assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    assert!(answer.header("vary").unwrap().contains("origin"));
    for stranger in
        ["https://evil.example", "https://app.example.evil.example", "http://app.example", "null"]
    {
        let answer = get_from(&server, stranger, "/health").await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("access-control-allow-origin")),
            (200, None),
            "{stranger}"
        );
    }
}

#[tokio::test]
async fn refusals_have_cors_headers_too() {
    let server = server_of(&[PAGE]).await;
    for (path, status) in [("/nowhere", 404), ("/stats", 403)] {
        let answer = get_from(&server, PAGE, path).await;
        answer.refusal(status);
        assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE), "{path}");
    }
}

#[tokio::test]
async fn a_preflight_is_answered_without_a_key() {
    let server = TestServer::with_key("k").await;
    for (path, origin) in [("/events", "*"), (POLL, "*"), (OLD_POLL, PAGE)] {
        let request = server.request(Method::OPTIONS, path).header("origin", PAGE);
        let request = request.header("access-control-request-method", "POST");
        let answer =
            Answer::of(request.header("access-control-request-headers", "content-type,x-api-key"))
                .await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin), "{path}");
        assert_eq!(
            answer.header("access-control-allow-headers"),
            Some("content-type,x-api-key"),
            "{path}"
        );
        assert_eq!(
            answer.header("access-control-allow-methods"),
            Some("GET,POST,DELETE,OPTIONS"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn socket_io_is_closed_to_the_pages_of_other_origins() {
    let server = server_of(&[PAGE]).await;
    let message = get_from(&server, "https://evil.example", POLL).await.refusal(403);
    assert!(message.as_str().unwrap().contains("CORS_ORIGIN"));
    let knock = server.connecting().header("origin", "https://evil.example").open().await;
    assert_eq!(knock.err(), Some(403));
    let mut client = server.connecting().header("origin", PAGE).join().await;
    assert_eq!(client.ask("heartbeat", json!(null)).await["success"], true);
    server.client().await;
    assert_eq!(get_from(&server, PAGE, POLL).await.status, 200);
}

#[tokio::test]
async fn a_name_that_was_made_to_lead_here_is_not_the_servers_own() {
    let knock = async |server: &TestServer, host: &str| {
        let host = format!("{host}:{}", server.address().port());
        let knock = server.connecting().header("host", &host);
        knock.header("origin", &format!("http://{host}")).open().await.err()
    };
    let server = server_of(&[PAGE]).await;
    assert_eq!(knock(&server, "127.0.0.1").await, None);
    assert_eq!(knock(&server, "localhost").await, None);
    assert_eq!(knock(&server, "rebound.example").await, Some(403));
    let server = TestServer::with(|config| {
        config.cors_origin = CorsOrigin::List(vec![PAGE.to_owned()]);
        config.public_hosts = vec!["rooms.example".to_owned()];
    })
    .await;
    assert_eq!(knock(&server, "rooms.example").await, None);
    assert_eq!(knock(&server, "rebound.example").await, Some(403));
}
