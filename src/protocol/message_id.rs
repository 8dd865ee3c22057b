//! Message ids.

use serde_json::value::RawValue;

use crate::protocol::payload::{Object, json_of, text_or_number};

/// A message's id: as it stood in the payload, or made by the server.
#[derive(Debug, Clone)]
pub struct MessageId {
    /// The id as text.
    pub text: String,
    /// The id as JSON: a number stays a number.
    pub json: Box<RawValue>,
    /// Whether the sender gave it.
    pub is_given: bool,
}

impl MessageId {
    /// The payload's `id` if it is a string or a number, else a new one.
    pub fn of(payload: &Object<'_>) -> Self {
        payload.get("id").and_then(Self::given).unwrap_or_else(Self::make)
    }

    /// `json` as an id, if it is a string or a number.
    pub fn given(json: &RawValue) -> Option<Self> {
        let text = text_or_number(json.get())?;
        Some(Self { text, json: json.to_owned(), is_given: true })
    }

    /// A new id.
    pub fn make() -> Self {
        Self::made(uuid::Uuid::new_v4().to_string())
    }

    /// An id that the server has made.
    pub fn made(text: String) -> Self {
        Self { json: json_of(&text), text, is_given: false }
    }
}
