//! Follows the frames from a client: where they begin, so that a heartbeat can be inserted between two; which
//! of them open or close a namespace; and how many bytes of incomplete messages have come.
//!
//! The library treats a client as dead if it does not answer a ping in time. But the answer of a client that
//! is not being read waits behind what the client sent before. Sending is a sign of life, as in Node's
//! server, so a pong is inserted for the client; a frame may stand between any two others.

use super::{
    event_head::{self, ADDED, Head},
    frame_rules::Rules,
    pong::may_be_pong,
};

/// A pong as a client's frame. The mask is zero.
pub(super) const PONG: [u8; 7] = [0x81, 0x81, 0, 0, 0, 0, b'3'];

/// The size of the longest header, with its mask.
const MAX_HEADER: usize = 14;

/// The beginnings of messages that open or close a namespace.
const CONTROLS: [[u8; 2]; 2] = [*b"40", *b"41"];

/// This many other messages between an event and its attachments end the connection; clients send none.
const MAX_OTHERS: u32 = 3;

/// How much of such a message is kept, in bytes: its namespace and a token or two fit.
pub const MAX_CONTROL: usize = 64 * 1024;

/// Follows the frames of a stream that is read in pieces of any size.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// The current header, as far as it has come.
    header: [u8; MAX_HEADER],
    seen: usize,
    /// How much of the frame's payload is still to come, in bytes.
    left: u64,
    /// The frame's mask, and how far it has been used.
    mask: [u8; 4],
    masked: usize,
    /// How far the frame's payload has come.
    position: usize,
    /// The frame is part of a message, not a control frame.
    is_data: bool,
    /// A message has begun, and its last frame has not.
    fragmented: bool,
    /// The text of the message, as long as it may be a control packet.
    text: Option<Vec<u8>>,
    collected: Collected,
    rules: Rules,
    max_message: MaxMessage,
    /// How many bytes were added to the current frame.
    added: usize,
    fault: Option<u16>,
}

/// The largest message, in bytes.
#[derive(Debug)]
struct MaxMessage(usize);

impl Default for MaxMessage {
    fn default() -> Self {
        Self(usize::MAX)
    }
}

impl Inbound {
    /// Follows a stream whose messages have at most this many bytes.
    pub(super) fn of(max_message: usize) -> Self {
        Self { max_message: MaxMessage(max_message), ..Self::default() }
    }

    /// Passes over the next bytes. Stops at the end of a message that opens or closes a namespace, and before
    /// a frame that may be a pong or has to be looked at, unless it is the first; and before what breaks a rule
    /// (then there is a [fault](Self::fault)). Returns the number of bytes and that message, truncated if
    /// too long.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> (usize, Option<Vec<u8>>) {
        let mut at = 0;
        while at < bytes.len() {
            if at > 0 && self.is_at_frame() && is_of_interest(&bytes[at..]) {
                break;
            }
            let (size, checked) = self.step(&bytes[at..]);
            if let Err(code) = checked {
                self.fault = Some(code);
                return (at, None);
            }
            at += size;
            if self.seen > 0 {
                continue;
            }
            if self.left == 0 && self.is_data && !self.fragmented {
                self.collected.end();
            }
            if self.left == 0
                && let Some(control) = self.control()
            {
                return (at, Some(control));
            }
        }
        (at, None)
    }

    /// Takes the next byte of a header, or the next bytes of a payload; returns their number, and the close code
    /// if they break a rule.
    fn step(&mut self, bytes: &[u8]) -> (usize, Result<(), u16>) {
        let mut taken = 1;
        let mut checked = Ok(());
        if self.left > 0 {
            taken = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
            checked = self.keep(&bytes[..taken]);
            self.left -= taken as u64;
        } else {
            self.header[self.seen] = bytes[0];
            self.seen += 1;
            if let Some((size, mask)) = self.payload() {
                checked = self.begin(size, mask);
            }
        }
        if checked.is_ok() && self.is_at_frame() {
            checked = self.rules.end(self.header[0] & 0x80 != 0);
        }
        (taken, checked)
    }

    /// Whether the frame that begins here is larger than a message may be, as far as its header has come.
    pub(super) fn is_too_large(&self, bytes: &[u8]) -> bool {
        event_head::size(bytes).is_some_and(|size| size > self.max_message.0)
    }

    /// The close code that says which rule the stream has broken.
    pub(super) fn fault(&self) -> Option<u16> {
        self.fault
    }

    /// The frame that begins now is longer than the client sent it, by the mark.
    pub(super) fn is_marked(&mut self) {
        self.added = ADDED;
    }

    /// Whether the next byte begins a frame.
    pub(super) fn is_at_frame(&self) -> bool {
        self.left == 0 && self.seen == 0
    }

    /// Whether the next byte begins a frame between two messages.
    pub(super) fn is_between(&self) -> bool {
        self.is_at_frame() && !self.fragmented
    }

    /// How many bytes may be read without going beyond the frame that has begun.
    pub(super) fn rest(&self) -> usize {
        if self.left > 0 { usize::try_from(self.left).unwrap_or(usize::MAX) } else { 1 }
    }

    /// Bytes received of an incomplete message, its attachments included.
    pub(super) fn held(&self) -> usize {
        self.collected.held
    }

    /// Whether the client goes on without sending the attachments that it has announced.
    pub(super) fn is_astray(&self) -> bool {
        self.collected.others >= MAX_OTHERS
    }

    fn begin(&mut self, size: u64, mask: [u8; 4]) -> Result<(), u16> {
        let sent = size.saturating_sub(std::mem::take(&mut self.added) as u64);
        let header = [self.header[0], self.header[1]];
        self.rules.header(header, sent, self.fragmented, self.max_message.0)?;
        self.position = 0;
        let (last, opcode) = (self.header[0] & 0x80 != 0, self.header[0] & 0x0f);
        self.left = size;
        self.seen = 0;
        self.mask = mask;
        self.masked = 0;
        // Control frames may come between those of a message.
        self.is_data = opcode < 8;
        if self.is_data {
            self.fragmented = !last;
        }
        match opcode {
            1 => self.text = Some(Vec::new()),
            2 => self.text = None,
            _ => {}
        }
        if self.is_data {
            self.collected.begin(opcode);
        }
        Ok(())
    }

    /// Checks the payload, and keeps the text of what may be a control packet.
    fn keep(&mut self, payload: &[u8]) -> Result<(), u16> {
        let mut mask = self.mask;
        mask.rotate_left(self.position % 4);
        self.rules.payload(payload, mask)?;
        self.position += payload.len();
        if self.is_data {
            self.collected.add(payload, self.mask);
        }
        let Some(text) = self.text.as_mut().filter(|_| self.is_data) else { return Ok(()) };
        let room = MAX_CONTROL.saturating_sub(text.len());
        for byte in payload.iter().take(room) {
            text.push(byte ^ self.mask[self.masked % 4]);
            self.masked += 1;
            if !CONTROLS.iter().any(|control| control.starts_with(&text[..text.len().min(2)])) {
                self.text = None;
                break;
            }
        }
        Ok(())
    }

    /// The control packet that has just ended.
    fn control(&mut self) -> Option<Vec<u8>> {
        if !self.is_data || self.fragmented {
            return None;
        }
        self.text.take().filter(|text| text.len() >= 2)
    }

    /// The size of the payload and its mask, if the header is complete.
    fn payload(&self) -> Option<(u64, [u8; 4])> {
        let header = &self.header[..self.seen];
        let second = *header.get(1)?;
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let (begin, size) = match second & 0x7f {
            126 => (4, u64::from(u16::from_be_bytes(header.get(2..4)?.try_into().ok()?))),
            127 => (10, u64::from_be_bytes(header.get(2..10)?.try_into().ok()?)),
            size => (2, u64::from(size)),
        };
        let mut key = [0; 4];
        if mask > 0 {
            key = header.get(begin..begin + mask)?.try_into().ok()?;
        }
        (header.len() == begin + mask).then_some((size, key))
    }
}

