//! Authentication: where a token comes from, which are refused, what they permit, how they end.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use roomcast::{
    config::{Config, Secret},
    protocol::permissions::Permissions,
};
use serde_json::{Value, json};

use crate::support::{Connecting, TestClient, TestServer, fields};

const SECRET: &str = "a secret of at least thirty-two bytes";

fn with_secret(config: &mut Config) {
    config.jwt_secret = Some(Secret::new(SECRET));
}

async fn server() -> TestServer {
    TestServer::with(with_secret).await
}

/// A token with these claims, as an issuer would sign it.
fn token(claims: &Value) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET.as_bytes()))
        .unwrap()
}

fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}

fn with_token(server: &TestServer, token: &str) -> Connecting {
    server.connecting().auth(json!({"token": token}))
}

/// A client whose token has these claims.
async fn bearer(server: &TestServer, claims: &Value) -> TestClient {
    with_token(server, &token(claims)).join().await
}

async fn refused(connecting: Connecting) -> String {
    let refusal = connecting.knock().await.err().expect("it must not be let in");
    refusal.as_str().unwrap().to_owned()
}

async fn user_of(connecting: Connecting, server: &TestServer) -> Option<String> {
    let client = connecting.join().await;
    let known = server.app.registry.clients(&client.id.parse().unwrap());
    known[0].user().map(|user| user.to_string())
}

#[tokio::test]
async fn a_token_comes_by_auth_by_query_or_by_header() {
    let server = server().await;
    let of = |user: &str| token(&json!({"sub": user}));
    let header =
        || server.connecting().header("authorization", &format!("Bearer {}", of("header")));
    let query = || header().query("token", &of("query"));
    let auth = query().auth(json!({"token": of("auth")}));
    assert_eq!(user_of(auth, &server).await.unwrap(), "auth");
    assert_eq!(user_of(query(), &server).await.unwrap(), "query");
    assert_eq!(user_of(query().auth(json!({"token": null})), &server).await.unwrap(), "query");
    assert_eq!(user_of(header(), &server).await.unwrap(), "header");
    let lower = server.connecting().header("authorization", &format!("bearer {}", of("lower")));
    assert_eq!(user_of(lower, &server).await.unwrap(), "lower");
    // The first that is given counts, also where it is bad and another would be good.
    let bad = query().auth(json!({"token": "garbage"}));
    assert!(refused(bad).await.starts_with("token is not a JWT"));
    assert_eq!(
        user_of(with_token(&server, &token(&json!({"id": 7}))), &server).await.unwrap(),
        "7"
    );
}

#[tokio::test]
async fn the_name_of_a_token_comes_before_that_of_the_handshake() {
    let server = server().await;
    let named = token(&json!({"sub": "alice", "name": "Alice"}));
    let unnamed = token(&json!({"sub": "alice"}));
    for (token, name) in [(named, "Alice"), (unnamed, "Eve")] {
        let auth = json!({"token": token, "clientName": "Eve"});
        let mut client = server.connecting().auth(auth).join().await;
        assert_eq!(client.next("client-connected").await["clientName"], name);
    }
}

#[tokio::test]
async fn a_user_of_a_token_is_bound_at_once() {
    let server = server().await;
    let mut observer = bearer(&server, &json!({"sub": "bob"})).await;
    observer.forget().await;
    let mut client = bearer(&server, &json!({"sub": "alice"})).await;
    assert_eq!(observer.next("user-online").await["userId"], "alice");
    assert_eq!(client.all("user-online").await, Vec::<Value>::new());
    let ack = observer.ask("private-message", json!({"target": "alice", "message": "hi"})).await;
    assert_eq!(ack["delivered"], true);
    assert_eq!(client.next("private-message").await["from"], "bob");
}

