//! `authenticate`: a client says who it is, or renews its permissions.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use super::{
    arguments::named,
    event::{Caller, ClientEvent, Event, Feature, Incoming, Outcome, ServerEvent},
    membership, room,
    schema::{object, reference, text, time, yes},
    session,
};
use crate::{
    hub::{Client, Session, packet::Packet},
    limits::Who,
    protocol::{
        names::UserId,
        payload::Payload,
        refusal::{Code, Refusal},
        timestamp::Timestamp,
    },
};

/// How long `authenticate` waits until the other nodes know of the user.
const SHARED_WITHIN: Duration = Duration::from_secs(1);

/// The event's name on the wire.
pub const NAME: &str = "authenticate";

const AUTHENTICATED: ServerEvent = ServerEvent::state("authenticated","Authenticated","The client is authenticated.").to("The client that sent `authenticate`.").example(r#"{"success":true,"userId":"alice","message":"Successfully authenticated","timestamp":"2026-01-01T12:00:00.000Z"}"#);

pub(super) const FEATURE: Feature = Feature {
    client: &[ClientEvent::new::<Authenticate>(
        NAME,
        "Authenticate",
        "Done",
        "Identifies the user of this client, or renews its token before it expires.",
    )
    .example(r#"{"userId":"alice","token":"eyJhbGciOi…"}"#)
    .refusals(&[Code::Unauthorized, Code::Forbidden])],
    server: &[AUTHENTICATED],
    schemas: || {
        vec![
            (
                "Authenticate",
                json!({
                    "description": "The user. With authentication on, a token is required.",
                    "anyOf": [
                        reference("Name"),
                        object("", &[("userId?", reference("Name")), ("token?", text("A JSON Web Token whose subject is the user."))]),
                    ],
                }),
            ),
            (
                "Authenticated",
                object(
                    "",
                    &[
                        ("success", yes()),
                        ("userId", text("The user.")),
                        ("message", text("A description.")),
                        ("timestamp", time()),
                    ],
                ),
            ),
        ]
    },
};

struct Authenticate {
    /// The user that the client claims to be.
    user: Option<UserId>,
    /// The token that proves it.
    token: Option<String>,
}

impl Event for Authenticate {
    fn parse(incoming: &Incoming<'_>) -> Result<Self, Refusal> {
        let Some(object) = incoming.object_if_any()? else {
            let user = Some(named("userId", incoming.argument(), UserId::parse)?);
            return Ok(Self { user, token: None });
        };
        let user = match object.get("userId") {
            Some(user) => Some(named("userId", user.get(), UserId::parse)?),
            None => None,
        };
        let token = match object.get("token") {
            Some(token) => Some(
                serde_json::from_str(token.get())
                    .map_err(|_| Refusal::invalid("token must be a string"))?,
            ),
            None => None,
        };
        Ok(Self { user, token })
    }

    /// Binds the client to the user that its token names, or renews its permissions. Refused as
    /// `unauthorized` without a valid token, as `forbidden` with another user's. With authentication off the
    /// claim is accepted.
    async fn run(self, caller: Caller) -> Outcome {
        let (context, client) = (&caller.context, &caller.client);
        let session = match &context.verifier {
            Some(verifier) => {
                let Some(token) = &self.token else {
                    return Err(Refusal::new(
                        Code::Unauthorized,
                        "a token is required: send {userId, token}",
                    ));
                };
                let who = Who::of(client.address, Some(client.sender.account().id()));
                let identity = session::identify(context, verifier, token, who).await?;
                if self.user.as_ref().is_some_and(|user| *user != identity.user_id) {
                    return Err(Refusal::forbidden(
                        "the token belongs to a user other than userId",
                    ));
                }
                if client.user().is_some_and(|user| user != identity.user_id) {
                    return Err(Refusal::forbidden(
                        "this connection belongs to another user: reconnect to change the user",
                    ));
                }
                session::of_token(context, identity).under(client.session())
            }
            // The backend has said who the client is.
            None if context.config.users_prove() => self.as_the_backend_said(client)?,
            // The claim proves nothing: it changes no permissions.
            None => Session { user: self.user, ..Session::anonymous(&context.config) },
        };
        let Some(user) = session.user.clone() else {
            return Err(Refusal::invalid(
                "userId must be a string or a number of 1 to 200 characters",
            ));
        };
        let message = "Successfully authenticated";
        let now = Timestamp::now();
        let authenticated =
            json!({"success": true, "userId": user, "message": message, "timestamp": now});
        client.sender.send(&Packet::of(AUTHENTICATED.name, &authenticated));
        // A token that is renewed brings nobody back into a room that the client has left since.
        let first_rooms = session::first_rooms(&session).filter(|_| client.user().is_none());
        let shared = session::set(context, client, session);
        room::leave_forbidden(context, client);
        if let Some(join) = first_rooms
            && let Err(refusal) = membership::apply(context, client, join).await
        {
            tracing::warn!(client = %client.id, reason = %refusal.message, "the rooms of a token could not be joined");
        }
        if let Some(shared) = shared {
            // Events that another node sends to the user after this acknowledgement then find the client.
            // While Redis is away, only this node knows of it.
            let _shared_or_late = timeout(SHARED_WITHIN, shared).await;
        }
        Ok(Some(Payload::of(&json!({"success": true, "message": message}))))
    }
}

impl Authenticate {
    /// The client's session, where only the backend says who a client is: as it was.
    ///
    /// # Errors
    /// If the client claims to be another user.
    fn as_the_backend_said(&self, client: &Client) -> Result<Session, Refusal> {
        let session = client.session();
        match (&session.user, &self.user) {
            (Some(user), Some(claimed)) if user == claimed => Ok(session),
            (Some(_), _) => Err(Refusal::forbidden(
                "the application's backend decides which user this connection belongs to: reconnect to change the user",
            )),
            (None, _) => Err(Refusal::new(
                Code::Unauthorized,
                "only the application's backend decides who a client is, when the client connects",
            )),
        }
    }
}
