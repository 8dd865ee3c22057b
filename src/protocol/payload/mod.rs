//! What clients send and get: JSON text kept to the letter, with the binary attachments that it
//! refers to.
//!
//! A payload is never turned into a tree and back: unknown fields, key order, numbers and unicode go
//! out as they came in. What the server adds is spliced into the text.

#[cfg(test)]
pub mod arbitrary;
mod argument;
mod binary;
mod object;
pub mod tagged;
pub mod work;

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use serde::{Serialize, Serializer, ser::Error};
use serde_json::value::RawValue;

use self::binary::{WithBytes, serialize_text};
use self::object::{splice, without_offset};
pub use self::{
    argument::{Argument, event_name, read_event},
    object::{Object, ObjectBuilder},
};
use crate::protocol::refusal::Refusal;

/// One JSON value and its binary attachments.
///
/// In the text an attachment stands as `{"_placeholder":true,"num":N}`, as in the Socket.IO protocol
/// (revision 5, "Binary event"). The text is read once, when the payload is made: from then on the
/// placeholders are numbered in their order, one for each attachment, and sending needs no further read.
/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Payload {
    json: Arc<str>,
    attachments: Arc<[Bytes]>,
    /// Its offset in the room, which goes out inside the object.
    offset: Option<u64>,
}

impl Payload {
    /// A payload without attachments.
    pub fn from_raw(json: Box<RawValue>) -> Self {
        Self::stored(text_of(json), &[])
    }

    /// The JSON form of a value of this crate's own types.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Self {
        Self::from_raw(json_of(value))
    }

    /// A payload whose placeholders refer to `attachments`.
    ///
    /// # Errors
    /// `invalid_payload` if a placeholder names no attachment, because every recipient's parser would close
    /// its connection; or if two name the same one, because each stands for all of its bytes, so that a small
    /// message could grow without bound.
    pub fn with_attachments(
        json: Box<RawValue>,
        attachments: Arc<[Bytes]>,
    ) -> Result<Self, Refusal> {
        Self::packed(text_of(json), attachments)
    }

    /// An event's argument with the event's attachments.
    ///
    /// # Errors
    /// As [`with_attachments`](Self::with_attachments).
    pub fn of_argument(
        argument: &Argument<'_>,
        attachments: Arc<[Bytes]>,
    ) -> Result<Self, Refusal> {
        Self::packed(argument.text().into(), attachments)
    }

    fn packed(json: Arc<str>, attachments: Arc<[Bytes]>) -> Result<Self, Refusal> {
        let packed = if attachments.is_empty() { None } else { binary::pack(&json, &attachments)? };
        Ok(match packed {
            Some((json, attachments)) => Self::stored(json.into(), &attachments),
            None => Self { json, attachments, offset: None },
        })
    }

    /// An object without one of its fields, and those of the attachments that still stand in it.
    ///
    /// # Errors
    /// As [`with_attachments`](Self::with_attachments).
    pub fn of_object_without(
        object: &Object<'_>,
        field: &str,
        attachments: Arc<[Bytes]>,
    ) -> Result<Self, Refusal> {
        Self::packed(object.text_without(field).into(), attachments)
    }

    /// A payload with the JSON text and the attachments that it had when it was stored or sent to another
    /// node; not checked again.
    pub fn stored(json: Arc<str>, attachments: &[Bytes]) -> Self {
        Self { json, attachments: attachments.into(), offset: None }
    }

    /// The same with its offset in the room at the object's end; anything but an object stays as it is.
    #[must_use]
    pub fn numbered(self, offset: u64) -> Self {
        Self { offset: Some(offset), ..self }
    }

    /// The same without a field `offset` of its own, so that it can be [numbered](Self::numbered) without
    /// being read.
    #[must_use]
    pub fn to_be_numbered(self) -> Self {
        match without_offset(&self.json) {
            Some(json) => Self { json: json.into(), ..self },
            None => self,
        }
    }

    /// The JSON text.
    pub fn json(&self) -> Cow<'_, str> {
        match self.parts() {
            (text, None) => text.into(),
            (text, Some(end)) => format!("{text}{end}").into(),
        }
    }

    /// The JSON text without the offset in the room.
    pub fn unnumbered(&self) -> &Arc<str> {
        &self.json
    }

    /// The JSON text in two parts: the given text, which all copies share, and the end that the server has
    /// added, if any.
    pub fn parts(&self) -> (&str, Option<String>) {
        match self.offset {
            Some(offset) => splice(&self.json, offset),
            None => (&self.json, None),
        }
    }

    /// The attachments, in the order of their numbers.
    pub fn attachments(&self) -> &[Bytes] {
        &self.attachments
    }

    /// A payload with another text made from this one, and those of its attachments that still stand in it.
    ///
    /// # Errors
    /// `invalid_payload` if one stands there twice.
    pub fn with_json(&self, json: Box<RawValue>) -> Result<Self, Refusal> {
        Self::with_attachments(json, self.attachments.clone())
    }

    /// The number of bytes of text and attachments.
    pub fn size(&self) -> usize {
        self.json.len() + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }
}

