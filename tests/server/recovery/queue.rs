//! Recovery and the offline queue: nothing is lost, and nothing comes twice to who recovers.

use std::time::Duration;

use serde_json::{Value, json};

use super::{comes_back_with, gone, is_recovered, server_with};
use crate::support::{SECRET, TestClient, TestServer, token_of};
use roomcast::config::Secret;

async fn server() -> TestServer {
    server_with(|config| {
        config.jwt_secret = Some(Secret::new(SECRET));
        config.queue_confirm = Duration::from_hours(1);
    })
    .await
}

async fn client(server: &TestServer, user: &str) -> TestClient {
    server.connecting().auth(json!({"token": token_of(user)})).join().await
}

async fn comes_back(server: &TestServer, lost: &TestClient) -> TestClient {
    let again = comes_back_with(server, lost, json!({"token": token_of("ann")})).await;
    assert!(is_recovered(&again, lost));
    again
}

async fn tells(sender: &mut TestClient, what: u32) -> Value {
    let message = json!({"targetUserId": "ann", "message": what});
    let ack = sender.ask("private-message", message).await;
    assert_eq!(ack["success"], true, "{ack}");
    ack
}

async fn told(client: &mut TestClient, count: usize) -> Vec<Value> {
    let mut contents = Vec::new();
    while contents.len() < count {
        contents.push(client.next("private-message").await["message"]["content"].clone());
    }
    let more = client.all("private-message").await;
    assert!(more.is_empty(), "{contents:?}, and then {more:?}");
    contents
}

#[tokio::test]
async fn what_was_queued_while_it_was_away_follows_what_it_missed() {
    let server = server().await;
    let mut bob = client(&server, "bob").await;
    let mut ann = client(&server, "ann").await;
    ann.settle().await;
    let seen = ann.offset.clone();
    assert_eq!(tells(&mut bob, 1).await["delivered"], true);
    ann.next("private-message").await;
    ann.offset = seen;
    let id = ann.id.clone();
    let back = ann.back();
    drop(ann);
    gone(&mut bob, &id).await;
    assert_eq!(tells(&mut bob, 2).await["queued"], true);
    // Another client of the user gets the queue, and what follows goes to both.
    let mut other = client(&server, "ann").await;
    assert_eq!(told(&mut other, 1).await, [2]);
    assert_eq!(tells(&mut bob, 3).await["delivered"], true);
    assert_eq!(told(&mut other, 1).await, [3]);
    let mut auth = back;
    auth["token"] = json!(token_of("ann"));
    let mut ann = server.connecting().auth(auth).knock().await.unwrap();
    assert_eq!(ann.id, id);
    let first = [ann.next("private-message").await, ann.next("private-message").await];
    assert_eq!(first.map(|message| message["message"]["content"].clone()), [1, 3]);
}

#[tokio::test]
async fn who_recovers_within_its_queue_gets_the_rest_of_it() {
    let server = server().await;
    let mut bob = client(&server, "bob").await;
    for n in 0..5 {
        assert_eq!(tells(&mut bob, n).await["queued"], true);
    }
    let mut ann = client(&server, "ann").await;
    let mut offsets = Vec::new();
    for n in 0..5 {
        let event = ann.next_event("private-message").await;
        assert_eq!(event.data["message"]["content"], n);
        offsets.push(event.arguments[1].as_str().unwrap().to_owned());
    }
    ann.settle().await;
    ann.offset = Some(offsets[1].clone());
    let mut again = comes_back(&server, &ann).await;
    assert_eq!(told(&mut again, 3).await, [2, 3, 4]);
    tells(&mut bob, 5).await;
    assert_eq!(told(&mut again, 1).await, [5]);
    // A new client gets all that was not confirmed.
    assert_eq!(told(&mut client(&server, "ann").await, 5).await, [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn what_is_queued_comes_once() {
    let server = server().await;
    let mut bob = client(&server, "bob").await;
    let mut ann = client(&server, "ann").await;
    for round in 0..5 {
        ann.settle().await;
        let (id, mut auth) = (ann.id.clone(), ann.back());
        drop(ann);
        gone(&mut bob, &id).await;
        for n in 0..3 {
            assert_eq!(tells(&mut bob, 10 * round + n).await["queued"], true);
        }
        auth["token"] = json!(token_of("ann"));
        ann = server.connecting().auth(auth).knock().await.unwrap();
        assert_eq!(ann.id, id);
        assert_eq!(told(&mut ann, 3).await, [10 * round, 10 * round + 1, 10 * round + 2]);
    }
}
