//! The backend says who a new client is.

use roomcast::config::{Config, Secret};
use serde_json::{Value, json};

use super::backend::Backend;
use crate::support::{SECRET, TestClient, TestServer, token_of};

fn asks(config: &mut Config) {
    config.handler_connect = true;
    config.handler_headers = ["authorization"].into_iter().collect();
}

/// The backend is also told of clients that have gone.
fn asks_and_is_told(config: &mut Config) {
    asks(config);
    config.handler_disconnect = true;
}

/// Connects a client whom the backend answers so.
async fn admit(server: &TestServer, backend: &mut Backend, answer: Value) -> TestClient {
    let (client, ()) = tokio::join!(server.connecting().join(), async {
        backend.next().await.reply(&answer);
    });
    client
}

#[tokio::test]
async fn a_new_client_is_who_the_backend_says() {
    let mut backend = Backend::start().await;
    let server = backend.server(asks).await;
    let mut witness = admit(&server, &mut backend, json!({})).await;
    let connecting = server.connecting().auth(json!({"key": "k", "clientName": "me"}));
    let connecting = connecting.header("authorization", "Bearer x").query("q", "1");
    let (mut client, body) = tokio::join!(connecting.join(), async {
        let asked = backend.next().await;
        let body = asked.body.clone();
        asked.reply(&json!({
            "client": {
                "userId": 7, "clientName": "Ann", "join": ["lobby"], "rooms": ["lobby", "team-*"],
                "claims": {"plan": "pro"}, "expiresAt": "2999-01-01T00:00:00Z",
            },
            "data": {"cart": []},
            "emit": [{"event": "hello", "data": 1}],
        }));
        body
    });
    assert_eq!(body["type"], "connect");
    assert_eq!(body["handshake"]["auth"], json!({"key": "k", "clientName": "me"}));
    assert_eq!(body["handshake"]["headers"], json!({"authorization": "Bearer x"}));
    assert_eq!(body["handshake"]["query"]["q"], "1");
    assert!(body["event"].is_null() && body["args"].is_null() && body["wantsAck"].is_null());
    let told = &body["client"];
    assert_eq!(
        (&told["clientId"], &told["clientName"]),
        (&client.id.as_str().into(), &"me".into())
    );
    assert_eq!(
        (&told["userId"], &told["rooms"], &told["data"]),
        (&Value::Null, &json!([]), &json!({}))
    );
    let mut came = witness.next("client-connected").await;
    while came["clientId"] != client.id {
        came = witness.next("client-connected").await;
    }
    assert_eq!(came["clientName"], "Ann");
    assert_eq!(witness.next("user-online").await["userId"], "7");
    client.next("hello").await;
    let ack = client.ask_later("e", json!(1)).await.unwrap();
    let asked = backend.next().await;
    let told = &asked.body["client"];
    assert_eq!((&told["userId"], &told["clientName"]), (&"7".into(), &"Ann".into()));
    assert_eq!((&told["rooms"], &told["claims"]), (&json!(["lobby"]), &json!({"plan": "pro"})));
    assert_eq!(told["data"], json!({"cart": []}));
    asked.nothing();
    client.ack(ack).await;
    assert_eq!(client.ask("join-room", json!("team-1")).await["success"], true);
    assert_eq!(client.ask("join-room", json!("other")).await["code"], "forbidden");
    // Nobody may say afterwards that it is somebody else.
    assert_eq!(client.ask("authenticate", json!({"userId": "8"})).await["code"], "forbidden");
    assert_eq!(client.ask("authenticate", json!({"userId": "7"})).await["success"], true);
    assert_eq!(client.ask("join-room", json!("other")).await["code"], "forbidden");
    assert_eq!(witness.ask("authenticate", json!({"userId": "7"})).await["code"], "unauthorized");
}

#[tokio::test]
async fn a_client_is_kept_out_with_words_and_data() {
    let mut backend = Backend::start().await;
    let server = backend.server(asks).await;
    let error = json!({"message": "Subscription expired", "code": "payment_required", "data": {"plan": "free"}});
    for (status, answer, message) in [
        (200, json!({"error": error}), "Subscription expired"),
        (401, error.clone(), "Subscription expired"),
        (500, json!({}), "could not answer"),
        (202, json!({}), "could not answer"),
        (200, json!({"client": {"userId": []}}), "could not answer"),
    ] {
        let (refusal, ()) = tokio::join!(server.connecting().knock_for_all(), async {
            backend.next().await.answer(status, answer.to_string());
        });
        let refusal = refusal.err().unwrap();
        assert!(refusal["message"].as_str().unwrap().contains(message), "{refusal}");
    }
    assert_eq!(server.app.registry.connections(), 0);
}

