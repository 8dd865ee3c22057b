//! What backends do to clients, on all nodes: put them into rooms, take them out, disconnect a user.

use std::{collections::HashSet, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    context::Context, lost_clients, membership_command::MembershipCommand, queries::Coverage,
};
use crate::{
    broker::{
        cluster::Answers,
        survey::{Membership, Selection, Survey, Target},
    },
    hub::Client,
    protocol::{
        names::{RoomName, UserId},
        refusal::{Code, Refusal},
    },
};

/// How long the answer waits for the clients' inboxes. A change that waits for longer is carried out all the
/// same.
const WITHIN: Duration = Duration::from_millis(700);

/// The reason for which clients are disconnected that an emitter selects: Socket.IO's own.
const BY_BACKEND: &str = "server namespace disconnect";

/// What was done to clients.
#[derive(Debug)]
pub struct Affected {
    /// How many there were.
    pub clients: usize,
    /// Whether all nodes were asked.
    pub coverage: Coverage,
}

/// What was done on one node.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Part {
    /// The clients for which it was done.
    clients: usize,
    /// The code and message of a client's refusal.
    refused: Option<(String, String)>,
}

impl Part {
    fn add(&mut self, other: Self) {
        self.clients += other.clients;
        self.refused = self.refused.take().or(other.refused);
    }

    fn refusal(&self) -> Option<Refusal> {
        let (code, message) = self.refused.clone()?;
        let code = Code::ALL.into_iter().find(|known| known.as_str() == code);
        Some(Refusal::new(code.unwrap_or(Code::Unavailable), message))
    }
}

/// Changes the memberships of a client or of a user's clients. When this returns they are changed, unless a
/// client's earlier events take too long.
///
/// # Errors
/// `not_found` for a client that is not connected, `unavailable` if it may be on a node that did not answer.
/// `too_many_rooms` or `unavailable` if every client was refused.
pub async fn change(context: &Context, change: Membership) -> Result<Affected, Refusal> {
    let mut part = change_here(context, &change).await;
    let is_found = part.clients > 0 || part.refused.is_some();
    let elsewhere = match &change.target {
        Target::Client(_) if is_found => Answers::none(),
        _ => context.broker.survey::<Part>(&Survey::Membership(change.clone()), None).await,
    };
    let coverage = Coverage::of(&elsewhere);
    let (is_partial, Answers { answers, .. }) = (elsewhere.is_partial(), elsewhere);
    for answer in answers {
        part.add(answer);
    }
    if part.clients == 0 {
        if let Some(refusal) = part.refusal() {
            return Err(refusal);
        }
        if let Target::Client(client) = &change.target {
            let unknown =
                Refusal::new(Code::NotFound, format!("Client {client} is not connected there"));
            let answers = Answers::<()> { away: is_partial, ..Answers::none() };
            return Err(answers.or_unreachable(unknown));
        }
    }
    Ok(Affected { clients: part.clients, coverage })
}

/// The same for the clients of this node.
pub async fn change_here(context: &Context, change: &Membership) -> Part {
    let rooms: Arc<[_]> = change.rooms.as_slice().into();
    let command = if change.joins {
        MembershipCommand::Join { rooms, is_granted: true }
    } else {
        MembershipCommand::Leave { rooms }
    };
    if !change.joins {
        // Whoever is away does not come back to a room that it was put out of, nor to anything else.
        lost_clients::end_those(context, |client| {
            let is_meant = match &change.target {
                Target::User(user) => client.user().as_ref() == Some(user),
                Target::Client(id) => client.id == *id,
                Target::Selected(selection) => is_selected(client, selection),
            };
            is_meant && change.rooms.iter().any(|room| client.is_in(room.as_str()))
        });
    }
    let mut waiting = Vec::new();
    for client in clients(context, change) {
        let (done, told) = oneshot::channel();
        if (context.change_membership)(&client, command.clone(), done) {
            waiting.push(told);
        }
    }
    let (mut part, deadline) = (Part::default(), Instant::now() + WITHIN);
    for told in waiting {
        match timeout_at(deadline, told).await {
            Ok(Ok(Ok(()))) | Err(_) => part.clients += 1,
            Ok(Ok(Err(Refusal { code, message, .. }))) => {
                part.refused = Some((code.as_str().to_owned(), message.into_owned()));
            }
            // The client has gone.
            Ok(Err(_)) => {}
        }
    }
    part
}

