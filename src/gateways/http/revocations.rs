//! `/revocations`.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    extract::{JsonText, Paging, Query, Segment},
    openapi::{BodyErrors, Busy, KeyErrors, NotFound, QueryErrors},
};
use crate::{
    auth::Revocation,
    commands::{
        queries::{Coverage, Page},
        revocation::{self, Tokens},
    },
    gateways::{app::App, fields::Fields, http_error::HttpError},
    protocol::{names::UserId, timestamp::Timestamp},
};

/// The greatest length of a `jti`, in Unicode code points.
const MAX_JTI: usize = 1000;

/// The tokens to revoke: those that match all given fields. `jti` or `userId` is required.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = TokensToRevoke, examples(json!({
    "userId": "alice", "issuedBefore": "2026-11-27T12:00:00.000Z", "expiresAt": "2026-11-28T12:00:00.000Z",
})))]
#[allow(dead_code, reason = "the shape as it is documented; what comes in is read field by field")]
pub(super) struct TokensDto {
    /// The token's `jti`.
    #[schema(min_length = 1, max_length = 1000)]
    jti: Option<String>,
    /// The user.
    user_id: Option<String>,
    /// Only tokens with an earlier `iat`. A token without `iat` counts as older.
    #[schema(format = DateTime)]
    issued_before: Option<String>,
    /// Until when: no token that matches should be valid for longer.
    #[schema(format = DateTime)]
    expires_at: String,
}

/// Revoked tokens.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Revocation)]
pub(super) struct RevocationDto {
    /// The revocation's id.
    id: String,
    /// The token's `jti`, if it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    jti: Option<String>,
    /// The user, if it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    user_id: Option<String>,
    /// Only tokens with an earlier `iat`, if given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Option<String>, format = DateTime)]
    issued_before: Option<Timestamp>,
    /// Until when.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Whether all nodes know it already; the others will within a second of their return.
    #[serde(flatten)]
    coverage: Coverage,
}

impl RevocationDto {
    fn of(revocation: Revocation, coverage: Coverage) -> Self {
        let Revocation { id, jti, user_id, issued_before, expires_at, created_at } = revocation;
        let (jti, user_id) = (jti.map(|jti| jti.to_string()), user_id.map(|user| user.to_string()));
        Self { id, jti, user_id, issued_before, expires_at, created_at, coverage }
    }
}

/// Revoke tokens
///
/// They are no longer good on any node, until `expiresAt`: connected clients get `token-revoked` and are
/// disconnected, new ones are refused.
#[utoipa::path(
    post,
    path = "/revocations",
    operation_id = "revokeTokens",
    tag = "management",
    request_body = TokensDto,
    responses((status = 201, description = "They are revoked", body = RevocationDto), BodyErrors, KeyErrors, Busy),
)]
pub(super) async fn revoke(
    State(app): State<App>,
    body: JsonText,
) -> Result<(StatusCode, Json<RevocationDto>), HttpError> {
    let object = body.object()?;
    let mut fields = Fields::of(&object);
    let jti = fields.text("jti");
    if jti.as_ref().is_some_and(|jti| jti.is_empty() || jti.chars().nth(MAX_JTI).is_some()) {
        fields.fault(format_args!("jti must be from 1 to {MAX_JTI} characters long"));
    }
    let user = fields.name("userId", UserId::parse);
    if object.get("jti").is_none() && object.get("userId").is_none() {
        fields.fault("jti or userId should not be empty");
    }
    let issued_before = fields.time("issuedBefore");
    let expires_at = fields.time("expiresAt");
    if object.get("expiresAt").is_none() {
        fields.fault("expiresAt must be a valid ISO 8601 date string");
    } else if expires_at.is_some_and(|end| end <= Timestamp::now()) {
        fields.fault("expiresAt must be in the future");
    }
    fields.nothing_but(&["jti", "userId", "issuedBefore", "expiresAt"]);
    let Some(expires_at) = expires_at.filter(|_| fields.faults.is_empty()) else {
        return Err(HttpError::faults(fields.faults));
    };
    let tokens = Tokens { jti, user, issued_before };
    let (revocation, coverage) = revocation::revoke(&app, tokens, expires_at).await?;
    Ok((StatusCode::CREATED, Json(RevocationDto::of(revocation, coverage))))
}

/// List the revocations in force
#[utoipa::path(
    get,
    path = "/revocations",
    operation_id = "listRevocations",
    tag = "management",
    params(Paging),
    responses((status = 200, description = "A page of them, in the order of their ids", body = Page<RevocationDto>), QueryErrors, KeyErrors, Busy),
)]
pub(super) async fn list(
    State(app): State<App>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<RevocationDto>>, HttpError> {
    let Page { items, total, next_cursor, coverage } =
        revocation::list(&app, &paging.read()?).await?;
    let show = |revocation| RevocationDto::of(revocation, Coverage::default());
    let items = items.into_iter().map(show).collect();
    Ok(Json(Page { items, total, next_cursor, coverage }))
}

/// Delete a revocation
///
/// The tokens are valid again.
#[utoipa::path(
    delete,
    path = "/revocations/{id}",
    operation_id = "deleteRevocation",
    tag = "management",
    params(("id" = String, Path, description = "The revocation's id")),
    responses((status = 204, description = "It is deleted"), NotFound, KeyErrors, Busy),
)]
pub(super) async fn reinstate(
    State(app): State<App>,
    Segment(id): Segment,
) -> Result<StatusCode, HttpError> {
    revocation::reinstate(&app, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
