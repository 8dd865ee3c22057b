//! The body of the two `/messages` routes: its properties, and the errors of an invalid one.
//!
//! Errors have class-validator's texts and, property by property, the order of the table below. Where a
//! property has two, `should not be empty` comes first, as from `@IsString()` above `@IsNotEmpty()`. Unknown
//! properties come last.

use std::{borrow::Cow, sync::LazyLock};

use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use time::{Date, OffsetDateTime, PrimitiveDateTime, format_description::well_known::Iso8601};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr,
        schema::{AllOfBuilder, AnyOfBuilder, ObjectBuilder, Schema},
    },
};
use validator::{Validate, ValidationError, ValidationErrors};

use crate::protocol::{
    names::{NameError, RoomName},
    payload::{Object, text_or_number},
};

/// The fields of a message as backends send it. One of `roomName`, `roomId` and `resourceId` names its room.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = MessageFields, examples(json!({
    "id": "4d2f3c8e-9b1a-4f6e-8a57-0c2b9d6e1f34",
    "clientId": "3qwd6cWPZVJxGsnkAAAB",
    "clientName": "backend",
    "roomName": "room-7",
    "messageType": "text",
    "message": "Hello",
    "replyToSender": false,
    "timestamp": "2024-05-01T12:00:00.000Z",
})))]
#[allow(
    dead_code,
    reason = "the shape as it is documented; what comes in is checked before it has one"
)]
struct MessageFields {
    /// A UUID of version 4.
    #[schema(format = "uuid")]
    id: String,
    /// The sending client. It gets no copy of a broadcast unless `replyToSender` is true.
    #[schema(min_length = 1)]
    client_id: String,
    /// The sender's name.
    #[schema(min_length = 1)]
    client_name: String,
    /// The room.
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    room_name: Option<String>,
    /// The room.
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    room_id: Option<String>,
    /// R for the room `resource:R`.
    #[schema(min_length = 1, max_length = 191, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    resource_id: Option<String>,
    /// The kind of message.
    #[schema(min_length = 1)]
    message_type: String,
    /// The text.
    #[schema(min_length = 1)]
    message: String,
    /// Whether the client named by `clientId` gets a broadcast, too.
    reply_to_sender: Option<bool>,
    /// When it was sent, in ISO 8601.
    #[schema(format = DateTime)]
    timestamp: String,
}

/// A message as it is documented: its fields, one of which must name the room.
pub(super) struct MessageDto;

impl PartialSchema for MessageDto {
    fn schema() -> RefOr<Schema> {
        let named_by = |field: &str| Schema::Object(ObjectBuilder::new().required(field).build());
        let named = ROOM.iter().fold(AnyOfBuilder::new(), |any, field| any.item(named_by(field)));
        let all =
            AllOfBuilder::new().item(MessageFields::schema()).item(Schema::AnyOf(named.build()));
        RefOr::T(all.build().into())
    }
}

impl ToSchema for MessageDto {
    fn name() -> Cow<'static, str> {
        "MessageDTO".into()
    }
}

/// A property's value, if it came. Not an `Option`: absence is validated, too.
#[derive(Clone, Copy)]
struct Property<'a>(Option<&'a RawValue>);

/// The validator copies the value into each error. Nobody reads the copy, and not every input could be
/// copied.
impl Serialize for Property<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl Property<'_> {
    fn text(self) -> Option<String> {
        serde_json::from_str(self.0?.get()).ok()
    }
}

/// The properties, validated all at once.
#[derive(Validate)]
struct Properties<'a> {
    #[validate(custom(function = uuid))]
    id: Property<'a>,
    #[validate(custom(function = not_empty), custom(function = string))]
    client_id: Property<'a>,
    #[validate(custom(function = not_empty), custom(function = string))]
    client_name: Property<'a>,
    #[validate(custom(function = not_empty), custom(function = string))]
    message_type: Property<'a>,
    #[validate(custom(function = not_empty), custom(function = string))]
    message: Property<'a>,
    #[validate(custom(function = boolean))]
    reply_to_sender: Property<'a>,
    #[validate(custom(function = iso8601))]
    timestamp: Property<'a>,
}

/// The properties in the order of their errors: the field above and the name on the wire. `None` is the room,
/// which has three names and rules of its own.
const ORDER: [(Option<&str>, &str); 8] = [
    (Some("id"), "id"),
    (Some("client_id"), "clientId"),
    (Some("client_name"), "clientName"),
    (None, "roomName"),
    (Some("message_type"), "messageType"),
    (Some("message"), "message"),
    (Some("reply_to_sender"), "replyToSender"),
    (Some("timestamp"), "timestamp"),
];

/// The names that the room may have; the first that is present counts.
const ROOM: [&str; 3] = ["roomName", "roomId", "resourceId"];

