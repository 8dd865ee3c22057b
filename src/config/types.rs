//! The types of the settings that are more than a number, a flag or a text.

use std::{fmt, path::PathBuf};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// For its users.
    Production,
    /// On a developer's machine: debug logs, open management routes.
    Development,
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

/// Where the event log goes (`EVENT_LOG`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventLog {
    /// To the end of a file.
    File(PathBuf),
    /// To the standard output.
    Stdout,
}
