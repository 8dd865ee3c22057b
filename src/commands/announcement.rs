//! `connected`, `client-connected` and `client-disconnected`.

use std::sync::Arc;

use serde_json::json;

use super::{
    context::Context,
    event::{Feature, ServerEvent},
    schema::{client_id, client_name, object, text, time},
};
use crate::{
    hub::{Client, Namespace, packet::Packet},
    protocol::timestamp::Timestamp,
};

const CONNECTED: ServerEvent = ServerEvent::state("connected","Connected","Welcomes a new client and tells it its id.").to("The new client.").example(r#"{"message":"Connected to WebSocket server","connectionId":"3qwd6cWPZVJxGsnkAAAB","clientId":"3qwd6cWPZVJxGsnkAAAB","timestamp":"2026-01-01T12:00:00.000Z"}"#);
const CLIENT_CONNECTED: ServerEvent = ServerEvent::state("client-connected","ClientAnnouncement","A client has connected. Off with `ANNOUNCE_CONNECTIONS=false`; paused above `ANNOUNCE_MAX` clients.").to("Every client of the namespace, the new one included.").example(r#"{"clientId":"3qwd6cWPZVJxGsnkAAAB","clientName":"Ada","message":"Client connected"}"#);
const CLIENT_DISCONNECTED: ServerEvent = ServerEvent::state("client-disconnected","ClientAnnouncement","A client has disconnected. Off with `ANNOUNCE_CONNECTIONS=false`; paused above `ANNOUNCE_MAX` clients.").to("Every other client of the namespace.").example(r#"{"clientId":"3qwd6cWPZVJxGsnkAAAB","clientName":"Ada","message":"Client disconnected"}"#);

pub(super) const FEATURE: Feature = Feature {
    client: &[],
    server: &[CONNECTED, CLIENT_CONNECTED, CLIENT_DISCONNECTED],
    schemas: || {
        vec![
            (
                "Connected",
                object(
                    "The new client.",
                    &[
                        ("message", text("A welcome.")),
                        ("connectionId", client_id()),
                        ("clientId", client_id()),
                        ("timestamp", time()),
                    ],
                ),
            ),
            (
                "ClientAnnouncement",
                object(
                    "",
                    &[
                        ("clientId", client_id()),
                        ("clientName", client_name()),
                        ("message", text("A description.")),
                    ],
                ),
            ),
        ]
    },
};

/// Welcomes a new client.
pub fn welcome(client: &Client) {
    let connected = json!({
        "message": "Connected to WebSocket server",
        "connectionId": client.id,
        "clientId": client.id,
        "timestamp": Timestamp::now(),
    });
    client.sender.send(&Packet::of(CONNECTED.name, &connected));
}

/// Tells the namespace that a client has come.
pub fn announce_connected(context: &Context, client: &Arc<Client>) {
    announce(context, client, &announcement(CLIENT_CONNECTED.name, client, "Client connected"));
}

/// Tells the namespace that a client has gone.
pub fn announce_disconnected(context: &Context, client: &Arc<Client>) {
    announce(context, client, &disconnected(client));
}

/// Tells the namespace on other nodes that a client has gone, as this node stops.
pub fn announce_departure(context: &Context, client: &Client) {
    if announces(context, &client.namespace) {
        context.broker.announce_elsewhere(&client.namespace, &disconnected(client));
    }
}

/// One delivery per connected client per connection: quadratic, hence the limit.
fn announce(context: &Context, client: &Client, packet: &Packet) {
    if announces(context, &client.namespace) {
        context.broker.announce(&client.namespace, packet);
    }
}

fn disconnected(client: &Client) -> Packet {
    announcement(CLIENT_DISCONNECTED.name, client, "Client disconnected")
}

fn announcement(event: &'static str, client: &Client, message: &'static str) -> Packet {
    let (id, name) = (&client.id, &client.name);
    Packet::of(event, &json!({"clientId": id, "clientName": name, "message": message}))
}

/// Whether a namespace's clients on this node are told of one another: not above `ANNOUNCE_MAX` clients.
pub fn announces(context: &Context, namespace: &Namespace) -> bool {
    let max = context.config.announce_max;
    context.config.announce_connections && (max == 0 || namespace.connections() as u64 <= max)
}
