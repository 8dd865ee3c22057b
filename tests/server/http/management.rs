//! Connections, rooms, users and stats.

use roomcast::config::Environment;
use serde_json::{Value, json};

use crate::support::TestServer;

fn names<'a>(page: &'a Value, field: &str) -> Vec<&'a str> {
    let items = page["items"].as_array().into_iter().flatten();
    items.map(|item| item[field].as_str().unwrap_or("not a string")).collect()
}

#[tokio::test]
async fn a_connection_is_shown_as_it_is() {
    let server = TestServer::open().await;
    let mut client =
        server.connecting().namespace("/chat").auth(json!({"clientName": "Alice"})).join().await;
    client.authenticate("alice").await;
    client.join("b").await;
    client.join("a").await;
    let shown = server.get(&format!("/connections/{}", client.id)).await.expect(200);
    for time in ["connectedAt", "lastActivity"] {
        let text = shown[time].as_str().unwrap();
        assert!(text.len() == 24 && text.ends_with('Z'), "{text}");
    }
    assert_eq!(
        shown,
        json!({
            "id": client.id, "userId": "alice", "clientName": "Alice", "namespace": "/chat", "rooms": ["a", "b"],
            "transport": "websocket", "connectedAt": shown["connectedAt"], "lastActivity": shown["lastActivity"],
            "node": server.app.node,
        })
    );
    assert_eq!(
        server.get(&format!("/connections/{}?namespace=/chat", client.id)).await.expect(200)["id"],
        client.id
    );
    server.get(&format!("/connections/{}?namespace=/", client.id)).await.refusal(404);
    server.get("/connections/unknown").await.refusal(404);
    let anonymous = server.client().await;
    let shown = server.get(&format!("/connections/{}", anonymous.id)).await.expect(200);
    assert_eq!((&shown["userId"], &shown["clientName"]), (&Value::Null, &json!("anonymous")));
}

#[tokio::test]
async fn a_client_is_disconnected() {
    let server = TestServer::open().await;
    let (mut witness, client) = (server.client().await, server.client().await);
    let path = format!("/connections/{}", client.id);
    let id = client.id.clone();
    let answer = server.delete(&path).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (204, ""));
    client.ended().await;
    while witness.next("client-disconnected").await["clientId"] != id {}
    server.get(&path).await.refusal(404);
    server.delete(&path).await.refusal(404);
}

#[tokio::test]
async fn connections_are_listed_by_what_is_asked_for() {
    let server = TestServer::open().await;
    let (mut alice, mut bob, mut carol) =
        (server.client().await, server.client().await, server.client_of("/chat").await);
    alice.authenticate("alice").await;
    carol.authenticate("alice").await;
    for client in [&mut bob, &mut carol] {
        client.join("r").await;
    }
    for (query, wanted) in [
        ("", vec![&alice.id, &bob.id, &carol.id]),
        ("?namespace=/", vec![&alice.id, &bob.id]),
        ("?namespace=/chat", vec![&carol.id]),
        ("?userId=alice", vec![&alice.id, &carol.id]),
        ("?userId=alice&namespace=/", vec![&alice.id]),
        ("?room=r", vec![&bob.id]),
        ("?room=r&namespace=/chat", vec![&carol.id]),
        ("?room=r&userId=alice", vec![]),
        ("?userId=unknown", vec![]),
    ] {
        let page = server.get(&format!("/connections{query}")).await.expect(200);
        let mut wanted = wanted.into_iter().map(String::as_str).collect::<Vec<_>>();
        wanted.sort_unstable();
        assert_eq!(names(&page, "id"), wanted, "{query}");
        assert_eq!(
            (&page["total"], &page["nextCursor"]),
            (&json!(wanted.len()), &Value::Null),
            "{query}"
        );
    }
}

#[tokio::test]
async fn pages_follow_one_another_and_miss_nobody_who_stays() {
    let server = TestServer::open().await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(server.client().await);
    }
    clients.sort_by(|a, b| a.id.cmp(&b.id));
    let ids = clients.iter().map(|client| client.id.clone()).collect::<Vec<_>>();
    let first = server.get("/connections?limit=2").await.expect(200);
    assert_eq!(names(&first, "id"), ids[..2]);
    assert_eq!(first["total"], 5);
    // The page ends at the second, who leaves; the third is still next.
    let leaver = clients.remove(1);
    let id = leaver.id.clone();
    leaver.disconnect().await;
    while clients[0].next("client-disconnected").await["clientId"] != id {}
    let next = |page: &Value| {
        format!("/connections?limit=2&cursor={}", page["nextCursor"].as_str().unwrap())
    };
    let second = server.get(&next(&first)).await.expect(200);
    assert_eq!(names(&second, "id"), ids[2..4]);
    let third = server.get(&next(&second)).await.expect(200);
    assert_eq!(names(&third, "id"), ids[4..]);
    assert_eq!((&third["total"], &third["nextCursor"]), (&json!(4), &Value::Null));
}

