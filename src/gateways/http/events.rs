//! `POST /events`.

use std::collections::BTreeMap;

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    extract::{JsonText, namespace},
    fields::{Fields, client},
    openapi::{BodyErrors, Busy, KeyErrors},
};
use crate::{
    commands::backend_event::{self, Audience, BackendEvent, Sent},
    gateways::{app::App, http_error::HttpError},
    protocol::{
        names::{RoomName, UserId},
        payload::{Object, Payload},
    },
};

/// An event, and to whom it goes: to everyone of the namespace where nobody is named.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({
    "event": "price-changed",
    "data": {"sku": "A-7", "price": 12.5},
    "rooms": ["room-7"],
    "users": ["alice"],
    "except": {"clients": ["3qwd6cWPZVJxGsnkAAAB"]},
})))]
#[schema(as = Event)]
#[allow(dead_code, reason = "the shape as it is documented; what comes in is read field by field")]
pub(super) struct EventDto {
    /// The event's name: none of Socket.IO's own, and none by which the server tells a client its state.
    #[schema(min_length = 1)]
    event: String,
    /// Its argument; null where it is not given. An object to rooms is a message of each of them, numbered
    /// and stored.
    #[schema(value_type = Value, required = false)]
    data: Box<RawValue>,
    /// The rooms to whose members it goes.
    #[schema(min_items = 1)]
    rooms: Option<Vec<String>>,
    /// The users to whose clients it goes, in all namespaces.
    #[schema(min_items = 1)]
    users: Option<Vec<String>>,
    /// The clients to which it goes, in all namespaces.
    #[schema(min_items = 1)]
    clients: Option<Vec<String>>,
    except: Option<LeftOut>,
    /// The namespace of the rooms, or of everyone.
    #[schema(default = "/")]
    namespace: Option<String>,
    /// Whether only those are meant who are there at this moment: nothing is numbered, stored or queued.
    volatile: Option<bool>,
}

/// Who is left out of the live delivery.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Except)]
#[allow(dead_code, reason = "as above")]
pub(super) struct LeftOut {
    /// The members of these rooms.
    rooms: Option<Vec<String>>,
    /// The clients of these users.
    users: Option<Vec<String>>,
    /// These clients.
    clients: Option<Vec<String>>,
}

/// What became of an event.
#[derive(Serialize, ToSchema)]
#[schema(examples(json!({"id": "4d2f3c8e-9b1a-4f6e-8a57-0c2b9d6e1f34", "offsets": {"room-7": 42}, "queued": ["bob"], "refused": []})))]
pub(super) struct SentEvent {
    /// The `id` of the data if it has one, else a new one.
    #[schema(value_type = String)]
    id: Box<RawValue>,
    /// Its number in each of the rooms that keep it.
    offsets: BTreeMap<String, u64>,
    /// The users without a client that get it when they next connect.
    queued: Vec<String>,
    /// The users without a client whose queue is full.
    refused: Vec<String>,
}

/// Send an event
///
/// To rooms, users and clients, each list a sending of its own; to everyone of the namespace where
/// none is given. A list that is given must not be empty.
#[utoipa::path(
    post,
    path = "/events",
    operation_id = "sendEvent",
    tag = "management",
    request_body = EventDto,
    responses((status = 201, description = "It was sent", body = SentEvent), BodyErrors, KeyErrors, Busy),
    security(("bearer" = []), ("apiKey" = [])),
)]
pub(super) async fn send(
    State(app): State<App>,
    body: JsonText,
) -> Result<(StatusCode, Json<SentEvent>), HttpError> {
    let event = read(&app, &body.object()?).map_err(HttpError::faults)?;
    let Sent { id, offsets, queued, refused } = backend_event::send(&app, event).await?;
    let names = |users: Vec<UserId>| users.iter().map(ToString::to_string).collect();
    let sent = SentEvent {
        id: id.json,
        offsets: offsets.into_iter().map(|(room, offset)| (room.to_string(), offset)).collect(),
        queued: names(queued),
        refused: names(refused),
    };
    Ok((StatusCode::CREATED, Json(sent)))
}

/// Reads the body as an event, or returns everything that is wrong with it.
fn read(app: &App, body: &Object<'_>) -> Result<BackendEvent, Vec<String>> {
    let mut fields = Fields::of(body);
    let event = fields.event();
    let data = body.get("data").unwrap_or(RawValue::NULL);
    if Object::parse(data.get()).is_some_and(|data| data.is_placeholder()) {
        // Receivers would put an attachment in its place.
        fields.fault("data must not be the placeholder of a binary attachment");
    }
    let rooms = fields.targets("rooms", RoomName::parse);
    let users = fields.targets("users", UserId::parse);
    let clients = fields.targets("clients", client);
    let audience = match (rooms, users, clients) {
        (None, None, None) => Audience::Everyone,
        (rooms, users, clients) => Audience::These {
            rooms: rooms.unwrap_or_default(),
            users: users.unwrap_or_default(),
            clients: clients.into_iter().flatten().flatten().collect(),
        },
    };
    let path = fields.text("namespace");
    let namespace = namespace(app, path.as_deref().unwrap_or("/"))
        .map_err(|fault| fields.faults.push(fault))
        .ok();
    let except =
        fields.except(namespace.as_ref().map_or("/".into(), |namespace| namespace.path.clone()));
    let volatile = fields.flag("volatile");
    fields.nothing_but(&[
        "event",
        "data",
        "rooms",
        "users",
        "clients",
        "except",
        "namespace",
        "volatile",
    ]);
    match namespace {
        Some(namespace) if fields.faults.is_empty() => Ok(BackendEvent {
            namespace,
            event,
            data: Payload::from_raw(data.to_owned()),
            is_list: false,
            audience,
            except,
            volatile,
        }),
        _ => Err(fields.faults),
    }
}