#[tokio::test]
async fn a_bad_token_is_refused_with_its_reason() {
    let server = TestServer::with(|config| {
        with_secret(config);
        config.jwt_issuer = Some("https://issuer".into());
        config.jwt_audience = Some("rooms".into());
    })
    .await;
    let good = json!({"sub": "alice", "iss": "https://issuer", "aud": "rooms"});
    let _good = bearer(&server, &good).await;
    let but = |claim: &str, value: Value| {
        let mut claims = good.clone();
        claims[claim] = value;
        token(&claims)
    };
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = format!("{}.{}.", part(json!({"alg": "none"})), part(good.clone()));
    let mut tampered = but("sub", json!("alice"));
    tampered.truncate(tampered.len() - 4);
    tampered.push_str("AAAA");
    for (token, reason) in [
        (unsigned, "token is signed with an algorithm that the configured key does not allow"),
        (tampered, "token signature is not valid"),
        (but("exp", json!(in_seconds(-1))), "token expired"),
        (but("nbf", json!(in_seconds(3600))), "token is not valid yet"),
        (but("iss", json!("https://other")), "token has the wrong issuer"),
        (but("iss", json!(null)), "token has the wrong issuer"),
        (but("aud", json!("other")), "token has the wrong audience"),
        (but("sub", json!(null)), "token names no user: it needs a claim `sub` (or `id`)"),
        (
            but("rooms", json!(7)),
            "token claim `rooms` must be a string or an array of strings, or an object with such values in join, read and send",
        ),
        (
            "garbage".into(),
            "token is not a JWT: three base64url parts of JSON, joined by dots, are expected",
        ),
        ("x".repeat(20_000), "token is larger than 16384 bytes"),
    ] {
        assert_eq!(refused(with_token(&server, &token)).await, reason);
    }
    assert!(
        refused(server.connecting()).await.starts_with("authentication required: give a token")
    );
    assert!(refused(with_token(&server, "")).await.starts_with("authentication required"));
    assert_eq!(server.app.registry.connections(), 1);
}

#[tokio::test]
async fn the_key_fixes_the_algorithm() {
    let fixture = |name: &str| fs::read_to_string(format!("tests/fixtures/keys/{name}")).unwrap();
    let public = fixture("rsa.pub.pem");
    let pem = public.clone();
    let server = TestServer::with(move |config| config.jwt_public_key = Some(pem)).await;
    let claims = json!({"sub": "alice"});
    let signed =
        |algorithm, key: &EncodingKey| encode(&Header::new(algorithm), &claims, key).unwrap();
    let private = EncodingKey::from_rsa_pem(fixture("rsa.pem").as_bytes()).unwrap();
    for algorithm in [Algorithm::RS256, Algorithm::PS512] {
        let good = with_token(&server, &signed(algorithm, &private));
        assert_eq!(user_of(good, &server).await.unwrap(), "alice");
    }

    // The public key is public: it must not serve as a secret.
    let reason = "token is signed with an algorithm that the configured key does not allow";
    for key in [public.as_str(), public.trim()] {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let text = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), text.as_bytes());
        let forged = format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag));
        assert_eq!(refused(with_token(&server, &forged)).await, reason);
    }
    let other = EncodingKey::from_ec_pem(fixture("ec-p256.pem").as_bytes()).unwrap();
    assert_eq!(refused(with_token(&server, &signed(Algorithm::ES256, &other))).await, reason);
}

#[tokio::test]
async fn where_a_token_is_not_required_a_bad_one_is_still_refused() {
    let server = TestServer::with(|config| {
        with_secret(config);
        config.auth_required = Some(false);
    })
    .await;
    assert_eq!(user_of(server.connecting(), &server).await, None);
    assert_eq!(user_of(with_token(&server, ""), &server).await, None);
    let expired = token(&json!({"sub": "alice", "exp": in_seconds(-1)}));
    assert_eq!(refused(with_token(&server, &expired)).await, "token expired");
    assert_eq!(refused(server.connecting().query("token", &expired)).await, "token expired");
    let header = format!("Bearer {expired}");
    assert_eq!(
        refused(server.connecting().header("authorization", &header)).await,
        "token expired"
    );
    for odd in [json!(7), json!({"a": 1}), json!(["x"]), json!(true)] {
        let refusal = refused(server.connecting().auth(json!({"token": odd}))).await;
        assert!(refusal.starts_with("token is not a JWT"), "{odd}: {refusal}");
    }

    // The anonymous may do what needs no user, and may become somebody with a token alone.
    let mut client = server.client().await;
    client.join("r").await;
    assert_eq!(
        client.ask("authenticate", json!({"userId": "alice"})).await["code"],
        "unauthorized"
    );
    assert_eq!(client.ask("authenticate", json!("alice")).await["code"], "unauthorized");
    assert_eq!(
        client.ask("presenceUpdate", json!({"status": "away"})).await["code"],
        "unauthorized"
    );
    let claim = json!({"userId": "alice", "token": token(&json!({"sub": "alice"}))});
    assert_eq!(client.ask("authenticate", claim).await["success"], true);
    assert_eq!(client.ask("presenceUpdate", json!({"status": "away"})).await["success"], true);
}