/// The clients of this node that are meant. Where no namespace is given, a user's are those of `/`, and a
/// client is found wherever it is, first in `/`.
fn clients(context: &Context, change: &Membership) -> Vec<Arc<Client>> {
    let is_in = |client: &Arc<Client>, path: &str| *client.namespace.path == *path;
    let path = change.namespace.as_deref();
    match &change.target {
        Target::User(user) => {
            let mut clients = context.registry.users.clients(user);
            clients.retain(|client| is_in(client, path.unwrap_or("/")));
            clients
        }
        Target::Client(id) => {
            let mut clients = context.registry.clients(id);
            clients.retain(|client| path.is_none_or(|path| is_in(client, path)));
            let first = clients.iter().position(|client| is_in(client, "/")).unwrap_or(0);
            clients.into_iter().nth(first).into_iter().collect()
        }
        Target::Selected(selection) => selected(context, selection),
    }
}

/// The clients of this node that are selected, each once.
fn selected(context: &Context, selection: &Selection) -> Vec<Arc<Client>> {
    let Some(namespace) = context.registry.namespace(&selection.namespace) else {
        return Vec::new();
    };
    let mut found = if selection.rooms.is_empty() { namespace.clients() } else { Vec::new() };
    let mut seen = HashSet::new();
    for room in &selection.rooms {
        let by_id = room.as_str().parse().ok().and_then(|id| namespace.client(&id));
        let members = namespace.room(room.as_str()).map(|room| {
            room.lock().members().map(|member| member.client.clone()).collect::<Vec<_>>()
        });
        let clients = by_id.into_iter().chain(members.into_iter().flatten());
        found.extend(clients.filter(|client| seen.insert(client.id.clone())));
    }
    found.retain(|client| !client.is_left_out(&selection.except));
    found
}

/// Whether a client that may be none of this node's any more is selected.
fn is_selected(client: &Client, selection: &Selection) -> bool {
    let is_in =
        |room: &RoomName| client.is_in(room.as_str()) || client.id.as_str() == room.as_str();
    client.namespace.path == selection.namespace
        && (selection.rooms.is_empty() || selection.rooms.iter().any(is_in))
        && !client.is_left_out(&selection.except)
}

/// Disconnects the clients that are selected; where it `closes` their connections, their clients in other
/// namespaces, too.
pub async fn disconnect_selected(
    context: &Context,
    selection: Selection,
    closes: bool,
) -> Affected {
    let here = disconnect_selected_here(context, &selection, closes);
    let question = Survey::DisconnectSelected { selection, closes };
    let elsewhere = context.broker.survey::<usize>(&question, None).await;
    let clients = here + elsewhere.answers.iter().sum::<usize>();
    Affected { clients, coverage: Coverage::of(&elsewhere) }
}

/// The same for this node's clients; returns how many were selected.
pub fn disconnect_selected_here(context: &Context, selection: &Selection, closes: bool) -> usize {
    lost_clients::end_those(context, |client| is_selected(client, selection));
    let selected = selected(context, selection);
    let ended = if closes { &context.registry.on_connections_of(&selected) } else { &selected };
    for client in ended {
        tracing::info!(client = %client.id, namespace = %client.namespace.path, "disconnected by a backend");
        client.disconnect(BY_BACKEND);
    }
    selected.len()
}

/// Disconnects all clients of a user, for this reason.
pub async fn disconnect_user(context: &Context, user: &UserId, reason: &str) -> Affected {
    let here = disconnect_user_here(context, user, reason);
    let question = Survey::DisconnectUser { user: user.clone(), reason: reason.to_owned() };
    let elsewhere = context.broker.survey::<usize>(&question, None).await;
    let clients = here + elsewhere.answers.iter().sum::<usize>();
    Affected { clients, coverage: Coverage::of(&elsewhere) }
}

/// The same for the user's clients on this node; returns how many there were.
pub fn disconnect_user_here(context: &Context, user: &UserId, reason: &str) -> usize {
    lost_clients::end_those(context, |client| client.user().as_ref() == Some(user));
    let clients = context.registry.users.clients(user);
    for client in &clients {
        tracing::info!(client = %client.id, user = %user, reason, "disconnected by a backend");
        client.disconnect(reason.to_owned());
    }
    clients.len()
}
