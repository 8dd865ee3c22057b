//! `presenceUpdate`, and who is told that users come, go and change their status.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde_json::json;

use super::{
    context::Context,
    event::{Caller, ClientEvent, Event, Feature, Incoming, Outcome, ServerEvent},
    publish::success,
    schema::{object, reference, text, time},
};
use crate::{
    broker::cluster::{self, News, NodeMessage},
    config::PresenceScope,
    hub::{Client, Namespace, Status, packet::Packet},
    protocol::{
        audience::Except,
        client_id::ClientId,
        names::{RoomName, UserId},
        refusal::{Code, Refusal},
        timestamp::Timestamp,
    },
};

const USER_ONLINE: ServerEvent =
    ServerEvent::state("user-online", "UserMove", "The first client of a user has connected.")
        .to("Every client, or as `PRESENCE_SCOPE` says.")
        .example(r#"{"userId":"alice","timestamp":"2026-01-01T12:00:00.000Z"}"#);
const USER_OFFLINE: ServerEvent = ServerEvent::state(
    "user-offline",
    "UserMove",
    "The last client of a user has disconnected, `PRESENCE_GRACE` ago.",
)
.to("Every client, or as `PRESENCE_SCOPE` says.")
.example(r#"{"userId":"alice","timestamp":"2026-01-01T12:00:00.000Z"}"#);
const PRESENCE_UPDATE: ServerEvent = ServerEvent::state(
    "presenceUpdate",
    "PresenceChange",
    "A user has set its status, or has gone offline.",
)
.to("Every client, the sender included, or as `PRESENCE_SCOPE` says.")
.example(r#"{"userId":"alice","status":"away","lastActive":"2026-01-01T12:00:00.000Z"}"#);

pub(super) const FEATURE: Feature = Feature {
    client: &[ClientEvent::new::<PresenceUpdate>(
        "presenceUpdate",
        "Presence",
        "Success",
        "Sets the user's status. Others get `presenceUpdate`. The client needs a user.",
    )
    .example(r#"{"status":"away"}"#)
    .refusals(&[Code::Unauthorized])],
    server: &[USER_ONLINE, USER_OFFLINE, PRESENCE_UPDATE],
    schemas: || {
        let user = || text("The user.");
        vec![
            (
                "Status",
                json!({"enum": ["online", "away", "busy", "offline"], "description": "The status of a user."}),
            ),
            ("Presence", object("The status of a user.", &[("status", reference("Status"))])),
            (
                "UserMove",
                object(
                    "A user came online or went offline.",
                    &[("userId", user()), ("timestamp", time())],
                ),
            ),
            (
                "PresenceChange",
                object(
                    "The status of a user.",
                    &[("userId", user()), ("status", reference("Status")), ("lastActive", time())],
                ),
            ),
        ]
    },
};

/// A user sets its status.
struct PresenceUpdate(Status);

impl Event for PresenceUpdate {
    fn parse(incoming: &Incoming<'_>) -> Result<Self, Refusal> {
        let object = incoming.object()?;
        // Only a string: serde takes `{"online":null}` for a variant, too.
        let status = object.get("status").filter(|status| status.get().starts_with('"'));
        status
            .and_then(|status| serde_json::from_str(status.get()).ok())
            .map(Self)
            .ok_or_else(|| Refusal::invalid("status must be one of online, away, busy, offline"))
    }

    /// Tells everyone who may see the user. Refused as `unauthorized` without a user.
    async fn run(self, caller: Caller) -> Outcome {
        let (context, client, status) = (&caller.context, &caller.client, self.0);
        let unknown =
            || Refusal::new(Code::Unauthorized, "presence needs a user: authenticate first");
        let user = client.user().ok_or_else(unknown)?;
        let last_active = context.registry.users.set_status(&user, status).ok_or_else(unknown)?;
        let mut rooms = Vec::new();
        if let Some(cluster) = &context.cluster {
            cluster.user_says(&user, status);
            if is_told_by_rooms(context) {
                // While Redis is away, clients on other nodes are not told anyway.
                rooms = cluster.user(&user).await.map(|user| user.rooms).unwrap_or_default();
            }
        }
        let packet = update(&user, status, last_active);
        tell(context, &packet, News { rooms, own: Some(user), subject: None });
        Ok(Some(success()))
    }
}

/// Announces that a user has come online, by the client `subject`.
pub fn tell_online(context: &Context, user: &UserId, subject: Option<(ClientId, Arc<str>)>) {
    let packet = movement(USER_ONLINE.name, user);
    let own = context.registry.users.clients(user);
    let own = own.iter().filter(|client| subject.as_ref().is_none_or(|(id, _)| *id == client.id));
    let rooms = own.flat_map(|client| places(shared_rooms(client))).collect();
    tell(context, &packet, News { rooms, own: None, subject });
}

/// Announces that a user has gone offline; `rooms` are those in which others saw it.
pub fn tell_offline(
    context: &Context,
    user: &UserId,
    last_active: Timestamp,
    rooms: Vec<cluster::Place>,
) {
    let news = News { rooms, ..News::default() };
    tell(context, &update(user, Status::Offline, last_active), news.clone());
    tell(context, &movement(USER_OFFLINE.name, user), news);
}

fn movement(event: &'static str, user: &UserId) -> Packet {
    Packet::of(event, &json!({"userId": user, "timestamp": Timestamp::now()}))
}

fn update(user: &UserId, status: Status, last_active: Timestamp) -> Packet {
    let update = json!({"userId": user, "status": status, "lastActive": last_active});
    Packet::of(PRESENCE_UPDATE.name, &update)
}

/// A client has entered or left a room: other nodes may need this to decide who sees its user.
pub fn moved(context: &Context, client: &Client) {
    let Some(cluster) = context.cluster.as_ref().filter(|_| is_told_by_rooms(context)) else {
        return;
    };
    if let Some(user) = client.user() {
        cluster.user_moved(&user);
    }
}

/// Whether some clients see a user only if they share a room with it.
fn is_told_by_rooms(context: &Context) -> bool {
    match context.config.presence_scope {
        PresenceScope::Rooms => true,
        PresenceScope::Off => false,
        PresenceScope::All => {
            context.registry.namespaces().iter().any(|namespace| is_crowded(context, namespace))
        }
    }
}

fn is_crowded(context: &Context, namespace: &Namespace) -> bool {
    let max = context.config.announce_max;
    // Clients that are each in a namespace of their own, by a pattern, are a crowd, too.
    let is_over = |count: usize| max > 0 && count as u64 > max;
    is_over(namespace.connections()) || is_over(context.registry.open_count())
}

/// A room in its namespace.
pub type Place = (Arc<Namespace>, RoomName);

/// The rooms in which others see this client.
pub fn shared_rooms(client: &Client) -> Vec<Place> {
    client.rooms().into_iter().map(|room| (client.namespace.clone(), room)).collect()
}

pub(super) fn places(rooms: Vec<Place>) -> Vec<cluster::Place> {
    rooms.into_iter().map(|(namespace, room)| (namespace.path.clone(), room)).collect()
}

/// Tells those who may see a user, on all nodes.
fn tell(context: &Context, packet: &Packet, news: News) {
    tell_here(context, packet, &news);
    if let Some(cluster) =
        context.cluster.as_ref().filter(|_| context.config.presence_scope != PresenceScope::Off)
    {
        cluster.tell(&NodeMessage::Presence(news), Some(packet));
    }
}

/// Tells those on this node who may see a user, except the subject itself: everyone, or the members of its
/// rooms and its own clients, as `PRESENCE_SCOPE` says. A crowded namespace never tells everyone.
pub fn tell_here(context: &Context, packet: &Packet, news: &News) {
    let everyone = |namespace: &Namespace| {
        context.config.presence_scope == PresenceScope::All && !is_crowded(context, namespace)
    };
    if context.config.presence_scope == PresenceScope::Off {
        return;
    }
    let own =
        news.own.as_ref().map(|user| context.registry.users.clients(user)).unwrap_or_default();
    let seen_in = own.iter().flat_map(|client| places(shared_rooms(client)));
    let rooms = seen_in.chain(news.rooms.iter().cloned()).collect::<HashSet<_>>();
    for namespace in context.registry.namespaces() {
        // A connection of Socket.IO 1 has the same id in every namespace, but is another client in each.
        let subject = news.subject.as_ref().filter(|(_, path)| *path == namespace.path);
        let except = Except::client(subject.map(|(id, _)| id.clone()));
        if everyone(&namespace) {
            context.broker.here.to_namespace(&namespace, packet, &except);
            continue;
        }
        let mut audience = own
            .iter()
            .filter(|client| client.namespace.path == namespace.path)
            .map(|client| (client.id.clone(), client.clone()))
            .collect::<HashMap<_, _>>();
        for (_, name) in rooms.iter().filter(|(path, _)| *path == namespace.path) {
            let Some(room) = namespace.room(name.as_str()) else { continue };
            let members = room.lock();
            audience.extend(
                members.members().map(|member| (member.client.id.clone(), member.client.clone())),
            );
        }
        let audience = audience.into_values().collect::<Vec<_>>();
        context.broker.here.to_clients(&audience, packet, &except);
    }
}
