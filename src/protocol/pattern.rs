//! Names with a `*` in them.

use std::{fmt, sync::Arc};

/// A name in which each `*` stands for any run of characters, also for none; all else is literal. Cheap to clone.
///
/// It is cut at its stars: the first part is a prefix, the last a suffix, and those between follow one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Arc<[Box<str>]>);

impl Pattern {
    /// The pattern that this text is.
    pub fn new(text: &str) -> Self {
        Self(text.split('*').map(Box::from).collect())
    }

    /// Whether it is this very word, without a star.
    pub fn is(&self, word: &str) -> bool {
        matches!(&*self.0, [only] if **only == *word)
    }

    /// Whether it matches `text`.
    ///
    /// Linear in the lengths of pattern and text: each part between two stars is taken at its first match. A
    /// star takes anything, so an earlier match never has to be undone.
    pub fn matches(&self, text: &str) -> bool {
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

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("*"))
    }
}
