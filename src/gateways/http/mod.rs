//! The HTTP gateway: parses requests, calls the commands, and maps their results back.

mod acks;
mod asyncapi;
mod body_deadline;
mod bundle;
mod connections;
mod events;
mod extract;
mod health;
mod idempotency;
mod keys;
mod limits;
mod memberships;
mod message_dto;
mod messages;
mod openapi;
mod origin;
mod playground;
mod revocations;
mod rooms;
mod users;
mod webhooks;

use std::{
    any::Any,
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    extract::{Request, State},
    handler::Handler,
    http::{HeaderValue, Method, StatusCode, Uri, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::future::Either;
use tower::{Service, ServiceBuilder};
use tower_http::{catch_panic::CatchPanicLayer, trace::TraceLayer};
use tracing::Span;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{bundle::Bundle, origin::Cors, playground::Playground};
use crate::{
    gateways::{
        app::App,
        http_error::HttpError,
        socketio::{self, SocketLayer},
    },
    telemetry::metrics::Metrics,
    transport::Serves,
};

/// All routes, and Socket.IO.
///
/// The layers for both, outermost first: panics, the log, CORS, the bodies' deadline. Then for Socket.IO: the
/// origin check, the client's bundle, the limit on connections, the protocol's own checks, the library; for everything
/// else: the account of requests, their limit, the routes.
///
/// Composed as one service: with `Router::layer`, every request would copy all layers below each layer.
/// axum's `from_fn` copies only what is below itself.
pub fn service(app: &App, layer: SocketLayer) -> impl Serves + use<> {
    let cors = Cors::new(&app.config);
    let metrics = app.metrics.clone();
    let read_key = from_fn_with_state(app.clone(), idempotency::read);
    let claim_key = from_fn_with_state(app.clone(), idempotency::claim);
    let messages = message_routes()
        .route_layer(claim_key.clone())
        .merge(broadcast_routes())
        .route_layer(read_key.clone())
        .route_layer(from_fn_with_state(app.clone(), keys::require_key_if_set));
    let management = management_routes()
        .route_layer(claim_key)
        .merge(event_routes())
        .route_layer(read_key)
        .route_layer(from_fn_with_state(app.clone(), keys::require_key));
    let (routes, mut document) = OpenApiRouter::with_openapi(openapi::base())
        .merge(messages)
        .merge(management)
        .merge(operation_routes())
        .split_for_parts();
    openapi::add_idempotency(&mut document);
    openapi::set_security(&mut document, !app.api_keys.is_empty(), &app.config.environment);
    let routes = if app.config.playground {
        let page = Playground::new(&app.config.socket_path);
        routes.route("/", get(move || async move { page.answer() }))
    } else {
        routes
    };
    let routes = routes
        .merge(openapi::routes(&document))
        .fallback(cannot)
        .method_not_allowed_fallback(cannot)
        .with_state(app.clone());
    let routes =
        ServiceBuilder::new().layer(from_fn_with_state(app.clone(), account)).service(routes);
    let bundle = Arc::new(Bundle::read(&app.config));
    let socket = ServiceBuilder::new()
        .layer(from_fn_with_state(app.config.clone(), origin::check))
        .layer(from_fn_with_state(bundle, bundle::serve))
        .layer(from_fn_with_state(app.clone(), limits::handshakes))
        .layer(from_fn_with_state(socketio::Verifier::new(app), socketio::verify))
        .map_request(socketio::token_of_cookie(app.config.clone()))
        .layer(layer)
        .service(cannot.with_state(()));
    let trace = TraceLayer::new_for_http()
        .make_span_with(span)
        .on_request(())
        .on_response(log)
        .on_body_chunk(())
        .on_eos(())
        .on_failure(());
    ServiceBuilder::new()
        .map_response(IntoResponse::into_response)
        .layer(CatchPanicLayer::custom(move |_: Box<dyn Any + Send>| panicked(&metrics)))
        .layer(trace)
        .layer(cors)
        .map_request(body_deadline::set)
        .service(Dispatch { path: app.config.socket_path.as_str().into(), socket, routes })
}

/// Socket.IO, and all other routes.
#[derive(Clone)]
struct Dispatch<S, R> {
    /// The path of Socket.IO.
    path: Arc<str>,
    socket: S,
    routes: R,
}

impl<S, R> Service<Request> for Dispatch<S, R>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    R: Service<Request, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, R::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        ready!(self.socket.poll_ready(context))?;
        self.routes.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if socketio::is_socket_io(&self.path, request.uri()) {
            Either::Left(self.socket.call(request))
        } else {
            Either::Right(self.routes.call(request))
        }
    }
}

/// The routes of the applications that roomcast replaces: open unless keys are configured.
fn message_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(messages::to_client))
}

/// Of those, the one that stores its idempotency key with the message.
fn broadcast_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(messages::broadcast))
}

/// Of the routes for trusted backends, the one that does so.
fn event_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(events::send))
}

/// The routes for trusted backends only.
fn management_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(acks::acknowledge))
        .routes(routes!(connections::list))
        .routes(routes!(connections::one, connections::disconnect))
        .routes(routes!(rooms::list))
        .routes(routes!(rooms::one))
        .routes(routes!(rooms::messages))
        .routes(routes!(users::one))
        .routes(routes!(users::disconnect))
        .routes(routes!(memberships::join_user, memberships::leave_user))
        .routes(routes!(memberships::join_client, memberships::leave_client))
        .routes(routes!(revocations::revoke, revocations::list))
        .routes(routes!(revocations::reinstate))
        .routes(routes!(webhooks::state))
        .routes(routes!(webhooks::list, webhooks::discard))
        .routes(routes!(webhooks::retry))
        .routes(routes!(users::stats))
}

/// The routes that are always open: health, metrics, and the events' description.
fn operation_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(health::health))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
        .routes(routes!(asyncapi::document))
}

/// Answers requests within the limits, and counts all of them; a stop waits for them. Sets `nosniff`.
async fn account(State(app): State<App>, request: Request, next: Next) -> Response {
    const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
    let _until_answered = app.tasks.token();
    let mut response = match limits::request(&app, &request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    app.metrics.requested(response.status().as_u16());
    response
}

/// No such route, or not with this method: NestJS says the same in both cases.
async fn cannot(method: Method, uri: Uri) -> HttpError {
    HttpError::new(StatusCode::NOT_FOUND, format!("Cannot {method} {}", uri.path()))
}

/// The panic hook has already logged the panic.
fn panicked(metrics: &Metrics) -> Response {
    metrics.panicked();
    let message = "internal error; the log of the server has the details";
    HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, message).into_response()
}

/// Without the query, which may hold a token.
fn span(request: &Request) -> Span {
    tracing::debug_span!("http", method = %request.method(), path = request.uri().path())
}

fn log(response: &Response, latency: Duration, _: &Span) {
    tracing::debug!(status = response.status().as_u16(), ?latency, "answered");
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_answered_and_counted() {
        let metrics = Arc::new(Metrics::default());
        let counted = metrics.clone();
        let router: Router = Router::new()
            .route("/", get(|| async { panic!("on purpose") as () }))
            .layer(CatchPanicLayer::custom(move |_: Box<dyn Any + Send>| panicked(&counted)));
        let response = router.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (&body["statusCode"], &body["error"]),
            (&500.into(), &"Internal Server Error".into())
        );
        assert!(metrics.encode().contains("panics_total 1"));
    }
}
