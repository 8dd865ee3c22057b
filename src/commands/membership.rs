//! Changes of a client's memberships that others ask for. Each client's own inbox carries them out, behind
//! what the client has sent.

use std::sync::Arc;

use super::{
    arguments::NamedRoom,
    context::Context,
    join_room::{self, Join},
    leave_room::{Leave, leave},
    membership_command::{Done, MembershipCommand},
    room::{depart, left_packet, withdraw},
};
use crate::{
    hub::{Client, EventStyle},
    protocol::{names::RoomName, payload::json_of, refusal::Refusal},
};

/// Carries out a command; only the client's own inbox may call this.
///
/// # Errors
/// `forbidden`, `too_many_rooms`, `unavailable`, as for `join-room`. The rooms before the one that was refused
/// are joined then.
pub async fn apply(
    context: &Context,
    client: &Arc<Client>,
    command: MembershipCommand,
) -> Result<(), Refusal> {
    // A client that has gone meanwhile must not enter a room again.
    let known = client.namespace.client(&client.id);
    if !known.is_some_and(|known| Arc::ptr_eq(&known, client)) {
        return Ok(());
    }
    match command {
        MembershipCommand::Join { rooms, is_granted } => {
            // A join would change nothing where it is a member, but pause delivery for a moment.
            let (old, new): (Vec<_>, Vec<_>) =
                rooms.iter().partition(|room| client.is_in(room.as_str()));
            if is_granted {
                for room in old {
                    client.grant(room);
                }
            }
            join_room::check_room_count(context, client, new.len())?;
            for room in new {
                enter(context, client, room, is_granted, false).await?;
            }
        }
        MembershipCommand::Leave { rooms } => {
            for room in rooms.iter() {
                let Some(place) = client.remove_membership(room) else { continue };
                depart(context, client, &place.room, place.style);
                client.sender.send(&left_packet(room, EventStyle::Dashed, &place.echo));
            }
        }
    }
    Ok(())
}

/// Carries out a command, and tells the result. Where nobody waits for it, a refusal is logged.
pub async fn apply_and_tell(
    context: &Context,
    client: &Arc<Client>,
    command: MembershipCommand,
    done: Done,
) {
    let Err(outcome) = done.send(apply(context, client, command).await) else { return };
    if let Err(refusal) = outcome {
        tracing::warn!(client = %client.id, code = refusal.code.as_str(), reason = %refusal.message, "a join on a client's behalf was refused");
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
        if has_gone(client) || client.is_in(name.as_str()) {
            client.grant(name);
            continue;
        }
        enter(context, client, name, true, is_silent).await?;
    }
    Ok(())
}

async fn enter(
    context: &Context,
    client: &Arc<Client>,
    name: &RoomName,
    is_granted: bool,
    is_silent: bool,
) -> Result<(), Refusal> {
    let value = json_of(name).get().into();
    let room = NamedRoom { name: name.clone(), field: Some("roomName"), value };
    let style = EventStyle::Dashed;
    let join = Join { room, style, recover: None, is_granted, is_silent };
    join_room::join(context, client, join, |_| ()).await
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
