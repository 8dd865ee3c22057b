//! Finds where the binary attachments of a payload stand.
//!
//! Every scan is one pass over the text, however deep it is. The text is valid JSON already, so only its
//! structure matters.

use std::{borrow::Cow, iter::Peekable, ops::Range};

use bytes::Bytes;
use memchr::memmem;
use serde::{
    Serialize, Serializer,
    ser::{Error, SerializeMap, SerializeSeq},
};
use serde_json::value::RawValue;

use super::work;
use crate::protocol::refusal::Refusal;

/// How deep a payload may be of which the placeholders are looked for level by level.
const MAX_DEPTH: usize = 128;

/// The field that marks a placeholder.
const MARKER: &str = "_placeholder";

/// A placeholder: an object whose `_placeholder` is `true`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Placeholder {
    /// Where it stands in the text.
    pub place: Range<usize>,
    /// The number of its attachment; `None` if missing or invalid.
    pub num: Option<usize>,
}

/// Finds the placeholders of a JSON text, in their order.
///
/// # Errors
/// `invalid_payload` for a text that is too deep.
pub(super) fn placeholders(text: &str) -> Result<Vec<Placeholder>, Refusal> {
    usual_placeholders(text).map_or_else(|| any_placeholders(text), Ok)
}

/// The placeholders of a text, however they are written.
fn any_placeholders(text: &str) -> Result<Vec<Placeholder>, Refusal> {
    let mut scan = Scan { text, levels: Vec::new(), found: Vec::new() };
    for token in Tokens::of(text) {
        match token {
            Token::Open(at) if scan.levels.len() < MAX_DEPTH => scan.open(at),
            Token::Open(_) => return Err(too_deep()),
            Token::Close(at) => scan.close(at),
            Token::Comma => scan.next(),
            Token::Scalar(place) => scan.scalar(place),
        }
    }
    Ok(scan.found)
}

/// The placeholders of a text in which all stand as clients write them, found by searching for their marker: a large
/// payload is not read byte by byte. `None` if one may stand there in another way.
///
/// In valid JSON the quote before the marker begins a string, because no string ends right before a letter. So what has
/// this form is an object, and stands in no string. Only an escape of this kind can hide a marker.
fn usual_placeholders(text: &str) -> Option<Vec<Placeholder>> {
    if memmem::find(text.as_bytes(), b"\\u").is_some() {
        return None;
    }
    let found = memmem::find_iter(text.as_bytes(), MARKER).map(|at| {
        let begin = text[..at].strip_suffix("{\"")?.len();
        let num = text[at + MARKER.len()..].strip_prefix(r#"":true,"num":"#)?;
        let rest = num.trim_start_matches(|digit: char| digit.is_ascii_digit());
        let end = text.len() - rest.strip_prefix('}')?.len();
        let num = num[..num.len() - rest.len()].parse().ok();
        Some(Placeholder { place: begin..end, num })
    });
    found.collect()
}

/// Numbers the placeholders of the text in their order and puts the attachments in that order; attachments
/// without a placeholder are left out. `None` if nothing changes.
///
/// # Errors
/// `invalid_payload` if a placeholder does not name one of the attachments, or names the same one as another.
pub(super) fn pack(
    text: &str,
    attachments: &[Bytes],
) -> Result<Option<(String, Vec<Bytes>)>, Refusal> {
    let found = placeholders(text)?;
    let mut named = vec![false; attachments.len()];
    let mut packed = Vec::with_capacity(found.len());
    for Placeholder { num, .. } in &found {
        let at = num.filter(|num| named.get(*num) == Some(&false));
        let at = at.ok_or_else(|| {
            let count = attachments.len();
            Refusal::invalid(format!(
                "a binary placeholder must name one of the message's {count} attachments, each at most once"
            ))
        })?;
        named[at] = true;
        packed.push(attachments[at].clone());
    }
    let in_order = found.iter().enumerate().all(|(at, placeholder)| placeholder.num == Some(at));
    if in_order && packed.len() == attachments.len() {
        return Ok(None);
    }
    let mut renumbered = String::with_capacity(text.len() + 8 * found.len());
    let mut copied = 0;
    for (num, Placeholder { place, .. }) in found.into_iter().enumerate() {
        renumbered.push_str(&text[copied..place.start]);
        renumbered.push_str(r#"{"_placeholder":true,"num":"#);
        renumbered.push_str(&num.to_string());
        renumbered.push('}');
        copied = place.end;
    }
    renumbered.push_str(&text[copied..]);
    Ok(Some((renumbered, packed)))
}

fn too_deep() -> Refusal {
    Refusal::invalid(format!("a payload with attachments may have {MAX_DEPTH} levels"))
}

struct Scan<'a> {
    text: &'a str,
    /// The arrays and objects that are open.
    levels: Vec<Level>,
    found: Vec<Placeholder>,
}

struct Level {
    begin: usize,
    is_object: bool,
    /// The next string is a key.
    wants_key: bool,
    key: Key,
    /// What `_placeholder` and `num` say; as in JavaScript, the last of several counts.
    is_marked: bool,
    num: Option<usize>,
    /// How many placeholders had been found before it.
    found: usize,
}

#[derive(Clone, Copy)]
enum Key {
    Marker,
    Num,
    Other,
}

impl Key {
    fn of(token: &str) -> Self {
        // A key may be written with escapes.
        let decoded: Cow<'_, str> = if token.contains('\\') {
            serde_json::from_str::<String>(token).unwrap_or_default().into()
        } else {
            token[1..token.len() - 1].into()
        };
        match &*decoded {
            MARKER => Self::Marker,
            "num" => Self::Num,
            _ => Self::Other,
        }
    }
}