/// Every name that a property may have.
static KNOWN: LazyLock<Vec<&str>> =
    LazyLock::new(|| ORDER.iter().map(|(_, name)| *name).chain(ROOM).collect());

/// The parts of a valid message that the server uses.
#[derive(Debug)]
pub(super) struct Message {
    /// Its id.
    pub id: String,
    /// The client that sent it.
    pub client_id: String,
    /// The room that it is for.
    pub room: RoomName,
    /// Whether the client that sent it gets it, too.
    pub to_sender: bool,
}

impl Message {
    /// Validates the body, or returns all its errors.
    pub(super) fn read(body: &Object<'_>) -> Result<Self, Vec<String>> {
        let property = |name| Property(body.get(name));
        let properties = Properties {
            id: property("id"),
            client_id: property("clientId"),
            client_name: property("clientName"),
            message_type: property("messageType"),
            message: property("message"),
            reply_to_sender: property("replyToSender"),
            timestamp: property("timestamp"),
        };
        let errors = properties.validate().err().unwrap_or_default();
        let room = room(body);
        let mut faults = told(&errors, room.as_ref().err());
        let unknown = body.fields().filter(|(name, _)| !KNOWN.contains(name));
        faults.extend(unknown.map(|(name, _)| format!("property {name} should not exist")));
        match (room, properties.id.text(), properties.client_id.text()) {
            (Ok(room), Some(id), Some(client_id)) if faults.is_empty() => {
                let to_sender =
                    properties.reply_to_sender.0.is_some_and(|value| value.get() == "true");
                Ok(Self { id, client_id, room, to_sender })
            }
            _ => Err(faults),
        }
    }
}

/// All errors, in their order.
fn told(errors: &ValidationErrors, room: Option<&Vec<String>>) -> Vec<String> {
    let errors = errors.field_errors();
    let mut faults = Vec::new();
    for (field, name) in ORDER {
        let Some(field) = field else {
            faults.extend(room.into_iter().flatten().cloned());
            continue;
        };
        let of_field = errors.get(field).into_iter().flat_map(|errors| errors.iter());
        faults.extend(of_field.map(|error| format!("{name} {}", error.code)));
    }
    faults
}

fn room(body: &Object<'_>) -> Result<RoomName, Vec<String>> {
    let present = ROOM.iter().find_map(|name| Some((*name, body.get(name)?)));
    let Some((name, value)) = present else {
        return Err(vec![format!("{} {EMPTY}", ROOM[0]), format!("{} {NO_STRING}", ROOM[0])]);
    };
    // As everywhere, a number in place of a name is its decimal string.
    let text = text_or_number(value.get()).ok_or_else(|| vec![format!("{name} {NO_STRING}")])?;
    let parsed = match name {
        "resourceId" if text.is_empty() => Err(NameError::Empty),
        "resourceId" => RoomName::parse(&format!("resource:{text}")),
        _ => RoomName::parse(&text),
    };
    parsed.map_err(|error| match error {
        NameError::Empty => vec![format!("{name} {EMPTY}")],
        error => vec![format!("{name} {error}")],
    })
}

const EMPTY: &str = "should not be empty";
const NO_STRING: &str = "must be a string";

type Checked = Result<(), ValidationError>;

