//! Extractors: typed input from a request, or a refusal in NestJS's shape.

use std::{fmt::Display, ops::RangeInclusive, sync::Arc};

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use futures_util::StreamExt;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use utoipa::IntoParams;

use crate::{
    broker::survey::PageRequest,
    commands::queries::decode_cursor,
    gateways::{app::App, fields::namespace, http_error::HttpError},
    hub::Namespace,
    limits::{MAX_DEPTH, is_deeper_than},
    protocol::{
        names::{NameError, RoomName},
        payload::Object,
    },
};

/// A JSON body, exactly as it was sent.
pub(super) struct JsonText(pub Box<RawValue>);

impl FromRequest<App> for JsonText {
    type Rejection = HttpError;

    async fn from_request(request: Request, app: &App) -> Result<Self, HttpError> {
        if !is_json(request.headers()) {
            return Err(HttpError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body must be JSON: send it with Content-Type: application/json",
            ));
        }
        let limit = usize::try_from(app.config.max_payload).unwrap_or(usize::MAX);
        let (parts, body) = request.into_parts();
        let body = read(&parts.headers, body, limit).await?;
        let text = std::str::from_utf8(&body)
            .map_err(|_| HttpError::bad_request("the body is not UTF-8"))?;
        let json = serde_json::from_str::<&RawValue>(text).map_err(|error| {
            HttpError::bad_request(format!("the body is not valid JSON: {error}"))
        })?;
        if is_deeper_than(MAX_DEPTH, json.get()) {
            return Err(HttpError::bad_request(format!(
                "the body is nested deeper than {MAX_DEPTH} levels"
            )));
        }
        Ok(Self(json.to_owned()))
    }
}

impl JsonText {
    /// The body's fields.
    pub(super) fn object(&self) -> Result<Object<'_>, HttpError> {
        Object::parse(self.0.get())
            .ok_or_else(|| HttpError::bad_request("the body must be a JSON object"))
    }
}

/// How much of a too large body is still read and discarded, in bytes: a caller that is cut off while it
/// writes may never see why.
const THROWN_AWAY: usize = 32_000_000;

/// How much memory an announced body reserves, at most, in bytes.
const FIRST_BUFFER: usize = 64_000;

/// The body, of at most `limit` bytes.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<Vec<u8>, HttpError> {
    let too_large = || {
        let message = format!("the body is larger than the {limit} bytes that MAX_PAYLOAD allows");
        HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    // A caller that asks before it sends is refused before it sends.
    if headers.contains_key(header::EXPECT) && length.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(length.unwrap_or(0).min(limit).min(FIRST_BUFFER));
    let mut size = 0_usize;
    let mut stream = body.into_data_stream();
    while let Some(chunk) = stream.next().await {
        let chunk =
            chunk.map_err(|_| HttpError::bad_request("the body ended before it was complete"))?;
        size = size.saturating_add(chunk.len());
        if size <= limit {
            bytes.extend_from_slice(&chunk);
        } else if size > limit.saturating_add(THROWN_AWAY) {
            break;
        }
    }
    if size > limit { Err(too_large()) } else { Ok(bytes) }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// The query's fields.
pub(super) struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, HttpError> {
        let query = axum::extract::Query::try_from_uri(&parts.uri);
        let axum::extract::Query(fields) =
            query.map_err(|rejection| HttpError::bad_request(rejection.body_text()))?;
        Ok(Self(fields))
    }
}

/// The variable part of the path, decoded.
pub(super) struct Segment(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        let axum::extract::Path(text) =
            path.map_err(|rejection| HttpError::bad_request(rejection.body_text()))?;
        Ok(Self(text))
    }
}

impl Segment {
    /// Parses the segment as the name of `what`.
    pub(super) fn name<T>(
        &self,
        what: &str,
        parse: impl FnOnce(&str) -> Result<T, NameError>,
    ) -> Result<T, HttpError> {
        parse(&self.0).map_err(|error| HttpError::faults(vec![format!("{what} {error}")]))
    }

    /// Parses the segment as a room's name.
    pub(super) fn room(&self) -> Result<RoomName, HttpError> {
        self.name("room", RoomName::parse)
    }
}

/// Which namespace is meant.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct InNamespace {
    /// The namespace, as allowed by `WEBSOCKET_NAMESPACE`; the default is `/`.
    #[param(example = "/chat")]
    pub namespace: Option<String>,
}

impl InNamespace {
    /// The namespace; the default is `/`.
    pub(super) fn find(&self, app: &App) -> Result<Arc<Namespace>, HttpError> {
        namespace(&app.registry, self.namespace.as_deref().unwrap_or("/"))
            .map_err(|fault| HttpError::faults(vec![fault]))
    }
}

/// Which part of a list is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Paging {
    /// The maximum number of items.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<String>,
    /// The `nextCursor` of the previous page. Without it, the list starts at the beginning.
    pub cursor: Option<String>,
}

impl Paging {
    /// The page request, or everything that is wrong with it.
    pub(super) fn read(&self) -> Result<PageRequest, HttpError> {
        let mut faults = Vec::new();
        let limit = page_limit(self.limit.as_deref(), &mut faults);
        let after = self.cursor.as_deref().and_then(|cursor| {
            let after = decode_cursor(cursor);
            if after.is_none() {
                faults.push("cursor must be the nextCursor of the page before".to_owned());
            }
            after
        });
        if faults.is_empty() {
            Ok(PageRequest { limit, after })
        } else {
            Err(HttpError::faults(faults))
        }
    }
}

/// A page's `limit`.
pub(super) fn page_limit(given: Option<&str>, faults: &mut Vec<String>) -> usize {
    usize::try_from(integer("limit", given, 1..=1000, 100, faults)).unwrap_or(usize::MAX)
}

/// An integer of the query within its range; the default if none is given.
pub(super) fn integer<T>(
    field: &str,
    given: Option<&str>,
    range: RangeInclusive<T>,
    default: T,
    faults: &mut Vec<String>,
) -> T
where
    T: std::str::FromStr + PartialOrd + Display,
{
    let Some(given) = given else { return default };
    // `parse` would accept a sign, too.
    let digits = given.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(number) = given.parse().ok().filter(|number| digits && range.contains(number)) {
        return number;
    }
    faults.push(format!("{field} must be an integer from {} to {}", range.start(), range.end()));
    default
}
