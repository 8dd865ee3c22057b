//! What browsers load: the playground, and the client's bundles.

use std::fs;

use reqwest::{Method, header};
use roomcast::config::CorsOrigin;
use tempfile::TempDir;

use crate::support::{Answer, TestServer};

const PAGE: &str = "https://app.example";

#[tokio::test]
async fn the_playground_loads_nothing_but_itself() {
    let server = TestServer::start().await;
    let page = server.get("/").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
    let policy = page.header("content-security-policy").unwrap();
    let directives = policy.split("; ").collect::<Vec<_>>();
    for directive in
        ["default-src 'none'", "connect-src 'self'", "base-uri 'none'", "frame-ancestors 'none'"]
    {
        assert!(directives.contains(&directive), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    let scripts = page.text.matches("<script>").count();
    let script_src = directives.iter().find(|directive| directive.starts_with("script-src"));
    assert!(scripts > 0);
    assert_eq!(script_src.unwrap().matches("'sha256-").count(), scripts);
}

#[tokio::test]
async fn the_playground_may_connect_to_its_own_server() {
    let listed = |config: &mut roomcast::config::Config| {
        config.cors_origin = CorsOrigin::List(vec![PAGE.to_owned()]);
    };
    let server = TestServer::with(listed).await;
    let own = format!("http://{}", server.address());
    let mut client = server.connecting().header("origin", &own).join().await;
    client.join("r").await;
    // Another port is another origin.
    let other = format!("http://{}", server.address().ip());
    assert_eq!(server.connecting().header("origin", &other).open().await.err(), Some(403));
    // Without the page there is no page to let in.
    let server = TestServer::with(|config| {
        listed(config);
        config.playground = false;
    })
    .await;
    let own = format!("http://{}", server.address());
    assert_eq!(server.connecting().header("origin", &own).open().await.err(), Some(403));
}

const SCRIPT: &str = "console.log('the client');";

/// A server with the bundles of this directory: one script and its map, and something beside them.
async fn with_bundles() -> (TestServer, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let dist = directory.path().join("dist");
    fs::create_dir(&dist).unwrap();
    fs::write(directory.path().join("secret.js"), "secret").unwrap();
    fs::write(dist.join("other.js"), "secret").unwrap();
    fs::write(dist.join("socket.io.min.js"), SCRIPT).unwrap();
    fs::write(dist.join("socket.io.min.js.map"), "{}").unwrap();
    let server = TestServer::with(|config| config.client_bundle_dir = Some(dist)).await;
    (server, directory)
}

#[tokio::test]
async fn a_bundle_is_served_and_asked_for_once() {
    let (server, _directory) = with_bundles().await;
    let path = "/socket.io/socket.io.min.js";
    let answer = server.get(&format!("{path}?v=4.8")).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, SCRIPT));
    assert_eq!(answer.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), Some("public, max-age=0, must-revalidate"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    let tag = answer.header("etag").unwrap();
    for (known, status) in [
        (tag.to_owned(), 304),
        (format!("\"x\", W/{tag}"), 304),
        ("*".to_owned(), 304),
        ("\"x\"".to_owned(), 200),
    ] {
        let request = server.request(Method::GET, path).header(header::IF_NONE_MATCH, &known);
        let answer = Answer::of(request).await;
        assert_eq!(answer.status.as_u16(), status, "{known}");
        assert_eq!(answer.text.is_empty(), status == 304, "{known}");
        assert_eq!(answer.header("etag"), Some(tag));
    }
    let head = Answer::of(server.request(Method::HEAD, path)).await;
    assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
    let length = SCRIPT.len().to_string();
    assert_eq!(head.header("content-length"), Some(length.as_str()));
    let map = server.get("/socket.io/socket.io.min.js.map").await;
    assert_eq!(map.header("content-type"), Some("application/json; charset=utf-8"));
}

#[tokio::test]
async fn nothing_but_the_bundles_can_be_reached() {
    let (server, _directory) = with_bundles().await;
    for path in [
        "/socket.io/other.js",
        "/socket.io/../secret.js",
        "/socket.io/%2e%2e/secret.js",
        "/socket.io/..%2fsecret.js",
        "/socket.io/..%5csecret.js",
        "/socket.io//socket.io.min.js",
        "/socket.io/socket.io.min.js/",
        "/socket.io/socket.io.min.js%00",
        "/socket.io/SOCKET.IO.MIN.JS",
    ] {
        let (status, text) = server.get_raw(path).await;
        assert!(status == 400 || status == 404, "{path}: {status}");
        assert!(!text.contains("secret") && !text.contains(SCRIPT), "{path}: {text}");
    }
    let message = server.get("/socket.io/socket.io.js").await.refusal(404);
    assert!(message.as_str().unwrap().contains("dist folder of socket.io-client"), "{message}");
}

#[tokio::test]
async fn without_bundles_the_answer_says_what_to_set() {
    let server = TestServer::start().await;
    for name in ["socket.io.js", "socket.io.min.js", "socket.io.esm.min.js", "socket.io.js.map"] {
        let message = server.get(&format!("/socket.io/{name}")).await.refusal(404);
        let message = message.as_str().unwrap();
        assert!(message.starts_with(name) && message.contains("CLIENT_BUNDLE_DIR"), "{message}");
    }
}
