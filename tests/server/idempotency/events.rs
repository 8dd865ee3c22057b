//! Clients' events.

use serde_json::{Value, json};

use super::{again, assert_refused};
use crate::{
    control::World,
    support::{SECRET, TestClient, TestServer, token_of},
};
use roomcast::config::Secret;

/// Every event that may have a key: its name, its payload, and what the others get.
fn events(target: &str) -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("message", json!({"roomName": "r", "n": 1}), "message-reply"),
        ("message", json!({"roomName": "r", "id": "given", "n": 1}), "message-reply"),
        ("message", json!({"text": "to all"}), "message"),
        ("channels", json!({"resourceId": 7, "n": 2}), "resource-update"),
        ("sendMessage", json!({"roomId": "r", "content": "hi"}), "newMessage"),
        ("custom-event", json!({"event": "wave", "data": {"n": 3}, "room": "r"}), "wave"),
        ("custom-event", json!({"event": "wave", "data": {"n": 4}}), "wave"),
        ("private-message", json!({"targetUserId": target, "message": "psst"}), "private-message"),
        ("private-message", json!({"target": target, "message": 5, "id": 9}), "private-message"),
    ]
}

fn with_key(payload: &Value, key: &str) -> Value {
    let mut payload = payload.clone();
    payload["idempotencyKey"] = json!(key);
    payload
}

/// A user's two clients, and another user that is in the rooms.
async fn three(world: &World) -> [TestClient; 3] {
    let mut ann = world.connecting().join().await;
    let mut ann_again = crate::support::Connecting::to(world.first().address()).join().await;
    let mut ben = world.connecting().join().await;
    ann.authenticate("ann").await;
    ann_again.authenticate("ann").await;
    ben.authenticate("ben").await;
    ben.join("r").await;
    ben.join("resource:7").await;
    for client in [&mut ann, &mut ann_again, &mut ben] {
        client.forget().await;
    }
    [ann, ann_again, ben]
}

#[tokio::test]
async fn an_event_with_a_key_is_done_once_whichever_client_of_its_user_sends_it() {
    for world in World::both(|_| {}).await {
        let [mut ann, mut ann_again, mut ben] = three(&world).await;
        for (at, (event, payload, outgoing)) in events("ben").into_iter().enumerate() {
            let payload = with_key(&payload, &format!("key {at}"));
            let ack = ann.ask(event, payload.clone()).await;
            let wanted = again(&ack);
            let got = ben.next(outgoing).await;
            assert_eq!(got.get("idempotencyKey"), None, "{event}: {got}");
            for client in [&mut ann, &mut ann_again] {
                client.forget().await;
                assert_eq!(client.ask(event, payload.clone()).await, wanted, "{event}");
                assert_eq!(client.names().await, [""; 0], "{event}");
            }
            assert_eq!(ben.names().await, [""; 0], "{event}");
            // Another key is another one.
            let other = with_key(&payload, &format!("other {at}"));
            let ack = ann.ask(event, other).await;
            assert_eq!(ack.get("duplicate"), None, "{event}: {ack}");
            ben.next(outgoing).await;
        }
        let page = world.first().get("/rooms/r/messages").await.expect(200);
        assert_eq!(page["items"].as_array().unwrap().len(), 6, "{page}");
        assert!(!page.to_string().contains("idempotencyKey"), "{page}");
    }
}

