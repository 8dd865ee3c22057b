//! What the server sends.

use serde_json::json;

use super::{
    Schemas, anything, client_id, client_name, count, flag, id, object, offset, open, reference,
    room, text, time, user, yes,
};

/// What clients are told of rooms.
pub fn rooms() -> Schemas {
    let moved = |name: &'static str| {
        object(
            "Who came or went.",
            &[
                ("userId", user()),
                ("socketId", client_id()),
                ("clientName", client_name()),
                (name, room()),
                ("timestamp", time()),
            ],
        )
    };
    vec![
        (
            "RoomConfirmation",
            object(
                "That the client is in the room, or out of it.",
                &[
                    ("success", yes()),
                    ("roomName", room()),
                    ("message", text("What was done.")),
                    ("timestamp", time()),
                ],
            ),
        ),
        (
            "RoomEcho",
            json!({
                "description": "The room as the client named it: its name, or an object with the one field that did.",
                "anyOf": [reference("Name"), reference("Room")],
            }),
        ),
        ("RoomMove", moved("room")),
        ("RoomMoveCamel", moved("roomId")),
        (
            "UserTyping",
            object(
                "Who types, or has stopped.",
                &[
                    ("userId", user()),
                    ("clientId", client_id()),
                    ("clientName", client_name()),
                    ("roomId", room()),
                    ("isTyping", flag("Whether it does.")),
                    ("timestamp", time()),
                ],
            ),
        ),
        (
            "MessageRead",
            object(
                "Who has read which message.",
                &[
                    ("messageId", id()),
                    ("userId", user()),
                    ("clientId", client_id()),
                    ("roomId", room()),
                    ("timestamp", time()),
                ],
            ),
        ),
    ]
}

/// Messages as they arrive.
pub fn messages() -> Schemas {
    vec![
        (
            "Delivered",
            open(
                "The object that was sent, with its number in the room added.",
                &[("offset?", offset())],
            ),
        ),
        (
            "NewMessage",
            open(
                "A chat message, with the further fields of its payload.",
                &[
                    ("id", id()),
                    ("sender", user()),
                    ("clientId", client_id()),
                    ("content", anything("What is said.")),
                    ("timestamp", time()),
                    ("offset?", offset()),
                ],
            ),
        ),
        (
            "MessageSent",
            object(
                "",
                &[("id", id()), ("timestamp", time()), ("status", json!({"const": "sent"}))],
            ),
        ),
        (
            "Private",
            object(
                "A private message.",
                &[
                    ("id", id()),
                    ("from", user()),
                    ("clientId", client_id()),
                    (
                        "message",
                        object(
                            "",
                            &[
                                ("content", anything("What is said.")),
                                ("type", reference("Kind")),
                                ("timestamp", time()),
                            ],
                        ),
                    ),
                    ("timestamp", time()),
                ],
            ),
        ),
        (
            "PrivateSent",
            object(
                "",
                &[
                    ("target", reference("Name")),
                    ("id", id()),
                    ("delivered", flag("It was sent to at least one client of the user.")),
                    ("queued", flag("It waits until the user connects.")),
                    ("timestamp", time()),
                ],
            ),
        ),
    ]
}

/// What clients are told of users.
pub fn users() -> Schemas {
    let user = || text("The user.");
    vec![
        (
            "Authenticated",
            object(
                "",
                &[
                    ("success", yes()),
                    ("userId", user()),
                    ("message", text("What was done.")),
                    ("timestamp", time()),
                ],
            ),
        ),
        ("UserMove", object("Who came or went.", &[("userId", user()), ("timestamp", time())])),
        (
            "PresenceChange",
            object(
                "How a user is.",
                &[("userId", user()), ("status", reference("Status")), ("lastActive", time())],
            ),
        ),
        ("TokenExpired", object("", &[("message", text("What to do."))])),
    ]
}

/// What a client is told of itself.
pub fn state() -> Schemas {
    vec![
        (
            "Connected",
            object(
                "Who the client is.",
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
                    ("message", text("What has happened.")),
                ],
            ),
        ),
        (
            "Pong",
            object(
                "",
                &[
                    (
                        "timestamp",
                        json!({"type": "integer", "description": "The server's time, in milliseconds since 1970."}),
                    ),
                    ("message", text("Some words.")),
                ],
            ),
        ),
        (
            "EventError",
            object(
                "Why an event was not honoured.",
                &[
                    ("message", text("What was wrong, what is allowed, what to do.")),
                    ("code", reference("Code")),
                    ("event", text("The event.")),
                    (
                        "retryAfterMs?",
                        count(
                            "When trying again may succeed, in milliseconds; with `rate_limited`.",
                        ),
                    ),
                ],
            ),
        ),
        (
            "Exception",
            object(
                "Why an event was not honoured.",
                &[
                    ("status", json!({"const": "error"})),
                    ("message", text("What was wrong, what is allowed, what to do.")),
                ],
            ),
        ),
    ]
}
