//! Revoked tokens: backends make and take back revocations, which hold on all nodes, for clients that are
//! connected and for those that connect.
//!
//! A revocation is in the store before it is in force. Each node keeps all of them in memory; nodes that share
//! a store read from it what is new when another node tells them, and twice a second in any case.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    context::Context,
    event::{Feature, ServerEvent},
    lost_clients,
    queries::{Coverage, Page, Part},
    schema::{object, text},
};
use crate::{
    auth::{AuthError, Identity, Revocation, RevocationList},
    broker::{
        cluster::Answers,
        survey::{PageRequest, Survey},
    },
    hub::{Client, packet::Packet},
    protocol::{
        names::UserId,
        payload::json_of,
        refusal::{Code, Refusal},
        timestamp::Timestamp,
    },
    store::{MAX_REVOCATIONS, Revoked, Store},
};

const TOKEN_REVOKED: ServerEvent = ServerEvent::state(
    "token-revoked",
    "TokenRevoked",
    "The token of the client was revoked. The client is disconnected.",
)
.to("The client.")
.example(r#"{"message":"The token was revoked: reconnect with another one"}"#);

pub(super) const FEATURE: Feature = Feature {
    client: &[],
    server: &[TOKEN_REVOKED],
    schemas: || vec![("TokenRevoked", object("", &[("message", text("A description."))]))],
};

/// How often a node reads what other nodes have revoked, if none tells it.
const REFRESH: Duration = Duration::from_millis(500);

/// How long a client waits for the first read of the revocations, as a node starts.
const LOADING: Duration = Duration::from_secs(2);

/// The tokens to revoke: those that match everything that is given.
#[derive(Debug)]
pub struct Tokens {
    /// The token of this `jti`.
    pub jti: Option<String>,
    /// The tokens of this user.
    pub user: Option<UserId>,
    /// The tokens issued earlier.
    pub issued_before: Option<Timestamp>,
}

/// Revokes tokens until `expires_at`. When this returns, every node that could be asked has disconnected their
/// clients.
///
/// # Errors
/// `unavailable` without authentication, if the store cannot take it, or if too many are in force.
pub async fn revoke(
    context: &Context,
    tokens: Tokens,
    expires_at: Timestamp,
) -> Result<(Revocation, Coverage), Refusal> {
    let store = store(context)?;
    let Tokens { jti, user, issued_before } = tokens;
    let revocation = Revocation {
        id: Uuid::new_v4().to_string(),
        jti: jti.map(Into::into),
        user_id: user,
        issued_before,
        expires_at,
        created_at: Timestamp::now(),
    };
    let revoked = Revoked {
        id: revocation.id.clone(),
        expires_at_ms: expires_at.as_millis(),
        json: json_of(&revocation).get().to_owned(),
    };
    if !store.revoke(revoked).await? {
        let message = format!(
            "{MAX_REVOCATIONS} revocations are in force, which is the limit: revoke a user's tokens together by userId and issuedBefore"
        );
        return Err(Refusal::new(Code::Unavailable, message));
    }
    tracing::info!(id = revocation.id, "tokens were revoked");
    enforce(context, vec![revocation.clone()]);
    Ok((revocation, tell(context).await))
}

/// Takes a revocation back.
///
/// # Errors
/// `not_found`; `unavailable` if the store cannot be reached.
pub async fn reinstate(context: &Context, id: &str) -> Result<(), Refusal> {
    if !store(context)?.reinstate(id).await? {
        let message = format!("There is no revocation {id}");
        return Err(Refusal::new(Code::NotFound, message));
    }
    context.revocations.list.write().remove(id);
    tell(context).await;
    Ok(())
}

/// The revocations in force, in the order of their ids.
///
/// # Errors
/// `unavailable` if those of other nodes cannot be read.
pub async fn list(context: &Context, page: &PageRequest) -> Result<Page<Revocation>, Refusal> {
    refresh(context).await?;
    let list = context.revocations.list.read();
    let all = list.in_force(Timestamp::now());
    let all = all.map(|revocation| (revocation.id.clone(), revocation.clone())).collect();
    drop(list);
    let here = Part::of(all, page, |revocation: Arc<Revocation>| (*revocation).clone());
    Ok(Page::of(here, Answers::none(), page, |_, _| {}))
}

fn store(context: &Context) -> Result<&Store, Refusal> {
    if context.verifier.is_none() {
        return Err(Refusal::forbidden(
            "authentication is off: there are no tokens to revoke; set JWT_SECRET, JWT_PUBLIC_KEY or JWT_JWKS_URL",
        ));
    }
    let missing =
        || Refusal::new(Code::Unavailable, "nothing is stored: revocations cannot be kept");
    context.store.as_ref().ok_or_else(missing)
}

/// Has the other nodes read what is new.
async fn tell(context: &Context) -> Coverage {
    Coverage::of(&context.broker.survey::<bool>(&Survey::Revocations, None).await)
}

/// Refuses a token that was revoked.
///
/// # Errors
/// `unauthorized`; `unavailable` as long as the revocations were never read.
pub(super) async fn check(context: &Context, identity: &Identity) -> Result<(), Refusal> {
    let mut loaded = context.revocations.loaded.subscribe();
    if !*loaded.borrow() && timeout(LOADING, loaded.wait_for(|loaded| *loaded)).await.is_err() {
        let message = "the revoked tokens are not known yet: try again later";
        return Err(Refusal::new(Code::Unavailable, message));
    }
    if context.revocations.is_revoked(&identity.user_id, &identity.issued) {
        return Err(AuthError::Revoked.into());
    }
    Ok(())
}

/// Disconnects the client if its token is revoked.
pub(super) fn check_client(context: &Context, client: &Arc<Client>) {
    if !is_revoked(context, client) || client.ended().is_some() {
        return;
    }
    tracing::info!(client = %client.id, "token revoked: disconnecting");
    let told = json!({"message": "The token was revoked: reconnect with another one"});
    client.sender.send(&Packet::of(TOKEN_REVOKED.name, &told));
    client.disconnect("token revoked");
}

fn is_revoked(context: &Context, client: &Client) -> bool {
    let session = client.session();
    match (&session.user, &session.issued) {
        (Some(user), Some(issued)) => context.revocations.is_revoked(user, issued),
        _ => false,
    }
}

/// Puts revocations in force on this node: first for who connects, then for who is connected.
fn enforce(context: &Context, revocations: Vec<Revocation>) {
    if revocations.is_empty() {
        return;
    }
    // A user's clients are found by the user, all others one by one.
    let is_wide = revocations.iter().any(|revocation| revocation.user_id.is_none());
    let users = revocations.iter().filter_map(|of| of.user_id.clone()).collect::<Vec<_>>();
    {
        let mut list = context.revocations.list.write();
        list.expire(Timestamp::now());
        for revocation in revocations {
            list.add(revocation);
        }
    }
    let clients = if is_wide {
        context.registry.all_clients()
    } else {
        users.iter().flat_map(|user| context.registry.users.clients(user)).collect()
    };
    for client in &clients {
        check_client(context, client);
    }
    lost_clients::end_those(context, |client| is_revoked(context, client));
}

/// Reads what is new in the store, and puts it in force.
///
/// # Errors
/// `unavailable` if the store cannot be read.
pub async fn refresh(context: &Context) -> Result<(), Refusal> {
    let Some(store) = &context.store else { return Ok(()) };
    let shared = &context.revocations;
    if !store.is_shared() && *shared.loaded.borrow() {
        return Ok(());
    }
    let mut cursor = shared.cursor.lock().await;
    let read = store.revocations(&cursor).await?;
    let parse = |json: String| {
        serde_json::from_str::<Revocation>(&json)
            .inspect_err(|error| tracing::error!(%error, "a revocation cannot be read"))
            .ok()
    };
    let revocations = read.items.into_iter().filter_map(parse).collect::<Vec<_>>();
    if read.is_all {
        let mut list = RevocationList::default();
        for revocation in &revocations {
            list.add(revocation.clone());
        }
        *shared.list.write() = list;
    }
    enforce(context, revocations);
    *cursor = read.cursor;
    shared.loaded.send_replace(true);
    Ok(())
}

/// Keeps the revocations of a shared store up to date, for as long as the process runs.
pub async fn watch(context: Context) {
    loop {
        if let Err(refusal) = refresh(&context).await {
            tracing::debug!(reason = %refusal.message, "the revocations cannot be read now");
        }
        tokio::time::sleep(REFRESH).await;
    }
}
