//! What tokens permit: separate rights, rooms from the start, no rooms by default, cookies.

use roomcast::config::{CorsOrigin, RoomsDefault};
use serde_json::{Value, json};

use super::{World, assert_refused, token, with_tokens};
use crate::support::{TestClient, process};

/// Whether each of what a client may do with a room is permitted.
async fn rights(client: &mut TestClient, room: &str) -> [bool; 3] {
    let mut allowed = [false; 3];
    let asked = [
        ("join-room", json!({"roomName": room})),
        ("syncMessages", json!({"roomId": room})),
        ("message", json!({"roomName": room})),
    ];
    for (allowed, (event, payload)) in allowed.iter_mut().zip(asked) {
        let ack = client.ask(event, payload).await;
        *allowed = ack["success"] == true;
        assert!(*allowed || ack["code"] == "forbidden", "{event}: {ack}");
    }
    client.ask("leave-room", json!(room)).await;
    allowed
}

#[tokio::test]
async fn a_token_may_name_the_rooms_of_each_right() {
    let [world, _] = World::both(with_tokens).await;
    let rooms = json!({"join": ["a", "c*"], "read": ["b", "c*"], "send": "c*"});
    let mut client = world.bearer(&json!({"sub": "ann", "rooms": rooms})).await;
    for (room, wanted) in [
        ("a", [true, false, false]),
        ("b", [false, true, false]),
        ("c1", [true, true, true]),
        ("d", [false, false, false]),
    ] {
        assert_eq!(rights(&mut client, room).await, wanted, "{room}");
    }
    // Without the right to send, nothing gets into the room.
    let mut member = world.bearer(&json!({"sub": "ben"})).await;
    member.join("a").await;
    member.forget().await;
    client.join("a").await;
    member.next("user-joined").await;
    for (event, payload) in [
        ("message", json!({"roomName": "a"})),
        ("channels", json!({"roomName": "a"})),
        ("sendMessage", json!({"roomId": "a", "content": "x"})),
        ("custom-event", json!({"event": "x", "room": "a"})),
        ("typingIndicator", json!({"roomId": "a", "isTyping": true})),
        ("readReceipt", json!({"roomId": "a", "messageId": "m"})),
        ("custom-event", json!({"event": "x"})),
        ("message", json!({"text": "everyone"})),
    ] {
        assert_refused(&client.ask(event, payload).await, "forbidden");
    }
    // A recovery reads.
    let recover = client.ask("join-room", json!({"roomName": "a", "offset": 0})).await;
    assert_refused(&recover, "forbidden");
    assert!(member.everything().await.is_empty());
    member.ask("message", json!({"roomName": "a", "n": 1})).await;
    assert_eq!(client.next("message-reply").await["n"], 1, "a member gets what is sent");
}

#[tokio::test]
async fn a_token_may_say_in_which_rooms_its_client_is_from_the_start() {
    for world in World::both(with_tokens).await {
        let claims = json!({"sub": "ann", "rooms": ["b"], "join": ["a", "b"]});
        let mut ann = world.bearer(&claims).await;
        // Its own first event finds it there.
        ann.ask("leave-room", json!("b")).await;
        let joined = [ann.next("room-joined").await, ann.next("room-joined").await];
        assert_eq!(joined.map(|told| told["roomName"].clone()), [json!("a"), json!("b")]);
        assert_eq!(ann.next("room-left").await["roomName"], "b");
        // It may come back; it may not send there, as only `rooms` says where.
        ann.ask("leave-room", json!("a")).await;
        ann.join("a").await;
        assert_refused(&ann.ask("message", json!({"roomName": "a"})).await, "forbidden");
        // A renewed token brings nobody back, and takes away what it does not permit.
        let renewed = token(&json!({"sub": "ann", "rooms": ["b"], "join": ["b"]}));
        ann.forget().await;
        ann.ask("authenticate", json!({"userId": "ann", "token": renewed})).await;
        assert_eq!(ann.next("room-left").await["roomName"], "a");
        assert!(ann.all("room-joined").await.is_empty());
    }
}

#[tokio::test]
async fn a_client_that_gets_its_user_later_is_then_in_its_rooms() {
    let configure = |config: &mut roomcast::config::Config| {
        with_tokens(config);
        config.auth_required = Some(false);
    };
    let world = World::of(1, &configure).await;
    let mut client = world.connecting().join().await;
    let later = token(&json!({"sub": "ann", "join": "a"}));
    let ack = client.ask("authenticate", json!({"userId": "ann", "token": later})).await;
    assert_eq!(ack["success"], true);
    assert_eq!(client.next("room-joined").await["roomName"], "a");
}

