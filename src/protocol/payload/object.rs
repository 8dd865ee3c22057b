//! Objects in JSON text: read, written and extended without touching other fields.

use std::{borrow::Cow, fmt};

use indexmap::IndexMap;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{json_of, raw, work};

/// The field of a room message's offset.
const OFFSET: &str = "offset";

/// A JSON object, read once: its fields in their order, each value as it stood in the text.
#[derive(Debug)]
pub struct Object<'a> {
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// Reads `json` if it is an object.
    pub fn parse(json: &'a str) -> Option<Self> {
        work::reads(json.len());
        serde_json::from_str(json).ok()
    }

    /// The value of `key`; `null` counts as absent, and the last of several wins, as in JavaScript.
    pub fn get(&self, key: &str) -> Option<&'a RawValue> {
        let (_, value) = self.fields.iter().rev().find(|(name, _)| name == key)?;
        (value.get() != "null").then_some(*value)
    }

    /// Whether it stands for an attachment: receivers put the attachment's bytes in its place.
    pub fn is_placeholder(&self) -> bool {
        self.get("_placeholder").is_some_and(|marker| marker.get() == "true")
    }

    /// The object's text without a field.
    pub(super) fn text_without(&self, field: &str) -> String {
        let sizes = self.fields().map(|(name, value)| name.len() + value.get().len() + 4);
        let mut kept = String::with_capacity(sizes.sum::<usize>() + 2);
        kept.push('{');
        for (name, value) in self.fields.iter().filter(|(name, _)| name != field) {
            kept.push_str(if kept.len() > 1 { "," } else { "" });
            match name {
                // As it stands in the text, without escapes.
                Cow::Borrowed(name) => {
                    kept.push('"');
                    kept.push_str(name);
                    kept.push('"');
                }
                Cow::Owned(name) => kept.push_str(json_of(name).get()),
            }
            kept.push(':');
            kept.push_str(value.get());
        }
        kept.push('}');
        kept
    }

    /// The fields in their order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.fields.iter().map(|(name, value)| (name.as_ref(), *value))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut fields = Vec::with_capacity(8);
                while let Some((Key(name), value)) = map.next_entry()? {
                    fields.push((name, value));
                }
                Ok(Object { fields })
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// A key that borrows from the text unless it has escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Writes a JSON object field by field; a field set twice keeps its first place and its last value.
#[derive(Debug, Default)]
pub struct ObjectBuilder<'a> {
    fields: IndexMap<Cow<'a, str>, Cow<'a, str>>,
}

impl<'a> ObjectBuilder<'a> {
    /// Sets `key` to the JSON text of `value`.
    #[must_use]
    pub fn set<T: Serialize + ?Sized>(self, key: &'a str, value: &T) -> Self {
        self.put(Cow::Borrowed(key), Cow::Owned(json_of(value).get().to_owned()))
    }

    /// Sets `key` to a value that is JSON text already.
    #[must_use]
    pub fn raw(self, key: &'a str, value: &'a RawValue) -> Self {
        self.put(Cow::Borrowed(key), Cow::Borrowed(value.get()))
    }

    /// Sets the fields of `object` that are not set yet.
    #[must_use]
    pub fn rest_of(mut self, object: &'a Object<'_>) -> Self {
        let fixed = self.fields.len();
        for (name, value) in object.fields() {
            if self.fields.get_index_of(name).is_none_or(|at| at >= fixed) {
                self = self.put(Cow::Borrowed(name), Cow::Borrowed(value.get()));
            }
        }
        self
    }

    fn put(mut self, key: Cow<'a, str>, value: Cow<'a, str>) -> Self {
        self.fields.insert(key, value);
        self
    }

    /// The object as JSON text.
    pub fn build(self) -> Box<RawValue> {
        let size =
            self.fields.iter().map(|(key, value)| key.len() + value.len() + 4).sum::<usize>();
        let mut json = String::with_capacity(size + 2);
        json.push('{');
        for (i, (key, value)) in self.fields.iter().enumerate() {
            if i > 0 {
                json.push(',');
            }
            json.push_str(json_of(key).get());
            json.push(':');
            json.push_str(value);
        }
        json.push('}');
        raw(json)
    }
}

/// The text of an object without the field `offset` and without white space at its end, so that [`splice`]
/// can add one without reading it; `None` if nothing changes.
pub(super) fn without_offset(text: &str) -> Option<String> {
    work::reads(text.len());
    let inner = text.strip_suffix('}')?;
    let ends_in_space = inner.ends_with(|last: char| last.is_ascii_whitespace());
    // A key may be written with escapes.
    if !ends_in_space && !text.contains(OFFSET) && !text.contains('\\') {
        return None;
    }
    let object = Object::parse(text)?;
    let is_there = object.fields().any(|(name, _)| name == OFFSET);
    (ends_in_space || is_there).then(|| object.text_without(OFFSET))
}

/// The text of an object in two parts; the second ends it with the field `offset`. Anything but an object has
/// one part.
pub(super) fn splice(text: &str, offset: u64) -> (&str, Option<String>) {
    let Some(inner) = text.strip_suffix('}') else { return (text, None) };
    let inner = inner.trim_ascii_end();
    let comma = if inner.len() > 1 { "," } else { "" };
    (inner, Some(format!("{comma}\"{OFFSET}\":{offset}}}")))
}
