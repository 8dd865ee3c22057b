//! The backend's answers: read as a whole, before anything of them is carried out.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::value::RawValue;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{call::Reply, emit::Emit};
use crate::{
    auth,
    hub::{Namespace, Registry},
    limits::{MAX_DEPTH, is_deeper_than},
    protocol::{
        names::{RoomName, UserId},
        payload::{
            Object, Payload,
            tagged::{compact, from_tagged},
            text_or_number,
        },
        permissions::Permissions,
        refusal::{Refusal, Rejection},
    },
};

/// The greatest size of a client's `data`, in bytes of JSON.
const MAX_DATA: usize = 4_000;

/// The greatest length of a code of the backend's own, in Unicode code points.
const MAX_CODE: usize = 100;

/// The greatest length of a reason to disconnect, in Unicode code points; the rest is cut off.
const MAX_REASON: usize = 200;

/// How deep an answer may be: its values may be as deep as a client's, and stand in lists of their own.
const MAX_ANSWER_DEPTH: usize = MAX_DEPTH + 8;

/// What an answer says.
#[derive(Debug)]
pub(super) enum Answer {
    /// The event is refused.
    Refused(Refusal),
    /// The acknowledgement comes later.
    Later,
    /// What is to be done.
    Todo(Box<Todo>),
}

/// What is to be done, in this order.
#[derive(Debug, Default)]
pub(super) struct Todo {
    /// Who a new client is.
    pub client: Option<Introduction>,
    /// What replaces the client's `data`.
    pub data: Option<Arc<RawValue>>,
    /// What replaces the first argument of an event of the contract.
    pub payload: Option<Payload>,
    /// The backend has done all: an event of the contract does not go on.
    pub is_handled: bool,
    /// Rooms left and joined, and events sent.
    pub steps: Vec<Step>,
    /// The acknowledgement.
    pub ack: Ack,
    /// Why the client is disconnected, if it is.
    pub disconnect: Option<Cow<'static, str>>,
}

/// The acknowledgement.
#[derive(Debug, Default)]
pub(super) enum Ack {
    /// The event's own, or that it was honoured.
    #[default]
    Own,
    /// None at all.
    Nothing,
    /// These arguments: an array.
    With(Payload),
}

/// A part of what is to be done.
#[derive(Debug)]
pub(super) enum Step {
    /// The client leaves these rooms.
    Leave(Rooms),
    /// The client joins these rooms.
    Join(Rooms),
    /// An event is sent.
    Emit(Box<Emit>),
}

/// Rooms, and whether others are told.
#[derive(Debug)]
pub(super) struct Rooms {
    pub rooms: Arc<[RoomName]>,
    pub is_silent: bool,
}

/// Who a new client is.
#[derive(Debug, Default)]
pub(super) struct Introduction {
    pub user: Option<UserId>,
    pub name: Option<String>,
    pub permissions: Option<Permissions>,
    pub join: Vec<RoomName>,
    pub expires_at: Option<SystemTime>,
    pub claims: Option<Arc<RawValue>>,
}

/// Where an answer counts.
pub(super) struct Place<'a> {
    pub registry: &'a Registry,
    /// The client's namespace.
    pub namespace: &'a Arc<Namespace>,
}

/// What is wrong with an answer.
type Wrong<T> = Result<T, String>;

impl Answer {
    /// Reads an answer.
    pub(super) fn read(reply: Reply, place: &Place<'_>) -> Wrong<Self> {
        match reply {
            Reply::Nothing => Ok(Self::Todo(Box::default())),
            Reply::Later => Ok(Self::Later),
            Reply::Refused(text) => Ok(Self::Refused(refusal_of(&object(&text)?)?)),
            Reply::Fields(text) => {
                let answer = object(&text)?;
                match answer.get("error") {
                    Some(error) => Ok(Self::Refused(refusal_of(&object(error.get())?)?)),
                    None => Ok(Self::Todo(Box::new(Todo::read(&answer, place)?))),
                }
            }
        }
    }
}

/// The fields of an answer.
const FIELDS: [&str; 12] = [
    "error",
    "client",
    "data",
    "payload",
    "handled",
    "leave",
    "join",
    "silent",
    "emit",
    "do",
    "ack",
    "disconnect",
];

