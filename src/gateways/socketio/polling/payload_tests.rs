use axum::http::{HeaderMap, HeaderValue, Uri, header::CONTENT_TYPE};
use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use super::{
    Encoding::{self, Binary, Separated, Text},
    Parsed,
};
use crate::transport::frame::{self, Message};

/// A client's packets, or a server's.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Packet {
    Text(String),
    Data(Vec<u8>),
}

use Packet::{Data, Text as Words};

fn text(text: &str) -> Packet {
    Words(text.to_owned())
}

/// The frames that these packets become, where Engine.IO 3 (`v3`) has a type before binary data.
fn frames(packets: &[Packet], v3: bool) -> Vec<u8> {
    let mut frames = Vec::new();
    for packet in packets {
        match packet {
            Words(text) => frame::put_client_frame(&mut frames, frame::TEXT, &[text.as_bytes()]),
            Data(data) => {
                let kind: &[u8] = if v3 { &[4] } else { &[] };
                frame::put_client_frame(&mut frames, frame::BINARY, &[kind, data]);
            }
        }
    }
    frames
}

fn assert_parses(encoding: Encoding, body: &[u8], packets: &[Packet]) {
    let wanted = Parsed { frames: frames(packets, encoding != Separated), ends: false };
    let shown = String::from_utf8_lossy(body);
    assert_eq!(encoding.frames(body), wanted, "{encoding:?}: {shown:?}");
}

fn encoded(encoding: Encoding, packets: &[Packet]) -> (bool, Vec<u8>) {
    let message = |packet: &Packet| match packet {
        Words(text) => Message::text(text.clone()),
        Data(data) => {
            let kind = if encoding == Separated { Vec::new() } else { vec![4] };
            let payload = Bytes::from([kind, data.clone()].concat());
            Message { opcode: frame::BINARY, payload }
        }
    };
    let (is_binary, pieces) = encoding.encode(packets.iter().map(message).collect());
    (is_binary, pieces.concat())
}

#[test]
fn the_encoding_is_known_by_the_protocol_and_the_type_of_the_content() {
    let third = Uri::from_static("/socket.io/?EIO=3&transport=polling");
    let fourth = Uri::from_static("/socket.io/?EIO=4&transport=polling");
    let of = |uri, content_type: &'static str| {
        let header = (CONTENT_TYPE, HeaderValue::from_static(content_type));
        Encoding::of_post(uri, &HeaderMap::from_iter([header]))
    };
    assert_eq!(of(&third, "application/octet-stream"), Binary);
    assert_eq!(of(&third, "text/plain;charset=UTF-8"), Text);
    assert_eq!(Encoding::of_post(&third, &HeaderMap::new()), Text);
    assert_eq!(of(&fourth, "application/octet-stream"), Separated);
    assert_eq!(Encoding::of_answers(&fourth), Separated);
    assert_eq!(Encoding::of_answers(&third), Binary);
    let no_binary = Uri::from_static("/socket.io/?EIO=3&transport=polling&b64=1");
    assert_eq!(Encoding::of_answers(&no_binary), Text);
}

#[test]
fn packets_are_put_together_as_the_protocols_have_it() {
    let words = [text("2"), text("42[\"é𝕊\"]")];
    let all = [text("451-[]"), Data(vec![1, 2, 3, 4]), text("2")];
    for (encoding, packets, is_binary, body) in [
        (Separated, &words[..], false, "2\u{1e}42[\"é𝕊\"]".as_bytes()),
        (Separated, &all, false, b"451-[]\x1ebAQIDBA==\x1e2"),
        (Text, &words, false, "1:29:42[\"é𝕊\"]".as_bytes()),
        (Text, &all, false, b"6:451-[]10:b4AQIDBA==1:2"),
        (Binary, &words, false, "1:29:42[\"é𝕊\"]".as_bytes()),
        (Binary, &all, true, b"\0\x06\xff451-[]\x01\x05\xff\x04\x01\x02\x03\x04\0\x01\xff2"),
        (Separated, &[], false, b"6"),
        (Text, &[], false, b"1:6"),
    ] {
        assert_eq!(encoded(encoding, packets), (is_binary, body.to_vec()), "{encoding:?}");
        if !packets.is_empty() {
            let encoding = if encoding == Binary && !is_binary { Text } else { encoding };
            assert_parses(encoding, body, packets);
        }
    }
}

