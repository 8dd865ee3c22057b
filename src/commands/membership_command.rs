//! What others may ask of a client's inbox: changes of its memberships.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{
    hub::Client,
    protocol::{names::RoomName, refusal::Refusal},
};

/// A change of a client's memberships.
#[derive(Debug, Clone)]
pub enum MembershipCommand {
    /// It becomes a member of the rooms, as if it had sent `join-room` for each.
    Join {
        /// The rooms.
        rooms: Arc<[RoomName]>,
        /// A backend asks for it: the client's permissions do not count.
        is_granted: bool,
    },
    /// It leaves the rooms.
    Leave {
        /// The rooms.
        rooms: Arc<[RoomName]>,
    },
}

/// Told when a command is carried out, or why it was refused; dropped if the client has gone before.
pub type Done = oneshot::Sender<Result<(), Refusal>>;

/// Puts a command into the client's inbox; returns whether the client is still there to carry it out.
pub type ChangeMembership = fn(&Client, MembershipCommand, Done) -> bool;
