//! What stands in the packets that open and close namespaces.

use serde::{Deserialize, de::IgnoredAny};

use crate::transport::MAX_CONTROL;

/// Whether a CONNECT packet's data is an object or absent. What is too long has come without its end.
pub(super) fn has_valid_data(packet: &[u8]) -> bool {
    let rest = &packet[2..];
    let data = match rest.iter().position(|byte| *byte == b',') {
        _ if rest.first() != Some(&b'/') => rest,
        Some(comma) => &rest[comma + 1..],
        None => &[],
    };
    let is_json =
        || packet.len() >= MAX_CONTROL || serde_json::from_slice::<IgnoredAny>(data).is_ok();
    data.is_empty() || (data[0] == b'{' && is_json())
}

/// Parses a `CONNECT_ERROR` packet: up to its data, its namespace, and the message.
pub(super) fn parse_error(packet: &[u8]) -> Option<(&str, &str, String)> {
    #[derive(Deserialize)]
    struct Error {
        message: String,
    }
    let packet = str::from_utf8(packet).ok()?;
    let rest = packet.strip_prefix("44")?;
    // Only the comma ends the name of a namespace.
    let begin = if rest.starts_with('/') { rest.find(',')? + 1 } else { 0 };
    let namespace = rest[..begin].strip_suffix(',').unwrap_or("/");
    let Error { message } = serde_json::from_str(&rest[begin..]).ok()?;
    Some((&packet[..2 + begin], namespace, message))
}

/// Parses the text of a packet: whether it is a CONNECT (or a DISCONNECT), and its namespace.
pub(super) fn parse(packet: &[u8]) -> Option<(bool, &str)> {
    let is_connect = packet.starts_with(b"40");
    if !is_connect && !packet.starts_with(b"41") {
        return None;
    }
    let rest = &packet[2..];
    if rest.first() != Some(&b'/') {
        return Some((is_connect, "/"));
    }
    // With Engine.IO 3 a query may follow.
    let end = rest.iter().position(|byte| matches!(byte, b',' | b'?')).unwrap_or(rest.len());
    Some((is_connect, str::from_utf8(&rest[..end]).ok()?))
}
