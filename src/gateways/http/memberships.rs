//! The memberships that backends give and take: `/users/{userId}/rooms` and `/connections/{clientId}/rooms`.

use axum::{
    Json,
    extract::{RawQuery, State},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    extract::{JsonText, Segment},
    openapi::{BodyErrors, Busy, KeyErrors, NotFound, QueryErrors},
};
use crate::{
    broker::survey::{Membership, Target},
    commands::{
        backend_membership::{self, Affected},
        queries::Coverage,
    },
    gateways::{
        app::App,
        fields::{Fields, namespace},
        http_error::HttpError,
    },
    protocol::{
        names::{RoomName, UserId},
        refusal::{Code, Refusal},
    },
};

/// The most rooms in one request.
const MAX_ROOMS: usize = 1000;

/// The rooms that clients enter.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RoomsToJoin, examples(json!({"rooms": ["room-7"], "namespace": "/chat"})))]
#[allow(dead_code, reason = "the shape as it is documented; what comes in is read field by field")]
pub(super) struct RoomsDto {
    /// The rooms.
    #[schema(min_items = 1, max_items = 1000)]
    rooms: Vec<String>,
    /// Their namespace. The default is `/`, or for one client its own.
    namespace: Option<String>,
}

/// The number of affected clients.
#[derive(Serialize, ToSchema)]
#[schema(as = AffectedClients, examples(json!({"clients": 2})))]
pub(super) struct AffectedDto {
    /// The number of clients.
    clients: usize,
    /// Whether all nodes were asked.
    #[serde(flatten)]
    coverage: Coverage,
}

impl From<Affected> for Json<AffectedDto> {
    fn from(Affected { clients, coverage }: Affected) -> Self {
        Self(AffectedDto { clients, coverage })
    }
}

/// Put a user into rooms
///
/// All its clients in the namespace join the rooms. Their permissions are not checked. The clients get
/// `room-joined`.
#[utoipa::path(
    post,
    path = "/users/{userId}/rooms",
    operation_id = "joinUser",
    tag = "management",
    params(("userId" = String, Path, description = "The user's id")),
    request_body = RoomsDto,
    responses((status = 200, description = "How many clients are in the rooms now", body = AffectedDto), BodyErrors, KeyErrors, Busy),
)]
pub(super) async fn join_user(
    State(app): State<App>,
    path: Segment,
    body: JsonText,
) -> Result<Json<AffectedDto>, HttpError> {
    let target = Target::User(path.name("userId", UserId::parse)?);
    change(&app, target, body_rooms(&app, &body), true).await
}

/// Remove a user from rooms
///
/// All its clients in the namespace leave the rooms. They get `room-left`.
#[utoipa::path(
    delete,
    path = "/users/{userId}/rooms",
    operation_id = "removeUser",
    tag = "management",
    params(
        ("userId" = String, Path, description = "The user's id"),
        ("room" = Vec<String>, Query, description = "The rooms; the parameter can be repeated"),
        ("namespace" = Option<String>, Query, description = "Their namespace; the default is `/`"),
    ),
    responses((status = 200, description = "How many clients are out of the rooms now", body = AffectedDto), QueryErrors, KeyErrors, Busy),
)]
pub(super) async fn leave_user(
    State(app): State<App>,
    path: Segment,
    RawQuery(query): RawQuery,
) -> Result<Json<AffectedDto>, HttpError> {
    let target = Target::User(path.name("userId", UserId::parse)?);
    change(&app, target, query_rooms(&app, query.as_deref()), false).await
}

/// Put a client into rooms
///
/// The client joins the rooms. Its permissions are not checked. It gets `room-joined`.
#[utoipa::path(
    post,
    path = "/connections/{clientId}/rooms",
    operation_id = "joinClient",
    tag = "management",
    params(("clientId" = String, Path, description = "The client's socket id")),
    request_body = RoomsDto,
    responses((status = 200, description = "It is in the rooms now", body = AffectedDto), NotFound, BodyErrors, KeyErrors, Busy),
)]
pub(super) async fn join_client(
    State(app): State<App>,
    path: Segment,
    body: JsonText,
) -> Result<Json<AffectedDto>, HttpError> {
    let rooms = body_rooms(&app, &body);
    change(&app, client(&path)?, rooms, true).await
}