#[tokio::test]
async fn what_a_query_asks_for_is_checked() {
    let server = TestServer::open().await;
    let limit = "limit must be an integer from 1 to 1000";
    for (path, faults) in [
        ("/connections?limit=0", json!([limit])),
        ("/connections?limit=1001", json!([limit])),
        ("/rooms?limit=ten", json!([limit])),
        ("/rooms?limit=%2B5", json!([limit])),
        ("/rooms?limit=", json!([limit])),
        (
            "/connections?limit=0&cursor=!",
            json!([limit, "cursor must be the nextCursor of the page before"]),
        ),
        (
            "/connections?userId=&room=%00",
            json!(["userId must not be empty", "room must not contain control characters"]),
        ),
        (
            "/connections?namespace=/x",
            json!(["namespace must be one of the following values: /, /chat"]),
        ),
        ("/rooms?namespace=/x", json!(["namespace must be one of the following values: /, /chat"])),
        (
            "/rooms/r/messages?after=-1&limit=1.5",
            json!(["after must be an integer from 0 to 9007199254740991", limit]),
        ),
        ("/rooms/%0A", json!(["room must not contain control characters"])),
        ("/users/%7F", json!(["userId must not contain control characters"])),
    ] {
        assert_eq!(server.get(path).await.refusal(400), faults, "{path}");
    }
    assert!(server.get("/rooms?limit=1&limit=2").await.refusal(400).is_string());
    assert!(server.get("/rooms/%FF").await.refusal(400).is_string());
    server.get("/connections?limit=1000").await.expect(200);
}

#[tokio::test]
async fn rooms_are_listed_by_namespace() {
    let server = TestServer::open().await;
    let (mut alice, mut bob, mut carol) =
        (server.client().await, server.client().await, server.client_of("/chat").await);
    alice.join("b").await;
    bob.join("b").await;
    bob.join("a/é").await;
    carol.join("c").await;
    let page = server.get("/rooms").await.expect(200);
    assert_eq!(names(&page, "name"), ["a/é", "b"]);
    assert_eq!((&page["total"], &page["nextCursor"]), (&json!(2), &Value::Null));
    let b = &page["items"][1];
    assert_eq!(
        b,
        &json!({"name": "b", "namespace": "/", "connections": 2, "createdAt": b["createdAt"], "lastActivity": b["lastActivity"]})
    );
    assert!(b["createdAt"].is_string() && b["lastActivity"].is_string());
    assert_eq!(names(&server.get("/rooms?namespace=/chat").await.expect(200), "name"), ["c"]);
    let first = server.get("/rooms?limit=1").await.expect(200);
    let next = format!("/rooms?cursor={}", first["nextCursor"].as_str().unwrap());
    assert_eq!(names(&server.get(&next).await.expect(200), "name"), ["b"]);
}

#[tokio::test]
async fn a_room_shows_its_members() {
    let server = TestServer::open().await;
    let mut client = server.connecting().auth(json!({"clientName": "Alice"})).join().await;
    client.authenticate("alice").await;
    client.join("a/é").await;
    let room = server.get("/rooms/a%2F%C3%A9").await.expect(200);
    assert_eq!(
        (&room["name"], &room["namespace"], &room["connections"]),
        (&json!("a/é"), &json!("/"), &json!(1))
    );
    assert_eq!(
        room["members"],
        json!([{"clientId": client.id, "userId": "alice", "clientName": "Alice"}])
    );
    assert!(room.get("offset").is_some() && room.get("epoch").is_some());
    server.get("/rooms/a%2F%C3%A9?namespace=/chat").await.refusal(404);
    let ack = client.ask("leave-room", json!({"roomName": "a/é"})).await;
    assert_eq!(ack["success"], true);
    server.get("/rooms/a%2F%C3%A9").await.refusal(404);
}

