//! Users: who a client is, who is there, and who is told of it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::Serialize;
use socketioxide::socket::Sid;
use tokio::{sync::oneshot, task::AbortHandle, time::timeout};

use crate::{
    auth::{AuthError, Identity},
    broker::cluster::{self, News, Word},
    commands::{context::App, private_message, room},
    config::PresenceScope,
    hub::{Client, Namespace, Session, Status, sender::Packet},
    limits::Who,
    protocol::{
        audience::Except,
        names::{RoomName, UserId},
        payload::Payload,
        refusal::{Code, Refusal},
        timestamp::Timestamp,
    },
};

/// How long an authentication waits until the other nodes can know of it.
const SHARED_WITHIN: Duration = Duration::from_secs(1);

/// What a client says by `authenticate`.
#[derive(Debug)]
pub struct Claim {
    /// Who it says it is.
    pub user: Option<UserId>,
    /// The proof.
    pub token: Option<String>,
}

/// Who a handshake's token says the client is.
impl From<Identity> for Session {
    fn from(identity: Identity) -> Self {
        Self {
            user: Some(identity.user_id),
            permissions: identity.rooms,
            expires_at: identity.expires_at,
        }
    }
}

/// Binds a client to the user that it proves to be, or renews what it may do.
///
/// # Errors
/// `unauthorized` without a valid token, `forbidden` for somebody else's, `invalid_payload` where
/// no user is named. With authentication off the claim is believed.
pub async fn authenticate(
    app: &App,
    client: &Arc<Client>,
    claim: Claim,
) -> Result<Payload, Refusal> {
    #[derive(Serialize)]
    struct Ack {
        success: bool,
        message: &'static str,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Authenticated<'a> {
        success: bool,
        user_id: &'a UserId,
        message: &'static str,
        timestamp: Timestamp,
    }
    let session = match &app.verifier {
        Some(verifier) => {
            let Some(token) = &claim.token else {
                return Err(Refusal::new(
                    Code::Unauthorized,
                    "a token is required: send {userId, token}",
                ));
            };
            let who = Who::of(client.address, Some(client.id));
            let identity = app.limits.guesses.verify(verifier, token, who).await?;
            if claim.user.as_ref().is_some_and(|user| *user != identity.user_id) {
                return Err(Refusal::forbidden(
                    "the token belongs to another user than userId names",
                ));
            }
            if client.user().is_some_and(|user| user != identity.user_id) {
                return Err(Refusal::forbidden(
                    "this connection belongs to another user: connect anew to change the user",
                ));
            }
            Session::from(identity)
        }
        // The claim proves nothing: what it may do stays as it is.
        None => Session { user: claim.user, ..Session::anonymous(&app.config) },
    };
    let Some(user) = session.user.clone() else {
        return Err(Refusal::invalid("userId must be a string or a number of 1 to 200 characters"));
    };
    let message = "Successfully authenticated";
    let authenticated =
        Authenticated { success: true, user_id: &user, message, timestamp: Timestamp::now() };
    client.outlet.send(&Packet::of("authenticated", &authenticated));
    let shared = set_session(app, client, session);
    room::leave_forbidden(app, client);
    if let Some(shared) = shared {
        // So that what is sent to the user from another node, once this is acknowledged, finds it. While
        // Redis is away, it is on this node alone.
        let _shared_or_late = timeout(SHARED_WITHIN, shared).await;
    }
    Ok(Payload::of(&Ack { success: true, message }))
}

/// Gives a client that has just connected the session of its handshake.
pub fn begin(app: &App, client: &Arc<Client>) {
    let session = client.session();
    if session.user.is_some() {
        client.set_session(Session { user: None, ..session.clone() });
        set_session(app, client, session);
    }
}

/// With other nodes, the answer comes when they can know of a user that is new to the client.
fn set_session(app: &App, client: &Arc<Client>, session: Session) -> Option<oneshot::Receiver<()>> {
    let before = client.user();
    let after = session.user.clone();
    let expires_at = session.expires_at;
    client.set_session(session);
    client.set_expiry(expires_at.map(|moment| watch_expiry(client, moment)));
    if before == after {
        return None;
    }
    if let Some(user) = before {
        unbind(app, client, &user, shared_rooms(client));
    }
    after.and_then(|user| bind(app, client, &user))
}

fn bind(app: &App, client: &Arc<Client>, user: &UserId) -> Option<oneshot::Receiver<()>> {
    let came_online = app.registry.users.bind(user, client.clone());
    if let Some(cluster) = &app.cluster {
        // Whether it came online is decided among the nodes: `tell_online` follows, and its queue.
        return Some(cluster.user_came(user, client));
    }
    if came_online {
        tell_online(app, user, Some((client.id, client.namespace.path.clone())));
    }
    private_message::deliver_queued(app, client, user);
    None
}

/// Tells that a user has come online, by this client.
pub fn tell_online(app: &App, user: &UserId, subject: Option<(Sid, Arc<str>)>) {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Online<'a> {
        user_id: &'a UserId,
        timestamp: Timestamp,
    }
    let packet = Packet::of("user-online", &Online { user_id: user, timestamp: Timestamp::now() });
    let own = app.registry.users.clients(user);
    let own = own.iter().filter(|client| subject.as_ref().is_none_or(|(id, _)| *id == client.id));
    let rooms = own.flat_map(|client| places(shared_rooms(client))).collect();
    tell(app, &packet, News { rooms, own: None, subject });
}

