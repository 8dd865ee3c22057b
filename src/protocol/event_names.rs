//! The event names that are Socket.IO's own.

/// The names that no payload may use (socket.io `RESERVED_EVENTS`).
const PROTOCOL: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// Whether the event is Socket.IO's own.
pub fn is_protocol_event(event: &str) -> bool {
    PROTOCOL.contains(&event)
}
