//! What is told, and in which order.

use std::time::Duration;

use roomcast::config::{Config, PresenceScope, Secret};
use serde_json::{Value, json};

use super::receiver::{Received, Receiver};
use crate::support::{SECRET, token_of};

fn kinds(received: &[Received]) -> Vec<&str> {
    received.iter().map(Received::kind).collect()
}

/// With authentication, and without a grace.
fn with_users(config: &mut Config) {
    config.jwt_secret = Some(Secret::new(SECRET));
    config.presence_scope = PresenceScope::Off;
    config.presence_grace = Duration::ZERO;
}

#[tokio::test]
async fn everything_that_happens_is_told_in_the_order_of_its_room_and_of_its_user() {
    let mut receiver = Receiver::start().await;
    let server = receiver.server(with_users).await;
    let started = receiver.next().await;
    assert_eq!(
        (started.kind(), &started.data()["node"]),
        ("node.started", &json!(server.app.node))
    );

    let as_ann =
        || server.connecting().auth(json!({"token": token_of("ann"), "clientName": "Ann"}));
    let mut ann = as_ann().join().await;
    ann.join("r").await;
    let sent = json!({"roomName": "r", "id": "m1", "text": "hi", "offset": "mine"});
    assert_eq!(ann.ask("message", sent).await["offset"], 1);
    let private = json!({"targetUserId": "bob", "message": "later", "id": "p1"});
    assert_eq!(ann.ask("private-message", private).await["queued"], true);
    let id = ann.id.clone();
    ann.disconnect().await;

    let told = receiver.until(|received| received.kind() == "room.vacated").await;
    let room = &told["r of \"/\""];
    assert_eq!(
        kinds(room),
        ["room.occupied", "room.joined", "message.created", "room.left", "room.vacated"]
    );
    for received in [&room[0], &room[4]] {
        assert_eq!(*received.data(), json!({"room": "r", "namespace": "/"}));
    }
    let member = json!({"room": "r", "namespace": "/", "clientId": id, "userId": "ann"});
    assert_eq!((room[1].data(), room[3].data()), (&member, &member));
    let message = room[2].data();
    let epoch = message["epoch"].as_str().unwrap();
    assert_eq!(
        *message,
        json!({
            "room": "r", "namespace": "/", "offset": 1, "epoch": epoch, "id": "m1", "event": "message-reply",
            "data": {"roomName": "r", "id": "m1", "text": "hi", "offset": 1}, "userId": "ann", "clientId": id,
        })
    );
    let user = &told["ann"];
    assert_eq!(
        kinds(user),
        ["client.connected", "user.online", "client.disconnected", "user.offline"]
    );
    let client = json!({
        "clientId": id, "userId": "ann", "clientName": "Ann", "namespace": "/", "node": server.app.node,
    });
    assert_eq!(*user[0].data(), client);
    let mut gone = user[2].data().clone();
    assert!(gone["reason"].as_str().unwrap().contains("disconnect"), "{gone}");
    gone.as_object_mut().unwrap().remove("reason");
    assert_eq!(gone, client);
    assert_eq!(
        (user[1].data(), user[3].data()),
        (&json!({"userId": "ann"}), &json!({"userId": "ann"}))
    );
    let queued = told["bob"][0].data();
    assert_eq!(
        (told["bob"].len(), &queued["id"], &queued["userId"]),
        (1, &json!("p1"), &json!("bob"))
    );
    assert_eq!(
        (&queued["event"], &queued["data"]["message"]["content"]),
        (&json!("private-message"), &json!("later"))
    );
    let mut ids = told.values().flatten().map(|received| &received.id).collect::<Vec<_>>();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "two webhooks have one id");
}

#[tokio::test]
async fn who_comes_back_in_time_has_not_been_away() {
    let mut receiver = Receiver::start().await;
    let server = receiver
        .server(|config| {
            with_users(config);
            config.presence_grace = Duration::from_mins(1);
        })
        .await;
    let connecting = || server.connecting().auth(json!({"token": token_of("ann")}));
    for _ in 0..2 {
        let mut ann = connecting().join().await;
        ann.join("r").await;
        ann.disconnect().await;
    }
    let (mut lefts, mut ends) = (0, 0);
    let told = receiver.until(|received| {
        lefts += usize::from(received.kind() == "room.left");
        ends += usize::from(received.kind() == "client.disconnected");
        (lefts, ends) == (2, 2)
    });
    let told = told.await;
    let room = kinds(&told["r of \"/\""]);
    assert_eq!(room, ["room.occupied", "room.joined", "room.left", "room.joined", "room.left"]);
    let online = kinds(&told["ann"]);
    assert_eq!(online.iter().filter(|kind| kind.starts_with("user.")).count(), 1, "{online:?}");
}

