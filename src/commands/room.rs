//! Joining and leaving rooms.

use std::sync::Arc;

use serde::Serialize;

use crate::{
    commands::{
        context::App,
        history::{self, Recovery, Standing},
        presence::{self, Place},
        signal,
    },
    hub::{Client, Membership, Room, RoomState, Spelling, sender::Packet},
    protocol::{
        audience::Except,
        names::RoomName,
        payload::{ObjectBuilder, Payload, raw},
        refusal::{Code, Refusal},
        timestamp::Timestamp,
    },
};

/// A room as a client named it.
#[derive(Debug, Clone)]
pub struct RoomKey {
    /// The room.
    pub name: RoomName,
    /// The field that named it; `None` where the payload was itself the name.
    pub field: Option<&'static str>,
    /// The field's value (or the payload) as it was given, to be repeated.
    pub value: Arc<str>,
}

impl RoomKey {
    /// The payload's shape again: only the key that names the room.
    fn echo(&self) -> Arc<str> {
        match self.field {
            Some(field) => format!("{{\"{field}\":{}}}", self.value).into(),
            None => self.value.clone(),
        }
    }
}

/// A wish to be a member of a room.
#[derive(Debug)]
pub struct Join {
    /// The room.
    pub room: RoomKey,
    /// The family of events to be answered with.
    pub spelling: Spelling,
    /// What the client has already, if it asks for the rest.
    pub recover: Option<Recovery>,
}

/// A wish not to be a member of a room any more.
#[derive(Debug)]
pub struct Leave {
    /// The room.
    pub room: RoomKey,
    /// The family of events to be answered with.
    pub spelling: Spelling,
}

/// Makes the client a member of the room, after it has been sent what it asked to recover. `acknowledge` is
/// called as it enters, under the room's lock, so that the client has the answer before the first message that
/// is newer than the offset in it.
///
/// # Errors
/// `forbidden`, `too_many_rooms`, or `unavailable` while the history cannot be read.
pub async fn join(
    app: &App,
    client: &Arc<Client>,
    join: Join,
    acknowledge: impl FnOnce(Payload),
) -> Result<(), Refusal> {
    let room = &join.room.name;
    client.permit(room)?;
    let max = app.config.max_rooms_per_client;
    let already = client.membership(room).is_some();
    if !already && max > 0 && client.room_count() as u64 >= max {
        return Err(Refusal::new(
            Code::TooManyRooms,
            format!("a client may be in {max} rooms at the same time: leave one first"),
        ));
    }
    let enter = |state: &mut RoomState, entered: &Arc<Room>, standing: &Standing| {
        if !already {
            self::enter(app, client, &join, state, entered);
        }
        let message = format!("Successfully joined room: {room}");
        acknowledge(acknowledgement(client, &join.room, &message, Some(standing)));
    };
    history::enter(app, client, room, join.recover.as_ref(), enter).await?;
    if !already {
        presence::moved(app, client);
    }
    Ok(())
}

/// Makes the client a member, and tells it and the others.
fn enter(app: &App, client: &Arc<Client>, join: &Join, state: &mut RoomState, entered: &Arc<Room>) {
    let room = &join.room.name;
    let packet = came(client, room, join.spelling);
    state.deliver(&packet, None, |_| false);
    app.bus.signal_room_elsewhere(&client.namespace, room, &packet, &Except::nobody());
    state.insert(client.clone(), join.spelling);
    let membership =
        Membership { room: entered.clone(), spelling: join.spelling, echo: join.room.echo() };
    client.add_membership(room.clone(), membership);
    if let Some(observer) = &app.observer {
        observer.joined(client, room);
    }
    client.outlet.send(&entered_packet(&join.room, join.spelling));
}

/// Ends the client's membership of the room.
///
/// # Errors
/// None at present; leaving a room from outside is a success that nobody is told of.
pub fn leave(app: &App, client: &Arc<Client>, leave: &Leave) -> Result<Payload, Refusal> {
    let room = &leave.room.name;
    if let Some(membership) = client.remove_membership(room) {
        depart(app, client, &membership.room, leave.spelling);
        client.outlet.send(&left_packet(room, leave.spelling, &leave.room.echo()));
    }
    let message = format!("Successfully left room: {room}");
    Ok(acknowledgement(client, &leave.room, &message, None))
}

/// Ends all memberships of a client that has gone.
pub fn leave_all(app: &App, client: &Arc<Client>) {
    for room in client.rooms() {
        if let Some(membership) = client.remove_membership(&room) {
            depart(app, client, &membership.room, membership.spelling);
        }
    }
}