/// Ends the binding of a client that has gone; `rooms` are those that it was in.
pub fn end(app: &App, client: &Arc<Client>, rooms: Vec<Place>) {
    client.set_expiry(None);
    if let Some(user) = client.user() {
        unbind(app, client, &user, rooms);
    }
}

/// Ends the binding of a client that has gone without a word: what is left to do where [`end`] has
/// failed.
pub fn forget(app: &App, client: &Arc<Client>) {
    let Some(user) = client.user() else { return };
    if let Some(departure) = app.registry.users.unbind(&user, client) {
        app.registry.users.expire(&user, departure);
    }
    if let Some(cluster) = &app.cluster {
        cluster.user_went(&user, Vec::new());
    }
}

fn unbind(app: &App, client: &Arc<Client>, user: &UserId, rooms: Vec<Place>) {
    let departure = app.registry.users.unbind(user, client);
    let rooms = places(rooms);
    if let Some(cluster) = &app.cluster {
        // The grace is the cluster's: the user may come back on any node.
        if let Some(departure) = departure {
            app.registry.users.expire(user, departure);
        }
        return cluster.user_went(user, rooms);
    }
    let Some(departure) = departure else { return };
    let (app, user) = (app.clone(), user.clone());
    let grace = app.config.presence_grace;
    // A page reload ends one connection and begins another: nobody need know.
    tokio::spawn(async move {
        tokio::time::sleep(grace).await;
        if let Some(gone) = app.registry.users.expire(&user, departure) {
            tell_offline(&app, &user, gone.last_active, rooms);
        }
    });
}

/// Tells that a user has gone offline, where it was seen in these rooms.
pub fn tell_offline(app: &App, user: &UserId, last_active: Timestamp, rooms: Vec<cluster::Place>) {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Offline<'a> {
        user_id: &'a UserId,
        timestamp: Timestamp,
    }
    let update = Update { user_id: user, status: Status::Offline, last_active };
    let news = News { rooms, ..News::default() };
    tell(app, &Packet::of("presenceUpdate", &update), news.clone());
    let offline = Offline { user_id: user, timestamp: Timestamp::now() };
    tell(app, &Packet::of("user-offline", &offline), news);
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Update<'a> {
    user_id: &'a UserId,
    status: Status,
    last_active: Timestamp,
}

/// Tells everyone what a user says of itself.
///
/// # Errors
/// `unauthorized` for a client without a user.
pub async fn update(app: &App, client: &Client, status: Status) -> Result<(), Refusal> {
    let unknown = || Refusal::new(Code::Unauthorized, "presence needs a user: authenticate first");
    let user = client.user().ok_or_else(unknown)?;
    let last_active = app.registry.users.set_status(&user, status).ok_or_else(unknown)?;
    let mut rooms = Vec::new();
    if let Some(cluster) = &app.cluster {
        cluster.user_says(&user, status);
        if is_told_by_rooms(app) {
            // While Redis is away other nodes' clients are not told anyway.
            rooms = cluster.user(&user).await.map(|user| user.rooms).unwrap_or_default();
        }
    }
    let packet = Packet::of("presenceUpdate", &Update { user_id: &user, status, last_active });
    tell(app, &packet, News { rooms, own: Some(user), subject: None });
    Ok(())
}