#[tokio::test]
async fn a_client_that_leaves_its_token_out_has_the_rooms_of_the_anonymous() {
    let server = TestServer::with(|config| {
        with_secret(config);
        config.auth_required = Some(false);
        config.anonymous_rooms = Permissions::patterns(["lobby", "public-*"]).unwrap();
    })
    .await;
    let mut narrow = bearer(&server, &json!({"sub": "alice", "rooms": ["team-7"]})).await;
    assert_eq!(narrow.ask("join-room", json!({"roomName": "team-8"})).await["code"], "forbidden");
    narrow.disconnect().await;

    let mut client = server.client().await;
    client.join("public-7").await;
    for (event, payload) in in_room("team-8") {
        assert_eq!(client.ask(event, payload).await["code"], "forbidden", "{event}");
    }
    let everyone = json!({"text": "to everyone"});
    assert_eq!(client.ask("message", everyone.clone()).await["code"], "forbidden");
    let tick = json!({"event": "tick", "data": 1});
    assert_eq!(client.ask("custom-event", tick).await["code"], "forbidden");

    // A token brings its own rooms, narrower or wider ones, and the anonymous' are left.
    let claim = |rooms: Value| {
        let claims = match rooms {
            Value::Null => json!({"sub": "alice"}),
            rooms => json!({"sub": "alice", "rooms": rooms}),
        };
        json!({"userId": "alice", "token": token(&claims)})
    };
    assert_eq!(client.ask("authenticate", claim(json!(["team-7"]))).await["success"], true);
    assert_eq!(client.next("room-left").await["roomName"], "public-7");
    client.join("team-7").await;
    let lobby = client.ask("join-room", json!({"roomName": "lobby"})).await;
    assert_eq!(lobby["code"], "forbidden");
    assert_eq!(client.ask("authenticate", claim(Value::Null)).await["success"], true);
    client.join("lobby").await;
    assert_eq!(client.ask("message", everyone).await["success"], true);
    assert_eq!(client.ask("authenticate", claim(json!([]))).await["success"], true);
    for room in ["team-7", "lobby"] {
        assert_eq!(client.ask("join-room", json!({"roomName": room})).await["code"], "forbidden");
    }
}

#[tokio::test]
async fn without_authentication_everyone_is_anonymous_whatever_it_claims() {
    let server = TestServer::with(|config| config.anonymous_rooms = Permissions::nothing()).await;
    let mut client = server.client().await;
    client.authenticate("alice").await;
    for (event, payload) in in_room("r") {
        assert_eq!(client.ask(event, payload).await["code"], "forbidden", "{event}");
    }
    assert_eq!(client.ask("heartbeat", Value::Null).await["success"], true);
}

/// Every event that names a room, with what it needs besides.
fn in_room(room: &str) -> Vec<(&'static str, Value)> {
    let payload = json!({
        "roomId": room, "content": "c", "isTyping": true, "messageId": 1, "event": "tick", "data": 1
    });
    [
        "join-room",
        "watch-resource",
        "joinRoom",
        "message",
        "channels",
        "sendMessage",
        "custom-event",
        "typingIndicator",
        "readReceipt",
        "syncMessages",
    ]
    .map(|event| (event, payload.clone()))
    .into()
}

