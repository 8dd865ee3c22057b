//! Socket.IO packets as finished WebSocket frames from the server ([RFC 6455, section 5][frames]),
//! and finding one's way in a row of such frames.
//!
//! A frame from a server is not masked and no compression is negotiated, so the same bytes are right
//! for every client of one namespace: a packet is encoded once and shared by all its recipients.
//!
//! [frames]: https://www.rfc-editor.org/rfc/rfc6455#section-5.2

use std::{ops::Range, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};

/// The first byte of a text frame that is a whole message.
const TEXT: u8 = 0x81;

/// The first byte of a binary frame that is a whole message.
const BINARY: u8 = 0x82;

/// What Engine.IO 3 puts in front of binary data: the type "message".
const MESSAGE_V3: u8 = 4;

/// The size of the longest header.
const MAX_HEADER: usize = 10;

/// One Socket.IO packet as it goes over a WebSocket: a text frame and, where the packet has
/// attachments, the binary frames that must follow it at once.
#[derive(Debug, Clone)]
pub struct Frames {
    text: Bytes,
    /// Headers and attachments in turn.
    binary: Option<Arc<[Bytes]>>,
    size: usize,
}

/// What kind of packet it is, beside its namespace and its data.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// An event.
    Event,
    /// The answer to the client's event with this number.
    Ack(i64),
}

impl Frames {
    /// Encodes a packet.
    ///
    /// `data` are the parts of its JSON array as text; placeholders in it refer to `attachments`,
    /// whose frames Engine.IO 3 (`v3`) wants to begin with a type.
    pub fn encode(
        kind: Kind,
        namespace: &str,
        data: &[&str],
        attachments: &[Bytes],
        v3: bool,
    ) -> Self {
        let mut head = String::with_capacity(namespace.len() + 24);
        head.push('4');
        head.push(match (kind, attachments.is_empty()) {
            (Kind::Event, true) => '2',
            (Kind::Ack(_), true) => '3',
            (Kind::Event, false) => '5',
            (Kind::Ack(_), false) => '6',
        });
        if !attachments.is_empty() {
            head.push_str(&attachments.len().to_string());
            head.push('-');
        }
        if namespace != "/" {
            head.push_str(namespace);
            head.push(',');
        }
        if let Kind::Ack(id) = kind {
            head.push_str(&id.to_string());
        }
        let size = head.len() + data.iter().map(|part| part.len()).sum::<usize>();
        let mut text = BytesMut::with_capacity(size + MAX_HEADER);
        put_header(&mut text, TEXT, size);
        text.put_slice(head.as_bytes());
        for part in data {
            text.put_slice(part.as_bytes());
        }
        let mut pieces = Vec::with_capacity(attachments.len() * 2);
        for attachment in attachments {
            let mut header = BytesMut::with_capacity(MAX_HEADER + 1);
            put_header(&mut header, BINARY, attachment.len() + usize::from(v3));
            if v3 {
                header.put_u8(MESSAGE_V3);
            }
            pieces.push(header.freeze());
            pieces.push(attachment.clone());
        }
        let size = text.len() + pieces.iter().map(Bytes::len).sum::<usize>();
        let binary = (!pieces.is_empty()).then(|| pieces.into());
        Self { text: text.freeze(), binary, size }
    }

    /// The number of bytes on the wire.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The bytes, in pieces, none of them empty.
    pub fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        let binary = self.binary.iter().flat_map(|pieces| pieces.iter());
        std::iter::once(&self.text).chain(binary).filter(|piece| !piece.is_empty())
    }
}

fn put_header(buffer: &mut BytesMut, first: u8, size: usize) {
    buffer.put_u8(first);
    if let Ok(size @ 0..=125) = u8::try_from(size) {
        buffer.put_u8(size);
    } else if let Ok(size) = u16::try_from(size) {
        buffer.put_u8(126);
        buffer.put_u16(size);
    } else {
        buffer.put_u8(127);
        buffer.put_u64(size as u64);
    }
}

