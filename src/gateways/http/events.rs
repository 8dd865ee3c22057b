//! `POST /events`.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use utoipa::ToSchema;

use super::{
    extract::JsonText,
    idempotency::{self, AT_ONCE, OptionalKey, replayed},
    openapi::{BodyErrors, Busy, KeyErrors},
};
use crate::{
    commands::{
        backend_event::{self, Audience, BackendEvent, Keys},
        emit_with_ack::{self, Acknowledged, MAX_ADDRESSEES},
        queries::{self, Coverage},
    },
    gateways::{
        app::App,
        event_fields::{EventFields, Source},
        fields::Fields,
        http_error::HttpError,
    },
    protocol::{names::UserId, payload::Object},
};

/// How long acknowledgements may be awaited, in milliseconds.
const WAIT_MS: RangeInclusive<u64> = 100..=30_000;

/// An event and its addressees. Without addressees it goes to everyone in the namespace.
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
    /// The event's name. Socket.IO's own events and the server's state events are not allowed.
    #[schema(min_length = 1)]
    event: String,
    /// Its argument; the default is null. An object for rooms is a message of each of them, numbered
    /// and stored.
    #[schema(value_type = Value, required = false)]
    data: Box<RawValue>,
    /// Rooms to send it to.
    #[schema(min_items = 1)]
    rooms: Option<Vec<String>>,
    /// Users to send it to, in all namespaces.
    #[schema(min_items = 1)]
    users: Option<Vec<String>>,
    /// Clients to send it to, in all namespaces.
    #[schema(min_items = 1)]
    clients: Option<Vec<String>>,
    except: Option<LeftOut>,
    /// The namespace of the rooms, or of everyone.
    #[schema(default = "/")]
    namespace: Option<String>,
    /// Whether to send only to clients that are connected now. Nothing is numbered, stored or queued.
    volatile: Option<bool>,
    /// All its arguments, in the place of `data`. Such an event is volatile. A binary value is `{"$binary": "<base64>"}`.
    args: Option<Vec<Value>>,
    /// Each client gets it once and acknowledges it; the answer waits for that. Such an event is volatile.
    ack: Option<AckDto>,
}

/// How to wait for acknowledgements.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = Ack)]
#[allow(dead_code, reason = "as above")]
pub(super) struct AckDto {
    /// How long to wait, in milliseconds.
    #[schema(minimum = 100, maximum = 30000)]
    timeout_ms: u64,
}

/// Excluded from the live delivery.
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

/// The result of an event.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(json!({"id": "4d2f3c8e-9b1a-4f6e-8a57-0c2b9d6e1f34", "offsets": {"room-7": 42}, "queued": ["bob"], "refused": [], "notFound": []})))]
pub(super) struct SentEvent {
    /// The `id` of the data if it has one, else a new one.
    #[schema(value_type = String)]
    id: Box<RawValue>,
    /// Its offset in each room with history.
    offsets: BTreeMap<String, u64>,
    /// Users without a client. They get it when they next connect.
    queued: Vec<String>,
    /// Users without a client whose queue is full.
    refused: Vec<String>,
    /// The clients that are not connected, and the users that have no client, and nothing queued: none of
    /// them gets it.
    not_found: Vec<String>,
    /// Whether all nodes were asked for the clients.
    #[serde(flatten)]
    coverage: Coverage,
}

/// What the clients acknowledged.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(json!({
    "id": "4d2f3c8e-9b1a-4f6e-8a57-0c2b9d6e1f34",
    "responses": [{"clientId": "3qwd6cWPZVJxGsnkAAAB", "args": [{"accepted": true}]}],
    "timedOut": ["5rTd6cWPZVJxGsnkAAAC"],
})))]
pub(super) struct AcknowledgedEvent {
    /// The `id` of the data if it has one, else a new one.
    #[schema(value_type = String)]
    id: Box<RawValue>,
    /// The clients that answered.
    responses: Vec<AckResponse>,
    /// The clients that did not answer in time, or have disconnected.
    timed_out: Vec<String>,
    /// Whether all nodes were asked.
    #[serde(flatten)]
    coverage: Coverage,
}

/// A client's acknowledgement.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AckResponse {
    /// The client.
    client_id: String,
    /// Its arguments. A binary value is `{"$binary": "<base64>"}`.
    #[schema(value_type = Vec<Value>)]
    args: Box<RawValue>,
}

