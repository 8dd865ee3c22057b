//! Users: who a client is, who is there, and private messages.

use std::time::Duration;

use roomcast::config::PresenceScope;
use serde_json::{Value, json};

use crate::support::{TestClient, TestServer, fields, timeless};

const NOTHING: [&str; 0] = [];

async fn with_grace(milliseconds: u64) -> TestServer {
    TestServer::with(|config| config.presence_grace = Duration::from_millis(milliseconds)).await
}

async fn quiet_client(server: &TestServer) -> TestClient {
    let mut client = server.client().await;
    client.forget().await;
    client
}

#[tokio::test]
async fn a_client_says_who_it_is_and_others_hear_that_the_user_is_there() {
    let server = TestServer::start().await;
    for (claim, user) in [
        (json!({"userId": "alice", "token": "unused"}), "alice"),
        (json!("bob"), "bob"),
        (json!(42), "42"),
        (json!({"userId": 43}), "43"),
    ] {
        let mut other = quiet_client(&server).await;
        let mut client = quiet_client(&server).await;
        other.forget().await;
        let ack = client.ask("authenticate", claim).await;
        assert_eq!(ack, json!({"success": true, "message": "Successfully authenticated"}));
        let [event] = client.everything().await.try_into().unwrap();
        let told =
            json!({"success": true, "userId": user, "message": "Successfully authenticated"});
        assert_eq!((event.name.as_str(), timeless(event.data)), ("authenticated", told));
        let [event] = other.everything().await.try_into().unwrap();
        assert_eq!(
            (event.name.as_str(), timeless(event.data)),
            ("user-online", json!({"userId": user}))
        );
        // Once more changes nothing for others.
        client.ask("authenticate", json!(user)).await;
        assert_eq!(client.names().await, ["authenticated"]);
        assert_eq!(other.names().await, NOTHING);
    }
    let mut client = server.client().await;
    for wrong in [
        json!(null),
        json!({}),
        json!(""),
        json!({"userId": {}}),
        json!(true),
        json!({"userId": "a\nb"}),
    ] {
        assert_eq!(
            client.ask("authenticate", wrong.clone()).await["code"],
            "invalid_payload",
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn several_clients_of_a_user_count_once_in_all_namespaces() {
    let server = with_grace(0).await;
    let mut observer = server.client().await;
    let mut first = server.client().await;
    let mut second = server.client_of("/chat").await;
    first.authenticate("alice").await;
    observer.next("user-online").await;
    second.authenticate("alice").await;
    assert_eq!(observer.all("user-online").await, Vec::<Value>::new());
    assert_eq!(first.all("user-online").await, Vec::<Value>::new());

    first.disconnect().await;
    observer.next("client-disconnected").await;
    let ack =
        observer.ask("private-message", json!({"target": "alice", "message": "there?"})).await;
    assert_eq!(ack["delivered"], true);
    assert_eq!(observer.all("user-offline").await, Vec::<Value>::new());
    second.disconnect().await;
    let offline = timeless(observer.next("user-offline").await);
    assert_eq!(offline, json!({"userId": "alice"}));
}

#[tokio::test]
async fn the_other_namespace_of_a_connection_hears_of_it_too() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.send_frame("40/chat,{}").await;
    client.turn_to("/chat");
    client.next_event("connected").await;
    client.authenticate("alice").await;
    let online = client.next_event("user-online").await;
    assert_eq!(online.namespace, "/");
}

#[tokio::test]
async fn a_user_is_offline_when_its_grace_is_over() {
    let server = with_grace(50).await;
    let mut observer = quiet_client(&server).await;
    let mut client = server.client().await;
    client.authenticate("alice").await;
    client.ask("presenceUpdate", json!({"status": "busy"})).await;
    observer.forget().await;
    client.disconnect().await;
    observer.next("user-offline").await;
    let shown = server.presence("alice").await;
    assert!(shown["online"] == false && shown["lastActive"].is_string(), "{shown}");
    let update = observer.next("presenceUpdate").await;
    assert_eq!(fields(&update), ["lastActive", "status", "userId"]);
    assert_eq!((&update["userId"], &update["status"]), (&json!("alice"), &json!("offline")));
    assert_eq!(observer.names().await, ["client-disconnected"]);

    // The next one is online anew, and no longer busy.
    let mut client = server.client().await;
    client.authenticate("alice").await;
    observer.next("user-online").await;
    assert_eq!(server.presence("alice").await["status"], "online");
}

#[tokio::test]
async fn the_offline_events_come_in_their_order() {
    let server = with_grace(0).await;
    let mut observer = quiet_client(&server).await;
    let mut client = server.client().await;
    client.authenticate("alice").await;
    observer.forget().await;
    client.disconnect().await;
    let events = observer.until("user-offline").await;
    let names: Vec<_> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["client-disconnected", "presenceUpdate", "user-offline"]);
}

#[tokio::test]
async fn a_reconnection_within_the_grace_is_no_news() {
    // Long enough for the reconnection, and over at the end of the test.
    let server = with_grace(700).await;
    let mut observer = quiet_client(&server).await;
    let mut client = server.client().await;
    client.authenticate("alice").await;
    client.ask("presenceUpdate", json!({"status": "away"})).await;
    client.disconnect().await;
    observer.next("client-disconnected").await;
    let mut again = server.client().await;
    again.authenticate("alice").await;
    let mut brief = server.client().await;
    observer.forget().await;

    // A later grace outlasts the first one: had that gone on, its end would have been told by now.
    brief.authenticate("bob").await;
    observer.next("user-online").await;
    brief.disconnect().await;
    assert_eq!(observer.next("user-offline").await["userId"], "bob");
    let updates = observer.all("presenceUpdate").await;
    assert_eq!(updates.iter().map(|update| &update["userId"]).collect::<Vec<_>>(), ["bob"]);
    assert_eq!(observer.all("user-online").await, Vec::<Value>::new());
    assert_eq!(server.presence("alice").await["status"], "away");
}

#[tokio::test]
async fn a_client_that_becomes_somebody_else_leaves_its_former_user() {
    let server = with_grace(0).await;
    let mut observer = quiet_client(&server).await;
    let mut client = quiet_client(&server).await;
    client.authenticate("alice").await;
    observer.next("user-online").await;
    client.authenticate("bob").await;
    assert_eq!(observer.next("user-online").await["userId"], "bob");
    assert_eq!(observer.next("user-offline").await["userId"], "alice");
    let ack = observer.ask("private-message", json!({"target": "alice", "message": 1})).await;
    assert_eq!(ack["code"], "not_found");
    assert_eq!(server.count_users().await, 1);
}

#[tokio::test]
async fn everyone_hears_what_a_user_says_of_itself() {
    let server = TestServer::start().await;
    let mut elsewhere = server.client_of("/chat").await;
    let mut client = server.client().await;
    client.authenticate("alice").await;
    elsewhere.forget().await;
    client.forget().await;
    for status in ["away", "busy", "offline", "online"] {
        // What the payload claims besides counts for nothing.
        let update = json!({"status": status, "userId": "eve", "lastActive": 0});
        assert_eq!(client.ask("presenceUpdate", update).await, json!({"success": true}));
        for client in [&mut client, &mut elsewhere] {
            let mut update = client.next("presenceUpdate").await;
            let last_active = update.as_object_mut().unwrap().remove("lastActive").unwrap();
            timeless(json!({"timestamp": last_active}));
            assert_eq!(update, json!({"userId": "alice", "status": status}));
        }
    }
    for wrong in [
        json!({"status": "Online"}),
        json!({"status": ""}),
        json!({}),
        json!("away"),
        json!({"status": 1}),
        json!({"status": {"online": null}}),
        json!({"status": ["online"]}),
        json!(null),
    ] {
        assert_eq!(
            client.ask("presenceUpdate", wrong.clone()).await["code"],
            "invalid_payload",
            "{wrong}"
        );
    }
    assert_eq!(elsewhere.names().await, NOTHING);
    let ack = elsewhere.ask("presenceUpdate", json!({"status": "away"})).await;
    assert_eq!(ack["code"], "unauthorized");
}

#[tokio::test]
async fn presence_is_told_in_shared_rooms_alone_where_it_is_so_configured() {
    let server = TestServer::with(|config| {
        config.presence_scope = PresenceScope::Rooms;
        config.presence_grace = Duration::ZERO;
    })
    .await;
    let mut friend = server.client().await;
    let mut stranger = server.client().await;
    friend.join("r").await;
    let mut client = server.client().await;
    client.join("r").await;
    client.join("s").await;
    friend.join("s").await;
    stranger.forget().await;
    friend.forget().await;
    client.authenticate("alice").await;
    client.ask("presenceUpdate", json!({"status": "away"})).await;
    // One who shares two rooms hears it once.
    assert_eq!(friend.names().await, ["user-online", "presenceUpdate"]);
    assert_eq!(client.all("presenceUpdate").await.len(), 1);
    client.disconnect().await;
    friend.next("user-offline").await;
    assert_eq!(friend.all("presenceUpdate").await.len(), 1);
    assert_eq!(stranger.names().await, ["client-disconnected"]);

    // Without a room a user is heard by its own clients only.
    let mut one = server.client().await;
    let mut two = server.client_of("/chat").await;
    for client in [&mut one, &mut two] {
        client.authenticate("bob").await;
        client.forget().await;
    }
    stranger.forget().await;
    one.ask("presenceUpdate", json!({"status": "busy"})).await;
    assert_eq!(one.names().await, ["presenceUpdate"]);
    assert_eq!(two.names().await, ["presenceUpdate"]);
    assert_eq!(stranger.names().await, NOTHING);
}

#[tokio::test]
async fn presence_can_be_turned_off() {
    let server = TestServer::with(|config| {
        config.presence_scope = PresenceScope::Off;
        config.presence_grace = Duration::ZERO;
    })
    .await;
    let mut observer = quiet_client(&server).await;
    let mut client = quiet_client(&server).await;
    observer.forget().await;
    client.authenticate("alice").await;
    let ack = client.ask("presenceUpdate", json!({"status": "away"})).await;
    assert_eq!(ack, json!({"success": true}));
    client.disconnect().await;
    observer.next("client-disconnected").await;
    server.emptied(&mut observer).await;
    assert_eq!(observer.names().await, NOTHING);
}

#[tokio::test]
async fn in_a_crowded_namespace_presence_goes_to_those_who_share_a_room() {
    let server = TestServer::one_node(|config| config.announce_max = 2).await;
    let mut friend = server.client().await;
    let mut stranger = server.client().await;
    let mut client = server.client().await;
    friend.join("r").await;
    client.join("r").await;
    friend.forget().await;
    stranger.forget().await;
    client.authenticate("alice").await;
    assert_eq!(friend.names().await, ["user-online"]);
    assert_eq!(stranger.names().await, NOTHING);
}

#[tokio::test]
async fn a_private_message_reaches_every_client_of_the_user() {
    let server = TestServer::start().await;
    let mut one = server.client().await;
    let mut two = server.client_of("/chat").await;
    let mut sender = server.client().await;
    for client in [&mut one, &mut two] {
        client.authenticate("42").await;
        client.forget().await;
    }
    sender.forget().await;
    let kinds = [
        (json!(null), "text"),
        (json!("image"), "image"),
        (json!("file"), "file"),
        (json!("notification"), "notification"),
        (json!("text"), "text"),
    ];
    for (key, target) in
        [("targetUserId", json!("42")), ("target", json!("42")), ("target", json!(42))]
    {
        for (given, kind) in &kinds {
            // What the payload claims of its sender and time counts for nothing.
            let payload = json!({
                key: target, "message": {"a": [1.0]}, "messageType": given, "from": "eve",
                "userId": "eve", "clientId": "eve", "timestamp": 0, "sender": "eve",
            });
            let ack = sender.ask("private-message", payload).await;
            let id = ack["id"].clone();
            assert_eq!(id.as_str().unwrap().len(), 36);
            assert_eq!(fields(&ack), ["delivered", "id", "message", "queued", "success"]);
            assert_eq!(
                (&ack["success"], &ack["delivered"], &ack["queued"]),
                (&json!(true), &json!(true), &json!(false))
            );
            let sent = json!({"target": target, "id": id, "delivered": true, "queued": false});
            assert_eq!(timeless(sender.next("message-sent").await), sent);
            for client in [&mut one, &mut two] {
                let mut got = timeless(client.next("private-message").await);
                got["message"] = timeless(got["message"].take());
                let content = json!({"content": {"a": [1.0]}, "type": kind});
                assert_eq!(
                    got,
                    json!({"id": id, "from": null, "clientId": sender.id, "message": content})
                );
            }
        }
    }
    sender.authenticate("alice").await;
    sender.ask("private-message", json!({"target": 42, "message": 0, "id": "mine"})).await;
    let got = one.next("private-message").await;
    assert_eq!(
        (&got["from"], &got["id"], &got["message"]["content"]),
        (&json!("alice"), &json!("mine"), &json!(0))
    );
    // The sender's own other clients hear it only where they are the target's.
    sender.ask("private-message", json!({"target": "alice", "message": "note"})).await;
    assert_eq!(sender.next("private-message").await["from"], "alice");
    assert_eq!(sender.all("private-message").await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_private_message_needs_a_target_that_is_there() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.forget().await;
    let ack = client.ask("private-message", json!({"target": "nobody", "message": "x"})).await;
    let message = "Target user not found or offline";
    assert_eq!(ack, json!({"success": false, "message": message, "code": "not_found"}));
    let error = json!({"message": message, "code": "not_found", "event": "private-message"});
    assert_eq!(client.next("error").await, error);
    for wrong in [
        json!({"message": "x"}),
        json!({"target": "a"}),
        json!({"target": "a", "message": null}),
        json!("x"),
        json!({"target": "", "message": "x"}),
        json!({"target": {}, "message": "x"}),
        json!({"target": "a", "message": "x", "messageType": "video"}),
        json!({"target": "a", "message": "x", "messageType": 1}),
    ] {
        assert_eq!(
            client.ask("private-message", wrong.clone()).await["code"],
            "invalid_payload",
            "{wrong}"
        );
    }
    assert!(client.names().await.iter().all(|name| name == "error"));
    // `targetUserId` counts before `target`.
    client.authenticate("alice").await;
    let both = json!({"target": "nobody", "targetUserId": "alice", "message": "x"});
    assert_eq!(client.ask("private-message", both).await["delivered"], true);
}
