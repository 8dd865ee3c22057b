//! Which rooms a token permits: the patterns of its `rooms` claim, for each right.

use std::sync::Arc;

use super::{names::RoomName, pattern::Pattern};

/// The greatest number of patterns in one token.
const MAX_PATTERNS: usize = 1000;
/// The greatest length of a pattern, in Unicode code points.
const MAX_PATTERN_CHARS: usize = 200;

/// Invalid patterns. The text continues a sentence that names where they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// There are more than `MAX_PATTERNS`.
    #[error("must have at most {MAX_PATTERNS} patterns")]
    TooMany,
    /// One has more than `MAX_PATTERN_CHARS` characters.
    #[error("must have patterns of at most {MAX_PATTERN_CHARS} characters")]
    TooLong,
}

/// What a client may do with a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Become a member, and so get what is sent from then on.
    Join,
    /// Read the history.
    Read,
    /// Send messages and signals.
    Send,
}

impl Right {
    /// All of them, in the order of the claim's fields.
    pub const ALL: [Self; 3] = [Self::Join, Self::Read, Self::Send];

    /// The claim's field, which is also the verb.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Read => "read",
            Self::Send => "send",
        }
    }
}

/// The rooms that a client may join, read and send to. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions(Option<Arc<Rights>>);

/// The patterns of each [`Right`].
#[derive(Debug, PartialEq, Eq, Default)]
struct Rights([Vec<Pattern>; 3]);

impl Permissions {
    /// Everything: every room and the whole namespace.
    pub const fn everything() -> Self {
        Self(None)
    }

    /// No room, and not the whole namespace.
    pub fn nothing() -> Self {
        Self(Some(Arc::default()))
    }

    /// All rights to the rooms that one of `patterns` matches, and not the whole namespace.
    ///
    /// In a pattern `*` stands for any run of characters, also for none; all else is literal.
    ///
    /// # Errors
    /// Too many patterns, or one that is too long.
    pub fn patterns<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, PatternError> {
        let patterns = parse(patterns)?;
        Ok(Self(Some(Arc::new(Rights([patterns.clone(), patterns.clone(), patterns])))))
    }

    /// Each right to the rooms that one of its patterns matches, and not the whole namespace; the rights are
    /// in the order of [`Right::ALL`].
    ///
    /// # Errors
    /// Too many patterns of one right, or one that is too long.
    pub fn rights(patterns: [Vec<&str>; 3]) -> Result<Self, PatternError> {
        let [join, read, send] = patterns.map(parse);
        Ok(Self(Some(Arc::new(Rights([join?, read?, send?])))))
    }

    /// Whether there is this right to `room`.
    pub fn allows(&self, right: Right, room: &RoomName) -> bool {
        self.0.as_ref().is_none_or(|rights| {
            rights.0[right as usize].iter().any(|pattern| pattern.matches(room.as_str()))
        })
    }

    /// The patterns of the rooms that may be joined, as they were given; `None` if everything is permitted.
    pub fn shown(&self) -> Option<Vec<String>> {
        let [join, ..] = &self.0.as_ref()?.0;
        Some(join.iter().map(ToString::to_string).collect())
    }

    /// Whether only some rooms are permitted. The whole namespace is then out of reach, also with `*`.
    pub fn restricted(&self) -> bool {
        self.0.is_some()
    }
}

fn parse<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Vec<Pattern>, PatternError> {
    let pattern = |text: &str| match text.chars().nth(MAX_PATTERN_CHARS) {
        None => Ok(Pattern::new(text)),
        Some(_) => Err(PatternError::TooLong),
    };
    let patterns = patterns.into_iter().map(pattern).collect::<Result<Vec<_>, _>>()?;
    if patterns.len() > MAX_PATTERNS { Err(PatternError::TooMany) } else { Ok(patterns) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).unwrap()
    }

    /// The definition by exhaustive search: a star takes nothing, or one character and stays.
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
            assert_eq!(
                permissions.allows(Right::Send, &room(name)),
                expected,
                "{pattern:?} {name:?}"
            );
        }
    }

    #[test]
    fn patterns_restrict_even_where_they_allow_every_room() {
        let every_room = Permissions::patterns(["*"]).unwrap();
        assert!(every_room.allows(Right::Join, &room("x")) && every_room.restricted());
        assert!(!Permissions::everything().restricted());
    }

    #[test]
    fn each_right_has_its_own_rooms() {
        let permissions = Permissions::rights([vec!["a*"], vec![], vec!["b", "ab"]]).unwrap();
        for (name, expected) in
            [("a", [true, false, false]), ("ab", [true, false, true]), ("b", [false, false, true])]
        {
            let allowed = Right::ALL.map(|right| permissions.allows(right, &room(name)));
            assert_eq!(allowed, expected, "{name}");
        }
        assert!(permissions.restricted());
        assert_eq!(
            Permissions::rights([vec![], vec![], vec![""; 1001]]),
            Err(PatternError::TooMany)
        );
    }

    #[test]
    fn patterns_are_limited_in_number_and_length() {
        let of = |count: usize, length: usize| {
            let pattern = "é".repeat(length);
            Permissions::patterns(vec![&*pattern; count]).map(|_| ())
        };
        assert_eq!(of(MAX_PATTERNS, 1), Ok(()));
        assert_eq!(of(MAX_PATTERNS + 1, 1), Err(PatternError::TooMany));
        assert_eq!(of(1, MAX_PATTERN_CHARS), Ok(()));
        assert_eq!(of(1, MAX_PATTERN_CHARS + 1), Err(PatternError::TooLong));
    }

    proptest! {
        #[test]
        fn matching_agrees_with_its_definition(pattern in "[ab*é]{0,8}", name in "[abé]{1,10}") {
            let characters = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(
                Permissions::patterns([pattern.as_str()]).unwrap().allows(Right::Read, &room(&name)),
                model(&characters(&pattern), &characters(&name))
            );
        }
    }
}
