//! Binary values in plain JSON, as backends get and send them: `{"$binary": "<base64>"}`.
//!
//! An object that could be taken for one, as its only key begins with `$`, stands inside of
//! `{"$literal": {…}}`. So whatever a client sends comes back as it was.

use std::{borrow::Cow, ops::Range};

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    Payload,
    binary::{Token, Tokens, placeholders},
    raw,
};
use crate::protocol::refusal::Refusal;

const BINARY: &str = "$binary";
const LITERAL: &str = "$literal";

/// Base64, with its padding or without.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// An object whose only key begins with `$`.
#[derive(Debug)]
struct Tagged<'a> {
    place: Range<usize>,
    key: Cow<'a, str>,
    /// Where the value of the key stands; of the last one if the key stands there several times.
    value: Range<usize>,
    /// Whether the key stands there once.
    is_single: bool,
}

/// A part of a text that another text replaces.
struct Edit {
    place: Range<usize>,
    text: Cow<'static, str>,
}

/// The payload as plain JSON.
///
/// # Errors
/// `invalid_payload` if it is too deep.
pub fn to_tagged(payload: &Payload) -> Result<String, Refusal> {
    let text = payload.json();
    let mut edits = Vec::new();
    for Tagged { place, .. } in tagged(&text) {
        edits.push(Edit { place: place.start..place.start, text: "{\"$literal\":".into() });
        edits.push(Edit { place: place.end..place.end, text: "}".into() });
    }
    if !payload.attachments().is_empty() {
        let found = placeholders(&text)?;
        // What stands inside of a placeholder does not go out.
        edits.retain(|edit| {
            let after = found.partition_point(|found| found.place.start <= edit.place.start);
            after.checked_sub(1).is_none_or(|at| found[at].place.end <= edit.place.start)
        });
        for (found, attachment) in found.into_iter().zip(payload.attachments()) {
            let text = format!("{{\"$binary\":\"{}\"}}", STANDARD.encode(attachment));
            edits.push(Edit { place: found.place, text: text.into() });
        }
    }
    Ok(apply(&text, edits))
}

/// The payload that plain JSON stands for.
///
/// # Errors
/// What is wrong with a value that is tagged, in words.
pub fn from_tagged(json: &RawValue) -> Result<Payload, String> {
    let text = json.get();
    let (mut edits, mut attachments, mut literals) = (Vec::new(), Vec::new(), Vec::new());
    for Tagged { place, key, value, is_single } in tagged(text) {
        // Literals come in the order in which they begin, as do the objects in them.
        if !is_single || literals.binary_search(&place.start).is_ok() {
            continue;
        }
        match &*key {
            BINARY => {
                let encoded = serde_json::from_str::<Cow<'_, str>>(&text[value]);
                let encoded = encoded.map_err(|_| "$binary must be a string in base64")?;
                let bytes = LENIENT.decode(encoded.as_bytes());
                let bytes = bytes.map_err(|_| "$binary must be a string in base64")?;
                let num = attachments.len();
                attachments.push(Bytes::from(bytes));
                let text = format!("{{\"_placeholder\":true,\"num\":{num}}}");
                edits.push(Edit { place, text: text.into() });
            }
            LITERAL => {
                if text.as_bytes()[value.start] != b'{' {
                    return Err("$literal must be an object".to_owned());
                }
                literals.push(value.start);
                edits.push(Edit { place: place.start..value.start, text: "".into() });
                edits.push(Edit { place: value.end..place.end, text: "".into() });
            }
            _ => {}
        }
    }
    if edits.is_empty() {
        return Ok(Payload::from_raw(json.to_owned()));
    }
    Payload::with_attachments(raw(apply(text, edits)), attachments.into())
        .map_err(|_| "a placeholder of Socket.IO's own stands beside $binary".to_owned())
}

/// The JSON text without white space between its tokens.
pub fn compact(text: &str) -> String {
    let mut compact = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c == '"' || c.is_ascii_whitespace()) {
        compact.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with('"') {
            let end = string_end(rest);
            compact.push_str(&rest[..end]);
            rest = &rest[end..];
        } else {
            rest = rest.trim_ascii_start();
        }
    }
    compact.push_str(rest);
    compact
}

/// The end of the string that the text begins with.
fn string_end(text: &str) -> usize {
    let mut bytes = text.bytes().enumerate().skip(1);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return at + 1,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
    text.len()
}

