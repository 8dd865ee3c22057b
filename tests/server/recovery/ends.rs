//! Sessions that cannot be recovered: then the client is a new one, and nothing is replayed.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    comes_back, comes_back_with, gone, is_recovered, numbers, say, server, server_with,
    server_with_tokens,
};
use crate::support::{TestClient, TestServer, token_for, token_of};

/// Not recovered: it is welcomed, is in no room and gets nothing.
async fn fresh(server: &TestServer, lost: &TestClient, auth: Value) -> TestClient {
    let mut again = comes_back_with(server, lost, auth).await;
    assert!(!is_recovered(&again, lost));
    assert_eq!(again.next("connected").await["clientId"], again.id);
    assert!(numbers(&mut again).await.is_empty());
    let path = format!("/connections/{}", again.id);
    assert_eq!(server.get(&path).await.expect(200)["rooms"], json!([]));
    again
}

/// A client in the room `r`, and one that is to send there.
async fn pair(server: &TestServer, auth: Value) -> (TestClient, TestClient) {
    let mut ann = server.connecting().auth(auth.clone()).join().await;
    let bob = server.connecting().auth(auth).join().await;
    ann.join("r").await;
    ann.settle().await;
    (ann, bob)
}

/// The connection of a client breaks, and the server knows it.
async fn loses(mut lost: TestClient, witness: &mut TestClient) -> TestClient {
    lost.tear().await;
    gone(witness, &lost.id).await;
    lost
}

#[tokio::test]
async fn who_has_left_does_not_come_back() {
    let server = server().await;
    let (mut ann, mut bob) = pair(&server, json!({})).await;
    ann.send_frame("41").await;
    gone(&mut bob, &ann.id).await;
    say(&mut bob, "r", 1).await;
    fresh(&server, &ann, json!({})).await;
}

#[tokio::test]
async fn who_was_disconnected_does_not_come_back() {
    let server = server().await;
    let (ann, mut bob) = pair(&server, json!({})).await;
    let path = format!("/connections/{}", ann.id);
    assert_eq!(server.delete(&path).await.status, 204);
    gone(&mut bob, &ann.id).await;
    say(&mut bob, "r", 1).await;
    fresh(&server, &ann, json!({})).await;
    // Nor who was disconnected while it was away.
    let (mut ann, _) = pair(&server, json!({})).await;
    ann.authenticate("ann").await;
    ann.settle().await;
    let ann = loses(ann, &mut bob).await;
    let path = "/users/ann/connections?reason=kicked";
    assert_eq!(server.delete(path).await.expect(200), json!({"clients": 0}));
    fresh(&server, &ann, json!({})).await;
}

#[tokio::test]
async fn who_was_put_out_of_a_room_while_it_was_away_does_not_come_back_to_it() {
    let server = server().await;
    let (mut ann, mut bob) = pair(&server, json!({})).await;
    ann.authenticate("ann").await;
    ann.settle().await;
    let ann = loses(ann, &mut bob).await;
    server.delete("/users/ann/rooms?room=r").await.expect(200);
    say(&mut bob, "r", 1).await;
    fresh(&server, &ann, json!({})).await;
}

#[tokio::test]
async fn the_session_of_an_expired_or_revoked_token_has_ended() {
    let server = server_with_tokens().await;
    let mut bob = server.connecting().auth(json!({"token": token_of("bob")})).join().await;
    let short = token_for("ann", Duration::from_secs(3));
    let mut ann = server.connecting().auth(json!({"token": short})).join().await;
    ann.join("r").await;
    ann.next("token-expired").await;
    gone(&mut bob, &ann.id).await;
    fresh(&server, &ann, json!({"token": token_of("ann")})).await;
    for is_away in [false, true] {
        let mut ann = server.connecting().auth(json!({"token": token_of("ann")})).join().await;
        ann.join("r").await;
        ann.settle().await;
        if is_away {
            ann = loses(ann, &mut bob).await;
        }
        let revocation = json!({"userId": "ann", "expiresAt": crate::control::moment(3600)});
        let made = server.post("/revocations", &revocation).await.expect(201);
        if !is_away {
            gone(&mut bob, &ann.id).await;
        }
        let path = format!("/revocations/{}", made["id"].as_str().unwrap());
        assert_eq!(server.delete(&path).await.status, 204);
        fresh(&server, &ann, json!({"token": token_of("ann")})).await;
    }
}

