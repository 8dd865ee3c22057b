//! How the Socket.IO gateway tells the result of an event.

use serde::Serialize;

use crate::{
    commands::{
        client_event,
        refused::{ERROR, EXCEPTION},
    },
    hub::{Client, EventStyle, packet::Packet},
    protocol::{payload::Payload, refusal::Refusal},
};

/// Tells the client that its event was refused: by the ack, if it asked for one, and by the `error`
/// event (for the camelCase events also by NestJS's `exception`).
pub(super) fn refuse(client: &Client, event: &str, ack: Option<i64>, refusal: &Refusal) {
    acknowledge_refusal(client, ack, refusal);
    tell(client, event, refusal);
}

/// Tells the client by the ack alone that its event was refused, if it asked for one.
pub(super) fn acknowledge_refusal(client: &Client, ack: Option<i64>, refusal: &Refusal) {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Ack<'a> {
        success: bool,
        message: &'a str,
        code: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u128>,
    }
    let Some(id) = ack else { return };
    let (message, code) = (refusal.message.as_ref(), refusal.code.as_str());
    let retry_after_ms = refusal.retry_after.map(|wait| wait.as_millis());
    let answer = Ack { success: false, message, code, retry_after_ms };
    client.sender.acknowledge(id, &Payload::of(&answer));
}

fn tell(client: &Client, event: &str, refusal: &Refusal) {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Error<'a> {
        message: &'a str,
        code: &'a str,
        event: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u128>,
    }
    #[derive(Serialize)]
    struct Exception<'a> {
        status: &'a str,
        message: &'a str,
    }
    let (message, code) = (refusal.message.as_ref(), refusal.code.as_str());
    let retry_after_ms = refusal.retry_after.map(|wait| wait.as_millis());
    client.sender.send(&Packet::of(ERROR.name, &Error { message, code, event, retry_after_ms }));
    if client_event(event).is_some() && EventStyle::of(event) == EventStyle::Camel {
        client.sender.send(&Packet::of(EXCEPTION.name, &Exception { status: "error", message }));
    }
}
