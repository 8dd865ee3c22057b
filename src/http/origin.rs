//! Which pages may talk to the server: CORS, and the check that CORS does not make.
//!
//! A browser asks for permission before a page reads an answer of another origin, but not before a
//! page opens a websocket: there only the `Origin` header tells, and the server must look at it.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tower::{Layer, ServiceExt};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::error::HttpError;
use crate::config::{Config, CorsOrigin};

/// The path below which Socket.IO lives.
const SOCKET_IO: &str = "/socket.io";

/// The CORS headers of every answer.
#[derive(Clone)]
pub struct Cors {
    usual: CorsLayer,
    with_credentials: CorsLayer,
}

impl Cors {
    /// The headers that this setting asks for.
    pub fn new(allowed: &CorsOrigin) -> Self {
        let layer = CorsLayer::new()
            .allow_methods([Method::GET, Method::POST, Method::DELETE, Method::OPTIONS])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers([header::RETRY_AFTER]);
        match allowed {
            CorsOrigin::Any => Self {
                usual: layer.clone().allow_origin(tower_http::cors::Any),
                // Browsers take no `*` for a request with credentials.
                with_credentials: layer
                    .allow_origin(AllowOrigin::mirror_request())
                    .allow_credentials(true),
            },
            CorsOrigin::List(origins) => {
                let origins =
                    origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
                let layer = layer.allow_origin(AllowOrigin::list(origins)).allow_credentials(true);
                Self { usual: layer.clone(), with_credentials: layer }
            }
        }
    }
}

/// Answers preflights, and adds the CORS headers to every other answer.
pub async fn cors(State(cors): State<Arc<Cors>>, request: Request, next: Next) -> Response {
    let layer = if sends_credentials(request.uri()) { &cors.with_credentials } else { &cors.usual };
    let answer = layer.layer(next).oneshot(request).await;
    answer.unwrap_or_else(|never| match never {})
}

/// socket.io-client 2.x polls with credentials, whether it has any or not.
fn sends_credentials(uri: &Uri) -> bool {
    let eio3 = |query: &str| query.split('&').any(|pair| pair == "EIO=3");
    is_socket_io(uri) && uri.query().is_some_and(eio3)
}

/// Refuses Socket.IO to the pages of other origins than the allowed ones. What names no origin is no
/// page and is let in.
pub async fn check(State(config): State<Arc<Config>>, request: Request, next: Next) -> Response {
    let allowed = &config.cors_origin;
    let origin = request.headers().get(header::ORIGIN);
    let refused =
        origin.filter(|origin| !origin.to_str().is_ok_and(|origin| allowed.allows(origin)));
    if refused.is_some() && *allowed != CorsOrigin::Any && is_socket_io(request.uri()) {
        let message = "the Origin of this request is not one that CORS_ORIGIN allows";
        return HttpError::new(StatusCode::FORBIDDEN, message).into_response();
    }
    next.run(request).await
}

fn is_socket_io(uri: &Uri) -> bool {
    uri.path().strip_prefix(SOCKET_IO).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
