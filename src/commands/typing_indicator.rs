//! `typingIndicator`.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    arguments::room_in,
    context::Context,
    event::{Caller, ClientEvent, Event, Feature, Incoming, Outcome, ServerEvent},
    publish::success,
    schema::{client_id, client_name, flag, object, of_room, room, time, user},
};
use crate::{
    hub::{Client, packet::Packet},
    protocol::{
        audience::Except,
        names::{RoomName, UserId},
        permissions::Right,
        refusal::{Code, Refusal},
        timestamp::Timestamp,
    },
};

const USER_TYPING: ServerEvent = ServerEvent::state("userTyping","UserTyping","A client is typing, or has stopped.").to("The room's other members.").example(r#"{"userId":"alice","clientId":"3qwd6cWPZVJxGsnkAAAB","clientName":"Ada","roomId":"lobby","isTyping":true,"timestamp":"2026-01-01T12:00:00.000Z"}"#);

pub(super) const FEATURE: Feature = Feature {
    client: &[ClientEvent::new::<Typing>(
        "typingIndicator",
        "Typing",
        "Success",
        "Says whether the client is typing. The room's other members get `userTyping`.",
    )
    .example(r#"{"roomId":"lobby","isTyping":true}"#)
    .refusals(&[Code::NoRoom, Code::Forbidden])],
    server: &[USER_TYPING],
    schemas: || {
        vec![
            (
                "Typing",
                of_room(
                    "Whether the client is typing in a room.",
                    &[("isTyping", flag("True: is typing. False: has stopped."))],
                ),
            ),
            (
                "UserTyping",
                object(
                    "A client is typing, or has stopped.",
                    &[
                        ("userId", user()),
                        ("clientId", client_id()),
                        ("clientName", client_name()),
                        ("roomId", room()),
                        ("isTyping", flag("True: is typing. False: has stopped.")),
                        ("timestamp", time()),
                    ],
                ),
            ),
        ]
    },
};

/// The client types in a room, or has stopped.
struct Typing {
    room: RoomName,
    is_typing: bool,
}

impl Event for Typing {
    fn parse(incoming: &Incoming<'_>) -> Result<Self, Refusal> {
        let object = incoming.object()?;
        let room = room_in(object)?.name;
        match object.get("isTyping").map(RawValue::get) {
            Some("true") => Ok(Self { room, is_typing: true }),
            Some("false") => Ok(Self { room, is_typing: false }),
            _ => Err(Refusal::invalid("isTyping must be a boolean")),
        }
    }

    async fn run(self, caller: Caller) -> Outcome {
        let Self { room, is_typing } = self;
        let client = &caller.client;
        client.permit(Right::Send, &room)?;
        // A member's typing ends by itself when it leaves, so only a member's is remembered.
        if client.is_in(room.as_str()) {
            client.set_typing(&room, is_typing);
        }
        tell(&caller.context, client, &room, is_typing);
        Ok(Some(success()))
    }
}

/// Tells the others that a client that leaves the room has stopped typing.
pub(super) fn stop(context: &Context, client: &Arc<Client>, room: &RoomName) {
    if client.set_typing(room, false) {
        tell(context, client, room, false);
    }
}

fn tell(context: &Context, client: &Client, room: &RoomName, is_typing: bool) {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Signal<'a> {
        user_id: Option<UserId>,
        client_id: &'a str,
        client_name: &'a str,
        room_id: &'a RoomName,
        is_typing: bool,
        timestamp: Timestamp,
    }
    let signal = Signal {
        user_id: client.user(),
        client_id: client.id.as_str(),
        client_name: &client.name,
        room_id: room,
        is_typing,
        timestamp: Timestamp::now(),
    };
    let packet = Packet::of(USER_TYPING.name, &signal);
    context.broker.signal_room(
        &client.namespace,
        room,
        &packet,
        &Except::client(Some(client.id.clone())),
    );
}
