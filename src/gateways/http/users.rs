//! `/users` and `/stats`.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    extract::{Query, Segment},
    memberships::AffectedDto,
    openapi::{Busy, KeyErrors, QueryErrors},
};
use crate::{
    commands::{
        backend_membership,
        queries::{self, Presence, Stats},
    },
    gateways::{app::App, http_error::HttpError},
    protocol::names::UserId,
};

/// Get a user's presence
///
/// An unknown user is offline.
#[utoipa::path(
    get,
    path = "/users/{userId}",
    operation_id = "getUser",
    tag = "management",
    params(("userId" = String, Path, description = "The user's id", min_length = 1, max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")),
    responses((status = 200, description = "Its presence", body = Presence), QueryErrors, KeyErrors, Busy),
)]
pub(super) async fn one(
    State(app): State<App>,
    path: Segment,
) -> Result<Json<Presence>, HttpError> {
    let user = path.name("userId", UserId::parse)?;
    Ok(Json(queries::user(&app, &user).await?))
}

/// The greatest length of a reason, in Unicode code points.
const MAX_REASON: usize = 200;

/// Why a user is disconnected.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Why {
    /// The reason, for the event log.
    #[param(max_length = 200, default = "server namespace disconnect")]
    reason: Option<String>,
}

/// Disconnect a user
///
/// All its clients, in all namespaces. They do not reconnect by themselves, but may: revoke the user's tokens
/// to keep it out.
#[utoipa::path(
    delete,
    path = "/users/{userId}/connections",
    operation_id = "disconnectUser",
    tag = "management",
    params(("userId" = String, Path, description = "The user's id"), Why),
    responses((status = 200, description = "How many clients are being disconnected", body = AffectedDto), QueryErrors, KeyErrors, Busy),
)]
pub(super) async fn disconnect(
    State(app): State<App>,
    path: Segment,
    Query(Why { reason }): Query<Why>,
) -> Result<Json<AffectedDto>, HttpError> {
    let user = path.name("userId", UserId::parse)?;
    let reason = reason.filter(|reason| !reason.is_empty());
    let reason = reason.unwrap_or_else(|| "server namespace disconnect".to_owned());
    if reason.chars().nth(MAX_REASON).is_some() {
        let fault = format!("reason must be shorter than or equal to {MAX_REASON} characters");
        return Err(HttpError::faults(vec![fault]));
    }
    Ok(backend_membership::disconnect_user(&app, &user, &reason).await.into())
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
)]
pub(super) async fn stats(State(app): State<App>) -> Json<Stats> {
    Json(queries::stats(&app).await)
}
