//! What joining and leaving rooms share: the answers to the client, and the announcements to others.

use std::sync::Arc;

use serde_json::json;

use super::{
    arguments::NamedRoom,
    context::Context,
    event::{Feature, ServerEvent},
    history::JoinPosition,
    presence::{self, Place},
    schema::{
        client_id, client_name, count, epoch, flag, object, reference, room, text, time, user, yes,
    },
    typing_indicator,
};
use crate::{
    hub::{Client, EventStyle, Membership, Room, packet::Packet},
    protocol::{
        audience::Except,
        names::RoomName,
        payload::{ObjectBuilder, Payload, raw},
        permissions::Right,
        refusal::Refusal,
        timestamp::Timestamp,
    },
};

const ROOM_JOINED: ServerEvent = ServerEvent::state("room-joined","RoomConfirmation","The client has joined a room by `join-room` or `watch-resource`, or a backend or its token has put it into the room.").to("The client that joined.").example(r#"{"success":true,"roomName":"lobby","message":"Successfully joined room: lobby","timestamp":"2026-01-01T12:00:00.000Z"}"#);
const ROOM_LEFT: ServerEvent = ServerEvent::state("room-left","RoomConfirmation","The client has left a room by `leave-room` or `unwatch-resource`, or a backend or a narrower token has taken it out.").to("The client that left.").example(r#"{"success":true,"roomName":"lobby","message":"Successfully left room: lobby","timestamp":"2026-01-01T12:00:00.000Z"}"#);
const JOINED_ROOM: ServerEvent = ServerEvent::state(
    "joinedRoom",
    "RoomEcho",
    "The client has joined a room by `joinRoom`. The argument has the shape that the client used.",
)
.to("The client that joined.")
.example(r#"{"roomId":"lobby"}"#);
const LEFT_ROOM: ServerEvent = ServerEvent::state("leftRoom","RoomEcho","The client has left a room by `leaveRoom`, or a narrower token has taken it out of a room that it joined by `joinRoom`.").to("The client that left.").example(r#"{"roomId":"lobby"}"#);
const USER_JOINED: ServerEvent = ServerEvent::state("user-joined","RoomMove","A client has joined the room by `join-room` or `watch-resource`.").to("The room's other members.").example(r#"{"socketId":"3qwd6cWPZVJxGsnkAAAB","userId":"alice","clientName":"Ada","room":"lobby","timestamp":"2026-01-01T12:00:00.000Z"}"#);
const USER_LEFT: ServerEvent = ServerEvent::state("user-left","RoomMove","A client that joined by `join-room` or `watch-resource` has left the room or disconnected.").to("The room's other members.").example(r#"{"socketId":"3qwd6cWPZVJxGsnkAAAB","userId":"alice","clientName":"Ada","room":"lobby","timestamp":"2026-01-01T12:00:00.000Z"}"#);
const USER_JOINED_ROOM: ServerEvent = ServerEvent::state("userJoinedRoom","RoomMoveCamel","A client has joined the room by `joinRoom`.").to("The room's other members.").example(r#"{"userId":"alice","socketId":"3qwd6cWPZVJxGsnkAAAB","clientName":"Ada","roomId":"lobby","timestamp":"2026-01-01T12:00:00.000Z"}"#);
const USER_LEFT_ROOM: ServerEvent = ServerEvent::state("userLeftRoom","RoomMoveCamel","A client that joined by `joinRoom` has left the room or disconnected.").to("The room's other members.").example(r#"{"userId":"alice","socketId":"3qwd6cWPZVJxGsnkAAAB","clientName":"Ada","roomId":"lobby","timestamp":"2026-01-01T12:00:00.000Z"}"#);

pub(super) const FEATURE: Feature = Feature {
    client: &[],
    server: &[
        ROOM_JOINED,
        ROOM_LEFT,
        JOINED_ROOM,
        LEFT_ROOM,
        USER_JOINED,
        USER_LEFT,
        USER_JOINED_ROOM,
        USER_LEFT_ROOM,
    ],
    schemas: || {
        let moved = |name: &'static str| {
            object(
                "A client joined or left.",
                &[
                    ("userId", user()),
                    ("socketId", client_id()),
                    ("clientName", client_name()),
                    (name, room()),
                    ("timestamp", time()),
                ],
            )
        };
        vec![
            (
                "RoomAcknowledge",
                object(
                    "The client has joined or left.",
                    &[
                        ("success", yes()),
                        ("clientId", client_id()),
                        ("clientName", client_name()),
                        ("roomName", room()),
                        ("message", text("A description.")),
                        ("roomId?", reference("Name")),
                        ("room?", reference("Name")),
                        ("resourceId?", reference("Name")),
                        (
                            "offset?",
                            count("The room's current offset: the client has everything up to it."),
                        ),
                        ("epoch?", epoch()),
                        (
                            "recovered?",
                            flag(
                                "Whether all missed messages have been sent. Present if the join had an `offset`.",
                            ),
                        ),
                        (
                            "missed?",
                            count("The number of messages that were sent before the join."),
                        ),
                        (
                            "oldestOffset?",
                            count(
                                "The oldest offset in the history, or the next one if it is empty.",
                            ),
                        ),
                    ],
                ),
            ),
            (
                "RoomConfirmation",
                object(
                    "The client has joined or left.",
                    &[
                        ("success", yes()),
                        ("roomName", room()),
                        ("message", text("A description.")),
                        ("timestamp", time()),
                    ],
                ),
            ),
            (
                "RoomEcho",
                json!({
                    "description": "The room as the client named it: the name, or an object with the field that named it.",
                    "anyOf": [reference("Name"), reference("Room")],
                }),
            ),
            ("RoomMove", moved("room")),
            ("RoomMoveCamel", moved("roomId")),
        ]
    },
};

/// Ends all memberships of a client that has gone. One that `may_come_back` remembers them.
pub fn leave_all(context: &Context, client: &Arc<Client>, may_come_back: bool) {
    // All of them first: the session of one that may come back may be ended meanwhile.
    let rooms = client.rooms();
    let memberships = rooms.iter().filter_map(|room| client.membership(room)).collect::<Vec<_>>();
    for Membership { room, style, .. } in memberships {
        if !may_come_back {
            client.remove_membership(&room.name);
        }
        depart(context, client, &room, style);
    }
}

/// Makes a client that is back, as `lost` was, a member of its rooms again. The other members are told, the client
/// only of rooms that it may not be in any more.
///
/// # Errors
/// `too_many_rooms`; then it is not in all of them.
pub(super) fn enter_again(
    context: &Context,
    client: &Arc<Client>,
    lost: &Arc<Client>,
) -> Result<(), Refusal> {
    for name in lost.rooms() {
        let Some(before) = lost.membership(&name) else { continue };
        if !before.is_granted && !client.may(Right::Join, &name) {
            forget_lost(lost, &name);
            client.sender.send(&left_packet(&name, before.style, &before.echo));
            continue;
        }
        let style = before.style;
        let packet = came(client, &name, style);
        client.namespace.with_room(&name, |room, state| {
            state.deliver(&packet, None, |_| false);
            let (namespace, nobody) = (&client.namespace, Except::nobody());
            context.broker.signal_room_elsewhere(namespace, &name, &packet, &nobody);
            let is_first = state.members().len() == 0;
            state.insert_again(client.clone(), style);
            if let Some(webhooks) = context.broker.webhooks() {
                webhooks.joined(client, &name, is_first, context.sender_id(client));
            }
            let membership = Membership { room: room.clone(), ..before };
            client.add_membership(name.clone(), membership);
        })?;
        lost.remove_membership(&name);
        if let Some(observer) = &context.observer {
            observer.joined(client, &name);
        }
        presence::moved(context, client);
    }
    Ok(())
}

/// Takes a client that was lost out of a room for good.
pub(super) fn forget_lost(lost: &Client, name: &RoomName) {
    let Some(membership) = lost.remove_membership(name) else { return };
    membership.room.lock().forget(lost);
    lost.namespace.retire(&membership.room);
}

/// Tells the members on other nodes that a client has gone, as this node stops.
pub fn announce_departure(context: &Context, client: &Client) {
    for room in client.rooms() {
        let Some(membership) = client.membership(&room) else { continue };
        let packet = gone(client, &room, membership.style);
        context.broker.signal_room_elsewhere(&client.namespace, &room, &packet, &Except::nobody());
    }
}

/// Removes a client that has gone from these rooms without telling anyone, if [`leave_all`] has failed.
pub fn forget(context: &Context, client: &Client, places: &[Place]) {
    for (namespace, name) in places {
        if let Some(room) = namespace.room(name.as_str()) {
            let mut state = room.lock();
            let was_member = state.contains(&client.id);
            state.remove(client);
            state.forget(client);
            if let Some(webhooks) = context.broker.webhooks().filter(|_| was_member) {
                let is_last = state.members().len() == 0;
                webhooks.left(client, name, is_last, context.sender_id(client));
            }
            drop(state);
            namespace.retire(&room);
        }
        client.remove_membership(name);
    }
}

/// Ends the memberships that the client's permissions no longer cover, and tells it. A room into which a
/// backend has put it is the backend's affair.
pub fn leave_forbidden(context: &Context, client: &Arc<Client>) {
    for room in client.rooms() {
        let is_granted = client.membership(&room).is_some_and(|place| place.is_granted);
        if is_granted || client.may(Right::Join, &room) {
            continue;
        }
        if let Some(membership) = client.remove_membership(&room) {
            depart(context, client, &membership.room, membership.style);
            client.sender.send(&left_packet(&room, membership.style, &membership.echo));
        }
    }
}

/// Takes the client out of the room and tells the others, in the event style of its `leave`, or of its join
/// if it sent none.
pub(super) fn depart(context: &Context, client: &Arc<Client>, room: &Arc<Room>, style: EventStyle) {
    typing_indicator::stop(context, client, &room.name);
    withdraw(context, client, room, Some(style));
}

/// Takes the client out of the room and, where there is an event style, tells the others in it.
pub(super) fn withdraw(
    context: &Context,
    client: &Arc<Client>,
    room: &Arc<Room>,
    told: Option<EventStyle>,
) {
    {
        let mut state = room.lock();
        state.remove(client);
        if let Some(webhooks) = context.broker.webhooks() {
            let is_last = state.members().len() == 0;
            webhooks.left(client, &room.name, is_last, context.sender_id(client));
        }
        if let Some(style) = told {
            let packet = gone(client, &room.name, style);
            state.deliver(&packet, None, |_| false);
            let (namespace, nobody) = (&client.namespace, Except::nobody());
            context.broker.signal_room_elsewhere(namespace, &room.name, &packet, &nobody);
        }
    }
    presence::moved(context, client);
    client.namespace.retire(room);
    if let Some(observer) = &context.observer {
        observer.left(client, &room.name);
    }
}

/// What the other members are told when a client comes or goes.
fn move_of(client: &Client, room: &RoomName, style: EventStyle) -> Payload {
    let field = if style == EventStyle::Dashed { "room" } else { "roomId" };
    Payload::of(&json!({
        "userId": client.user(),
        "socketId": client.id,
        "clientName": client.name,
        field: room,
        "timestamp": Timestamp::now(),
    }))
}

pub(super) fn came(client: &Client, room: &RoomName, style: EventStyle) -> Packet {
    let event = match style {
        EventStyle::Dashed => USER_JOINED.name,
        EventStyle::Camel => USER_JOINED_ROOM.name,
    };
    Packet::new(event, move_of(client, room, style))
}

pub(super) fn gone(client: &Client, room: &RoomName, style: EventStyle) -> Packet {
    let event = match style {
        EventStyle::Dashed => USER_LEFT.name,
        EventStyle::Camel => USER_LEFT_ROOM.name,
    };
    Packet::new(event, move_of(client, room, style))
}

pub(super) fn entered_packet(key: &NamedRoom, style: EventStyle) -> Packet {
    match style {
        EventStyle::Dashed => confirmation(ROOM_JOINED.name, "joined", &key.name),
        EventStyle::Camel => Packet::new(JOINED_ROOM.name, Payload::from_raw(raw(&*key.echo()))),
    }
}

pub(super) fn left_packet(room: &RoomName, style: EventStyle, echo: &str) -> Packet {
    match style {
        EventStyle::Dashed => confirmation(ROOM_LEFT.name, "left", room),
        EventStyle::Camel => Packet::new(LEFT_ROOM.name, Payload::from_raw(raw(echo))),
    }
}

fn confirmation(event: &'static str, verb: &str, room: &RoomName) -> Packet {
    Packet::of(
        event,
        &json!({
            "success": true,
            "roomName": room,
            "message": format!("Successfully {verb} room: {room}"),
            "timestamp": Timestamp::now(),
        }),
    )
}

/// The contract's `RoomAcknowledge`.
pub(super) fn acknowledgement(
    client: &Client,
    key: &NamedRoom,
    message: &str,
    position: Option<&JoinPosition>,
) -> Payload {
    let value = raw(&*key.value);
    let mut ack = ObjectBuilder::default()
        .set("clientId", client.id.as_str())
        .set("clientName", &*client.name)
        .set("success", &true)
        .set("roomName", &key.name)
        .set("message", message);
    if let Some(field) = key.field.filter(|field| *field != "roomName") {
        ack = ack.raw(field, &value);
    }
    if let Some(position) = position {
        ack = position.describe(ack);
    }
    Payload::from_raw(ack.build())
}
