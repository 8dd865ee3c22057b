//! The OpenAPI document and the pages that show it.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use utoipa::{
    IntoResponses, Modify, OpenApi,
    openapi::{
        ContentBuilder, ObjectBuilder, Ref, RefOr, Required, ResponseBuilder,
        path::{Operation, ParameterBuilder, ParameterIn},
        schema::Type,
        security::{
            ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
        },
    },
};
use utoipa_swagger_ui::Config;

use crate::{
    config::Environment,
    gateways::{
        app::App,
        http_error::{ErrorBody, HttpError},
    },
    protocol::names::MAX_IDEMPOTENCY_KEY,
};

/// The tags of the routes that may need a key.
const MESSAGES: &str = "messages";
const MANAGEMENT: &str = "management";

/// The document's parts beside the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "roomcast",
        description = "The HTTP API of a Socket.IO compatible room server, for backends and operators.\n\n\
            With `API_KEYS`, every route except `/health`, `/metrics` and these documents needs one of the keys. Without \
            it, the `/messages` routes are open, and the management routes are closed unless `NODE_ENV` is `development`.",
    ),
    tags(
        (name = MESSAGES, description = "Messages to rooms and clients"),
        (name = MANAGEMENT, description = "Events, connections, rooms and users"),
        (name = "operation", description = "Health and metrics"),
    ),
    components(schemas(ErrorBody)),
    modifiers(&Keys),
)]
struct Document;

/// How callers authenticate.
struct Keys;

impl Modify for Keys {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("One of `API_KEYS`"));
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
        let key = ApiKeyValue::with_description("X-API-Key", "One of `API_KEYS`");
        components.add_security_scheme("apiKey", SecurityScheme::ApiKey(ApiKey::Header(key)));
    }
}

/// The document without the routes.
pub(super) fn base() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// Adds to every POST what `Idempotency-Key` does.
pub(super) fn add_idempotency(document: &mut utoipa::openapi::OpenApi) {
    const KEY: &str = "The same request with the same key is done once within `IDEMPOTENCY_WINDOW`: the second one gets the first one's answer, with `Idempotency-Replayed: true`. While the first is in progress, the second waits for it. Refusals are not remembered.";
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(MAX_IDEMPOTENCY_KEY))
        .build();
    let parameter = ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(KEY))
        .schema(Some(schema))
        .build();
    let mismatch = "The idempotency key was used with other content";
    let message = json!("the idempotency key was used for other content");
    let mismatch = errors([(StatusCode::UNPROCESSABLE_ENTITY, mismatch, message)]);
    for item in document.paths.paths.values_mut() {
        let Some(operation) = item.post.as_mut() else { continue };
        operation.parameters.get_or_insert_default().push(parameter.clone().into());
        operation.responses.responses.extend(mismatch.clone());
    }
}

type Responses = BTreeMap<String, RefOr<utoipa::openapi::Response>>;

/// Unsuccessful answers, by status.
fn errors<const N: usize>(list: [(StatusCode, &str, Value); N]) -> Responses {
    let error = |(status, description, message): (StatusCode, &str, Value)| {
        let example = json!({
            "statusCode": status.as_u16(),
            "message": message,
            "error": status.canonical_reason(),
        });
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("Error")))
            .example(Some(example));
        let response = ResponseBuilder::new().description(description);
        (
            status.as_u16().to_string(),
            response.content("application/json", content.build()).build().into(),
        )
    };
    list.into_iter().map(error).collect()
}

/// The answers to an invalid body.
pub(super) enum BodyErrors {}

impl IntoResponses for BodyErrors {
    fn responses() -> Responses {
        errors([
            (
                StatusCode::BAD_REQUEST,
                "Everything that is wrong with the body and the query, or that the body is not JSON",
                json!(["id must be a UUID", "property foo should not exist"]),
            ),
            (
                StatusCode::PAYLOAD_TOO_LARGE,
                "The body is larger than `MAX_PAYLOAD`",
                json!("the body is larger than the 1000000 bytes that MAX_PAYLOAD allows"),
            ),
            (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The Content-Type is not JSON",
                json!("the body must be JSON: send it with Content-Type: application/json"),
            ),
        ])
    }
}

