//! `join-room`, `watch-resource` and `joinRoom`.

use std::sync::Arc;

use serde_json::json;

use super::{
    arguments::{MAX_SAFE_INTEGER, NamedRoom, integer, room_or_name},
    context::Context,
    event::{Caller, ClientEvent, Event, Feature, Incoming, Outcome},
    history::{self, JoinPosition, Recovery},
    presence,
    room::{acknowledgement, came, entered_packet},
    schema::{self, count, open, reference},
};
use crate::{
    hub::{Client, EventStyle, Membership, Room, RoomState},
    protocol::{
        audience::Except,
        payload::{Payload, text_or_number},
        permissions::Right,
        refusal::{Code, Refusal},
    },
};

pub(super) const FEATURE: Feature = Feature {
    client: &[
        ClientEvent::new::<Join>(
            "join-room",
            "JoinRoom",
            "RoomAcknowledge",
            "Joins a room. With `offset`, the messages that the client missed are sent first.",
        ).example(r#"{"roomName":"lobby","offset":41,"epoch":"5c1f0a7be2d94c83"}"#).refusals(&[Code::NoRoom, Code::Forbidden, Code::TooManyRooms]),
        ClientEvent::new::<Join>(
            "watch-resource",
            "JoinRoom",
            "RoomAcknowledge",
            "The same as `join-room`, usually with `resourceId`.",
        ).example(r#"{"resourceId":7}"#).refusals(&[Code::NoRoom, Code::Forbidden, Code::TooManyRooms]),
        ClientEvent::new::<Join>(
            "joinRoom",
            "JoinRoom",
            "RoomAcknowledge",
            "Joins a room, as `join-room`. The client gets `joinedRoom`, the others `userJoinedRoom`.",
        ).example(r#"{"roomId":"lobby"}"#).refusals(&[Code::NoRoom, Code::Forbidden, Code::TooManyRooms]),
    ],
    server: &[],
    schemas: || {
        let recovery = [
            (
                "offset?",
                count(
                    "The newest offset that the client has. Everything after it is sent first.",
                ),
            ),
            ("epoch?", schema::text("The epoch that the offset belongs to.")),
        ];
        vec![(
            "JoinRoom",
            json!({
                "description": "The room to join, and the newest message that the client has.",
                "anyOf": [reference("Name"), {"allOf": [reference("Room"), open("", &recovery)]}],
            }),
        )]
    },
};

/// The client wants to be a member of a room.
#[derive(Debug)]
pub(super) struct Join {
    /// The room.
    pub room: NamedRoom,
    /// The style of the events that answer it.
    pub style: EventStyle,
    /// What the client already has, if it asks to recover.
    pub recover: Option<Recovery>,
    /// A backend puts the client into the room: its permissions do not count.
    pub is_granted: bool,
    /// Nobody is told.
    pub is_silent: bool,
}

impl Event for Join {
    fn parse(incoming: &Incoming<'_>) -> Result<Self, Refusal> {
        let (room, object) = room_or_name(incoming)?;
        let offset = object.as_ref().and_then(|object| Some((object, object.get("offset")?)));
        let recover = match offset {
            Some((object, offset)) => {
                let offset = integer("offset", offset, 0, MAX_SAFE_INTEGER)?;
                let epoch = match object.get("epoch") {
                    Some(epoch) => Some(text_or_number(epoch.get()).ok_or_else(|| {
                        Refusal::invalid("epoch must be the string that a join's ack gave")
                    })?),
                    None => None,
                };
                Some(Recovery { offset, epoch })
            }
            None => None,
        };
        let style = EventStyle::of(incoming.name());
        Ok(Self { room, style, recover, is_granted: false, is_silent: false })
    }

    async fn run(self, caller: Caller) -> Outcome {
        let acknowledge = |answer| caller.client.acknowledge(caller.ack, &answer);
        join(&caller.context, &caller.client, self, acknowledge).await.map(|()| None)
    }
}

/// Replays what the client asked to recover, then makes it a member of the room. `acknowledge` is called as
/// it enters, under the room's lock, so that the client has the answer before the first message that is newer
/// than the offset in it.
///
/// # Errors
/// `forbidden`, `too_many_rooms`, or `unavailable` while the history cannot be read.
pub(super) async fn join(
    context: &Context,
    client: &Arc<Client>,
    join: Join,
    acknowledge: impl FnOnce(Payload),
) -> Result<(), Refusal> {
    let room = &join.room.name;
    let already = client.membership(room).is_some();
    if !already && !join.is_granted {
        client.permit(Right::Join, room)?;
    }
    if join.recover.is_some() {
        client.permit(Right::Read, room)?;
    }
    check_room_count(context, client, usize::from(!already))?;
    let enter = |state: &mut RoomState, entered: &Arc<Room>, position: &JoinPosition| {
        if !already {
            self::enter(context, client, &join, state, entered);
        }
        let message = format!("Successfully joined room: {room}");
        acknowledge(acknowledgement(client, &join.room, &message, Some(position)));
    };
    history::enter(context, client, room, join.recover.as_ref(), enter).await?;
    if !already {
        presence::moved(context, client);
    }
    Ok(())
}

/// Checks whether the client may be in this many more rooms.
///
/// # Errors
/// `too_many_rooms`.
pub(super) fn check_room_count(
    context: &Context,
    client: &Client,
    more: usize,
) -> Result<(), Refusal> {
    let max = context.config.max_rooms_per_client;
    if more == 0 || max == 0 || (client.room_count() + more) as u64 <= max {
        return Ok(());
    }
    let message = format!("a client may be in {max} rooms at the same time: leave one first");
    Err(Refusal::new(Code::TooManyRooms, message))
}

/// Makes the client a member, and tells it and the others.
fn enter(
    context: &Context,
    client: &Arc<Client>,
    join: &Join,
    state: &mut RoomState,
    entered: &Arc<Room>,
) {
    let room = &join.room.name;
    if !join.is_silent {
        let packet = came(client, room, join.style);
        state.deliver(&packet, None, |_| false);
        context.broker.signal_room_elsewhere(&client.namespace, room, &packet, &Except::nobody());
    }
    let is_first = state.members().len() == 0;
    state.insert(client.clone(), join.style);
    if let Some(webhooks) = context.broker.webhooks() {
        webhooks.joined(client, room, is_first, context.sender_id(client));
    }
    let membership = Membership {
        room: entered.clone(),
        style: join.style,
        echo: join.room.echo(),
        is_granted: join.is_granted,
    };
    client.add_membership(room.clone(), membership);
    if let Some(observer) = &context.observer {
        observer.joined(client, room);
    }
    if !join.is_silent {
        client.sender.send(&entered_packet(&join.room, join.style));
    }
}
