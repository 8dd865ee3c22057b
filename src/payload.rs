//! What clients send and get: JSON text kept to the letter, with the binary attachments that it
//! refers to.
//!
//! A payload is never turned into a tree and back: unknown fields, key order, numbers and unicode go
//! out as they came in. What the server adds is spliced into the text.

use std::{borrow::Cow, fmt, sync::Arc};

use bytes::Bytes;
use indexmap::IndexMap;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
    ser::{SerializeMap, SerializeSeq},
};
use serde_json::value::RawValue;

use crate::refusal::Refusal;

/// One JSON value and its binary attachments.
///
/// In the text an attachment stands as `{"_placeholder":true,"num":N}`, as in the Socket.IO
/// protocol (revision 5, "Binary event").
#[derive(Debug, Clone)]
pub struct Payload {
    json: Arc<RawValue>,
    attachments: Arc<[Bytes]>,
}

impl Payload {
    /// A payload without attachments.
    pub fn from_raw(json: Box<RawValue>) -> Self {
        Self { json: json.into(), attachments: Arc::default() }
    }

    /// The JSON form of a value of this crate's own types.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Self {
        Self::from_raw(json_of(value))
    }

    /// A payload whose placeholders refer to `attachments`.
    ///
    /// # Errors
    /// `invalid_payload` when a placeholder names no attachment: every receiver's parser would
    /// close its connection over it. Or one that another names, too: each stands for its
    /// attachment's bytes, so that a small message would grow without bound.
    pub fn with_attachments(
        json: Box<RawValue>,
        attachments: Arc<[Bytes]>,
    ) -> Result<Self, Refusal> {
        if !attachments.is_empty() {
            let tree = Tree::read(&json, MAX_DEPTH).ok_or_else(|| {
                Refusal::invalid(format!("a payload with attachments may have {MAX_DEPTH} levels"))
            })?;
            tree.check(&mut vec![false; attachments.len()])?;
        }
        Ok(Self { json: json.into(), attachments })
    }

    /// What was a payload when it was stored: not checked again.
    pub fn restored(json: Box<RawValue>, attachments: &[Bytes]) -> Self {
        Self { json: json.into(), attachments: attachments.into() }
    }

    /// The JSON text.
    pub fn json(&self) -> &str {
        self.json.get()
    }

    /// The attachments, in the order of their numbers.
    pub fn attachments(&self) -> &[Bytes] {
        &self.attachments
    }

    /// The same attachments with another text.
    #[must_use]
    pub fn with_json(&self, json: Box<RawValue>) -> Self {
        Self { json: json.into(), attachments: self.attachments.clone() }
    }

    /// The number of bytes of text and attachments.
    pub fn size(&self) -> usize {
        self.json().len() + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }
}

/// For socketioxide's parser, which takes attachments out of what it serializes: the text goes
/// through as it is unless there are attachments to hand over.
impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.attachments.is_empty() {
            return self.json.serialize(serializer);
        }
        let tree = Tree::read(&self.json, MAX_DEPTH);
        let tree = tree.ok_or_else(|| serde::ser::Error::custom("a payload was not checked"))?;
        WithBytes { tree: &tree, attachments: &self.attachments }.serialize(serializer)
    }
}

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

/// The JSON form of a value of this crate's own types, which all have one.
#[allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "only maps with odd keys, and types that fail on purpose, have none"
)]
pub fn json_of<T: Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("the server's own types have a JSON form")
}

