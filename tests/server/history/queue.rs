//! Messages for users who are offline.

use std::time::Duration;

use roomcast::{
    commands::private_message,
    config::{Config, Secret},
    protocol::names::UserId,
};
use serde_json::{Value, json};

use super::{assert_refused, in_file, with};
use crate::support::{Answer, SECRET, TestClient, TestServer, token_of};

/// Longer than any test.
const NEVER: Duration = Duration::from_hours(1);

fn checked(config: &mut Config) {
    config.jwt_secret = Some(Secret::new(SECRET));
    config.queue_confirm = NEVER;
}

async fn user(server: &TestServer, name: &str) -> TestClient {
    server.connecting().auth(json!({"token": token_of(name)})).join().await
}

async fn write(client: &mut TestClient, to: &str, text: &str) -> Value {
    client.ask("private-message", json!({"targetUserId": to, "message": text, "id": text})).await
}

async fn write_offline(client: &mut TestClient, to: &str, texts: &[&str]) {
    for text in texts {
        let ack = write(client, to, text).await;
        assert_eq!((&ack["delivered"], &ack["queued"]), (&json!(false), &json!(true)), "{ack}");
    }
}

/// The next private messages, by their ids.
async fn received(client: &mut TestClient, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(client.next("private-message").await["id"].as_str().unwrap().to_owned());
    }
    ids
}

/// Waits until the user has a client, on any node.
async fn online(server: &TestServer, user: &str) {
    while server.presence(user).await["connections"].as_array().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
}

async fn waiting(server: &TestServer, user: &str) -> u64 {
    private_message::queue_len(&server.app, &UserId::parse(user).unwrap()).await.unwrap()
}

