//! What one client, address or caller may ask of the server, and what it is told beyond that.
//!
//! Bursts decide, not clocks: a limit is set so low that it cannot refill within the test, or the
//! test waits for what comes when it has.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use roomcast::config::{MemoryLimit, Secret};
use serde_json::{Value, json};

use crate::support::{Answer, SECRET, TestServer, process, token_of};

/// A message that goes to nobody.
fn message(number: usize) -> Value {
    json!({"roomName": "r", "number": number})
}

#[tokio::test]
async fn events_over_the_burst_are_refused_with_the_time_to_wait() {
    let server = TestServer::with(|config| {
        config.rate_limit_events = 1;
        config.rate_limit_burst = 3;
    })
    .await;
    let mut client = server.client().await;
    for number in 0..3 {
        let ack = client.ask("message", message(number)).await;
        assert_eq!(ack["success"], true, "{ack}");
    }
    let ack = client.ask("message", message(3)).await;
    assert_eq!((&ack["success"], &ack["code"]), (&false.into(), &"rate_limited".into()));
    let wait = ack["retryAfterMs"].as_u64().unwrap();
    assert!((1..=1000).contains(&wait), "{ack}");
    let error = client.next("error").await;
    assert_eq!((&error["code"], &error["event"]), (&"rate_limited".into(), &"message".into()));
    assert!(error["retryAfterMs"].is_u64(), "{error}");

    // Another client has its own burst, and is not held up by this one's.
    let mut other = server.client().await;
    assert_eq!(other.ask("message", message(0)).await["success"], true);
    // Who waits as long as it was told is let through.
    tokio::time::sleep(Duration::from_millis(wait)).await;
    assert_eq!(client.ask("ping", Value::Null).await["success"], true);
}

#[tokio::test]
async fn every_refused_event_is_acknowledged_but_one_error_a_second_is_sent() {
    let server = TestServer::with(|config| {
        config.rate_limit_events = 1;
        config.rate_limit_burst = 5;
    })
    .await;
    let mut client = server.client().await;
    for number in 0..5 {
        assert_eq!(
            client.ask("sendMessage", json!({"roomId": "r", "content": number})).await["success"],
            true
        );
    }
    let begun = std::time::Instant::now();
    let mut refused = 0;
    for number in 0..40 {
        let ack = client.ask("sendMessage", json!({"roomId": "r", "content": number})).await;
        refused += u64::from(ack["success"] == false);
    }
    let seconds = begun.elapsed().as_secs();
    assert!(refused >= 40 - seconds - 1, "{refused}");
    let errors = client.arrived("error");
    assert!(!errors.is_empty() && errors.len() as u64 <= seconds + 1, "{errors:?}");
    // What NestJS's guards send comes with it, and no more often.
    assert_eq!(client.arrived("exception").len(), errors.len());
}

#[tokio::test]
async fn a_client_that_floods_is_told_and_disconnected_and_others_are_not() {
    let server = TestServer::with(|config| {
        config.rate_limit_events = 1;
        config.rate_limit_burst = 2;
    })
    .await;
    let mut witness = server.client().await;
    let mut flooder = server.client().await;
    let id = flooder.id.clone();
    // More than ten times the burst, whatever has refilled meanwhile.
    for number in 0..60 {
        flooder.emit("message", message(number)).await;
    }
    let told = loop {
        let error = flooder.next("error").await;
        if error["message"].as_str().unwrap().contains("disconnected") {
            break error;
        }
    };
    assert_eq!(told["code"], "rate_limited");
    flooder.ended().await;
    loop {
        if witness.next("client-disconnected").await["clientId"] == id.as_str() {
            break;
        }
    }
    assert_eq!(witness.ask("message", message(0)).await["success"], true);
    let figures = server.get("/metrics").await.text;
    assert!(figures.contains("\nroomcast_floods_total 1\n"), "{figures}");
}

#[tokio::test]
async fn who_was_thrown_out_needs_a_new_connection() {
    let server = TestServer::with(|config| {
        config.rate_limit_events = 1;
        config.rate_limit_burst = 1;
    })
    .await;
    let mut flooder = server.client().await;
    // One by one: what comes after the end would close the transport as well.
    for number in 0.. {
        let ack = flooder.ask("message", message(number)).await;
        if ack["success"] == false && ack["message"].as_str().unwrap().contains("disconnected") {
            break;
        }
    }
    flooder.ended_in_namespace().await;
    // On the same transport, in this namespace or another one, it is not let in again.
    for namespace in ["/", "/chat"] {
        let message = flooder.enter(namespace).await.unwrap_err();
        assert!(message.as_str().unwrap().contains("exceeded its limits"), "{message}");
    }
    assert_eq!(server.client().await.ask("ping", Value::Null).await["success"], true);
}

