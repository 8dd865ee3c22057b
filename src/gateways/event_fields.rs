//! An event that a backend sends, as `POST /events` and an answer's `emit` describe it.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::fields::{Fields, namespace};
use crate::{
    commands::{backend_event::Audience, is_state_event},
    hub::{Namespace, Registry},
    limits::{MAX_DEPTH, is_deeper_than},
    protocol::{
        audience::Except,
        client_id::ClientId,
        event_names::is_protocol_event,
        names::{RoomName, UserId},
        payload::{Payload, is_placeholder, tagged::from_tagged},
    },
};

/// The names of the fields.
const FIELDS: [&str; 9] =
    ["event", "data", "args", "rooms", "users", "clients", "except", "namespace", "volatile"];

/// Where an event is described.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    /// In a request: by default for `/`.
    Request,
    /// In a backend's answer about a client: by default for this namespace, its. `data` may hold tagged
    /// binary values.
    Answer(&'a Arc<Namespace>),
}

/// An event.
#[derive(Debug)]
pub(super) struct EventFields {
    /// Its name.
    pub event: String,
    /// Its argument, or an array of all of them.
    pub data: Payload,
    /// Whether `data` is an array of all arguments.
    pub is_list: bool,
    /// The rooms, users and clients that are named, if any are.
    pub audience: Option<Audience>,
    /// What is named as a client, and can be no client's id.
    pub no_clients: Vec<String>,
    /// The namespace of the rooms, or of everyone; `None` if there is no such one.
    pub namespace: Option<Arc<Namespace>>,
    /// The clients that live delivery excludes.
    pub except: Except,
    /// Whether it goes only to clients that are connected now.
    pub is_volatile: bool,
}

impl EventFields {
    /// Reads an event. What is wrong with it stands in `fields` afterwards; fields but those of an event and
    /// `others` are wrong, too.
    pub(super) fn read(
        fields: &mut Fields<'_, '_>,
        registry: &Registry,
        source: Source<'_>,
        others: &[&str],
    ) -> Self {
        let event = event(fields, source);
        let (data, is_list) = data(fields, source);
        let rooms = fields.targets("rooms", RoomName::parse);
        let users = fields.targets("users", UserId::parse);
        let mut no_clients = Vec::new();
        let clients = fields
            .targets("clients", |text| Ok(text.parse::<ClientId>().map_err(|_| text.to_owned())));
        let clients = clients.map(|clients| {
            let id = |client: Result<_, _>| client.map_err(|text| no_clients.push(text)).ok();
            clients.into_iter().filter_map(id).collect::<Vec<_>>()
        });
        let audience = match (rooms, users, clients) {
            (None, None, None) => None,
            (rooms, users, clients) => Some(Audience::These {
                rooms: rooms.unwrap_or_default(),
                users: users.unwrap_or_default(),
                clients: clients.unwrap_or_default(),
            }),
        };
        let namespace = match (fields.text("namespace"), source) {
            (None, Source::Answer(own)) => Some(own.clone()),
            (path, _) => namespace(registry, path.as_deref().unwrap_or("/"))
                .map_err(|fault| fields.fault(fault))
                .ok(),
        };
        let path = namespace.as_ref().map_or("/".into(), |namespace| namespace.path.clone());
        let except = fields.except(path);
        let is_volatile = fields.flag("volatile");
        fields.nothing_but(&[&FIELDS, others].concat());
        Self { event, data, is_list, audience, no_clients, namespace, except, is_volatile }
    }
}

/// The error in an event name that a backend gives, if any.
pub(super) fn event_fault(field: &str, event: &str) -> Option<String> {
    if event.is_empty() {
        return Some(format!("{field} should not be empty"));
    }
    (is_protocol_event(event) || is_state_event(event)).then(|| {
        format!("{field} must not be {event:?}: Socket.IO's own events and those by which the server tells a client its state are reserved")
    })
}

fn event(fields: &mut Fields<'_, '_>, source: Source<'_>) -> String {
    let given = fields.get("event").map(|value| serde_json::from_str::<String>(value.get()));
    let fault = match &given {
        None => Some("event should not be empty".to_owned()),
        Some(Err(_)) => Some("event must be a string".to_owned()),
        Some(Ok(event)) => match source {
            // The backend may tell clients anything in its answers.
            Source::Answer(_) if !event.is_empty() => is_protocol_event(event)
                .then(|| format!("event must not be {event:?}: it is one of Socket.IO's own")),
            _ => event_fault("event", event),
        },
    };
    fields.faults.extend(fault);
    given.and_then(Result::ok).unwrap_or_default()
}

/// The event's argument, or all its arguments: then true.
fn data(fields: &mut Fields<'_, '_>, source: Source<'_>) -> (Payload, bool) {
    let (given, args) = (fields.get("data"), fields.get("args"));
    let Some(args) = args else {
        let data = given.unwrap_or(RawValue::NULL);
        if is_placeholder(data) {
            fields.fault("data must not be the placeholder of a binary attachment");
        }
        return (
            payload(fields, "data", data, MAX_DEPTH, matches!(source, Source::Answer(_))),
            false,
        );
    };
    if given.is_some() {
        fields.fault("data should not exist beside args");
    }
    match serde_json::from_str::<Vec<&RawValue>>(args.get()) {
        Err(_) => fields.fault("args must be an array"),
        Ok(items) if items.iter().any(|item| is_placeholder(item)) => {
            fields.fault("args must not hold the placeholder of a binary attachment");
        }
        Ok(_) => {}
    }
    // Each argument may be as deep as any value.
    (payload(fields, "args", args, MAX_DEPTH + 1, true), true)
}

fn payload(
    fields: &mut Fields<'_, '_>,
    field: &str,
    value: &RawValue,
    depth: usize,
    is_tagged: bool,
) -> Payload {
    if is_deeper_than(depth, value.get()) {
        fields.fault(format_args!("{field} is nested deeper than {MAX_DEPTH} levels"));
        return Payload::of("");
    }
    if !is_tagged {
        return Payload::from_raw(value.to_owned());
    }
    let payload =
        from_tagged(value).map_err(|fault| fields.fault(format_args!("{field}: {fault}")));
    payload.unwrap_or_else(|()| Payload::of(""))
}
