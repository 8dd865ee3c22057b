//! Who and what is there: what a backend may see of clients, rooms and users.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    app::App,
    clock::Timestamp,
    direct, history,
    names::{RoomName, UserId},
    refusal::{Code, Refusal},
    registry::{self, Client, Namespace, Status},
};

/// Which part of a list is wanted.
#[derive(Debug)]
pub struct PageRequest {
    /// The greatest number of items.
    pub limit: usize,
    /// The key of the last item of the page before.
    pub after: Option<String>,
}

/// A part of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// The items, in an order that stays.
    pub items: Vec<T>,
    /// The number of items of all pages.
    pub total: usize,
    /// What to give as `cursor` for the next page; `null` on the last one.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// The key that a cursor stands for.
pub fn decode_cursor(cursor: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()
}

impl<T> Page<T> {
    /// The items after the key of the request, in the order of their keys. Keys instead of numbers,
    /// so that what comes and goes meanwhile makes nobody miss an item that stays.
    fn of<S>(all: Vec<(String, S)>, request: &PageRequest, show: impl Fn(S) -> T) -> Self {
        let total = all.len();
        let after = |key: &String| request.after.as_ref().is_none_or(|after| key > after);
        let mut rest = all.into_iter().filter(|(key, _)| after(key)).collect::<Vec<_>>();
        rest.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let is_last = rest.len() <= request.limit;
        rest.truncate(request.limit);
        let last = rest.last().filter(|_| !is_last);
        let next_cursor = last.map(|(key, _)| URL_SAFE_NO_PAD.encode(key));
        Self { items: rest.into_iter().map(|(_, item)| show(item)).collect(), total, next_cursor }
    }
}

/// A client that is connected.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// Its id.
    #[schema(example = "3qwd6cWPZVJxGsnkAAAB")]
    id: String,
    /// Its user, once known.
    #[schema(required, example = "alice")]
    user_id: Option<String>,
    /// What it is called.
    #[schema(example = "Alice")]
    client_name: String,
    /// Its namespace.
    #[schema(example = "/chat")]
    namespace: String,
    /// The rooms that it is in.
    rooms: Vec<String>,
    /// `websocket` or `polling`.
    #[schema(example = "websocket")]
    transport: &'static str,
    /// When it connected.
    #[schema(value_type = String, format = DateTime)]
    connected_at: Timestamp,
    /// When it last sent something.
    #[schema(value_type = String, format = DateTime)]
    last_activity: Timestamp,
    /// The node that it is connected to.
    node: String,
}

impl Connection {
    fn of(app: &App, client: &Client) -> Self {
        let mut rooms = client.rooms().iter().map(ToString::to_string).collect::<Vec<_>>();
        rooms.sort_unstable();
        Self {
            id: client.id.to_string(),
            user_id: client.user().map(|user| user.to_string()),
            client_name: client.name.to_string(),
            namespace: client.namespace.path.to_string(),
            rooms,
            transport: client.outlet.transport(),
            connected_at: client.connected_at,
            last_activity: client.last_activity(),
            node: app.node.clone(),
        }
    }
}

/// Which connections are wanted: those for which all holds that is given.
#[derive(Debug, Default)]
pub struct Wanted {
    /// They are in this namespace.
    pub namespace: Option<Arc<Namespace>>,
    /// They are of this user.
    pub user: Option<UserId>,
    /// They are in this room.
    pub room: Option<RoomName>,
}

/// The connections.
pub fn connections(app: &App, wanted: &Wanted, page: &PageRequest) -> Page<Connection> {
    let namespaces = match &wanted.namespace {
        Some(namespace) => std::slice::from_ref(namespace),
        None => app.registry.namespaces(),
    };
    let clients = namespaces.iter().flat_map(|namespace| namespace.clients());
    let clients = clients
        .filter(|client| {
            wanted.user.as_ref().is_none_or(|user| client.user().as_ref() == Some(user))
        })
        .filter(|client| wanted.room.as_ref().is_none_or(|room| client.is_in(room.as_str())))
        .map(|client| (format!("{} {}", client.id, client.namespace.path), client))
        .collect();
    Page::of(clients, page, |client| Connection::of(app, &client))
}

