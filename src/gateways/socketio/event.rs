//! What a client sends, parsed once into a typed event.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::{
    commands::{
        history::{MAX_PAGE, Recovery, SyncFrom, SyncRequest},
        message::{Chat, ToRoom},
        presence::Claim,
        private_message::{KINDS, PrivateMessage},
        receipt::Receipt,
        room::{Join, Leave, RoomKey},
        signal::Custom,
    },
    hub::{Spelling, Status},
    protocol::{
        event_names::{client as name, is_protocol_event, is_server_event},
        message_id::MessageId,
        names::{NameError, RoomName, UserId},
        payload::{Object, Payload},
        refusal::{Code, Refusal},
    },
};

/// The greatest integer that JavaScript can hold exactly.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// A valid event of a client.
#[derive(Debug)]
pub enum ClientEvent {
    /// A message to a room: it may follow upon others that are not stored yet.
    Message(Message),
    /// `join-room`, `watch-resource`, `joinRoom`: acknowledged as the client enters.
    Join(Join),
    /// Anything else: it is done when what came before is.
    Request(Request),
}

/// A client's message to a room.
#[derive(Debug)]
pub enum Message {
    /// `sendMessage`
    Chat(Chat),
    /// `message` or `channels` with a room
    ToRoom(ToRoom),
}

/// What else a client asks for.
#[derive(Debug)]
pub enum Request {
    /// `authenticate`
    Authenticate(Claim),
    /// `custom-event`
    Custom(Custom),
    /// `heartbeat`
    Heartbeat,
    /// `leave-room`, `unwatch-resource`, `leaveRoom`
    Leave(Leave),
    /// `ping`
    Ping,
    /// `presenceUpdate`
    Presence(Status),
    /// `private-message`
    Private(PrivateMessage),
    /// `readReceipt`
    Receipt(Receipt),
    /// `syncMessages`
    Sync(SyncRequest),
    /// `message` without a room
    ToNamespace(Payload, MessageId),
    /// `typingIndicator`
    Typing(RoomName, bool),
}

impl From<Message> for ClientEvent {
    fn from(message: Message) -> Self {
        Self::Message(message)
    }
}

impl From<Request> for ClientEvent {
    fn from(request: Request) -> Self {
        Self::Request(request)
    }
}

impl ClientEvent {
    /// Reads the event `name` with its first argument; further arguments are not looked at.
    ///
    /// # Errors
    /// `unknown_event`, `no_room`, `invalid_payload`, `forbidden`: what the contract says of it.
    pub fn parse(
        name: &str,
        argument: Option<&RawValue>,
        attachments: Arc<[Bytes]>,
    ) -> Result<Self, Refusal> {
        let argument = argument.unwrap_or(RawValue::NULL);
        let payload = || Payload::with_attachments(argument.to_owned(), attachments.clone());
        match name {
            name::JOIN_ROOM | name::WATCH_RESOURCE => join(argument, Spelling::Dashed),
            name::JOIN_ROOM_CAMEL => join(argument, Spelling::Camel),
            name::LEAVE_ROOM | name::UNWATCH_RESOURCE => leave(argument, Spelling::Dashed),
            name::LEAVE_ROOM_CAMEL => leave(argument, Spelling::Camel),
            name::MESSAGE => message(argument, payload),
            name::CHANNELS => channels(argument, payload),
            name::SEND_MESSAGE => chat(argument, payload),
            name::CUSTOM_EVENT => custom(argument, attachments),
            name::TYPING_INDICATOR => typing(argument),
            name::READ_RECEIPT => receipt(argument),
            name::PING => Ok(Request::Ping.into()),
            name::HEARTBEAT => Ok(Request::Heartbeat.into()),
            name::AUTHENTICATE => authenticate(argument),
            name::PRESENCE_UPDATE => presence(argument),
            name::PRIVATE_MESSAGE => private(argument, payload),
            name::SYNC_MESSAGES => sync(argument),
            _ => Err(Refusal::new(
                Code::UnknownEvent,
                format!(
                    "unknown event \"{}\"; the events are {}",
                    shorten(name),
                    name::ALL.join(", ")
                ),
            )),
        }
    }
}