#[tokio::test]
async fn without_a_limit_nothing_is_refused() {
    let server = TestServer::with(|config| config.rate_limit_events = 0).await;
    let mut client = server.client().await;
    client.join("r").await;
    for number in 0..2000 {
        client.emit("message", json!({"resourceId": "x", "number": number})).await;
    }
    assert_eq!(client.ask("ping", Value::Null).await["success"], true);
    assert!(client.all("error").await.is_empty());
}

#[tokio::test]
async fn guessing_tokens_is_slow_for_an_address_and_right_guesses_wait_too() {
    let server = TestServer::with(|config| {
        config.jwt_secret = Some(Secret::new(SECRET));
        config.rate_limit_auth = 3;
    })
    .await;
    let knock = |token: String| server.connecting().auth(json!({"token": token})).knock();
    for _ in 0..4 {
        let message = knock("made.up.token".into()).await.err().unwrap();
        assert!(message.as_str().unwrap().starts_with("token"), "{message}");
    }
    for token in ["made.up.token".into(), token_of("alice")] {
        let message = knock(token).await.err().unwrap();
        let message = message.as_str().unwrap();
        assert!(message.starts_with("too many failed authentications; try again in"), "{message}");
    }
}

#[tokio::test]
async fn only_failures_are_counted_and_no_token_is_no_guess() {
    let server = TestServer::with(|config| {
        config.jwt_secret = Some(Secret::new(SECRET));
        config.rate_limit_auth = 1;
    })
    .await;
    for _ in 0..5 {
        server.connecting().knock().await.err().unwrap();
        let client = server.connecting().auth(json!({"token": token_of("alice")})).join().await;
        client.disconnect().await;
    }
}

#[tokio::test]
async fn guessing_by_authenticate_is_slow_for_a_client() {
    let server = TestServer::with(|config| {
        config.jwt_secret = Some(Secret::new(SECRET));
        config.auth_required = Some(false);
        config.rate_limit_auth = 20;
    })
    .await;
    let mut guesser = server.client().await;
    let guess = json!({"userId": "alice", "token": "made.up.token"});
    for _ in 0..3 {
        assert_eq!(guesser.ask("authenticate", guess.clone()).await["code"], "unauthorized");
    }
    let right = json!({"userId": "alice", "token": token_of("alice")});
    let ack = guesser.ask("authenticate", right.clone()).await;
    assert_eq!(ack["code"], "rate_limited", "{ack}");
    assert!(ack["retryAfterMs"].as_u64().unwrap() > 1000, "{ack}");
    // The address has failures left.
    assert_eq!(server.client().await.ask("authenticate", right).await["success"], true);
}

#[tokio::test]
async fn http_requests_are_counted_per_address_or_key_and_operation_is_exempt() {
    let server = TestServer::with(|config| {
        config.api_keys = vec![Secret::new("one"), Secret::new("two")];
        config.rate_limit_http = 1;
        config.trust_proxy = vec!["127.0.0.1/32".parse().unwrap()];
    })
    .await;
    let get = |key: &'static str, address: &'static str| {
        let request = server.request(Method::GET, "/stats");
        Answer::of(request.header("x-api-key", key).header("x-forwarded-for", address))
    };
    // At once, so that next to none of them finds a bucket that has refilled.
    let answers = join_all((0..20).map(|_| get("one", "192.0.2.1"))).await;
    let refused = answers.iter().filter(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS);
    let refused = refused.collect::<Vec<_>>();
    assert!(refused.len() >= 10, "{}", refused.len());
    let message = refused[0].refusal(429);
    assert!(message.as_str().unwrap().starts_with("too many requests a second"), "{message}");
    assert_eq!(refused[0].header("retry-after"), Some("1"));
    // Another key is another caller; one that is no key counts for its address.
    get("two", "192.0.2.1").await.expect(200);
    let strangers = join_all((0..20).map(|_| get("wrong", "192.0.2.2"))).await;
    assert_eq!(
        strangers.iter().filter(|answer| answer.status == StatusCode::UNAUTHORIZED).count()
            + strangers
                .iter()
                .filter(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS)
                .count(),
        20
    );
    assert!(strangers.iter().any(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS));
    for _ in 0..10 {
        for path in ["/health", "/health/live", "/health/ready", "/metrics"] {
            assert_eq!(server.get(path).await.status, StatusCode::OK, "{path}");
        }
    }
}

