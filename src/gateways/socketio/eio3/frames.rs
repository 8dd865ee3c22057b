//! The frames of a WebSocket from the client to the server ([RFC 6455, section 5][frames]). Only text
//! messages that are a CONNECT packet with a query are changed.
//!
//! [frames]: https://www.rfc-editor.org/rfc/rfc6455#section-5.2

use std::{mem, str};

use super::packet;

/// The greatest size of a message that is inspected, in bytes: a CONNECT packet holds a token or two, and no
/// URL may have more, either.
const LIMIT: usize = 64 * 1024;

/// The size of a mask, in bytes.
const MASK: usize = 4;

/// The bit of a header's first byte that marks the last frame of a message.
const LAST: u8 = 0x80;
/// The bit of a header's second byte that marks a mask; the other bits are a length.
const MASKED: u8 = 0x80;
/// In place of a length: the length is in the next two bytes.
const LENGTH_16: u8 = 126;
/// In place of a length: the length is in the next eight bytes.
const LENGTH_64: u8 = 127;

/// The opcode of the first frame of a message of text. The only smaller one is a continuation's.
const TEXT: u8 = 1;
/// From this opcode on, frames are control frames.
const CONTROL: u8 = 8;

/// Takes the bytes of a connection in pieces of any size, and gives them back.
///
/// Everything passes at once and unchanged, except what may be a CONNECT packet with a query: that is
/// buffered until it is complete.
#[derive(Default)]
pub(super) struct Frames {
    /// The header of the next frame, as far as it has come.
    header: Vec<u8>,
    /// The bytes of the current frame that have not come yet.
    left: u64,
    frame: Option<Held>,
    message: Option<Message>,
}

/// The current frame, if it is buffered.
struct Held {
    mask: [u8; MASK],
    /// How many bytes of its payload have come.
    seen: usize,
    last: bool,
}

/// A message that may have to be changed.
#[derive(Default)]
struct Message {
    /// Its frames as they came.
    frames: Vec<u8>,
    /// Its text.
    text: Vec<u8>,
}

impl Message {
    /// Whether a frame with that much payload may be buffered. Headers count, too, as there may be any number
    /// of frames without payload.
    fn has_room(&self, length: u64) -> bool {
        let text = length.saturating_add(self.text.len() as u64);
        text <= LIMIT as u64 && self.frames.len() <= 2 * LIMIT
    }
}

