use axum::http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use proptest::{collection::vec, prelude::*};

use super::packets;
use crate::socket::eio3::{
    packet::{Packet, mend, modernize},
    payload::Encoding::{self, Binary, Text},
};

fn modern(packet: &str) -> Option<Packet> {
    modernize(packet).map(Packet::Text)
}

/// A payload of text, written anew by the words of the protocol.
fn encode(encoding: Encoding, packets: &[String]) -> Vec<u8> {
    let mut payload = Vec::new();
    for packet in packets {
        match encoding {
            Text => {
                let length = packet.encode_utf16().count();
                payload.extend(format!("{length}:").into_bytes());
            }
            Binary => {
                payload.push(0);
                payload.extend(packet.len().to_string().bytes().map(|digit| digit - b'0'));
                payload.push(255);
            }
        }
        payload.extend(packet.bytes());
    }
    payload
}

#[test]
fn the_encoding_is_known_by_the_type_of_the_content() {
    let of = |content_type: &'static str| {
        let header = (CONTENT_TYPE, HeaderValue::from_static(content_type));
        Encoding::of(&HeaderMap::from_iter([header]))
    };
    assert_eq!(of("application/octet-stream"), Binary);
    assert_eq!(of("text/plain;charset=UTF-8"), Text);
    assert_eq!(Encoding::of(&HeaderMap::new()), Text);
}

#[test]
fn lengths_count_utf16_code_units() {
    let payload = "3:4𝕊13:40/é𝕊?a=%F0,3:4éb";
    let modern = Text.replace(payload.as_bytes(), modern).map(String::from_utf8);
    assert_eq!(modern, Some(Ok("3:4𝕊16:40/é𝕊,{\"a\":\"\u{fffd}\"}3:4éb".to_owned())));
}

#[test]
fn binary_data_gets_its_type() {
    let mended = Text.replace(b"3:451b9:bAQIDBA==1:b3:2ok5:bAQID", mend);
    assert_eq!(mended, None, "5 is no character's length of what is left");
    let mended = Text.replace(b"4:451b9:bAQIDBA==1:b3:4ok5:bAQID", mend);
    assert_eq!(mended.unwrap(), b"4:451b10:b4AQIDBA==2:b43:4ok6:b4AQID");

    let payload =
        [&[0, 2, 255][..], b"4a", &[0, 9, 255], b"bAQIDBA==", &[0, 1, 255], b"b"].concat();
    let mended = Binary.replace(&payload, mend).unwrap();
    assert_eq!(
        mended,
        [&[0, 2, 255][..], b"4a", &[1, 5, 255, 4, 1, 2, 3, 4, 1, 1, 255, 4]].concat()
    );
}

#[test]
fn binary_data_that_is_right_is_left_alone() {
    assert_eq!(Text.replace(b"6:b4AQID2:b4", mend), None);
    assert_eq!(Binary.replace(&[1, 4, 255, 4, 1, 2, 3], mend), None);
    assert_eq!(Binary.replace(&[1, 5, 255, b'b', b'A', b'Q', b'I', b'D'], mend), None);
}

#[test]
fn what_is_no_payload_is_left_to_the_library() {
    let connect = "15:40/chat?token=a,";
    for tail in ["9:4a", "x:4a", "1", ":", "-1:4", "1:𝕊", "99999999999999999999:4"] {
        let payload = format!("{connect}{tail}");
        assert!(Text.replace(payload.as_bytes(), modern).is_none(), "{payload}");
    }
    let connect = encode(Binary, &["40/chat?token=a,".to_owned()]);
    assert!(Binary.replace(&connect, modern).is_some());
    for tail in
        [&[0][..], &[0, 1], &[0, 1, 255], &[0, 10, 255, b'4'], &[2, 1, 255, b'4'], b"1:4", &[0; 40]]
    {
        let payload = [&connect, tail].concat();
        assert!(Binary.replace(&payload, modern).is_none(), "{payload:?}");
    }
    assert!(Text.replace(&[b'2', b':', 0xff, 0xff], modern).is_none());
    assert!(Text.replace(b"", modern).is_none());
    assert!(Binary.replace(b"", modern).is_none());
}

proptest! {
    #[test]
    fn only_the_packets_change(packets in vec(packets(), 0..8)) {
        let changed = packets.iter().any(|packet| modernize(packet).is_some());
        let modern_packets: Vec<_> =
            packets.iter().map(|packet| modernize(packet).unwrap_or_else(|| packet.clone())).collect();
        for encoding in [Text, Binary] {
            let expected = changed.then(|| encode(encoding, &modern_packets));
            prop_assert_eq!(encoding.replace(&encode(encoding, &packets), modern), expected);
        }
    }

    #[test]
    fn no_bytes_are_too_strange(payload in vec(any::<u8>(), 0..64)) {
        for encoding in [Text, Binary] {
            prop_assert!(encoding.replace(&payload, modern).is_none());
        }
    }
}
