//! Packets and websocket frames that are not what they should be.

use super::assert_serves;
use crate::support::{
    TestServer,
    raw::{BINARY, CLOSE, CONTINUATION, FIN, PING, TEXT, Wire, frame, upgrade},
};

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It goes on, as if nothing had been.
    Unmoved,
    /// It goes on, and the client is told with this code.
    Told(&'static str),
    /// It is closed.
    Closed,
    /// Any of these: the limits decide.
    Survived,
}
use Fate::{Closed, Survived, Told, Unmoved};

async fn meets(server: &TestServer, what: &str, fate: Fate, mut wire: Wire) {
    eprintln!("{what}: {fate:?}");
    match fate {
        Unmoved => wire.assert_alive().await,
        Told(code) => {
            let error = wire.expect("42[\"error\",").await;
            assert!(error.contains(&format!("\"code\":\"{code}\"")), "{what}: {error}");
            wire.assert_alive().await;
        }
        Closed => wire.closed().await,
        Survived => {}
    }
    drop(wire);
    assert_serves(server).await;
}

/// After a normal CONNECT, each of these packets.
async fn packets(cases: impl IntoIterator<Item = (String, Fate)>) {
    let server = TestServer::start().await;
    for (packet, fate) in cases {
        let mut wire = Wire::client(&server).await;
        wire.send(&packet).await;
        let shown: String = packet.chars().take(60).collect();
        meets(&server, &shown, fate, wire).await;
    }
}

fn owned<const N: usize>(cases: [(&str, Fate); N]) -> [(String, Fate); N] {
    cases.map(|(packet, fate)| (packet.to_owned(), fate))
}

#[tokio::test]
async fn malformed_engine_packets() {
    packets(owned([
        ("", Closed),
        ("x", Closed),
        ("7", Closed),
        ("é", Closed),
        ("\u{1f600}", Closed),
        ("0", Closed),
        ("0{}", Closed),
        ("1", Closed),
        ("2", Unmoved),
        ("2probe", Closed),
        ("3", Unmoved),
        ("3probe", Closed),
        ("5", Closed),
        ("6", Closed),
        ("bAQ==", Closed),
    ]))
    .await;
}

#[tokio::test]
async fn malformed_packets() {
    packets(owned([
        ("4", Closed),
        ("47", Closed),
        ("49", Closed),
        ("4é", Closed),
        ("42", Closed),
        ("42é", Closed),
        ("42/", Closed),
        ("42/é", Unmoved),
        ("42/unknown,[\"ping\"]", Closed),
        ("42[", Closed),
        ("42{}", Closed),
        ("42null", Closed),
        ("42\"ping\"", Closed),
        ("42[\"ping\"", Closed),
        ("42[\"ping\"]]", Told("invalid_payload")),
        ("42[\"pi\u{0}ng\"]", Closed),
        ("43[]", Closed),
        ("431[]", Unmoved),
        ("44\"no\"", Closed),
        ("44{}", Closed),
    ]))
    .await;
}

#[tokio::test]
async fn events_that_are_none() {
    packets(owned([
        ("42[]", Closed),
        ("42[[]]", Closed),
        ("42[1]", Told("unknown_event")),
        ("42[null]", Closed),
        ("42[{\"ping\":1}]", Closed),
        ("42[\"\"]", Told("unknown_event")),
        ("42[\"\\ud800\"]", Told("invalid_payload")),
        ("42[\"connect\"]", Told("unknown_event")),
        ("42[\"disconnect\"]", Told("unknown_event")),
        ("42[\"__proto__\",{}]", Told("unknown_event")),
        ("42[\"message\",{\"room\":\"\\ud800\"}]", Told("invalid_payload")),
        ("42[\"join-room\",\"\\u0000\"]", Told("invalid_payload")),
        ("42[\"join-room\",{\"roomName\":1e999}]", Unmoved),
    ]))
    .await;
}