/// The answers to an invalid path or query.
pub(super) enum QueryErrors {}

impl IntoResponses for QueryErrors {
    fn responses() -> Responses {
        errors([(
            StatusCode::BAD_REQUEST,
            "Everything that is wrong with the path and the query",
            json!(["limit must be an integer from 1 to 1000"]),
        )])
    }
}

/// The answers to a caller without a valid key, or over its rate limit.
pub(super) enum KeyErrors {}

impl IntoResponses for KeyErrors {
    fn responses() -> Responses {
        errors([
            (
                StatusCode::UNAUTHORIZED,
                "The API key is missing or wrong",
                json!("the API key is not one of API_KEYS"),
            ),
            (
                StatusCode::FORBIDDEN,
                "The route needs an API key, and none is configured",
                json!("this route needs an API key and none is configured: set API_KEYS"),
            ),
            (
                StatusCode::TOO_MANY_REQUESTS,
                "More requests than `RATE_LIMIT_HTTP` allows; `Retry-After` says when to try again",
                json!("too many requests a second: slow down; try again in 1 s"),
            ),
        ])
    }
}

/// The answer if something does not exist.
pub(super) enum NotFound {}

impl IntoResponses for NotFound {
    fn responses() -> Responses {
        errors([(StatusCode::NOT_FOUND, "Not found", json!("Client x is not connected"))])
    }
}

/// The answers to a request that may succeed later.
pub(super) enum Busy {}

impl IntoResponses for Busy {
    fn responses() -> Responses {
        errors([
            (
                StatusCode::TOO_MANY_REQUESTS,
                "Too many requests: `Retry-After` says when to try again",
                json!("too many requests"),
            ),
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "The server cannot do it now",
                json!("the store cannot be reached"),
            ),
        ])
    }
}

/// The script that starts Swagger UI, in the place of the library's.
const INITIALIZER: (&str, &str) =
    ("swagger-initializer.js", include_str!("swagger-initializer.js"));

/// Says which routes need a key, which depends on the configuration.
pub(super) fn set_security(
    document: &mut utoipa::openapi::OpenApi,
    has_keys: bool,
    environment: &Environment,
) {
    const NO_SCOPES: [&str; 0] = [];
    let is_guarded = |operation: &Operation| match operation.tags.iter().flatten().next() {
        Some(tag) if tag == MANAGEMENT => has_keys || *environment != Environment::Development,
        Some(tag) if tag == MESSAGES => has_keys,
        _ => false,
    };
    for item in document.paths.paths.values_mut() {
        let methods = [&mut item.get, &mut item.post, &mut item.delete];
        for operation in methods.into_iter().flatten().filter(|operation| is_guarded(operation)) {
            let keys = ["bearer", "apiKey"].map(|key| SecurityRequirement::new(key, NO_SCOPES));
            operation.security = Some(keys.into());
        }
    }
}

/// The document, as JSON and as YAML, and Swagger UI.
pub(super) fn routes(document: &utoipa::openapi::OpenApi) -> Router<App> {
    #[allow(clippy::expect_used, reason = "the document is the same at every start, and tested")]
    let (json, yaml) = (
        document.to_pretty_json().expect("the document has a JSON form"),
        document.to_yaml().expect("the document has a YAML form"),
    );
    let text = |kind: &'static str, text: String| {
        let text = bytes::Bytes::from(text);
        get(move || async move { ([(header::CONTENT_TYPE, kind)], text) })
    };
    let config = Arc::new(Config::new(["../api-json"]));
    let pages = get(move |uri: Uri| async move { swagger(&config, uri.path()) });
    Router::new()
        .route("/api-json", text("application/json; charset=utf-8", json))
        .route("/api-yaml", text("application/yaml; charset=utf-8", yaml))
        .route("/api", pages.clone())
        .route("/api/", pages.clone())
        .route("/api/{*file}", pages)
}