fn shorten(name: &str) -> String {
    let mut short = name.chars().take(50).collect::<String>();
    if short.len() < name.len() {
        short.push('…');
    }
    short
}

/// The payload as an object, if it is one.
///
/// An object that stands for an attachment is refused: receivers put the attachment's bytes in its place,
/// and nothing that the server has put inside would reach them.
fn object_in(argument: &RawValue) -> Result<Option<Object<'_>>, Refusal> {
    match Object::parse(argument.get()) {
        Some(object) if object.is_placeholder() => Err(Refusal::invalid(
            "the payload must be an object and not itself binary: put the attachment into one of its fields",
        )),
        object => Ok(object),
    }
}

fn object(argument: &RawValue) -> Result<Object<'_>, Refusal> {
    object_in(argument)?.ok_or_else(|| Refusal::invalid("the payload must be an object"))
}

/// A string, or a number as its decimal string; `None` for anything else.
fn text(value: &RawValue) -> Option<String> {
    match value.get().as_bytes().first()? {
        b'"' => serde_json::from_str(value.get()).ok(),
        b'-' | b'0'..=b'9' => Some(value.get().to_owned()),
        _ => None,
    }
}

fn named<T>(
    field: &str,
    value: &RawValue,
    parse: impl FnOnce(&str) -> Result<T, NameError>,
) -> Result<T, Refusal> {
    let Some(text) = text(value) else {
        return Err(Refusal::invalid(format!("{field} must be a string or a number")));
    };
    parse(&text).map_err(|error| Refusal::invalid(format!("{field} {error}")))
}

/// The fields that may name a room, the first that is present counts.
const ROOM_FIELDS: [&str; 4] = ["roomName", "roomId", "room", "resourceId"];

/// The room that a payload's fields name, if any.
fn room_in(object: &Object<'_>) -> Result<Option<RoomKey>, Refusal> {
    let Some((field, value)) =
        ROOM_FIELDS.iter().find_map(|field| object.get(field).map(|value| (*field, value)))
    else {
        return Ok(None);
    };
    let name = named(field, value, |text| match field {
        "resourceId" if text.is_empty() => Err(NameError::Empty),
        "resourceId" => RoomName::parse(&format!("resource:{text}")),
        _ => RoomName::parse(text),
    })?;
    Ok(Some(RoomKey { name, field: Some(field), value: value.get().into() }))
}

/// The room that an event must name.
fn room_of(object: &Object<'_>) -> Result<RoomKey, Refusal> {
    room_in(object)?.ok_or_else(Refusal::no_room)
}

/// The room to join or leave: the payload may itself be the name.
fn room_or_name(argument: &RawValue) -> Result<(RoomKey, Option<Object<'_>>), Refusal> {
    if let Some(object) = object_in(argument)? {
        let missing = || {
            Refusal::new(
                Code::NoRoom,
                "no room specified: give roomName, roomId, room or resourceId",
            )
        };
        return Ok((room_in(&object)?.ok_or_else(missing)?, Some(object)));
    }
    if argument.get() == "null" {
        return Err(Refusal::new(
            Code::NoRoom,
            "no room specified: give its name, or an object with roomName, roomId, room or resourceId",
        ));
    }
    let name = named("the room", argument, RoomName::parse)?;
    Ok((RoomKey { name, field: None, value: argument.get().into() }, None))
}

fn integer(field: &str, value: &RawValue, min: u64, max: u64) -> Result<u64, Refusal> {
    let number = value.get().parse().ok().filter(|number| (min..=max).contains(number));
    number
        .ok_or_else(|| Refusal::invalid(format!("{field} must be an integer from {min} to {max}")))
}

