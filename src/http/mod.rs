//! The HTTP door.
use crate::app::App;
use axum::Router;
use socketioxide::layer::SocketIoLayer;

/// Every route.
pub fn router(app: App, layer: SocketIoLayer) -> Router {
    Router::new()
        .route("/health", axum::routing::get(|| async { "ok" }))
        .layer(layer)
        .with_state(app)
}
