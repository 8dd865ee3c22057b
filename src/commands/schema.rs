//! The building blocks of the events' JSON Schemas, and the schemas that all of them share.

use serde_json::{Map, Value, json};

use crate::protocol::{names::MAX_IDEMPOTENCY_KEY, refusal::Code};

/// Schemas by their names.
pub type Schemas = Vec<(&'static str, Value)>;

/// The name of the schema of events without an argument.
pub const NOTHING: &str = "Nothing";

/// A reference to another schema.
pub fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

/// An object that has at least these fields; those whose name ends with `?` may be absent.
pub(super) fn object(description: &str, fields: &[(&str, Value)]) -> Value {
    let is_optional = |name: &str| name.ends_with('?');
    let properties = fields
        .iter()
        .map(|(name, schema)| (name.trim_end_matches('?').to_owned(), schema.clone()))
        .collect::<Map<_, _>>();
    let required =
        fields.iter().map(|(name, _)| *name).filter(|name| !is_optional(name)).collect::<Vec<_>>();
    let mut schema = json!({"type": "object", "properties": properties});
    if !description.is_empty() {
        schema["description"] = description.into();
    }
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

/// The same, with any other fields that the sender adds; they are forwarded.
pub(super) fn open(description: &str, fields: &[(&str, Value)]) -> Value {
    let mut schema = object(description, fields);
    schema["additionalProperties"] = true.into();
    schema
}

/// An object that names a room, and has these fields.
pub(super) fn of_room(description: &str, fields: &[(&str, Value)]) -> Value {
    json!({"description": description, "allOf": [reference("Room"), open("", fields)]})
}

pub(super) fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

pub(super) fn flag(description: &str) -> Value {
    json!({"type": "boolean", "description": description})
}

pub(super) fn count(description: &str) -> Value {
    json!({"type": "integer", "minimum": 0, "description": description})
}

pub(super) fn anything(description: &str) -> Value {
    json!({"description": description})
}

pub(super) fn yes() -> Value {
    json!({"const": true})
}

/// The fields of the acting client: `userId`, `clientId` and so on.
pub(super) fn user() -> Value {
    json!({"type": ["string", "null"], "description": "The user, or null for a client without a user."})
}

pub(super) fn client_id() -> Value {
    text("The client's id (its `socket.id`).")
}

pub(super) fn client_name() -> Value {
    text("The client's name.")
}

pub(super) fn room() -> Value {
    text("The room's name.")
}

pub(super) fn time() -> Value {
    reference("Timestamp")
}

pub(super) fn id() -> Value {
    reference("MessageId")
}

pub(super) fn offset() -> Value {
    count("The message's number in its room, from 1. Absent without history.")
}

pub(super) fn duplicate() -> Value {
    flag("True if the event was done before, with the same idempotency key. Nothing was done now.")
}

pub(super) fn idempotency_key() -> Value {
    json!({
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_IDEMPOTENCY_KEY,
        "description": "Within `IDEMPOTENCY_WINDOW`, events with the same key are done once. The key is not forwarded.",
    })
}

pub(super) fn epoch() -> Value {
    text("The history that the offset belongs to. It changes only if the history was lost.")
}

/// The schemas that all events share: parts of arguments, acknowledgements and the refusal.
pub(super) fn common() -> Schemas {
    let mut schemas = words();
    schemas.extend(acknowledgements());
    schemas
}

/// The parts of arguments.
fn words() -> Schemas {
    let by = |field: &str, description: &str| {
        let mut schema = open("", &[(field, reference("Name"))]);
        schema["properties"][field]["description"] = description.into();
        schema
    };
    vec![
        (
            "Name",
            json!({
                "type": ["string", "number"],
                "description": "1 to 200 characters without control characters. A number counts as its decimal string.",
            }),
        ),
        (
            "MessageId",
            json!({"type": ["string", "number"], "description": "The message's id: the sender's, or the server's if the sender gave none."}),
        ),
        (
            "Timestamp",
            json!({"type": "string", "format": "date-time", "description": "RFC 3339, UTC, with milliseconds: as JavaScript's `toISOString()`."}),
        ),
        (
            "Code",
            json!({
                "anyOf": [{"enum": Code::ALL.map(Code::as_str)}, {"type": "string"}],
                "description": "Why an event was refused. The application's backend may use codes of its own.",
            }),
        ),
        (
            "Room",
            json!({
                "description": "An object that names a room. The first of these fields that is present counts.",
                "anyOf": [
                    by("roomName", "The room's name."),
                    by("roomId", "The room's name."),
                    by("room", "The room's name."),
                    by("resourceId", "A resource: `R` means the room `resource:R`."),
                ],
            }),
        ),
        (
            "RoomOrName",
            json!({"description": "A room's name, or an object that names it.", "anyOf": [reference("Name"), reference("Room")]}),
        ),
        (NOTHING, json!({"type": "null", "description": "No argument. An argument is ignored."})),
    ]
}

/// The acknowledgements of events that add nothing of their own, and the refusal.
fn acknowledgements() -> Schemas {
    vec![
        (
            "Refused",
            object(
                "The event was refused. It has changed nothing.",
                &[
                    ("success", json!({"const": false})),
                    ("message", text("What was wrong, what is allowed, and what to do.")),
                    ("code", reference("Code")),
                    (
                        "retryAfterMs?",
                        count(
                            "How long to wait before the next attempt, in milliseconds. With `rate_limited`.",
                        ),
                    ),
                    (
                        "data?",
                        anything("More from the application's backend, if it refused the event."),
                    ),
                ],
            ),
        ),
        ("Success", object("The event was accepted.", &[("success", yes())])),
        (
            "Done",
            object(
                "The event was accepted.",
                &[("success", yes()), ("message", text("A description."))],
            ),
        ),
    ]
}