#[tokio::test]
async fn enormous_things() {
    let deep = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let long = "x".repeat(900_000);
    packets([
        (format!("42[\"{long}\"]"), Told("unknown_event")),
        (format!("42[\"{long}{long}\"]"), Closed),
        (format!("42{}", deep(10_000)), Closed),
        (format!("42[\"message\",{}]", deep(10_000)), Survived),
        (format!("42[\"message\",{{\"room\":\"r\",\"deep\":{}}}]", deep(10_000)), Survived),
        (format!("42[\"message\",{}", deep(400_000)), Closed),
        (format!("42[\"join-room\",\"{long}\"]"), Told("invalid_payload")),
        (format!("42[{}0]", "\"ping\",".repeat(100_000)), Unmoved),
        (format!("42[\"join-room\",{{{}\"a\":1}}]", "\"a\":1,".repeat(100_000)), Told("no_room")),
        (format!("42[\"heartbeat\",1{}]", "0".repeat(500_000)), Unmoved),
        (format!("42/{long},[\"ping\"]"), Unmoved),
        (format!("40/{long},{{}}"), Unmoved),
    ])
    .await;
}

#[tokio::test]
async fn ack_ids_that_no_counter_reaches() {
    let server = TestServer::start().await;
    // What fits an integer of 64 bits is acknowledged with the same number.
    for id in ["0", "1", "007", "9223372036854775807"] {
        let mut wire = Wire::client(&server).await;
        wire.send(&format!("42{id}[\"heartbeat\"]")).await;
        let number: i64 = id.parse().unwrap();
        wire.expect(&format!("43{number}[")).await;
        meets(&server, id, Unmoved, wire).await;
    }
    // What does not is taken for none.
    let huge = "9".repeat(900_000);
    for id in ["9223372036854775808", "1000000000000000000000000000000", &huge] {
        let mut wire = Wire::client(&server).await;
        wire.send(&format!("42{id}[\"heartbeat\"]")).await;
        meets(&server, &id[..18], Unmoved, wire).await;
    }
    packets(owned([("42-1[\"heartbeat\"]", Closed), ("421.5[\"heartbeat\"]", Closed)])).await;
    packets(owned([("439223372036854775807[]", Unmoved), ("439223372036854775808[]", Closed)]))
        .await;
}