impl Scan<'_> {
    fn open(&mut self, at: usize) {
        self.value("");
        let is_object = self.text.as_bytes()[at] == b'{';
        self.levels.push(Level {
            begin: at,
            is_object,
            wants_key: is_object,
            key: Key::Other,
            is_marked: false,
            num: None,
            found: self.found.len(),
        });
    }

    fn close(&mut self, at: usize) {
        let Some(level) = self.levels.pop() else { return };
        if level.is_marked {
            // Placeholders inside a placeholder do not go out.
            self.found.truncate(level.found);
            self.found.push(Placeholder { place: level.begin..at + 1, num: level.num });
        }
    }

    fn next(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.wants_key = level.is_object;
        }
    }

    fn scalar(&mut self, place: Range<usize>) {
        let token = &self.text[place];
        match self.levels.last_mut() {
            Some(level) if level.wants_key => {
                level.key = Key::of(token);
                level.wants_key = false;
            }
            _ => self.value(token),
        }
    }

    /// Takes a value; for an array or an object `token` is empty, as neither field may be one.
    fn value(&mut self, token: &str) {
        let Some(level) = self.levels.last_mut() else { return };
        match level.key {
            Key::Marker => level.is_marked = token == "true",
            Key::Num => level.num = token.parse().ok(),
            Key::Other => {}
        }
    }
}

pub(super) enum Token {
    Open(usize),
    Close(usize),
    Comma,
    /// A string, number or word.
    Scalar(Range<usize>),
}

/// The tokens of a JSON text, without its colons and white space.
pub(super) struct Tokens<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Tokens<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        work::reads(text.len());
        Self { text: text.as_bytes(), at: 0 }
    }

    /// The end of the string that begins before `at`.
    fn string(&self, mut at: usize) -> usize {
        loop {
            match self.text.get(at) {
                Some(b'"') => return at + 1,
                Some(b'\\') => at += 2,
                Some(_) => at += 1,
                None => return self.text.len(),
            }
        }
    }

    /// The end of the number or word that begins before `at`.
    fn word(&self, at: usize) -> usize {
        let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
        self.text[at..].iter().position(ends).map_or(self.text.len(), |length| at + length)
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        loop {
            let begin = self.at;
            let byte = *self.text.get(begin)?;
            self.at += 1;
            return Some(match byte {
                b'{' | b'[' => Token::Open(begin),
                b'}' | b']' => Token::Close(begin),
                b',' => Token::Comma,
                b':' | b' ' | b'\t' | b'\n' | b'\r' => continue,
                b'"' => {
                    self.at = self.string(self.at);
                    Token::Scalar(begin..self.at)
                }
                _ => {
                    self.at = self.word(self.at);
                    Token::Scalar(begin..self.at)
                }
            });
        }
    }
}