#[tokio::test]
async fn a_client_is_let_in_before_it_is_disconnected() {
    let mut backend = Backend::start().await;
    let server = backend.server(asks_and_is_told).await;
    let answer = json!({"disconnect": "maintenance", "emit": [{"event": "sorry"}]});
    let mut client = admit(&server, &mut backend, answer).await;
    client.next("sorry").await;
    client.ended_in_namespace().await;
    let told = backend.next().await;
    assert_eq!(
        (&told.body["type"], &told.body["reason"]),
        (&"disconnect".into(), &"maintenance".into())
    );
    told.nothing();
}

#[tokio::test]
async fn a_time_that_is_over_ends_the_connection() {
    let mut backend = Backend::start().await;
    let server = backend.server(asks).await;
    let mut client = admit(&server, &mut backend, json!({"client": {"expiresAt": 1}})).await;
    client.next("token-expired").await;
    client.ended_in_namespace().await;
}

#[tokio::test]
async fn a_token_is_checked_first_and_the_backend_has_the_last_word() {
    let mut backend = Backend::start().await;
    let server = backend
        .server(|config| {
            asks(config);
            config.jwt_secret = Some(Secret::new(SECRET));
        })
        .await;
    // Without a token, or with a bad one, nobody is asked.
    for auth in [json!({}), json!({"token": "x.y.z"})] {
        server.connecting().auth(auth).knock().await.err().unwrap();
    }
    assert!(!backend.is_asked());
    let token = token_of("ann");
    let connecting = server.connecting().auth(json!({"token": token}));
    let (mut client, ()) = tokio::join!(connecting.join(), async {
        let asked = backend.next().await;
        let told = &asked.body["client"];
        assert_eq!((&told["userId"], &told["claims"]["sub"]), (&"ann".into(), &"ann".into()));
        asked.reply(&json!({"client": {"rooms": ["a"]}}));
    });
    assert_eq!(client.ask("join-room", json!("b")).await["code"], "forbidden");
    // The same token, which permits everything, gives no more than the backend did.
    let renewed = client.ask("authenticate", json!({"userId": "ann", "token": token})).await;
    assert_eq!(renewed["success"], true);
    assert_eq!(client.ask("join-room", json!("b")).await["code"], "forbidden");
    assert_eq!(client.ask("join-room", json!("a")).await["success"], true);
}

/// With authentication on, a message to a user that is away is queued; so it is where the backend says who users
/// are.
#[tokio::test]
async fn users_whom_the_backend_names_have_queues() {
    let mut backend = Backend::start().await;
    let server = backend.server(asks).await;
    let mut client = admit(&server, &mut backend, json!({"client": {"userId": "ann"}})).await;
    let message = json!({"targetUserId": "bob", "message": "hi"});
    let ack = client.ask("private-message", message).await;
    assert_eq!((&ack["queued"], &ack["delivered"]), (&true.into(), &false.into()), "{ack}");
    let mut bob = admit(&server, &mut backend, json!({"client": {"userId": "bob"}})).await;
    assert_eq!(bob.next("private-message").await["from"], "ann");
}

/// The backend has let it in, so it is told that it has gone.
#[tokio::test]
async fn a_client_that_gives_up_while_the_backend_thinks_has_gone() {
    let mut backend = Backend::start().await;
    let server = backend.server(asks_and_is_told).await;
    let mut client = server.connecting().open().await.ok().unwrap();
    client.send_frame("40").await;
    let asked = backend.next().await;
    let id = asked.body["client"]["clientId"].clone();
    client.close().await;
    asked.reply(&json!({"client": {"userId": "ann"}, "data": {"n": 1}}));
    let told = backend.next().await;
    let body = &told.body;
    assert_eq!((&body["type"], &body["client"]["clientId"]), (&"disconnect".into(), &id));
    assert_eq!(
        (&body["client"]["userId"], &body["client"]["data"]),
        (&"ann".into(), &json!({"n": 1}))
    );
    told.nothing();
    assert_eq!(server.app.registry.connections(), 0);
    assert!(!backend.is_asked());
}

#[tokio::test]
async fn a_stop_tells_of_all_clients_once() {
    let mut backend = Backend::start().await;
    let server = backend
        .server(|config| {
            config.handler_disconnect = true;
            config.shutdown_grace = std::time::Duration::from_secs(10);
        })
        .await;
    let clients = [server.client().await, server.client().await];
    let mut ids = clients.iter().map(|client| client.id.clone()).collect::<Vec<_>>();
    ids.sort_unstable();
    let (told, ()) = tokio::join!(
        async {
            let mut told = Vec::new();
            for _ in 0..2 {
                let asked = backend.next().await;
                assert_eq!(asked.body["reason"], "server shutting down");
                told.push(asked.body["client"]["clientId"].as_str().unwrap().to_owned());
                asked.nothing();
            }
            told.sort_unstable();
            told
        },
        server.stop()
    );
    assert_eq!(told, ids);
    assert!(!backend.is_asked());
}
