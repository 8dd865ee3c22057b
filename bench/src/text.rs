//! The texts of the benchmark's messages.

use std::fmt::Write as _;

use memchr::{memchr, memmem};

/// How the packet begins that carries a room message to a member.
pub const DELIVERY: &[u8] = b"42[\"message-reply\",";
/// How the packet begins by which a client sends one.
pub const MESSAGE: &[u8] = b"42[\"message\",";
/// How the packet begins by which a client joins a room, with the ack id 0.
pub const JOIN: &[u8] = b"420[\"join-room\",";
/// How the packet begins that acknowledges that.
pub const JOINED: &[u8] = b"430[";

/// Who published a message, and which of that publisher's messages it is. It stands in the
/// message's text behind a `#`, a character that no other field contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The publisher.
    pub publisher: usize,
    /// 0, 1, 2 … for every publisher.
    pub sequence: usize,
}

impl Stamp {
    /// The stamp in a packet.
    pub fn find(packet: &[u8]) -> Option<Self> {
        let digits = &packet[memchr(b'#', packet)? + 1..];
        let publisher = number(digits.get(..4)?)?;
        let sequence = number(digits.get(5..13)?)?;
        Some(Self { publisher, sequence })
    }
}

fn number(digits: &[u8]) -> Option<usize> {
    digits.iter().try_fold(0, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + usize::from(digit - b'0'))
    })
}

/// A message for `room`, as a JSON object that also `POST /messages/broadcast` takes; some 260
/// bytes and `padding`. With `reply` its sender gets a copy, too.
pub fn message(room: &str, stamp: Stamp, padding: usize, reply: bool) -> String {
    let Stamp { publisher, sequence } = stamp;
    let mut text = String::with_capacity(320 + padding);
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "{{\"id\":\"8f14e45f-ceea-467f-a0e6-{publisher:04}{sequence:08}\",\"clientId\":\"load\",\
         \"clientName\":\"Load\",\"roomName\":\"{room}\",\"messageType\":\"text\",\
         \"message\":\"#{publisher:04}.{sequence:08} The quick brown fox jumps over the lazy dog.\
         {:padding$}\",\"timestamp\":\"2026-01-01T12:00:00.000Z\"{}}}",
        "",
        if reply { ",\"replyToSender\":true" } else { "" },
    );
    text
}

/// The room that a message or a join names.
pub fn room(object: &[u8]) -> Option<&[u8]> {
    const KEY: &[u8] = b"\"roomName\":\"";
    let name = &object[memmem::find(object, KEY)? + KEY.len()..];
    Some(&name[..memchr(b'"', name)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_and_rooms_are_read_back() {
        let stamp = Stamp { publisher: 12, sequence: 34_567 };
        let text = message("room-7", stamp, 100, true);
        assert_eq!(Stamp::find(text.as_bytes()), Some(stamp));
        assert_eq!(room(text.as_bytes()), Some(&b"room-7"[..]));
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["replyToSender"], true);
        assert_eq!(object["id"], "8f14e45f-ceea-467f-a0e6-001200034567");
    }

    #[test]
    fn what_has_no_stamp_has_none() {
        for text in ["", "42[\"connected\",{}]", "#", "#12", "#0001.0000000", "#000a.00000000"] {
            assert_eq!(Stamp::find(text.as_bytes()), None, "{text}");
        }
    }
}
