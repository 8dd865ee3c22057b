//! Surveys: questions of one node to all others.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::protocol::{
    audience::Except,
    client_id::ClientId,
    names::{RoomName, UserId},
};

/// A survey of all other nodes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Survey {
    /// Send the packet to this user's clients: which ones did it reach?
    ToUser {
        /// The user.
        user: UserId,
        /// Who is left out.
        except: Except,
    },
    /// Send the packet to this client: was it there?
    ToClient {
        /// The client.
        client: ClientId,
        /// Only in this namespace, if set.
        namespace: Option<Arc<str>>,
    },
    /// Disconnect this client: was it there?
    Disconnect {
        /// The client.
        client: ClientId,
    },
    /// The connection of this id.
    Connection {
        /// The client.
        client: ClientId,
        /// Only in this namespace, if set.
        namespace: Option<Arc<str>>,
    },
    /// Which of these clients are not there?
    Missing {
        /// The clients.
        clients: Vec<ClientId>,
    },
    /// A part of the list of connections.
    Connections {
        /// Which of them.
        wanted: ConnectionFilter,
        /// Which part.
        page: PageRequest,
    },
    /// A part of the list of rooms.
    Rooms {
        /// Their namespace.
        namespace: Arc<str>,
        /// Which part.
        page: PageRequest,
    },
    /// A room and its members.
    Room {
        /// Its namespace.
        namespace: Arc<str>,
        /// Its name.
        room: RoomName,
    },
    /// When a user's clients last sent something.
    LastActivity {
        /// The user.
        user: UserId,
    },
    /// Acknowledge a client's event with the packet's arguments: was that waited for?
    Acknowledge {
        /// The id of the request about the event.
        id: String,
    },
    /// The number of connections and rooms.
    Counts,
    /// Change memberships: of how many clients?
    Membership(Membership),
    /// Disconnect a user's clients: how many were there?
    DisconnectUser {
        /// The user.
        user: UserId,
        /// Why.
        reason: String,
    },
    /// Disconnect these clients: how many were there?
    DisconnectSelected {
        /// The clients.
        selection: Selection,
        /// Whether their connections end, and with them their clients in other namespaces.
        closes: bool,
    },
    /// Read the revocations anew: they are in force then.
    Revocations,
    /// How many clients are meant?
    Addressees(Addressees),
    /// Send the packet to these clients: what do they acknowledge?
    AskClients {
        /// The clients.
        to: Addressees,
        /// How long they may take.
        wait: Duration,
    },
    /// Hold the session that this secret names, for a client that has come to the asking node: what was it?
    HoldSession {
        /// What the asking node calls the move.
        r#move: String,
        /// The namespace that the client connects to.
        namespace: Arc<str>,
        /// The secret.
        pid: String,
        /// The newest offset that the client has.
        offset: Option<String>,
        /// Whose it must be.
        owner: Owner,
    },
    /// Hand over the session that is held for this move: what has its client missed?
    TakeSession {
        /// The move.
        r#move: String,
    },
    /// The next part of what the client of a session that was handed over has missed.
    SessionPart {
        /// The move.
        r#move: String,
    },
    /// How many clients read what was last sent to a room or a namespace, and how many of them are behind.
    Readers {
        /// The namespace.
        namespace: Arc<str>,
        /// The room; `None` for the whole namespace.
        room: Option<RoomName>,
    },
}

/// Whose a session must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owner {
    /// This user's; nobody's, if there is none.
    User(Option<UserId>),
    /// That is not known yet.
    Unknown,
}

/// A change of memberships that a backend asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Membership {
    /// Whose memberships.
    pub target: Target,
    /// The namespace of the rooms, if it was given.
    pub namespace: Option<Arc<str>>,
    /// The rooms.
    pub rooms: Vec<RoomName>,
    /// Whether they are joined, and not left.
    pub joins: bool,
}

/// The clients that a backend means.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Target {
    /// All clients of a user.
    User(UserId),
    /// One client.
    Client(ClientId),
    /// Those of a namespace that are selected.
    Selected(Selection),
}

/// Selects clients of a namespace, as Socket.IO does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Selection {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The members of these rooms, each of which may also be a client's id; all clients if there are none.
    pub rooms: Vec<RoomName>,
    /// Who is left out.
    pub except: Except,
}

/// The clients that an event asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Addressees {
    /// The namespace of the rooms, or of everyone.
    pub namespace: Arc<str>,
    /// Every client of the namespace.
    pub everyone: bool,
    /// The members of these rooms.
    pub rooms: Vec<RoomName>,
    /// The clients of these users, in all namespaces.
    pub users: Vec<UserId>,
    /// These clients, in all namespaces.
    pub clients: Vec<ClientId>,
    /// Who is left out.
    pub except: Except,
}

/// Selects connections; each field that is set narrows the selection.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ConnectionFilter {
    /// The path of their namespace.
    pub namespace: Option<Arc<str>>,
    /// Their user.
    pub user: Option<UserId>,
    /// A room that they are in.
    pub room: Option<RoomName>,
}

/// Selects one page of a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PageRequest {
    /// The greatest number of items.
    pub limit: usize,
    /// The key of the last item of the page before.
    pub after: Option<String>,
}
