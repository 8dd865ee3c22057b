use axum::Router;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Semaphore,
};

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_head_that_never_ends_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let timeouts = Timeouts { head: Duration::from_millis(300), write: DEADLINE };
    let router = Router::new().fallback(async || "served");
    let slots = Slots::new(None, Vec::new());
    tokio::spawn(serve(listener, router, timeouts, slots, CancellationToken::new()));
    let begun = "GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ";
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    for (first, drips) in [("", false), (begun, false), (begun, true)] {
        let mut peer = TcpStream::connect(address).await.unwrap();
        peer.write_all(first.as_bytes()).await.unwrap();
        let ended = async {
            let mut answer = Vec::new();
            loop {
                tokio::select! {
                    read = peer.read_buf(&mut answer) => break read,
                    _ = pace.tick() => {}
                }
                // A byte now and then is no sign of life.
                if drips && peer.write_all(b"x").await.is_err() {
                    break Ok(0);
                }
            }
        };
        let ended = tokio::time::timeout(DEADLINE, ended).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{first:?}: {ended:?}");
    }
    let mut peer = TcpStream::connect(address).await.unwrap();
    peer.write_all(format!("{begun}\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    peer.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("served"), "{answer}");
}

/// A server with three slots.
async fn small_server() -> (SocketAddr, Arc<Semaphore>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let timeouts = Timeouts { head: DEADLINE, write: DEADLINE };
    let begun = Arc::new(Semaphore::new(0));
    let begins = begun.clone();
    let never = async move || {
        begins.add_permits(1);
        pending::<&str>().await
    };
    let router = Router::new()
        .route("/never", axum::routing::get(never))
        .fallback(async |body: Bytes| format!("served {}", body.len()));
    let slots = Slots::new(Some(6), Vec::new());
    tokio::spawn(serve(listener, router, timeouts, slots, CancellationToken::new()));
    (address, begun)
}

async fn ask(address: SocketAddr, head: &str) -> (TcpStream, String) {
    let mut peer = TcpStream::connect(address).await.unwrap();
    peer.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 1000];
    let size = tokio::time::timeout(DEADLINE, peer.read(&mut answer)).await.unwrap().unwrap();
    answer.truncate(size);
    (peer, String::from_utf8(answer).unwrap())
}

#[tokio::test]
async fn idle_connections_give_their_slots() {
    let (address, _) = small_server().await;
    let mut idle = Vec::new();
    for begun in ["", "GET / HT", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"] {
        for _ in 0..5 {
            let mut peer = TcpStream::connect(address).await.unwrap();
            peer.write_all(begun.as_bytes()).await.unwrap();
            idle.push(peer);
        }
        let (kept, answer) = ask(address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{begun}: {answer}");
        idle.push(kept);
    }
}

#[tokio::test]
async fn requests_under_way_keep_theirs() {
    let (address, begun) = small_server().await;
    let mut busy = Vec::new();
    for _ in 0..3 {
        let mut peer = TcpStream::connect(address).await.unwrap();
        peer.write_all(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        tokio::time::timeout(DEADLINE, begun.acquire()).await.unwrap().unwrap().forget();
        busy.push(peer);
    }
    let (_, answer) = ask(address, "").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}