#[tokio::test]
async fn attachments_that_are_not_as_announced() {
    let event = |count: &str| {
        format!(
            "45{count}[\"message\",{{\"room\":\"r\",\"a\":{{\"_placeholder\":true,\"num\":0}}}}]"
        )
    };
    let server = TestServer::start().await;
    for (count, attachments, then, fate) in [
        ("1-", 1, None, Unmoved),
        // Missing: text instead of what was announced.
        ("1-", 0, Some("42[\"ping\"]"), Closed),
        ("2-", 1, Some("42[\"ping\"]"), Closed),
        // One more than announced.
        ("1-", 2, None, Closed),
        // None announced: what looks like a placeholder is the client's own object.
        ("0-", 0, None, Unmoved),
        ("0-", 1, None, Closed),
        // Counts that are none, or too many.
        ("", 0, None, Closed),
        ("-", 0, None, Closed),
        ("-1-", 0, None, Closed),
        ("x-", 0, None, Closed),
        ("11-", 0, None, Closed),
        ("99999999999999999999999999-", 0, None, Closed),
    ] {
        let mut wire = Wire::client(&server).await;
        wire.send(&event(count)).await;
        for _ in 0..attachments {
            wire.frame(FIN | BINARY, b"bytes").await;
        }
        if let Some(then) = then {
            wire.send(then).await;
        }
        meets(&server, &format!("{count} with {attachments}"), fate, wire).await;
    }
    for placeholder in [
        "{\"_placeholder\":true,\"num\":1}",
        "{\"_placeholder\":true,\"num\":-1}",
        "{\"_placeholder\":true,\"num\":18446744073709551616}",
        "{\"_placeholder\":true,\"num\":\"0\"}",
        "{\"_placeholder\":true}",
    ] {
        let mut wire = Wire::client(&server).await;
        wire.send(&format!("451-[\"message\",{{\"room\":\"r\",\"a\":{placeholder}}}]")).await;
        wire.frame(FIN | BINARY, b"bytes").await;
        meets(&server, placeholder, Told("invalid_payload"), wire).await;
    }
    // As deep as JSON goes around an attachment.
    let mut wire = Wire::client(&server).await;
    let deep = format!(
        "451-[\"message\",{{\"room\":\"r\",\"a\":{}{{\"_placeholder\":true,\"num\":0}}{}}}]",
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    wire.send(&deep).await;
    wire.frame(FIN | BINARY, b"bytes").await;
    meets(&server, "a deep attachment", Told("invalid_payload"), wire).await;
    // Attachments that never end, and one that is announced and never comes.
    let mut wire = Wire::client(&server).await;
    wire.send(&event("10-")).await;
    wire.frame(FIN | BINARY, &vec![0; 600_000]).await;
    wire.frame(FIN | BINARY, &vec![0; 600_000]).await;
    meets(&server, "attachments of 1.2 MB", Closed, wire).await;
    let mut wire = Wire::client(&server).await;
    wire.send(&event("1-")).await;
    drop(wire);
    assert_serves(&server).await;
}

#[tokio::test]
async fn binary_out_of_the_blue() {
    let server = TestServer::start().await;
    for bytes in [&b""[..], b"\x04", b"bytes", &[0xff; 1000]] {
        let mut wire = Wire::client(&server).await;
        wire.frame(FIN | BINARY, bytes).await;
        meets(&server, "a binary frame", Closed, wire).await;
        let mut wire = Wire::websocket(&server, "EIO=3&transport=websocket").await;
        wire.frame(FIN | BINARY, bytes).await;
        meets(&server, "a binary frame of Engine.IO 3", Closed, wire).await;
    }
}

#[tokio::test]
async fn connects_that_are_none_or_too_many() {
    // What comes of them without the limit on their number.
    let server = TestServer::with(|config| config.rate_limit_events = 0).await;
    // A second CONNECT, once the first is answered, ends the connection.
    let mut wire = Wire::websocket(&server, "EIO=4&transport=websocket").await;
    for _ in 0..1000 {
        wire.send("40").await;
    }
    meets(&server, "a thousand CONNECTs", Closed, wire).await;
    // Thousands to namespaces that are not there are each answered, and nothing is kept of them.
    let mut wire = Wire::client(&server).await;
    for number in 0..5000 {
        wire.send(&format!("40/nothing-{number},")).await;
    }
    wire.expect("44/nothing-4999,").await;
    assert_eq!(server.app.registry.connections(), 1);
    meets(&server, "CONNECTs to unknown namespaces", Unmoved, wire).await;
    // What is no object is no `auth`, and strange values in it are none.
    for (auth, fate) in [
        ("{", Closed),
        ("}", Closed),
        ("null", Closed),
        ("7", Closed),
        ("\"text\"", Closed),
        ("[1]", Closed),
        ("é", Closed),
        ("{\"token\":{}}", Unmoved),
        ("{\"clientName\":[]}", Unmoved),
    ] {
        let mut wire = Wire::websocket(&server, "EIO=4&transport=websocket").await;
        wire.send(&format!("40{auth}")).await;
        if auth.contains(':') {
            wire.expect("42[\"connected\"").await;
        }
        meets(&server, &format!("auth {auth}"), fate, wire).await;
    }
    // Events before the CONNECT, and after the DISCONNECT.
    for packets in [&["42[\"ping\"]"][..], &["41"], &["40", "41", "42[\"ping\"]"]] {
        let mut wire = Wire::websocket(&server, "EIO=4&transport=websocket").await;
        for packet in packets {
            wire.send(packet).await;
        }
        meets(&server, &packets.join(" "), Closed, wire).await;
    }
    // In and out, over and over.
    let mut wire = Wire::client(&server).await;
    for _ in 0..200 {
        wire.send("40/chat,").await;
        wire.expect("42/chat,[\"connected\"").await;
        wire.send("41/chat,").await;
    }
    meets(&server, "in and out of a namespace", Unmoved, wire).await;
}

#[tokio::test]
async fn garbage_for_auth_is_no_way_in() {
    let server = TestServer::with(|config| {
        config.jwt_secret = Some(roomcast::config::Secret::new(crate::support::SECRET));
    })
    .await;
    for auth in
        ["", "{", "null", "[]", "{\"token\":1}", "{\"token\":\"\"}", "{\"token\":\"a.b.c\"}"]
    {
        let mut wire = Wire::websocket(&server, "EIO=4&transport=websocket").await;
        wire.send(&format!("40{auth}")).await;
        if auth.is_empty() || auth.contains(':') {
            wire.expect("44{\"message\":").await;
        }
        assert_eq!(server.app.registry.connections(), 0, "{auth}");
        wire.send("42[\"ping\"]").await;
        wire.closed().await;
    }
}

#[tokio::test]
async fn broken_websocket_frames() {
    let server = TestServer::start().await;
    let masked = |first, payload: &[u8]| frame(first, payload);
    let mut unmasked = vec![FIN | TEXT, 10];
    unmasked.extend(b"42[\"ping\"]");
    let mut enormous = vec![FIN | TEXT, 0x80 | 0x7f];
    enormous.extend(u64::MAX.to_be_bytes());
    enormous.extend([0; 4]);
    let mut half = masked(FIN | TEXT, b"42[\"ping\"]");
    half.truncate(9);
    for (what, bytes, fate) in [
        ("unmasked", unmasked, Closed),
        ("a reserved bit", masked(0x40 | FIN | TEXT, b"42[\"ping\"]"), Closed),
        ("an unknown kind", masked(FIN | 3, b"x"), Closed),
        ("an unknown control kind", masked(FIN | 0xb, b"x"), Closed),
        ("text that is no UTF-8", masked(FIN | TEXT, b"42[\"\xff\xfe\"]"), Closed),
        ("half a character", masked(FIN | TEXT, b"42[\"\xc3"), Closed),
        ("a continuation of nothing", masked(FIN | CONTINUATION, b"42[\"ping\"]"), Closed),
        (
            "a beginning after a beginning",
            [masked(TEXT, b"42["), masked(TEXT, b"42[")].concat(),
            Closed,
        ),
        ("a fragmented control frame", masked(PING, b""), Closed),
        ("a control frame that is too long", masked(FIN | PING, &[0; 126]), Closed),
        ("a close frame of one byte", masked(FIN | CLOSE, b"x"), Closed),
        ("a close frame with a wrong code", masked(FIN | CLOSE, &[0, 0]), Closed),
        ("a length of 2^64", enormous, Closed),
        ("a frame over the limit", masked(FIN | TEXT, &vec![b'4'; 1_000_001]), Closed),
        (
            "an event in two pieces",
            [masked(TEXT, b"42[\"pi"), masked(FIN | CONTINUATION, b"ng\"]")].concat(),
            Unmoved,
        ),
        (
            "a ping between the pieces",
            [
                masked(TEXT, b"42[\"pi"),
                masked(FIN | PING, b""),
                masked(FIN | CONTINUATION, b"ng\"]"),
            ]
            .concat(),
            Unmoved,
        ),
        ("a thousand pings", masked(FIN | PING, b"x").repeat(1000), Unmoved),
    ] {
        let mut wire = Wire::client(&server).await;
        wire.write(&bytes).await;
        meets(&server, what, fate, wire).await;
    }
    // A message over the limit in pieces that are not.
    let mut wire = Wire::client(&server).await;
    wire.frame(TEXT, &vec![b'4'; 600_000]).await;
    wire.frame(FIN | CONTINUATION, &vec![b'4'; 600_000]).await;
    meets(&server, "pieces over the limit", Closed, wire).await;
    let mut wire = Wire::client(&server).await;
    wire.write(&half).await;
    drop(wire);
    assert_serves(&server).await;
}

#[tokio::test]
async fn frames_before_the_handshake_is_answered() {
    let server = TestServer::start().await;
    let mut wire = Wire::open(server.address()).await;
    let eager = [upgrade("EIO=4&transport=websocket"), frame(FIN | TEXT, b"40")];
    wire.write(&eager.concat()).await;
    wire.head().await;
    wire.expect("42[\"connected\"").await;
    meets(&server, "eager frames", Unmoved, wire).await;
}
