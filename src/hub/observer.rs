//! Observers of what clients do.

use std::{fmt, sync::Arc};

use super::{Client, packet::Packet};
use crate::protocol::{client_id::ClientId, names::RoomName};

/// Observes what happens to the clients of this node, as it happens. No call may wait; each does nothing by
/// default.
pub trait Observer: fmt::Debug + Send + Sync {
    /// A client has connected, and is in the registry.
    fn connected(&self, _client: &Arc<Client>) {}

    /// A client has gone, and is no longer in the registry.
    fn disconnected(&self, _client: &Arc<Client>, _reason: &'static str) {}

    /// A client has become a member of a room.
    fn joined(&self, _client: &Client, _room: &RoomName) {}

    /// A client is no longer a member of a room.
    fn left(&self, _client: &Client, _room: &RoomName) {}

    /// A client has sent an event: its name, and the JSON array of name and arguments.
    fn received(&self, _client: &Client, _name: &str, _text: &str) {}

    /// A packet is on its way to the client of this id in this namespace.
    fn sent(&self, _namespace: &Arc<str>, _id: &ClientId, _packet: &Packet) {}
}
