//! Objects in JSON text: read, written and added to without touching what is not meant.

use std::{borrow::Cow, fmt};

use indexmap::IndexMap;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{json_of, raw};

/// A JSON object, read once: its fields in their order, each value as it stood in the text.
#[derive(Debug)]
pub struct Object<'a> {
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// Reads `json` if it is an object.
    pub fn parse(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// The value of `key`; `null` counts as absent, and the last of several wins, as in JavaScript.
    pub fn get(&self, key: &str) -> Option<&'a RawValue> {
        let (_, value) = self.fields.iter().rev().find(|(name, _)| name == key)?;
        (value.get() != "null").then_some(*value)
    }

    /// The fields in their order, taken out.
    pub(super) fn into_fields(self) -> Vec<(Cow<'a, str>, &'a RawValue)> {
        self.fields
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

/// The JSON `text` with `"offset":offset` inside, over a field of that name; anything but an object
/// is returned as it is, and what is no JSON as `null`.
pub fn with_offset(text: &str, offset: u64) -> Box<RawValue> {
    // Splicing in front of the closing brace spares most messages a look at their fields: only a
    // text that contains the key's letters somewhere can have the field.
    let spliced = if text.contains("offset") || text.contains('\\') {
        Object::parse(text)
            .map(|object| ObjectBuilder::default().rest_of(&object).set("offset", &offset).build())
    } else {
        text.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).and_then(|inner| {
            let inner = inner.trim_end();
            let comma = if inner.is_empty() { "" } else { "," };
            RawValue::from_string(format!("{{{inner}{comma}\"offset\":{offset}}}")).ok()
        })
    };
    spliced.unwrap_or_else(|| raw(text))
}