fn join(argument: &RawValue, spelling: Spelling) -> Result<ClientEvent, Refusal> {
    let (room, object) = room_or_name(argument)?;
    let recover = match object.as_ref().and_then(|object| Some((object, object.get("offset")?))) {
        Some((object, offset)) => {
            let offset = integer("offset", offset, 0, MAX_SAFE_INTEGER)?;
            let epoch = match object.get("epoch") {
                Some(epoch) => Some(text(epoch).ok_or_else(|| {
                    Refusal::invalid("epoch must be the string that a join's ack gave")
                })?),
                None => None,
            };
            Some(Recovery { offset, epoch })
        }
        None => None,
    };
    Ok(ClientEvent::Join(Join { room, spelling, recover }))
}

fn leave(argument: &RawValue, spelling: Spelling) -> Result<ClientEvent, Refusal> {
    let (room, _) = room_or_name(argument)?;
    Ok(Request::Leave(Leave { room, spelling }).into())
}

type Parsed = Result<Payload, Refusal>;

fn message(argument: &RawValue, payload: impl FnOnce() -> Parsed) -> Result<ClientEvent, Refusal> {
    if argument.get().starts_with('"') {
        return Ok(Request::ToNamespace(payload()?, MessageId::make()).into());
    }
    let object = object_in(argument)?.ok_or_else(Refusal::no_room)?;
    let id = MessageId::of(&object);
    let Some(room) = room_in(&object)? else {
        if object.get("text").is_none() {
            return Err(Refusal::no_room());
        }
        return Ok(Request::ToNamespace(payload()?, id).into());
    };
    // The contract's section 5: an explicit wish counts, else the shape decides.
    let is_true = |value: &RawValue| value.get() == "true";
    let to_sender = match (object.get("omitSender"), object.get("replyToSender")) {
        (Some(omit), _) => !is_true(omit),
        (None, Some(reply)) => is_true(reply),
        (None, None) => room.field == Some("resourceId"),
    };
    let message =
        ToRoom { room: room.name, payload: payload()?, id, event: "message-reply", to_sender };
    Ok(Message::ToRoom(message).into())
}

fn channels(argument: &RawValue, payload: impl FnOnce() -> Parsed) -> Result<ClientEvent, Refusal> {
    let object = object_in(argument)?.ok_or_else(Refusal::no_room)?;
    let room = room_of(&object)?.name;
    let id = MessageId::of(&object);
    let message =
        ToRoom { room, payload: payload()?, id, event: "resource-update", to_sender: true };
    Ok(Message::ToRoom(message).into())
}

fn chat(argument: &RawValue, payload: impl FnOnce() -> Parsed) -> Result<ClientEvent, Refusal> {
    let object = object(argument)?;
    let room = room_of(&object)?.name;
    if object.get("content").is_none() {
        return Err(Refusal::invalid("content must be present"));
    }
    let id = MessageId::of(&object);
    Ok(Message::Chat(Chat { room, payload: payload()?, id }).into())
}

fn custom(argument: &RawValue, attachments: Arc<[Bytes]>) -> Result<ClientEvent, Refusal> {
    let object = object(argument)?;
    let event =
        object.get("event").and_then(|event| serde_json::from_str::<String>(event.get()).ok());
    let Some(event) = event.filter(|event| !event.is_empty()) else {
        return Err(Refusal::invalid("event must be a non-empty string"));
    };
    if is_protocol_event(&event) || is_server_event(&event) {
        return Err(Refusal::forbidden(format!(
            "\"{event}\" is an event of Socket.IO or of the server: choose another name"
        )));
    }
    let data = object.get("data").unwrap_or(RawValue::NULL);
    let data = Payload::with_attachments(data.to_owned(), attachments)?;
    let room = room_in(&object)?.map(|room| room.name);
    Ok(Request::Custom(Custom { event, data, room }).into())
}

