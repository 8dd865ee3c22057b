//! Changes of a client's memberships that others ask for.

use std::sync::Arc;

use super::{
    arguments::NamedRoom,
    context::Context,
    join_room::{self, Join},
    leave_room::{Leave, leave},
    room::withdraw,
};
use crate::{
    hub::{Client, EventStyle},
    protocol::{names::RoomName, payload::json_of, refusal::Refusal},
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
    let known = client.namespace.client(&client.id);
    if !known.is_some_and(|known| Arc::ptr_eq(&known, client)) {
        return;
    }
    match command {
        // It would change nothing, but pause delivery for a moment.
        MembershipCommand::Join(name) if client.membership(&name).is_some() => {}
        MembershipCommand::Join(name) => {
            let value = json_of(&name).get().into();
            let room = NamedRoom { name, field: Some("roomName"), value };
            let style = EventStyle::Dashed;
            let join = Join { room, style, recover: None, is_granted: false, is_silent: false };
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

/// Puts a client into rooms, whatever its permissions, as its inbox does it. Where it `is_silent`, nobody is told.
///
/// # Errors
/// `too_many_rooms`, `unavailable`, as for `join-room`; the rooms before are joined then.
pub async fn join(
    context: &Context,
    client: &Arc<Client>,
    rooms: &[RoomName],
    is_silent: bool,
) -> Result<(), Refusal> {
    for name in rooms {
        if has_gone(client) || client.membership(name).is_some() {
            continue;
        }
        let room = NamedRoom {
            value: json_of(name).get().into(),
            name: name.clone(),
            field: Some("roomName"),
        };
        let style = EventStyle::Dashed;
        let join = Join { room, style, recover: None, is_granted: true, is_silent };
        join_room::join(context, client, join, |_| ()).await?;
    }
    Ok(())
}

/// Takes a client out of rooms, as its inbox does it. Where it `is_silent`, nobody is told.
pub fn leave_rooms(context: &Context, client: &Arc<Client>, rooms: &[RoomName], is_silent: bool) {
    for name in rooms.iter().filter(|_| !has_gone(client)) {
        let Some(place) = client.membership(name) else { continue };
        if !is_silent {
            let room = NamedRoom { name: name.clone(), field: None, value: place.echo };
            leave(context, client, &Leave { room, style: place.style });
        } else if let Some(place) = client.remove_membership(name) {
            withdraw(context, client, &place.room, None);
        }
    }
}

/// Whether the client's connection has ended.
fn has_gone(client: &Arc<Client>) -> bool {
    client.sender.is_closed()
}
