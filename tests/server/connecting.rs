//! Connecting: the welcome, announcements, names, namespaces, and connections that end at once.

use serde_json::{Value, json};

use crate::support::{TestClient, TestServer, timeless};

#[tokio::test]
async fn a_client_is_welcomed_and_announced_to_all_itself_included() {
    let server = TestServer::start().await;
    let mut first = server.client().await;
    assert_eq!(first.next("client-connected").await["clientId"], first.id);

    let mut second = server.connecting().auth(json!({"clientName": "Bo"})).knock().await.unwrap();
    let welcome = timeless(second.next("connected").await);
    let id = second.id.clone();
    assert_eq!(
        welcome,
        json!({"message": "Connected to WebSocket server", "connectionId": id, "clientId": id})
    );
    let announced = json!({"clientId": id, "clientName": "Bo", "message": "Client connected"});
    assert_eq!(second.next("client-connected").await, announced);
    assert_eq!(first.next("client-connected").await, announced);

    second.disconnect().await;
    let gone = json!({"clientId": id, "clientName": "Bo", "message": "Client disconnected"});
    assert_eq!(first.next("client-disconnected").await, gone);
}

#[tokio::test]
async fn announcements_stay_in_their_namespace() {
    let server = TestServer::start().await;
    let mut root = server.client().await;
    root.forget().await;
    let mut chat = server.client_of("/chat").await;
    assert_eq!(chat.next("client-connected").await["clientId"], chat.id);
    assert_eq!(root.names().await, Vec::<String>::new());
}

#[tokio::test]
async fn announcements_can_be_turned_off() {
    let server = TestServer::with(|config| config.announce_connections = false).await;
    let mut first = server.client().await;
    let mut second = server.client().await;
    second.join("r").await;
    first.join("r").await;
    second.disconnect().await;
    first.next("user-left").await;
    assert_eq!(first.names().await, ["room-joined"]);
}

#[tokio::test]
async fn announcements_pause_above_their_maximum() {
    let server = TestServer::with(|config| config.announce_max = 2).await;
    let mut first = server.client().await;
    let second = server.client().await;
    let third = server.client().await;
    let heard = first.all("client-connected").await;
    let heard: Vec<_> = heard.iter().map(|event| event["clientId"].as_str().unwrap()).collect();
    assert_eq!(heard, [first.id.as_str(), &second.id]);
    // The namespace is no longer crowded once it has gone.
    let id = third.id.clone();
    third.disconnect().await;
    assert_eq!(first.next("client-disconnected").await["clientId"], id);
}

#[tokio::test]
async fn a_name_is_taken_from_the_first_place_that_has_one() {
    let server = TestServer::start().await;
    let name = async |connecting: crate::support::Connecting| {
        connecting.join().await.next("client-connected").await["clientName"].clone()
    };
    let header = || server.connecting().header("x-client-name", "header");
    let query = || header().query("clientName", "query%20%C3%A9");
    assert_eq!(name(query().auth(json!({"clientName": "auth"}))).await, "auth");
    assert_eq!(name(query()).await, "query é");
    assert_eq!(name(header()).await, "header");
    assert_eq!(name(server.connecting()).await, "anonymous");
    for absent in [json!(""), json!(null), json!({"a": 1})] {
        assert_eq!(name(query().auth(json!({"clientName": absent}))).await, "query é");
    }
    let long = "é".repeat(250);
    assert_eq!(name(server.connecting().auth(json!({"clientName": long}))).await, "é".repeat(200));
}

#[tokio::test]
async fn an_unknown_namespace_is_refused_and_a_known_one_still_open() {
    let server = TestServer::start().await;
    let refused = server.connecting().namespace("/nowhere").knock().await.err().unwrap();
    assert_eq!(refused, "Invalid namespace");

    let mut client = server.client().await;
    client.send_frame("40/nowhere,{}").await;
    let refused = client.next_event("connect_error").await;
    assert_eq!(
        (refused.namespace.as_str(), &refused.data["message"]),
        ("/nowhere", &json!("Invalid namespace"))
    );
    client.settle().await;
}

#[tokio::test]
async fn configured_namespaces_are_open() {
    let server =
        TestServer::with(|config| config.namespaces = vec!["/".into(), "/game".into()]).await;
    server.client_of("/game").await.join("r").await;
    let refused = server.connecting().namespace("/chat").knock().await.err().unwrap();
    assert_eq!(refused, "Invalid namespace");
}

