//! Which rooms a token permits: the patterns of its `rooms` claim.

use std::sync::Arc;

use serde_json::Value;

use super::AuthError;
use crate::protocol::names::RoomName;

/// The greatest number of patterns in one token.
pub const MAX_PATTERNS: usize = 1000;
/// The greatest length of a pattern, in Unicode code points.
pub const MAX_PATTERN_CHARS: usize = 200;

/// The rooms that a client may join, read and send to. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions(Option<Arc<[Pattern]>>);

impl Permissions {
    /// Everything: every room and the whole namespace, as without a `rooms` claim.
    pub const fn everything() -> Self {
        Self(None)
    }

    /// No room, and not the whole namespace.
    pub fn nothing() -> Self {
        Self(Some(Arc::default()))
    }

    /// Only the rooms that one of `patterns` matches, and not the whole namespace.
    ///
    /// In a pattern `*` stands for any run of characters, also for none; all else is literal.
    pub fn patterns<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, AuthError> {
        let patterns = patterns.into_iter().map(Pattern::parse).collect::<Result<Vec<_>, _>>()?;
        if patterns.len() > MAX_PATTERNS {
            return Err(AuthError::claim(
                "rooms",
                format!("must have at most {MAX_PATTERNS} patterns"),
            ));
        }
        Ok(Self(Some(patterns.into())))
    }

    /// The `rooms` claim: an array of patterns or a single one.
    pub(super) fn from_claim(claim: Option<&Value>) -> Result<Self, AuthError> {
        let wrong = || AuthError::claim("rooms", "must be a string or an array of strings");
        match claim {
            None => Ok(Self::everything()),
            Some(Value::String(pattern)) => Self::patterns([pattern.as_str()]),
            Some(Value::Array(items)) => {
                let patterns: Vec<&str> =
                    items.iter().map(Value::as_str).collect::<Option<_>>().ok_or_else(wrong)?;
                Self::patterns(patterns)
            }
            Some(_) => Err(wrong()),
        }
    }

    /// Whether `room` may be joined, read and sent to.
    pub fn allows(&self, room: &RoomName) -> bool {
        self.0
            .as_ref()
            .is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(room.as_str())))
    }

    /// The patterns as they were given; `None` where everything is permitted.
    pub fn shown(&self) -> Option<Vec<String>> {
        let patterns = self.0.as_ref()?;
        Some(patterns.iter().map(|Pattern(parts)| parts.join("*")).collect())
    }

    /// Whether a `rooms` claim is there. The whole namespace is then out of reach, also with `*`.
    pub fn restricted(&self) -> bool {
        self.0.is_some()
    }
}

/// A pattern, cut at its stars: the first part is a prefix, the last a suffix, and those between
/// follow one another.
#[derive(Debug, PartialEq, Eq)]
struct Pattern(Box<[Box<str>]>);

impl Pattern {
    fn parse(text: &str) -> Result<Self, AuthError> {
        if text.chars().nth(MAX_PATTERN_CHARS).is_some() {
            return Err(AuthError::claim(
                "rooms",
                format!("must have patterns of at most {MAX_PATTERN_CHARS} characters"),
            ));
        }
        Ok(Self(text.split('*').map(Box::from).collect()))
    }

    /// Linear in the lengths of pattern and text: what lies between two stars is taken where it
    /// is first found, and as a star takes anything, an earlier find never has to be given up.
    fn matches(&self, text: &str) -> bool {
        let [first, rest @ ..] = &*self.0 else { return false };
        let Some((last, middle)) = rest.split_last() else { return **first == *text };
        let Some(mut text) = text.strip_prefix(&**first).and_then(|t| t.strip_suffix(&**last))
        else {
            return false;
        };
        for part in middle {
            let Some(at) = text.find(&**part) else { return false };
            text = &text[at + part.len()..];
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).unwrap()
    }

    /// The definition, tried out in every way: a star takes nothing, or one character and stays.
    fn model(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['*', rest @ ..], _) => {
                model(rest, text) || (!text.is_empty() && model(pattern, &text[1..]))
            }
            ([p, pattern @ ..], [t, text @ ..]) => p == t && model(pattern, text),
            _ => false,
        }
    }

    #[test]
    fn a_star_takes_any_run_of_characters_anywhere() {
        for (pattern, name, expected) in [
            ("team-*", "team-7", true),
            ("team-*", "team-", true),
            ("team-*", "Team-7", false),
            ("team-*", "a team-7", false),
            ("*-7", "team-7", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("aba*aba", "aba", false),
            ("*é*", "caféteria", true),
            ("a.c", "abc", false),
            ("a?[b]", "a?[b]", true),
            ("", "a", false),
            ("*", "anything", true),
        ] {
            let permissions = Permissions::patterns([pattern]).unwrap();
            assert_eq!(permissions.allows(&room(name)), expected, "{pattern:?} {name:?}");
        }
    }

    #[test]
    fn the_claim_is_a_string_or_strings() {
        let of = |claim: Value| Permissions::from_claim(Some(&claim));
        assert!(of(json!("a*")).unwrap().allows(&room("ab")));
        let two = of(json!(["a", "b*"])).unwrap();
        assert!(two.allows(&room("a")) && two.allows(&room("bc")) && !two.allows(&room("ab")));
        assert!(!of(json!([])).unwrap().allows(&room("a")));
        for wrong in [json!(null), json!(7), json!(true), json!({"a": 1}), json!(["a", 7])] {
            let message = of(wrong.clone()).unwrap_err().to_string();
            assert_eq!(
                message, "token claim `rooms` must be a string or an array of strings",
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_claim_restricts_even_where_it_allows_every_room() {
        let every_room = Permissions::from_claim(Some(&json!(["*"]))).unwrap();
        assert!(every_room.allows(&room("x")) && every_room.restricted());
        let absent = Permissions::from_claim(None).unwrap();
        assert!(absent.allows(&room("x")) && !absent.restricted());
    }

    #[test]
    fn patterns_are_limited_in_number_and_length() {
        let of = |count: usize, length: usize| {
            Permissions::from_claim(Some(&json!(vec!["é".repeat(length); count])))
        };
        assert!(of(MAX_PATTERNS, 1).is_ok());
        assert_eq!(
            of(MAX_PATTERNS + 1, 1).unwrap_err().to_string(),
            "token claim `rooms` must have at most 1000 patterns"
        );
        assert!(of(1, MAX_PATTERN_CHARS).is_ok());
        assert_eq!(
            of(1, MAX_PATTERN_CHARS + 1).unwrap_err().to_string(),
            "token claim `rooms` must have patterns of at most 200 characters"
        );
    }

    proptest! {
        #[test]
        fn matching_agrees_with_its_definition(pattern in "[ab*é]{0,8}", name in "[abé]{1,10}") {
            let characters = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(
                Permissions::patterns([pattern.as_str()]).unwrap().allows(&room(&name)),
                model(&characters(&pattern), &characters(&name))
            );
        }
    }
}
