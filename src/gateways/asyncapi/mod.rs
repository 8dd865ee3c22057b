//! The description of every event: an `AsyncAPI` 3 document, and a TypeScript declaration and a page of
//! reference made from the same source.
//!
//! The commands are the source of all: each describes its events. A test compares the schemas with what a
//! server really sends and takes, by making it send every event there is.

mod reference;
mod tables;
#[cfg(test)]
mod tests;
mod typescript;

use serde_json::{Map, Value, json};

pub use self::{reference::reference as reference_page, typescript::declaration};
use crate::commands::{
    FEATURES, client_events,
    event::{ANY_EVENT, ClientEvent},
    schema::reference,
    server_events,
};

/// The `AsyncAPI` 3 document of all events.
pub fn document() -> Value {
    let mut messages = Map::new();
    let mut operations = Map::new();
    for event in client_events() {
        let (sent, ack) = (format!("client.{}", event.name), format!("ack.{}", event.name));
        operations.insert(sent.clone(), receive(event, &sent, &ack));
        let mut described = message(event.name, event.summary, &reference(event.argument));
        give_example(&mut described, event.example);
        messages.insert(sent, described);
        let answer = json!({"oneOf": [reference(event.ack), reference("Refused")]});
        let summary = format!("The acknowledgement of `{}`.", event.name);
        messages.insert(ack, message(event.name, &summary, &answer));
    }
    for event in server_events() {
        let sent = format!("server.{}", event.name);
        let operation = json!({
            "action": "send",
            "channel": {"$ref": "#/channels/namespace"},
            "summary": event.summary,
            "messages": [in_channel(&sent)],
        });
        operations.insert(sent.clone(), operation);
        let mut described = message(event.name, event.summary, &reference(event.payload));
        give_example(&mut described, event.example);
        messages.insert(sent, described);
    }
    let in_namespace = messages
        .keys()
        .map(|key| (key.clone(), json!({"$ref": format!("#/components/messages/{key}")})))
        .collect::<Map<_, _>>();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "roomcast",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What Socket.IO clients and the server send to each other. A message's `name` is the \
                event; its payload is the event's one argument. Every event of a client is acknowledged if the \
                client asks for it; that is the operation's reply. A refused event changes nothing: its \
                acknowledgement and the event `error` say why.\n\n\
                The HTTP API is described at `/api-json`.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "roomcast": {
                "host": "localhost:3001",
                "pathname": "/socket.io/",
                "protocol": "ws",
                "description": "Socket.IO clients 4, 3 (EIO=4), 2 and 1 (EIO=3), over websocket or polling. The path is `SOCKET_PATH`.",
                "security": [{"$ref": "#/components/securitySchemes/token"}],
            },
        },
        "channels": {
            "namespace": {
                "address": "{namespace}",
                "title": "A namespace",
                "description": "Every namespace of `WEBSOCKET_NAMESPACE` has all of these events. A room belongs to \
                    one namespace; users span all of them.",
                "parameters": {
                    "namespace": {
                        "description": "The path that the client connects to.",
                        "default": "/",
                        "examples": ["/", "/chat"],
                    },
                },
                "messages": in_namespace,
            },
        },
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": schemas(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "With authentication on, clients send a token: as `auth: {token}` in the \
                        handshake, as the query parameter `token`, or in an `Authorization: Bearer` header.",
                },
            },
        },
    })
}

/// What the server does with a client's event: it receives and acknowledges it.
fn receive(event: &ClientEvent, sent: &str, ack: &str) -> Value {
    let channel = json!({"$ref": "#/channels/namespace"});
    let mut codes = [event.refusals, &ANY_EVENT].concat();
    codes.sort_unstable();
    json!({
        "action": "receive",
        "channel": channel,
        "summary": event.summary,
        "messages": [in_channel(sent)],
        "reply": {"channel": channel, "messages": [in_channel(ack)]},
        "x-refusals": codes,
    })
}

fn message(name: &str, summary: &str, payload: &Value) -> Value {
    json!({"name": name, "summary": summary, "payload": payload})
}

/// Adds an example, where there is one.
fn give_example(message: &mut Value, example: &str) {
    if let Ok(payload) = serde_json::from_str::<Value>(example) {
        message["examples"] = json!([{"payload": payload}]);
    }
}

fn in_channel(message: &str) -> Value {
    json!({"$ref": format!("#/channels/namespace/messages/{message}")})
}

/// Every schema, by name.
fn schemas() -> Map<String, Value> {
    let schemas = FEATURES.iter().flat_map(|feature| (feature.schemas)());
    schemas.map(|(name, schema)| (name.to_owned(), schema)).collect()
}
