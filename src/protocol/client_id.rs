//! The id of a client: what its own library calls `socket.id`.
//!
//! From Socket.IO 3 on, the server gives a client an id for each namespace in the CONNECT answer; it is made here, and
//! says nothing of the Engine.IO session, whose id is the secret by which a client that polls is known. Older clients
//! make their id of the session's: in `/` it is the session's id, elsewhere `/chat#<session id>` (2.x) or the
//! session's id again (1.x).

use std::{fmt, str::FromStr, sync::Arc};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use uuid::Uuid;

/// The length of an id that is made here.
const OWN: usize = 20;

/// The length of the id of an Engine.IO session.
const SESSION: usize = 16;

/// The greatest length of an id, in bytes: a namespace and a session.
const MAX: usize = 512;

/// A client's id. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ClientId(Text);

/// Ids are compared for each member of a room: those of one length are kept in place.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Text {
    Own([u8; OWN]),
    Other(Arc<str>),
}

/// The text is no client's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no client's id")]
pub struct NoClientId;

impl ClientId {
    /// A new id.
    pub fn make() -> Self {
        let mut text = [0; OWN];
        // These bytes have 114 random bits.
        let random = Uuid::new_v4().into_bytes();
        let size = BASE64_URL_SAFE_NO_PAD.encode_slice(&random[..OWN / 4 * 3], &mut text);
        debug_assert_eq!(size, Ok(OWN));
        Self(Text::Own(text))
    }

    /// The id by which a client of Socket.IO 2 knows itself.
    pub fn of_session(session: &str, namespace: &str) -> Self {
        let text =
            if namespace == "/" { session.into() } else { format!("{namespace}#{session}").into() };
        Self(Text::Other(text))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // It is ASCII.
            Text::Own(text) => str::from_utf8(text).unwrap_or_default(),
            Text::Other(text) => text,
        }
    }
}

impl FromStr for ClientId {
    type Err = NoClientId;

    fn from_str(text: &str) -> Result<Self, NoClientId> {
        let is_word = |text: &str| {
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if let Ok(own) = <[u8; OWN]>::try_from(text.as_bytes())
            && is_word(text)
        {
            return Ok(Self(Text::Own(own)));
        }
        let session = match text.rsplit_once('#') {
            Some((namespace, session)) if namespace.starts_with('/') => session,
            Some(_) => return Err(NoClientId),
            None => text,
        };
        if session.len() != SESSION || !is_word(session) || text.len() > MAX {
            return Err(NoClientId);
        }
        Ok(Self(Text::Other(text.into())))
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ClientId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ClientId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn new_ids_are_20_characters_and_each_is_another() {
        let ids = (0..1000).map(|_| ClientId::make()).collect::<HashSet<_>>();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            assert_eq!(id.as_str().len(), 20);
            assert_eq!(id.as_str().parse(), Ok(id));
        }
    }

    #[test]
    fn old_clients_make_theirs_of_the_session() {
        let session = "AA9AAA0AAzAAAAHs";
        for (namespace, wanted) in [
            ("/", "AA9AAA0AAzAAAAHs"),
            ("/chat", "/chat#AA9AAA0AAzAAAAHs"),
            ("/a#b", "/a#b#AA9AAA0AAzAAAAHs"),
        ] {
            let id = ClientId::of_session(session, namespace);
            assert_eq!(id.as_str(), wanted);
            assert_eq!(wanted.parse(), Ok(id));
        }
    }

    #[test]
    fn other_texts_are_no_ids() {
        for text in [
            "",
            "x",
            "AA9AAA0AAzAAAAH",
            "AA9AAA0AAzAAAAHs.",
            "AA9AAA0AAzAAAAHs.AA9",
            "chat#AA9AAA0AAzAAAAHs",
            "/chat#AA9AAA0AAzAAAAH!",
            "/chat#",
            "#AA9AAA0AAzAAAAHs",
            "AA9AAA0AAzAAAAHsäA",
        ] {
            assert_eq!(text.parse::<ClientId>(), Err(NoClientId), "{text}");
        }
        let long = format!("/{}#AA9AAA0AAzAAAAHs", "x".repeat(MAX));
        assert_eq!(long.parse::<ClientId>(), Err(NoClientId));
    }
}
