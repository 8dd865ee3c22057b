//! How the server closes a WebSocket: with the code that says why, after all that was sent before.

use crate::support::{
    TestServer,
    raw::{BINARY, CLOSE, CONTINUATION, FIN, PING, TEXT, Wire, frame},
};

/// A frame whose mask is not zero.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x5a, 0x13, 0xc4, 0x9e];
    let mut frame = frame(first, payload);
    let begin = frame.len() - payload.len();
    frame[begin - 4..begin].copy_from_slice(&mask);
    for (byte, mask) in frame[begin..].iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    frame
}

#[tokio::test]
async fn a_frame_that_breaks_a_rule_closes_with_its_code() {
    let server = TestServer::with(|config| config.max_payload = 1000).await;
    let unmasked = vec![FIN | TEXT, 1, b'3'];
    let half = |first: u8, text: &[u8]| masked(first, text);
    for (name, frames, code) in [
        ("not masked", vec![unmasked], 1002),
        ("RSV1", vec![masked(0xc0 | TEXT, b"3")], 1002),
        ("RSV2", vec![masked(0xa0 | TEXT, b"3")], 1002),
        ("reserved opcode", vec![masked(FIN | 3, b"3")], 1002),
        ("reserved control opcode", vec![masked(FIN | 0x0b, b"3")], 1002),
        ("continuation of nothing", vec![masked(FIN | CONTINUATION, b"3")], 1002),
        ("message within a message", vec![half(TEXT, b"4"), masked(FIN | TEXT, b"3")], 1002),
        ("ping in parts", vec![masked(PING, b"3")], 1002),
        ("long ping", vec![masked(FIN | PING, &[b'x'; 126])], 1002),
        ("close of one byte", vec![masked(FIN | CLOSE, b"x")], 1002),
        ("close with a wrong code", vec![masked(FIN | CLOSE, &[3, 231])], 1002),
        ("close with a reserved code", vec![masked(FIN | CLOSE, &[3, 237])], 1002),
        ("close whose reason is no text", vec![masked(FIN | CLOSE, b"\x03\xe8\xff")], 1007),
        ("text that is none", vec![masked(FIN | TEXT, b"42[\"\xff\"]")], 1007),
        ("text that ends too early", vec![masked(FIN | TEXT, b"42[\"\xe2\x82")], 1007),
        ("half a surrogate", vec![masked(FIN | TEXT, b"42[\"\xed\xa0\x80\"]")], 1007),
        (
            "text in parts",
            vec![half(TEXT, b"42[\"\xe2"), half(CONTINUATION, b"\x82"), masked(FIN, b"\"]")],
            1007,
        ),
        ("a large text", vec![masked(FIN | TEXT, &[b'x'; 1001])], 1009),
        ("large binary data", vec![masked(FIN | BINARY, &[0; 1001])], 1009),
        (
            "a large message in parts",
            vec![half(TEXT, &[b'x'; 600]), masked(FIN | CONTINUATION, &[b'x'; 600])],
            1009,
        ),
        ("a close", vec![masked(FIN | CLOSE, &[3, 232])], 1000),
        ("a close with a code of one's own", vec![masked(FIN | CLOSE, b"\x0f\xa0why")], 4000),
    ] {
        for together in [true, false] {
            let mut wire = Wire::client(&server).await;
            // What was sent before it is still answered.
            wire.send("420[\"ping\"]").await;
            if together {
                wire.write(&frames.concat()).await;
            } else {
                for byte in frames.concat() {
                    wire.write(&[byte]).await;
                }
            }
            wire.expect("430[").await;
            assert_eq!(wire.close_code().await, Some(code), "{name}, together: {together}");
        }
    }
}

#[tokio::test]
async fn a_message_in_parts_may_have_characters_in_parts() {
    let server = TestServer::start().await;
    let mut wire = Wire::client(&server).await;
    let text = "420[\"message\",{\"text\":\"é€😀\"}]".as_bytes();
    for (at, byte) in text.iter().enumerate() {
        let opcode = if at == 0 { TEXT } else { CONTINUATION };
        let last = if at + 1 == text.len() { FIN } else { 0 };
        wire.write(&masked(last | opcode, &[*byte])).await;
    }
    wire.expect("430[{\"success\":true").await;
}

#[tokio::test]
async fn a_message_of_the_greatest_size_is_taken() {
    let server = TestServer::with(|config| config.max_payload = 1000).await;
    let mut wire = Wire::client(&server).await;
    for name in ["message", "a\\nb"] {
        let frame = |size: usize| format!("420[\"{name}\",{{\"text\":\"{}\"}}]", "x".repeat(size));
        let text = frame(1000 - frame(0).len());
        assert_eq!(text.len(), 1000);
        wire.send(&text).await;
        wire.expect("430[").await;
        wire.assert_alive().await;
    }
    wire.send(&"x".repeat(1001)).await;
    assert_eq!(wire.close_code().await, Some(1009));
}

#[tokio::test]
async fn a_packet_that_is_none_closes_without_a_code() {
    let server = TestServer::start().await;
    for packet in ["4abc", "42{}", "42[]", "42abc[\"a\"]", "9", "40[]", "40x", "40/chat,7"] {
        let mut wire = Wire::client(&server).await;
        wire.send(packet).await;
        assert_eq!(wire.close_code().await, Some(1005), "{packet}");
    }
}