/// The connection of this id: the one in `namespace`, or the first where none is named.
///
/// # Errors
/// `not_found`.
pub fn connection(
    app: &App,
    id: &str,
    namespace: Option<&Namespace>,
) -> Result<Connection, Refusal> {
    let clients = clients(app, id)?;
    let wanted = clients
        .iter()
        .find(|client| namespace.is_none_or(|wanted| wanted.path == client.namespace.path));
    wanted.map(|client| Connection::of(app, client)).ok_or_else(|| unknown(id))
}

/// Ends the connections of this id, in all namespaces.
///
/// # Errors
/// `not_found`.
pub fn disconnect(app: &App, id: &str) -> Result<(), Refusal> {
    for client in clients(app, id)? {
        tracing::info!(client = %client.id, namespace = %client.namespace.path, "disconnected by a backend");
        client.outlet.disconnect();
    }
    Ok(())
}

fn clients(app: &App, id: &str) -> Result<Vec<Arc<Client>>, Refusal> {
    let clients = id.parse().map(|id| app.registry.clients(id)).unwrap_or_default();
    if clients.is_empty() { Err(unknown(id)) } else { Ok(clients) }
}

fn unknown(id: &str) -> Refusal {
    Refusal::new(Code::NotFound, format!("Client {id} is not connected"))
}

/// A room.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Room {
    /// Its name.
    #[schema(example = "room-7")]
    name: String,
    /// Its namespace.
    #[schema(example = "/")]
    namespace: String,
    /// The number of its members.
    connections: usize,
    /// When its first member came; `null` where there is only its history.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    created_at: Option<Timestamp>,
    /// When a message or a signal last came; `null` where there is only its history.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    last_activity: Option<Timestamp>,
}

impl Room {
    fn of(room: &registry::Room) -> Self {
        Self {
            name: room.name.to_string(),
            namespace: room.namespace.to_string(),
            connections: room.lock().members().len(),
            created_at: Some(room.created_at),
            last_activity: Some(room.last_activity()),
        }
    }
}

/// A room, with its members and where its history stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct RoomDetail {
    #[serde(flatten)]
    room: Room,
    /// Who is in it.
    members: Vec<Member>,
    /// The offset of its newest message; 0 where none is kept.
    offset: u64,
    /// Changes only if its history was lost; `null` where there is none.
    #[schema(required)]
    epoch: Option<String>,
}

/// A client in a room.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Its id.
    #[schema(example = "3qwd6cWPZVJxGsnkAAAB")]
    client_id: String,
    /// Its user, once known.
    #[schema(required, example = "alice")]
    user_id: Option<String>,
    /// What it is called.
    #[schema(example = "Alice")]
    client_name: String,
}

/// The rooms of a namespace that have a member.
pub fn rooms(namespace: &Namespace, page: &PageRequest) -> Page<Room> {
    let rooms = namespace.rooms().into_iter().map(|room| (room.name.to_string(), room)).collect();
    Page::of(rooms, page, |room: Arc<registry::Room>| Room::of(&room))
}

/// A room that has a member or a history.
///
/// # Errors
/// `not_found`; `unavailable` while the history cannot be read.
pub async fn room(
    app: &App,
    namespace: &Namespace,
    name: &RoomName,
) -> Result<RoomDetail, Refusal> {
    let position = history::position(app, namespace, name).await?;
    let live = namespace.room(name.as_str());
    if live.is_none() && position.as_ref().is_none_or(|(head, _)| *head == 0) {
        let message = format!(
            "nobody is in the room \"{name}\" of {}, and it has no history",
            namespace.path
        );
        return Err(Refusal::new(Code::NotFound, message));
    }
    let gone = || Room {
        name: name.to_string(),
        namespace: namespace.path.to_string(),
        connections: 0,
        created_at: None,
        last_activity: None,
    };
    let members = live.as_ref().map(|room| members(room)).unwrap_or_default();
    let mut room = live.as_ref().map_or_else(gone, |room| Room::of(room));
    // Members come and go: the number is that of the list.
    room.connections = members.len();
    let (offset, epoch) = position.map_or((0, None), |(head, epoch)| (head, Some(epoch)));
    Ok(RoomDetail { room, members, offset, epoch })
}

