//! Which pages may talk to the server: CORS, and the check that CORS lacks.
//!
//! A browser asks for permission before a page reads an answer of another origin, but not before a page opens
//! a websocket: there the server itself must check the `Origin` header.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, Uri, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tower::{Layer, Service};
use tower_http::cors::{self, AllowHeaders, AllowOrigin, CorsLayer};

use super::idempotency::REPLAYED;
use crate::{
    config::{Config, CorsOrigin},
    gateways::{http_error::HttpError, socketio::is_socket_io},
};

/// The CORS headers of every answer.
#[derive(Clone)]
pub(super) struct Cors {
    usual: CorsLayer,
    with_credentials: CorsLayer,
    /// The Admin UI is on: its page polls with credentials.
    admin: bool,
    /// The path of Socket.IO.
    path: Arc<str>,
}

impl Cors {
    /// The headers that the configuration asks for.
    pub(super) fn new(config: &Config) -> Self {
        let (admin, path) = (config.has_admin_ui(), Arc::from(config.socket_path.as_str()));
        let layer = CorsLayer::new()
            .allow_methods([Method::GET, Method::POST, Method::DELETE, Method::OPTIONS])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers([header::RETRY_AFTER, REPLAYED]);
        match &config.cors_origin {
            CorsOrigin::Any => Self {
                usual: layer.clone().allow_origin(cors::Any),
                // Browsers take no `*` for a request with credentials.
                with_credentials: layer
                    .allow_origin(AllowOrigin::mirror_request())
                    .allow_credentials(true),
                admin,
                path,
            },
            CorsOrigin::List(origins) => {
                let origins =
                    origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
                let layer = layer.allow_origin(AllowOrigin::list(origins)).allow_credentials(true);
                Self { usual: layer.clone(), with_credentials: layer, admin, path }
            }
        }
    }
}

impl<S: Clone> Layer<S> for Cors {
    type Service = CorsService<S>;

    fn layer(&self, inner: S) -> CorsService<S> {
        CorsService {
            usual: self.usual.layer(inner.clone()),
            with_credentials: self.with_credentials.layer(inner),
            admin: self.admin,
            path: self.path.clone(),
        }
    }
}

/// Answers preflights, and adds the CORS headers to every other answer.
#[derive(Clone)]
pub(super) struct CorsService<S> {
    usual: cors::Cors<S>,
    with_credentials: cors::Cors<S>,
    admin: bool,
    path: Arc<str>,
}

impl<S> Service<Request> for CorsService<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = cors::ResponseFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        ready!(self.usual.poll_ready(context))?;
        self.with_credentials.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let uri = request.uri();
        // Nothing tells the requests of the Admin UI's page from others.
        let with_credentials =
            is_socket_io(&self.path, uri) && (self.admin || speaks_version_3(uri));
        let headers = if with_credentials { &mut self.with_credentials } else { &mut self.usual };
        headers.call(request)
    }
}

/// Whether it is a request of socket.io-client 2.x, which polls with credentials, whether it has any or not.
fn speaks_version_3(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "EIO=3"))
}

/// Refuses Socket.IO to pages, unless their origin is allowed or they are the server's own page, where there
/// is one. A request without an origin comes from no page and is let in.
pub(super) async fn check(
    State(config): State<Arc<Config>>,
    request: Request,
    next: Next,
) -> Response {
    let allowed = &config.cors_origin;
    let refused = request.headers().get(header::ORIGIN).is_some_and(|origin| {
        let is_allowed = |origin| {
            allowed.allows(origin)
                || config.playground && is_own(origin, &request, &config.public_hosts)
        };
        !origin.to_str().is_ok_and(is_allowed)
    });
    if refused && *allowed != CorsOrigin::Any {
        let message = "the Origin of this request is not allowed by CORS_ORIGIN; \
                       the server's own page is allowed under an IP address, localhost or a name in PUBLIC_HOSTS";
        return HttpError::new(StatusCode::FORBIDDEN, message).into_response();
    }
    next.run(request).await
}

/// Whether a page of this origin came from this server: its host is the request's, and a host that leads
/// nowhere else. Any page can have a name of its own resolve to this server (DNS rebinding); it cannot have
/// an address. The scheme is ignored: behind a proxy that ends TLS the server does not know its own.
fn is_own(origin: &str, request: &Request, public_hosts: &[String]) -> bool {
    let Some((scheme, place)) = origin.split_once("://") else { return false };
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    // HTTP/2 has the host in the URI.
    let host = header.or_else(|| request.uri().authority().map(Authority::as_str));
    host.is_some_and(|host| {
        let host = host.strip_suffix(default_port).unwrap_or(host);
        host.eq_ignore_ascii_case(place) && is_known(host, public_hosts)
    })
}

/// Whether a host, with or without a port, is an address, this machine's or one of the public names.
fn is_known(host: &str, public_hosts: &[String]) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        let address = address.split_once(']').map(|(address, _)| address);
        return address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<Ipv4Addr>().is_ok()
        || public_hosts.iter().any(|public| public.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn is_own(origin: &str, request: &Request) -> bool {
        super::is_own(origin, request, &["rt.example".to_owned()])
    }

    fn to(host: &str) -> Request {
        Request::builder().uri("/socket.io/").header("host", host).body(Body::empty()).unwrap()
    }

    #[test]
    fn a_page_is_the_servers_own_if_it_came_from_the_host_that_it_asks() {
        for (origin, host) in [
            ("http://localhost:3001", "localhost:3001"),
            ("http://localhost", "localhost"),
            ("http://localhost", "localhost:80"),
            ("https://rt.example", "rt.example"),
            ("https://rt.example", "RT.example:443"),
            ("http://[::1]:3001", "[::1]:3001"),
            ("http://192.0.2.1:3001", "192.0.2.1:3001"),
        ] {
            assert!(is_own(origin, &to(host)), "{origin} {host}");
        }
        for (origin, host) in [
            ("http://localhost:3000", "localhost:3001"),
            ("http://localhost", "localhost:443"),
            ("https://rt.example", "rt.example:80"),
            ("http://evil.example", "localhost"),
            // Names that an attacker made resolve to this server.
            ("http://evil.example", "evil.example"),
            ("http://evil.example:3001", "evil.example:3001"),
            ("http://192.0.2.1.evil.example:3001", "192.0.2.1.evil.example:3001"),
            ("http://localhost.:3001", "localhost.:3001"),
            ("http://[evil.example]:3001", "[evil.example]:3001"),
            ("http://x.rt.example", "x.rt.example"),
            ("http://localhost.evil.example:3001", "localhost:3001"),
            ("file://localhost:3001", "localhost:3001"),
            ("localhost:3001", "localhost:3001"),
            ("null", "null"),
            ("http://", ""),
        ] {
            assert!(!is_own(origin, &to(host)), "{origin} {host}");
        }
    }

    #[test]
    fn http2_has_the_host_in_its_uri() {
        let request = Request::builder().uri("http://rt.example/socket.io/").body(Body::empty());
        assert!(is_own("https://rt.example", &request.unwrap()));
        assert!(!is_own("https://rt.example", &Request::new(Body::empty())));
    }
}