impl Todo {
    fn read(answer: &Object<'_>, place: &Place<'_>) -> Wrong<Self> {
        // A misspelt field could let pass what was to be stopped.
        nothing_but(answer, &FIELDS)?;
        let several = ["leave", "join", "emit"].iter().any(|field| answer.get(field).is_some());
        let steps = match answer.get("do") {
            Some(_) if several => {
                return Err("do replaces leave, join and emit: give one or the other".into());
            }
            Some(list) => {
                let mut steps = Vec::new();
                for item in items("do", list)? {
                    let item = fields_of("do", item)?;
                    nothing_but(&item, &["leave", "join", "silent", "emit"])?;
                    let before = steps.len();
                    Step::read(&item, place, &mut steps)?;
                    if steps.len() == before {
                        return Err("each value in do must have leave, join or emit".into());
                    }
                }
                steps
            }
            None => {
                let mut steps = Vec::new();
                Step::read(answer, place, &mut steps)?;
                steps
            }
        };
        Ok(Self {
            client: answer.get("client").map(Introduction::read).transpose()?,
            data: answer.get("data").map(data).transpose()?,
            payload: answer.get("payload").map(|value| payload("payload", value)).transpose()?,
            is_handled: flag(answer, "handled")?,
            steps,
            ack: match answer.get("ack") {
                None => Ack::Own,
                Some(value) if value.get() == "false" => Ack::Nothing,
                Some(value) => Ack::With(list("ack", value)?),
            },
            disconnect: answer.get("disconnect").map_or(Ok(None), disconnect)?,
        })
    }
}

impl Step {
    /// Reads `leave`, `join` and `emit`.
    fn read(from: &Object<'_>, place: &Place<'_>, steps: &mut Vec<Self>) -> Wrong<()> {
        let is_silent = flag(from, "silent")?;
        let rooms = |field: &str| {
            let given = from.get(field).map(|value| rooms(field, value)).transpose()?;
            Ok::<_, String>(given.map(|rooms| Rooms { rooms: rooms.into(), is_silent }))
        };
        steps.extend(rooms("leave")?.map(Self::Leave));
        steps.extend(rooms("join")?.map(Self::Join));
        if let Some(list) = from.get("emit") {
            for item in items("emit", list)? {
                let emit = Emit::read(&fields_of("emit", item)?, place)?;
                steps.push(Self::Emit(Box::new(emit)));
            }
        }
        Ok(())
    }
}

impl Introduction {
    fn read(value: &RawValue) -> Wrong<Self> {
        let client = fields_of("client", value)?;
        nothing_but(&client, &["userId", "clientName", "rooms", "join", "expiresAt", "claims"])?;
        let user = |value: &RawValue| {
            let name = name_of("client.userId", value)?;
            UserId::parse(&name).map_err(|error| format!("client.userId {error}"))
        };
        let permissions = |value: &RawValue| {
            let claim = serde_json::from_str(value.get()).map_err(|error| error.to_string())?;
            auth::permissions(&claim).map_err(|error| format!("client.rooms: {error}"))
        };
        let claims = |value: &RawValue| {
            fields_of("client.claims", value)?;
            Ok::<_, String>(compacted(value))
        };
        Ok(Self {
            user: client.get("userId").map(user).transpose()?,
            name: client
                .get("clientName")
                .map(|value| text("client.clientName", value))
                .transpose()?,
            permissions: client.get("rooms").map(permissions).transpose()?,
            join: client.get("join").map_or(Ok(Vec::new()), |value| rooms("client.join", value))?,
            expires_at: client.get("expiresAt").map(moment).transpose()?,
            claims: client.get("claims").map(claims).transpose()?,
        })
    }
}

/// A refusal: `{message, code?, data?}`, and whatever else a framework adds.
fn refusal_of(error: &Object<'_>) -> Wrong<Refusal> {
    let message = error.get("message").ok_or("an error must have a message")?;
    let message = match text("message", message) {
        Ok(message) => message,
        // What validators make of several faults.
        Err(wrong) => {
            serde_json::from_str::<Vec<String>>(message.get()).map_err(|_| wrong)?.join("; ")
        }
    };
    let code = error.get("code").map(|value| text("code", value)).transpose()?;
    if code.as_ref().is_some_and(|code| code.is_empty() || code.chars().nth(MAX_CODE).is_some()) {
        return Err(format!("code must have 1 to {MAX_CODE} characters"));
    }
    let data = error.get("data").map(|value| shallow("data", value).map(|()| compact(value.get())));
    Ok(Refusal::rejected(message, Rejection { code, data: data.transpose()? }))
}