#[tokio::test]
async fn the_rooms_of_a_token_are_all_that_it_permits() {
    let server = server().await;
    let mut member = bearer(&server, &json!({"sub": "bob"})).await;
    for room in ["team-1", "lobby", "secret", "resource:7"] {
        member.join(room).await;
    }
    let rooms = json!(["team-*", "lobby", "resource:7"]);
    let mut client = bearer(&server, &json!({"sub": "alice", "rooms": rooms})).await;
    client.forget().await;
    member.forget().await;
    for room in ["secret", "Team-1", "team", "lobby2", "resource:77"] {
        for (event, payload) in in_room(room) {
            assert_eq!(client.ask(event, payload).await["code"], "forbidden", "{event} {room}");
        }
    }
    assert_eq!(client.ask("join-room", json!({"resourceId": 8})).await["code"], "forbidden");
    // Nor the whole namespace.
    for (event, payload) in [
        ("message", json!("text")),
        ("message", json!({"text": "text"})),
        ("custom-event", json!({"event": "tick"})),
    ] {
        assert_eq!(client.ask(event, payload).await["code"], "forbidden", "{event}");
    }
    assert_eq!(member.names().await, Vec::<String>::new());
    assert!(client.names().await.iter().all(|name| name == "error" || name == "exception"));
    for room in ["team-1", "lobby"] {
        for (event, payload) in in_room(room) {
            assert_eq!(client.ask(event, payload).await["success"], true, "{event} {room}");
        }
    }
    assert_eq!(client.ask("join-room", json!({"resourceId": 7})).await["success"], true);
    // To leave needs no permission.
    assert_eq!(client.ask("leave-room", json!("secret")).await["success"], true);
}

#[tokio::test]
async fn a_star_is_every_room_and_still_not_the_namespace() {
    let server = server().await;
    let mut other = bearer(&server, &json!({"sub": "bob"})).await;
    let mut client = bearer(&server, &json!({"sub": "alice", "rooms": ["*"]})).await;
    other.forget().await;
    for (event, payload) in in_room("any") {
        assert_eq!(client.ask(event, payload).await["success"], true, "{event}");
    }
    assert_eq!(client.ask("message", json!({"text": "all"})).await["code"], "forbidden");
    assert_eq!(client.ask("custom-event", json!({"event": "tick"})).await["code"], "forbidden");
    assert_eq!(other.names().await, Vec::<String>::new());
    let mut nowhere = bearer(&server, &json!({"sub": "carol", "rooms": []})).await;
    assert_eq!(nowhere.ask("join-room", json!("any")).await["code"], "forbidden");
}

#[tokio::test]
async fn an_expired_token_ends_the_connection() {
    let server = server().await;
    let mut other = bearer(&server, &json!({"sub": "bob"})).await;
    let mut client = bearer(&server, &json!({"sub": "alice", "exp": in_seconds(2)})).await;
    client.join("r").await;
    other.forget().await;
    let expired = client.next("token-expired").await;
    assert_eq!(fields(&expired), ["message"]);
    let id = client.id.clone();
    client.ended().await;
    assert_eq!(other.next("client-disconnected").await["clientId"], id);
    assert!(server.app.registry.namespaces()[0].room("r").is_none());
}

#[tokio::test]
async fn a_renewed_token_does_not_expire() {
    let server = server().await;
    let soon = in_seconds(2);
    // Two clients whose tokens end at the same moment; one renews its own.
    let mut control = bearer(&server, &json!({"sub": "bob", "exp": soon})).await;
    let mut client = bearer(&server, &json!({"sub": "alice", "exp": soon})).await;
    let mut forever = bearer(&server, &json!({"sub": "carol", "exp": soon})).await;
    let renewed = token(&json!({"sub": "alice", "exp": soon + 3600}));
    let ack = client.ask("authenticate", json!({"userId": "alice", "token": renewed})).await;
    assert_eq!(ack, json!({"success": true, "message": "Successfully authenticated"}));
    let endless = token(&json!({"sub": "carol"}));
    assert_eq!(forever.ask("authenticate", json!({"token": endless})).await["success"], true);
    // The same token once more does not make it end twice.
    for _ in 0..3 {
        let same = token(&json!({"sub": "bob", "exp": soon}));
        assert_eq!(control.ask("authenticate", json!({"token": same})).await["success"], true);
    }
    control.next("token-expired").await;
    control.ended_without("token-expired").await;
    for client in [&mut client, &mut forever] {
        assert_eq!(client.all("token-expired").await, Vec::<Value>::new());
    }
}

