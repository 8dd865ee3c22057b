//! What backends may see of clients, rooms and users, on all nodes.
//!
//! Each node is asked for its own part; the parts are merged here. The result names the nodes that did not
//! answer. A lookup that found nothing is then `unavailable`, not `not_found`.

mod connections;
mod page;
mod rooms;
mod users;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::{
    connections::{
        Connection, connection, connection_here, connections, connections_here, disconnect,
        disconnect_here, missing, missing_here,
    },
    page::{Page, Part, decode_cursor, encode_cursor},
    rooms::{LiveRoom, Member, Room, RoomDetail, room, room_here, rooms, rooms_here},
    users::{Counts, Presence, Stats, counts_here, last_activity_here, stats, user},
};
use crate::broker::cluster::Answers;

/// Whether all nodes are included. Absent with one node.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Coverage {
    /// With several nodes: true if some did not answer, so that entries may be missing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    partial: bool,
    /// With several nodes: the nodes that did not answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    unreachable: Vec<String>,
}

impl Coverage {
    pub(in crate::commands) fn of<T>(answers: &Answers<T>) -> Self {
        Self { partial: answers.is_partial(), unreachable: answers.unreachable.clone() }
    }
}