fn swagger(config: &Arc<Config<'static>>, path: &str) -> Response {
    let file = path.trim_start_matches("/api").trim_start_matches('/');
    if file == INITIALIZER.0 {
        return ([(header::CONTENT_TYPE, "text/javascript")], INITIALIZER.1).into_response();
    }
    let not_found = || HttpError::new(StatusCode::NOT_FOUND, format!("Cannot GET {path}"));
    let Ok(Some(found)) = utoipa_swagger_ui::serve(file, config.clone()) else {
        return not_found().into_response();
    };
    let kind = [(header::CONTENT_TYPE, found.content_type)];
    if path == "/api" {
        // The page's file names are relative to `/api/`; this path lacks the last slash.
        let page = String::from_utf8_lossy(&found.bytes).replacen(
            "<head>",
            "<head><base href=\"api/\">",
            1,
        );
        return (kind, page).into_response();
    }
    let bytes = found.bytes.into_owned();
    if found.gzpipped {
        return (kind, [(header::CONTENT_ENCODING, "gzip")], bytes).into_response();
    }
    (kind, bytes).into_response()
}

#[cfg(test)]
mod tests {
    use utoipa_axum::router::OpenApiRouter;

    use super::*;
    use crate::gateways::http::{
        broadcast_routes, event_routes, management_routes, message_routes, operation_routes,
    };

    fn document() -> utoipa::openapi::OpenApi {
        document_for(true, &Environment::Production)
    }

    fn document_for(has_keys: bool, environment: &Environment) -> utoipa::openapi::OpenApi {
        let mut document = OpenApiRouter::with_openapi(base())
            .merge(broadcast_routes())
            .merge(message_routes())
            .merge(event_routes())
            .merge(management_routes())
            .merge(operation_routes())
            .into_openapi();
        add_idempotency(&mut document);
        set_security(&mut document, has_keys, environment);
        document
    }

    #[test]
    fn the_document_is_as_reviewed() {
        insta::assert_snapshot!("openapi", document().to_pretty_json().unwrap());
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(map) => {
                    if let Some(Value::String(target)) = map.get("$ref") {
                        found.push(target.clone());
                    }
                    map.values().for_each(|value| references(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document = serde_json::to_value(document()).unwrap();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for target in found {
            assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target}");
        }
    }

    #[test]
    fn only_what_needs_a_key_says_so() {
        let guarded = |has_keys, environment| {
            let document = serde_json::to_value(document_for(has_keys, &environment)).unwrap();
            let security = |path: &str, method: &str| {
                document["paths"][path][method].get("security").cloned().unwrap_or_default()
            };
            assert_eq!(security("/health", "get"), Value::Null);
            [security("/messages/broadcast", "post"), security("/events", "post")]
        };
        let key = json!([{"bearer": []}, {"apiKey": []}]);
        assert_eq!(guarded(true, Environment::Production), [key.clone(), key.clone()]);
        assert_eq!(guarded(true, Environment::Development), [key.clone(), key.clone()]);
        assert_eq!(guarded(false, Environment::Production), [Value::Null, key]);
        assert_eq!(guarded(false, Environment::Development), [Value::Null, Value::Null]);
    }

    #[test]
    fn every_route_says_what_may_go_wrong() {
        let document = serde_json::to_value(document()).unwrap();
        let mut ids = std::collections::BTreeSet::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let is_guarded = operation["tags"] != json!(["operation"]);
                assert_eq!(
                    operation["responses"].get("401").is_some(),
                    is_guarded,
                    "{method} {path}"
                );
                assert_eq!(operation.get("security").is_some(), is_guarded, "{method} {path}");
                assert!(operation["summary"].is_string(), "{method} {path}");
                assert!(ids.insert(operation["operationId"].to_string()), "{method} {path}");
            }
        }
    }
}