/// A frame in a row of frames.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Where it is, its header included.
    pub range: Range<usize>,
    /// Its text, if it is a whole message of text.
    pub text: Option<&'a [u8]>,
}

/// The frames in `bytes`, which begin with a frame; ends where there is no whole frame any more.
pub fn walk(bytes: &[u8]) -> impl Iterator<Item = Found<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..)?;
        let (begin, size) = match *rest.get(1)? {
            126 => (4, u64::from(u16::from_be_bytes(rest.get(2..4)?.try_into().ok()?))),
            127 => (10, u64::from_be_bytes(rest.get(2..10)?.try_into().ok()?)),
            size @ 0..=125 => (2, u64::from(size)),
            // A masked frame is not a server's.
            _ => return None,
        };
        let end = usize::try_from(size).ok()?.checked_add(begin)?;
        let payload = rest.get(begin..end)?;
        let range = at..at + end;
        at += end;
        Some(Found { range, text: (rest[0] == TEXT).then_some(payload) })
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::{
        Message,
        protocol::{Role, WebSocket},
    };

    use super::*;

    fn bytes(frames: &Frames) -> Vec<u8> {
        let all = frames.pieces().flat_map(|piece| piece.iter().copied()).collect::<Vec<_>>();
        assert_eq!(all.len(), frames.size());
        all
    }

    fn text(kind: Kind, namespace: &str, attachments: &[Bytes]) -> String {
        let frames = Frames::encode(kind, namespace, &["[1]"], attachments, false);
        let all = bytes(&frames);
        let first = walk(&all).next().unwrap();
        String::from_utf8(first.text.unwrap().to_vec()).unwrap()
    }

    #[test]
    fn packets_are_spelled_as_the_protocol_has_them() {
        let one = [Bytes::from_static(b"x")];
        assert_eq!(text(Kind::Event, "/", &[]), "42[1]");
        assert_eq!(text(Kind::Event, "/chat", &[]), "42/chat,[1]");
        assert_eq!(text(Kind::Ack(12), "/", &[]), "4312[1]");
        assert_eq!(text(Kind::Ack(0), "/chat", &[]), "43/chat,0[1]");
        assert_eq!(text(Kind::Event, "/chat", &one), "451-/chat,[1]");
        assert_eq!(text(Kind::Ack(3), "/", &one), "461-3[1]");
    }

    #[test]
    fn a_piece_of_a_frame_is_not_found() {
        let all = bytes(&Frames::encode(Kind::Event, "/", &["[1]"], &[], false));
        for size in 0..all.len() {
            assert_eq!(walk(&all[..size]).next(), None);
        }
        assert_eq!(walk(&[0x81, 0x81, 0, 0, 0, 0, b'x']).next(), None, "a masked frame");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_websocket_client_reads_what_was_encoded(
            data in prop_oneof!["[a-zö]{0,200}", "[a-z]{65530,65540}", "x{120,130}"],
            attachments in proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 0..70_000), 0..4),
            v3: bool,
        ) {
            let attachments = attachments.into_iter().map(Bytes::from).collect::<Vec<_>>();
            let frames = Frames::encode(Kind::Event, "/chat", &["[", &data, "]"], &attachments, v3);
            let all = bytes(&frames);
            prop_assert_eq!(walk(&all).count(), attachments.len() + 1);
            prop_assert_eq!(walk(&all).last().unwrap().range.end, all.len());
            let mut client = WebSocket::from_raw_socket(Cursor::new(all), Role::Client, None);
            let Message::Text(read) = client.read().unwrap() else { panic!("no text") };
            let wanted = format!("/chat,[{data}]");
            prop_assert!(read.as_str().ends_with(&wanted));
            for attachment in &attachments {
                let Message::Binary(read) = client.read().unwrap() else { panic!("no binary") };
                let read = if v3 { read.strip_prefix(&[4]).unwrap() } else { &read[..] };
                prop_assert_eq!(read, &attachment[..]);
            }
        }
    }
}
