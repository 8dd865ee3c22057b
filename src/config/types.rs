//! The types of the settings that are more than a number, a flag or a text.

use std::{fmt, path::PathBuf};

use crate::protocol::{pattern::Pattern, permissions::Permissions};

/// A text that must not be shown: its `Debug` and `Display` say only that there is one.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Takes `text` as a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself; never to be logged or shown.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// Names with `*` for any run of characters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patterns(Vec<Pattern>);

impl Patterns {
    /// Whether one of them matches this name.
    pub fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(name))
    }

    /// Whether this very word is among them.
    pub fn has(&self, word: &str) -> bool {
        self.0.iter().any(|pattern| pattern.is(word))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> FromIterator<&'a str> for Patterns {
    fn from_iter<I: IntoIterator<Item = &'a str>>(patterns: I) -> Self {
        Self(patterns.into_iter().map(Pattern::new).collect())
    }
}

impl fmt::Display for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patterns = self.0.iter().map(ToString::to_string).collect::<Vec<_>>();
        f.write_str(&patterns.join(","))
    }
}

/// The keys that requests are signed with, as [Standard Webhooks] has them: what stands behind `whsec_`, decoded.
///
/// [Standard Webhooks]: https://www.standardwebhooks.com
#[derive(Clone, Default)]
pub struct SigningSecrets(pub(super) Vec<Vec<u8>>);

impl SigningSecrets {
    /// The keys; never to be logged or shown.
    pub fn expose(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Vec<u8>> for SigningSecrets {
    fn from_iter<I: IntoIterator<Item = Vec<u8>>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}

impl fmt::Debug for SigningSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|_| REDACTED)).finish()
    }
}

/// The text shown in place of a secret.
pub(super) const REDACTED: &str = "[redacted]";

/// The origins whose pages may talk to the server (`CORS_ORIGIN`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsOrigin {
    /// Every origin.
    Any,
    /// These origins, each as a browser sends it: `scheme://host`, with the port unless it is the scheme's own.
    List(Vec<String>),
}

impl CorsOrigin {
    /// Whether a page of `origin`, the value of an `Origin` header, may talk to the server.
    pub fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::List(origins) => origins.iter().any(|allowed| allowed == origin),
        }
    }
}

/// What the server is run for (`NODE_ENV`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Environment {
    /// For its users.
    Production,
    /// On a developer's machine: debug logs, open management routes.
    Development,
    /// For something else, such as `test`; counts as production.
    Other(String),
}

/// The transports that clients may use (`WEBSOCKET_TRANSPORTS`); at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transports {
    /// Websocket.
    pub websocket: bool,
    /// HTTP long polling.
    pub polling: bool,
}

/// How the log is written (`LOG_FORMAT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For a person.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Where room messages and offline queues are kept on a single node (`STORE_URL`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// In an SQLite file.
    Sqlite(PathBuf),
    /// In memory: lost when the server stops.
    Memory,
}

/// What an acknowledged message survives (`STORE_SYNC`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreSync {
    /// A crash of the process.
    Normal,
    /// A crash of the machine.
    Full,
}

/// How much memory the process may use (`MEMORY_LIMIT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryLimit {
    /// A number of bytes; 0 for no limit.
    Bytes(u64),
    /// A percentage of the memory that its control group or the machine has.
    Percent(u8),
}

/// Who is told about a user's presence (`PRESENCE_SCOPE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresenceScope {
    /// Every client.
    All,
    /// Clients that share a room with the user.
    Rooms,
    /// Nobody.
    Off,
}

/// What a token without the claim `rooms` permits (`ROOMS_DEFAULT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomsDefault {
    /// Everything.
    Allow,
    /// No room, and not the whole namespace.
    Deny,
}

impl RoomsDefault {
    /// The permissions themselves.
    pub fn permissions(self) -> Permissions {
        match self {
            Self::Allow => Permissions::everything(),
            Self::Deny => Permissions::nothing(),
        }
    }
}

/// Where the event log goes (`EVENT_LOG`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventLog {
    /// To the end of a file.
    File(PathBuf),
    /// To the standard output.
    Stdout,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_takes_any_run_of_characters() {
        for (pattern, name, expected) in [
            ("order:*", "order:create", true),
            ("order:*", "order:", true),
            ("order:*", "orders", false),
            ("*", "", true),
            ("*:a*b*", "x:a-b", true),
            ("aba*aba", "aba", false),
            ("message", "message", true),
            ("message", "messages", false),
            ("a**b", "ab", true),
        ] {
            let patterns = Patterns::from_iter([pattern]);
            assert_eq!(patterns.matches(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn keys_are_not_shown() {
        assert_eq!(format!("{:?}", SigningSecrets(vec![b"key".to_vec()])), "[\"[redacted]\"]");
    }
}