fn typing(argument: &RawValue) -> Result<ClientEvent, Refusal> {
    let object = object(argument)?;
    let room = room_of(&object)?.name;
    match object.get("isTyping").map(RawValue::get) {
        Some("true") => Ok(Request::Typing(room, true).into()),
        Some("false") => Ok(Request::Typing(room, false).into()),
        _ => Err(Refusal::invalid("isTyping must be a boolean")),
    }
}

fn receipt(argument: &RawValue) -> Result<ClientEvent, Refusal> {
    let object = object(argument)?;
    let room = room_of(&object)?.name;
    let message = object.get("messageId").and_then(MessageId::given);
    let message =
        message.ok_or_else(|| Refusal::invalid("messageId must be a string or a number"))?;
    Ok(Request::Receipt(Receipt { message, room }).into())
}

fn authenticate(argument: &RawValue) -> Result<ClientEvent, Refusal> {
    let Some(object) = object_in(argument)? else {
        let user = Some(named("userId", argument, UserId::parse)?);
        return Ok(Request::Authenticate(Claim { user, token: None }).into());
    };
    let user = match object.get("userId") {
        Some(user) => Some(named("userId", user, UserId::parse)?),
        None => None,
    };
    let token = match object.get("token") {
        Some(token) => Some(
            serde_json::from_str(token.get())
                .map_err(|_| Refusal::invalid("token must be a string"))?,
        ),
        None => None,
    };
    Ok(Request::Authenticate(Claim { user, token }).into())
}

fn presence(argument: &RawValue) -> Result<ClientEvent, Refusal> {
    let object = object(argument)?;
    // A text, as serde takes `{"online":null}` for a variant, too.
    let status = object.get("status").filter(|status| status.get().starts_with('"'));
    status
        .and_then(|status| serde_json::from_str(status.get()).ok())
        .map(|status| Request::Presence(status).into())
        .ok_or_else(|| Refusal::invalid("status must be one of online, away, busy, offline"))
}

fn private(argument: &RawValue, payload: impl FnOnce() -> Parsed) -> Result<ClientEvent, Refusal> {
    let object = object(argument)?;
    let target = ["targetUserId", "target"]
        .iter()
        .find_map(|field| object.get(field).map(|value| (*field, value)));
    let Some((field, echo)) = target else {
        return Err(Refusal::invalid("targetUserId must be present"));
    };
    let Some(content) = object.get("message") else {
        return Err(Refusal::invalid("message must be present"));
    };
    let kind = match object.get("messageType") {
        Some(kind) => {
            let given = serde_json::from_str::<String>(kind.get()).unwrap_or_default();
            let known = KINDS.iter().find(|kind| **kind == given);
            known.ok_or_else(|| {
                Refusal::invalid(format!("messageType must be one of {}", KINDS.join(", ")))
            })?
        }
        None => KINDS[0],
    };
    Ok(Request::Private(PrivateMessage {
        target: named(field, echo, UserId::parse)?,
        echo: echo.to_owned(),
        content: content.to_owned(),
        kind,
        id: MessageId::of(&object),
        payload: payload()?,
    })
    .into())
}

fn sync(argument: &RawValue) -> Result<ClientEvent, Refusal> {
    let object = object(argument)?;
    let room = room_of(&object)?;
    let from = match (object.get("lastMessageId"), object.get("offset")) {
        (Some(id), _) => {
            let id = MessageId::given(id);
            SyncFrom::Message(
                id.ok_or_else(|| Refusal::invalid("lastMessageId must be a string or a number"))?,
            )
        }
        (None, Some(offset)) => SyncFrom::Offset(integer("offset", offset, 0, MAX_SAFE_INTEGER)?),
        (None, None) => SyncFrom::Oldest,
    };
    let limit = match object.get("limit") {
        Some(limit) => usize::try_from(integer("limit", limit, 1, MAX_PAGE)?).unwrap_or(usize::MAX),
        None => 100,
    };
    Ok(Request::Sync(SyncRequest { room: room.name, from, limit }).into())
}

#[cfg(test)]
mod tests;
