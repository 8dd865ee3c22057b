//! Changes of a client's memberships that others ask for. They wait in the client's inbox, behind what the
//! client has sent, as only the inbox changes memberships.

use std::sync::Arc;

use super::{connection::Connection, inbox::Item};
use crate::{
    commands::membership_command::{Done, MembershipCommand},
    hub::Client,
};

/// Puts the command into the client's inbox; returns whether the client is still there to carry it out.
pub fn change_membership(client: &Client, command: MembershipCommand, done: Done) -> bool {
    let socket = client.sender.socket();
    let connection = socket.and_then(|socket| socket.extensions.get::<Arc<Connection>>());
    connection.is_some_and(|connection| {
        connection.inbox().push(&connection, Item::Membership(command, done)).is_ok()
    })
}
