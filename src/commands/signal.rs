//! What is told at most once and never stored: typing, custom events, pings, announcements.

use std::{borrow::Cow, sync::Arc};

use serde::Serialize;

use crate::{
    commands::context::App,
    hub::{Client, Namespace, sender::Packet},
    protocol::{
        audience::Except,
        names::{RoomName, UserId},
        payload::Payload,
        refusal::Refusal,
        timestamp::Timestamp,
    },
};

/// A `custom-event`.
#[derive(Debug)]
pub struct Custom {
    /// The event's name, which is none of the protocol's or the server's own.
    pub event: String,
    /// Its argument.
    pub data: Payload,
    /// The room it goes to; `None` for the whole namespace.
    pub room: Option<RoomName>,
}

/// Sends a client's own event to a room or its namespace, never to itself.
///
/// # Errors
/// `forbidden` where the token does not permit it.
pub fn custom(app: &App, client: &Client, custom: Custom) -> Result<Payload, Refusal> {
    #[derive(Serialize)]
    struct Ack {
        success: bool,
        message: String,
    }
    let message = match &custom.room {
        Some(room) => format!("Event \"{}\" sent to room: {room}", custom.event),
        None => format!("Event \"{}\" sent to all clients", custom.event),
    };
    let packet = Packet::new(Cow::Owned(custom.event), custom.data);
    let except = Except::client(Some(client.id));
    if let Some(room) = &custom.room {
        client.permit(room)?;
        app.bus.signal_room(&client.namespace, room, &packet, &except);
    } else {
        client.permit_namespace()?;
        app.bus.signal_namespace(&client.namespace, &packet, &except);
    }
    Ok(Payload::of(&Ack { success: true, message }))
}

/// Tells the room's other members that the client types, or has stopped.
///
/// # Errors
/// `forbidden` where the token does not permit it.
pub fn typing(app: &App, client: &Client, room: &RoomName, is_typing: bool) -> Result<(), Refusal> {
    client.permit(room)?;
    // Only a member's typing ends by itself when it leaves, so only a member's is remembered.
    if client.is_in(room.as_str()) {
        client.set_typing(room, is_typing);
    }
    tell_typing(app, client, room, is_typing);
    Ok(())
}

/// A typist who leaves stops typing for the others.
pub fn stop_typing(app: &App, client: &Client, room: &RoomName) {
    if client.set_typing(room, false) {
        tell_typing(app, client, room, false);
    }
}

fn tell_typing(app: &App, client: &Client, room: &RoomName, is_typing: bool) {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Signal<'a> {
        user_id: Option<UserId>,
        client_id: &'a str,
        client_name: &'a str,
        room_id: &'a RoomName,
        is_typing: bool,
        timestamp: Timestamp,
    }
    let packet = Packet::of(
        "userTyping",
        &Signal {
            user_id: client.user(),
            client_id: client.id.as_str(),
            client_name: &client.name,
            room_id: room,
            is_typing,
            timestamp: Timestamp::now(),
        },
    );
    app.bus.signal_room(&client.namespace, room, &packet, &Except::client(Some(client.id)));
}

/// Answers a client's `ping`.
pub fn pong(client: &Client) {
    #[derive(Serialize)]
    struct Pong {
        timestamp: i64,
        message: &'static str,
    }
    let now = Timestamp::now().as_millis();
    client.outlet.send(&Packet::of("pong", &Pong { timestamp: now, message: "Pong response" }));
}

/// Welcomes a new client.
pub fn welcome(client: &Client) {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Connected<'a> {
        message: &'static str,
        connection_id: &'a str,
        client_id: &'a str,
        timestamp: Timestamp,
    }
    let id = client.id.as_str();
    let connected = Connected {
        message: "Connected to WebSocket server",
        connection_id: id,
        client_id: id,
        timestamp: Timestamp::now(),
    };
    client.outlet.send(&Packet::of("connected", &connected));
}

/// Tells the namespace that a client has come.
pub fn announce_connected(app: &App, client: &Arc<Client>) {
    announce(app, client, &announcement("client-connected", client, "Client connected"));
}

/// Tells the namespace that a client has gone.
pub fn announce_disconnected(app: &App, client: &Arc<Client>) {
    announce(app, client, &disconnected(client));
}

/// Tells the namespace on other nodes that a client has gone, as this node stops.
pub fn farewell(app: &App, client: &Client) {
    if announces(app, &client.namespace) {
        app.bus.announce_elsewhere(&client.namespace, &disconnected(client));
    }
}

/// One delivery per connected client per connection: quadratic, hence the limit.
fn announce(app: &App, client: &Client, packet: &Packet) {
    if announces(app, &client.namespace) {
        app.bus.announce(&client.namespace, packet);
    }
}

fn disconnected(client: &Client) -> Packet {
    announcement("client-disconnected", client, "Client disconnected")
}

fn announcement(event: &'static str, client: &Client, message: &'static str) -> Packet {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Announcement<'a> {
        client_id: &'a str,
        client_name: &'a str,
        message: &'static str,
    }
    let (client_id, client_name) = (client.id.as_str(), &*client.name);
    Packet::of(event, &Announcement { client_id, client_name, message })
}

/// Whether the clients of a namespace on this node are told of one another: not where there are too many.
pub fn announces(app: &App, namespace: &Namespace) -> bool {
    let max = app.config.announce_max;
    app.config.announce_connections && (max == 0 || namespace.connections() as u64 <= max)
}