#[tokio::test]
async fn what_is_said_to_an_offline_user_waits_and_comes_in_order_as_it_was() {
    let server = with(checked).await;
    let mut alice = user(&server, "alice").await;
    let private =
        json!({"targetUserId": "bob", "message": {"z": 1, "a": 2}, "messageType": "image"});
    let ack = alice.ask("private-message", private).await;
    assert_eq!(ack["success"], true, "{ack}");
    assert_eq!((&ack["delivered"], &ack["queued"]), (&json!(false), &json!(true)));
    let sent = alice.next("message-sent").await;
    assert_eq!(sent["target"], "bob");
    assert_eq!(sent["id"], ack["id"]);
    assert_eq!((&sent["delivered"], &sent["queued"]), (&json!(false), &json!(true)));
    let attached = r#"{"target":"bob","message":{"_placeholder":true,"num":0},"id":"file"}"#;
    alice.emit_binary("private-message", attached, &[b"\0bytes"]).await;
    write_offline(&mut alice, "bob", &["two", "three"]).await;
    assert_eq!(waiting(&server, "bob").await, 4);

    let mut bob = user(&server, "bob").await;
    let first = bob.next_event("private-message").await;
    assert_eq!((&first.data["id"], &first.data["from"]), (&ack["id"], &json!("alice")));
    assert_eq!(first.data["clientId"], alice.id);
    assert_eq!(first.data["message"]["content"].to_string(), r#"{"z":1,"a":2}"#);
    assert_eq!(first.data["message"]["type"], "image");
    assert_eq!(first.data["timestamp"], sent["timestamp"], "when it was said");
    let file = bob.next_event("private-message").await;
    assert_eq!((&file.data["id"], file.attachments), (&json!("file"), vec![b"\0bytes".to_vec()]));
    assert_eq!(received(&mut bob, 2).await, ["two", "three"]);

    let ack = write(&mut alice, "bob", "live").await;
    assert_eq!((&ack["delivered"], &ack["queued"]), (&json!(true), &json!(false)));
    assert_eq!(received(&mut bob, 1).await, ["live"]);
}

#[tokio::test]
async fn what_was_not_held_long_enough_comes_again_at_once() {
    let server = with(checked).await;
    let mut alice = user(&server, "alice").await;
    write_offline(&mut alice, "bob", &["one", "two"]).await;
    for _ in 0..3 {
        let mut bob = user(&server, "bob").await;
        assert_eq!(received(&mut bob, 2).await, ["one", "two"]);
        bob.disconnect().await;
    }
    assert_eq!(waiting(&server, "bob").await, 2);
}

#[tokio::test]
async fn a_newer_connection_gets_what_an_older_one_has_not_confirmed() {
    let server = with(checked).await;
    let mut alice = user(&server, "alice").await;
    write_offline(&mut alice, "bob", &["one"]).await;
    // The server cannot know yet whether this one has lost its network.
    let mut lost = user(&server, "bob").await;
    assert_eq!(received(&mut lost, 1).await, ["one"]);
    let mut back = user(&server, "bob").await;
    assert_eq!(received(&mut back, 1).await, ["one"]);
}

#[tokio::test]
async fn a_client_that_authenticates_later_gets_the_queue_then() {
    let server = with(|config| {
        checked(config);
        config.auth_required = Some(false);
    })
    .await;
    let mut alice = user(&server, "alice").await;
    write_offline(&mut alice, "bob", &["one"]).await;
    let mut client = server.client().await;
    assert_eq!(client.all("private-message").await, Vec::<Value>::new());
    let claim = json!({"userId": "bob", "token": token_of("bob")});
    assert_eq!(client.ask("authenticate", claim).await["success"], true);
    assert_eq!(received(&mut client, 1).await, ["one"]);
}

#[tokio::test]
async fn one_sender_fills_no_store_with_invented_users() {
    let server = with(|config| {
        checked(config);
        config.auth_required = Some(false);
        config.queue_sender_limit = 30;
        config.api_keys = vec![Secret::new("backend")];
    })
    .await;
    let mut eve = user(&server, "eve").await;
    for n in 0..30 {
        write_offline(&mut eve, &format!("invented-{n}"), &["e"]).await;
    }
    assert_refused(&write(&mut eve, "invented-30", "e").await, "queue_full");
    // Another connection is the same sender; another user is not.
    assert_refused(&write(&mut user(&server, "eve").await, "bob", "e").await, "queue_full");
    let mut joe = user(&server, "joe").await;
    write_offline(&mut joe, "bob", &["j"]).await;
    // Who proves nothing is its address, however often it comes back.
    for n in 0..30 {
        write_offline(&mut server.client().await, &format!("invented-{n}"), &["a"]).await;
    }
    assert_refused(&write(&mut server.client().await, "carl", "a").await, "queue_full");
    let event = json!({"event": "news", "data": {"n": 1}, "users": ["bob", "invented-31"]});
    let sent = server.request(reqwest::Method::POST, "/events").header("x-api-key", "backend");
    let sent = Answer::of(sent.json(&event)).await.expect(201);
    assert_eq!(sent["queued"], json!(["bob", "invented-31"]), "a backend is not counted");
}

#[tokio::test]
async fn what_was_held_long_enough_is_gone() {
    let server = with(|config| {
        checked(config);
        config.queue_confirm = Duration::from_millis(50);
    })
    .await;
    let mut alice = user(&server, "alice").await;
    write_offline(&mut alice, "bob", &["one", "two"]).await;
    let mut bob = user(&server, "bob").await;
    assert_eq!(received(&mut bob, 2).await, ["one", "two"]);
    while waiting(&server, "bob").await > 0 {
        bob.settle().await;
    }
    bob.disconnect().await;
    write_offline(&mut alice, "bob", &["three"]).await;
    let mut bob = user(&server, "bob").await;
    assert_eq!(received(&mut bob, 1).await, ["three"], "and nothing before it");
}

/// Waits until what waits for the user was delivered, answered, held for long enough, and removed.
async fn confirmed(server: &TestServer, user: &str) {
    let confirmed = async {
        while waiting(server, user).await > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), confirmed).await.expect("it is never removed");
}

/// Lets another user get its queue, and hold it for long enough: whoever has it for longer has, too.
async fn hold_for_long_enough(server: &TestServer, sender: &mut TestClient) {
    write_offline(sender, "carol", &["one"]).await;
    let mut carol = user(server, "carol").await;
    assert_eq!(received(&mut carol, 1).await, ["one"]);
    let reading = tokio::spawn(async move { carol.ended_in_namespace().await });
    confirmed(server, "carol").await;
    reading.abort();
}

async fn brief(configure: impl FnOnce(&mut Config)) -> TestServer {
    with(|config| {
        checked(config);
        config.queue_confirm = Duration::from_millis(50);
        configure(config);
    })
    .await
}

#[tokio::test]
async fn what_a_client_has_not_read_is_kept() {
    // More than the kernel takes of it, and more than a page.
    let server = brief(|_| {}).await;
    let mut alice = user(&server, "alice").await;
    let (all, text) = (90, "x".repeat(20_000));
    for n in 0..all {
        let id = n.to_string();
        let private = json!({"targetUserId": "bob", "message": text, "id": id});
        assert_eq!(alice.ask("private-message", private).await["queued"], true);
    }
    let ids = (0..all).map(|n| n.to_string()).collect::<Vec<_>>();
    for connecting in [server.connecting(), server.connecting().engine_3()] {
        let deaf = connecting.query("token", &token_of("bob")).open().await;
        let Ok(mut deaf) = deaf else { panic!("refused") };
        deaf.send_frame("40").await;
        online(&server, "bob").await;
        hold_for_long_enough(&server, &mut alice).await;
        assert_eq!(waiting(&server, "bob").await, all);
        drop(deaf);
    }
    let mut bob = user(&server, "bob").await;
    assert_eq!(received(&mut bob, ids.len()).await, ids);
    let reading = tokio::spawn(async move { bob.ended_in_namespace().await });
    confirmed(&server, "bob").await;
    reading.abort();
}

