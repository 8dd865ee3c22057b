//! How long keys count, and how many.

use std::time::Duration;

use roomcast::config::Secret;
use serde_json::json;

use super::again;
use crate::{
    control::World,
    support::{SECRET, TestServer, token_of},
};

#[tokio::test]
async fn a_window_of_zero_turns_keys_off() {
    let server = TestServer::with(|config| config.idempotency_window = Duration::ZERO).await;
    let (mut ann, mut ben) = (server.client().await, server.client().await);
    ben.join("r").await;
    for offset in [1, 2] {
        let payload = json!({"roomName": "r", "idempotencyKey": "k"});
        let ack = ann.ask("message", payload).await;
        assert_eq!((&ack["offset"], ack.get("duplicate")), (&json!(offset), None));
        let got = ben.next("message-reply").await;
        assert_eq!(got, json!({"roomName": "r", "offset": offset}));
    }
}

#[tokio::test]
async fn a_key_is_forgotten_after_its_window() {
    for world in World::both(|config| config.idempotency_window = Duration::from_millis(400)).await
    {
        let mut ann = world.connecting().join().await;
        let payload = json!({"roomName": "r", "idempotencyKey": "k"});
        let first = ann.ask("message", payload.clone()).await;
        // Until it is: nothing tells that it has been forgotten.
        let mut duplicates = 0;
        let second = loop {
            let ack = ann.ask("message", payload.clone()).await;
            if ack.get("duplicate").is_none() {
                break ack;
            }
            assert_eq!(ack, again(&first));
            duplicates += 1;
        };
        assert!(duplicates > 0);
        assert_eq!(second["offset"], 2, "{second}");
        assert_eq!(ann.ask("message", payload).await, again(&second));
    }
}

#[tokio::test]
async fn a_user_that_uses_up_its_keys_takes_nobody_elses() {
    /// More than one sender may have.
    const KEYS: usize = 10_100;
    let server = TestServer::with(|config| {
        config.jwt_secret = Some(Secret::new(SECRET));
        config.rate_limit_events = 0;
        config.rate_limit_burst = 0;
    })
    .await;
    let bearer = |user: &str| server.connecting().auth(json!({"token": token_of(user)}));
    let (mut ann, mut eve) = (bearer("ann").join().await, bearer("eve").join().await);
    let key = |key: &str| json!({"roomName": "r", "idempotencyKey": key});
    let first = ann.ask("message", key("k")).await;
    for number in 0..KEYS {
        let asked = eve.ask_later("message", key(&number.to_string())).await.unwrap();
        if number % 100 == 99 {
            eve.ack(asked).await;
        }
    }
    let newest = eve.ask("message", key(&(KEYS - 1).to_string())).await;
    assert_eq!(newest["duplicate"], true, "{newest}");
    let oldest = eve.ask("message", key("0")).await;
    assert_eq!(oldest.get("duplicate"), None, "{oldest}");
    assert_eq!(ann.ask("message", key("k")).await, again(&first));
}
