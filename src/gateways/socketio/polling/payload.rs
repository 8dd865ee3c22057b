//! Payloads: the packets that one HTTP body carries, in the encodings of [Engine.IO 4][four] and of
//! [Engine.IO 3][three] ([engine.io-parser 2.x][parser]), and their conversion to frames and back.
//!
//! [four]: https://github.com/socketio/engine.io-protocol#http-long-polling-1
//! [three]: https://github.com/socketio/engine.io-protocol/tree/v3#payload
//! [parser]: https://github.com/socketio/engine.io-parser/blob/2.2.1/lib/index.js

use std::{mem, str};

use axum::http::{HeaderMap, HeaderValue, Uri, header::CONTENT_TYPE};
use base64::{
    Engine as _, alphabet,
    engine::{
        DecodePaddingMode,
        general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD},
    },
};
use bytes::{BufMut, Bytes, BytesMut};

use super::super::{eio3, parameter};
use crate::transport::frame::{self, Message};

/// How the packets of a payload are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Engine.IO 4: packets with a separator between them. Binary data is `b` and base64.
    Separated,
    /// Engine.IO 3: `<length>:<packet>` for each, the length in UTF-16 code units, as JavaScript
    /// counts. Binary data is `b`, the type of the packet and base64.
    Text,
    /// Engine.IO 3: for each `0` for text or `1` for binary data, the digits of the length in bytes,
    /// `255`, and the packet, all of them single bytes. Binary data begins with the byte of its type.
    Binary,
}

/// Base64 with or without its padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The separator of packets in Engine.IO 4.
const SEPARATOR: u8 = 0x1e;
/// The first byte of a packet of text in [`Encoding::Binary`].
const TEXT: u8 = 0;
/// The first byte of a packet of binary data in [`Encoding::Binary`].
const BINARY: u8 = 1;
/// The end of the length in [`Encoding::Binary`].
const LENGTH_END: u8 = 255;
/// The type of a packet that is a message.
const MESSAGE: u8 = 4;
/// The packet with which a client leaves.
const CLOSE: &str = "1";
/// The packet that is sent when nothing waits.
const NOOP: &str = "6";
/// Packets as large are shared with all other answers, smaller ones are copied.
const SHARED: usize = 4096;

/// The packets of a POST.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    /// The packets as frames of a client. An invalid payload has become a packet that the library refuses.
    pub frames: Vec<u8>,
    /// The client leaves.
    pub ends: bool,
}

/// The body is no valid payload.
#[derive(Debug)]
struct Invalid;

impl Encoding {
    /// The encoding of a client's body.
    pub(super) fn of_post(uri: &Uri, headers: &HeaderMap) -> Self {
        if !eio3::speaks(uri) {
            return Self::Separated;
        }
        match headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes) {
            Some(b"application/octet-stream") => Self::Binary,
            _ => Self::Text,
        }
    }

    /// The encoding of answers to a client; `Binary` ones are binary only if they hold binary data.
    pub(super) fn of_answers(uri: &Uri) -> Self {
        match parameter(uri, "b64") {
            _ if !eio3::speaks(uri) => Self::Separated,
            Some("1" | "true") => Self::Text,
            _ => Self::Binary,
        }
    }

    /// The packets of a client's body as frames, up to the one with which it leaves.
    pub(super) fn frames(self, body: &[u8]) -> Parsed {
        let mut parsed = Parsed::default();
        let read = match self {
            Self::Separated => separated(body, &mut parsed),
            Self::Text => lengths_in_text(body, &mut parsed),
            Self::Binary => lengths_in_bytes(body, &mut parsed),
        };
        if read.is_err() {
            frame::put_client_frame(&mut parsed.frames, frame::TEXT, &[b"x"]);
        }
        parsed
    }

    /// The body with these messages, and whether it is binary.
    pub(super) fn encode(self, messages: Vec<Message>) -> (bool, Vec<Bytes>) {
        let is_binary =
            self == Self::Binary && messages.iter().any(|message| message.opcode == frame::BINARY);
        let mut body = Body::default();
        let mut closes = false;
        for Message { opcode, payload } in messages {
            match opcode {
                frame::TEXT => {
                    closes = payload == CLOSE;
                    self.put_text(&mut body, is_binary, payload);
                }
                frame::BINARY => self.put_binary(&mut body, is_binary, payload),
                frame::CLOSE if !closes => {
                    self.put_text(&mut body, is_binary, Bytes::from_static(CLOSE.as_bytes()));
                }
                // A WebSocket's pings and pongs mean nothing here.
                _ => {}
            }
        }
        if body.is_empty() {
            self.put_text(&mut body, is_binary, Bytes::from_static(NOOP.as_bytes()));
        }
        (is_binary, body.finish())
    }

    fn put_text(self, body: &mut Body, is_binary: bool, packet: Bytes) {
        match self {
            Self::Separated => body.separate(),
            Self::Text | Self::Binary if !is_binary => {
                // Frames of text are UTF-8.
                let units = str::from_utf8(&packet).map_or(0, |text| text.encode_utf16().count());
                body.put(format!("{units}:").as_bytes());
            }
            Self::Text | Self::Binary => body.put_length(TEXT, packet.len()),
        }
        body.share(packet);
    }

    /// In Engine.IO 3 the frame begins with the type of the packet.
    fn put_binary(self, body: &mut Body, is_binary: bool, data: Bytes) {
        match self {
            Self::Separated => {
                body.separate();
                body.put(b"b");
                body.put(STANDARD.encode(data).as_bytes());
            }
            Self::Text | Self::Binary if !is_binary => {
                let text = STANDARD.encode(data.get(1..).unwrap_or_default());
                body.put(format!("{}:b{MESSAGE}{text}", text.len() + 2).as_bytes());
            }
            Self::Text | Self::Binary => {
                body.put_length(BINARY, data.len());
                body.share(data);
            }
        }
    }
}

