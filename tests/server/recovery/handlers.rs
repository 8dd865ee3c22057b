//! Where the application's backend says who a client is, it is asked for those that come back, too.

use std::time::Duration;

use roomcast::config::Environment;
use serde_json::{Value, json};

use super::{WINDOW, gone, is_recovered, numbers, say};
use crate::{
    handlers::backend::Backend,
    support::{TestClient, TestServer},
};

/// Connects a client that the backend takes for this user; with the id that the backend was told.
async fn admit(
    server: &TestServer,
    backend: &mut Backend,
    auth: Value,
    user: &str,
) -> (TestClient, String) {
    let (client, id) = tokio::join!(server.connecting().auth(auth).knock(), async {
        loop {
            let asked = backend.next().await;
            let kind = asked.body["type"].as_str().unwrap().to_owned();
            let id = asked.body["client"]["clientId"].as_str().unwrap().to_owned();
            asked.reply(&json!({"client": {"userId": user}}));
            if kind == "connect" {
                return id;
            }
        }
    });
    (client.unwrap(), id)
}

#[tokio::test]
async fn the_backend_says_whether_it_is_still_the_same_user() {
    let mut backend = Backend::start().await;
    let url = backend.url();
    let server = TestServer::one_node(|config| {
        config.redis_url = None;
        config.handler_url = Some(url);
        config.handler_connect = true;
        config.handler_timeout = Duration::from_secs(8);
        config.connection_state_recovery = WINDOW;
        config.environment = Environment::Development;
    })
    .await;
    let (mut bob, _) = admit(&server, &mut backend, json!({}), "bob").await;
    let (mut ann, _) = admit(&server, &mut backend, json!({}), "ann").await;
    ann.join("r").await;
    ann.settle().await;
    let set = ann.ask_later("own-event", json!(1)).await.unwrap();
    backend.next().await.reply(&json!({"data": {"cart": 1}}));
    ann.ack(set).await;
    ann.settle().await;
    ann.tear().await;
    gone(&mut bob, &ann.id).await;
    say(&mut bob, "r", 1).await;
    // Somebody else with the secret: the backend is told of a new client then.
    let (connecting, ids) = (server.connecting().auth(ann.back()).knock(), async {
        let mut ids = Vec::new();
        for _ in 0..2 {
            let asked = backend.next().await;
            ids.push(asked.body["client"]["clientId"].as_str().unwrap().to_owned());
            asked.reply(&json!({"client": {"userId": "eve"}}));
        }
        ids
    });
    let (eve, ids) = tokio::join!(connecting, ids);
    let mut eve = eve.unwrap();
    assert!(!is_recovered(&eve, &ann));
    assert_eq!(ids, [ann.id.clone(), eve.id.clone()]);
    assert!(numbers(&mut eve).await.is_empty());
    let (mut again, told) = admit(&server, &mut backend, ann.back(), "ann").await;
    assert!(is_recovered(&again, &ann));
    assert_eq!(told, ann.id);
    assert_eq!(numbers(&mut again).await, [1]);
    again.emit("own-event", json!(2)).await;
    let asked = backend.next().await;
    assert_eq!(asked.body["client"]["data"], json!({"cart": 1}));
    assert_eq!(asked.body["client"]["rooms"], json!(["r"]));
    asked.nothing();
}
