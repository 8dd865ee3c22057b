//! `ping` and `heartbeat`.

use serde::Serialize;
use serde_json::json;

use super::{
    event::{Caller, ClientEvent, Event, Feature, Incoming, Outcome, ServerEvent},
    publish::success,
    schema::{NOTHING, object, text},
};
use crate::{
    hub::packet::Packet,
    protocol::{refusal::Refusal, timestamp::Timestamp},
};

const PONG: ServerEvent = ServerEvent::state("pong", "Pong", "Answers `ping`.")
    .to("The client that sent `ping`.")
    .example(r#"{"timestamp":1767268800000,"message":"Pong response"}"#);

pub(super) const FEATURE: Feature = Feature {
    client: &[
        ClientEvent::new::<Ping>("ping", NOTHING, "Success", "Requests a `pong`."),
        ClientEvent::new::<Heartbeat>(
            "heartbeat",
            NOTHING,
            "Success",
            "Refreshes the `lastActive` time of the user.",
        ),
    ],
    server: &[PONG],
    schemas: || {
        let timestamp = json!({"type": "integer", "description": "The server's time, in milliseconds since 1970."});
        vec![("Pong", object("", &[("timestamp", timestamp), ("message", text("A description."))]))]
    },
};

struct Ping;

impl Event for Ping {
    fn parse(_: &Incoming<'_>) -> Result<Self, Refusal> {
        Ok(Self)
    }

    async fn run(self, caller: Caller) -> Outcome {
        #[derive(Serialize)]
        struct Pong {
            timestamp: i64,
            message: &'static str,
        }
        let pong = Pong { timestamp: Timestamp::now().as_millis(), message: "Pong response" };
        caller.client.sender.send(&Packet::of(PONG.name, &pong));
        Ok(Some(success()))
    }
}

/// Every event shows that the user is active: this one does nothing else.
struct Heartbeat;

impl Event for Heartbeat {
    fn parse(_: &Incoming<'_>) -> Result<Self, Refusal> {
        Ok(Self)
    }

    async fn run(self, _: Caller) -> Outcome {
        Ok(Some(success()))
    }
}
