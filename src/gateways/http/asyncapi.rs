//! The document of the events.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::IntoResponse;
use bytes::Bytes;

/// Made once, as it is the same for every server of this version.
static DOCUMENT: LazyLock<Bytes> =
    LazyLock::new(|| format!("{:#}", crate::gateways::asyncapi::document()).into());

/// The events
///
/// An `AsyncAPI` 3 document of everything that clients send and receive over Socket.IO.
#[utoipa::path(
    get,
    path = "/asyncapi.json",
    operation_id = "asyncapi",
    tag = "operation",
    responses((status = 200, description = "The document", body = Object, content_type = "application/json")),
)]
pub(super) async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], DOCUMENT.clone())
}