/// Remove a client from rooms
///
/// The client gets `room-left`.
#[utoipa::path(
    delete,
    path = "/connections/{clientId}/rooms",
    operation_id = "removeClient",
    tag = "management",
    params(
        ("clientId" = String, Path, description = "The client's socket id"),
        ("room" = Vec<String>, Query, description = "The rooms; the parameter can be repeated"),
        ("namespace" = Option<String>, Query, description = "Their namespace; the default is the client's own"),
    ),
    responses((status = 200, description = "It is out of the rooms now", body = AffectedDto), NotFound, QueryErrors, KeyErrors, Busy),
)]
pub(super) async fn leave_client(
    State(app): State<App>,
    path: Segment,
    RawQuery(query): RawQuery,
) -> Result<Json<AffectedDto>, HttpError> {
    let rooms = query_rooms(&app, query.as_deref());
    change(&app, client(&path)?, rooms, false).await
}

/// The rooms of a request, and their namespace if it was given.
type Rooms = (Vec<RoomName>, Option<std::sync::Arc<str>>);

async fn change(
    app: &App,
    target: Target,
    rooms: Result<Rooms, HttpError>,
    joins: bool,
) -> Result<Json<AffectedDto>, HttpError> {
    let (rooms, namespace) = rooms?;
    let change = Membership { target, namespace, rooms, joins };
    Ok(backend_membership::change(app, change).await?.into())
}

fn client(path: &Segment) -> Result<Target, HttpError> {
    let unknown = || Refusal::new(Code::NotFound, format!("Client {} is not connected", path.0));
    Ok(Target::Client(path.0.parse().map_err(|_| unknown())?))
}

fn body_rooms(app: &App, body: &JsonText) -> Result<Rooms, HttpError> {
    let object = body.object()?;
    let mut fields = Fields::of(&object);
    let rooms = fields.targets("rooms", RoomName::parse);
    if rooms.is_none() {
        fields.fault("rooms must be an array");
    }
    let path = fields.text("namespace");
    fields.nothing_but(&["rooms", "namespace"]);
    checked(app, rooms.unwrap_or_default(), path.as_deref(), fields.faults)
}

fn query_rooms(app: &App, query: Option<&str>) -> Result<Rooms, HttpError> {
    let (mut rooms, mut path, mut faults) = (Vec::new(), None, Vec::new());
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*name {
            "room" => match RoomName::parse(&value) {
                Ok(room) => rooms.push(room),
                Err(error) => faults.push(format!("room {error}")),
            },
            "namespace" => path = Some(value),
            _ => faults.push(format!("property {name} should not exist")),
        }
    }
    if rooms.is_empty() && faults.is_empty() {
        faults.push("room should not be empty".to_owned());
    }
    checked(app, rooms, path.as_deref(), faults)
}

/// Each room once, if there are not too many and the namespace exists; else everything that is wrong.
fn checked(
    app: &App,
    mut rooms: Vec<RoomName>,
    path: Option<&str>,
    mut faults: Vec<String>,
) -> Result<Rooms, HttpError> {
    rooms.sort_unstable();
    rooms.dedup();
    if rooms.len() > MAX_ROOMS {
        faults.push(format!("rooms must contain no more than {MAX_ROOMS} elements"));
    }
    let namespace = path.map(|path| namespace(&app.registry, path)).transpose();
    match namespace {
        Ok(namespace) if faults.is_empty() => {
            Ok((rooms, namespace.map(|namespace| namespace.path.clone())))
        }
        Ok(_) => Err(HttpError::faults(faults)),
        Err(fault) => {
            faults.push(fault);
            Err(HttpError::faults(faults))
        }
    }
}