#[tokio::test]
async fn connections_over_the_limits_are_refused_in_the_handshake() {
    let full = TestServer::with(|config| config.max_connections = 1).await;
    let per_address = TestServer::with(|config| config.max_connections_per_ip = 1).await;
    for (server, status, word) in
        [(full, 503, "its limit of connections"), (per_address, 429, "from this address")]
    {
        let first = server.client().await;
        assert_eq!(server.connecting().open().await.err(), Some(status));
        let answer = server.get("/socket.io/?EIO=4&transport=polling").await;
        let message = answer.refusal(status);
        assert!(message.as_str().unwrap().contains(word), "{message}");
        assert_eq!(answer.header("retry-after"), Some("5"));
        // A namespace more is no connection more; a request that is no handshake is none at all.
        server.get("/health").await.expect(200);
        first.disconnect().await;
        server.until(|figures| figures.contains("\nroomcast_sessions 0\n")).await;
        server.client().await;
    }
}

#[tokio::test]
async fn a_server_without_memory_says_when_to_come_back() {
    // Less than any process uses.
    let server =
        TestServer::with(|config| config.memory_limit = MemoryLimit::Bytes(1_000_000)).await;
    server.until(|figures| figures.contains("\nroomcast_memory_level 2\n")).await;
    let handshake = server.get("/socket.io/?EIO=4&transport=polling").await;
    let request = server.post("/messages/broadcast", &json!({})).await;
    for answer in [handshake, request] {
        let message = answer.refusal(503);
        assert!(message.as_str().unwrap().contains("short of memory"), "{message}");
        assert_eq!(answer.header("retry-after"), Some("5"));
    }
    assert_eq!(server.connecting().open().await.err(), Some(503));
    // Whoever watches it is still answered.
    server.get("/health").await.expect(200);
    let unlimited = TestServer::with(|config| config.memory_limit = MemoryLimit::Bytes(0)).await;
    unlimited.client().await;
}

#[tokio::test]
async fn a_handshake_that_fails_takes_no_place() {
    let server = TestServer::with(|config| config.max_connections = 1).await;
    for _ in 0..5 {
        let answer = server.get("/socket.io/?EIO=4&transport=carrier-pigeon").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    }
    server.client().await;
}

#[tokio::test]
async fn a_session_that_enters_no_namespace_takes_a_place() {
    let server = TestServer::with(|config| config.max_connections = 1).await;
    let _idle = server.connecting().open().await.unwrap();
    assert_eq!(server.connecting().open().await.err(), Some(503));
}