#[tokio::test]
async fn a_narrower_token_puts_the_client_out_of_what_it_no_longer_permits() {
    let server = server().await;
    let mut other = bearer(&server, &json!({"sub": "bob"})).await;
    let mut client = bearer(&server, &json!({"sub": "alice"})).await;
    for room in ["keep", "dashed", "camel"] {
        other.join(room).await;
    }
    client.join("keep").await;
    client.ask("watch-resource", json!({"room": "dashed"})).await;
    client.ask("joinRoom", json!({"roomId": "camel"})).await;
    other.forget().await;
    client.forget().await;
    let narrow = token(&json!({"sub": "alice", "rooms": ["keep"]}));
    let ack = client.ask("authenticate", json!({"userId": "alice", "token": narrow})).await;
    assert_eq!(ack["success"], true);

    let mut events = client.everything().await;
    assert_eq!(events.remove(0).name, "authenticated");
    events.sort_by(|a, b| a.name.cmp(&b.name));
    let [camel, dashed] = events.try_into().unwrap();
    assert_eq!((camel.name.as_str(), camel.data), ("leftRoom", json!({"roomId": "camel"})));
    assert_eq!((dashed.name.as_str(), &dashed.data["roomName"]), ("room-left", &json!("dashed")));
    let mut told = other.everything().await;
    told.sort_by(|a, b| a.name.cmp(&b.name));
    let [dashed, camel] = told.try_into().unwrap();
    assert_eq!((dashed.name.as_str(), &dashed.data["room"]), ("user-left", &json!("dashed")));
    assert_eq!((camel.name.as_str(), &camel.data["roomId"]), ("userLeftRoom", &json!("camel")));
    for room in ["dashed", "camel", "keep"] {
        other.ask("message", json!({"room": room})).await;
    }
    let heard = client.all("message-reply").await;
    assert_eq!(heard.iter().map(|message| &message["room"]).collect::<Vec<_>>(), ["keep"]);
    assert_eq!(client.ask("message", json!("to all")).await["code"], "forbidden");

    // A wider one lets it in again.
    let wide = token(&json!({"sub": "alice"}));
    client.ask("authenticate", json!({"userId": "alice", "token": wide})).await;
    client.join("dashed").await;
}

#[tokio::test]
async fn authenticate_needs_a_valid_token_of_the_same_user() {
    let server = server().await;
    let mut client = bearer(&server, &json!({"sub": "alice", "rooms": ["r"]})).await;
    client.join("r").await;
    client.forget().await;
    let (alice, bob) = (token(&json!({"sub": "alice"})), token(&json!({"sub": "bob"})));
    let expired = token(&json!({"sub": "alice", "exp": in_seconds(-1)}));
    for (claim, code) in [
        (json!({"userId": "bob", "token": bob}), "forbidden"),
        (json!({"token": bob}), "forbidden"),
        (json!({"userId": "bob", "token": alice}), "forbidden"),
        (json!({"userId": "alice", "token": bob}), "forbidden"),
        (json!({"userId": "alice", "token": expired}), "unauthorized"),
        (json!({"userId": "alice", "token": "garbage"}), "unauthorized"),
        (json!({"userId": "alice"}), "unauthorized"),
        (json!("alice"), "unauthorized"),
        (json!({"userId": "alice", "token": 7}), "invalid_payload"),
        (json!({"userId": "", "token": alice}), "invalid_payload"),
    ] {
        assert_eq!(client.ask("authenticate", claim.clone()).await["code"], code, "{claim}");
        assert_eq!(client.next("error").await["event"], "authenticate");
    }
    // Nothing changed: neither the user, nor the rooms, nor what is permitted.
    assert_eq!(client.names().await, Vec::<String>::new());
    assert_eq!(client.ask("join-room", json!("s")).await["code"], "forbidden");
    assert_eq!(client.ask("message", json!({"room": "r"})).await["success"], true);
    assert_eq!(client.ask("presenceUpdate", json!({"status": "away"})).await["success"], true);
    assert_eq!(client.next("presenceUpdate").await["userId"], "alice");
}

