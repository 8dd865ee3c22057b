//! Socket.IO packets as finished WebSocket frames from the server ([RFC 6455, section 5][frames]), and
//! parsing a sequence of such frames.
//!
//! A frame from a server is not masked and no compression is negotiated, so the same bytes are right
//! for every client of one namespace: a packet is encoded once and shared by all its recipients.
//!
//! [frames]: https://www.rfc-editor.org/rfc/rfc6455#section-5.2

use std::{ops::Range, sync::Arc};

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The bit of a frame's first byte that says that it ends its message; the lower four are its opcode.
const FIN: u8 = 0x80;

/// The opcode of a text frame.
pub const TEXT: u8 = 1;

/// The opcode of a binary frame.
pub const BINARY: u8 = 2;

/// The opcode of the frame that ends a connection.
pub const CLOSE: u8 = 8;

/// The opcode of a ping.
pub const PING: u8 = 9;

/// The bit of a header's second byte that says that its frame is masked.
const MASKED: u8 = 0x80;

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

/// The kind of a packet.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// The answer to a CONNECT packet.
    Connect,
    /// An event.
    Event,
    /// The answer to the client's event with this number.
    Ack(i64),
}

impl Frames {
    /// Encodes a packet.
    ///
    /// `data` is the packet's JSON array in parts. Its placeholders refer to `attachments`, whose frames
    /// begin with a type in Engine.IO 3 (`v3`).
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
            (Kind::Connect, _) => '0',
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
        Self::put(&head, data, attachments, v3)
    }

    /// The frames of a packet with this text, for Engine.IO 4.
    pub fn of(text: &str, attachments: &[Bytes]) -> Self {
        Self::put("", &[text], attachments, false)
    }

    /// The packet's text and its attachments, which [`of`](Self::of) takes; `None` if they are not frames of Engine.IO 4.
    pub fn take_apart(&self) -> Option<(String, Vec<Bytes>)> {
        let mut messages = messages(self.pieces().cloned().collect()).into_iter();
        let text = messages.next().filter(|message| message.opcode == TEXT)?;
        let text = String::from_utf8(text.payload.into()).ok()?;
        Some((text, messages.map(|message| message.payload).collect()))
    }

    fn put(head: &str, data: &[&str], attachments: &[Bytes], v3: bool) -> Self {
        let size = head.len() + data.iter().map(|part| part.len()).sum::<usize>();
        let mut text = BytesMut::with_capacity(size + MAX_HEADER);
        put_header(&mut text, TEXT, 0, size);
        text.put_slice(head.as_bytes());
        for part in data {
            text.put_slice(part.as_bytes());
        }
        let mut pieces = Vec::with_capacity(attachments.len() * 2);
        for attachment in attachments {
            let mut header = BytesMut::with_capacity(MAX_HEADER + 1);
            put_header(&mut header, BINARY, 0, attachment.len() + usize::from(v3));
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

fn put_header(buffer: &mut impl BufMut, opcode: u8, masked: u8, size: usize) {
    put_sized(buffer, FIN | opcode, masked, size);
}

fn put_sized(buffer: &mut impl BufMut, first: u8, masked: u8, size: usize) {
    buffer.put_u8(first);
    if let Ok(size @ 0..=125) = u8::try_from(size) {
        buffer.put_u8(masked + size);
    } else if let Ok(size) = u16::try_from(size) {
        buffer.put_u8(masked + 126);
        buffer.put_u16(size);
    } else {
        buffer.put_u8(masked + 127);
        buffer.put_u64(size as u64);
    }
}

/// A message of text in one frame.
pub fn text(text: &str) -> Vec<u8> {
    let mut frame = Vec::with_capacity(text.len() + MAX_HEADER);
    put_header(&mut frame, TEXT, 0, text.len());
    frame.put_slice(text.as_bytes());
    frame
}

/// A close frame with this code.
pub fn close(code: u16) -> [u8; 4] {
    let [high, low] = code.to_be_bytes();
    [FIN | CLOSE, 2, high, low]
}

/// Appends the header of a client's frame, up to its mask. `first` is the header's first byte.
pub fn put_client_header(frame: &mut impl BufMut, first: u8, size: usize) {
    put_sized(frame, first, MASKED, size);
}

/// Appends a frame as a client would send it; `payload` is in parts. The mask is zero.
pub fn put_client_frame(frames: &mut Vec<u8>, opcode: u8, payload: &[&[u8]]) {
    put_header(frames, opcode, MASKED, payload.iter().map(|part| part.len()).sum());
    frames.put_u32(0);
    for part in payload {
        frames.put_slice(part);
    }
}

/// The size of the frame that begins here, its header included; `None` without a whole header.
pub fn size(bytes: &[u8]) -> Option<usize> {
    let (header, payload) = header(bytes)?;
    header.checked_add(payload)
}

/// The sizes of a server frame's header and payload.
fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    let (header, size) = match *bytes.get(1)? {
        126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        size @ 0..=125 => (2, u64::from(size)),
        // A masked frame is not a server's.
        _ => return None,
    };
    Some((header, usize::try_from(size).ok()?))
}

/// A frame's opcode and payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The kind of frame.
    pub opcode: u8,
    /// The payload.
    pub payload: Bytes,
}

