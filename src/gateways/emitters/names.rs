//! The names of keys and channels in Redis.

use crate::protocol::payload::json_of;

/// The names of the emitters' channels, of their stream, and of what the nodes keep about both.
#[derive(Debug)]
pub(super) struct Names {
    /// What the emitters' channels begin with; the stream's name.
    pub prefix: String,
    /// This node.
    pub node: String,
    /// What the nodes' own names begin with.
    base: String,
}

/// What a node says to all others on the nodes' channel.
pub(super) enum Word {
    /// This node takes nothing that comes after this.
    Leaving(String),
    /// Nobody has the turn.
    Free,
}

impl Names {
    pub(super) fn new(redis_prefix: &str, prefix: &str, node: &str) -> Self {
        let base = format!("{redis_prefix}:emitters:{prefix}");
        Self { prefix: prefix.to_owned(), node: node.to_owned(), base }
    }

    /// The patterns of the emitters' channels. There is no wildcard in a prefix.
    pub(super) fn patterns(&self) -> [String; 2] {
        [format!("{}#*", self.prefix), format!("{}-request#*", self.prefix)]
    }

    /// The key that says whose turn it is.
    pub(super) fn turn(&self) -> String {
        format!("{}:turn", self.base)
    }

    /// The key that says how far the stream has been read.
    pub(super) fn position(&self) -> String {
        format!("{}:position", self.base)
    }

    /// The channel on which all nodes listen.
    pub(super) fn to_all(&self) -> String {
        format!("{}:nodes", self.base)
    }

    /// What the channels of single nodes begin with.
    pub(super) fn to_node(&self) -> String {
        format!("{}:node:", self.base)
    }

    /// The channel on which this node listens, so that others see that it is there.
    pub(super) fn to_self(&self) -> String {
        format!("{}{}", self.to_node(), self.node)
    }
}

impl Word {
    pub(super) fn as_text(&self) -> String {
        match self {
            Self::Leaving(node) => json_of(&("leaving", node)).get().to_owned(),
            Self::Free => json_of(&("free", "")).get().to_owned(),
        }
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        match serde_json::from_slice::<(String, String)>(bytes) {
            Ok((word, node)) if word == "leaving" => Some(Self::Leaving(node)),
            Ok((word, _)) if word == "free" => Some(Self::Free),
            _ => None,
        }
    }
}