#[tokio::test]
async fn new_connections_a_second_are_limited_per_address() {
    let server = TestServer::with(|config| {
        config.rate_limit_connections = 1;
        config.trust_proxy = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let from = |address: &str| {
        let request = server.request(Method::GET, "/socket.io/?EIO=4&transport=polling");
        Answer::of(request.header("x-forwarded-for", address.to_owned()))
    };
    let answers = join_all((0..20).map(|_| from("192.0.2.1"))).await;
    let refused = answers.iter().filter(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.count() >= 10);
    assert_eq!(from("192.0.2.2").await.status, StatusCode::OK);
    // One customer's network is one address.
    let answers = join_all((0..20).map(|n| {
        let request = server.request(Method::GET, "/socket.io/?EIO=4&transport=polling");
        Answer::of(request.header("x-forwarded-for", format!("2001:db8:1:2::{n:x}")))
    }))
    .await;
    assert!(answers.iter().any(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS));
}

#[tokio::test]
async fn what_a_stranger_says_of_its_address_is_not_believed() {
    let server = TestServer::with(|config| config.max_connections_per_ip = 1).await;
    let _first = server.connecting().header("x-forwarded-for", "192.0.2.1").join().await;
    let second = server.connecting().header("x-forwarded-for", "192.0.2.2").open().await;
    assert_eq!(second.err(), Some(429));
}

#[tokio::test]
async fn json_may_be_so_deep_and_no_deeper() {
    let server = TestServer::open().await;
    let mut client = server.client().await;
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    let payload = |levels| format!("{{\"roomName\":\"r\",\"deep\":{}}}", nested(levels));
    client.join("r").await;
    client.emit_text("message", &payload(63)).await;
    client.settle().await;
    assert!(client.arrived("error").is_empty());
    for levels in [64, 10_000] {
        client.emit_text("message", &payload(levels)).await;
        let error = client.next("error").await;
        assert_eq!(
            (&error["code"], &error["event"]),
            (&"invalid_payload".into(), &"message".into())
        );
        assert!(error["message"].as_str().unwrap().contains("64"), "{error}");
    }
    // On the other door too, whatever the route.
    let body = |levels| format!("{{\"event\":\"e\",\"data\":{}}}", nested(levels));
    server.post_text("/events", body(63)).await.expect(201);
    for path in ["/events", "/messages/broadcast", "/messages/x"] {
        let message = server.post_text(path, body(10_000)).await.refusal(400);
        assert!(message.as_str().unwrap().contains("64"), "{message}");
    }
    assert_eq!(client.ask("ping", Value::Null).await["success"], true);
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_connection_on_either_transport() {
    let server = TestServer::with(|config| config.max_payload = 1000).await;
    let fits = json!({"roomName": "r", "text": "x".repeat(800)});
    let too_large = json!({"roomName": "r", "text": "x".repeat(1200)});
    let mut client = server.client().await;
    assert_eq!(client.ask("message", fits.clone()).await["success"], true);
    client.emit("message", too_large.clone()).await;
    client.ended().await;

    let path = "/socket.io/?EIO=4&transport=polling";
    let hello = server.get(path).await.text;
    let hello: Value = serde_json::from_str(hello.strip_prefix('0').unwrap()).unwrap();
    assert_eq!(hello["maxPayload"], 1000);
    let path = format!("{path}&sid={}", hello["sid"].as_str().unwrap());
    let post = |text: String| Answer::of(server.request(Method::POST, &path).body(text));
    assert_eq!(post("40".into()).await.status, StatusCode::OK);
    assert_eq!(post(format!("42{}", json!(["message", fits]))).await.status, StatusCode::OK);
    let answer = post(format!("42{}", json!(["message", too_large]))).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_client_is_in_so_many_rooms() {
    let server = TestServer::with(|config| config.max_rooms_per_client = 2).await;
    let mut client = server.client().await;
    client.join("a").await;
    client.join("b").await;
    let ack = client.ask("join-room", json!({"roomName": "c"})).await;
    assert_eq!(ack["code"], "too_many_rooms", "{ack}");
    client.ask("leave-room", json!({"roomName": "a"})).await;
    client.join("c").await;
}

/// How many descriptors the server has: it keeps 64 of them for itself.
const DESCRIPTORS: usize = 256;

/// The server with so many descriptors.
#[cfg(unix)]
async fn small_server(directory: &std::path::Path) -> process::ServerProcess {
    let mut command = tokio::process::Command::new("sh");
    let limited = format!("ulimit -n {DESCRIPTORS}; exec \"$0\"");
    command.args(["-c", &limited, env!("CARGO_BIN_EXE_roomcast")]);
    process::start(process::wrapped(command, &directory.join("roomcast.db"))).await
}

#[cfg(unix)]
#[tokio::test]
async fn idle_connections_starve_nobody() {
    use tokio::io::AsyncWriteExt;
    let directory = tempfile::tempdir().unwrap();
    let server = small_server(directory.path()).await;
    let mut first = server.connecting().join().await;
    first.join("r").await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let health = format!("http://{}/health", server.address());
    let mut idle = Vec::new();
    for begun in
        ["", "GET /health HT", "POST /events HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{"]
    {
        for _ in 0..300 {
            // It may be closed already, also before it is known to be open.
            let opened = tokio::net::TcpStream::connect(server.address()).await;
            let Ok(mut tcp) = opened else { continue };
            let _sent = tcp.write_all(begun.as_bytes()).await;
            idle.push(tcp);
        }
        let mut newcomer = server.connecting().join().await;
        newcomer.join("r").await;
        let ack = newcomer.ask("message", json!({"roomName": "r", "omitSender": true})).await;
        assert_eq!((&ack["success"], ack["offset"].is_u64()), (&true.into(), true), "{ack}");
        first.next("message-reply").await;
        assert_eq!(http.get(&health).send().await.unwrap().status(), 200);
        newcomer.disconnect().await;
        // Those of before are closed, so that this process has descriptors, too.
        assert!(idle.len() > DESCRIPTORS, "{}: the server refuses connections", idle.len());
        idle.drain(..idle.len() - 200);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn websockets_leave_room_for_requests() {
    let directory = tempfile::tempdir().unwrap();
    let server = small_server(directory.path()).await;
    let mut open = Vec::new();
    let refused = loop {
        match server.connecting().open().await {
            Ok(client) => open.push(client),
            Err(status) => break status,
        }
    };
    assert_eq!(refused, 503);
    assert!((100..DESCRIPTORS - 64).contains(&open.len()), "{}", open.len());
    let health = format!("http://{}/health", server.address());
    assert_eq!(reqwest::get(&health).await.unwrap().status(), 200);
    // One that goes makes room.
    drop(open.drain(..10));
    let again = async { while server.connecting().open().await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(20), again).await.unwrap();
}