fn apply(text: &str, mut edits: Vec<Edit>) -> String {
    // Stable: what ends at a place was found before what begins there.
    edits.sort_by_key(|edit| edit.place.start);
    let more = edits.iter().map(|edit| edit.text.len()).sum::<usize>();
    let mut edited = String::with_capacity(text.len() + more);
    let mut copied = 0;
    for Edit { place, text: new } in edits {
        edited.push_str(&text[copied..place.start.max(copied)]);
        edited.push_str(&new);
        copied = place.end.max(copied);
    }
    edited.push_str(&text[copied..]);
    edited
}

/// An array or an object that is open.
struct Level<'a> {
    begin: usize,
    /// Its place among what is found.
    slot: usize,
    is_object: bool,
    wants_key: bool,
    keys: usize,
    /// The one key so far, if it begins with `$`.
    key: Option<Cow<'a, str>>,
    value: Range<usize>,
}

/// The objects whose only key begins with `$`, in the order in which they begin. One pass.
fn tagged(text: &str) -> Vec<Tagged<'_>> {
    let mut levels = Vec::<Level<'_>>::new();
    let mut found = Vec::<Option<Tagged<'_>>>::new();
    for token in Tokens::of(text) {
        match token {
            Token::Open(at) => {
                let is_object = text.as_bytes()[at] == b'{';
                levels.push(Level {
                    begin: at,
                    slot: found.len(),
                    is_object,
                    wants_key: is_object,
                    keys: 0,
                    key: None,
                    value: 0..0,
                });
                if is_object {
                    found.push(None);
                }
            }
            Token::Close(at) => {
                let Some(level) = levels.pop() else { continue };
                let place = level.begin..at + 1;
                if let Some(above) = levels.last_mut() {
                    above.value = place.clone();
                }
                match level.key {
                    Some(key) => {
                        let (value, is_single) = (level.value, level.keys == 1);
                        found[level.slot] = Some(Tagged { place, key, value, is_single });
                    }
                    // Most objects leave nothing behind.
                    None if level.is_object && found.len() == level.slot + 1 => drop(found.pop()),
                    None => {}
                }
            }
            Token::Comma => {
                if let Some(level) = levels.last_mut() {
                    level.wants_key = level.is_object;
                }
            }
            Token::Scalar(place) => match levels.last_mut() {
                Some(level) if level.wants_key => {
                    level.wants_key = false;
                    level.keys += 1;
                    let key = key_of(&text[place]);
                    level.key = match level.key.take() {
                        None if level.keys == 1 => key,
                        // A parser in JavaScript makes one key of a key that stands there twice.
                        Some(before) if key.as_ref() == Some(&before) => Some(before),
                        _ => None,
                    };
                }
                Some(level) => level.value = place,
                None => {}
            },
        }
    }
    found.into_iter().flatten().collect()
}

