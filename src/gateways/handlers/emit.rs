//! An event that the backend's answer sends.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::answer::{Place, fields_of, flag, items, list, name_of, nothing_but, payload, text};
use crate::{
    commands::{
        backend_event::{self, Audience, BackendEvent},
        context::Context,
    },
    hub::{Client, Namespace, packet::Packet},
    protocol::{
        audience::Except,
        client_id::ClientId,
        event_names::is_protocol_event,
        names::{NameError, RoomName, UserId},
        payload::{Object, Payload},
        refusal::Refusal,
    },
};

/// An event to be sent.
#[derive(Debug)]
pub(super) struct Emit {
    event: String,
    /// The argument, or an array of all of them.
    data: Payload,
    is_list: bool,
    to: To,
    except: Except,
    namespace: Arc<Namespace>,
    volatile: bool,
}

/// To whom an event goes.
#[derive(Debug)]
enum To {
    /// The client that the answer is about.
    Client,
    /// All others.
    Others(Audience),
}

const FIELDS: [&str; 10] = [
    "event",
    "data",
    "args",
    "rooms",
    "users",
    "clients",
    "except",
    "namespace",
    "volatile",
    "everyone",
];

impl Emit {
    pub(super) fn read(emit: &Object<'_>, place: &Place<'_>) -> Result<Self, String> {
        nothing_but(emit, &FIELDS)?;
        let event = emit.get("event").ok_or("event should not be empty")?;
        let event = text("event", event)?;
        if event.is_empty() || is_protocol_event(&event) {
            return Err(format!("event must be a name, and none of Socket.IO's own: \"{event}\""));
        }
        let (data, is_list) = match (emit.get("data"), emit.get("args")) {
            (Some(_), Some(_)) => return Err("give data or args, not both".to_owned()),
            (data, None) => (payload("data", data.unwrap_or(RawValue::NULL))?, false),
            (None, Some(args)) => (list("args", args)?, true),
        };
        let path = emit.get("namespace").map(|value| text("namespace", value)).transpose()?;
        let namespace = match path {
            None => place.namespace.clone(),
            Some(path) => {
                let path = if path.starts_with('/') { path } else { format!("/{path}") };
                let known = place.registry.address(&path);
                known.ok_or_else(|| format!("there is no namespace \"{path}\""))?
            }
        };
        let rooms = targets(emit, "rooms", RoomName::parse)?;
        let users = targets(emit, "users", UserId::parse)?;
        let clients = targets(emit, "clients", client)?;
        let to = match (rooms, users, clients, flag(emit, "everyone")?) {
            (None, None, None, false) => To::Client,
            (None, None, None, true) => To::Others(Audience::Everyone),
            (_, _, _, true) => {
                return Err("everyone stands alone: name nobody beside it".to_owned());
            }
            (rooms, users, clients, false) => To::Others(Audience::These {
                rooms: rooms.unwrap_or_default(),
                users: users.unwrap_or_default(),
                clients: clients.into_iter().flatten().flatten().collect(),
            }),
        };
        let except = except(emit, &namespace)?;
        let volatile = flag(emit, "volatile")?;
        Ok(Self { event, data, is_list, to, except, namespace, volatile })
    }

    /// Sends it. `client` is the one that the answer is about.
    ///
    /// # Errors
    /// As `POST /events` refuses it.
    pub(super) async fn send(self, context: &Context, client: &Client) -> Result<(), Refusal> {
        let Self { event, data, is_list, to, except, namespace, volatile } = self;
        match to {
            To::Client => {
                let sent = client.sender.send(&Packet::with(event, data, is_list));
                context.metrics.delivered(usize::from(sent.is_taken()));
                Ok(())
            }
            To::Others(audience) => {
                let event =
                    BackendEvent { namespace, event, data, is_list, audience, except, volatile };
                backend_event::send(context, event).await.map(drop)
            }
        }
    }
}

/// A client's id; `None` for a text that can be no id, and so reaches nobody.
#[allow(clippy::unnecessary_wraps, reason = "as the other names are parsed")]
fn client(text: &str) -> Result<Option<ClientId>, NameError> {
    Ok(text.parse().ok())
}

fn names<T>(
    object: &Object<'_>,
    field: &str,
    parse: impl Fn(&str) -> Result<T, NameError>,
) -> Result<Option<Vec<T>>, String> {
    let Some(value) = object.get(field) else { return Ok(None) };
    let each = format!("each value in {field}");
    let name = |value: &RawValue| {
        parse(&name_of(&each, value)?).map_err(|error| format!("{each} {error}"))
    };
    items(field, value)?.into_iter().map(name).collect::<Result<_, _>>().map(Some)
}

/// A list that must not be empty if it is given: an empty one must never mean everyone.
fn targets<T>(
    object: &Object<'_>,
    field: &str,
    parse: impl Fn(&str) -> Result<T, NameError>,
) -> Result<Option<Vec<T>>, String> {
    let is_null = |(name, value): (&str, &RawValue)| name == field && value.get() == "null";
    match names(object, field, parse)? {
        None if object.fields().any(is_null) => Err(format!("{field} should not be empty")),
        Some(names) if names.is_empty() => Err(format!("{field} should not be empty")),
        names => Ok(names),
    }
}

fn except(emit: &Object<'_>, namespace: &Namespace) -> Result<Except, String> {
    let Some(value) = emit.get("except") else { return Ok(Except::nobody()) };
    let except = fields_of("except", value)?;
    nothing_but(&except, &["rooms", "users", "clients"])?;
    let clients = names(&except, "clients", client)?;
    Ok(Except {
        rooms: names(&except, "rooms", RoomName::parse)?.unwrap_or_default(),
        users: names(&except, "users", UserId::parse)?.unwrap_or_default(),
        clients: clients.into_iter().flatten().flatten().collect(),
        namespace: Some(namespace.path.clone()),
    })
}
