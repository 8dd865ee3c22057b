//! Names, parsed once at a gateway and valid from then on.
//!
//! The rules are the wire contract's: a name is 1 to 200 Unicode code points without control
//! characters, and a number where a name is expected is taken as its decimal string.

use std::{
    borrow::{Borrow, Cow},
    fmt,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, de::Error};

/// The greatest length of a room name or a user id, in Unicode code points.
pub const MAX_NAME_CHARS: usize = 200;

/// The greatest length of an idempotency key, in Unicode code points.
pub const MAX_IDEMPOTENCY_KEY: usize = 200;

/// Why a text is not a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("must not be empty")]
    Empty,
    /// The text has more than [`MAX_NAME_CHARS`] code points.
    #[error("must be at most {MAX_NAME_CHARS} characters long")]
    TooLong,
    /// The text has a control character, which only the server's own channels may use.
    #[error("must not contain control characters")]
    Control,
}

fn check(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    // A code point is at most four bytes, so short texts need no counting.
    if text.len() > MAX_NAME_CHARS && text.chars().count() > MAX_NAME_CHARS {
        return Err(NameError::TooLong);
    }
    if text.chars().any(char::is_control) {
        return Err(NameError::Control);
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses `text` as a name, or says why it is none.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                check(text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        /// For data that this server has written itself; gateways parse what comes in.
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::parse(&Cow::<'de, str>::deserialize(deserializer)?).map_err(D::Error::custom)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// The name of a room inside one namespace.
    RoomName
}
name! {
    /// An identity, with any number of clients on any node.
    UserId
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_have_one_to_two_hundred_code_points() {
        assert_eq!(RoomName::parse(""), Err(NameError::Empty));
        assert_eq!(RoomName::parse(&"é".repeat(200)).unwrap().as_str().chars().count(), 200);
        assert_eq!(RoomName::parse(&"é".repeat(201)), Err(NameError::TooLong));
    }

    #[test]
    fn control_characters_belong_to_the_server() {
        for text in ["\u{0}", "a\nb", "\u{7f}", "\u{85}"] {
            assert_eq!(UserId::parse(text), Err(NameError::Control), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_kept_to_the_letter(text in "\\PC{1,200}") {
            prop_assume!(!text.chars().any(char::is_control));
            let name = RoomName::parse(&text).unwrap();
            prop_assert_eq!(name.as_str(), text);
        }
    }
}
