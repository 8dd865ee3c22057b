//! `/users` and `/stats`.

use axum::{Json, extract::State};

use super::{
    extract::Segment,
    openapi::{Busy, KeyErrors, QueryErrors},
};
use crate::{
    commands::queries::{self, Presence, Stats},
    gateways::{app::App, http_error::HttpError},
    protocol::names::UserId,
};

/// Look at a user's presence
///
/// A user that nobody knows is offline.
#[utoipa::path(
    get,
    path = "/users/{userId}",
    operation_id = "getUser",
    tag = "management",
    params(("userId" = String, Path, description = "The user's id")),
    responses((status = 200, description = "Its presence", body = Presence), QueryErrors, KeyErrors, Busy),
    security(("bearer" = []), ("apiKey" = [])),
)]
pub(super) async fn one(
    State(app): State<App>,
    path: Segment,
) -> Result<Json<Presence>, HttpError> {
    let user = path.name("userId", UserId::parse)?;
    Ok(Json(queries::user(&app, &user).await?))
}

/// Count connections, rooms and users
///
/// Over all nodes and namespaces.
#[utoipa::path(
    get,
    path = "/stats",
    operation_id = "getStats",
    tag = "management",
    responses((status = 200, description = "The counts", body = Stats), KeyErrors),
    security(("bearer" = []), ("apiKey" = [])),
)]
pub(super) async fn stats(State(app): State<App>) -> Json<Stats> {
    Json(queries::stats(&app).await)
}
