//! `error` and `exception`, and the schemas that all events share.

use serde_json::json;

use super::{
    event::{Feature, ServerEvent},
    schema::{common, count, object, reference, text},
};

/// Why an event was refused.
pub const ERROR: ServerEvent =
    ServerEvent::state("error", "EventError", "An event of this client was not honoured.");
/// The same, as NestJS says it.
pub const EXCEPTION: ServerEvent = ServerEvent::state(
    "exception",
    "Exception",
    "The same, for the events in camelCase, as NestJS says it.",
);

pub(super) const FEATURE: Feature = Feature {
    client: &[],
    server: &[ERROR, EXCEPTION],
    schemas: || {
        let mut schemas = common();
        schemas.extend([
            (
                "EventError",
                object(
                    "Why an event was not honoured.",
                    &[
                        ("message", text("What was wrong, what is allowed, what to do.")),
                        ("code", reference("Code")),
                        ("event", text("The event.")),
                        (
                            "retryAfterMs?",
                            count(
                                "When trying again may succeed, in milliseconds; with `rate_limited`.",
                            ),
                        ),
                    ],
                ),
            ),
            (
                "Exception",
                object(
                    "Why an event was not honoured.",
                    &[
                        ("status", json!({"const": "error"})),
                        ("message", text("What was wrong, what is allowed, what to do.")),
                    ],
                ),
            ),
        ]);
        schemas
    },
};