#[test]
fn the_end_of_the_connection_is_a_packet_once() {
    let end = Message { opcode: frame::CLOSE, payload: Bytes::from_static(&[3, 232]) };
    let keep_alive = Message { opcode: 9, payload: Bytes::new() };
    let body = |messages: Vec<Message>| Separated.encode(messages).1.concat();
    assert_eq!(body(vec![end.clone()]), b"1");
    assert_eq!(body(vec![Message::text("41"), end.clone()]), b"41\x1e1");
    assert_eq!(body(vec![Message::text("1"), end]), b"1");
    assert_eq!(body(vec![keep_alive]), b"6");
}

#[test]
fn what_is_large_is_shared() {
    let large = Bytes::from(vec![b'x'; 10_000]);
    let messages = vec![Message::text("2"), Message::text(large.clone()), Message::text("3")];
    let (_, pieces) = Separated.encode(messages);
    assert_eq!(pieces.len(), 3);
    assert_eq!(pieces[1].as_ptr(), large.as_ptr());
}

#[test]
fn what_follows_the_clients_farewell_is_not_looked_at() {
    for (encoding, body) in [
        (Separated, &b"2\x1e1\x1eb!"[..]),
        (Text, b"1:21:1x"),
        (Binary, b"\0\x01\xff2\0\x01\xff1x"),
    ] {
        let wanted = Parsed { frames: frames(&[text("2"), text("1")], true), ends: true };
        assert_eq!(encoding.frames(body), wanted, "{encoding:?}");
    }
}

#[test]
fn what_is_no_payload_becomes_what_the_library_refuses() {
    let refused = |packets: &[Packet]| frames(&[packets, &[text("x")]].concat(), true);
    let connect = [text("40/chat,")];
    for tail in ["9:4a", "x:4a", "1", ":", "-1:4", "1:𝕊", "99999999999999999999:4", "5:b4A!="] {
        let body = format!("8:40/chat,{tail}");
        assert_eq!(Text.frames(body.as_bytes()).frames, refused(&connect), "{tail}");
    }
    let binary = [&[0, 8, 255][..], b"40/chat,"].concat();
    for tail in [
        &[0][..],
        &[0, 1],
        &[0, 1, 255],
        &[0, 10, 255, b'4'],
        &[1, 1, 255, b'x'],
        &[1, 0, 255],
        &[2, 1, 255, b'4'],
        b"1:4",
        &[0, 1, 255, 0xff],
    ] {
        let body = [&binary, tail].concat();
        assert_eq!(Binary.frames(&body).frames, refused(&connect), "{tail:?}");
    }
    assert_eq!(Text.frames(&[b'2', b':', 0xff, 0xff]).frames, refused(&[]));
    assert_eq!(Separated.frames(b"40\x1e\xff").frames, refused(&[text("40")]));
    assert_eq!(Separated.frames(b"40\x1eb!!!").frames, refused(&[text("40")]));
}

fn packets() -> impl Strategy<Value = Vec<Packet>> {
    let words = "[2-6][a-zé𝕊0-9:,]{0,200}".prop_map(Words);
    vec(prop_oneof![words, vec(any::<u8>(), 0..200).prop_map(Data)], 1..8)
}

proptest! {
    #[test]
    fn what_is_encoded_is_understood(packets in packets()) {
        for encoding in [Separated, Text, Binary] {
            let (is_binary, body) = encoded(encoding, &packets);
            let encoding = if encoding == Binary && !is_binary { Text } else { encoding };
            let wanted = Parsed { frames: frames(&packets, encoding != Separated), ends: false };
            prop_assert_eq!(encoding.frames(&body), wanted);
        }
    }

    #[test]
    fn no_bytes_are_too_strange(body in vec(any::<u8>(), 0..64)) {
        for encoding in [Separated, Text, Binary] {
            encoding.frames(&body);
        }
    }
}
