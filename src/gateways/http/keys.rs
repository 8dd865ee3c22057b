//! Which routes require an API key.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::Response,
};

use crate::{
    config::Environment,
    gateways::{app::App, http_error::HttpError},
    limits::client_address,
    protocol::refusal::Code,
    telemetry::event_log::{Entry, Kind},
};

/// Requires one of the API keys, if any are configured.
pub(super) async fn require_key_if_set(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, HttpError> {
    check(&app, &request)?;
    Ok(next.run(request).await)
}

/// Requires one of the API keys. Without configured keys, only development lets callers in.
pub(super) async fn require_key(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, HttpError> {
    if app.api_keys.is_empty() && app.config.environment != Environment::Development {
        return Err(HttpError::new(
            StatusCode::FORBIDDEN,
            "this route needs an API key and none is configured: set API_KEYS and send one of them as \
             Authorization: Bearer KEY or X-API-Key: KEY (NODE_ENV=development opens it without)",
        ));
    }
    check(&app, &request)?;
    Ok(next.run(request).await)
}

/// The API key that the request brings, if it brings one.
pub(super) fn known_key<'a>(app: &App, headers: &'a HeaderMap) -> Option<&'a str> {
    given(headers).find(|key| app.api_keys.find(key).is_some())
}

/// The number of the API key that the request brings, if it brings one.
pub(super) fn key_of(app: &App, headers: &HeaderMap) -> Option<usize> {
    given(headers).find_map(|key| app.api_keys.find(key))
}

/// The keys that the request brings, valid or not.
fn given(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(
        |value| {
            let (scheme, key) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
        },
    );
    let own = headers.get("x-api-key").and_then(|value| value.to_str().ok());
    bearer.into_iter().chain(own)
}

fn check(app: &App, request: &Request) -> Result<(), HttpError> {
    let headers = request.headers();
    if app.api_keys.is_empty() || key_of(app, headers).is_some() {
        return Ok(());
    }
    let message = if given(headers).next().is_none() {
        "an API key is required: send it as Authorization: Bearer KEY or X-API-Key: KEY"
    } else {
        app.metrics.auth_failed();
        "the API key is not one of API_KEYS"
    };
    let address = client_address(headers, request.extensions(), &app.config);
    app.event_log.write(|| Entry {
        address,
        transport: Some("http"),
        code: Some(Code::Unauthorized),
        reason: Some(message.into()),
        ..Entry::new(Kind::AuthFailure)
    });
    Err(HttpError::new(StatusCode::UNAUTHORIZED, message))
}