/// The code of an error is its text.
fn unless(fine: bool, fault: &'static str) -> Checked {
    if fine { Ok(()) } else { Err(ValidationError::new(fault)) }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as the validator calls it")]
fn not_empty(property: &Property<'_>) -> Checked {
    unless(property.0.is_some_and(|value| value.get() != "\"\""), EMPTY)
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as the validator calls it")]
fn string(property: &Property<'_>) -> Checked {
    unless(property.text().is_some(), NO_STRING)
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as the validator calls it")]
fn boolean(property: &Property<'_>) -> Checked {
    let fine = property.0.is_none_or(|value| matches!(value.get(), "true" | "false"));
    unless(fine, "must be a boolean value")
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as the validator calls it")]
fn uuid(property: &Property<'_>) -> Checked {
    let fine = property.text().is_some_and(|text| {
        // Only the hyphenated form: the parser takes others, too.
        let id = uuid::Uuid::try_parse(&text).ok().filter(|_| text.len() == 36);
        id.is_some_and(|id| id.get_version_num() == 4 && id.get_variant() == uuid::Variant::RFC4122)
    });
    unless(fine, "must be a UUID")
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as the validator calls it")]
fn iso8601(property: &Property<'_>) -> Checked {
    unless(
        property.text().is_some_and(|text| is_iso8601(&text)),
        "must be a valid ISO 8601 date string",
    )
}

/// A date, or a date and a time with or without its offset; as in class-validator, a space may replace the
/// `T`.
fn is_iso8601(text: &str) -> bool {
    let text = text.replacen(' ', "T", 1);
    OffsetDateTime::parse(&text, &Iso8601::PARSING).is_ok()
        || PrimitiveDateTime::parse(&text, &Iso8601::PARSING).is_ok()
        || Date::parse(&text, &Iso8601::PARSING).is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn valid() -> Value {
        json!({
            "id": "4d2f3c8e-9b1a-4f6e-8a57-0c2b9d6e1f34",
            "clientId": "c",
            "clientName": "n",
            "roomName": "r",
            "messageType": "text",
            "message": "m",
            "timestamp": "2024-05-01T12:00:00.000Z",
        })
    }

    fn faults(body: &Value) -> Vec<String> {
        let text = body.to_string();
        Message::read(&Object::parse(&text).unwrap()).err().unwrap_or_default()
    }

    fn faults_with(name: &str, value: Value) -> Vec<String> {
        let mut body = valid();
        body[name] = value;
        faults(&body)
    }

    #[test]
    fn a_valid_message_has_no_fault() {
        assert!(faults(&valid()).is_empty());
        assert!(faults_with("replyToSender", json!(true)).is_empty());
        assert!(faults_with("replyToSender", Value::Null).is_empty());
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once_and_in_order() {
        assert_eq!(
            faults(&json!({"foo": 1, "replyToSender": "yes"})),
            [
                "id must be a UUID",
                "clientId should not be empty",
                "clientId must be a string",
                "clientName should not be empty",
                "clientName must be a string",
                "roomName should not be empty",
                "roomName must be a string",
                "messageType should not be empty",
                "messageType must be a string",
                "message should not be empty",
                "message must be a string",
                "replyToSender must be a boolean value",
                "timestamp must be a valid ISO 8601 date string",
                "property foo should not exist",
            ]
        );
    }

    #[test]
    fn strings_are_strings_and_not_empty() {
        for name in ["clientId", "clientName", "messageType", "message"] {
            assert_eq!(faults_with(name, json!("")), [format!("{name} should not be empty")]);
            assert_eq!(faults_with(name, json!(7)), [format!("{name} must be a string")]);
            assert_eq!(
                faults_with(name, Value::Null),
                [format!("{name} should not be empty"), format!("{name} must be a string")]
            );
        }
    }

    #[test]
    fn an_id_is_a_uuid_of_version_four() {
        for wrong in [
            json!("4d2f3c8e9b1a4f6e8a570c2b9d6e1f34"),
            json!("{4d2f3c8e-9b1a-4f6e-8a57-0c2b9d6e1f34}"),
            json!("4d2f3c8e-9b1a-1f6e-8a57-0c2b9d6e1f34"),
            json!("4d2f3c8e-9b1a-4f6e-ca57-0c2b9d6e1f34"),
            json!(4),
            json!(""),
        ] {
            assert_eq!(faults_with("id", wrong.clone()), ["id must be a UUID"], "{wrong}");
        }
        assert!(faults_with("id", json!("4D2F3C8E-9B1A-4F6E-8A57-0C2B9D6E1F34")).is_empty());
    }

    #[test]
    fn a_timestamp_is_iso_8601() {
        for fine in [
            "2024-05-01",
            "2024-05-01T12:00",
            "2024-05-01T12:00:00Z",
            "2024-05-01T12:00:00.123456+02:00",
            "2024-05-01 12:00:00",
            "20240501T120000Z",
        ] {
            assert!(faults_with("timestamp", json!(fine)).is_empty(), "{fine}");
        }
        for wrong in [
            json!("yesterday"),
            json!("01.05.2024"),
            json!("2024-13-01"),
            json!(1_714_564_800),
            json!(""),
        ] {
            assert_eq!(
                faults_with("timestamp", wrong.clone()),
                ["timestamp must be a valid ISO 8601 date string"],
                "{wrong}"
            );
        }
    }

    #[test]
    fn the_room_has_three_names() {
        let room = |name: &str, value: Value| {
            let mut body = valid();
            body.as_object_mut().unwrap().remove("roomName");
            body[name] = value;
            let text = body.to_string();
            Message::read(&Object::parse(&text).unwrap()).map(|message| message.room.to_string())
        };
        assert_eq!(room("roomId", json!("x")).unwrap(), "x");
        assert_eq!(room("roomName", json!(7)).unwrap(), "7");
        assert_eq!(room("resourceId", json!(7)).unwrap(), "resource:7");
        assert_eq!(room("resourceId", json!("")).unwrap_err(), ["resourceId should not be empty"]);
        assert_eq!(room("roomId", json!(true)).unwrap_err(), ["roomId must be a string"]);
        assert_eq!(
            room("roomName", json!("a\u{0}b")).unwrap_err(),
            ["roomName must not contain control characters"]
        );
        assert!(
            room("room", json!("x"))
                .unwrap_err()
                .contains(&"property room should not exist".to_owned())
        );
    }
}
