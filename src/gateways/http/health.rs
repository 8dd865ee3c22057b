//! Health checks and metrics, for orchestrators and Prometheus.

use std::{borrow::Cow, collections::BTreeMap, sync::atomic::Ordering};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    broker::cluster::Cluster,
    gateways::app::App,
    store::{self, Store},
};

/// The state of the server and its dependencies, in the format of NestJS Terminus.
#[derive(Serialize, ToSchema)]
#[schema(examples(json!({
    "status": "ok",
    "info": {"server": {"status": "up"}, "store": {"status": "up"}},
    "error": {},
    "details": {"server": {"status": "up"}, "store": {"status": "up"}},
})))]
pub(super) struct Health {
    /// `ok`, or `error` where something is down.
    status: &'static str,
    /// What is up.
    info: BTreeMap<Cow<'static, str>, Indicator>,
    /// What is down.
    error: BTreeMap<Cow<'static, str>, Indicator>,
    /// Both.
    details: BTreeMap<Cow<'static, str>, Indicator>,
}

/// The state of one part.
#[derive(Clone, Serialize, ToSchema)]
pub(super) struct Indicator {
    /// `up` or `down`.
    status: &'static str,
    /// Why it is down.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Cow<'static, str>>,
    /// Further details.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Cow<'static, str>>,
}

impl Indicator {
    const UP: Self = Self { status: "up", message: None, detail: None };

    fn down(message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: "down", message: Some(message.into()), detail: None }
    }
}

fn server(app: &App) -> Indicator {
    if app.leaving.load(Ordering::Acquire) || app.draining.load(Ordering::Acquire) {
        return Indicator::down("the server is stopping");
    }
    Indicator::UP
}

/// Without a store, nothing can fail.
fn store(app: &App) -> Indicator {
    match app.store.as_ref().map(Store::health) {
        None | Some(store::Health::Working) => Indicator::UP,
        Some(store::Health::Failing { reason, .. }) => Indicator::down(reason),
        Some(store::Health::Closed) => Indicator::down("the store is closed"),
    }
}

/// `None` for a single node.
fn redis(app: &App) -> Option<Indicator> {
    let cluster = app.cluster.as_ref()?;
    Some(cluster.health().map_or_else(Indicator::down, |()| Indicator::UP))
}

/// The application's backend, if there is one. It is up whatever it does: without it, all else goes on.
fn handler(app: &App) -> Option<Indicator> {
    let detail = Some(app.handlers.as_ref()?.state());
    Some(Indicator { detail, ..Indicator::UP })
}

/// The other instances of Redis that are away: `redis-2` and so on. Their rooms are unavailable then, and nothing else.
fn instances(app: &App) -> BTreeMap<usize, String> {
    let cluster = app.cluster.iter().flat_map(Cluster::failing_instances);
    let store = app.store.iter().flat_map(Store::failing_instances);
    cluster.chain(store).collect()
}

/// A node whose first Redis is there is `ready` although another one is away: all other nodes miss it, too.
fn report(app: &App, is_about_readiness: bool) -> (StatusCode, Json<Health>) {
    let mut details =
        BTreeMap::from([("server".into(), server(app)), ("store".into(), store(app))]);
    details.extend(redis(app).map(|redis| ("redis".into(), redis)));
    details.extend(handler(app).map(|handler| ("handler".into(), handler)));
    let is_served = details.values().all(|indicator: &Indicator| indicator.message.is_none());
    for (place, reason) in instances(app) {
        details.insert(format!("redis-{place}").into(), Indicator::down(reason));
    }
    let (info, error): (BTreeMap<_, _>, BTreeMap<_, _>) =
        details.clone().into_iter().partition(|(_, indicator)| indicator.message.is_none());
    let is_up = if is_about_readiness { is_served } else { error.is_empty() };
    let status = if is_up { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Health { status: if is_up { "ok" } else { "error" }, info, error, details }))
}

/// Check the server's health
#[utoipa::path(
    get,
    path = "/health",
    operation_id = "getHealth",
    tag = "operation",
    responses(
        (status = 200, description = "Everything is up", body = Health),
        (status = 503, description = "Something is down, or the server is stopping", body = Health),
    ),
)]
pub(super) async fn health(State(app): State<App>) -> impl IntoResponse {
    report(&app, false)
}

/// Check whether the server is ready for clients
///
/// It is not ready while it stops, while its store is down, and, with several nodes, while Redis is away (of several
/// instances: the first; others that are away are named).
#[utoipa::path(
    get,
    path = "/health/ready",
    operation_id = "getReadiness",
    tag = "operation",
    responses(
        (status = 200, description = "It is", body = Health),
        (status = 503, description = "It is not", body = Health),
    ),
)]
pub(super) async fn ready(State(app): State<App>) -> impl IntoResponse {
    report(&app, true)
}

/// The server is alive.
#[derive(Serialize, ToSchema)]
pub(super) struct Live {
    /// `ok`
    status: &'static str,
}

/// Check whether the server is alive
#[utoipa::path(
    get,
    path = "/health/live",
    operation_id = "getLiveness",
    tag = "operation",
    responses((status = 200, description = "It does", body = Live)),
)]
pub(super) async fn live() -> Json<Live> {
    Json(Live { status: "ok" })
}

const OPEN_METRICS: &str = "application/openmetrics-text";

/// Read the metrics
///
/// In Prometheus' text format, or as `OpenMetrics` if the request accepts that.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "getMetrics",
    tag = "operation",
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain")),
)]
pub(super) async fn metrics(State(app): State<App>, headers: HeaderMap) -> impl IntoResponse {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let kind = if accepts.into_iter().any(|accepted| accepted.contains(OPEN_METRICS)) {
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    } else {
        // What OpenMetrics adds is comments in the older format.
        "text/plain; version=0.0.4; charset=utf-8"
    };
    ([(header::CONTENT_TYPE, kind)], app.metrics.encode())
}
