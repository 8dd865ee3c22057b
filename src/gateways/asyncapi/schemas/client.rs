//! What clients send, and how they are answered.

use serde_json::{Value, json};

use super::{
    Schemas, anything, client_id, client_name, count, epoch, flag, id, object, offset, open,
    reference, room, text, time, yes,
};
use crate::commands::history::MAX_PAGE;

/// What clients send.
#[allow(clippy::too_many_lines, reason = "a table")]
pub fn sent() -> Schemas {
    let of_room = |description: &str, fields: &[(&str, Value)]| json!({"description": description, "allOf": [reference("Room"), open("", fields)]});
    let recovery = [
        (
            "offset?",
            count(
                "The newest offset that the client has of this room: what came after it is sent first.",
            ),
        ),
        ("epoch?", text("The epoch that the offset belongs to.")),
    ];
    vec![
        (
            "JoinRoom",
            json!({
                "description": "The room to join, and what the client has of it already.",
                "anyOf": [reference("Name"), {"allOf": [reference("Room"), open("", &recovery)]}],
            }),
        ),
        ("RoomObject", of_room("An object for a room; it goes out as it is.", &[("id?", id())])),
        (
            "RoomMessage",
            of_room(
                "A message for a room; it goes out as it is.",
                &[
                    ("id?", id()),
                    ("omitSender?", flag("The sender gets no copy of its own.")),
                    (
                        "replyToSender?",
                        flag(
                            "The sender gets its own copy. Without either: where the room is named by `resourceId`.",
                        ),
                    ),
                ],
            ),
        ),
        (
            "NamespaceMessage",
            json!({
                "description": "A message for everyone of the namespace.",
                "anyOf": [{"type": "string"}, open("", &[("text", anything("What is said.")), ("id?", id())])],
            }),
        ),
        ("Message", json!({"anyOf": [reference("RoomMessage"), reference("NamespaceMessage")]})),
        (
            "ChatMessage",
            of_room(
                "A chat message; further fields go out with it.",
                &[("content", anything("What is said.")), ("id?", id())],
            ),
        ),
        (
            "CustomEvent",
            object(
                "An event of one's own.",
                &[
                    (
                        "event",
                        text("Its name: none of Socket.IO's own, and none that the server sends."),
                    ),
                    ("data?", anything("Its argument.")),
                    ("roomName?", reference("Name")),
                    ("roomId?", reference("Name")),
                    ("room?", reference("Name")),
                    ("resourceId?", reference("Name")),
                ],
            ),
        ),
        (
            "Typing",
            of_room("Whether one types in a room.", &[("isTyping", flag("Whether one does."))]),
        ),
        ("ReadReceipt", of_room("That a message of a room was read.", &[("messageId", id())])),
        (
            "Authenticate",
            json!({
                "description": "Who one is: the user alone where authentication is off, with a token where it is on.",
                "anyOf": [
                    reference("Name"),
                    object("", &[("userId?", reference("Name")), ("token?", text("A JSON Web Token whose subject is the user."))]),
                ],
            }),
        ),
        ("Presence", object("How a user is.", &[("status", reference("Status"))])),
        (
            "PrivateMessage",
            json!({
                "description": "A message for one user.",
                "allOf": [
                    {"anyOf": [
                        open("", &[("targetUserId", reference("Name"))]),
                        open("", &[("target", reference("Name"))]),
                    ]},
                    open("", &[
                        ("message", anything("What is said.")),
                        ("messageType?", reference("Kind")),
                        ("id?", id()),
                    ]),
                ],
            }),
        ),
        (
            "SyncMessages",
            of_room(
                "Which part of a room's history is wanted: after `lastMessageId`, else after `offset`, else from the oldest.",
                &[
                    ("lastMessageId?", id()),
                    ("offset?", count("The newest offset that the client has.")),
                    (
                        "limit?",
                        json!({"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 100}),
                    ),
                ],
            ),
        ),
    ]
}

/// How the server acknowledges.
#[allow(clippy::too_many_lines, reason = "a table")]
pub fn acknowledged() -> Schemas {
    let sync = [
        ("success", yes()),
        ("roomId", room()),
        ("syncedMessageCount", count("How many messages were sent.")),
        ("offset", count("Where the next page begins.")),
        ("epoch", epoch()),
        ("complete", flag("Whether nothing comes after this page.")),
    ];
    vec![
        (
            "Refused",
            object(
                "The event was not honoured and changed nothing.",
                &[
                    ("success", json!({"const": false})),
                    ("message", text("What was wrong, what is allowed, what to do.")),
                    ("code", reference("Code")),
                    (
                        "retryAfterMs?",
                        count(
                            "When trying again may succeed, in milliseconds; with `rate_limited`.",
                        ),
                    ),
                ],
            ),
        ),
        ("Success", object("The event was honoured.", &[("success", yes())])),
        (
            "Done",
            object(
                "The event was honoured.",
                &[("success", yes()), ("message", text("What was done."))],
            ),
        ),
        (
            "RoomAcknowledge",
            object(
                "The client is in the room, or out of it.",
                &[
                    ("success", yes()),
                    ("clientId", client_id()),
                    ("clientName", client_name()),
                    ("roomName", room()),
                    ("message", text("What was done.")),
                    ("roomId?", reference("Name")),
                    ("room?", reference("Name")),
                    ("resourceId?", reference("Name")),
                    ("offset?", count("The room's newest offset that the client has now.")),
                    ("epoch?", epoch()),
                    (
                        "recovered?",
                        flag(
                            "Whether everything that was missed has been sent, where the join asked for it.",
                        ),
                    ),
                    ("missed?", count("How many messages were sent before the join.")),
                    (
                        "oldestOffset?",
                        count("The oldest offset that can be read, or the next one if none can."),
                    ),
                ],
            ),
        ),
        (
            "MessageAcknowledge",
            object(
                "The message is stored (where there is history) and on its way.",
                &[
                    ("success", yes()),
                    ("id", id()),
                    (
                        "roomName",
                        json!({"type": ["string", "null"], "description": "The room; null where it went to everyone."}),
                    ),
                    ("timestamp", time()),
                    ("offset?", offset()),
                ],
            ),
        ),
        (
            "ReceiptAcknowledge",
            object(
                "The receipt was sent.",
                &[
                    ("success", yes()),
                    ("recorded", flag("Whether it was recorded with the message.")),
                ],
            ),
        ),
        (
            "PrivateAcknowledge",
            object(
                "The message was taken.",
                &[
                    ("success", yes()),
                    ("message", text("What was done.")),
                    ("id", id()),
                    ("delivered", flag("It was sent to at least one client of the user.")),
                    ("queued", flag("It waits until the user connects.")),
                ],
            ),
        ),
        ("SyncAcknowledge", object("The page was sent.", &sync)),
        ("SyncComplete", object("The page was sent.", &sync[1..])),
    ]
}
