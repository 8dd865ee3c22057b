//! What clients send and get: JSON text kept to the letter, with the binary attachments that it
//! refers to.
//!
//! A payload is never turned into a tree and back: unknown fields, key order, numbers and unicode go
//! out as they came in. What the server adds is spliced into the text.

mod binary;
mod object;

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use self::binary::{Tree, WithBytes};
pub use self::object::{Object, ObjectBuilder, with_offset};
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
            Tree::check(&json, attachments.len())?;
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

    /// The text and the attachments as they go out: numbered in the order in which they stand, and
    /// those that stand nowhere left out.
    pub fn packed(&self) -> (Cow<'_, str>, Vec<Bytes>) {
        match Tree::of(self) {
            Some(tree) => {
                let (mut text, mut attachments) = (String::new(), Vec::new());
                tree.write(&self.attachments, &mut text, &mut attachments);
                (text.into(), attachments)
            }
            None => (self.json().into(), Vec::new()),
        }
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
        match Tree::of(self) {
            Some(tree) => WithBytes::new(&tree, &self.attachments).serialize(serializer),
            None => self.json.serialize(serializer),
        }
    }
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
    fn attachments_are_numbered_as_they_stand_and_no_others_go_out() {
        let bytes = [b"a", b"b", b"c"].map(|bytes| Bytes::from_static(bytes));
        let hole = |num: u8| format!(r#"{{"_placeholder":true,"num":{num}}}"#);
        let given = format!(r#"{{"x" : [{}],"1.0":1.0,"y":{}}}"#, hole(2), hole(0));
        let payload = Payload::with_attachments(raw(given), Arc::new(bytes.clone())).unwrap();
        let (text, attachments) = payload.packed();
        assert_eq!(text, format!(r#"{{"x":[{}],"1.0":1.0,"y":{}}}"#, hole(0), hole(1)));
        assert_eq!(attachments, [bytes[2].clone(), bytes[0].clone()]);
        let plain = Payload::from_raw(raw(r#"{ "a" : 1 }"#));
        assert_eq!(plain.packed(), (r#"{ "a" : 1 }"#.into(), vec![]));
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
