use proptest::prelude::*;
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{Role, WebSocket},
};

use super::*;

fn client_frames(sizes: &[usize]) -> Vec<Vec<u8>> {
    let frame = |size: &usize| {
        let mut socket =
            WebSocket::from_raw_socket(std::io::Cursor::new(Vec::new()), Role::Client, None);
        socket.send(Message::Binary(vec![7; *size].into())).unwrap();
        socket.into_inner().into_inner()
    };
    sizes.iter().map(frame).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn it_knows_the_boundaries(
        sizes in proptest::collection::vec(
            prop_oneof![0_usize..200, 65_000_usize..70_000], 1..6),
        step in 1_usize..5000,
    ) {
        let frames = client_frames(&sizes);
        let mut ends = vec![0];
        for frame in &frames {
            ends.push(ends.last().unwrap() + frame.len());
        }
        let bytes = frames.concat();
        let (mut inbound, mut at) = (Inbound::default(), 0);
        while at < bytes.len() {
            prop_assert_eq!(inbound.is_between(), ends.contains(&at), "at {}", at);
            let next = (at + step).min(bytes.len());
            inbound.pass(&bytes[at..next]);
            at = next;
        }
        prop_assert!(inbound.is_between());
    }

    #[test]
    fn reading_the_rest_ends_at_a_boundary(size in 0_usize..70_000, begin in 1_usize..20) {
        let bytes = client_frames(&[size, 5]).concat();
        let first = client_frames(&[size])[0].len();
        let mut inbound = Inbound::default();
        let mut at = begin.min(first);
        inbound.pass(&bytes[..at]);
        while !inbound.is_between() {
            let next = at + inbound.rest();
            inbound.pass(&bytes[at..next]);
            at = next;
        }
        prop_assert_eq!(at, first);
    }
}

#[test]
fn between_the_fragments_of_a_message_is_not_between_messages() {
    let mut inbound = Inbound::default();
    inbound.pass(&[0x01, 0x80, 0, 0, 0, 0]);
    assert!(!inbound.is_between(), "more of the text is to come");
    inbound.pass(&[0x89, 0x80, 0, 0, 0, 0]);
    assert!(!inbound.is_between(), "a ping changes nothing");
    inbound.pass(&[0x80, 0x80, 0, 0, 0, 0]);
    assert!(inbound.is_between());
}

/// A frame with a mask.
fn masked(first: u8, text: &str) -> Vec<u8> {
    let mask = [7, 99, 3, 250];
    let size = u8::try_from(text.len()).unwrap();
    let bytes = text.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    [first, 0x80 | size].into_iter().chain(mask).chain(bytes).collect()
}

/// Every control packet of a stream that is read in steps.
fn controls(bytes: &[u8], step: usize) -> Vec<String> {
    let (mut inbound, mut at, mut found) = (Inbound::default(), 0, Vec::new());
    while at < bytes.len() {
        let (size, control) = inbound.pass(&bytes[at..(at + step).min(bytes.len())]);
        at += size;
        found.extend(control.map(|text| String::from_utf8(text).unwrap()));
    }
    found
}

#[test]
fn control_packets_are_found_however_they_come() {
    let bytes = [
        masked(0x81, "40"),
        masked(0x81, "42[\"message\",{}]"),
        masked(0x81, "2"),
        masked(0x82, "40 in binary data"),
        masked(0x81, ""),
        masked(0x81, "4"),
        // In fragments, with a ping in between.
        masked(0x01, "4"),
        masked(0x00, ""),
        masked(0x89, "41"),
        masked(0x00, "0/chat,{\"token\""),
        masked(0x80, ":1}"),
        masked(0x01, "42["),
        masked(0x80, "40]"),
        masked(0x81, "41/chat,"),
    ]
    .concat();
    for step in 1..=bytes.len() {
        let found = controls(&bytes, step);
        assert_eq!(found, ["40", "40/chat,{\"token\":1}", "41/chat,"], "{step}");
    }
}

#[test]
fn a_control_packet_ends_what_passes() {
    let bytes = [masked(0x81, "40"), masked(0x81, "42[]")].concat();
    let mut inbound = Inbound::default();
    let (size, control) = inbound.pass(&bytes);
    assert_eq!((size, control), (8, Some(b"40".to_vec())));
    assert!(inbound.is_between());
}

#[test]
fn a_frame_of_text_is_one() {
    for size in [0, 125, 126, 65_535, 65_536] {
        let text = "x".repeat(size);
        let bytes = std::io::Cursor::new(frame(text.as_bytes()));
        let mut server = WebSocket::from_raw_socket(bytes, Role::Server, None);
        assert_eq!(server.read().unwrap(), Message::text(text));
    }
}

#[test]
fn it_stops_before_what_may_be_a_pong() {
    let mut inbound = Inbound::default();
    let frames = [client_frames(&[7]).concat(), PONG.to_vec(), client_frames(&[5]).concat()];
    let bytes = frames.concat();
    let mut at = inbound.pass(&bytes).0;
    assert_eq!(at, frames[0].len());
    at += inbound.pass(&bytes[at..]).0;
    assert_eq!(at, bytes.len(), "it is passed over where it is not taken out");
}

#[test]
fn the_pong_is_a_frame() {
    let mut server =
        WebSocket::from_raw_socket(std::io::Cursor::new(PONG.to_vec()), Role::Server, None);
    assert_eq!(server.read().unwrap(), Message::text("3"));
}
