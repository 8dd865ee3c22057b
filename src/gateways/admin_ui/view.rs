//! Clients as operators see them.

use serde::Serialize;
use serde_json::{Value, json};

use super::redact;
use crate::{
    hub::Client,
    protocol::names::{RoomName, UserId},
};

/// What may change of a client while it is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Changing {
    /// `websocket` or `polling`: an upgrade changes it.
    pub transport: &'static str,
    user: Option<UserId>,
}

impl Changing {
    /// The state at this moment.
    pub(super) fn of(client: &Client) -> Self {
        Self { transport: client.sender.transport(), user: client.user() }
    }
}

/// A client, as in `all_sockets` and `socket_connected`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    id: String,
    client_id: String,
    transport: &'static str,
    nsp: String,
    data: Value,
    handshake: Value,
    rooms: Vec<String>,
}

impl Shown {
    /// The client in these rooms; as everywhere in Socket.IO, it is also in the room of its own id.
    pub(super) fn new<'a>(
        client: &Client,
        changing: &Changing,
        rooms: impl Iterator<Item = &'a RoomName>,
    ) -> Self {
        let id = client.id.to_string();
        Self {
            // Names the connection, which several clients may share; the session's id is a secret.
            client_id: format!("connection-{}", client.sender.account().id()),
            transport: changing.transport,
            nsp: client.namespace.path.to_string(),
            data: data(client, changing),
            handshake: handshake(client),
            rooms: std::iter::once(id.clone()).chain(rooms.map(ToString::to_string)).collect(),
            id,
        }
    }
}

/// The argument of `socket_updated`: what has changed.
pub(super) fn update(client: &Client, changing: &Changing) -> Value {
    json!({
        "id": client.id.as_str(),
        "nsp": &*client.namespace.path,
        "transport": changing.transport,
        "data": data(client, changing),
    })
}

fn data(client: &Client, changing: &Changing) -> Value {
    json!({
        "clientName": &*client.name,
        "userId": changing.user.as_ref().map(UserId::as_str),
        "protocol": client.protocol,
    })
}

/// The request that opened the connection, without its secrets.
fn handshake(client: &Client) -> Value {
    let address = client.address.map(|address| address.to_canonical().to_string());
    let (issued, time) = (client.connected_at.as_millis(), client.connected_at);
    let socket = client.sender.socket();
    let Some(request) = socket.as_ref().map(|socket| socket.req_parts()) else {
        return json!({"address": address, "headers": {}, "query": {}, "issued": issued, "time": time});
    };
    let forwarded = request.headers.get("x-forwarded-proto");
    json!({
        "address": address,
        "headers": redact::headers(&request.headers),
        "query": redact::query(&request.uri),
        "issued": issued,
        "time": time,
        "secure": forwarded.is_some_and(|scheme| scheme.as_bytes().starts_with(b"https")),
        "url": redact::url(&request.uri),
        "xdomain": request.headers.contains_key("origin"),
    })
}
