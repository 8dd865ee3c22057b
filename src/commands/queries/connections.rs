//! Connections.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Coverage,
    page::{Page, Part},
};
use crate::{
    broker::survey::{ConnectionFilter, PageRequest, Survey},
    commands::{context::Context, lost_clients},
    hub::Client,
    protocol::{
        client_id::ClientId,
        refusal::{Code, Refusal},
        timestamp::Timestamp,
    },
};

/// A connected client.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// Its id.
    #[schema(example = "3qwd6cWPZVJxGsnkAAAB")]
    id: String,
    /// Its user, once known.
    #[schema(required, example = "alice")]
    user_id: Option<String>,
    /// Its name.
    #[schema(example = "Alice")]
    client_name: String,
    /// Its namespace.
    #[schema(example = "/chat")]
    namespace: String,
    /// The rooms that it is in.
    rooms: Vec<String>,
    /// `websocket` or `polling`.
    #[schema(example = "websocket")]
    transport: String,
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
    fn of(context: &Context, client: &Client) -> Self {
        let mut rooms = client.rooms().iter().map(ToString::to_string).collect::<Vec<_>>();
        rooms.sort_unstable();
        Self {
            id: client.id.to_string(),
            user_id: client.user().map(|user| user.to_string()),
            client_name: client.name.to_string(),
            namespace: client.namespace.path.to_string(),
            rooms,
            transport: client.sender.transport().to_owned(),
            connected_at: client.connected_at,
            last_activity: client.last_activity(),
            node: context.node.clone(),
        }
    }
}

/// The connections of all nodes.
pub async fn connections(
    context: &Context,
    wanted: &ConnectionFilter,
    page: &PageRequest,
) -> Page<Connection> {
    let question = Survey::Connections { wanted: wanted.clone(), page: page.clone() };
    let elsewhere = context.broker.survey(&question, None).await;
    // A connection is on one node only: there is nothing to merge.
    Page::of(connections_here(context, wanted, page), elsewhere, page, |_, _| {})
}

/// The connections of this node.
pub fn connections_here(
    context: &Context,
    wanted: &ConnectionFilter,
    page: &PageRequest,
) -> Part<Connection> {
    let namespaces = context.registry.namespaces().into_iter();
    let namespaces = namespaces
        .filter(|namespace| wanted.namespace.as_ref().is_none_or(|path| *path == namespace.path));
    let clients = namespaces
        .flat_map(|namespace| namespace.clients())
        .filter(|client| {
            wanted.user.as_ref().is_none_or(|user| client.user().as_ref() == Some(user))
        })
        .filter(|client| wanted.room.as_ref().is_none_or(|room| client.is_in(room.as_str())))
        .map(|client| (format!("{} {}", client.id, client.namespace.path), client))
        .collect();
    Part::of(clients, page, |client| Connection::of(context, &client))
}

/// The connection of this id: the one in `namespace`, or the first where none is named.
///
/// # Errors
/// `not_found`; `unavailable` if a node did not answer.
pub async fn connection(
    context: &Context,
    id: &str,
    namespace: Option<&str>,
) -> Result<Connection, Refusal> {
    let client = id.parse().map_err(|_| unknown(id))?;
    if let Some(found) = connection_here(context, &client, namespace) {
        return Ok(found);
    }
    let question = Survey::Connection { client, namespace: namespace.map(Into::into) };
    let mut found = context.broker.survey::<Option<Connection>>(&question, None).await;
    let connection = found.answers.iter_mut().find_map(Option::take);
    connection.ok_or_else(|| found.or_unreachable(unknown(id)))
}

/// The same, on this node only.
pub fn connection_here(
    context: &Context,
    id: &ClientId,
    namespace: Option<&str>,
) -> Option<Connection> {
    let clients = context.registry.clients(id);
    let wanted = clients
        .iter()
        .find(|client| namespace.is_none_or(|wanted| *wanted == *client.namespace.path));
    wanted.map(|client| Connection::of(context, client))
}

/// Those of the clients that are on no node.
pub async fn missing(context: &Context, clients: &[ClientId]) -> (Vec<ClientId>, Coverage) {
    let missing = missing_here(context, clients);
    if missing.is_empty() {
        return (missing, Coverage::default());
    }
    let question = Survey::Missing { clients: missing.clone() };
    let elsewhere = context.broker.survey::<Vec<ClientId>>(&question, None).await;
    let coverage = Coverage::of(&elsewhere);
    let is_nowhere =
        |client: &ClientId| elsewhere.answers.iter().all(|missing| missing.contains(client));
    (missing.into_iter().filter(is_nowhere).collect(), coverage)
}

/// Those of the clients that are not on this node.
pub fn missing_here(context: &Context, clients: &[ClientId]) -> Vec<ClientId> {
    clients.iter().filter(|id| context.registry.clients(id).is_empty()).cloned().collect()
}

/// Ends the client of this id. Other namespaces of its connection go on.
///
/// # Errors
/// `not_found`; `unavailable` if a node did not answer.
pub async fn disconnect(context: &Context, id: &str) -> Result<(), Refusal> {
    let client = id.parse().map_err(|_| unknown(id))?;
    if disconnect_here(context, &client) {
        return Ok(());
    }
    let told = context.broker.survey::<bool>(&Survey::Disconnect { client }, None).await;
    if told.answers.contains(&true) { Ok(()) } else { Err(told.or_unreachable(unknown(id))) }
}

/// Ends the client of this id if it is on this node; returns whether it is.
pub fn disconnect_here(context: &Context, id: &ClientId) -> bool {
    lost_clients::end_those(context, |client| client.id == *id);
    let clients = context.registry.clients(id);
    for client in &clients {
        tracing::info!(client = %client.id, namespace = %client.namespace.path, "disconnected by a backend");
        client.sender.disconnect();
    }
    !clients.is_empty()
}

fn unknown(id: &str) -> Refusal {
    Refusal::new(Code::NotFound, format!("Client {id} is not connected"))
}
