//! Where the binary attachments of a payload stand.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};
use serde_json::value::RawValue;

use super::{Object, Payload, json_of};
use crate::refusal::Refusal;

/// How deep the placeholders of a payload may stand that a client sends.
const MAX_DEPTH: usize = 128;

/// How much deeper they may stand in what is made of it.
const WRAPPED: usize = 8;

/// A JSON value in which a placeholder can be told from other objects; used only where there are
/// attachments. What has no placeholders is kept to the letter.
#[derive(Debug)]
pub enum Tree<'a> {
    Leaf(&'a RawValue),
    List(Vec<Tree<'a>>),
    Map(Vec<(Cow<'a, str>, Tree<'a>)>),
    /// The attachment of this number; `None` where the number is missing or is none.
    Placeholder(Option<usize>),
}

impl<'a> Tree<'a> {
    /// The tree of a payload that has attachments.
    pub fn of(payload: &'a Payload) -> Option<Self> {
        if payload.attachments.is_empty() {
            return None;
        }
        Self::read(&payload.json, MAX_DEPTH + WRAPPED)
    }

    /// Refuses a payload whose placeholders do not name one of so many attachments each.
    pub fn check(json: &RawValue, attachments: usize) -> Result<(), Refusal> {
        let tree = Tree::read(json, MAX_DEPTH).ok_or_else(|| {
            Refusal::invalid(format!("a payload with attachments may have {MAX_DEPTH} levels"))
        })?;
        tree.mark(&mut vec![false; attachments])
    }

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
                let fields = object.into_fields().into_iter();
                let fields = fields.map(|(key, value)| Some((key, Self::read(value, below()?)?)));
                Some(Self::Map(fields.collect::<Option<_>>()?))
            }
            _ => Some(Self::Leaf(json)),
        }
    }

    /// Marks the attachments that are named.
    fn mark(&self, named: &mut [bool]) -> Result<(), Refusal> {
        match self {
            Self::Leaf(_) => Ok(()),
            Self::List(items) => items.iter().try_for_each(|item| item.mark(named)),
            Self::Map(fields) => fields.iter().try_for_each(|(_, value)| value.mark(named)),
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

    /// Appends the text, in which the attachments are numbered anew as they are taken.
    pub fn write(&self, attachments: &[Bytes], text: &mut String, taken: &mut Vec<Bytes>) {
        match self {
            Self::Leaf(value) => text.push_str(value.get()),
            Self::List(items) => {
                text.push('[');
                for (i, item) in items.iter().enumerate() {
                    text.push_str(if i > 0 { "," } else { "" });
                    item.write(attachments, text, taken);
                }
                text.push(']');
            }
            Self::Map(fields) => {
                text.push('{');
                for (i, (key, value)) in fields.iter().enumerate() {
                    text.push_str(if i > 0 { "," } else { "" });
                    text.push_str(json_of(key).get());
                    text.push(':');
                    value.write(attachments, text, taken);
                }
                text.push('}');
            }
            Self::Placeholder(num) => match num.and_then(|num| attachments.get(num)) {
                Some(bytes) => {
                    let num = taken.len();
                    taken.push(bytes.clone());
                    text.push_str(r#"{"_placeholder":true,"num":"#);
                    text.push_str(&num.to_string());
                    text.push('}');
                }
                // Was refused at the door.
                None => text.push_str("null"),
            },
        }
    }
}

/// A payload in the terms of serde's data model, where bytes are bytes.
pub struct WithBytes<'a> {
    tree: &'a Tree<'a>,
    attachments: &'a [Bytes],
}

impl<'a> WithBytes<'a> {
    /// The tree, its placeholders being these attachments.
    pub fn new(tree: &'a Tree<'a>, attachments: &'a [Bytes]) -> Self {
        Self { tree, attachments }
    }
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