/// Tells the members on other nodes that a client has gone, as this node stops.
pub fn farewell(app: &App, client: &Client) {
    for room in client.rooms() {
        let Some(membership) = client.membership(&room) else { continue };
        let packet = gone(client, &room, membership.spelling);
        app.bus.signal_room_elsewhere(&client.namespace, &room, &packet, &Except::nobody());
    }
}

/// Takes a client that has gone out of these rooms without a word: what is left to do where
/// [`leave_all`] has failed.
pub fn forget(client: &Client, places: &[Place]) {
    for (namespace, name) in places {
        if let Some(room) = namespace.room(name.as_str()) {
            room.lock().remove(client);
            namespace.retire(&room);
        }
        client.remove_membership(name);
    }
}

/// Ends the memberships that the client's permissions no longer cover, and tells it.
pub fn leave_forbidden(app: &App, client: &Arc<Client>) {
    for room in client.rooms() {
        if client.may_use(&room) {
            continue;
        }
        if let Some(membership) = client.remove_membership(&room) {
            depart(app, client, &membership.room, membership.spelling);
            client.outlet.send(&left_packet(&room, membership.spelling, &membership.echo));
        }
    }
}

/// Takes the client out of the room and tells the others: by the spelling of its `leave`, or, where
/// it sent none, of its join.
fn depart(app: &App, client: &Arc<Client>, room: &Arc<Room>, spelling: Spelling) {
    signal::stop_typing(app, client, &room.name);
    {
        let mut state = room.lock();
        state.remove(client);
        let packet = gone(client, &room.name, spelling);
        state.deliver(&packet, None, |_| false);
        app.bus.signal_room_elsewhere(&client.namespace, &room.name, &packet, &Except::nobody());
    }
    presence::moved(app, client);
    client.namespace.retire(room);
    if let Some(observer) = &app.observer {
        observer.left(client, &room.name);
    }
}

/// What the other members are told of a client that comes or goes.
fn move_of(client: &Client, room: &RoomName, spelling: Spelling) -> Payload {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Move<'a> {
        user_id: Option<String>,
        socket_id: &'a str,
        client_name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<&'a RoomName>,
        #[serde(skip_serializing_if = "Option::is_none")]
        room_id: Option<&'a RoomName>,
        timestamp: Timestamp,
    }
    let dashed = spelling == Spelling::Dashed;
    Payload::of(&Move {
        user_id: client.user().map(|user| user.to_string()),
        socket_id: client.id.as_str(),
        client_name: &client.name,
        room: dashed.then_some(room),
        room_id: (!dashed).then_some(room),
        timestamp: Timestamp::now(),
    })
}

fn came(client: &Client, room: &RoomName, spelling: Spelling) -> Packet {
    let event = match spelling {
        Spelling::Dashed => "user-joined",
        Spelling::Camel => "userJoinedRoom",
    };
    Packet::new(event, move_of(client, room, spelling))
}

fn gone(client: &Client, room: &RoomName, spelling: Spelling) -> Packet {
    let event = match spelling {
        Spelling::Dashed => "user-left",
        Spelling::Camel => "userLeftRoom",
    };
    Packet::new(event, move_of(client, room, spelling))
}

fn entered_packet(key: &RoomKey, spelling: Spelling) -> Packet {
    match spelling {
        Spelling::Dashed => confirmation("room-joined", "joined", &key.name),
        Spelling::Camel => Packet::new("joinedRoom", Payload::from_raw(raw(&*key.echo()))),
    }
}

fn left_packet(room: &RoomName, spelling: Spelling, echo: &str) -> Packet {
    match spelling {
        Spelling::Dashed => confirmation("room-left", "left", room),
        Spelling::Camel => Packet::new("leftRoom", Payload::from_raw(raw(echo))),
    }
}

fn confirmation(event: &'static str, verb: &str, room: &RoomName) -> Packet {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Confirmation<'a> {
        success: bool,
        room_name: &'a RoomName,
        message: String,
        timestamp: Timestamp,
    }
    let message = format!("Successfully {verb} room: {room}");
    Packet::of(
        event,
        &Confirmation { success: true, room_name: room, message, timestamp: Timestamp::now() },
    )
}

/// The contract's `RoomAcknowledge`.
fn acknowledgement(
    client: &Client,
    key: &RoomKey,
    message: &str,
    standing: Option<&Standing>,
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
    if let Some(standing) = standing {
        ack = standing.describe(ack);
    }
    Payload::from_raw(ack.build())
}
