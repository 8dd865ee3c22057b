//! `error` and `exception`: how a client is told that its event was refused. And the schemas that all events share.

use serde::Serialize;
use serde_json::{json, value::RawValue};

use super::{
    client_event,
    event::{Feature, ServerEvent},
    schema::{anything, common, count, object, reference, text},
};
use crate::{
    hub::{Client, EventStyle, packet::Packet},
    protocol::{
        payload::{Object, ObjectBuilder, Payload},
        refusal::Refusal,
    },
};

/// Why an event was refused.
const ERROR: ServerEvent = ServerEvent::state(
    "error",
    "EventError",
    "Reports that an event of this client was refused.",
)
.to("The client that sent the event.")
.example(
    r#"{"message":"No resourceId specified in the message","code":"no_room","event":"message"}"#,
);
/// The same, as NestJS says it.
const EXCEPTION: ServerEvent = ServerEvent::state(
    "exception",
    "Exception",
    "The same as `error` in the format of NestJS, sent in addition to it for camelCase events.",
)
.to("The client that sent the event.")
.example(r#"{"status":"error","message":"content must be present"}"#);

pub(super) const FEATURE: Feature = Feature {
    client: &[],
    server: &[ERROR, EXCEPTION],
    schemas: || {
        let mut schemas = common();
        schemas.extend([
            (
                "EventError",
                object(
                    "An event was refused.",
                    &[
                        ("message", text("What was wrong, what is allowed, and what to do.")),
                        ("code", reference("Code")),
                        ("event", text("The name of the refused event.")),
                        (
                            "retryAfterMs?",
                            count(
                                "How long to wait before the next attempt, in milliseconds. With `rate_limited`.",
                            ),
                        ),
                        ("data?", anything("More from the application's backend, if it refused the event.")),
                    ],
                ),
            ),
            (
                "Exception",
                object(
                    "An event was refused.",
                    &[
                        ("status", json!({"const": "error"})),
                        ("message", text("What was wrong, what is allowed, and what to do.")),
                    ],
                ),
            ),
        ]);
        schemas
    },
};

/// Tells the client that its event was refused: by the ack, if it asked for one, and by the `error`
/// event (for the camelCase events also by NestJS's `exception`).
pub fn tell(client: &Client, event: &str, ack: Option<i64>, refusal: &Refusal) {
    acknowledge(client, ack, refusal);
    send(client, event, refusal);
}

/// What a `CONNECT_ERROR` packet says of a refusal.
pub fn connect_error(refusal: &Refusal) -> String {
    let data = refusal.data();
    let fields = data.as_ref().and_then(|data| Object::parse(data.get()));
    let retry_after_ms = refusal.retry_after.map(|wait| wait.as_millis());
    let mut told = ObjectBuilder::default().set("code", refusal.shown_code());
    if let Some(wait) = &retry_after_ms {
        told = told.set("retryAfterMs", wait);
    }
    if let Some(fields) = &fields {
        told = told.rest_of(fields);
    } else if let Some(data) = &data {
        told = told.raw("data", data);
    }
    let told = told.build();
    let error = ObjectBuilder::default().set("message", &*refusal.message).raw("data", &told);
    error.build().get().to_owned()
}

/// Tells the client by the ack alone that its event was refused, if it asked for one.
pub fn acknowledge(client: &Client, ack: Option<i64>, refusal: &Refusal) {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Ack<'a> {
        success: bool,
        message: &'a str,
        code: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u128>,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<Box<RawValue>>,
    }
    let Some(id) = ack else { return };
    let (message, code) = (refusal.message.as_ref(), refusal.shown_code());
    let (retry_after_ms, data) = (refusal.retry_after.map(|wait| wait.as_millis()), refusal.data());
    let answer = Ack { success: false, message, code, retry_after_ms, data };
    client.sender.acknowledge(id, &Payload::of(&answer));
}

fn send(client: &Client, event: &str, refusal: &Refusal) {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Error<'a> {
        message: &'a str,
        code: &'a str,
        event: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u128>,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<Box<RawValue>>,
    }
    let (message, code) = (refusal.message.as_ref(), refusal.shown_code());
    let (retry_after_ms, data) = (refusal.retry_after.map(|wait| wait.as_millis()), refusal.data());
    let error = Error { message, code, event, retry_after_ms, data };
    client.sender.send(&Packet::of(ERROR.name, &error));
    if client_event(event).is_some() && EventStyle::of(event) == EventStyle::Camel {
        client
            .sender
            .send(&Packet::of(EXCEPTION.name, &json!({"status": "error", "message": message})));
    }
}
