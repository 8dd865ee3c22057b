//! The limits on callers: the rate of requests, and the number of Socket.IO connections.

use axum::{
    extract::{Request, State},
    http::{Method, Uri},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::keys;
use crate::{
    gateways::{app::App, http_error::HttpError},
    limits::{Caller, ROOM_AGAIN, Source, client_address, disbelieved_peer},
    protocol::refusal::{Code, Refusal},
    telemetry::{
        event_log::{Entry, Kind},
        metrics::Limit,
    },
};

/// Refuses a request over `RATE_LIMIT_HTTP`, or while memory is short. Health checks and metrics are never
/// refused: orchestrators would take the server for dead.
pub(super) fn request(app: &App, request: &Request) -> Result<(), HttpError> {
    let path = request.uri().path();
    let exempt = path == "/metrics" || path == "/health" || path.starts_with("/health/");
    if exempt {
        return Ok(());
    }
    let no_memory = |refusal| refuse(app, request, refusal, Limit::Memory);
    app.memory.check_work().map_err(no_memory)?;
    if !app.limits.counts_requests() {
        return Ok(());
    }
    let address = client_address(request.headers(), request.extensions(), &app.config);
    warn_of_proxy(app, request);
    let key = keys::key_of(app, request.headers()).map(Caller::Key);
    let Some(caller) = key.or_else(|| Some(Caller::Address(Source::of(address?)))) else {
        return Ok(());
    };
    app.limits.request(caller).map_err(|refusal| refuse(app, request, refusal, Limit::Http))
}

/// Refuses new Socket.IO connections over the limits, in the answer to the handshake: the only refusal after
/// which clients try again by themselves.
pub(super) async fn handshakes(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Response {
    if !is_new_session(request.method(), request.uri()) {
        return next.run(request).await;
    }
    let address = client_address(request.headers(), request.extensions(), &app.config);
    warn_of_proxy(&app, &request);
    if let Err(refusal) = app.memory.check_connection() {
        return refuse(&app, &request, refusal, Limit::Memory).into_response();
    }
    let admitted = if app.limits.slots.are_crowded() {
        let message = "the server has as many connections as its limit of descriptors allows";
        Err(Refusal::new(Code::Unavailable, message).after(ROOM_AGAIN))
    } else {
        app.limits.connection_limiter.admit(address)
    };
    match admitted {
        Ok(permit) => {
            request.extensions_mut().insert(permit);
            request.extensions_mut().insert(app.memory.open_account());
            next.run(request).await
        }
        Err(refusal) => refuse(&app, &request, refusal, Limit::Connections).into_response(),
    }
}

/// Requests of an existing session name it.
fn is_new_session(method: &Method, uri: &Uri) -> bool {
    let names_session = |query: &str| query.split('&').any(|pair| pair.starts_with("sid="));
    *method == Method::GET && !uri.query().is_some_and(names_session)
}

fn warn_of_proxy(app: &App, request: &Request) {
    let peer = disbelieved_peer(request.headers(), request.extensions(), &app.config);
    if let Some(peer) = peer {
        app.limits.warn_of_proxy(peer);
    }
}

fn refuse(app: &App, request: &Request, refusal: Refusal, limit: Limit) -> HttpError {
    app.metrics.limited(limit);
    let address = client_address(request.headers(), request.extensions(), &app.config);
    app.event_log.write(|| Entry {
        address,
        transport: Some("http"),
        code: Some(refusal.code),
        reason: Some(refusal.message.clone()),
        ..Entry::new(Kind::Refusal)
    });
    HttpError::from(refusal)
}