#[tokio::test]
async fn another_user_does_not_get_it() {
    let server = server_with_tokens().await;
    let mut bob = server.connecting().auth(json!({"token": token_of("bob")})).join().await;
    let mut ann = server.connecting().auth(json!({"token": token_of("ann")})).join().await;
    ann.join("r").await;
    ann.settle().await;
    // Neither while it is connected, which it stays, nor while it is away.
    fresh(&server, &ann, json!({"token": token_of("eve")})).await;
    ann.settle().await;
    let ann = loses(ann, &mut bob).await;
    say(&mut bob, "r", 1).await;
    fresh(&server, &ann, json!({"token": token_of("eve")})).await;
    let bad = server.connecting().auth(ann.back()).knock().await.err().unwrap();
    assert!(bad.as_str().unwrap().contains("authentication required"), "{bad}");
    let mut again = comes_back_with(&server, &ann, json!({"token": token_of("ann")})).await;
    assert!(is_recovered(&again, &ann));
    assert_eq!(numbers(&mut again).await, [1]);
}

#[tokio::test]
async fn who_comes_too_late_is_a_new_client() {
    let server =
        server_with(|config| config.connection_state_recovery = Duration::from_nanos(1)).await;
    let (ann, mut bob) = pair(&server, json!({})).await;
    let ann = loses(ann, &mut bob).await;
    say(&mut bob, "r", 1).await;
    fresh(&server, &ann, json!({})).await;
}

#[tokio::test]
async fn who_has_missed_too_much_is_a_new_client() {
    for (missed, recovered) in [(5, true), (6, false)] {
        let server = server_with(|config| config.recovery_limit = 5).await;
        let (mut ann, mut bob) = pair(&server, json!({})).await;
        ann.join("s").await;
        ann.settle().await;
        let ann = loses(ann, &mut bob).await;
        for n in 0..missed {
            say(&mut bob, if n % 2 == 0 { "r" } else { "s" }, n).await;
        }
        // The last one may still be on its way to the node to which it comes back.
        bob.settle().await;
        if !recovered {
            fresh(&server, &ann, json!({})).await;
            continue;
        }
        let mut again = comes_back(&server, &ann).await;
        assert!(is_recovered(&again, &ann));
        assert_eq!(numbers(&mut again).await, (0..missed).collect::<Vec<_>>());
    }
    // In bytes, too.
    let server = server_with(|config| config.rate_limit_events = 0).await;
    let (ann, mut bob) = pair(&server, json!({})).await;
    let ann = loses(ann, &mut bob).await;
    let text = "x".repeat(900_000);
    for n in 0..9 {
        let ack = bob.ask("message", json!({"roomName": "r", "n": n, "text": text})).await;
        assert_eq!(ack["success"], true);
    }
    bob.settle().await;
    fresh(&server, &ann, json!({})).await;
}

#[tokio::test]
async fn who_has_missed_more_than_the_history_has_is_a_new_client() {
    for (missed, recovered) in [(3, true), (4, false)] {
        let server = server_with(|config| config.history_size = 3).await;
        let (mut ann, mut bob) = pair(&server, json!({})).await;
        ann.join("s").await;
        ann.settle().await;
        let ann = loses(ann, &mut bob).await;
        say(&mut bob, "s", 100).await;
        for n in 0..missed {
            say(&mut bob, "r", n).await;
        }
        bob.settle().await;
        if recovered {
            assert!(is_recovered(&comes_back(&server, &ann).await, &ann));
        } else {
            fresh(&server, &ann, json!({})).await;
        }
    }
    let server = server_with(|config| config.history_ttl = Some(Duration::from_nanos(1))).await;
    let (ann, mut bob) = pair(&server, json!({})).await;
    let ann = loses(ann, &mut bob).await;
    say(&mut bob, "r", 1).await;
    fresh(&server, &ann, json!({})).await;
}

#[tokio::test]
async fn without_history_rooms_recover_all_the_same() {
    let server = server_with(|config| config.history_size = 0).await;
    let (ann, mut bob) = pair(&server, json!({})).await;
    let ann = loses(ann, &mut bob).await;
    say(&mut bob, "r", 1).await;
    let mut again = comes_back(&server, &ann).await;
    assert!(is_recovered(&again, &ann));
    assert_eq!(numbers(&mut again).await, [1]);
}

