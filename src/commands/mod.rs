//! What clients and backends can ask for, through any gateway.
//!
//! Each event has one file: its arguments, how they are parsed, its effect, and its schemas. [`FEATURES`]
//! lists them all; parsing, the metrics' labels, the `AsyncAPI` document and the types are made from it. To
//! add an event, write its file and add its line.

pub mod announcement;
mod arguments;
pub mod authenticate;
pub mod backend_event;
pub mod backend_membership;
pub mod backend_message;
pub mod connection_recovery;
pub mod context;
mod custom_event;
pub mod deliveries;
pub mod departures;
pub mod emit_with_ack;
pub mod event;
pub mod history;
pub mod idempotency;
mod join_room;
mod leave_room;
mod lost_clients;
pub mod membership;
pub mod membership_command;
mod message;
mod ping;
pub mod presence;
pub mod private_message;
mod publish;
pub mod queries;
mod read_receipt;
pub mod refused;
pub mod revocation;
pub mod revoked_tokens;
pub mod room;
pub mod schema;
mod send_message;
pub mod session;
mod sync_messages;
#[cfg(test)]
mod tests;
mod typing_indicator;
pub mod webhooks;

use self::event::{ClientEvent, Feature, ServerEvent};
pub use self::publish::success;

/// All features, in the order of the documents.
pub static FEATURES: [&Feature; 18] = [
    &refused::FEATURE,
    &announcement::FEATURE,
    &join_room::FEATURE,
    &leave_room::FEATURE,
    &room::FEATURE,
    &message::FEATURE,
    &send_message::FEATURE,
    &publish::FEATURE,
    &custom_event::FEATURE,
    &typing_indicator::FEATURE,
    &read_receipt::FEATURE,
    &authenticate::FEATURE,
    &session::FEATURE,
    &revocation::FEATURE,
    &presence::FEATURE,
    &private_message::FEATURE,
    &sync_messages::FEATURE,
    &ping::FEATURE,
];

/// Every event that a client may send.
pub fn client_events() -> impl Iterator<Item = &'static ClientEvent> {
    FEATURES.iter().flat_map(|feature| feature.client)
}

/// Every event that the server sends by itself.
pub fn server_events() -> impl Iterator<Item = &'static ServerEvent> {
    FEATURES.iter().flat_map(|feature| feature.server)
}

/// The client's event of this name.
pub fn client_event(name: &str) -> Option<&'static ClientEvent> {
    client_events().find(|event| event.name == name)
}

/// Whether the server sends this event by itself.
pub fn is_server_event(name: &str) -> bool {
    server_events().any(|event| event.name == name)
}

/// Whether the event tells a client its state: only the server itself may send it.
pub fn is_state_event(name: &str) -> bool {
    server_events().any(|event| event.name == name && !event.is_message)
}
