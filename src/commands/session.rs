//! A client's user and permissions, from connect to disconnect.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::json;
use tokio::{sync::oneshot, task::AbortHandle};

use super::{
    context::Context,
    event::{Feature, ServerEvent},
    membership_command::MembershipCommand,
    presence::{self, Place},
    private_message, revocation,
    schema::{object, text},
};
use crate::{
    auth::{AuthError, Identity, Verifier},
    hub::{Client, Said, Session, packet::Packet},
    limits::Who,
    protocol::{
        names::UserId,
        payload::json_of,
        refusal::{Code, Refusal},
    },
};

const TOKEN_EXPIRED: ServerEvent = ServerEvent::state(
    "token-expired",
    "TokenExpired",
    "The token of the client has expired. The client is disconnected.",
)
.to("The client.")
.example(r#"{"message":"The token has expired: renew it in time with authenticate"}"#);

pub(super) const FEATURE: Feature = Feature {
    client: &[],
    server: &[TOKEN_EXPIRED],
    schemas: || vec![("TokenExpired", object("", &[("message", text("A description."))]))],
};

/// The session that a token gives. Its claims are kept only where a backend is told them.
pub fn of_token(context: &Context, identity: Identity) -> Session {
    let is_told = context.config.handler_url.is_some();
    Session {
        user: Some(identity.user_id),
        permissions: identity.rooms,
        join: identity.join.into(),
        expires_at: identity.expires_at,
        issued: Some(identity.issued),
        claims: is_told.then(|| json_of(&identity.claims).into()),
        said: Said::default(),
    }
}

/// Verifies a client's token, charging failures to `who`.
///
/// # Errors
/// `unauthorized`, also for a token that was revoked; `rate_limited`; `unavailable` while it cannot be checked.
pub async fn identify(
    context: &Context,
    verifier: &Verifier,
    token: &str,
    who: Who,
) -> Result<Identity, Refusal> {
    let identity = context.limits.auth_failures.verify(verifier, token, who).await?;
    revocation::check(context, &identity).await?;
    Ok(identity)
}

/// Gives a newly connected client the session of its handshake.
pub fn begin(context: &Context, client: &Arc<Client>) {
    let session = client.session();
    if session.user.is_some() || session.expires_at.is_some() {
        client.set_session(Session { user: None, ..session.clone() });
        set(context, client, session);
    }
}

/// The change that puts a client into the rooms in which its token wants it from the start, if there are any.
pub fn first_rooms(session: &Session) -> Option<MembershipCommand> {
    let rooms = session.join.clone();
    (!rooms.is_empty()).then_some(MembershipCommand::Join { rooms, is_granted: false })
}

/// Sets the client's session. With other nodes, the receiver completes when they know of a new user.
pub(super) fn set(
    context: &Context,
    client: &Arc<Client>,
    session: Session,
) -> Option<oneshot::Receiver<()>> {
    let shared = bind_session(context, client, session);
    // One that was made meanwhile has not found the client.
    revocation::check_client(context, client);
    shared
}

fn bind_session(
    context: &Context,
    client: &Arc<Client>,
    session: Session,
) -> Option<oneshot::Receiver<()>> {
    let before = client.user();
    let after = session.user.clone();
    let expires_at = session.expires_at;
    client.set_session(session);
    client.set_expiry(expires_at.map(|moment| watch_expiry(client, moment)));
    if before == after {
        return None;
    }
    if let Some(user) = before {
        unbind(context, client, &user, presence::shared_rooms(client));
    }
    after.and_then(|user| bind(context, client, &user))
}

fn bind(context: &Context, client: &Arc<Client>, user: &UserId) -> Option<oneshot::Receiver<()>> {
    let bind = || context.registry.users.bind(user, client.clone());
    let came_online = match context.broker.webhooks() {
        Some(webhooks) => webhooks.user_comes(user, context.sender_id(client), bind),
        None => bind(),
    };
    if let Some(cluster) = &context.cluster {
        // The nodes decide whether the user came online; `presence::tell_online` and its queue follow then.
        return Some(cluster.user_came(user, client));
    }
    if came_online {
        presence::tell_online(
            context,
            user,
            Some((client.id.clone(), client.namespace.path.clone())),
        );
    }
    private_message::deliver_queued(context, client, user);
    None
}

/// Unbinds a client that has gone from its user; `rooms` are those that it was in.
pub fn end(context: &Context, client: &Arc<Client>, rooms: Vec<Place>) {
    client.set_expiry(None);
    if let Some(user) = client.user() {
        unbind(context, client, &user, rooms);
    }
}

/// Unbinds a client that has gone without telling anyone, if [`end`] has failed.
pub fn forget(context: &Context, client: &Arc<Client>) {
    let Some(user) = client.user() else { return };
    if let Some(departure) = context.registry.users.unbind(&user, client) {
        let expire = || context.registry.users.expire(&user, departure);
        match context.broker.webhooks() {
            Some(webhooks) => {
                drop(webhooks.user_goes(&user, context.sender_id(client), expire));
            }
            None => drop(expire()),
        }
    }
    if let Some(cluster) = &context.cluster {
        cluster.user_went(&user, Vec::new());
    }
}

fn unbind(context: &Context, client: &Arc<Client>, user: &UserId, rooms: Vec<Place>) {
    let departure = context.registry.users.unbind(user, client);
    let rooms = presence::places(rooms);
    if let Some(cluster) = &context.cluster {
        // The cluster counts the grace: the user may come back on any node.
        if let Some(departure) = departure {
            context.registry.users.expire(user, departure);
        }
        return cluster.user_went(user, rooms);
    }
    let Some(departure) = departure else { return };
    let (context, user, sender) = (context.clone(), user.clone(), context.sender_id(client));
    let grace = context.config.presence_grace;
    // A page reload ends one connection and begins another: nobody needs to know.
    tokio::spawn(async move {
        tokio::time::sleep(grace).await;
        let expire = || context.registry.users.expire(&user, departure);
        let gone = match context.broker.webhooks() {
            Some(webhooks) => webhooks.user_goes(&user, sender, expire),
            None => expire(),
        };
        if let Some(gone) = gone {
            presence::tell_offline(&context, &user, gone.last_active, rooms);
        }
    });
}

/// Ends the connection when the token expires, unless it was renewed by then.
fn watch_expiry(client: &Arc<Client>, moment: SystemTime) -> AbortHandle {
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
        let expired =
            json!({"message": "The token has expired: renew it in time with authenticate"});
        client.sender.send(&Packet::of(TOKEN_EXPIRED.name, &expired));
        client.disconnect("token expired");
    });
    watch.abort_handle()
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        let code = if error.is_unavailable() { Code::Unavailable } else { Code::Unauthorized };
        Self::new(code, error.to_string())
    }
}