#[tokio::test]
async fn by_default_no_room_is_permitted_where_that_is_set() {
    let configure = |config: &mut roomcast::config::Config| {
        with_tokens(config);
        config.auth_required = Some(false);
        config.rooms_default = RoomsDefault::Deny;
    };
    let world = World::of(1, &configure).await;
    let mut with_nothing = world.bearer(&json!({"sub": "ann"})).await;
    let mut anonymous = world.connecting().join().await;
    for client in [&mut with_nothing, &mut anonymous] {
        assert_eq!(rights(client, "r").await, [false; 3]);
        assert_refused(&client.ask("message", json!({"text": "hi"})).await, "forbidden");
    }
    let mut with_rooms = world.bearer(&json!({"sub": "ben", "rooms": ["r"]})).await;
    assert_eq!(rights(&mut with_rooms, "r").await, [true; 3]);
    world.first().post("/users/ann/rooms", &json!({"rooms": ["r"]})).await.expect(200);
    with_rooms.ask("message", json!({"roomName": "r", "n": 1})).await;
    assert_eq!(with_nothing.next("message-reply").await["n"], 1);
}

#[tokio::test]
async fn a_token_may_come_by_cookie_where_it_comes_by_nothing_else() {
    let configure = |config: &mut roomcast::config::Config| {
        with_tokens(config);
        config.jwt_cookie = Some("session".into());
        config.cors_origin = CorsOrigin::List(vec!["https://own.example".into()]);
        config.playground = false;
    };
    let world = World::of(1, &configure).await;
    let of = |user: &str| token(&json!({"sub": user}));
    let cookie = format!("theme=dark; session={}; session2=x", of("cookie"));
    let connecting = || world.connecting().header("cookie", &cookie);
    let user = async |connecting: super::Connecting| {
        let client = connecting.join().await;
        world.first().get(&format!("/connections/{}", client.id)).await.expect(200)["userId"]
            .clone()
    };
    assert_eq!(user(connecting()).await, "cookie");
    assert_eq!(user(connecting().header("origin", "https://own.example")).await, "cookie");
    assert_eq!(user(connecting().query("token", &of("query"))).await, "query");
    assert_eq!(user(connecting().auth(json!({"token": of("auth")}))).await, "auth");
    let header = format!("Bearer {}", of("header"));
    assert_eq!(user(connecting().header("authorization", &header)).await, "header");
    // Another page has the browser send the cookie, too.
    let foreign = connecting().header("origin", "https://evil.example").open().await;
    assert_eq!(foreign.err(), Some(403));
    let none = world.connecting().header("cookie", "session2=x; session=").knock().await;
    assert!(none.err().unwrap().as_str().unwrap().contains("authentication required"));
    let bad = world.connecting().header("cookie", "session=bad").knock().await;
    assert!(bad.err().is_some());
}

#[tokio::test]
async fn a_cookie_and_pages_of_every_origin_are_refused_at_start() {
    let directory = tempfile::TempDir::new().unwrap();
    let command = || {
        let mut command = process::command(&directory.path().join("store"));
        command.env("JWT_SECRET", super::SECRET).env("JWT_COOKIE", "token");
        command
    };
    for origin in [None, Some("*")] {
        let mut command = command();
        if let Some(origin) = origin {
            command.env("CORS_ORIGIN", origin);
        }
        let (code, said) = process::refusal(command).await;
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("JWT_COOKIE, CORS_ORIGIN"), "{said}");
    }
    let mut fine = command();
    fine.env("CORS_ORIGIN", "https://own.example");
    process::start(fine).await.kill().await;
}

#[tokio::test]
async fn a_rooms_claim_that_is_none_keeps_its_client_out() {
    let world = World::of(1, &with_tokens).await;
    for claims in [
        json!({"rooms": {"write": ["a"]}}),
        json!({"rooms": {"join": "a", "send": 7}}),
        json!({"join": [7]}),
        json!({"join": {"a": true}}),
    ] {
        let mut all = json!({"sub": "ann"});
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        let refused = world.connecting().auth(json!({"token": token(&all)})).knock().await;
        let message = refused.err().unwrap_or(Value::Null);
        assert!(message.as_str().unwrap().starts_with("token claim"), "{all}: {message}");
    }
}
