//! Rooms that a backend puts clients into and takes them out of, and users that it disconnects.

use serde_json::json;

use super::{World, assert_refused, with_tokens};
use crate::support::timeless;

#[tokio::test]
async fn a_user_is_put_into_rooms_and_out_of_them() {
    for world in World::both(|_| {}).await {
        let mut ann = [world.connecting().join().await, world.connecting().join().await];
        for client in &mut ann {
            client.authenticate("ann").await;
        }
        let mut ben = world.connecting().join().await;
        ben.join("a").await;
        ben.forget().await;
        let of_chat = world.connecting().namespace("/chat").join().await;

        let body = json!({"rooms": ["a", "b", "a"]});
        let done = world.first().post("/users/ann/rooms", &body).await.expect(200);
        assert_eq!(done, json!({"clients": 2}));
        for client in &mut ann {
            for room in ["a", "b"] {
                let told = timeless(client.next("room-joined").await);
                let message = format!("Successfully joined room: {room}");
                let wanted = json!({"success": true, "roomName": room, "message": message});
                assert_eq!(told, wanted);
            }
        }
        let came = [ben.next("user-joined").await, ben.next("user-joined").await];
        for moved in came {
            assert_eq!((&moved["userId"], &moved["room"]), (&json!("ann"), &json!("a")));
        }
        // What is sent once the answer is there reaches them.
        let event = json!({"event": "news", "data": {"n": 1}, "rooms": ["b"]});
        world.first().post("/events", &event).await.expect(201);
        for client in &mut ann {
            assert_eq!(client.next("news").await["n"], 1);
        }
        // Once more changes nothing, and tells nobody.
        let again = world.first().post("/users/ann/rooms", &body).await.expect(200);
        assert_eq!(again["clients"], 2);
        assert!(ann[0].all("room-joined").await.is_empty());
        assert!(ben.all("user-joined").await.is_empty());

        let path = "/users/ann/rooms?room=a&room=nowhere";
        assert_eq!(world.first().delete(path).await.expect(200), json!({"clients": 2}));
        for client in &mut ann {
            let told = timeless(client.next("room-left").await);
            let message = "Successfully left room: a";
            assert_eq!(told, json!({"success": true, "roomName": "a", "message": message}));
            assert!(client.all("room-left").await.is_empty());
        }
        assert_eq!(ben.next("user-left").await["userId"], "ann");
        let room = world.first().get("/rooms/a").await.expect(200);
        assert_eq!(room["connections"], 1);
        drop(of_chat);
    }
}

#[tokio::test]
async fn one_client_is_put_into_rooms_wherever_it_is() {
    for world in World::both(|_| {}).await {
        let mut client = world.connecting().namespace("/chat").join().await;
        let mut other = world.connecting().namespace("/chat").join().await;
        let path = format!("/connections/{}/rooms", client.id);
        let done = world.first().post(&path, &json!({"rooms": [7]})).await.expect(200);
        assert_eq!(done, json!({"clients": 1}));
        assert_eq!(client.next("room-joined").await["roomName"], "7");
        let shown = world.first().get(&format!("/connections/{}", client.id)).await.expect(200);
        assert_eq!(shown["rooms"], json!(["7"]));
        let elsewhere = json!({"rooms": ["r"], "namespace": "/"});
        world.first().post(&path, &elsewhere).await.refusal(404);
        world.first().delete(&format!("{path}?room=7&namespace=/chat")).await.expect(200);
        assert_eq!(client.next("room-left").await["roomName"], "7");
        assert!(other.all("room-joined").await.is_empty());
        world
            .first()
            .post("/connections/unknown/rooms", &json!({"rooms": ["r"]}))
            .await
            .refusal(404);
        world.first().delete("/connections/AAAAAAAAAAAAAAAA/rooms?room=r").await.refusal(404);
        let nobody = world.first().post("/users/nobody/rooms", &json!({"rooms": ["r"]})).await;
        assert_eq!(nobody.expect(200), json!({"clients": 0}));
    }
}