/// The body of an answer, in pieces.
#[derive(Default)]
struct Body {
    pieces: Vec<Bytes>,
    small: BytesMut,
}

impl Body {
    fn put(&mut self, bytes: &[u8]) {
        self.small.put_slice(bytes);
    }

    fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.small.is_empty()
    }

    fn separate(&mut self) {
        if !self.is_empty() {
            self.small.put_u8(SEPARATOR);
        }
    }

    fn put_length(&mut self, kind: u8, length: usize) {
        self.small.put_u8(kind);
        self.small.extend(length.to_string().bytes().map(|digit| digit - b'0'));
        self.small.put_u8(LENGTH_END);
    }

    fn share(&mut self, bytes: Bytes) {
        if bytes.len() < SHARED {
            return self.put(&bytes);
        }
        self.end_small();
        self.pieces.push(bytes);
    }

    fn end_small(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push(mem::take(&mut self.small).freeze());
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.end_small();
        self.pieces
    }
}

impl Parsed {
    /// Adds a packet; returns false if it is the last one that counts.
    fn text(&mut self, packet: &str) -> bool {
        frame::put_client_frame(&mut self.frames, frame::TEXT, &[packet.as_bytes()]);
        self.ends = packet == CLOSE;
        !self.ends
    }

    /// Adds binary data, after `kind` in its frame.
    fn binary(&mut self, kind: &[u8], base64: &str) -> Result<(), Invalid> {
        let data = decode(base64)?;
        frame::put_client_frame(&mut self.frames, frame::BINARY, &[kind, &data]);
        Ok(())
    }
}

/// Decodes base64 as leniently as Node does where clients need it: the official Java client breaks its lines,
/// and others leave the padding out.
fn decode(base64: &str) -> Result<Vec<u8>, Invalid> {
    let is_space = |byte: &u8| byte.is_ascii_whitespace();
    let decoded = if base64.as_bytes().iter().any(is_space) {
        let digits = base64.bytes().filter(|byte| !is_space(byte)).collect::<Vec<_>>();
        LENIENT.decode(digits)
    } else {
        LENIENT.decode(base64)
    };
    decoded.map_err(|_| Invalid)
}

fn separated(body: &[u8], parsed: &mut Parsed) -> Result<(), Invalid> {
    for packet in body.split(|byte| *byte == SEPARATOR) {
        let packet = str::from_utf8(packet).map_err(|_| Invalid)?;
        if let Some(base64) = packet.strip_prefix('b') {
            parsed.binary(&[], base64)?;
        } else if !parsed.text(packet) {
            break;
        }
    }
    Ok(())
}

fn lengths_in_text(body: &[u8], parsed: &mut Parsed) -> Result<(), Invalid> {
    let mut rest = str::from_utf8(body).map_err(|_| Invalid)?;
    while !rest.is_empty() {
        let (length, packets) = rest.split_once(':').ok_or(Invalid)?;
        let length = length.parse().map_err(|_| Invalid)?;
        let packet;
        (packet, rest) = packets.split_at(utf16_offset(packets, length).ok_or(Invalid)?);
        if let Some(base64) = packet.strip_prefix("b4") {
            parsed.binary(&[MESSAGE], base64)?;
        } else if !parsed.text(packet) {
            break;
        }
    }
    Ok(())
}

/// The offset in bytes at which the text's first `units` UTF-16 code units end; `None` if it has fewer, or if
/// that is within a character.
fn utf16_offset(text: &str, units: usize) -> Option<usize> {
    let mut left = units;
    let mut characters = text.chars();
    while left > 0 {
        left = left.checked_sub(characters.next()?.len_utf16())?;
    }
    Some(text.len() - characters.as_str().len())
}

fn lengths_in_bytes(body: &[u8], parsed: &mut Parsed) -> Result<(), Invalid> {
    let mut rest = body;
    while let Some((&kind, sized)) = rest.split_first() {
        let digits = sized.iter().position(|&byte| byte == LENGTH_END).ok_or(Invalid)?;
        let length = sized[..digits].iter().try_fold(0_usize, |length, &digit| {
            let digit = usize::from(digit);
            if digit < 10 { length.checked_mul(10)?.checked_add(digit) } else { None }
        });
        let packet;
        (packet, rest) =
            sized[digits + 1..].split_at_checked(length.ok_or(Invalid)?).ok_or(Invalid)?;
        match kind {
            TEXT => {
                let packet = str::from_utf8(packet).map_err(|_| Invalid)?;
                if let Some(base64) = packet.strip_prefix("b4") {
                    parsed.binary(&[MESSAGE], base64)?;
                } else if !parsed.text(packet) {
                    break;
                }
            }
            BINARY if packet.first() == Some(&MESSAGE) => {
                frame::put_client_frame(&mut parsed.frames, frame::BINARY, &[packet]);
            }
            _ => return Err(Invalid),
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "payload_tests.rs"]
mod tests;