fn members(room: &registry::Room) -> Vec<Member> {
    let clients = room.lock().members().map(|member| member.client.clone()).collect::<Vec<_>>();
    let member = |client: Arc<Client>| Member {
        client_id: client.id.to_string(),
        user_id: client.user().map(|user| user.to_string()),
        client_name: client.name.to_string(),
    };
    clients.into_iter().map(member).collect()
}

/// A user's presence.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Presence {
    /// The user.
    #[schema(example = "alice")]
    user_id: String,
    /// Whether it has a client, or had one a moment ago.
    online: bool,
    /// What it says of itself: `online`, `away`, `busy` or `offline`.
    #[schema(value_type = String, example = "online")]
    status: Status,
    /// When one of its clients last sent something; `null` where that is not known.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    last_active: Option<Timestamp>,
    /// The ids of its clients, in all namespaces.
    connections: Vec<String>,
    /// The number of messages that wait for it.
    queued: u64,
}

/// The presence of a user, known or not.
///
/// # Errors
/// `unavailable` while the queue cannot be read.
pub async fn user(app: &App, id: &UserId) -> Result<Presence, Refusal> {
    let queued = direct::queue_len(app, id).await?;
    let user = app.registry.users.get(id.as_str());
    let ids =
        |user: &registry::User| user.clients.iter().map(|client| client.id.to_string()).collect();
    Ok(Presence {
        user_id: id.to_string(),
        online: user.is_some(),
        status: user.as_ref().map_or(Status::Offline, |user| user.status),
        last_active: match &user {
            Some(user) => Some(user.last_active),
            None => app.registry.users.last_seen(id.as_str()),
        },
        connections: user.as_ref().map(ids).unwrap_or_default(),
        queued,
    })
}

/// Counts over all nodes and namespaces.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Clients that are connected.
    connections: usize,
    /// Rooms with a member.
    rooms: usize,
    /// Users that are online.
    users: usize,
    /// Nodes.
    nodes: usize,
    /// Seconds since this node started.
    uptime_seconds: i64,
    /// The server's version.
    version: &'static str,
}

/// The counts at this moment.
pub fn stats(app: &App) -> Stats {
    Stats {
        connections: app.registry.connections(),
        rooms: app.registry.namespaces().iter().map(|namespace| namespace.room_count()).sum(),
        users: app.registry.users.count(),
        nodes: 1,
        uptime_seconds: (Timestamp::now().as_millis() - app.started_at.as_millis()) / 1000,
        version: env!("CARGO_PKG_VERSION"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pages_put_together_are_the_list_in_order(
            keys in proptest::collection::btree_set("\\PC{1,5}", 0..30),
            limit in 1_usize..12,
        ) {
            let all = keys.iter().rev().map(|key| (key.clone(), key.clone())).collect::<Vec<_>>();
            let mut request = PageRequest { limit, after: None };
            let mut seen = Vec::new();
            loop {
                let page = Page::of(all.clone(), &request, |key| key);
                prop_assert!(page.items.len() <= limit);
                prop_assert_eq!(page.total, keys.len());
                seen.extend(page.items);
                let Some(cursor) = page.next_cursor else { break };
                request.after = Some(decode_cursor(&cursor).unwrap());
            }
            prop_assert_eq!(seen, keys.into_iter().collect::<Vec<_>>());
        }
    }
}
