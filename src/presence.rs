//! Users: who a client is, who is there, and who is told of it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::Serialize;
use tokio::task::AbortHandle;

use crate::{
    app::App,
    audience::Except,
    auth::{AuthError, Identity},
    clock::Timestamp,
    config::PresenceScope,
    direct,
    limits::Who,
    names::{RoomName, UserId},
    outlet::Packet,
    payload::Payload,
    refusal::{Code, Refusal},
    registry::{Client, Namespace, Session, Status},
    rooms,
};

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
        None => Session { user: claim.user, ..Session::anonymous() },
    };
    let Some(user) = session.user.clone() else {
        return Err(Refusal::invalid("userId must be a string or a number of 1 to 200 characters"));
    };
    let message = "Successfully authenticated";
    let authenticated =
        Authenticated { success: true, user_id: &user, message, timestamp: Timestamp::now() };
    client.outlet.send(&Packet::of("authenticated", &authenticated));
    set_session(app, client, session);
    rooms::leave_forbidden(app, client);
    Ok(Payload::of(&Ack { success: true, message }))
}

/// Gives a client that has just connected the session of its handshake.
pub fn begin(app: &App, client: &Arc<Client>) {
    let session = client.session();
    if session.user.is_some() {
        client.set_session(Session::anonymous());
        set_session(app, client, session);
    }
}

fn set_session(app: &App, client: &Arc<Client>, session: Session) {
    let before = client.user();
    let after = session.user.clone();
    let expires_at = session.expires_at;
    client.set_session(session);
    client.set_expiry(expires_at.map(|moment| watch_expiry(client, moment)));
    if before == after {
        return;
    }
    if let Some(user) = before {
        unbind(app, client, &user, shared_rooms(client));
    }
    if let Some(user) = after {
        bind(app, client, &user);
    }
}

fn bind(app: &App, client: &Arc<Client>, user: &UserId) {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Online<'a> {
        user_id: &'a UserId,
        timestamp: Timestamp,
    }
    if app.registry.users.bind(user, client.clone()) {
        let packet =
            Packet::of("user-online", &Online { user_id: user, timestamp: Timestamp::now() });
        tell(app, &packet, &shared_rooms(client), &[], Some(client));
    }
    direct::deliver_queued(app, client, user);
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
}

fn unbind(app: &App, client: &Arc<Client>, user: &UserId, rooms: Vec<Place>) {
    let Some(departure) = app.registry.users.unbind(user, client) else { return };
    let (app, user) = (app.clone(), user.clone());
    let grace = app.config.presence_grace;
    // A page reload ends one connection and begins another: nobody need know.
    tokio::spawn(async move {
        tokio::time::sleep(grace).await;
        if let Some(gone) = app.registry.users.expire(&user, departure) {
            tell_offline(&app, &user, gone.last_active, &rooms);
        }
    });
}

fn tell_offline(app: &App, user: &UserId, last_active: Timestamp, rooms: &[Place]) {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Offline<'a> {
        user_id: &'a UserId,
        timestamp: Timestamp,
    }
    let update = Update { user_id: user, status: Status::Offline, last_active };
    tell(app, &Packet::of("presenceUpdate", &update), rooms, &[], None);
    let offline = Offline { user_id: user, timestamp: Timestamp::now() };
    tell(app, &Packet::of("user-offline", &offline), rooms, &[], None);
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
pub fn update(app: &App, client: &Client, status: Status) -> Result<(), Refusal> {
    let unknown = || Refusal::new(Code::Unauthorized, "presence needs a user: authenticate first");
    let user = client.user().ok_or_else(unknown)?;
    let last_active = app.registry.users.set_status(&user, status).ok_or_else(unknown)?;
    let own = app.registry.users.clients(&user);
    let rooms = own.iter().flat_map(|client| shared_rooms(client)).collect::<Vec<_>>();
    let packet = Packet::of("presenceUpdate", &Update { user_id: &user, status, last_active });
    tell(app, &packet, &rooms, &own, None);
    Ok(())
}

/// A room in its namespace.
pub type Place = (Arc<Namespace>, RoomName);

/// The rooms in which others see this client.
pub fn shared_rooms(client: &Client) -> Vec<Place> {
    client.rooms().into_iter().map(|room| (client.namespace.clone(), room)).collect()
}

/// Tells those who may know of a user: everyone, or the members of its `rooms` and its `own`
/// clients, as the configuration has it, but not the `subject` itself. In a crowded namespace
/// everyone would be too many.
fn tell(
    app: &App,
    packet: &Packet,
    rooms: &[Place],
    own: &[Arc<Client>],
    subject: Option<&Client>,
) {
    let everyone = |namespace: &Namespace| {
        let max = app.config.announce_max;
        app.config.presence_scope == PresenceScope::All
            && (max == 0 || namespace.connections() as u64 <= max)
    };
    if app.config.presence_scope == PresenceScope::Off {
        return;
    }
    for namespace in app.registry.namespaces() {
        // One connection has the same id in every namespace, and is another client in each.
        let subject = subject.filter(|client| client.namespace.path == namespace.path);
        let except = Except::client(subject.map(|client| client.id));
        if everyone(namespace) {
            app.bus.signal_namespace(namespace, packet, &except);
            continue;
        }
        let mut audience = own
            .iter()
            .filter(|client| client.namespace.path == namespace.path)
            .map(|client| (client.id, client.clone()))
            .collect::<std::collections::HashMap<_, _>>();
        for (_, name) in rooms.iter().filter(|(home, _)| home.path == namespace.path) {
            let Some(room) = namespace.room(name.as_str()) else { continue };
            let members = room.lock();
            audience
                .extend(members.members().map(|member| (member.client.id, member.client.clone())));
        }
        let audience = audience.into_values().collect::<Vec<_>>();
        app.bus.signal_clients(&audience, packet, &except);
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
