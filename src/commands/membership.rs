//! Changes of a client's memberships that others ask for.

use std::sync::Arc;

use super::{
    arguments::NamedRoom,
    context::Context,
    join_room::{self, Join},
    leave_room::{Leave, leave},
};
use crate::{
    hub::{Client, EventStyle},
    protocol::{names::RoomName, payload::json_of},
};

/// A change of a client's memberships.
#[derive(Debug, Clone)]
pub enum MembershipCommand {
    /// It becomes a member of the room, as if it had sent `join-room`.
    Join(RoomName),
    /// It leaves the room, in the event style of its join.
    Leave(RoomName),
}

/// Changes the client's memberships. Refusals are logged, as there is nobody to tell.
pub async fn apply(context: &Context, client: &Arc<Client>, command: MembershipCommand) {
    // A client that has gone meanwhile must not enter a room again.
    let known = client.namespace.client(client.id);
    if !known.is_some_and(|known| Arc::ptr_eq(&known, client)) {
        return;
    }
    match command {
        // It would change nothing, but pause delivery for a moment.
        MembershipCommand::Join(name) if client.membership(&name).is_some() => {}
        MembershipCommand::Join(name) => {
            let value = json_of(&name).get().into();
            let room = NamedRoom { name, field: Some("roomName"), value };
            let join = Join { room, style: EventStyle::Dashed, recover: None };
            if let Err(refusal) = join_room::join(context, client, join, |_| ()).await {
                tracing::warn!(client = %client.id, code = refusal.code.as_str(), reason = %refusal.message, "a join on a client's behalf was refused");
            }
        }
        MembershipCommand::Leave(name) => {
            if let Some(place) = client.membership(&name) {
                let room = NamedRoom { name, field: None, value: place.echo };
                leave(context, client, &Leave { room, style: place.style });
            }
        }
    }
}