#[tokio::test]
async fn what_a_client_has_not_answered_to_is_kept() {
    let server = brief(|_| {}).await;
    let mut alice = user(&server, "alice").await;
    write_offline(&mut alice, "bob", &["one", "two"]).await;
    let mut bob = user(&server, "bob").await;
    bob.fall_silent();
    assert_eq!(received(&mut bob, 2).await, ["one", "two"]);
    hold_for_long_enough(&server, &mut alice).await;
    assert_eq!(waiting(&server, "bob").await, 2);
    bob.settle().await;
    bob.speak().await;
    confirmed(&server, "bob").await;
}

#[tokio::test]
async fn an_old_client_answers_too() {
    let server = brief(|_| {}).await;
    let mut alice = user(&server, "alice").await;
    write_offline(&mut alice, "bob", &["one"]).await;
    let old = server.connecting().engine_3().query("token", &token_of("bob"));
    let mut bob = old.open().await.unwrap();
    assert_eq!(received(&mut bob, 1).await, ["one"]);
    let reading = tokio::spawn(async move { bob.ended_in_namespace().await });
    confirmed(&server, "bob").await;
    reading.abort();
}

#[tokio::test]
async fn many_messages_come_in_order_page_by_page() {
    let server = with(checked).await;
    let mut ids = Vec::new();
    for sender in 0..3 {
        let mut sender = user(&server, &format!("sender-{sender}")).await;
        for _ in 0..90 {
            let id = ids.len().to_string();
            write_offline(&mut sender, "bob", &[&id]).await;
            ids.push(id);
        }
    }
    for _ in 0..2 {
        let mut bob = user(&server, "bob").await;
        assert_eq!(received(&mut bob, ids.len()).await, ids);
        bob.disconnect().await;
    }
}

#[tokio::test]
async fn a_full_queue_takes_no_more() {
    let server = with(|config| {
        checked(config);
        config.queue_size = 20;
    })
    .await;
    let mut alice = user(&server, "alice").await;
    write_offline(&mut alice, "bob", &["1", "2"]).await;
    let mut another = user(&server, "alice").await;
    for client in [&mut alice, &mut another] {
        let ack = write(client, "bob", "3").await;
        assert_refused(&ack, "queue_full");
        assert_eq!(client.next("error").await["code"], "queue_full");
    }
    assert_eq!(alice.all("message-sent").await.len(), 2, "none for the one that was refused");
    write_offline(&mut alice, "carol", &["a tenth of each user's queue"]).await;
    for sender in 1..10 {
        let mut sender = user(&server, &format!("sender-{sender}")).await;
        write_offline(&mut sender, "bob", &["1", "2"]).await;
    }
    let mut late = user(&server, "late").await;
    assert_refused(&write(&mut late, "bob", "1").await, "queue_full");
    assert_eq!(waiting(&server, "bob").await, 20);
    let mut bob = user(&server, "bob").await;
    assert_eq!(received(&mut bob, 20).await.len(), 20);
}

#[tokio::test]
async fn without_a_queue_an_offline_user_is_not_found() {
    let open = with(|_| {}).await;
    let mut client = open.client().await;
    client.authenticate("alice").await;
    let no_queue = with(|config| {
        checked(config);
        config.queue_size = 0;
    })
    .await;
    for mut client in [client, user(&no_queue, "alice").await] {
        let ack = write(&mut client, "bob", "1").await;
        assert_refused(&ack, "not_found");
        assert_eq!(ack["message"], "Target user not found or offline");
        assert_eq!(client.all("message-sent").await, Vec::<Value>::new());
    }
}

#[tokio::test]
async fn the_queue_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let configure = |config: &mut Config| {
        checked(config);
        config.store_url = in_file(&directory);
    };
    let first = with(configure).await;
    let mut alice = user(&first, "alice").await;
    write_offline(&mut alice, "bob", &["one", "two"]).await;
    first.stop().await;
    let second = with(configure).await;
    let mut bob = user(&second, "bob").await;
    assert_eq!(received(&mut bob, 2).await, ["one", "two"]);
    second.stop().await;
}

#[tokio::test]
async fn the_queue_needs_no_history() {
    let server = with(|config| {
        checked(config);
        config.history_size = 0;
    })
    .await;
    let mut alice = user(&server, "alice").await;
    write_offline(&mut alice, "bob", &["one"]).await;
    let mut bob = user(&server, "bob").await;
    assert_eq!(received(&mut bob, 1).await, ["one"]);
}
