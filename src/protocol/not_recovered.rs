//! Why a client that comes back after a lost connection is a new one.

use serde::{Deserialize, Serialize};

/// Why a session is not recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NotRecovered {
    /// There is no such session, or none any more: it was ended, or its time is over.
    Ended,
    /// It is not the client's.
    Foreign,
    /// What the client has is not known: it names an offset that the session does not reach back to.
    Offset,
    /// The client has missed more than may be replayed.
    Missed,
    /// Its old connection does not end in time.
    Busy,
    /// The node that has it does not hand it over.
    Node,
}

impl NotRecovered {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::Ended, Self::Foreign, Self::Offset, Self::Missed, Self::Busy, Self::Node];

    /// The name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Foreign => "foreign",
            Self::Offset => "offset",
            Self::Missed => "missed",
            Self::Busy => "busy",
            Self::Node => "node",
        }
    }
}
