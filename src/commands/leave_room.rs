//! `leave-room`, `unwatch-resource` and `leaveRoom`.

use std::sync::Arc;

use super::{
    arguments::{NamedRoom, room_or_name},
    context::Context,
    event::{Caller, ClientEvent, Event, Feature, Incoming, Outcome},
    room::{acknowledgement, depart, left_packet},
};
use crate::{
    hub::{Client, EventStyle},
    protocol::{
        payload::Payload,
        refusal::{Code, Refusal},
    },
};

pub(super) const FEATURE: Feature = Feature {
    client: &[
        ClientEvent::new::<Leave>("leave-room", "RoomOrName", "RoomAcknowledge", "Leaves a room.")
            .example(r#"{"roomName":"lobby"}"#)
            .refusals(&[Code::NoRoom]),
        ClientEvent::new::<Leave>(
            "unwatch-resource",
            "RoomOrName",
            "RoomAcknowledge",
            "The same as `leave-room`, usually with `resourceId`.",
        )
        .example(r#"{"resourceId":7}"#)
        .refusals(&[Code::NoRoom]),
        ClientEvent::new::<Leave>(
            "leaveRoom",
            "RoomOrName",
            "RoomAcknowledge",
            "Leaves a room. The client gets `leftRoom`, the others `userLeftRoom`.",
        )
        .example(r#"{"roomId":"lobby"}"#)
        .refusals(&[Code::NoRoom]),
    ],
    server: &[],
    schemas: Vec::new,
};

/// The client no longer wants to be a member of a room.
#[derive(Debug)]
pub(super) struct Leave {
    /// The room.
    pub room: NamedRoom,
    /// The style of the events that answer it.
    pub style: EventStyle,
}

impl Event for Leave {
    fn parse(incoming: &Incoming<'_>) -> Result<Self, Refusal> {
        let (room, _) = room_or_name(incoming)?;
        Ok(Self { room, style: EventStyle::of(incoming.name()) })
    }

    async fn run(self, caller: Caller) -> Outcome {
        Ok(Some(leave(&caller.context, &caller.client, &self)))
    }
}

/// Ends the client's membership of the room. Leaving a room that it is not in succeeds, and nobody is told.
pub(super) fn leave(context: &Context, client: &Arc<Client>, leave: &Leave) -> Payload {
    let room = &leave.room.name;
    if let Some(membership) = client.remove_membership(room) {
        depart(context, client, &membership.room, leave.style);
        client.sender.send(&left_packet(room, leave.style, &leave.room.echo()));
    }
    let message = format!("Successfully left room: {room}");
    acknowledgement(client, &leave.room, &message, None)
}
