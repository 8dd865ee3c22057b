//! The Admin UI's namespace, from the outside. What the official page does with it is told by the
//! stories in `tests/admin`.

use crate::support::{Answer, SECRET, TestServer, token_of};
use reqwest::Method;
use roomcast::config::{Config, PasswordHash, Secret};
use serde_json::json;

/// "changeit", as the official server's documentation has it.
const HASH: &str = "$2b$10$heqvAkYMez.Va6Et2uXInOnkCT6/uQj1brkrbyG3LpopDklcq7ZOS";

fn on(config: &mut Config) {
    config.admin_username = Some("admin".into());
    config.admin_password = Some(PasswordHash::parse(HASH).unwrap());
}

#[tokio::test]
async fn where_it_is_off_there_is_no_such_namespace() {
    let server = TestServer::start().await;
    assert!(server.app.observer.is_none());
    let auth = json!({"username": "admin", "password": "changeit"});
    let admin = server.connecting().namespace("/admin").auth(auth.clone()).knock().await;
    let other = server.connecting().namespace("/nowhere").auth(auth).knock().await;
    assert_eq!(admin.err().unwrap(), json!("Invalid namespace"));
    assert_eq!(other.err().unwrap(), json!("Invalid namespace"));
}

#[tokio::test]
async fn a_user_is_no_operator() {
    let server = TestServer::with(|config| {
        on(config);
        config.jwt_secret = Some(Secret::new(SECRET));
    })
    .await;
    for auth in [
        json!({"token": token_of("admin")}),
        json!({"token": token_of("admin"), "username": "admin"}),
        json!({"username": "admin", "password": HASH}),
        json!({"username": ["admin"], "password": "changeit"}),
        json!({}),
    ] {
        let refused = server.connecting().namespace("/admin").auth(auth).knock().await;
        assert_eq!(refused.err().unwrap(), json!("invalid credentials"));
    }
    assert_eq!(server.app.registry.connections(), 0);
}

#[tokio::test]
async fn an_operator_is_no_client() {
    let server = TestServer::with(on).await;
    let mut client = server.client().await;
    let auth = json!({"username": "admin", "password": "changeit"});
    let knock = server.connecting().namespace("/admin").auth(auth).knock();
    let mut operator = knock.await.unwrap_or_else(|refusal| panic!("refused: {refusal}"));
    assert!(operator.next("session").await.as_str().unwrap().len() >= 32);
    operator.next("config").await;
    let stats = operator.next("server_stats").await;
    assert_eq!(stats["clientsCount"], 1);

    let answer = operator.ask("join-room", json!({"roomName": "kitchen"})).await;
    assert_eq!(answer["code"], "unknown_event");
    assert_eq!(server.app.registry.connections(), 1);
    let announced = client.all("client-connected").await;
    assert_eq!(announced.len(), 1, "only itself: {announced:?}");
    assert!(server.app.registry.namespace("/admin").is_none());
}

#[tokio::test]
async fn a_client_s_own_limits_hold_for_operators_too() {
    let server = TestServer::with(|config| {
        on(config);
        config.max_rooms_per_client = 1;
    })
    .await;
    let mut client = server.client().await;
    client.join("one").await;
    let auth = json!({"username": "admin", "password": "changeit"});
    let mut operator =
        server.connecting().namespace("/admin").auth(auth).knock().await.ok().unwrap();
    // The client's own rules hold: one room is all that it may have.
    operator.emit_text("join", &format!("\"/\",\"two\",{}", json!(client.id))).await;
    operator.emit_text("leave", &format!("\"/\",\"one\",{}", json!(client.id))).await;
    client.next("room-left").await;
    assert!(client.all("room-joined").await.iter().all(|joined| joined["roomName"] == "one"));
    operator.emit_text("join", &format!("\"/\",\"two\",{}", json!(client.id))).await;
    assert_eq!(client.next("room-joined").await["roomName"], "two");
}

#[tokio::test]
async fn the_page_may_poll_with_credentials() {
    const POLL: &str = "/socket.io/?EIO=4&transport=polling";
    let server = TestServer::with(on).await;
    let get = |path: &str| {
        Answer::of(server.request(Method::GET, path).header("origin", "https://admin.socket.io"))
    };
    let poll = get(POLL).await;
    let allowed = |answer: &Answer, header: &str| {
        answer.header(&format!("access-control-allow-{header}")).map(ToOwned::to_owned)
    };
    assert_eq!(allowed(&poll, "origin").unwrap(), "https://admin.socket.io");
    assert_eq!(allowed(&poll, "credentials").unwrap(), "true");
    let health = get("/health").await;
    assert_eq!(allowed(&health, "origin").unwrap(), "*");
    assert_eq!(allowed(&health, "credentials"), None);
}