#[tokio::test]
async fn one_connection_may_be_in_two_namespaces() {
    let server = TestServer::start().await;
    let mut other = server.client_of("/chat").await;
    other.join("r").await;
    let mut client = server.client().await;
    client.forget().await;
    client.send_frame("40/chat,{\"clientName\":\"Two\"}").await;
    client.turn_to("/chat");
    let welcome = client.next_event("connected").await;
    assert_eq!(welcome.namespace, "/chat");
    client.join("r").await;
    assert_eq!(other.next("user-joined").await["clientName"], "Two");

    // Rooms belong to their namespace, although they have the same name.
    client.turn_to("/");
    client.join("r").await;
    client.forget().await;
    assert_eq!(other.all("user-joined").await, Vec::<Value>::new());
    let ack = other.ask("message", json!({"roomName": "r", "x": 1})).await;
    assert_eq!(ack["success"], true);
    let got = client.next_event("message-reply").await;
    assert_eq!(got.namespace, "/chat");
    assert_eq!(client.names().await, Vec::<String>::new());

    // Leaving one namespace leaves the other alone.
    client.send_frame("41/chat,").await;
    assert_eq!(other.next("user-left").await["clientName"], "Two");
    let ack = client.ask("message", json!({"roomName": "r", "omitSender": false})).await;
    assert_eq!(ack["success"], true);
    assert_eq!(client.next_event("message-reply").await.namespace, "/");
}

#[tokio::test]
async fn events_sent_as_soon_as_the_connection_stands_are_processed() {
    let server = TestServer::start().await;
    for round in 0..20 {
        // `knock` returns with the CONNECT packet, before the welcome.
        let mut client = server.connecting().knock().await.unwrap();
        let room = format!("room-{round}");
        let join = client.ask_later("join-room", json!(room)).await.unwrap();
        let message =
            client.ask_later("message", json!({"room": room, "omitSender": false})).await.unwrap();
        assert_eq!(client.ack(join).await["success"], true);
        assert_eq!(client.ack(message).await["roomName"], room);
        let names = client.names().await;
        let expected = ["connected", "client-connected", "room-joined", "message-reply"];
        let names: Vec<_> = names.iter().filter(|name| expected.contains(&name.as_str())).collect();
        assert_eq!(names[..2], ["connected", "client-connected"]);
        assert!(
            names.ends_with(&[&"room-joined".to_owned(), &"message-reply".to_owned()]),
            "{names:?}"
        );
    }
}

