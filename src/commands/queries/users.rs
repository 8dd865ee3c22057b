//! Users, and the counts of everything.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Coverage, page::hash};
use crate::{
    broker::{cluster::Cluster, survey::Survey},
    commands::{context::Context, private_message},
    hub::{self, Status},
    protocol::{names::UserId, refusal::Refusal, timestamp::Timestamp},
};

/// A user's presence.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Presence {
    /// The user.
    #[schema(example = "alice")]
    user_id: String,
    /// Whether it has a client, or had one within `PRESENCE_GRACE`.
    online: bool,
    /// Its status: `online`, `away`, `busy` or `offline`.
    #[schema(value_type = String, example = "online")]
    status: Status,
    /// When one of its clients last sent something; `null` if unknown.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    last_active: Option<Timestamp>,
    /// The ids of its clients, in all namespaces.
    connections: Vec<String>,
    /// The number of queued messages.
    queued: u64,
    /// Whether all nodes are in it.
    #[serde(flatten)]
    coverage: Coverage,
}

/// The presence of a user, known or not.
///
/// # Errors
/// `unavailable` while the queue cannot be read, or if the user's nodes are not known.
pub async fn user(context: &Context, id: &UserId) -> Result<Presence, Refusal> {
    let queued = private_message::queue_len(context, id).await?;
    match &context.cluster {
        Some(cluster) => shared_user(context, cluster, id, queued).await,
        None => Ok(user_here(context, id, queued)),
    }
}

fn user_here(context: &Context, id: &UserId, queued: u64) -> Presence {
    let user = context.registry.users.get(id.as_str());
    let ids = |user: &hub::User| user.clients.iter().map(|client| client.id.to_string()).collect();
    Presence {
        user_id: id.to_string(),
        online: user.is_some(),
        status: user.as_ref().map_or(Status::Offline, |user| user.status),
        last_active: match &user {
            Some(user) => Some(user.last_active),
            None => context.registry.users.last_seen(id.as_str()),
        },
        connections: user.as_ref().map(ids).unwrap_or_default(),
        queued,
        coverage: Coverage::default(),
    }
}

async fn shared_user(
    context: &Context,
    cluster: &Cluster,
    id: &UserId,
    queued: u64,
) -> Result<Presence, Refusal> {
    let shared = cluster.user(id).await?;
    // Redis is not written with every event: each node knows when its own clients were last active.
    let elsewhere = shared.clients.keys().filter(|node| **node != context.node).cloned().collect();
    let question = Survey::LastActivity { user: id.clone() };
    let answers = cluster.ask_nodes::<Option<Timestamp>>(elsewhere, &question, None).await?;
    let coverage = Coverage::of(&answers);
    let known = [shared.last_active, last_activity_here(context, id)];
    let last_active = known.into_iter().chain(answers.answers).flatten().max();
    let status = if shared.online { shared.status.unwrap_or_default() } else { Status::Offline };
    Ok(Presence {
        user_id: id.to_string(),
        online: shared.online,
        status,
        last_active,
        connections: shared.clients.into_values().flatten().collect(),
        queued,
        coverage,
    })
}

/// When a client of the user on this node last sent something.
pub fn last_activity_here(context: &Context, user: &UserId) -> Option<Timestamp> {
    context.registry.users.get(user.as_str()).map(|user| user.last_active)
}

/// Counts over all nodes and namespaces.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Connected clients.
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
    /// Whether all nodes are in it.
    #[serde(flatten)]
    coverage: Coverage,
}

/// What one node counts.
#[derive(Debug, Serialize, Deserialize)]
pub struct Counts {
    connections: usize,
    /// The hashes of the rooms: a room with members on several nodes counts once.
    rooms: Vec<u64>,
}

/// What this node counts.
pub fn counts_here(context: &Context) -> Counts {
    let rooms = context.registry.namespaces().into_iter().flat_map(|namespace| namespace.rooms());
    let rooms = rooms.map(|room| hash(&format!("{} {}", room.namespace, room.name)));
    Counts { connections: context.registry.connections(), rooms: rooms.collect() }
}

/// The counts at this moment.
pub async fn stats(context: &Context) -> Stats {
    let elsewhere = context.broker.survey::<Counts>(&Survey::Counts, None).await;
    let mut coverage = Coverage::of(&elsewhere);
    let nodes = 1 + elsewhere.answers.len() + elsewhere.unreachable.len();
    let here = counts_here(context);
    let mut connections = here.connections;
    let mut rooms = here.rooms.into_iter().collect::<HashSet<_>>();
    for counts in elsewhere.answers {
        connections += counts.connections;
        rooms.extend(counts.rooms);
    }
    let users = match &context.cluster {
        Some(cluster) => cluster.user_count().await.ok(),
        None => Some(context.registry.users.count()),
    };
    coverage.partial |= users.is_none();
    Stats {
        connections,
        rooms: rooms.len(),
        users: users.unwrap_or_else(|| context.registry.users.count()),
        nodes,
        uptime_seconds: (Timestamp::now().as_millis() - context.started_at.as_millis()) / 1000,
        version: env!("CARGO_PKG_VERSION"),
        coverage,
    }
}