#[tokio::test]
async fn an_offset_that_the_session_does_not_have_is_good_for_nothing() {
    let server = server().await;
    let mut bob = server.client().await;
    for offset in [
        json!("0"),
        json!("zz"),
        json!(""),
        json!("-1"),
        json!("ffffffffffffffff"),
        json!("1".repeat(40)),
    ] {
        let (ann, _) = pair(&server, json!({})).await;
        let mut lost = loses(ann, &mut bob).await;
        say(&mut bob, "r", 1).await;
        lost.offset = Some(offset.as_str().unwrap().to_owned());
        fresh(&server, &lost, json!({})).await;
    }
    // Nor is that of another client.
    let (ann, other) = pair(&server, json!({})).await;
    let mut lost = loses(ann, &mut bob).await;
    lost.offset = other.offset.clone();
    fresh(&server, &lost, json!({})).await;
    for pid in [json!("x"), json!(7), json!(null), json!({"a": 1}), json!("")] {
        let mut client =
            server.connecting().auth(json!({"pid": pid, "offset": 7})).knock().await.unwrap();
        client.next("connected").await;
        assert!(client.pid.is_some());
    }
}

#[tokio::test]
async fn a_pid_without_an_offset_is_good_where_nothing_was_sent_yet() {
    let server = server().await;
    let (mut ann, mut bob) = pair(&server, json!({})).await;
    ann.offset = None;
    let mut lost = loses(ann, &mut bob).await;
    lost.offset = None;
    server.get("/rooms/r").await.refusal(404);
    say(&mut bob, "r", 1).await;
    let mut again = comes_back(&server, &lost).await;
    assert!(is_recovered(&again, &lost));
    assert_eq!(numbers(&mut again).await, [1]);
    // Now it has been sent something.
    let mut lost = loses(again, &mut bob).await;
    lost.offset = None;
    fresh(&server, &lost, json!({})).await;
}

#[tokio::test]
async fn a_new_session_that_nothing_came_of_yet_is_recovered_by_the_offset_of_the_one_before() {
    let server = server().await;
    let (mut ann, mut bob) = pair(&server, json!({})).await;
    ann.send_frame("41").await;
    gone(&mut bob, &ann.id).await;
    let mut again = fresh(&server, &ann, json!({})).await;
    again.join("r").await;
    say(&mut bob, "r", 1).await;
    again.settle().await;
    // The connection broke before it had anything but its new id.
    again.offset = ann.offset.clone();
    let mut again = comes_back(&server, &again).await;
    assert!(again.pid.is_some() && again.pid != ann.pid);
    assert_eq!(numbers(&mut again).await, [1]);
    assert_eq!(server.get("/rooms/r").await.expect(200)["members"][0]["clientId"], again.id);
}

#[tokio::test]
async fn a_session_is_recovered_once() {
    let server = server().await;
    let (ann, mut bob) = pair(&server, json!({})).await;
    let ann = loses(ann, &mut bob).await;
    let mut all = Vec::new();
    for _ in 0..8 {
        let mut client = server.connecting().open().await.unwrap();
        client.send_frame(&format!("40{}", ann.back())).await;
        all.push(client);
    }
    let answers = all.iter_mut().map(|client| client.try_next("connect"));
    let answers = futures_util::future::join_all(answers).await;
    assert!(answers.iter().flatten().any(|answer| answer["sid"] == ann.id));
    // They take it over from one another, so that one is left.
    let path = format!("/connections/{}", ann.id);
    assert_eq!(server.get(&path).await.expect(200)["rooms"], json!(["r"]));
    let members = server.get("/rooms/r").await.expect(200)["members"].as_array().unwrap().len();
    assert_eq!(members, 1);
}

#[tokio::test]
async fn nothing_remains_of_who_does_not_come_back() {
    let server = server_with(|config| {
        config.connection_state_recovery = Duration::from_millis(1);
        config.presence_grace = Duration::ZERO;
        config.rate_limit_events = 0;
    })
    .await;
    let (mut ann, mut bob) = pair(&server, json!({})).await;
    ann.authenticate("ann").await;
    ann.settle().await;
    drop(loses(ann, &mut bob).await);
    assert_eq!(server.get("/rooms").await.expect(200)["total"], 0, "nobody is in it");
    server.until(|figures| figures.contains("roomcast_connections_away 0")).await;
    server.emptied(&mut bob).await;
}