/// The key of this token if it begins with `$`.
fn key_of(token: &str) -> Option<Cow<'_, str>> {
    let key = if token.contains('\\') {
        Cow::Owned(serde_json::from_str::<String>(token).ok()?)
    } else {
        Cow::Borrowed(token.get(1..token.len() - 1)?)
    };
    key.starts_with('$').then_some(key)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{super::arbitrary::json_of, *};

    fn payload(text: &str, attachments: &[&'static [u8]]) -> Payload {
        let attachments = attachments.iter().map(|bytes| Bytes::from_static(bytes));
        Payload::with_attachments(raw(text), attachments.collect()).unwrap()
    }

    #[test]
    fn attachments_are_written_as_base64_where_they_stood() {
        let text =
            r#"[{"a": {"_placeholder":true,"num":1}, "b":1.0},{"num":0,"_placeholder":true}]"#;
        let tagged = to_tagged(&payload(text, &[b"ab", b"\xff"])).unwrap();
        assert_eq!(tagged, r#"[{"a": {"$binary":"/w=="}, "b":1.0},{"$binary":"YWI="}]"#);
        let back = from_tagged(&raw(tagged)).unwrap();
        assert_eq!(back.attachments(), [Bytes::from_static(b"\xff"), Bytes::from_static(b"ab")]);
    }

    #[test]
    fn what_could_be_taken_for_binary_is_marked_as_literal() {
        for (given, wanted) in [
            (r#"[{"$binary":"YQ=="}]"#, r#"[{"$literal":{"$binary":"YQ=="}}]"#),
            (r#"{"$a":{"$b":1}}"#, r#"{"$literal":{"$a":{"$literal":{"$b":1}}}}"#),
            (r#"{"$a":1,"b":2}"#, r#"{"$a":1,"b":2}"#),
            (r#"{"a":1,"$b":2}"#, r#"{"a":1,"$b":2}"#),
            (r#"{"$a":1,"$a":2}"#, r#"{"$literal":{"$a":1,"$a":2}}"#),
            (r#"{"\u0024a":1}"#, r#"{"$literal":{"\u0024a":1}}"#),
            (r#"{"$a":1,"\u0024a":2}"#, r#"{"$literal":{"$a":1,"\u0024a":2}}"#),
            (r#"{"__proto__":1,"$a":2}"#, r#"{"__proto__":1,"$a":2}"#),
            (r#"[{},[],"$",{"a":[{"$":null}]}]"#, r#"[{},[],"$",{"a":[{"$literal":{"$":null}}]}]"#),
        ] {
            assert_eq!(to_tagged(&payload(given, &[])).unwrap(), wanted, "{given}");
        }
    }

    #[test]
    fn what_stands_inside_of_a_placeholder_does_not_go_out() {
        let text = r#"[{"_placeholder":true,"num":0,"x":{"$a":1}},{"$b":1}]"#;
        let tagged = to_tagged(&payload(text, &[b"a"])).unwrap();
        assert_eq!(tagged, r#"[{"$binary":"YQ=="},{"$literal":{"$b":1}}]"#);
    }

    #[test]
    fn a_literal_stands_for_the_object_in_it() {
        for (given, wanted) in [
            (r#"{"$literal":{"$binary":"YQ=="}}"#, r#"{"$binary":"YQ=="}"#),
            (r#"[ {"$literal" : {"$literal": {"a":1}} } ]"#, r#"[ {"$literal": {"a":1}} ]"#),
            (r#"{"$literal":{"$a":{"$literal":{"$b":1}}}}"#, r#"{"$a":{"$b":1}}"#),
            (r#"{"$other":1}"#, r#"{"$other":1}"#),
            (r#"{"$literal":1,"b":2}"#, r#"{"$literal":1,"b":2}"#),
            (r#"{"$literal":{"x":{"$binary":"YQ"}}}"#, r#"{"x":{"_placeholder":true,"num":0}}"#),
        ] {
            assert_eq!(from_tagged(&raw(given)).unwrap().json(), wanted, "{given}");
        }
        for wrong in [
            r#"{"$binary":1}"#,
            r#"{"$binary":"?"}"#,
            r#"{"$literal":1}"#,
            r#"[{"a":{"$literal":null}}]"#,
            r#"[{"$binary":"YQ=="},{"_placeholder":true,"num":0}]"#,
        ] {
            assert!(from_tagged(&raw(wrong)).is_err(), "{wrong}");
        }
        // Without binary values nobody looks at placeholders.
        let own = r#"[{"_placeholder":true,"num":0}]"#;
        assert_eq!(from_tagged(&raw(own)).unwrap().json(), own);
    }

    #[test]
    fn very_many_marked_objects_are_written_in_time() {
        let text = format!("[{}{{}}]", r#"{"$a":1},"#.repeat(100_000));
        let tagged = to_tagged(&payload(&text, &[])).unwrap();
        assert_eq!(tagged.matches("$literal").count(), 100_000);
        assert_eq!(from_tagged(&raw(tagged)).unwrap().json(), text);
    }

    #[test]
    fn white_space_is_left_out_between_tokens_only() {
        let text = " { \"a b\" : [ 1 ,\n2 ], \"c\\\" \" : \" \" }\t";
        assert_eq!(compact(text), r#"{"a b":[1,2],"c\" ":" "}"#);
    }

    fn any_tagged_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<i32>().prop_map(Value::from), ".{0,4}".prop_map(Value::from)];
        json_of(leaf, "\\$(binary|literal|a)|[ab]")
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(value in any_tagged_json(), holes in 0..3_usize) {
            let attachments: Arc<[Bytes]> =
                (0..holes).map(|hole| Bytes::from(vec![7; hole])).collect();
            let hole = |num: usize| json!({"_placeholder": true, "num": num});
            let holes = (0..holes).map(hole).collect::<Vec<_>>();
            let text = json!([holes, value]).to_string();
            let payload = Payload::with_attachments(raw(text), attachments.clone()).unwrap();
            let back = from_tagged(&raw(to_tagged(&payload).unwrap())).unwrap();
            let read = |payload: &Payload| serde_json::from_str::<Value>(&payload.json()).unwrap();
            prop_assert_eq!(read(&back), read(&payload));
            prop_assert_eq!(back.attachments(), &*attachments);
        }
    }
}