#[tokio::test]
async fn the_id_of_another_client_is_no_way_to_it() {
    let server = server().await;
    let mut victim = bearer(&server, &json!({"sub": "alice"})).await;
    let mut client = bearer(&server, &json!({"sub": "eve"})).await;
    victim.forget().await;
    for (event, mut payload) in in_room(&victim.id) {
        payload["clientId"] = json!(victim.id);
        payload["id"] = json!(victim.id);
        assert_eq!(client.ask(event, payload).await["success"], true);
    }
    assert_eq!(victim.names().await, Vec::<String>::new());
    let heard =
        victim.ask("private-message", json!({"target": "alice", "message": "to myself"})).await;
    assert_eq!(heard["delivered"], true);
    assert_eq!(client.all("private-message").await, Vec::<Value>::new());
}

/// The binary, with logs of everything that happens.
fn talkative()
-> (std::process::Child, std::net::SocketAddr, BufReader<std::process::ChildStdout>, String) {
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_roomcast"))
        .env_clear()
        .current_dir(directory.path())
        .env("PORT", "0")
        .env("HOST", "127.0.0.1")
        .env("STORE_URL", "memory:")
        .env("JWT_SECRET", SECRET)
        .env("API_KEYS", "key-of-a-backend-that-nobody-may-read")
        .env("LOG_LEVEL", "trace")
        .env("RUST_LOG", "trace")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut log = String::new();
    let port = loop {
        let start = log.len();
        assert_ne!(output.read_line(&mut log).unwrap(), 0, "it ended: {log}");
        if let Some((_, port)) = log[start..].split_once("port=") {
            break port.trim().split(' ').next().unwrap().parse().unwrap();
        }
    };
    (child, ([127, 0, 0, 1], port).into(), output, log)
}

#[tokio::test]
async fn no_log_line_holds_a_token_or_a_key() {
    let (mut child, address, mut output, mut log) = talkative();
    let reader = std::thread::spawn(move || {
        output.read_to_string(&mut log).unwrap();
        log
    });
    let good = token(&json!({"sub": "alice", "name": "Alice\nname"}));
    let other = token(&json!({"sub": "alice", "exp": in_seconds(3600)}));
    let expired = token(&json!({"sub": "alice", "exp": in_seconds(-5)}));
    let connecting = || Connecting::to(address);
    let mut client = connecting().auth(json!({"token": good})).join().await;
    connecting().query("token", &good).join().await.disconnect().await;
    connecting().header("authorization", &format!("Bearer {good}")).join().await.disconnect().await;
    refused(connecting().auth(json!({"token": expired}))).await;
    refused(connecting().query("token", &expired)).await;
    client.ask("authenticate", json!({"userId": "alice", "token": other})).await;
    client.ask("authenticate", json!({"userId": "alice", "token": expired})).await;
    client.ask("message", json!({"room": "r", "content": "a-private-word"})).await;
    client.ask("private-message", json!({"target": "alice", "message": "a-private-word"})).await;
    client.settle().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{address}/socket.io/?EIO=4&transport=polling&token={good}");
    http.get(url)
        .header("x-api-key", "key-of-a-backend-that-nobody-may-read")
        .send()
        .await
        .unwrap();
    child.kill().unwrap();
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    child.wait().unwrap();
    let log = reader.join().unwrap() + &errors;

    assert!(
        log.contains("connection refused") && log.contains("TRACE"),
        "the log says too little:\n{log}"
    );
    let tail = |token: &str| token.rsplit('.').next().unwrap().to_owned();
    let secrets = [
        tail(&good),
        tail(&other),
        tail(&expired),
        SECRET.into(),
        "key-of-a-backend".into(),
        "a-private-word".into(),
    ];
    for secret in secrets {
        let line = log.lines().find(|line| line.contains(&secret));
        assert_eq!(line, None);
    }
    // Nor does a name begin a line of its own.
    assert!(!log.lines().any(|line| line.starts_with("name")), "{log}");
}

#[tokio::test]
async fn an_expiry_far_away_is_one() {
    let server = server().await;
    let mut client = bearer(&server, &json!({"sub": "alice", "exp": 253_402_300_799_u64})).await;
    client.settle().await;
}
