//! The official client's bundles for browsers, below the path of Socket.IO as on Node's server.
//!
//! The files have fixed names and are read once, at start: no request touches the file system, so no path can
//! lead out of the directory.

use std::{collections::HashMap, io, path::Path, sync::Arc};

use crate::{config::Config, gateways::http_error::HttpError};
use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;

/// The files that the npm package `socket.io-client` has in `dist`.
const FILES: [&str; 8] = [
    "socket.io.js",
    "socket.io.js.map",
    "socket.io.min.js",
    "socket.io.min.js.map",
    "socket.io.esm.min.js",
    "socket.io.esm.min.js.map",
    "socket.io.msgpack.min.js",
    "socket.io.msgpack.min.js.map",
];

/// The bundles that were found.
pub(super) struct Bundle {
    /// The path of Socket.IO.
    path: String,
    /// Whether a directory is configured at all.
    configured: bool,
    files: HashMap<&'static str, File>,
}

struct File {
    content: Bytes,
    tag: HeaderValue,
}

impl Bundle {
    /// Reads the bundles in the configured directory. A missing or unreadable one is logged, and not served.
    pub(super) fn read(config: &Config) -> Self {
        let directory = config.client_bundle_dir.as_deref();
        let mut files = HashMap::new();
        for name in FILES {
            let Some(path) = directory.map(|directory| directory.join(name)) else { continue };
            match std::fs::read(&path) {
                Ok(content) => {
                    files.insert(name, File::new(content.into()));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "a client bundle cannot be read");
                }
            }
        }
        if let Some(directory) = directory.filter(|_| files.is_empty()) {
            let directory = directory.display();
            tracing::warn!(%directory, "CLIENT_BUNDLE_DIR holds none of socket.io-client's bundles");
        }
        Self { path: config.socket_path.clone(), configured: directory.is_some(), files }
    }

    fn answer(&self, name: &str, headers: &HeaderMap) -> Response {
        if let Some(file) = self.files.get(name) {
            return file.answer(name, headers);
        }
        let message = if self.configured {
            format!(
                "CLIENT_BUNDLE_DIR holds no readable {name}: point it to the dist folder of socket.io-client 4"
            )
        } else {
            format!(
                "{name} is not served here: npm i socket.io-client, and set CLIENT_BUNDLE_DIR to \
                 node_modules/socket.io-client/dist"
            )
        };
        HttpError::new(StatusCode::NOT_FOUND, message).into_response()
    }
}

impl File {
    fn new(content: Bytes) -> Self {
        let hash = URL_SAFE_NO_PAD.encode(digest(&SHA256, &content));
        #[allow(clippy::expect_used, reason = "base64 is visible ASCII")]
        let tag = HeaderValue::from_str(&format!("\"{hash}\"")).expect("a tag is visible ASCII");
        Self { content, tag }
    }

    fn answer(&self, name: &str, headers: &HeaderMap) -> Response {
        let kind = if Path::new(name).extension().is_some_and(|extension| extension == "map") {
            "application/json; charset=utf-8"
        } else {
            "text/javascript; charset=utf-8"
        };
        let described = [
            (header::ETAG, self.tag.clone()),
            // Browsers keep it, and ask anew each time: the same name will hold another version some day.
            (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=0, must-revalidate")),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        ];
        if self.is_known_to(headers) {
            return (StatusCode::NOT_MODIFIED, described).into_response();
        }
        (described, [(header::CONTENT_TYPE, kind)], self.content.clone()).into_response()
    }

    /// Whether `If-None-Match` names this content. A weak tag counts: proxies that compress make it weak.
    fn is_known_to(&self, headers: &HeaderMap) -> bool {
        let values = headers.get_all(header::IF_NONE_MATCH).iter();
        let mut tags =
            values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        tags.any(|tag| {
            let tag = tag.trim();
            tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == self.tag.as_bytes()
        })
    }
}

/// Answers requests for a bundle; all others go on.
pub(super) async fn serve(
    State(bundle): State<Arc<Bundle>>,
    request: Request,
    next: Next,
) -> Response {
    let below = request.uri().path().strip_prefix(&bundle.path);
    match below.and_then(|below| below.strip_prefix('/')).filter(|name| FILES.contains(name)) {
        Some(name) if matches!(*request.method(), Method::GET | Method::HEAD) => {
            bundle.answer(name, request.headers())
        }
        _ => next.run(request).await,
    }
}
