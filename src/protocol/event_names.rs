//! All event names of the contract, in one place.

/// What clients send.
#[allow(missing_docs, reason = "each constant is its own text")]
pub mod client {
    pub const AUTHENTICATE: &str = "authenticate";
    pub const CHANNELS: &str = "channels";
    pub const CUSTOM_EVENT: &str = "custom-event";
    pub const HEARTBEAT: &str = "heartbeat";
    pub const JOIN_ROOM: &str = "join-room";
    pub const JOIN_ROOM_CAMEL: &str = "joinRoom";
    pub const LEAVE_ROOM: &str = "leave-room";
    pub const LEAVE_ROOM_CAMEL: &str = "leaveRoom";
    pub const MESSAGE: &str = "message";
    pub const PING: &str = "ping";
    pub const PRESENCE_UPDATE: &str = "presenceUpdate";
    pub const PRIVATE_MESSAGE: &str = "private-message";
    pub const READ_RECEIPT: &str = "readReceipt";
    pub const SEND_MESSAGE: &str = "sendMessage";
    pub const SYNC_MESSAGES: &str = "syncMessages";
    pub const TYPING_INDICATOR: &str = "typingIndicator";
    pub const UNWATCH_RESOURCE: &str = "unwatch-resource";
    pub const WATCH_RESOURCE: &str = "watch-resource";

    /// Every event that a client may send.
    pub const ALL: [&str; 18] = [
        AUTHENTICATE,
        CHANNELS,
        CUSTOM_EVENT,
        HEARTBEAT,
        JOIN_ROOM,
        JOIN_ROOM_CAMEL,
        LEAVE_ROOM,
        LEAVE_ROOM_CAMEL,
        MESSAGE,
        PING,
        PRESENCE_UPDATE,
        PRIVATE_MESSAGE,
        READ_RECEIPT,
        SEND_MESSAGE,
        SYNC_MESSAGES,
        TYPING_INDICATOR,
        UNWATCH_RESOURCE,
        WATCH_RESOURCE,
    ];
}

/// Socket.IO's own events, which no payload may name (socket.io `RESERVED_EVENTS`).
const PROTOCOL: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// The server's events that carry messages: a backend may send them, a client only through the
/// events made for it.
const MESSAGES: [&str; 5] =
    ["message", "message-reply", "newMessage", "private-message", "resource-update"];

/// The server's events that tell a client its state: only the server itself may send them.
const STATE: [&str; 24] = [
    "authenticated",
    "client-connected",
    "client-disconnected",
    "connected",
    "error",
    "exception",
    "joinedRoom",
    "leftRoom",
    "message-sent",
    "messageRead",
    "messageSent",
    "pong",
    "presenceUpdate",
    "room-joined",
    "room-left",
    "syncComplete",
    "token-expired",
    "user-joined",
    "user-left",
    "user-offline",
    "user-online",
    "userJoinedRoom",
    "userLeftRoom",
    "userTyping",
];

/// Every event that the server sends by itself.
pub fn server_events() -> impl Iterator<Item = &'static str> {
    STATE.into_iter().chain(MESSAGES)
}

/// Whether the event is Socket.IO's own.
pub fn is_protocol_event(event: &str) -> bool {
    PROTOCOL.contains(&event)
}

/// Whether the event tells a client its state.
pub fn is_state_event(event: &str) -> bool {
    STATE.contains(&event)
}

/// Whether the server sends this event by itself.
pub fn is_server_event(event: &str) -> bool {
    is_state_event(event) || MESSAGES.contains(&event)
}

/// Whether the event belongs to the camelCase family, whose clients expect NestJS's `exception`.
pub fn is_camel_event(event: &str) -> bool {
    client::ALL.contains(&event) && event.bytes().any(|byte| byte.is_ascii_uppercase())
}
