//! What events carry, as JSON Schema.

mod client;
mod server;

use serde_json::{Map, Value, json};

use crate::{commands::private_message::KINDS, protocol::refusal::Code};

fn reference(schema: &str) -> Value {
    super::reference(schema)
}

/// An object that has at least these fields; those whose name ends with `?` may be absent.
fn object(description: &str, fields: &[(&str, Value)]) -> Value {
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

/// The same, and whatever other fields the sender likes; they are forwarded.
fn open(description: &str, fields: &[(&str, Value)]) -> Value {
    let mut schema = object(description, fields);
    schema["additionalProperties"] = true.into();
    schema
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn flag(description: &str) -> Value {
    json!({"type": "boolean", "description": description})
}

fn count(description: &str) -> Value {
    json!({"type": "integer", "minimum": 0, "description": description})
}

fn anything(description: &str) -> Value {
    json!({"description": description})
}

fn yes() -> Value {
    json!({"const": true})
}

/// `userId`, `clientId` and so on of whoever did something.
fn user() -> Value {
    json!({"type": ["string", "null"], "description": "The user; null for a client without one."})
}

fn client_id() -> Value {
    text("The client: its socket's id.")
}

fn client_name() -> Value {
    text("What the client is called.")
}

fn room() -> Value {
    text("The room's name.")
}

fn time() -> Value {
    reference("Timestamp")
}

fn id() -> Value {
    reference("MessageId")
}

fn offset() -> Value {
    count("The message's number in its room, from 1; absent without history.")
}

fn epoch() -> Value {
    text("Which history the offset belongs to; it changes only where the history was lost.")
}

/// Every schema, by name.
pub fn all() -> Map<String, Value> {
    [
        words(),
        client::sent(),
        client::acknowledged(),
        server::rooms(),
        server::messages(),
        server::users(),
        server::state(),
    ]
    .into_iter()
    .flatten()
    .map(|(name, schema)| (name.to_owned(), schema))
    .collect()
}

type Schemas = Vec<(&'static str, Value)>;

/// What the others are made of.
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
                "description": "1 to 200 characters without control characters; a number counts as its decimal string.",
            }),
        ),
        (
            "MessageId",
            json!({"type": ["string", "number"], "description": "The sender's id of a message, or the server's where it gave none."}),
        ),
        (
            "Timestamp",
            json!({"type": "string", "format": "date-time", "description": "RFC 3339, UTC, with milliseconds: as JavaScript's `toISOString()`."}),
        ),
        (
            "Code",
            json!({"enum": Code::ALL.map(Code::as_str), "description": "Why an event was not honoured."}),
        ),
        (
            "Status",
            json!({"enum": ["online", "away", "busy", "offline"], "description": "What a user says of itself."}),
        ),
        (
            "Kind",
            json!({"enum": KINDS, "description": "What the content of a private message is."}),
        ),
        (
            "Room",
            json!({
                "description": "An object that names a room: the first of these that is present counts.",
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
        (
            "Nothing",
            json!({"type": "null", "description": "No argument; one that is given is not looked at."}),
        ),
    ]
}