/// For socketioxide's parser, which takes attachments out of what it serializes. Without attachments the text
/// goes through as it is.
impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.json();
        if self.attachments.is_empty() {
            return serialize_text(&text, serializer);
        }
        let payload = WithBytes::new(&text, &self.attachments);
        payload.map_err(|refusal| S::Error::custom(refusal.message))?.serialize(serializer)
    }
}

fn text_of(json: Box<RawValue>) -> Arc<str> {
    Box::<str>::from(json).into()
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

/// A string, or a number as its decimal string: a name; `None` for any other JSON text.
pub fn text_or_number(json: &str) -> Option<String> {
    match json.as_bytes().first()? {
        b'"' => serde_json::from_str(json).ok(),
        b'-' | b'0'..=b'9' => Some(json.to_owned()),
        _ => None,
    }
}

/// Whether a value is the placeholder of a binary attachment, in whose place receivers put the attachment.
pub fn is_placeholder(value: &RawValue) -> bool {
    Object::parse(value.get()).is_some_and(|value| value.is_placeholder())
}

/// JSON text as a value; `null` for invalid JSON.
pub fn raw(text: impl Into<String>) -> Box<RawValue> {
    let text = text.into();
    work::reads(text.len());
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
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

    fn with_offset(text: &str, offset: u64) -> String {
        let payload = Payload::from_raw(raw(text)).to_be_numbered().numbered(offset);
        payload.json().into_owned()
    }

    #[test]
    fn the_offset_goes_inside_and_over_a_field_of_that_name() {
        for (given, wanted) in [
            ("{}", r#"{"offset":7}"#),
            ("{ }", r#"{"offset":7}"#),
            ("{ \"a\":1\n}", r#"{"a":1,"offset":7}"#),
            ("{ \"a\" : 1}", r#"{ "a" : 1,"offset":7}"#),
            (r#"{"a":1}"#, r#"{"a":1,"offset":7}"#),
            (r#"{"offset":"x","a":1,"offset":2}"#, r#"{"a":1,"offset":7}"#),
            (r#"{"\u006fffset":"x","a":1}"#, r#"{"a":1,"offset":7}"#),
            (r#"{"a":{"offset":1}}"#, r#"{"a":{"offset":1},"offset":7}"#),
            (r#""text""#, r#""text""#),
            ("[1]", "[1]"),
        ] {
            assert_eq!(with_offset(given, 7), wanted, "{given}");
        }
    }

    #[test]
    fn a_field_is_taken_out_and_the_others_stay_to_the_letter() {
        for (given, wanted) in [
            (r#"{"k":1}"#, "{}"),
            (r#"{ "a" : 1.0 , "k":{"k":2}, "b":"\u0061" }"#, r#"{"a":1.0,"b":"\u0061"}"#),
            (r#"{"k":1,"a":{"k":2},"\u006b":3}"#, r#"{"a":{"k":2}}"#),
            (r#"{ "a" : 1 }"#, r#"{"a":1}"#),
            (r#"{"\u0061\n":1,"ü":2,"k":3}"#, r#"{"a\n":1,"ü":2}"#),
        ] {
            let object = Object::parse(given).unwrap();
            let payload = Payload::of_object_without(&object, "k", [].into()).unwrap();
            assert_eq!(payload.json(), wanted, "{given}");
        }
        // Attachments go with the field in which they stand.
        let (of_k, of_a) = (Bytes::from_static(b"k"), Bytes::from_static(b"a"));
        let place = |number| format!(r#"{{"_placeholder":true,"num":{number}}}"#);
        let given = format!(r#"{{"k":{},"a":{}}}"#, place(0), place(1));
        let object = Object::parse(&given).unwrap();
        let payload =
            Payload::of_object_without(&object, "k", [of_k, of_a.clone()].into()).unwrap();
        assert_eq!(payload.json(), format!(r#"{{"a":{}}}"#, place(0)));
        assert_eq!(payload.attachments(), [of_a]);
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
        let deep = |marker| raw(deep.replace("_placeholder", marker));
        assert!(Payload::with_attachments(deep("\\u005fplaceholder"), bytes.clone()).is_err());
        let usual = Payload::with_attachments(deep("_placeholder"), bytes).unwrap();
        assert!(serde_json::to_string(&usual).is_err());
    }

    #[test]
    fn attachments_are_numbered_as_they_stand_and_no_others_go_out() {
        let bytes = [b"a", b"b", b"c"].map(|bytes| Bytes::from_static(bytes));
        let given = format!(r#"{{"x" : [{}],"1.0":1.0,"y":{}}}"#, hole(2), hole(0));
        let payload = Payload::with_attachments(raw(given), Arc::new(bytes.clone())).unwrap();
        let wanted = format!(r#"{{"x" : [{}],"1.0":1.0,"y":{}}}"#, hole(0), hole(1));
        assert_eq!(payload.json(), wanted);
        assert_eq!(payload.attachments(), [bytes[2].clone(), bytes[0].clone()]);
        let plain = Payload::with_attachments(raw(r#"{ "a" : 1 }"#), Arc::new(bytes)).unwrap();
        assert_eq!((&*plain.json(), plain.attachments().len()), (r#"{ "a" : 1 }"#, 0));
    }

    #[test]
    fn a_text_made_of_another_keeps_the_attachments_that_stand_in_it() {
        let bytes: Arc<[Bytes]> = ["a", "b"].map(Bytes::from).into();
        let given = format!(r#"{{"x":{},"y":{}}}"#, hole(0), hole(1));
        let payload = Payload::with_attachments(raw(given), bytes.clone()).unwrap();
        let made = payload.with_json(raw(format!(r#"{{"y":{}}}"#, hole(1)))).unwrap();
        assert_eq!(made.json(), format!(r#"{{"y":{}}}"#, hole(0)));
        assert_eq!(made.attachments(), &bytes[1..]);
    }

    fn hole(num: usize) -> String {
        format!(r#"{{"_placeholder":true,"num":{num}}}"#)
    }

    /// An object of `size` bytes, as deep as a client may send one, with an attachment at its bottom.
    fn deep(size: usize) -> Box<RawValue> {
        let (open, close) = ("{\"a\":".repeat(60), "}".repeat(60));
        raw(format!(r#"{open}{{"b":{},"c":"{}"}}{close}"#, hole(0), "\\u0061".repeat(size / 6)))
    }

    #[test]
    fn a_message_is_read_in_a_number_of_passes_however_deep_it_is() {
        let attachments: Arc<[Bytes]> = Arc::from([Bytes::from_static(b"x")]);
        let work = |size: usize| {
            let json = deep(size);
            let length = json.get().len();
            let (read, payload) = work::read_by(|| {
                let payload = Payload::with_attachments(json, attachments.clone()).unwrap();
                payload.with_json(raw(&*payload.json())).unwrap().to_be_numbered()
            });
            let (library, _) = work::read_by(|| json_of(&payload));
            assert!(read <= 6 * length, "{read} bytes of {length} were read");
            assert!(library <= 3 * length, "{library} bytes of {length} were read");
            // From then on it is not read any more.
            let numbered = work::read_by(|| payload.numbered(7).json().into_owned());
            assert_eq!(numbered.0, 0);
            read + library
        };
        let (once, twice) = (work(100_000), work(200_000));
        assert!(twice <= 2 * once + 100, "{once} for half of it, {twice} for all");
    }

    #[test]
    fn the_librarys_parser_gets_the_bytes_where_they_stand() {
        let bytes: Arc<[Bytes]> = ["a", "b"].map(Bytes::from).into();
        let given = format!(r#"{{"x":[1.0,{},{{"k\u0065y":{}}}],"a" : "é"}}"#, hole(1), hole(0));
        let payload = Payload::with_attachments(raw(given), bytes).unwrap().numbered(7);
        // `serde_json` has no bytes and writes them as numbers.
        let wanted = r#"{"x":[1.0,[98],{"key":[97]}],"a":"é","offset":7}"#;
        assert_eq!(serde_json::to_string(&payload).unwrap(), wanted);
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
            prop_assert_eq!(serde_json::from_str::<Value>(&spliced).unwrap(), wanted);
        }
    }
}
