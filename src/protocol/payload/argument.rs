//! The arguments of an event.

use std::fmt;

use serde::{
    Deserializer,
    de::{Error, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Object, text_or_number, work};

/// An argument of an event: JSON text, and its fields if it is an object. The fields are read together with the
/// event, because an argument may be large, and reading it again would take as long again.
#[derive(Debug)]
pub struct Argument<'a> {
    text: &'a str,
    object: Option<Object<'a>>,
}

impl<'a> Argument<'a> {
    /// `null`, in the place of a missing one.
    pub const NULL: Self = Self { text: "null", object: None };

    /// Reads a value's fields if it is an object.
    pub fn of(value: &'a RawValue) -> Self {
        Self { text: value.get(), object: Object::parse(value.get()) }
    }

    /// The JSON text.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The fields of an object.
    pub fn object(&self) -> Option<&Object<'a>> {
        self.object.as_ref()
    }
}

/// Reads an event: a JSON array of its name and its arguments. A number as its name counts as its decimal text.
/// `None` if it is anything else.
pub fn read_event(text: &str) -> Option<(String, Vec<Argument<'_>>)> {
    work::reads(text.len());
    let mut json = serde_json::Deserializer::from_str(text);
    let event = json.deserialize_seq(Parts { text }).ok()?;
    json.end().ok()?;
    Some(event)
}

/// The name of an event, without reading its arguments.
pub fn event_name(text: &str) -> Option<String> {
    let first = text.trim_ascii_start().strip_prefix('[')?;
    let mut values = serde_json::Deserializer::from_str(first).into_iter::<&RawValue>();
    text_or_number(values.next()?.ok()?.get())
}

/// Reads the elements of the array that `text` is.
struct Parts<'a> {
    text: &'a str,
}

impl<'a> Parts<'a> {
    /// Where the part ends, which is a slice of the text.
    fn end_of(&self, part: &str) -> usize {
        part.as_ptr().addr() - self.text.as_ptr().addr() + part.len()
    }

    /// Where the next thing begins from `at` on: white space is skipped.
    fn skip(&self, at: usize) -> usize {
        self.text.len() - self.text[at..].trim_ascii_start().len()
    }

    /// The text of the object that begins at `begin` and has these fields.
    fn text_of(&self, begin: usize, object: &Object<'a>) -> &'a str {
        let last = object.fields().last().map(|(_, value)| self.end_of(value.get()));
        // Between its last value and the bracket that closes it there is only white space.
        let close = self.skip(last.unwrap_or(begin + 1));
        &self.text[begin..=close]
    }
}

impl<'de> Visitor<'de> for Parts<'de> {
    type Value = (String, Vec<Argument<'de>>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array that begins with the name of an event")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let name = seq.next_element::<&RawValue>()?.map(RawValue::get);
        let (Some(name), Some(text)) = (name, name.and_then(text_or_number)) else {
            return Err(A::Error::custom("it has no name"));
        };
        let (mut arguments, mut end) = (Vec::with_capacity(1), self.end_of(name));
        loop {
            let next = self.skip(end);
            let begin = if self.text[next..].starts_with(',') { self.skip(next + 1) } else { next };
            let argument = if self.text[begin..].starts_with('{') {
                let object = seq.next_element::<Object<'de>>()?;
                object.map(|it| Argument { text: self.text_of(begin, &it), object: Some(it) })
            } else {
                let value = seq.next_element::<&RawValue>()?;
                value.map(|value| Argument { text: value.get(), object: None })
            };
            let Some(argument) = argument else { return Ok((text, arguments)) };
            end = self.end_of(argument.text);
            arguments.push(argument);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{super::arbitrary::any_json, *};

    #[test]
    fn an_event_has_a_name_and_arguments_as_they_stand() {
        for (text, name, arguments) in [
            (r#"["e"]"#, "e", vec![]),
            (
                r#" [ "e" , { } , {"a" : { "b":[1 ,{}] } } ,7.0, [ 1 ] ] "#,
                "e",
                vec!["{ }", r#"{"a" : { "b":[1 ,{}] } }"#, "7.0", "[ 1 ]"],
            ),
            (
                r#"["a\nb",{"x":"]}, {","y":"é"},"{\"z\":1}"]"#,
                "a\nb",
                vec![r#"{"x":"]}, {","y":"é"}"#, r#""{\"z\":1}""#],
            ),
            (r#"[17,{},{"a":1}]"#, "17", vec!["{}", r#"{"a":1}"#]),
        ] {
            let (found, read) = read_event(text).unwrap();
            assert_eq!(found, name, "{text}");
            assert_eq!(event_name(text).as_deref(), Some(name), "{text}");
            assert_eq!(read.iter().map(Argument::text).collect::<Vec<_>>(), arguments, "{text}");
            for argument in read {
                let fields = |object: &Object<'_>| format!("{object:?}");
                let again = Object::parse(argument.text()).as_ref().map(fields);
                assert_eq!(argument.object().map(fields), again, "{}", argument.text());
            }
        }
    }

    #[test]
    fn anything_else_is_no_event() {
        for text in [
            "",
            "[",
            "[]",
            "[null]",
            "[{}]",
            "[[\"e\"]]",
            "{}",
            "\"e\"",
            "7",
            r#"["e""#,
            r#"["e",]"#,
            r#"["e" {}]"#,
            r#"["e",{}"#,
            r#"["e",{]"#,
            r#"["e",{"a"}]"#,
            r#"["e",{"a":1,}]"#,
            r#"["e",{"a":1}}"#,
            r#"["e",{}] []"#,
            r#"["e",{}{}]"#,
            r#"["e",{},,1]"#,
            r#"["e",nul]"#,
        ] {
            assert!(read_event(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_name_is_found_whatever_follows_it() {
        assert_eq!(event_name(r#"["e",{"a"#).as_deref(), Some("e"));
        for text in ["", "e", "[", "[{}]", "[\"e", "\"e\""] {
            assert_eq!(event_name(text), None, "{text}");
        }
    }

    #[test]
    fn an_event_is_read_once() {
        let text = json!(["e", {"a": "x".repeat(1000)}, {"b": [1, 2]}]).to_string();
        let (read, event) = work::read_by(|| read_event(&text));
        assert_eq!((read, event.unwrap().1.len()), (text.len(), 2));
    }

    proptest! {
        #[test]
        fn whatever_is_sent_arrives(arguments in prop::collection::vec(any_json(), 0..4), pretty in any::<bool>()) {
            let event = Value::from([vec!["e".into()], arguments.clone()].concat());
            let text = if pretty { format!("{event:#}") } else { event.to_string() };
            let (_, read) = read_event(&text).unwrap();
            let values = read.iter().map(|it| serde_json::from_str::<Value>(it.text()).unwrap());
            prop_assert_eq!(values.collect::<Vec<_>>(), arguments);
            for argument in &read {
                prop_assert_eq!(argument.object().is_some(), argument.text().starts_with('{'));
                prop_assert_eq!(argument.text(), argument.text().trim());
            }
        }
    }
}