/// JSON text as a value; `null` for what is no JSON.
pub fn raw(text: impl Into<String>) -> Box<RawValue> {
    RawValue::from_string(text.into()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// How deep the placeholders of a payload may stand.
const MAX_DEPTH: usize = 128;

/// A JSON value in which a placeholder can be told from other objects; used only where there are
/// attachments. What has no placeholders is kept to the letter.
#[derive(Debug)]
enum Tree<'a> {
    Leaf(&'a RawValue),
    List(Vec<Tree<'a>>),
    Map(Vec<(Cow<'a, str>, Tree<'a>)>),
    /// The attachment of this number; `None` where the number is missing or is none.
    Placeholder(Option<usize>),
}

impl<'a> Tree<'a> {
    /// Reads `json`; `None` where it has placeholders, or what may be some, more than `depth` deep.
    fn read(json: &'a RawValue, depth: usize) -> Option<Self> {
        let text = json.get();
        // A key may be written with escapes.
        if !text.contains("_placeholder") && !text.contains("\\u") {
            return Some(Self::Leaf(json));
        }
        let below = || depth.checked_sub(1);
        match text.as_bytes().first()? {
            b'[' => {
                let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
                let items = items.into_iter().map(|item| Self::read(item, below()?));
                Some(Self::List(items.collect::<Option<_>>()?))
            }
            b'{' => {
                let object = Object::parse(text)?;
                if object.get("_placeholder").is_some_and(|marker| marker.get() == "true") {
                    return Some(Self::Placeholder(
                        object.get("num").and_then(|num| num.get().parse().ok()),
                    ));
                }
                let fields = object.fields.into_iter();
                let fields = fields.map(|(key, value)| Some((key, Self::read(value, below()?)?)));
                Some(Self::Map(fields.collect::<Option<_>>()?))
            }
            _ => Some(Self::Leaf(json)),
        }
    }

    /// Marks the attachments that are named.
    fn check(&self, named: &mut [bool]) -> Result<(), Refusal> {
        match self {
            Self::Leaf(_) => Ok(()),
            Self::List(items) => items.iter().try_for_each(|item| item.check(named)),
            Self::Map(fields) => fields.iter().try_for_each(|(_, value)| value.check(named)),
            Self::Placeholder(num) => {
                let count = named.len();
                match num.and_then(|num| named.get_mut(num)) {
                    Some(named) if !*named => {
                        *named = true;
                        Ok(())
                    }
                    _ => Err(Refusal::invalid(format!(
                        "a binary placeholder must name one of the message's {count} attachments, each at most once"
                    ))),
                }
            }
        }
    }
}

struct WithBytes<'a> {
    tree: &'a Tree<'a>,
    attachments: &'a [Bytes],
}

impl Serialize for WithBytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let below = |tree| WithBytes { tree, attachments: self.attachments };
        match self.tree {
            Tree::Leaf(value) => value.serialize(serializer),
            Tree::List(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    seq.serialize_element(&below(item))?;
                }
                seq.end()
            }
            Tree::Map(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (key, value) in fields {
                    map.serialize_entry(key, &below(value))?;
                }
                map.end()
            }
            Tree::Placeholder(num) => {
                let bytes = num.and_then(|num| self.attachments.get(num)).ok_or_else(|| {
                    serde::ser::Error::custom("a placeholder names no attachment")
                })?;
                serializer.serialize_bytes(bytes)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn an_object_keeps_its_fields_as_they_stood() {
        let object = Object::parse(r#"{"b":1.0, "a" : [ 1 ],"n":null,"b":2}"#).unwrap();
        assert_eq!(object.get("b").unwrap().get(), "2");
        assert_eq!(object.get("a").unwrap().get(), "[ 1 ]");
        assert!(object.get("n").is_none());
        assert!(Object::parse("[1]").is_none());
    }

    #[test]
    fn the_offset_goes_inside_and_over_a_field_of_that_name() {
        for (given, wanted) in [
            ("{}", r#"{"offset":7}"#),
            ("{ }", r#"{"offset":7}"#),
            ("{ \"a\":1\n}", r#"{ "a":1,"offset":7}"#),
            (r#"{"a":1}"#, r#"{"a":1,"offset":7}"#),
            (r#"{"offset":"x","a":1}"#, r#"{"offset":7,"a":1}"#),
            (r#"{"\u006fffset":"x","a":1}"#, r#"{"offset":7,"a":1}"#),
            (r#"{"a":{"offset":1}}"#, r#"{"a":{"offset":1},"offset":7}"#),
            (r#""text""#, r#""text""#),
            ("[1]", "[1]"),
        ] {
            assert_eq!(with_offset(given, 7).get(), wanted, "{given}");
        }
    }

    #[test]
    fn a_builder_puts_the_servers_fields_over_the_payloads() {
        let object = Object::parse(r#"{"x":1,"sender":"me","content":"hi"}"#).unwrap();
        let built = ObjectBuilder::default().set("sender", &Some("alice")).rest_of(&object).build();
        assert_eq!(built.get(), r#"{"sender":"alice","x":1,"content":"hi"}"#);
    }

    #[test]
    fn a_placeholder_without_its_attachment_is_refused() {
        let bytes: Arc<[Bytes]> = Arc::from([Bytes::from_static(b"x")]);
        for num in ["1", "-1", "0.5", "\"0\"", "null"] {
            let json = raw(format!(r#"{{"a":[{{"_placeholder":true,"num":{num}}}]}}"#));
            assert!(Payload::with_attachments(json, bytes.clone()).is_err(), "{num}");
        }
        let json = raw(r#"{"a":{"_placeholder":true,"num":0}}"#);
        assert!(Payload::with_attachments(json, bytes.clone()).is_ok());
        for twice in [
            r#"[{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#,
            r#"[{"\u005fplaceholder":true,"num":0},{"_placeholder":true,"num":0}]"#,
        ] {
            assert!(Payload::with_attachments(raw(twice), bytes.clone()).is_err(), "{twice}");
        }
        let deep =
            format!(r#"{}{{"_placeholder":true,"num":0}}{}"#, "[".repeat(5000), "]".repeat(5000));
        assert!(Payload::with_attachments(raw(&deep), bytes).is_err());
    }

    #[test]
    fn an_object_of_very_many_fields_is_built_in_time() {
        let fields = (0..100_000).map(|i| format!("\"{i}\":0")).collect::<Vec<_>>().join(",");
        let text = format!("{{{fields}}}");
        let object = Object::parse(&text).unwrap();
        assert_eq!(ObjectBuilder::default().rest_of(&object).build().get(), text);
    }

    proptest! {
        #[test]
        fn an_offset_changes_nothing_else(
            fields in proptest::collection::btree_map("[a-z\\\\\"ö]{0,6}", any::<i32>(), 0..6)
        ) {
            let mut wanted = json!(fields);
            let spliced = with_offset(&wanted.to_string(), 9);
            wanted["offset"] = json!(9);
            prop_assert_eq!(serde_json::from_str::<Value>(spliced.get()).unwrap(), wanted);
        }
    }
}