/// A client has come into a room or left one, which other nodes may have to know to tell who sees its user.
pub fn moved(app: &App, client: &Client) {
    let Some(cluster) = app.cluster.as_ref().filter(|_| is_told_by_rooms(app)) else { return };
    if let Some(user) = client.user() {
        cluster.user_moved(&user);
    }
}

/// Whether there are clients who are told of a user only if they share a room with it.
fn is_told_by_rooms(app: &App) -> bool {
    match app.config.presence_scope {
        PresenceScope::Rooms => true,
        PresenceScope::Off => false,
        PresenceScope::All => {
            app.registry.namespaces().iter().any(|namespace| is_crowded(app, namespace))
        }
    }
}

fn is_crowded(app: &App, namespace: &Namespace) -> bool {
    let max = app.config.announce_max;
    max > 0 && namespace.connections() as u64 > max
}

/// A room in its namespace.
pub type Place = (Arc<Namespace>, RoomName);

/// The rooms in which others see this client.
pub fn shared_rooms(client: &Client) -> Vec<Place> {
    client.rooms().into_iter().map(|room| (client.namespace.clone(), room)).collect()
}

fn places(rooms: Vec<Place>) -> Vec<cluster::Place> {
    rooms.into_iter().map(|(namespace, room)| (namespace.path.clone(), room)).collect()
}

/// Tells those who may know of a user, on all nodes.
fn tell(app: &App, packet: &Packet, news: News) {
    tell_here(app, packet, &news);
    if let Some(cluster) =
        app.cluster.as_ref().filter(|_| app.config.presence_scope != PresenceScope::Off)
    {
        cluster.tell(&Word::Presence(news), Some(packet));
    }
}

/// Tells those on this node who may know of a user: everyone, or the members of its rooms and its own
/// clients, as the configuration has it, but not the subject itself. In a crowded namespace everyone
/// would be too many.
pub fn tell_here(app: &App, packet: &Packet, news: &News) {
    let everyone = |namespace: &Namespace| {
        app.config.presence_scope == PresenceScope::All && !is_crowded(app, namespace)
    };
    if app.config.presence_scope == PresenceScope::Off {
        return;
    }
    let own = news.own.as_ref().map(|user| app.registry.users.clients(user)).unwrap_or_default();
    let seen_in = own.iter().flat_map(|client| places(shared_rooms(client)));
    let rooms = seen_in.chain(news.rooms.iter().cloned()).collect::<HashSet<_>>();
    for namespace in app.registry.namespaces() {
        // One connection has the same id in every namespace, and is another client in each.
        let subject = news.subject.as_ref().filter(|(_, path)| *path == namespace.path);
        let except = Except::client(subject.map(|(id, _)| *id));
        if everyone(namespace) {
            app.bus.here.to_namespace(namespace, packet, &except);
            continue;
        }
        let mut audience = own
            .iter()
            .filter(|client| client.namespace.path == namespace.path)
            .map(|client| (client.id, client.clone()))
            .collect::<HashMap<_, _>>();
        for (_, name) in rooms.iter().filter(|(path, _)| *path == namespace.path) {
            let Some(room) = namespace.room(name.as_str()) else { continue };
            let members = room.lock();
            audience
                .extend(members.members().map(|member| (member.client.id, member.client.clone())));
        }
        let audience = audience.into_values().collect::<Vec<_>>();
        app.bus.here.to_clients(&audience, packet, &except);
    }
}

/// Ends the connection when the token ends, unless it was renewed by then.
fn watch_expiry(client: &Arc<Client>, moment: SystemTime) -> AbortHandle {
    #[derive(Serialize)]
    struct Expired {
        message: &'static str,
    }
    // Weak: the watch must not keep a client that has gone.
    let weak = Arc::downgrade(client);
    let wait = moment.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO);
    let watch = tokio::spawn(async move {
        tokio::time::sleep(wait).await;
        let Some(client) = weak.upgrade() else { return };
        if client.session().expires_at != Some(moment) {
            return;
        }
        tracing::info!(client = %client.id, "token expired: disconnecting");
        let expired = Expired { message: "The token has expired: authenticate in time to stay" };
        client.outlet.send(&Packet::of("token-expired", &expired));
        client.outlet.disconnect();
    });
    watch.abort_handle()
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        let code = if error.is_unavailable() { Code::Unavailable } else { Code::Unauthorized };
        Self::new(code, error.to_string())
    }
}