#[tokio::test]
async fn a_client_that_is_put_into_a_room_hears_what_comes_and_may_no_more() {
    for world in World::both(with_tokens).await {
        let claims = json!({"sub": "ann", "rooms": ["own"]});
        let mut ann = world.bearer(&claims).await;
        world.first().post("/users/ann/rooms", &json!({"rooms": ["given"]})).await.expect(200);
        ann.next("room-joined").await;
        let sent = ann.ask("message", json!({"roomName": "given", "n": 1})).await;
        assert_refused(&sent, "forbidden");
        let read = ann.ask("syncMessages", json!({"roomId": "given"})).await;
        assert_refused(&read, "forbidden");
        let event = json!({"event": "news", "data": {"n": 1}, "rooms": ["given"]});
        world.first().post("/events", &event).await.expect(201);
        assert_eq!(ann.next("news").await["n"], 1);
        // Joining a room that one is in succeeds; recovering is reading.
        assert_eq!(ann.ask("join-room", json!("given")).await["success"], true);
        let recover = ann.ask("join-room", json!({"roomName": "given", "offset": 0})).await;
        assert_refused(&recover, "forbidden");
        // A token that is renewed takes away only what a token gave.
        ann.join("own").await;
        let narrower = super::token(&json!({"sub": "ann", "rooms": []}));
        ann.ask("authenticate", json!({"userId": "ann", "token": narrower})).await;
        assert_eq!(ann.next("room-left").await["roomName"], "own");
        let shown = world.first().get(&format!("/connections/{}", ann.id)).await.expect(200);
        assert_eq!(shown["rooms"], json!(["given"]));
        ann.ask("leave-room", json!("given")).await;
        assert_refused(&ann.ask("join-room", json!("given")).await, "forbidden");
    }
}

#[tokio::test]
async fn the_clients_own_limit_holds_and_nothing_is_joined_then() {
    for world in World::both(|config| config.max_rooms_per_client = 2).await {
        let mut client = world.connecting().join().await;
        client.join("a").await;
        let path = format!("/connections/{}/rooms", client.id);
        let refusal = world.first().post(&path, &json!({"rooms": ["b", "c"]})).await.refusal(503);
        assert!(refusal.as_str().unwrap().contains("2 rooms"), "{refusal}");
        world.first().post(&path, &json!({"rooms": ["a", "b"]})).await.expect(200);
        let told = client.all("room-joined").await;
        let rooms = told.iter().map(|told| told["roomName"].as_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(rooms, ["a", "b"], "a by itself, b by the backend");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told_at_once() {
    let world = World::of(1, &|_| {}).await;
    let server = world.first();
    let long = "x".repeat(201);
    for (body, faults) in [
        (json!({}), json!(["rooms must be an array"])),
        (json!({"rooms": []}), json!(["rooms should not be empty"])),
        (
            json!({"rooms": ["", long, true], "room": "r", "namespace": "/nowhere"}),
            json!([
                "each value in rooms must not be empty",
                "each value in rooms must be at most 200 characters long",
                "each value in rooms must be a string",
                "property room should not exist",
                "namespace must be one of the following values: /, /chat",
            ]),
        ),
    ] {
        assert_eq!(server.post("/users/ann/rooms", &body).await.refusal(400), faults);
    }
    let many = (0..1001).collect::<Vec<_>>();
    let refusal = server.post("/users/ann/rooms", &json!({"rooms": many})).await.refusal(400);
    assert_eq!(refusal, json!(["rooms must contain no more than 1000 elements"]));
    for (query, faults) in [
        ("", json!(["room should not be empty"])),
        ("?room=", json!(["room must not be empty"])),
        ("?rooms=a", json!(["property rooms should not exist"])),
    ] {
        let refusal = server.delete(&format!("/users/ann/rooms{query}")).await.refusal(400);
        assert_eq!(refusal, faults, "{query}");
    }
    let long = server.delete(&format!("/users/ann/connections?reason={long}")).await;
    long.refusal(400);
    let closed = crate::support::TestServer::one_node(|_| {}).await;
    closed.post("/users/ann/rooms", &json!({"rooms": ["r"]})).await.refusal(403);
    closed.delete("/users/ann/connections").await.refusal(403);
}

#[tokio::test]
async fn a_user_is_disconnected_for_a_reason() {
    let directory = tempfile::TempDir::new().unwrap();
    let log = directory.path().join("events");
    for world in World::both(|config| {
        config.event_log = Some(roomcast::config::EventLog::File(log.clone()));
    })
    .await
    {
        let mut ann = world.connecting().join().await;
        ann.authenticate("ann").await;
        let mut other = world.connecting().namespace("/chat").join().await;
        other.authenticate("ann").await;
        let mut ben = world.connecting().join().await;
        ben.authenticate("ben").await;
        let done = world.first().delete("/users/ann/connections?reason=moved%20out").await;
        assert_eq!(done.expect(200), json!({"clients": 2}));
        let id = ann.id.clone();
        ann.ended().await;
        other.ended().await;
        ben.settle().await;
        let again = world.first().delete("/users/ann/connections").await.expect(200);
        assert_eq!(again, json!({"clients": 0}));
        for node in world.nodes {
            node.stop().await;
        }
        let lines = std::fs::read_to_string(&log).unwrap();
        let is_it = |line: &&str| line.contains(&id) && line.contains(r#""type":"disconnect""#);
        let line = lines.lines().find(is_it).unwrap();
        assert!(line.contains(r#""reason":"moved out""#), "{line}");
    }
}
