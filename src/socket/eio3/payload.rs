//! Payloads: the packets that one HTTP body carries, in the two encodings of
//! [Engine.IO 3][protocol] and [engine.io-parser 2.x][parser].
//!
//! [protocol]: https://github.com/socketio/engine.io-protocol/tree/v3#payload
//! [parser]: https://github.com/socketio/engine.io-parser/blob/2.2.1/lib/index.js

use std::{cell::RefCell, fmt::Write, str};

use axum::http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::packet::Packet;

/// How the packets of a payload are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `<length>:<packet>` for each, the length in UTF-16 code units, as JavaScript counts. Binary
    /// data is `b`, the type of the packet and base64.
    Text,
    /// For each `0` for text or `1` for binary data, the digits of the length in bytes, `255`, and
    /// the packet, all of them single bytes. Binary data begins with the byte of its type.
    Binary,
}

/// The first byte of a packet of text in [`Encoding::Binary`].
const TEXT: u8 = 0;
/// The first byte of a packet of binary data in [`Encoding::Binary`].
const BINARY: u8 = 1;
/// What ends the length in [`Encoding::Binary`].
const SEPARATOR: u8 = 255;
/// The type of a packet that is a message.
const MESSAGE: u8 = 4;

impl Encoding {
    /// The encoding of a body; the library tells them apart in the same way.
    pub fn of(headers: &HeaderMap) -> Self {
        match headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes) {
            Some(b"application/octet-stream") => Self::Binary,
            _ => Self::Text,
        }
    }

    /// Calls `visit` with every packet of text.
    pub fn visit(self, payload: &[u8], mut visit: impl FnMut(&str)) {
        let visit = RefCell::new(&mut visit);
        self.replace(payload, |packet| {
            visit.borrow_mut()(packet);
            None
        });
    }

    /// The payload with some packets of text replaced by what `replace` makes of them. `None` if it
    /// replaces none, or if this is no valid payload, which is then the library's to refuse.
    pub fn replace<F>(self, payload: &[u8], replace: F) -> Option<Vec<u8>>
    where
        F: Fn(&str) -> Option<Packet>,
    {
        match self {
            Self::Text => {
                replace_in_text(str::from_utf8(payload).ok()?, replace).map(String::into_bytes)
            }
            Self::Binary => replace_in_binary(payload, replace),
        }
    }
}

fn replace_in_text<F>(payload: &str, replace: F) -> Option<String>
where
    F: Fn(&str) -> Option<Packet>,
{
    let mut rest = payload;
    let mut replaced = None;
    while !rest.is_empty() {
        let begin = payload.len() - rest.len();
        let (length, packets) = rest.split_once(':')?;
        let packet;
        (packet, rest) = packets.split_at(utf16_offset(packets, length.parse().ok()?)?);
        let end = payload.len() - rest.len();
        if let Some(packet) = replace(packet) {
            let packet = match packet {
                Packet::Text(text) => text,
                Packet::Binary(data) => format!("b{MESSAGE}{}", STANDARD.encode(data)),
            };
            let output = replaced.get_or_insert_with(|| payload[..begin].to_owned());
            // Writing to a string cannot fail.
            let _ = write!(output, "{}:{packet}", packet.encode_utf16().count());
        } else if let Some(output) = &mut replaced {
            output.push_str(&payload[begin..end]);
        }
    }
    replaced
}

/// Where the first `units` UTF-16 code units of the text end, in bytes; `None` where it has not that
/// many, or where that is within a character.
fn utf16_offset(text: &str, units: usize) -> Option<usize> {
    let mut left = units;
    let mut characters = text.chars();
    while left > 0 {
        left = left.checked_sub(characters.next()?.len_utf16())?;
    }
    Some(text.len() - characters.as_str().len())
}

fn replace_in_binary<F>(payload: &[u8], replace: F) -> Option<Vec<u8>>
where
    F: Fn(&str) -> Option<Packet>,
{
    let mut rest = payload;
    let mut replaced = None;
    while let [kind @ (TEXT | BINARY), sized @ ..] = rest {
        let begin = payload.len() - rest.len();
        let digits = sized.iter().position(|&byte| byte == SEPARATOR)?;
        let length = sized[..digits].iter().try_fold(0_usize, |length, &digit| {
            let digit = usize::from(digit);
            if digit < 10 { length.checked_mul(10)?.checked_add(digit) } else { None }
        })?;
        let packet;
        (packet, rest) = sized[digits + 1..].split_at_checked(length)?;
        let end = payload.len() - rest.len();
        let text = if *kind == TEXT { str::from_utf8(packet).ok() } else { None };
        if let Some(packet) = text.and_then(&replace) {
            let output = replaced.get_or_insert_with(|| payload[..begin].to_vec());
            let (kind, message, data) = match packet {
                Packet::Text(text) => (TEXT, None, text.into_bytes()),
                Packet::Binary(data) => (BINARY, Some(MESSAGE), data),
            };
            let length = data.len() + usize::from(message.is_some());
            output.push(kind);
            output.extend(length.to_string().bytes().map(|digit| digit - b'0'));
            output.push(SEPARATOR);
            output.extend(message);
            output.extend(data);
        } else if let Some(output) = &mut replaced {
            output.extend_from_slice(&payload[begin..end]);
        }
    }
    replaced.filter(|_| rest.is_empty())
}
