//! Nothing overtakes the CONNECT packet.

use serde_json::{Value, json};

use crate::support::{
    TestServer,
    peer::{Peer, event},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_of_connections_is_welcomed_in_order() {
    let server = TestServer::with(|config| config.announce_max = 0).await;
    let address = server.address();
    // Each is announced to all the others, which are just connecting.
    let storm = (0..100).map(|_| {
        tokio::spawn(async move {
            let mut peer = Peer::connect(address).await;
            let first = peer.id.clone();
            peer.enter("/chat").await;
            assert_eq!(peer.id.len(), first.len());
        })
    });
    for client in storm.collect::<Vec<_>>() {
        client.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_session_on_the_same_connection_hears_nothing_of_the_old_one() {
    let server = TestServer::with(|config| {
        config.history_size = 0;
        config.rate_limit_events = 0;
    })
    .await;
    let mut noise = server.client().await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let noise = tokio::spawn(async move {
        while stopped.try_recv().is_err() {
            noise.ask("message", json!({"text": "to everyone"})).await;
        }
    });
    let mut peer = Peer::connect(server.address()).await;
    for _ in 0..50 {
        peer.write("41").await;
        // Until the new CONNECT packet, what was sent before may come; after it, the welcome first.
        peer.write("40").await;
        loop {
            if peer.text().await.starts_with("40{") {
                break;
            }
        }
        let text = peer.text().await;
        let (name, _) = event(&text, "/").unwrap();
        assert_eq!(name, "connected", "{text}");
        // The end of the old session must not take the new one with it.
        peer.next("message").await;
    }
    stop.send(()).unwrap();
    noise.await.unwrap();
}

#[tokio::test]
async fn a_client_cannot_bring_about_a_marker() {
    let server = TestServer::start().await;
    let mut peer = Peer::connect(server.address()).await;
    // The number that a marker acknowledges is nothing special to a client.
    peer.write("429007199254740991[\"heartbeat\",null]").await;
    loop {
        let text = peer.text().await;
        if text.starts_with("43") {
            assert_eq!(text, "439007199254740991[{\"success\":true}]");
            break;
        }
    }
    peer.emit("ping", &Value::Null).await;
    peer.next("pong").await;
}