impl Message {
    /// A message of text.
    pub fn text(text: impl Into<Bytes>) -> Self {
        Self { opcode: TEXT, payload: text.into() }
    }
}

/// The frames in these pieces. A payload within one piece shares its memory.
pub fn messages(pieces: Vec<Bytes>) -> Vec<Message> {
    let mut found = Vec::with_capacity(pieces.len());
    let mut pieces = pieces.into_iter();
    let mut piece = Bytes::new();
    loop {
        if piece.is_empty() {
            let Some(next) = pieces.next() else { return found };
            piece = next;
            continue;
        }
        let Some((header, size)) = header(&piece) else { return found };
        let opcode = piece[0] & 0x0f;
        piece.advance(header.min(piece.len()));
        if piece.is_empty() && size > 0 {
            piece = pieces.next().unwrap_or_default();
        }
        let mut payload = piece.split_to(size.min(piece.len()));
        if payload.len() < size {
            let mut whole = BytesMut::with_capacity(size);
            whole.put(payload);
            while whole.len() < size
                && let Some(next) = pieces.next()
            {
                piece = next;
                whole.put(piece.split_to((size - whole.len()).min(piece.len())));
            }
            payload = whole.freeze();
        }
        found.push(Message { opcode, payload });
    }
}

/// A frame in a sequence of frames.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Its place, the header included.
    pub range: Range<usize>,
    /// Its text, if it is a whole text message.
    pub text: Option<&'a [u8]>,
}

/// The frames in `bytes`, which must begin with one; ends at the first incomplete frame.
pub fn walk(bytes: &[u8]) -> impl Iterator<Item = Found<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..)?;
        let (begin, size) = header(rest)?;
        let end = begin.checked_add(size)?;
        let payload = rest.get(begin..end)?;
        let range = at..at + end;
        at += end;
        Some(Found { range, text: (rest[0] == FIN | TEXT).then_some(payload) })
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
        assert_eq!(text(Kind::Connect, "/", &[]), "40[1]");
        assert_eq!(text(Kind::Connect, "/chat", &[]), "40/chat,[1]");
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
            if !v3 {
                let (text, taken) = frames.take_apart().unwrap();
                prop_assert_eq!(&taken, &attachments);
                prop_assert_eq!(bytes(&Frames::of(&text, &taken)), all.clone());
            }
            let one = messages(vec![all.clone().into()]);
            prop_assert_eq!(&one, &messages(frames.pieces().cloned().collect()));
            prop_assert_eq!(one.len(), attachments.len() + 1);
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
