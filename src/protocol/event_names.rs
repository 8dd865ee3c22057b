//! The event names that are Socket.IO's own.

/// What no payload may name (socket.io `RESERVED_EVENTS`).
const PROTOCOL: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// Whether the event is Socket.IO's own.
pub fn is_protocol_event(event: &str) -> bool {
    PROTOCOL.contains(&event)
}
