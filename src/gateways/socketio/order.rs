//! What others want done to a client's memberships: it waits in the client's inbox, behind what the
//! client has sent itself, as nobody but the inbox changes them.

use std::sync::Arc;

use super::{connection::Connection, inbox::Item};
use crate::{
    commands::{
        context::App,
        room::{self, Join, Leave, RoomKey},
    },
    hub::{Client, Spelling},
    protocol::{names::RoomName, payload::json_of},
};

/// A change of a client's memberships.
#[derive(Debug, Clone)]
pub enum Order {
    /// It becomes a member of the room, as if it had sent `join-room`.
    Join(RoomName),
    /// It leaves the room, by the spelling in which it has joined.
    Leave(RoomName),
}

/// Puts the order into the client's inbox; returns whether the client is still there to obey it.
pub fn order(client: &Client, order: Order) -> bool {
    let socket = client.outlet.socket();
    let connection = socket.and_then(|socket| socket.extensions.get::<Arc<Connection>>());
    connection
        .is_some_and(|connection| connection.inbox().push(&connection, Item::Order(order)).is_ok())
}

/// Does what was ordered. What is refused is logged: there is nobody to be told.
pub(super) async fn obey(app: &App, client: &Arc<Client>, order: Order) {
    // Who has gone meanwhile must not come into a room again.
    let known = client.namespace.client(client.id);
    if !known.is_some_and(|known| Arc::ptr_eq(&known, client)) {
        return;
    }
    let done = match order {
        // It would change nothing, but hold back for a moment what the room is told.
        Order::Join(name) if client.membership(&name).is_some() => return,
        Order::Join(name) => {
            let value = json_of(&name).get().into();
            let room = RoomKey { name, field: Some("roomName"), value };
            let join = Join { room, spelling: Spelling::Dashed, recover: None };
            room::join(app, client, join, |_| ()).await
        }
        Order::Leave(name) => {
            let Some(place) = client.membership(&name) else { return };
            let room = RoomKey { name, field: None, value: place.echo };
            room::leave(app, client, &Leave { room, spelling: place.spelling }).map(drop)
        }
    };
    if let Err(refusal) = done {
        tracing::warn!(client = %client.id, code = refusal.code.as_str(), reason = %refusal.message, "an order for a client was refused");
    }
}