/// A payload in serde's data model, with its attachments as bytes.
pub(super) struct WithBytes<'a> {
    text: &'a str,
    attachments: &'a [Bytes],
    root: Node,
}

/// A value of the text.
enum Node {
    /// A value without placeholders.
    Text(Range<usize>),
    List(Vec<Node>),
    /// The keys as they stand in the text.
    Map(Vec<(Range<usize>, Node)>),
    /// A placeholder for this attachment.
    Bytes(usize),
}

impl<'a> WithBytes<'a> {
    /// The text, with these attachments for its placeholders.
    pub(super) fn new(text: &'a str, attachments: &'a [Bytes]) -> Result<Self, Refusal> {
        let placeholders = placeholders(text)?.into_iter().peekable();
        let mut nodes = Nodes { tokens: Tokens::of(text), placeholders };
        let root = nodes.tokens.next().and_then(|token| nodes.value(token, 0));
        Ok(Self { text, attachments, root: root.ok_or_else(too_deep)? })
    }
}

/// Builds the values of a text.
struct Nodes<'a, P: Iterator<Item = Placeholder>> {
    tokens: Tokens<'a>,
    placeholders: Peekable<P>,
}

impl<P: Iterator<Item = Placeholder>> Nodes<'_, P> {
    /// The value that begins with this token, so many levels below the root; `None` below [`MAX_DEPTH`].
    fn value(&mut self, first: Token, level: usize) -> Option<Node> {
        let begin = match first {
            Token::Scalar(place) => return Some(Node::Text(place)),
            Token::Open(at) if level < MAX_DEPTH => at,
            Token::Open(_) | Token::Close(_) | Token::Comma => return None,
        };
        if let Some(found) = self.placeholders.next_if(|found| found.place.start == begin) {
            self.tokens.at = found.place.end;
            return Some(found.num.map_or(Node::Text(found.place), Node::Bytes));
        }
        let is_object = self.tokens.text[begin] == b'{';
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        loop {
            match self.tokens.next()? {
                Token::Close(_) => break,
                Token::Comma => {}
                Token::Scalar(key) if is_object => {
                    keys.push(key);
                    let first = self.tokens.next()?;
                    values.push(self.value(first, level + 1)?);
                }
                token => values.push(self.value(token, level + 1)?),
            }
        }
        Some(if values.iter().all(|value| matches!(value, Node::Text(_))) {
            Node::Text(begin..self.tokens.at)
        } else if is_object {
            Node::Map(keys.into_iter().zip(values).collect())
        } else {
            Node::List(values)
        })
    }
}

impl Serialize for WithBytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Part { of: self, node: &self.root }.serialize(serializer)
    }
}

struct Part<'a> {
    of: &'a WithBytes<'a>,
    node: &'a Node,
}

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { of, node } = *self;
        let text = |place: &Range<usize>| &of.text[place.clone()];
        match node {
            Node::Text(place) => serialize_text(text(place), serializer),
            Node::List(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                for node in items {
                    seq.serialize_element(&Part { of, node })?;
                }
                seq.end()
            }
            Node::Map(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (key, node) in fields {
                    let key =
                        serde_json::from_str::<String>(text(key)).map_err(S::Error::custom)?;
                    map.serialize_entry(&key, &Part { of, node })?;
                }
                map.end()
            }
            Node::Bytes(num) => {
                let bytes = of.attachments.get(*num);
                let bytes =
                    bytes.ok_or_else(|| S::Error::custom("a placeholder names no attachment"))?;
                serializer.serialize_bytes(bytes)
            }
        }
    }
}

/// Serializes JSON text as it is.
pub(super) fn serialize_text<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    work::reads(text.len());
    serde_json::from_str::<&RawValue>(text).map_err(S::Error::custom)?.serialize(serializer)
}

#[cfg(test)]
mod tests;
