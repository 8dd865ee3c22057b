//! Who gets a message, and who does not.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::protocol::{
    client_id::ClientId,
    names::{RoomName, UserId},
};

/// Who is left out of a live delivery.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Except {
    /// These clients.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<ClientId>,
    /// All clients of these users.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserId>,
    /// All members of these rooms.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rooms: Vec<RoomName>,
    /// The path of the rooms' namespace; `None` for the one in which the message is delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Arc<str>>,
}

impl Except {
    /// Nobody is left out.
    pub fn nobody() -> Self {
        Self::default()
    }

    /// Whether nobody is left out.
    pub fn is_nobody(&self) -> bool {
        self.clients.is_empty() && self.users.is_empty() && self.rooms.is_empty()
    }

    /// This client is left out, if any.
    pub fn client(id: Option<ClientId>) -> Self {
        Self { clients: id.into_iter().collect(), ..Self::default() }
    }
}
