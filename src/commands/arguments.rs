//! The parsers that several events share: names, rooms, integers.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::event::Incoming;
use crate::protocol::{
    names::{NameError, RoomName},
    payload::{Object, text_or_number},
    refusal::{Code, Refusal},
};

/// The greatest integer that JavaScript can hold exactly.
pub(super) const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// The fields that may name a room; the first that is present counts.
const ROOM_FIELDS: [&str; 4] = ["roomName", "roomId", "room", "resourceId"];

/// A room as a client named it.
#[derive(Debug, Clone)]
pub(super) struct NamedRoom {
    /// The room.
    pub name: RoomName,
    /// The field that named it; `None` where the payload was itself the name.
    pub field: Option<&'static str>,
    /// The field's value (or the payload) as it was given, to echo.
    pub value: Arc<str>,
}

impl NamedRoom {
    /// The payload's shape, with only the key that names the room.
    pub(super) fn echo(&self) -> Arc<str> {
        match self.field {
            Some(field) => format!("{{\"{field}\":{}}}", self.value).into(),
            None => self.value.clone(),
        }
    }
}

/// Parses a field's value as a name.
pub(super) fn named<T>(
    field: &str,
    json: &str,
    parse: impl FnOnce(&str) -> Result<T, NameError>,
) -> Result<T, Refusal> {
    let Some(text) = text_or_number(json) else {
        return Err(Refusal::invalid(format!("{field} must be a string or a number")));
    };
    parse(&text).map_err(|error| Refusal::invalid(format!("{field} {error}")))
}

/// The room that an object's fields name, if any. A field that nearly names a room is refused: without one, the
/// object may go to everyone.
pub(super) fn room_if_any(object: &Object<'_>) -> Result<Option<NamedRoom>, Refusal> {
    let Some((field, value)) =
        ROOM_FIELDS.iter().find_map(|field| object.get(field).map(|value| (*field, value)))
    else {
        let mut present = object.fields().filter(|(_, value)| value.get() != "null");
        let near = present.find_map(|(key, _)| Some((key, near_room_field(key)?)));
        return match near {
            Some((key, meant)) => Err(Refusal::new(
                Code::NoRoom,
                format!(
                    "No resourceId specified in the message: \"{key}\" names no room; did you mean \"{meant}\"?"
                ),
            )),
            None => Ok(None),
        };
    };
    let name = named(field, value.get(), |text| match field {
        "resourceId" if text.is_empty() => Err(NameError::Empty),
        "resourceId" => RoomName::parse(&format!("resource:{text}")),
        _ => RoomName::parse(text),
    })?;
    Ok(Some(NamedRoom { name, field: Some(field), value: value.get().into() }))
}

/// The field that names a room and that `key` was probably meant to be.
fn near_room_field(key: &str) -> Option<&'static str> {
    const LONGEST: usize = 16;
    if key.len() > LONGEST {
        return None;
    }
    let letters = key.chars().filter(char::is_ascii_alphanumeric);
    let plain = letters.map(|letter| letter.to_ascii_lowercase()).collect::<String>();
    match plain.as_str() {
        "room" | "rooms" | "channel" | "channels" | "channelid" | "channelname" => Some("room"),
        _ => ROOM_FIELDS
            .into_iter()
            .filter(|field| *field != "room")
            .find(|field| strsim::damerau_levenshtein(&plain, &field.to_ascii_lowercase()) <= 1),
    }
}

/// The room that an object must name.
pub(super) fn room_in(object: &Object<'_>) -> Result<NamedRoom, Refusal> {
    room_if_any(object)?.ok_or_else(Refusal::no_room)
}

/// The room to join or leave: the argument may itself be the name.
pub(super) fn room_or_name<'a>(
    incoming: &'a Incoming<'_>,
) -> Result<(NamedRoom, Option<&'a Object<'a>>), Refusal> {
    let missing = |message: &'static str| Refusal::new(Code::NoRoom, message);
    if let Some(object) = incoming.object_if_any()? {
        let room = room_if_any(object)?;
        let none = "no room specified: give roomName, roomId, room or resourceId";
        return Ok((room.ok_or_else(|| missing(none))?, Some(object)));
    }
    let argument = incoming.argument();
    if argument == "null" {
        return Err(missing(
            "no room specified: give its name, or an object with roomName, roomId, room or resourceId",
        ));
    }
    let name = named("the room", argument, RoomName::parse)?;
    Ok((NamedRoom { name, field: None, value: argument.into() }, None))
}

/// Parses a field's value as an integer from `min` to `max`.
pub(super) fn integer(field: &str, value: &RawValue, min: u64, max: u64) -> Result<u64, Refusal> {
    let number = value.get().parse().ok().filter(|number| (min..=max).contains(number));
    number
        .ok_or_else(|| Refusal::invalid(format!("{field} must be an integer from {min} to {max}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::protocol::payload::Argument;

    fn room(argument: &str) -> (String, Option<&'static str>, String) {
        let argument = RawValue::from_string(argument.to_owned()).unwrap();
        let argument = Some(Argument::of(&argument));
        let incoming = Incoming::new("join-room", argument, Arc::default());
        let (room, _) = room_or_name(&incoming).unwrap();
        (room.name.to_string(), room.field, room.value.to_string())
    }

    #[test]
    fn a_room_is_named_by_a_field_or_by_the_payload_itself() {
        for (argument, name, field, value) in [
            (json!("r"), "r", None, r#""r""#),
            (json!(7), "7", None, "7"),
            (json!({"roomName": "r"}), "r", Some("roomName"), r#""r""#),
            (json!({"resourceId": 7}), "resource:7", Some("resourceId"), "7"),
            (
                json!({"room": 12_345_678_901_234_567_890_u64}),
                "12345678901234567890",
                Some("room"),
                "12345678901234567890",
            ),
            (json!({"resourceId": "a", "room": "b", "roomId": null}), "b", Some("room"), r#""b""#),
        ] {
            assert_eq!(room(&argument.to_string()), (name.to_owned(), field, value.to_owned()));
        }
    }

    #[test]
    fn a_field_that_nearly_names_a_room_is_told() {
        for (key, meant) in [
            ("roomname", Some("roomName")),
            ("room_name", Some("roomName")),
            ("roomNmae", Some("roomName")),
            ("roomID", Some("roomId")),
            ("room-id", Some("roomId")),
            ("Room", Some("room")),
            ("rooms", Some("room")),
            ("channel", Some("room")),
            ("resource_id", Some("resourceId")),
            ("resoureId", Some("resourceId")),
            ("text", None),
            ("name", None),
            ("id", None),
            ("resource", None),
            ("roomy", None),
            ("messageId", None),
            ("", None),
            ("é", None),
        ] {
            assert_eq!(near_room_field(key), meant, "{key}");
        }
    }

    #[test]
    fn of_a_field_that_stands_twice_the_last_counts() {
        assert_eq!(room(r#"{"room":"a","room":"b"}"#).0, "b");
    }
}
