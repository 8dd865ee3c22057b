//! The ends of a connection: what was sent before still arrives.

use serde_json::json;

use crate::support::{
    TestServer,
    peer::{Frame, Peer, event},
};

/// A client that has not read much yet of what it was sent.
async fn behind(server: &TestServer) -> Peer {
    let mut peer = Peer::connect(server.address()).await;
    peer.join("r").await;
    let mut publisher = server.client().await;
    for n in 0..20 {
        let message = json!({"roomName": "r", "n": n, "text": "x".repeat(20_000)});
        publisher.ask("message", message).await;
    }
    peer
}

async fn expect_messages(peer: &mut Peer) {
    for n in 0..20 {
        assert_eq!(peer.next("message-reply").await["n"], n);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disconnect_comes_after_what_was_sent_before() {
    let server = TestServer::open().await;
    let mut peer = behind(&server).await;
    let path = format!("/connections/{}", peer.id);
    assert_eq!(server.delete(&path).await.status, 204);
    expect_messages(&mut peer).await;
    loop {
        let text = peer.text().await;
        if text == "41" {
            break;
        }
        let (name, _) = event(&text, "/").unwrap();
        assert_ne!(name, "message-reply");
    }
    // The session in the namespace has ended, not the connection.
    peer.enter("/").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_server_still_sends_what_it_has() {
    let server = TestServer::start().await;
    let mut peer = behind(&server).await;
    let stopping = tokio::spawn(server.stop());
    expect_messages(&mut peer).await;
    loop {
        match peer.frame().await {
            Some(Frame::Close) => break,
            Some(Frame::Text(_)) => {}
            other => panic!("{other:?} instead of the end"),
        }
    }
    assert_eq!(peer.frame().await, None);
    drop(peer);
    stopping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_is_answered_after_what_was_sent_before() {
    let server = TestServer::start().await;
    let mut peer = behind(&server).await;
    peer.write_close().await;
    expect_messages(&mut peer).await;
    loop {
        match peer.frame().await {
            Some(Frame::Close) => break,
            Some(Frame::Text(_)) => {}
            other => panic!("{other:?} instead of the answer"),
        }
    }
    assert_eq!(peer.frame().await, None);
}