/// The text as an object, if it is no deeper than anybody can read.
fn object(text: &str) -> Wrong<Object<'_>> {
    if is_deeper_than(MAX_ANSWER_DEPTH, text) {
        return Err(format!("it is nested deeper than {MAX_ANSWER_DEPTH} levels"));
    }
    serde_json::from_str::<&RawValue>(text).map_err(|error| format!("it is not JSON: {error}"))?;
    Object::parse(text).ok_or_else(|| "it must be a JSON object".to_owned())
}

fn nothing_but(object: &Object<'_>, known: &[&str]) -> Wrong<()> {
    match object.fields().find(|(name, _)| !known.contains(name)) {
        Some((name, _)) => {
            Err(format!("property {name} should not exist; there are {}", known.join(", ")))
        }
        None => Ok(()),
    }
}

fn fields_of<'a>(field: &str, value: &'a RawValue) -> Wrong<Object<'a>> {
    Object::parse(value.get()).ok_or_else(|| format!("{field} must be an object"))
}

fn items<'a>(field: &str, value: &'a RawValue) -> Wrong<Vec<&'a RawValue>> {
    serde_json::from_str(value.get()).map_err(|_| format!("{field} must be an array"))
}

fn text(field: &str, value: &RawValue) -> Wrong<String> {
    serde_json::from_str(value.get()).map_err(|_| format!("{field} must be a string"))
}

fn flag(object: &Object<'_>, field: &str) -> Wrong<bool> {
    match object.get(field).map(RawValue::get) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(format!("{field} must be a boolean value")),
    }
}

/// A string, or a number as its decimal string.
fn name_of(field: &str, value: &RawValue) -> Wrong<String> {
    text_or_number(value.get()).ok_or_else(|| format!("{field} must be a string"))
}

fn rooms(field: &str, value: &RawValue) -> Wrong<Vec<RoomName>> {
    let room = |value: &RawValue| {
        let name = name_of(&format!("each value in {field}"), value)?;
        RoomName::parse(&name).map_err(|error| format!("each value in {field} {error}"))
    };
    items(field, value)?.into_iter().map(room).collect()
}

fn shallow(field: &str, value: &RawValue) -> Wrong<()> {
    if is_deeper_than(MAX_DEPTH, value.get()) {
        return Err(format!("{field} is nested deeper than {MAX_DEPTH} levels"));
    }
    Ok(())
}

/// A value that goes to clients.
fn payload(field: &str, value: &RawValue) -> Wrong<Payload> {
    shallow(field, value)?;
    from_tagged(value).map_err(|wrong| format!("{field}: {wrong}"))
}

/// An array of values that go to clients.
fn list(field: &str, value: &RawValue) -> Wrong<Payload> {
    if !value.get().starts_with('[') {
        return Err(format!("{field} must be an array"));
    }
    // Each of its values may be as deep as any.
    if is_deeper_than(MAX_DEPTH + 1, value.get()) {
        return Err(format!("{field} is nested deeper than {MAX_DEPTH} levels"));
    }
    from_tagged(value).map_err(|wrong| format!("{field}: {wrong}"))
}

fn data(value: &RawValue) -> Wrong<Arc<RawValue>> {
    fields_of("data", value)?;
    let data = compacted(value);
    if data.get().len() > MAX_DATA {
        return Err(format!("data must have at most {MAX_DATA} bytes"));
    }
    Ok(data)
}

fn compacted(value: &RawValue) -> Arc<RawValue> {
    crate::protocol::payload::raw(compact(value.get())).into()
}

fn disconnect(value: &RawValue) -> Wrong<Option<Cow<'static, str>>> {
    match value.get() {
        "false" => Ok(None),
        "true" => Ok(Some("server namespace disconnect".into())),
        _ => {
            let reason = text("disconnect", value)
                .map_err(|_| "disconnect must be true or a reason".to_owned())?;
            Ok(Some(reason.chars().take(MAX_REASON).collect::<String>().into()))
        }
    }
}

/// A moment: RFC 3339, or seconds since 1970.
fn moment(value: &RawValue) -> Wrong<SystemTime> {
    let wrong =
        || "client.expiresAt must be a date in RFC 3339 or the seconds since 1970".to_owned();
    if let Ok(seconds) = serde_json::from_str::<f64>(value.get()) {
        let since = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
        return UNIX_EPOCH.checked_add(since).ok_or_else(wrong);
    }
    let text = text("client.expiresAt", value).map_err(|_| wrong())?;
    OffsetDateTime::parse(&text, &Rfc3339).map(SystemTime::from).map_err(|_| wrong())
}
