//! That a client has what it was sent is proved by its answer.

use std::time::Duration;

use roomcast::config::Secret;
use serde_json::json;

use crate::support::{
    SECRET, TestServer,
    peer::{Frame, Peer},
    token_of,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_a_probe_is_none_to_the_heartbeat() {
    let server = TestServer::with(|config| {
        config.jwt_secret = Some(Secret::new(SECRET));
        config.queue_confirm = Duration::from_hours(1);
        // Some time, so that all is over before the second ping; and little, so that it comes soon.
        config.ping_interval = Duration::from_secs(2);
        config.ping_timeout = Duration::from_secs(1);
    })
    .await;
    let mut alice = server.connecting().auth(json!({"token": token_of("alice")})).join().await;
    let private = json!({"targetUserId": "bob", "message": "m", "id": "one"});
    assert_eq!(alice.ask("private-message", private).await["queued"], true);
    let mut bob = Peer::open(server.address(), None).await;
    bob.write(&format!("40{}", json!({"token": token_of("bob")}))).await;
    assert_eq!(bob.next("private-message").await["id"], "one");
    // The first ping of the heartbeat and the probe; from then on it is dead.
    bob.answers = 2 - bob.pings;
    while let Some(Frame::Text(_)) = bob.frame().await {}
    assert_eq!(bob.pings, 3, "the ping that it did not answer is the last");
}
