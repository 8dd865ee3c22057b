//! How the store names a room.

use std::sync::Arc;

use crate::protocol::names::RoomName;

/// A room inside its namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomKey {
    /// The namespace, such as `/chat`.
    pub namespace: Arc<str>,
    /// The room's name.
    pub room: RoomName,
}