#[tokio::test]
async fn the_key_is_taken_out_and_all_else_goes_out_to_the_letter() {
    let server = TestServer::start().await;
    let (mut ann, mut ben) = (server.client().await, server.client().await);
    ben.join("r").await;
    ben.forget().await;
    ann.ask_text("message", r#"{"roomName":"r", "b":1.0,"idempotencyKey":"k","a" : [ 1 ]}"#).await;
    let event = ben.next_event("message-reply").await;
    assert_eq!(event.text, r#"{"roomName":"r","b":1.0,"a":[ 1 ],"offset":1}"#);
    let text = r#"{"roomName":"r","idempotencyKey":"l","x":{"_placeholder":true,"num":0}}"#;
    let ack = ann.ask_binary_later("message", text, &[b"one"]).await;
    let first = ann.ack(ack).await;
    let event = ben.next_event("message-reply").await;
    assert_eq!(event.attachments, [b"one"]);
    // Attachments are content.
    let ack = ann.ask_binary_later("message", text, &[b"one"]).await;
    assert_eq!(ann.ack(ack).await, again(&first));
    let ack = ann.ask_binary_later("message", text, &[b"two"]).await;
    assert_refused(&ann.ack(ack).await, "idempotency_mismatch");
    assert_eq!(ben.names().await, [""; 0]);
}

#[tokio::test]
async fn other_content_is_a_mismatch() {
    for world in World::both(|_| {}).await {
        let [mut ann, _, mut ben] = three(&world).await;
        for (at, (event, payload, outgoing)) in events("ben").into_iter().enumerate() {
            let payload = with_key(&payload, &format!("key {at}"));
            ann.ask(event, payload.clone()).await;
            ben.next(outgoing).await;
            ann.forget().await;
            let mut other = payload.clone();
            other["more"] = json!(true);
            let ack = ann.ask(event, other).await;
            assert_refused(&ack, "idempotency_mismatch");
            let told = ann.next("error").await;
            assert_eq!((&told["code"], &told["event"]), (&ack["code"], &json!(event)), "{told}");
            let exceptions = ann.all("exception").await.len();
            assert_eq!(exceptions, usize::from(event == "sendMessage"), "{event}");
            // The first one's answer stays.
            assert_eq!(ann.ask(event, payload).await["duplicate"], true, "{event}");
        }
        assert_eq!(ben.names().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_key_counts_within_its_user_event_and_room() {
    let server = TestServer::start().await;
    let mut ann = server.client().await;
    let mut ben = server.client().await;
    ann.authenticate("ann").await;
    ben.authenticate("ben").await;
    let key = |room: &str| json!({"roomName": room, "content": "x", "idempotencyKey": "k"});
    let mut chat = server.client_of("/chat").await;
    chat.authenticate("ann").await;
    let is_new = async |client: &mut TestClient, event: &str, room: &str| {
        let ack = client.ask(event, key(room)).await;
        assert_eq!(ack["success"], true, "{ack}");
        ack.get("duplicate").is_none()
    };
    assert!(is_new(&mut ann, "message", "r").await);
    assert!(is_new(&mut ann, "message", "other").await);
    assert!(is_new(&mut ann, "channels", "r").await);
    assert!(is_new(&mut ann, "sendMessage", "r").await);
    assert!(is_new(&mut ben, "message", "r").await);
    assert!(is_new(&mut chat, "message", "r").await);
    for (client, event) in [(&mut ann, "message"), (&mut ben, "message"), (&mut chat, "message")] {
        assert!(!is_new(client, event, "r").await);
    }
}

#[tokio::test]
async fn a_client_without_a_user_is_its_own_scope() {
    let server = TestServer::start().await;
    let (mut first, mut second) = (server.client().await, server.client().await);
    let payload = json!({"roomName": "r", "idempotencyKey": "k"});
    let ack = first.ask("message", payload.clone()).await;
    assert_eq!(first.ask("message", payload.clone()).await, again(&ack));
    let ack = second.ask("message", payload).await;
    assert_eq!((&ack["offset"], ack.get("duplicate")), (&json!(2), None));
}

#[tokio::test]
async fn what_is_no_key_is_refused() {
    let server = TestServer::start().await;
    let mut ann = server.client().await;
    ann.authenticate("ann").await;
    for (event, payload, _) in events("ann") {
        for wrong in
            [json!(""), json!(7), json!(true), json!({}), json!(["k"]), json!("x".repeat(201))]
        {
            let mut payload = payload.clone();
            payload["idempotencyKey"] = wrong.clone();
            assert_refused(&ann.ask(event, payload).await, "invalid_payload");
        }
    }
    let longest = json!({"roomName": "r", "idempotencyKey": "ü".repeat(200)});
    let ack = ann.ask("message", longest.clone()).await;
    assert_eq!(ann.ask("message", longest).await, again(&ack));
    // `null` counts as absent.
    for offset in [2, 3] {
        let ack = ann.ask("message", json!({"roomName": "r", "idempotencyKey": null})).await;
        assert_eq!((&ack["offset"], ack.get("duplicate")), (&json!(offset), None));
    }
}

#[tokio::test]
async fn fifty_clients_that_send_the_same_at_once_get_the_same_answer() {
    for world in World::both(|_| {}).await {
        let mut watcher = world.connecting().join().await;
        watcher.join("r").await;
        let mut clients = Vec::new();
        for number in 0..50 {
            let node = &world.nodes[number % world.nodes.len()];
            let mut client = crate::support::Connecting::to(node.address()).join().await;
            client.authenticate("ann").await;
            clients.push(client);
        }
        let payload = json!({"roomName": "r", "n": 1, "idempotencyKey": "k"});
        let asking = clients.iter_mut().map(|client| client.ask("message", payload.clone()));
        let mut acks = futures_util::future::join_all(asking).await;
        let duplicates = acks.iter_mut().filter_map(|ack| ack.as_object_mut()?.remove("duplicate"));
        assert_eq!(duplicates.count(), 49);
        assert_eq!(acks[0]["offset"], 1);
        for ack in &acks {
            assert_eq!(ack, &acks[0]);
        }
        assert_eq!(watcher.next("message-reply").await["offset"], 1);
        assert!(watcher.all("message-reply").await.is_empty());
    }
}

#[tokio::test]
async fn private_messages_sent_at_once_reach_their_user_once() {
    for world in World::both(|_| {}).await {
        let [mut ann, mut ann_again, mut ben] = three(&world).await;
        for number in 0..20 {
            let payload = json!({"targetUserId": "ben", "message": number, "idempotencyKey": format!("{number}")});
            let (one, other) = tokio::join!(
                ann.ask("private-message", payload.clone()),
                ann_again.ask("private-message", payload)
            );
            assert_eq!(
                (&one["delivered"], &one["id"]),
                (&json!(true), &other["id"]),
                "{one}, {other}"
            );
            let duplicates = [&one, &other].into_iter().filter(|ack| ack["duplicate"] == true);
            assert_eq!(duplicates.count(), 1);
        }
        assert_eq!(ben.all("private-message").await.len(), 20);
    }
}

#[tokio::test]
async fn refusals_are_not_remembered() {
    for world in World::both(|_| {}).await {
        let mut ann = world.connecting().join().await;
        ann.authenticate("ann").await;
        let payload = json!({"targetUserId": "ben", "message": "hi", "idempotencyKey": "k"});
        for _ in 0..2 {
            assert_refused(&ann.ask("private-message", payload.clone()).await, "not_found");
        }
        let mut ben = world.connecting().join().await;
        ben.authenticate("ben").await;
        let ack = ann.ask("private-message", payload.clone()).await;
        assert_eq!(ann.ask("private-message", payload.clone()).await, again(&ack));
        assert_eq!(ben.all("private-message").await.len(), 1);
        // What was done stays done, whatever would be refused now.
        ben.disconnect().await;
        assert_eq!(ann.ask("private-message", payload).await, again(&ack));
    }
}

#[tokio::test]
async fn what_is_queued_is_queued_once() {
    for world in World::both(|config| config.jwt_secret = Some(Secret::new(SECRET))).await {
        let bearer = |user: &str| world.connecting().auth(json!({"token": token_of(user)}));
        let mut ann = bearer("ann").join().await;
        let mut ann_again = bearer("ann").join().await;
        let payload = json!({"targetUserId": "ben", "message": "hi", "idempotencyKey": "k"});
        let (one, other) = tokio::join!(
            ann.ask("private-message", payload.clone()),
            ann_again.ask("private-message", payload.clone())
        );
        assert_eq!((&one["queued"], &one["id"]), (&json!(true), &other["id"]), "{one}, {other}");
        assert_eq!([&one, &other].into_iter().filter(|ack| ack["duplicate"] == true).count(), 1);
        let mut ben = bearer("ben").join().await;
        let got = ben.next("private-message").await;
        assert_eq!(got["id"], one["id"]);
        let ack = ann.ask("private-message", payload).await;
        assert_eq!((&ack["queued"], &ack["duplicate"]), (&json!(true), &json!(true)), "{ack}");
        assert!(ben.all("private-message").await.is_empty());
    }
}

#[tokio::test]
async fn the_id_is_the_key_where_the_server_is_told_so() {
    let server = TestServer::with(|config| config.idempotency_by_id = true).await;
    let (mut ann, mut ben) = (server.client().await, server.client().await);
    ann.authenticate("ann").await;
    ben.authenticate("ben").await;
    ben.join("r").await;
    ben.join("resource:7").await;
    for (event, payload, outgoing) in events("ben") {
        let mut payload = payload.clone();
        payload["id"] = json!(format!("{event} {payload}"));
        let ack = ann.ask(event, payload.clone()).await;
        assert_eq!(ann.ask(event, payload.clone()).await, again(&ack), "{event}");
        let got = ben.next(outgoing).await;
        assert!(outgoing == "wave" || got["id"] == payload["id"], "{got}");
        assert!(ben.all(outgoing).await.is_empty(), "{event}");
        payload["more"] = json!(1);
        assert_refused(&ann.ask(event, payload.clone()).await, "idempotency_mismatch");
        // The client's own key goes before.
        payload["idempotencyKey"] = json!(format!("{event} {payload}"));
        assert_eq!(ann.ask(event, payload).await.get("duplicate"), None, "{event}");
        ben.next(outgoing).await;
    }
    // Only a string is a key, and an empty one is none.
    for id in [json!(7), json!(""), json!(null), json!({"a": 1})] {
        for _ in 0..2 {
            let ack = ann.ask("message", json!({"roomName": "r", "id": id})).await;
            assert_eq!((&ack["success"], ack.get("duplicate")), (&json!(true), None), "{id}");
            ben.next("message-reply").await;
        }
    }
}

#[tokio::test]
async fn ids_are_no_keys_by_default() {
    let server = TestServer::start().await;
    let mut ann = server.client().await;
    for offset in [1, 2] {
        let ack = ann.ask("message", json!({"roomName": "r", "id": "x"})).await;
        assert_eq!((&ack["offset"], ack.get("duplicate")), (&json!(offset), None));
    }
}

#[tokio::test]
async fn keys_count_without_history_too() {
    for world in World::both(|config| {
        config.history_size = 0;
        config.queue_size = 0;
    })
    .await
    {
        let [mut ann, mut ann_again, mut ben] = three(&world).await;
        for (at, (event, payload, outgoing)) in events("ben").into_iter().enumerate() {
            let payload = with_key(&payload, &format!("key {at}"));
            let (one, other) = tokio::join!(
                ann.ask(event, payload.clone()),
                ann_again.ask(event, payload.clone())
            );
            let first = if one.get("duplicate").is_none() { &one } else { &other };
            for ack in [ann.ask(event, payload.clone()).await, ann_again.ask(event, payload).await]
            {
                assert_eq!(ack, again(first), "{event}");
            }
            let got = ben.next(outgoing).await;
            assert_eq!((got.get("idempotencyKey"), got.get("offset")), (None, None), "{got}");
            assert!(ben.all(outgoing).await.is_empty(), "{event}");
        }
    }
}
