//! `Idempotency-Key`: a POST that is sent again with the same key is done once, and answered as the first one was.
//!
//! A request that is one message to one room stores its key with the message. All others claim their key first, and leave
//! their answer there.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::{Body, to_bytes},
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{extract, keys};
use crate::{
    commands::idempotency::{self, Begun, Keyed},
    gateways::{app::App, http_error::HttpError},
    protocol::names::MAX_IDEMPOTENCY_KEY,
};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// How long a request may take that waits for nobody.
pub(super) const AT_ONCE: Duration = Duration::from_secs(10);

/// The most of an answer that is kept besides what it has in common with its request, in bytes.
const MAX_ANSWER: usize = 1_000_000;

/// The key of a request, and its body.
#[derive(Debug, Clone)]
pub(super) struct RequestKey {
    pub keyed: Keyed,
    body: Bytes,
}

/// The key of a request, if it has one.
pub(super) struct OptionalKey(pub Option<RequestKey>);

impl<S: Sync> FromRequestParts<S> for OptionalKey {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get::<RequestKey>().cloned()))
    }
}

/// An answer, as it is kept. Many are the request's body, or begin with it.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    status: u16,
    kind: Option<String>,
    /// How much of the request's body it begins with.
    common: usize,
    rest: String,
}

/// Reads the key of a POST.
pub(super) async fn read(State(app): State<App>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST
        || app.config.idempotency_window.is_zero()
        || !request.headers().contains_key(KEY)
    {
        return next.run(request).await;
    }
    match with_key(&app, request).await {
        Ok(request) => next.run(request).await,
        Err(fault) => fault.into_response(),
    }
}

async fn with_key(app: &App, request: Request) -> Result<Request, HttpError> {
    let key = key_of(request.headers())?;
    let limit = usize::try_from(app.config.max_payload).unwrap_or(usize::MAX);
    let (mut parts, body) = request.into_parts();
    let body = Bytes::from(extract::read(&parts.headers, body, limit).await?);
    let caller = keys::known_key(app, &parts.headers).unwrap_or_default();
    let scope = ["http", caller, parts.uri.path()].map(str::as_bytes);
    let query = parts.uri.query().unwrap_or_default().as_bytes();
    let keyed = Keyed::of_backend(scope.into_iter().chain([&key[..]]), [query, &body[..]]);
    parts.extensions.insert(RequestKey { keyed, body: body.clone() });
    Ok(Request::from_parts(parts, Body::from(body)))
}

/// The key that a request brings.
fn key_of(headers: &HeaderMap) -> Result<Vec<u8>, HttpError> {
    let mut keys = headers.get_all(KEY).iter();
    let key = keys.next().map(|key| key.as_bytes().trim_ascii()).unwrap_or_default();
    let is_long = String::from_utf8_lossy(key).chars().nth(MAX_IDEMPOTENCY_KEY).is_some();
    if key.is_empty() || is_long || keys.next().is_some() {
        let fault = format!(
            "Idempotency-Key must be given once, from 1 to {MAX_IDEMPOTENCY_KEY} characters long"
        );
        return Err(HttpError::faults(vec![fault]));
    }
    Ok(key.to_owned())
}

/// Does a request with a key once.
pub(super) async fn claim(
    State(app): State<App>,
    OptionalKey(key): OptionalKey,
    request: Request,
    next: Next,
) -> Response {
    match key {
        None => next.run(request).await,
        Some(key) => once(&app, key, AT_ONCE, async { next.run(request).await }).await,
    }
}

/// Does work once that answers a request and may take this long. It is finished whether or not its caller waits.
pub(super) async fn once(
    app: &App,
    key: RequestKey,
    takes: Duration,
    work: impl Future<Output = Response> + Send + 'static,
) -> Response {
    let doing = {
        let app = app.clone();
        async move { claimed(&app, key, takes, work).await }
    };
    match app.tasks.spawn(doing).await {
        Ok(answer) => answer.unwrap_or_else(IntoResponse::into_response),
        Err(ended) => std::panic::resume_unwind(ended.into_panic()),
    }
}

async fn claimed(
    app: &App,
    key: RequestKey,
    takes: Duration,
    work: impl Future<Output = Response>,
) -> Result<Response, HttpError> {
    let claim = match idempotency::begin(app, Some(key.keyed), takes).await? {
        Begun::Go(claim) => claim,
        Begun::Before(answer) => return Ok(again(&answer, &key.body)),
    };
    let answer = work.await;
    if !answer.status().is_success() {
        return Ok(answer);
    }
    let (parts, answer) = answer.into_parts();
    // Made in this process, as a whole.
    let bytes = to_bytes(answer, usize::MAX).await.unwrap_or_default();
    if let Some(kept) = kept(parts.status, &parts.headers, &bytes, &key.body) {
        claim.settle(kept).await;
    }
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

/// The answer as it is kept; `None` if it is too large.
fn kept(status: StatusCode, headers: &HeaderMap, answer: &[u8], request: &[u8]) -> Option<String> {
    let answer = std::str::from_utf8(answer).ok()?;
    let common = answer.bytes().zip(request).take_while(|(one, other)| one == *other).count();
    let common = (0..=common).rev().find(|at| answer.is_char_boundary(*at))?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let rest = answer[common..].to_owned();
    let kept = Kept { status: status.as_u16(), kind: kind.map(str::to_owned), common, rest };
    (kept.rest.len() <= MAX_ANSWER).then(|| serde_json::to_string(&kept).ok()).flatten()
}

/// The answer that was kept.
fn again(kept: &str, request: &[u8]) -> Response {
    let Ok(Kept { status, kind, common, rest }) = serde_json::from_str::<Kept>(kept) else {
        let message = "this was done before, but its answer is no longer available";
        return HttpError::new(StatusCode::SERVICE_UNAVAILABLE, message).into_response();
    };
    let mut body = request[..common.min(request.len())].to_vec();
    body.extend_from_slice(rest.as_bytes());
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    if let Some(kind) = kind.and_then(|kind| HeaderValue::from_str(&kind).ok()) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    replayed(response)
}

/// Says that an answer is that of an earlier request.
pub(super) fn replayed(mut response: Response) -> Response {
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}
