//! `/webhooks`.

use std::collections::BTreeSet;

use axum::{
    Json,
    extract::{RawQuery, State},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    extract::{JsonText, Paging, Query},
    openapi::{BodyErrors, Busy, KeyErrors, NotFound, QueryErrors},
};
use crate::{
    commands::{
        queries::Page,
        webhooks::{self, GivenUp},
    },
    gateways::{app::App, fields::Fields, http_error::HttpError},
    store::Fate,
};

/// The most ids in one request.
const MAX_IDS: usize = 1000;

/// The webhooks to retry.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WebhooksToRetry, examples(json!({"ids": ["msg_2f9c1d5e8a6b4c3d9e0f1a2b3c4d5e6f"]})))]
#[allow(dead_code, reason = "the shape as it is documented; what comes in is read field by field")]
pub(super) struct RetryDto {
    /// Their ids. Without it, all.
    #[schema(min_items = 1, max_items = 1000)]
    ids: Option<Vec<String>>,
}

/// The number of affected webhooks.
#[derive(Serialize, ToSchema)]
#[schema(as = AffectedWebhooks, examples(json!({"webhooks": 2})))]
pub(super) struct AffectedDto {
    /// The number of webhooks.
    webhooks: u64,
}

/// Get the state of webhooks
#[utoipa::path(
    get,
    path = "/webhooks",
    operation_id = "getWebhooks",
    tag = "management",
    responses((status = 200, description = "How many wait, and how many were given up", body = webhooks::State), NotFound, KeyErrors, Busy),
)]
pub(super) async fn state(State(app): State<App>) -> Result<Json<webhooks::State>, HttpError> {
    Ok(Json(webhooks::state(&app).await?))
}

/// List failed webhooks
///
/// Those that were given up after three days. They are kept for a week. A page ends early at a megabyte.
#[utoipa::path(
    get,
    path = "/webhooks/failed",
    operation_id = "listFailedWebhooks",
    tag = "management",
    params(Paging),
    responses((status = 200, description = "A page of them, the oldest first", body = Page<GivenUp>), NotFound, QueryErrors, KeyErrors, Busy),
)]
pub(super) async fn list(
    State(app): State<App>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<GivenUp>>, HttpError> {
    Ok(Json(webhooks::list(&app, &paging.read()?).await?))
}

/// Retry failed webhooks
///
/// They are sent again for up to three days, with the same `webhook-id`, after what waits for the same room or user. Without
/// `ids` all failed webhooks are, and those that wait for their next attempt are sent at once, too.
#[utoipa::path(
    post,
    path = "/webhooks/failed/retry",
    operation_id = "retryFailedWebhooks",
    tag = "management",
    request_body = RetryDto,
    responses((status = 200, description = "How many failed webhooks wait again", body = AffectedDto), NotFound, BodyErrors, KeyErrors, Busy),
)]
pub(super) async fn retry(
    State(app): State<App>,
    body: JsonText,
) -> Result<Json<AffectedDto>, HttpError> {
    let object = body.object()?;
    let mut fields = Fields::of(&object);
    let ids = fields.targets("ids", |id| Ok(id.to_owned()));
    if ids.as_ref().is_some_and(|ids| ids.len() > MAX_IDS) {
        fields.fault(format_args!("ids must contain no more than {MAX_IDS} elements"));
    }
    fields.nothing_but(&["ids"]);
    if !fields.faults.is_empty() {
        return Err(HttpError::faults(fields.faults));
    }
    let ids = ids.map(BTreeSet::from_iter);
    Ok(Json(AffectedDto { webhooks: webhooks::decide(&app, ids, Fate::Retried).await? }))
}

/// Discard failed webhooks
#[utoipa::path(
    delete,
    path = "/webhooks/failed",
    operation_id = "discardFailedWebhooks",
    tag = "management",
    params(
        ("id" = Option<Vec<String>>, Query, description = "Their ids; the parameter can be repeated"),
        ("all" = Option<bool>, Query, description = "`true`: all of them"),
    ),
    responses((status = 200, description = "How many were discarded", body = AffectedDto), NotFound, QueryErrors, KeyErrors, Busy),
)]
pub(super) async fn discard(
    State(app): State<App>,
    RawQuery(query): RawQuery,
) -> Result<Json<AffectedDto>, HttpError> {
    let ids = ids_to_discard(query.as_deref()).map_err(HttpError::faults)?;
    Ok(Json(AffectedDto { webhooks: webhooks::decide(&app, ids, Fate::Discarded).await? }))
}

/// The ids of the query; `None` for all webhooks.
fn ids_to_discard(query: Option<&str>) -> Result<Option<BTreeSet<String>>, Vec<String>> {
    let (mut ids, mut all, mut faults) = (BTreeSet::new(), false, Vec::new());
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match (&*name, &*value) {
            ("id", "") => faults.push("id should not be empty".to_owned()),
            ("id", id) => drop(ids.insert(id.to_owned())),
            ("all", "true" | "false") => all = value == "true",
            ("all", _) => faults.push("all must be a boolean value".to_owned()),
            _ => faults.push(format!("property {name} should not exist")),
        }
    }
    if ids.len() > MAX_IDS {
        faults.push(format!("id must not be given more than {MAX_IDS} times"));
    } else if ids.is_empty() != all && faults.is_empty() {
        faults.push("either id or all=true must be given".to_owned());
    }
    if faults.is_empty() { Ok((!all).then_some(ids)) } else { Err(faults) }
}
