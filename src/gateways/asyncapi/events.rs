//! The events: who sends them, what they carry, how they are acknowledged.

use crate::protocol::event_names::client as name;

/// An event that clients send.
pub struct ClientEvent {
    pub name: &'static str,
    /// The schema of its argument.
    pub payload: &'static str,
    /// The schema of its acknowledgement where it was honoured.
    pub ack: &'static str,
    pub summary: &'static str,
}

/// An event that the server sends.
pub struct ServerEvent {
    pub name: &'static str,
    /// The schema of its argument.
    pub payload: &'static str,
    pub summary: &'static str,
}

const fn client(
    name: &'static str,
    payload: &'static str,
    ack: &'static str,
    summary: &'static str,
) -> ClientEvent {
    ClientEvent { name, payload, ack, summary }
}

const fn server(name: &'static str, payload: &'static str, summary: &'static str) -> ServerEvent {
    ServerEvent { name, payload, summary }
}

/// The name of the schema of events without an argument.
pub const NOTHING: &str = "Nothing";

#[rustfmt::skip]
pub const CLIENT: [ClientEvent; 18] = [
    client(name::JOIN_ROOM, "JoinRoom", "RoomAcknowledge", "Enter a room; the client gets `room-joined`, the others `user-joined`. With `offset`, what was missed is sent first."),
    client(name::WATCH_RESOURCE, "JoinRoom", "RoomAcknowledge", "The same as `join-room`."),
    client(name::JOIN_ROOM_CAMEL, "JoinRoom", "RoomAcknowledge", "Enter a room; the client gets `joinedRoom`, the others `userJoinedRoom`. With `offset`, what was missed is sent first."),
    client(name::LEAVE_ROOM, "RoomOrName", "RoomAcknowledge", "Leave a room; the client gets `room-left`, the others `user-left`."),
    client(name::UNWATCH_RESOURCE, "RoomOrName", "RoomAcknowledge", "The same as `leave-room`."),
    client(name::LEAVE_ROOM_CAMEL, "RoomOrName", "RoomAcknowledge", "Leave a room; the client gets `leftRoom`, the others `userLeftRoom`."),
    client(name::MESSAGE, "Message", "MessageAcknowledge", "Send an object to a room, as `message-reply`; or, without a room, an object with `text`, or a string, to everyone of the namespace, as `message`."),
    client(name::CHANNELS, "RoomObject", "MessageAcknowledge", "Send an update of a resource to its room, the sender included, as `resource-update`."),
    client(name::SEND_MESSAGE, "ChatMessage", "MessageAcknowledge", "Send a chat message to a room, the sender included, as `newMessage`; the sender gets `messageSent` besides."),
    client(name::CUSTOM_EVENT, "CustomEvent", "Done", "Send an event of one's own to a room, or to everyone of the namespace; never to the sender. It is neither numbered nor stored."),
    client(name::TYPING_INDICATOR, "Typing", "Success", "Say whether one types; the room's other members get `userTyping`."),
    client(name::READ_RECEIPT, "ReadReceipt", "ReceiptAcknowledge", "Say that a message was read; the room's members get `messageRead`, and it is recorded with the message."),
    client(name::AUTHENTICATE, "Authenticate", "Done", "Say who one is, or renew a token before it ends."),
    client(name::PRESENCE_UPDATE, "Presence", "Success", "Say how one is; others get `presenceUpdate`. Needs a user."),
    client(name::PRIVATE_MESSAGE, "PrivateMessage", "PrivateAcknowledge", "Send a message to all clients of one user; where authentication is on it waits for a user who has none."),
    client(name::SYNC_MESSAGES, "SyncMessages", "SyncAcknowledge", "Read a room's history: the messages come as the events that they were, oldest first, then `syncComplete`."),
    client(name::PING, NOTHING, "Success", "Ask for a `pong`."),
    client(name::HEARTBEAT, NOTHING, "Success", "Say that the user is active."),
];

#[rustfmt::skip]
pub const SERVER: [ServerEvent; 29] = [
    server("connected", "Connected", "To a new client: who it is."),
    server("client-connected", "ClientAnnouncement", "To everyone of the namespace: a client has come."),
    server("client-disconnected", "ClientAnnouncement", "To everyone of the namespace: a client has gone."),
    server("room-joined", "RoomConfirmation", "To the client that joined by `join-room` or `watch-resource`."),
    server("room-left", "RoomConfirmation", "To the client that left by `leave-room` or `unwatch-resource`, or that a narrower token put out of the room."),
    server("joinedRoom", "RoomEcho", "To the client that joined by `joinRoom`: the room, in the shape that it used."),
    server("leftRoom", "RoomEcho", "To the client that left by `leaveRoom`, or that a narrower token put out of the room it had joined by `joinRoom`."),
    server("user-joined", "RoomMove", "To the room's other members: a client has joined by `join-room` or `watch-resource`."),
    server("user-left", "RoomMove", "To the room's other members: a client that had joined so has left or disconnected."),
    server("userJoinedRoom", "RoomMoveCamel", "To the room's other members: a client has joined by `joinRoom`."),
    server("userLeftRoom", "RoomMoveCamel", "To the room's other members: a client that had joined so has left or disconnected."),
    server("message-reply", "Delivered", "A message to a room, as its sender or a backend sent it."),
    server("message", "NamespaceMessage", "A message to everyone of the namespace."),
    server("resource-update", "Delivered", "An update of a resource, as its sender sent it to `channels`."),
    server("newMessage", "NewMessage", "A chat message to a room: `sender`, `clientId` and `timestamp` are the server's word."),
    server("messageSent", "MessageSent", "To the sender of a chat message: it was taken."),
    server("private-message", "Private", "A message from another user."),
    server("message-sent", "PrivateSent", "To the sender of a private message: it was taken."),
    server("userTyping", "UserTyping", "To the room's other members: somebody types, or has stopped."),
    server("messageRead", "MessageRead", "To the room's members: somebody has read a message."),
    server("authenticated", "Authenticated", "To a client that said who it is."),
    server("user-online", "UserMove", "The first client of a user has come."),
    server("user-offline", "UserMove", "The last client of a user has gone, `PRESENCE_GRACE` ago."),
    server("presenceUpdate", "PresenceChange", "A user says how it is, or has gone."),
    server("syncComplete", "SyncComplete", "To the client that sent `syncMessages`: the page is complete."),
    server("pong", "Pong", "The answer to `ping`."),
    server("token-expired", "TokenExpired", "The client's token has ended: it is disconnected."),
    server("error", "EventError", "An event of this client was not honoured."),
    server("exception", "Exception", "The same, for the events in camelCase, as NestJS says it."),
];