#[tokio::test]
async fn only_what_is_wanted_is_told_with_both_signatures() {
    let mut receiver = Receiver::start().await;
    let server = receiver
        .server(|config| {
            config.webhook_events = ["message.*", "room.joined"].into_iter().collect();
            config.webhook_rooms = ["public-*"].into_iter().collect();
            let both = super::receiver::secret();
            let keys = [b"a newer secret".to_vec()].into_iter();
            config.webhook_secret = keys.chain(both.expose().map(<[u8]>::to_vec)).collect();
        })
        .await;
    let mut client = server.client().await;
    for room in ["private", "public-1"] {
        client.join(room).await;
        client.ask("message", json!({"roomName": room, "id": room})).await;
    }
    let first = receiver.next().await;
    let second = receiver.next().await;
    assert_eq!((first.kind(), second.kind()), ("room.joined", "message.created"));
    assert_eq!(second.data()["room"], "public-1");
    assert_eq!(second.data()["userId"], Value::Null);
    assert_eq!(second.signature.split(' ').count(), 2, "{}", second.signature);
    client.disconnect().await;
    server.stop().await;
    assert!(receiver.rest().is_empty());
}

#[tokio::test]
async fn binary_data_and_messages_of_backends_are_told_as_plain_json() {
    let mut receiver = Receiver::start().await;
    let server = receiver
        .server(|config| config.environment = roomcast::config::Environment::Development)
        .await;
    let mut client = server.client().await;
    let hole = r#"{"roomName":"r","id":"1","b":{"_placeholder":true,"num":0}}"#;
    client.ask_binary_later("message", hole, &[b"x"]).await;
    let told = receiver.next_of("message.created").await;
    assert_eq!(told.data()["data"]["b"], json!({"$binary": "eA=="}));
    let event = json!({"event": "news", "data": {"id": "2"}, "rooms": ["r"]});
    server.post("/events", &event).await.expect(201);
    let told = receiver.next_of("message.created").await;
    let data = told.data();
    assert_eq!((&data["event"], &data["offset"]), (&json!("news"), &json!(2)));
    assert_eq!((&data["userId"], &data["clientId"]), (&Value::Null, &Value::Null));
    assert_eq!(data["data"], json!({"id": "2", "offset": 2}));
}

#[tokio::test]
async fn without_history_messages_are_told_without_an_offset() {
    let mut receiver = Receiver::start().await;
    let server = receiver
        .server(|config| {
            config.history_size = 0;
            config.queue_size = 0;
        })
        .await;
    let mut client = server.client().await;
    client.ask("message", json!({"roomName": "r", "id": "1"})).await;
    let told = receiver.next_of("message.created").await;
    let data = told.data();
    assert_eq!((&data["offset"], &data["epoch"]), (&Value::Null, &Value::Null));
    assert_eq!(data["data"], json!({"roomName": "r", "id": "1"}));
}

#[tokio::test]
async fn a_clean_stop_is_told_by_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("roomcast.db");
    let mut receiver = Receiver::start().await;
    let configure = |config: &mut Config| {
        with_users(config);
        config.store_url = roomcast::config::StoreUrl::Sqlite(path.clone());
        config.shutdown_grace = Duration::from_secs(1);
    };
    let server = receiver.server(configure).await;
    let mut ann = server.connecting().auth(json!({"token": token_of("ann")})).join().await;
    ann.join("r").await;
    receiver.next_of("room.joined").await;
    server.until(|metrics| metrics.contains("roomcast_webhooks_pending 0")).await;
    receiver.rest();
    server.stop().await;
    let server = receiver.server(configure).await;
    let told = receiver.until(|received| received.kind() == "room.vacated").await;
    assert_eq!(kinds(&told["r of \"/\""]), ["room.left", "room.vacated"]);
    let user = kinds(&told["ann"]);
    assert_eq!(user, ["client.disconnected", "user.offline"]);
    let gone = &told["ann"][0];
    assert_eq!(gone.data()["reason"], "server shutting down");
    let nodes = kinds(&told[""]);
    assert_eq!(nodes, ["node.started"], "a node that has stopped in order is not lost");
    server.stop().await;
}