#[tokio::test]
async fn a_rooms_history_is_paged_also_when_nobody_is_in_it() {
    let server = TestServer::open().await;
    for n in 1..=3 {
        let body =
            json!({"event": "news", "data": {"id": format!("m{n}"), "n": n}, "rooms": ["r"]});
        server.post("/events", &body).await.expect(201);
    }
    let page = server.get("/rooms/r/messages?after=1&limit=1").await.expect(200);
    let item = &page["items"][0];
    assert_eq!(
        page["items"],
        json!([{
            "offset": 2, "id": "m2", "event": "news", "data": {"id": "m2", "n": 2},
            "timestamp": item["timestamp"], "receipts": [],
        }])
    );
    assert_eq!((&page["offset"], &page["complete"]), (&json!(3), &json!(false)));
    let rest = server.get("/rooms/r/messages?after=2").await.expect(200);
    assert_eq!((&rest["items"][0]["offset"], &rest["complete"]), (&json!(3), &json!(true)));
    assert_eq!(rest["epoch"], page["epoch"]);
    let room = server.get("/rooms/r").await.expect(200);
    assert_eq!(
        (&room["connections"], &room["members"], &room["offset"]),
        (&json!(0), &json!([]), &json!(3))
    );
    assert_eq!((&room["epoch"], &room["createdAt"]), (&page["epoch"], &Value::Null));
    assert_eq!(server.get("/rooms").await.expect(200)["total"], 0);
}

#[tokio::test]
async fn receipts_stand_with_the_message() {
    let server = TestServer::open().await;
    let mut client = server.client().await;
    client.authenticate("alice").await;
    client.join("r").await;
    let ack = client.ask("message", json!({"id": "m1", "roomName": "r"})).await;
    assert_eq!(ack["success"], true);
    let ack = client.ask("readReceipt", json!({"messageId": "m1", "roomId": "r"})).await;
    assert_eq!(ack["recorded"], true);
    let page = server.get("/rooms/r/messages").await.expect(200);
    let receipts = &page["items"][0]["receipts"];
    assert_eq!(receipts, &json!([{"userId": "alice", "timestamp": receipts[0]["timestamp"]}]));
    assert!(receipts[0]["timestamp"].is_string());
}

#[tokio::test]
async fn without_history_a_room_has_none() {
    let server = TestServer::with(|config| {
        config.environment = Environment::Development;
        config.history_size = 0;
    })
    .await;
    let sent = server
        .post("/events", &json!({"event": "news", "data": {}, "rooms": ["r"]}))
        .await
        .expect(201);
    assert_eq!(sent["offsets"], json!({}));
    let page = server.get("/rooms/r/messages").await.expect(200);
    assert_eq!(page, json!({"items": [], "offset": 0, "epoch": null, "complete": true}));
    server.get("/rooms/r").await.refusal(404);
}

#[tokio::test]
async fn a_room_without_messages_has_an_empty_history() {
    let server = TestServer::open().await;
    let page = server.get("/rooms/nobody-was-here/messages?after=0&limit=10").await.expect(200);
    assert_eq!(
        (&page["items"], &page["complete"], &page["offset"]),
        (&json!([]), &json!(true), &json!(0))
    );
    assert!(page.get("epoch").is_some());
}

#[tokio::test]
async fn a_users_presence_is_shown() {
    let server = TestServer::with(|config| {
        config.environment = Environment::Development;
        config.presence_grace = std::time::Duration::ZERO;
    })
    .await;
    let unknown = server.get("/users/alice").await.expect(200);
    assert_eq!(
        unknown,
        json!({"userId": "alice", "online": false, "status": "offline", "lastActive": null, "connections": [], "queued": 0})
    );
    let (mut client, mut witness) = (server.client().await, server.client().await);
    client.authenticate("alice").await;
    let ack = client.ask("presenceUpdate", json!({"status": "busy"})).await;
    assert_eq!(ack["success"], true);
    let busy = server.get("/users/alice").await.expect(200);
    assert_eq!((&busy["online"], &busy["status"]), (&json!(true), &json!("busy")));
    assert_eq!(busy["connections"], json!([client.id]));
    client.disconnect().await;
    witness.next("user-offline").await;
    let gone = server.get("/users/alice").await.expect(200);
    assert_eq!(
        (&gone["online"], &gone["status"], &gone["connections"]),
        (&json!(false), &json!("offline"), &json!([]))
    );
    assert!(gone["lastActive"].is_string());
}

#[tokio::test]
async fn stats_count_over_all_namespaces() {
    let server = TestServer::open().await;
    let (mut root, mut chat) = (server.client().await, server.client_of("/chat").await);
    root.authenticate("alice").await;
    chat.authenticate("alice").await;
    root.join("r").await;
    chat.join("r").await;
    let stats = server.get("/stats").await.expect(200);
    assert!(stats["uptimeSeconds"].as_u64().is_some());
    assert_eq!(
        stats,
        json!({
            "connections": 2, "rooms": 2, "users": 1, "nodes": 1,
            "uptimeSeconds": stats["uptimeSeconds"], "version": env!("CARGO_PKG_VERSION"),
        })
    );
}
