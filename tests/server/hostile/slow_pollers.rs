//! Clients that poll slowly, or not at all: they are held to the bounds of all others.

use std::time::Duration;

use serde_json::json;

use super::assert_serves;
use crate::support::{
    TestServer,
    raw::{Poller, Wire, assert_unknown},
};

/// A poller that is a member of `r` and has taken all that it was told so far.
async fn member(server: &TestServer) -> Poller<'_> {
    let (poller, _) = Poller::client(server).await;
    assert_eq!(poller.post("3").await.text, "ok");
    assert_eq!(poller.post("42[\"join-room\",\"r\"]").await.text, "ok");
    while !poller.poll().await.text.contains("42[\"room-joined\"") {}
    poller
}

fn reason(figures: &str, reason: &str) -> bool {
    figures.contains(&format!("slow_consumers_total{{reason=\"{reason}\"}} 1"))
}

#[tokio::test]
async fn a_client_with_more_unsent_than_it_may_is_cut_off_at_the_transport() {
    let server = TestServer::with(|config| {
        config.send_buffer = 200_000;
        config.send_timeout = Duration::from_hours(1);
    })
    .await;
    let poller = member(&server).await;
    let mut publisher = server.client().await;
    for n in 0..6 {
        let message = json!({"roomName": "r", "n": n, "text": "x".repeat(50_000)});
        assert_eq!(publisher.ask("message", message).await["success"], true);
    }
    // Its end is that of a session that nobody knows: then a client comes back by itself.
    assert_unknown(&poller.poll().await);
    server.until(|figures| reason(figures, "send_buffer")).await;
    publisher.disconnect().await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn a_client_that_does_not_poll_is_cut_off_at_the_transport() {
    let server = TestServer::with(|config| {
        config.send_timeout = Duration::from_millis(500);
        config.ping_timeout = Duration::from_mins(10);
    })
    .await;
    let poller = member(&server).await;
    let mut publisher = server.client().await;
    publisher.ask("message", json!({"roomName": "r"})).await;
    server.until(|figures| reason(figures, "send_timeout")).await;
    assert_unknown(&poller.poll().await);
    publisher.disconnect().await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn an_answer_that_is_not_read_is_bounded_too() {
    let server = TestServer::with(|config| {
        config.send_timeout = Duration::from_secs(2);
        config.send_buffer = 50_000_000;
        config.max_payload = 20_000_000;
    })
    .await;
    let mut publisher = server.client().await;
    let poller = member(&server).await;
    let head = format!(
        "GET /socket.io/?EIO=4&transport=polling&sid={} HTTP/1.1\r\nHost: x\r\n\r\n",
        poller.session
    );
    let mut first = Wire::open(server.address()).await;
    first.write(head.as_bytes()).await;
    // More than the kernel takes for a peer that does not read.
    let message = json!({"roomName": "r", "text": "x".repeat(15_000_000)});
    publisher.ask("message", message).await;
    assert!(first.head().await.starts_with("HTTP/1.1 200"));
    // Nothing is handed out beside it; it is cut off over the one that it does not read.
    assert_unknown(&poller.poll().await);
    server.until(|figures| reason(figures, "send_timeout")).await;
    publisher.disconnect().await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn a_replay_and_pages_are_paced_to_the_polls() {
    let server = TestServer::with(|config| config.send_buffer = 200_000).await;
    let mut publisher = server.client().await;
    let all = 100;
    for n in 0..all {
        let message = json!({"roomName": "r", "n": n, "text": "x".repeat(10_000)});
        publisher.ask("message", message).await;
    }
    for protocol in [3, 4] {
        let poller = Poller::open(&server, protocol).await;
        let wanted = [
            "42[\"join-room\",{\"roomName\":\"r\",\"offset\":0}]",
            "42[\"syncMessages\",{\"roomId\":\"r\",\"limit\":1000}]",
        ];
        if protocol == 4 {
            assert_eq!(poller.post("40").await.text, "ok");
        }
        while !poller.poll().await.text.contains("42[\"connected\"") {}
        for packet in wanted {
            let length = if protocol == 3 { format!("{}:", packet.len()) } else { String::new() };
            assert_eq!(poller.post(format!("{length}{packet}")).await.text, "ok");
        }
        let (mut heard, mut complete) = (Vec::<u64>::new(), false);
        while !complete {
            let text = poller.poll().await.text;
            assert!(text.len() <= 220_000, "{}", text.len());
            let numbers = text.split("\"n\":").skip(1);
            heard.extend(
                numbers.map(|rest| rest.split(',').next().unwrap().parse::<u64>().unwrap()),
            );
            complete = text.contains("42[\"syncComplete\"");
        }
        assert!(heard.iter().copied().eq((0..all).chain(0..all)), "{heard:?}");
        poller.post(if protocol == 3 { "1:1" } else { "1" }).await;
    }
    publisher.disconnect().await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn posts_do_not_overlap() {
    let server = TestServer::start().await;
    let (poller, _) = Poller::client(&server).await;
    let mut first = Wire::open(server.address()).await;
    let head = format!(
        "POST /socket.io/?EIO=4&transport=polling&sid={} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n42",
        poller.session
    );
    first.write(head.as_bytes()).await;
    // The first has begun when the second is refused; before, the second is answered.
    while poller.post("42[\"ping\"]").await.status == 200 {}
    assert_unknown(&poller.poll().await);
    assert_serves(&server).await;
}