/// Whether a frame that begins so must come first in what is passed on.
fn is_of_interest(bytes: &[u8]) -> bool {
    may_be_pong(bytes) || event_head::look(bytes) != Head::Plain
}

/// Counts the bytes of a message and of the attachments that must follow it as binary messages.
#[derive(Debug, Default)]
struct Collected {
    held: usize,
    /// How many attachments are still to come.
    awaited: u32,
    /// How many other messages have come instead.
    others: u32,
    /// How far the frame has come.
    at: usize,
    is_text: bool,
    /// The beginning of a text: `45` or `46`, the number of its attachments, `-`.
    head: [u8; 5],
    head_size: usize,
}

impl Collected {
    fn begin(&mut self, opcode: u8) {
        self.at = 0;
        if opcode > 0 {
            self.is_text = opcode == 1;
            self.head_size = 0;
        }
    }

    fn add(&mut self, payload: &[u8], mask: [u8; 4]) {
        self.held += payload.len();
        if self.is_text && self.head_size < self.head.len() {
            let head = self.head[self.head_size..].iter_mut();
            for (place, (at, byte)) in head.zip((self.at..).zip(payload)) {
                *place = byte ^ mask[at % 4];
                self.head_size += 1;
            }
        }
        self.at += payload.len();
    }

    /// A message is complete.
    fn end(&mut self) {
        match (self.is_text, self.awaited) {
            (true, 0) => self.awaited = self.attachments(),
            (true, _) => self.others += 1,
            (false, _) => self.awaited = self.awaited.saturating_sub(1),
        }
        if self.awaited == 0 {
            (self.held, self.others) = (0, 0);
        }
    }

    /// How many attachments the text announces; the library refuses malformed ones.
    fn attachments(&self) -> u32 {
        let text = std::str::from_utf8(&self.head[..self.head_size]).unwrap_or_default();
        let rest = text.strip_prefix("45").or_else(|| text.strip_prefix("46"));
        let number = rest.and_then(|rest| rest.split_once('-')?.0.parse().ok());
        number.unwrap_or(0)
    }
}

/// A message of text as a client's frame. The mask is zero.
pub(super) fn frame(text: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u16::try_from(text.len()) {
        #[allow(clippy::cast_possible_truncation, reason = "it is at most 125")]
        Ok(size @ 0..=125) => frame.push(0x80 | size as u8),
        Ok(size) => {
            frame.push(0xfe);
            frame.extend(size.to_be_bytes());
        }
        Err(_) => {
            frame.push(0xff);
            frame.extend((text.len() as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(text);
    frame
}

#[cfg(test)]
mod tests;
