use std::io::{self, Cursor, Read, Write};

use proptest::{collection::vec, prelude::*, sample::Index};
use tokio_tungstenite::tungstenite::{Message, WebSocket, protocol::Role};

use super::packets;
use crate::gateways::socketio::eio3::{frames::Frames, packet::upgrade_packet};

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const PING: u8 = 9;
const LIMIT: usize = 64 * 1024;

/// A frame of a client, written independently from RFC 6455.
fn frame(opcode: u8, last: bool, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![u8::from(last) << 7 | opcode];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | u8::try_from(length).unwrap()),
        length @ 126..=0xffff => {
            bytes.push(0xfe);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            bytes.push(0xff);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    bytes
}

/// A message in frames that end where `cuts` say, with a ping after each but the last.
fn message(opcode: u8, mask: [u8; 4], payload: &[u8], cuts: &[Index]) -> Vec<u8> {
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
    ends.sort_unstable();
    ends.push(payload.len());
    let mut bytes = Vec::new();
    let mut begin = 0;
    for (number, &end) in ends.iter().enumerate() {
        let opcode = if number == 0 { opcode } else { CONTINUATION };
        let last = number + 1 == ends.len();
        bytes.extend(frame(opcode, last, mask, &payload[begin..end]));
        if !last {
            bytes.extend(frame(PING, true, mask, b"40/?ping,"));
        }
        begin = end;
    }
    bytes
}

/// The output for bytes that come in pieces which end where `cuts` say.
fn through(bytes: &[u8], cuts: &[Index]) -> Vec<u8> {
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    ends.sort_unstable();
    ends.push(bytes.len());
    let (mut frames, mut output, mut begin) = (Frames::default(), Vec::new(), 0);
    for end in ends {
        let piece = &bytes[begin..end];
        if frames.pass(piece) {
            output.extend_from_slice(piece);
        } else {
            frames.push(piece, &mut output);
        }
        begin = end;
    }
    frames.finish(&mut output);
    output
}

struct Received(Cursor<Vec<u8>>);

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Received {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The messages of data, and the number of pings, as a WebSocket server reads them.
fn read(bytes: Vec<u8>) -> (Vec<Message>, usize) {
    let mut socket = WebSocket::from_raw_socket(Received(Cursor::new(bytes)), Role::Server, None);
    let (mut data, mut pings) = (Vec::new(), 0);
    while let Ok(message) = socket.read() {
        if message.is_ping() { pings += 1 } else { data.push(message) }
    }
    (data, pings)
}

fn modern(text: &str) -> String {
    upgrade_packet(text).filter(|_| text.len() <= LIMIT).unwrap_or_else(|| text.to_owned())
}

type Sent = (Message, [u8; 4], Vec<Index>);

fn messages() -> impl Strategy<Value = Vec<Sent>> {
    let long = (0..40_usize, LIMIT - 30..LIMIT + 30).prop_map(|(path, length)| {
        format!("40/{}?a={}", "p".repeat(path), "1".repeat(length - path))
    });
    let text = prop_oneof![20 => packets(), 1 => long].prop_map(Message::text);
    let binary = vec(any::<u8>(), 0..300).prop_map(Message::binary);
    let message = prop_oneof![4 => text, 1 => binary];
    vec((message, any::<[u8; 4]>(), vec(any::<Index>(), 0..3)), 0..6)
}

fn bytes_of(messages: &[Sent]) -> Vec<u8> {
    let frames = messages.iter().map(|(sent, mask, cuts)| {
        let opcode = if sent.is_text() { TEXT } else { BINARY };
        message(opcode, *mask, &sent.clone().into_data(), cuts)
    });
    frames.flatten().collect()
}

proptest! {
    #[test]
    fn only_connect_packets_with_a_query_change(sent in messages(), cuts in vec(any::<Index>(), 0..20)) {
        let (data, pings) = read(through(&bytes_of(&sent), &cuts));
        let expected: Vec<_> = sent.iter().map(|(message, ..)| match message {
            Message::Text(text) => Message::text(modern(text)),
            other => other.clone(),
        }).collect();
        prop_assert_eq!(data, expected);
        prop_assert_eq!(pings, sent.iter().map(|(.., cuts)| cuts.len()).sum::<usize>());
    }

    #[test]
    fn what_does_not_change_passes_to_the_letter(mut sent in messages(), cuts in vec(any::<Index>(), 0..20)) {
        // A ping overtakes a message that is buffered.
        sent.retain(|(message, _, cuts)| match message {
            Message::Text(text) => modern(text) == text.as_str() && cuts.is_empty(),
            _ => true,
        });
        let bytes = bytes_of(&sent);
        prop_assert_eq!(through(&bytes, &cuts), bytes);
    }

    #[test]
    fn the_pieces_do_not_matter(
        sent in messages(),
        strange in vec(any::<u8>(), 0..40),
        end in any::<Index>(),
        cuts in vec(any::<Index>(), 0..60),
    ) {
        // Cut off anywhere, and with any bytes after it.
        let mut bytes = bytes_of(&sent);
        bytes.truncate(end.index(bytes.len() + 1));
        bytes.extend(strange);
        prop_assert_eq!(through(&bytes, &cuts), through(&bytes, &[]));
    }
}

#[test]
fn byte_by_byte() {
    let mask = [1, 2, 3, 4];
    let packet = b"40/chat?token=abc,";
    for bytes in [
        frame(TEXT, true, mask, packet),
        [message(TEXT, mask, &packet[..3], &[]), frame(TEXT, true, mask, packet)].concat(),
    ] {
        let mut frames = Frames::default();
        let mut output = Vec::new();
        for byte in &bytes {
            frames.push(&[*byte], &mut output);
        }
        assert!(output.ends_with(&frame(TEXT, true, mask, br#"40/chat,{"token":"abc"}"#)));
    }
}

#[test]
fn other_text_is_not_held_back() {
    let mut frames = Frames::default();
    let mut output = Vec::new();
    let bytes = frame(TEXT, true, [9; 4], br#"42["message",{"#);
    frames.push(&bytes[..8], &mut output);
    assert_eq!(output, bytes[..8], "two bytes of payload tell that it is no CONNECT packet");
    assert!(frames.pass(&bytes[8..]));
}

#[test]
fn more_than_the_limit_is_not_held_back() {
    let packet = format!("40/chat?token={}", "a".repeat(LIMIT));
    let bytes = frame(TEXT, true, [9; 4], packet.as_bytes());
    let mut frames = Frames::default();
    let mut output = Vec::new();
    frames.push(&bytes[..20], &mut output);
    assert_eq!(output, bytes[..20]);
    assert!(frames.pass(&bytes[20..]));
}

#[test]
fn no_number_of_frames_is_held_back_for_ever() {
    let mut frames = Frames::default();
    let mut output = Vec::new();
    frames.push(&frame(TEXT, false, [0; 4], b"40/?"), &mut output);
    let empty = frame(CONTINUATION, false, [0; 4], b"");
    let most = 3 * LIMIT / empty.len();
    for _ in 0..most {
        frames.push(&empty, &mut output);
    }
    assert!(output.len() > 2 * LIMIT);
}

#[test]
fn a_frame_without_a_mask_or_with_an_extension_passes() {
    let packet = b"40/chat?token=abc,";
    let plain = [&[0x81, 18][..], packet].concat();
    let mut extended = frame(TEXT, true, [7; 4], packet);
    extended[0] |= 0x40;
    for bytes in [plain, extended] {
        assert_eq!(through(&bytes, &[]), bytes);
    }
}