#[tokio::test]
async fn a_connection_that_ends_at_once_leaves_no_ghost() {
    let server = TestServer::with(|config| config.presence_grace = std::time::Duration::ZERO).await;
    let mut observer = server.client().await;
    for round in 0..60 {
        match round % 4 {
            // Before CONNECT was answered.
            0 => {
                let mut client = server.connecting().open().await.unwrap();
                client.send_frame("40{}").await;
            }
            // An event and the end right behind CONNECT.
            1 => {
                let mut client = server.connecting().open().await.unwrap();
                client.send_frame("40{}").await;
                client.send_frame(r#"42["join-room","r"]"#).await;
                client.send_frame("41").await;
            }
            // In the middle of its events.
            2 => {
                let mut client = server.connecting().knock().await.unwrap();
                client.emit("authenticate", json!("alice")).await;
                client.emit("join-room", json!("r")).await;
                client.emit("typingIndicator", json!({"room": "r", "isTyping": true})).await;
            }
            // As `socket.disconnect()` does, with events behind it.
            _ => {
                let mut client = server.connecting().knock().await.unwrap();
                client.emit("joinRoom", json!("r")).await;
                client.send_frame("41").await;
                client.emit("joinRoom", json!("s")).await;
            }
        }
    }
    server.emptied(&mut observer).await;
    observer.join("r").await;
    assert_eq!(server.app.registry.namespaces()[0].room("r").unwrap().lock().members().len(), 1);
}

#[tokio::test]
async fn engine_io_3_is_connected_to_the_root_by_itself() {
    let server = TestServer::start().await;
    let mut client =
        server.connecting().engine_3().query("clientName", "old").open().await.unwrap();
    assert_eq!(client.next_event("connect").await.namespace, "/");
    let welcome = client.next("connected").await;
    let id = welcome["clientId"].as_str().unwrap().to_owned();
    assert_eq!(client.next("client-connected").await["clientName"], "old");
    let ack = client.ask("watch-resource", json!({"resourceId": 7})).await;
    assert_eq!((&ack["clientId"], &ack["roomName"]), (&json!(id), &json!("resource:7")));

    client.send_frame("40/chat,").await;
    client.turn_to("/chat");
    assert_eq!(client.next_event("connected").await.namespace, "/chat");
    client.join("r").await;
    for id in [id.clone(), format!("/chat#{id}")] {
        let known = server.app.registry.clients(&id.parse().unwrap());
        assert_eq!(known.iter().map(|client| client.protocol).collect::<Vec<_>>(), [3], "{id}");
    }
}

#[tokio::test]
async fn who_leaves_a_namespace_and_comes_back_at_once_stays() {
    let server = TestServer::start().await;
    let mut other = server.client().await;
    other.join("r").await;
    let mut client = server.client().await;
    client.join("r").await;
    for round in 0..20 {
        // One connection, and so one id: the end of the old client meets the beginning of the new.
        client.send_frame("41").await;
        client.send_frame("40").await;
        client.next("connected").await;
        client.join("r").await;
        other.ask("message", json!({"room": "r", "round": round})).await;
        assert_eq!(client.next("message-reply").await["round"], round);
    }
}

/// A backend's message to a room.
fn message(room: &str) -> Value {
    json!({
        "id": "4d2f3c8e-9b1a-4f6e-8a57-0c2b9d6e1f34", "clientId": "backend", "clientName": "Backend",
        "roomName": room, "messageType": "text", "message": "hello",
        "timestamp": "2026-01-02T03:04:05.678Z",
    })
}

/// Connects an open connection to another namespace; what it is called there.
async fn enter(client: &mut TestClient, namespace: &str, packet: &str) -> String {
    client.turn_to(namespace);
    client.send_frame(packet).await;
    let welcome = client.next("connected").await;
    assert_eq!(welcome["connectionId"], welcome["clientId"]);
    welcome["clientId"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_connection_has_an_id_for_each_namespace() {
    let server = TestServer::open().await;
    let mut client = server.connecting().open().await.unwrap();
    let root = enter(&mut client, "/", "40").await;
    assert_eq!(client.next("connect").await["sid"], root);
    let chat = enter(&mut client, "/chat", "40/chat,").await;
    assert_eq!(client.next("connect").await["sid"], chat);
    for id in [&root, &chat] {
        let is_word = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
        assert!(id.len() == 20 && id.chars().all(is_word), "{id}");
    }
    assert_ne!(root, chat);
    let page = server.get("/connections").await.expect(200);
    let mut listed =
        page["items"].as_array().unwrap().iter().map(|item| &item["id"]).collect::<Vec<_>>();
    listed.sort_by_key(|id| **id != root);
    assert_eq!(listed, [&json!(root), &json!(chat)]);

    // Each id reaches its own client, and ends it.
    for (id, namespace) in [(&root, "/"), (&chat, "/chat")] {
        let event = json!({"event": "hello", "data": {}, "clients": [id]});
        server.post("/events", &event).await.expect(201);
        assert_eq!(client.next_event("hello").await.namespace, namespace);
        let shown = server.get(&format!("/connections/{id}")).await.expect(200);
        assert_eq!(shown["namespace"], namespace);
    }
    client.settle().await;
    assert!(client.all("hello").await.is_empty());
    client.turn_to("/");
    assert_eq!(server.delete(&format!("/connections/{chat}")).await.status, 204);
    while server.get(&format!("/connections/{chat}")).await.status != 404 {}
    assert_eq!(client.ask("ping", json!({})).await["success"], true);

    // A client that comes back is another.
    let again = enter(&mut client, "/chat", "40/chat,").await;
    assert!(again != chat && again != root, "{again}");
}

#[tokio::test]
async fn an_old_client_is_known_by_what_it_calls_itself() {
    let server = TestServer::open().await;
    for (packet, prefix) in
        [("40/chat,", "/chat#"), ("40/chat?token=x,", "/chat#"), ("40/chat", "")]
    {
        let mut client = server.connecting().engine_3().open().await.unwrap();
        let session = client.next("connected").await["clientId"].as_str().unwrap().to_owned();
        assert_eq!(session.len(), 16);
        let id = enter(&mut client, "/chat", packet).await;
        assert_eq!(id, format!("{prefix}{session}"));
        // Socket.IO 1 has one id in all namespaces.
        let is_one = id == session;
        let path = id.replace('/', "%2F").replace('#', "%23");
        let shown = server.get(&format!("/connections/{path}?namespace=/chat")).await.expect(200);
        assert_eq!((&shown["id"], &shown["namespace"]), (&json!(id), &json!("/chat")));
        client.join("r").await;
        let room = server.get("/rooms/r?namespace=/chat").await.expect(200);
        assert_eq!(room["members"][0]["clientId"], id);
        let mut body = message("r");
        server.post(&format!("/messages/{path}?eventName=hello"), &body).await.expect(201);
        let heard = [client.next_event("hello").await.namespace];
        assert!(is_one || heard == ["/chat"], "{heard:?}");
        body["clientId"] = json!(id);
        body["replyToSender"] = json!(false);
        server.post("/messages/broadcast?namespace=/chat", &body).await.expect(201);
        let event = json!({"event": "seen", "data": 1, "rooms": ["r"], "namespace": "/chat", "except": {"clients": [id]}});
        server.post("/events", &event).await.expect(201);
        client.settle().await;
        assert!(
            client.all("message-reply").await.is_empty() && client.all("seen").await.is_empty()
        );
        assert_eq!(server.delete(&format!("/connections/{path}")).await.status, 204);
        while server.get(&format!("/connections/{path}")).await.status != 404 {}
        let left = server.get(&format!("/connections/{session}")).await.status;
        assert_eq!(left, if is_one { 404 } else { 200 });
    }
}
