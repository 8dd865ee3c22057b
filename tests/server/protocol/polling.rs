//! HTTP long polling.

use std::io::Read;

use flate2::read::{GzDecoder, ZlibDecoder};
use reqwest::{Method, header};
use serde_json::json;

use crate::support::{
    TestServer,
    raw::{Poller, Wire},
};

/// How the official Java client encodes binary data (android.util.Base64 with its default flags): lines of 76
/// characters, each with its end.
fn java_base64(data: &[u8]) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let text = BASE64_STANDARD.encode(data);
    let lines =
        text.as_bytes().chunks(76).map(|line| format!("{}\n", str::from_utf8(line).unwrap()));
    lines.collect()
}

#[tokio::test]
async fn base64_may_have_line_breaks() {
    let server = TestServer::start().await;
    let data = (0..=255).cycle().take(1000).collect::<Vec<u8>>();
    let (poller, _) = Poller::client(&server).await;
    let mut witness = server.client().await;
    witness.forget().await;
    for encoded in [java_base64(&data), java_base64(&data).replace('\n', "\r\n")] {
        let event = r#"451-["message",{"text":{"_placeholder":true,"num":0}}]"#;
        assert_eq!(poller.post(format!("{event}\x1eb{encoded}")).await.text, "ok");
        assert_eq!(witness.next_event("message").await.attachments[0], data);
    }
    // Without its padding, too.
    let event = r#"451-["message",{"text":{"_placeholder":true,"num":0}}]"#;
    assert_eq!(poller.post(format!("{event}\x1ebAQ")).await.text, "ok");
    assert_eq!(witness.next_event("message").await.attachments, [[1]]);
    // Engine.IO 3 counts the line breaks.
    let old = Poller::open(&server, 3).await;
    let packet = format!("b4{}", java_base64(&data));
    let body = format!("{}:{event}{}:{packet}", event.len(), packet.len());
    assert_eq!(old.post(body).await.text, "ok");
    assert_eq!(witness.next_event("message").await.attachments, [data]);
}

#[tokio::test]
async fn no_answer_may_be_cached() {
    let server = TestServer::start().await;
    let opening = server.request(Method::GET, "/socket.io/?EIO=4&transport=polling");
    let opened = opening.send().await.unwrap();
    assert_eq!(opened.headers()[header::CACHE_CONTROL], "no-store");
    let (poller, _) = Poller::client(&server).await;
    let path = format!("/socket.io/?EIO=4&transport=polling&sid={}", poller.session);
    let posted = server.request(Method::POST, &path).body("42[\"ping\"]").send().await.unwrap();
    assert_eq!(posted.headers()[header::CACHE_CONTROL], "no-store");
    let answer = server.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
    assert!(answer.text().await.unwrap().contains("pong"));
}

#[tokio::test]
async fn large_answers_are_compressed_where_that_is_accepted() {
    let server = TestServer::start().await;
    let (poller, _) = Poller::client(&server).await;
    let mut sender = server.client().await;
    poller.poll().await;
    let path = format!("/socket.io/?EIO=4&transport=polling&sid={}", poller.session);
    let text = "é".repeat(600);
    for (accepted, coding) in [
        (Some("gzip, deflate, br"), Some("gzip")),
        (Some("deflate"), Some("deflate")),
        (Some("br"), None),
        (None, None),
    ] {
        for (large, text) in [(true, text.as_str()), (false, "short")] {
            sender.ask("message", json!({"text": text})).await;
            let mut request = server.request(Method::GET, &path);
            if let Some(accepted) = accepted {
                request = request.header(header::ACCEPT_ENCODING, accepted);
            }
            let answer = request.send().await.unwrap();
            let said = answer.headers().get(header::CONTENT_ENCODING);
            let said = said.map(|coding| coding.to_str().unwrap().to_owned());
            assert_eq!(said.as_deref(), coding.filter(|_| large), "{accepted:?}");
            let body = answer.bytes().await.unwrap();
            let mut whole = String::new();
            match said.as_deref() {
                Some("gzip") => GzDecoder::new(&body[..]).read_to_string(&mut whole).unwrap(),
                Some(_) => ZlibDecoder::new(&body[..]).read_to_string(&mut whole).unwrap(),
                None => (&body[..]).read_to_string(&mut whole).unwrap(),
            };
            assert!(said.is_none() || body.len() < whole.len() / 2);
            assert_eq!(whole, format!("42[\"message\",{{\"text\":\"{text}\"}}]"));
        }
    }
}

#[tokio::test]
async fn a_client_whose_connection_breaks_during_a_poll_is_gone_soon() {
    let server = TestServer::start().await;
    let mut witness = server.client().await;
    for protocol in [4, 3] {
        let poller = Poller::open(&server, protocol).await;
        if protocol == 4 {
            poller.post("40").await;
        }
        while !poller.poll().await.text.contains("client-connected") {}
        witness.forget().await;
        let mut wire = Wire::open(server.address()).await;
        let query = format!("EIO={protocol}&transport=polling&sid={}", poller.session);
        // Two at once, which the server reads at once: when the first is answered, the second waits.
        let poll = format!("GET /socket.io/?{query} HTTP/1.1\r\nHost: x\r\n\r\n");
        wire.write(poll.repeat(2).as_bytes()).await;
        let path = "42[\"ping\"]";
        let body = if protocol == 3 { format!("{}:{path}", path.len()) } else { path.to_owned() };
        poller.post(body).await;
        wire.head().await;
        wire.reset();
        witness.next("client-disconnected").await;
        poller.ended().await;
    }
}
