//! Who may use which routes: the API keys.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::Response,
};

use super::error::HttpError;
use crate::{app::App, config::Environment};

/// Lets in who brings one of the API keys; everyone, where there are none.
pub async fn known(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, HttpError> {
    check(&app, request.headers())?;
    Ok(next.run(request).await)
}

/// Lets in who brings one of the API keys; nobody, where there are none, but in development.
pub async fn trusted(
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
    check(&app, request.headers())?;
    Ok(next.run(request).await)
}

fn check(app: &App, headers: &HeaderMap) -> Result<(), HttpError> {
    if app.api_keys.is_empty() {
        return Ok(());
    }
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(
        |value| {
            let (scheme, key) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
        },
    );
    let own = headers.get("x-api-key").and_then(|value| value.to_str().ok());
    let mut given = bearer.into_iter().chain(own).peekable();
    let message = if given.peek().is_none() {
        "an API key is required: send it as Authorization: Bearer KEY or X-API-Key: KEY"
    } else if given.any(|key| app.api_keys.matches(key)) {
        return Ok(());
    } else {
        "the API key is not one of API_KEYS"
    };
    Err(HttpError::new(StatusCode::UNAUTHORIZED, message))
}
