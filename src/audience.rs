//! Who gets a message, and who does not.

use std::sync::Arc;

use socketioxide::socket::Sid;

use crate::names::{RoomName, UserId};

/// Who is left out of a live delivery.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Except {
    /// These clients.
    pub clients: Vec<Sid>,
    /// All clients of these users.
    pub users: Vec<UserId>,
    /// All members of these rooms.
    pub rooms: Vec<RoomName>,
    /// The path of the rooms' namespace; `None` for the one in which the message is delivered.
    pub namespace: Option<Arc<str>>,
}

impl Except {
    /// Nobody is left out.
    pub fn nobody() -> Self {
        Self::default()
    }

    /// This client is left out, if any.
    pub fn client(id: Option<Sid>) -> Self {
        Self { clients: id.into_iter().collect(), ..Self::default() }
    }
}