/// Send an event
///
/// To rooms, users and clients, each list a sending of its own; to everyone of the namespace where
/// none is given. A list that is given must not be empty. With `ack` each client gets it once, at most
/// 1000 clients may be meant, and the answer is what they acknowledge.
#[utoipa::path(
    post,
    path = "/events",
    operation_id = "sendEvent",
    tag = "management",
    request_body = EventDto,
    responses(
        (status = 201, description = "It was sent", body = SentEvent),
        (status = 200, description = "With `ack`: it was sent, and the clients have acknowledged", body = AcknowledgedEvent),
        BodyErrors, KeyErrors, Busy,
    ),
)]
pub(super) async fn send(
    State(app): State<App>,
    OptionalKey(key): OptionalKey,
    body: JsonText,
) -> Result<Response, HttpError> {
    let request = read(&app, &body.object()?).map_err(HttpError::faults)?;
    let Some(key) = key else { return answer(&app, request, Keys::None).await };
    let (ack, has_log) = (request.ack, app.broker.log().is_some());
    if ack.is_none() && request.event.is_one_message() && has_log {
        return answer(&app, request, Keys::Message(key.keyed)).await;
    }
    let work = {
        let (app, keys) = (app.clone(), Keys::Parts(key.keyed.clone()));
        async move { answer(&app, request, keys).await.into_response() }
    };
    Ok(idempotency::once(&app, key, AT_ONCE + ack.unwrap_or_default(), work).await)
}

async fn answer(app: &App, request: Request, keys: Keys) -> Result<Response, HttpError> {
    let Request { event, ack, no_clients } = request;
    if let Some(wait) = ack {
        return acknowledged(app, event, wait).await;
    }
    let clients = match &event.audience {
        Audience::These { clients, .. } => clients.clone(),
        Audience::Everyone => Vec::new(),
    };
    let sent = backend_event::send(app, event, keys).await?;
    let is_duplicate = sent.is_duplicate;
    let (missing, coverage) = queries::missing(app, &clients).await;
    let names = |users: Vec<UserId>| users.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut not_found = names(sent.unreached);
    not_found.extend(missing.iter().map(ToString::to_string));
    not_found.extend(no_clients);
    let offsets = sent.offsets.into_iter();
    let sent = SentEvent {
        id: sent.id.json,
        offsets: offsets.map(|(room, offset)| (room.to_string(), offset)).collect(),
        queued: names(sent.queued),
        refused: names(sent.refused),
        not_found,
        coverage,
    };
    let answer = (StatusCode::CREATED, Json(sent)).into_response();
    Ok(if is_duplicate { replayed(answer) } else { answer })
}

async fn acknowledged(
    app: &App,
    event: BackendEvent,
    wait: Duration,
) -> Result<Response, HttpError> {
    let Acknowledged { id, part, coverage } = emit_with_ack::send(app, event, wait).await?;
    let show = |emit_with_ack::Response { client_id, args }| AckResponse { client_id, args };
    let responses = part.responses.into_iter().map(show).collect();
    let acknowledged =
        AcknowledgedEvent { id: id.json, responses, timed_out: part.timed_out, coverage };
    Ok(Json(acknowledged).into_response())
}

/// A request to send an event.
struct Request {
    event: BackendEvent,
    /// How long to wait for acknowledgements, if any are wanted.
    ack: Option<Duration>,
    /// What is named as a client, and can be no client's id.
    no_clients: Vec<String>,
}

/// Reads the body, or returns everything that is wrong with it.
fn read(app: &App, body: &Object<'_>) -> Result<Request, Vec<String>> {
    let mut fields = Fields::of(body);
    let event = EventFields::read(&mut fields, &app.registry, Source::Request, &["ack"]);
    let ack = ack(&mut fields, body);
    let named = match &event.audience {
        Some(Audience::These { rooms, users, clients }) => {
            rooms.len() + users.len() + clients.len()
        }
        None | Some(Audience::Everyone) => 0,
    };
    if ack.is_some() && named > MAX_ADDRESSEES {
        fields
            .fault(format_args!("with ack no more than {MAX_ADDRESSEES} addressees may be named"));
    }
    let EventFields { event, data, is_list, audience, no_clients, namespace, except, is_volatile } =
        event;
    let Some(namespace) = namespace.filter(|_| fields.faults.is_empty()) else {
        return Err(fields.faults);
    };
    let audience = audience.unwrap_or(Audience::Everyone);
    let volatile = is_volatile;
    let event = BackendEvent { namespace, event, data, is_list, audience, except, volatile };
    Ok(Request { event, ack, no_clients })
}

/// How long to wait for acknowledgements, if any are wanted.
fn ack(fields: &mut Fields<'_, '_>, body: &Object<'_>) -> Option<Duration> {
    let Some(ack) = Object::parse(body.get("ack")?.get()) else {
        fields.fault("ack must be an object");
        return None;
    };
    for (name, _) in ack.fields().filter(|(name, _)| *name != "timeoutMs") {
        fields.fault(format_args!("ack.property {name} should not exist"));
    }
    let wait = ack.get("timeoutMs").and_then(|wait| wait.get().parse().ok());
    let wait = wait.filter(|wait| WAIT_MS.contains(wait));
    if wait.is_none() {
        let (least, most) = (WAIT_MS.start(), WAIT_MS.end());
        fields.fault(format_args!("ack.timeoutMs must be an integer from {least} to {most}"));
    }
    wait.map(Duration::from_millis)
}