impl Frames {
    /// Whether the bytes pass unchanged; if so, they are accounted for.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> bool {
        let size = bytes.len() as u64;
        let pass = self.frame.is_none() && self.left >= size;
        if pass {
            self.left -= size;
        }
        pass
    }

    /// Takes the next bytes, and appends what passes to `output`.
    pub(super) fn push(&mut self, mut bytes: &[u8], output: &mut Vec<u8>) {
        while !bytes.is_empty() {
            if self.left == 0 {
                self.header.push(bytes[0]);
                bytes = &bytes[1..];
                if let Some(header) = Header::parse(&self.header) {
                    self.begin(&header, output);
                }
            } else {
                // What exceeds a usize exceeds the bytes at hand, too.
                let size =
                    usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
                let payload;
                (payload, bytes) = bytes.split_at(size);
                self.left -= size as u64;
                self.payload(payload, output);
            }
        }
    }

    /// Outputs what is buffered, at the end of the connection.
    pub(super) fn finish(&mut self, output: &mut Vec<u8>) {
        self.release(output);
        output.append(&mut self.header);
    }

    fn begin(&mut self, header: &Header, output: &mut Vec<u8>) {
        self.left = header.length;
        self.frame = None;
        // A control frame may come between the frames of a message, and overtakes them.
        if !header.is_control() {
            if header.begins_text() {
                // Nothing is buffered here, unless the client breaks the protocol.
                self.release(output);
                self.message = Some(Message::default());
            }
            if let (Some(mask), Some(message)) = (header.mask, &self.message)
                && message.has_room(header.length)
                && header.may_be_held()
            {
                self.frame = Some(Held { mask, seen: 0, last: header.last });
            } else {
                self.release(output);
            }
        }
        let header = mem::take(&mut self.header);
        match (&self.frame, &mut self.message) {
            (Some(_), Some(message)) => message.frames.extend(header),
            _ => output.extend(header),
        }
        self.payload(&[], output);
    }

    fn payload(&mut self, payload: &[u8], output: &mut Vec<u8>) {
        let (Some(frame), Some(message)) = (&mut self.frame, &mut self.message) else {
            return output.extend_from_slice(payload);
        };
        message.frames.extend_from_slice(payload);
        let begin = message.text.len();
        message.text.extend_from_slice(payload);
        apply_mask(&mut message.text[begin..], frame.mask, frame.seen);
        frame.seen += payload.len();
        let known = message.text.len().min(packet::CONNECT.len());
        if message.text[..known] != packet::CONNECT.as_bytes()[..known] {
            return self.release(output);
        }
        if self.left > 0 {
            return;
        }
        let (mask, last) = (frame.mask, frame.last);
        self.frame = None;
        if !last {
            return;
        }
        match str::from_utf8(&message.text).ok().and_then(packet::upgrade_packet) {
            Some(text) => {
                write_text(text.into_bytes(), mask, output);
                self.message = None;
            }
            None => self.release(output),
        }
    }

    /// Passes the buffered message on unchanged.
    fn release(&mut self, output: &mut Vec<u8>) {
        self.frame = None;
        if let Some(message) = self.message.take() {
            output.extend(message.frames);
        }
    }
}

struct Header {
    first: u8,
    last: bool,
    mask: Option<[u8; MASK]>,
    length: u64,
}

impl Header {
    /// `None` until it is complete: two bytes, up to eight for a length of more than 125, the mask.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let [first, second, rest @ ..] = bytes else { return None };
        let (length, rest) = match second & !MASKED {
            LENGTH_16 => {
                let (length, rest) = rest.split_first_chunk()?;
                (u64::from(u16::from_be_bytes(*length)), rest)
            }
            LENGTH_64 => {
                let (length, rest) = rest.split_first_chunk()?;
                (u64::from_be_bytes(*length), rest)
            }
            length => (u64::from(length), rest),
        };
        let mask = match second & MASKED {
            0 => None,
            _ => Some(*rest.first_chunk()?),
        };
        Some(Self { first: *first, last: first & LAST != 0, mask, length })
    }

    fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    fn is_control(&self) -> bool {
        self.opcode() >= CONTROL
    }

    fn begins_text(&self) -> bool {
        self.opcode() == TEXT
    }

    /// Text or its continuation, without an extension's bits: the server agrees to no extension.
    fn may_be_held(&self) -> bool {
        self.opcode() <= TEXT && self.first & 0x70 == 0
    }
}

/// Applies a mask to a part of a payload that begins at `offset`. Applied twice it is undone.
fn apply_mask(payload: &mut [u8], mask: [u8; MASK], offset: usize) {
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle().skip(offset % MASK)) {
        *byte ^= mask;
    }
}

/// Writes a message of text in one masked frame.
fn write_text(mut text: Vec<u8>, mask: [u8; MASK], output: &mut Vec<u8>) {
    output.push(LAST | TEXT);
    if let Ok(length @ 0..LENGTH_16) = u8::try_from(text.len()) {
        output.push(MASKED | length);
    } else if let Ok(length) = u16::try_from(text.len()) {
        output.push(MASKED | LENGTH_16);
        output.extend(length.to_be_bytes());
    } else {
        output.push(MASKED | LENGTH_64);
        output.extend((text.len() as u64).to_be_bytes());
    }
    output.extend(mask);
    apply_mask(&mut text, mask, 0);
    output.extend(text);
}
