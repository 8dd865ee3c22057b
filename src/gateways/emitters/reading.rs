//! What emitters send, read as a whole before any of it takes effect.

use std::sync::Arc;

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use indexmap::IndexSet;
use serde_json::value::RawValue;

use super::{
    Unfit,
    msgpack::{Decoded, decode},
};
use crate::{
    broker::survey::Selection,
    gateways::{event_fields::event_fault, fields::namespace},
    hub::{Namespace, Registry},
    limits::{MAX_DEPTH, is_deeper_than},
    protocol::{
        audience::Except,
        names::RoomName,
        payload::{Object, Payload, is_placeholder, raw, text_or_number},
    },
};

/// Base64, with its padding or without.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The kinds of requests by publish/subscribe, as Socket.IO's Redis adapter numbers them.
mod request {
    pub(super) const JOIN: u64 = 2;
    pub(super) const LEAVE: u64 = 3;
    pub(super) const DISCONNECT: u64 = 4;
}

/// The kinds of entries of a stream, as Socket.IO's adapters number them.
mod entry {
    pub(super) const BROADCAST: u64 = 3;
    pub(super) const LEAVE: u64 = 5;
    pub(super) const DISCONNECT: u64 = 6;
}

/// What an emitter asks for.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    /// An event is sent.
    Emit(Emit),
    /// Clients join rooms, or leave them.
    Change { clients: Selection, rooms: Vec<RoomName>, joins: bool },
    /// Clients are disconnected; their connections end if it `closes` them.
    Disconnect { clients: Selection, closes: bool },
}

/// An event to be sent.
#[derive(Debug, Clone)]
pub(super) struct Emit {
    pub namespace: Arc<Namespace>,
    pub event: String,
    /// Its argument, or an array of all of them.
    pub data: Payload,
    pub is_list: bool,
    /// The rooms, each of which may also be a client's id; everyone of the namespace if there are none.
    pub rooms: Vec<RoomName>,
    pub except: Except,
    pub volatile: bool,
}

impl Emit {
    /// Whether it is a message of its rooms, numbered and stored.
    pub(super) fn is_message(&self) -> bool {
        let is_object = self.data.unnumbered().starts_with('{');
        !self.rooms.is_empty() && !self.volatile && !self.is_list && is_object
    }
}

/// Reads what emitters send. `None` stands for what only servers of Socket.IO tell one another.
pub(super) struct Reader<'a> {
    /// What channels begin with.
    pub prefix: &'a str,
    pub registry: &'a Registry,
    /// The greatest size of a message.
    pub max: usize,
}

type Read = Result<Option<Operation>, Unfit>;

impl Reader<'_> {
    /// Reads a message of publish/subscribe.
    pub(super) fn message(&self, channel: &str, bytes: &[u8]) -> Read {
        self.fits(bytes.len())?;
        let rest = channel.strip_prefix(self.prefix).unwrap_or_default();
        match (rest.strip_prefix("-request#"), rest.strip_prefix('#')) {
            (Some(rest), _) => self.request(rest, bytes),
            (None, Some(rest)) => self.broadcast(rest, bytes),
            (None, None) => Err(Unfit("its channel is no emitter's".into())),
        }
    }

    /// Reads the fields of an entry of a stream.
    pub(super) fn entry<'a>(&self, fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Read {
        let (mut path, mut kind, mut data) = (None, None, None);
        for (name, value) in fields {
            match name {
                b"nsp" => path = Some(utf8(value)?),
                b"type" => kind = utf8(value)?.parse().ok(),
                b"data" => data = Some(utf8(value)?),
                _ => {}
            }
        }
        let (Some(path), Some(kind @ entry::BROADCAST..=entry::DISCONNECT)) = (path, kind) else {
            return Ok(None);
        };
        let data = data.ok_or(Unfit("it has no data".into()))?;
        let Decoded { json, attachments } = if data.starts_with('{') {
            self.fits(data.len())?;
            let json = serde_json::from_str::<&RawValue>(data);
            let json = json.map_err(|_| Unfit("its data is no JSON".into()))?;
            Decoded { json: json.to_owned(), attachments: Arc::default() }
        } else {
            self.fits(data.len() / 4 * 3)?;
            let bytes = LENIENT.decode(data).map_err(|_| Unfit("its data is no base64".into()))?;
            decode(&bytes, self.max)?
        };
        let data = object("data", json.get())?;
        let options = options(&data)?;
        let namespace = self.namespace(path)?;
        Ok(match kind {
            entry::BROADCAST => {
                let packet = data.get("packet").ok_or(Unfit("it has no packet".into()))?;
                let packet = object("packet", packet.get())?;
                emit(namespace, &packet, options.as_ref(), None, &attachments)?
            }
            entry::DISCONNECT => Some(disconnect(&namespace, &data, options.as_ref())?),
            _ => Some(change(&namespace, &data, options.as_ref(), kind != entry::LEAVE)?),
        })
    }

    /// Reads `[uid, packet, options]` in MessagePack, from the channel of a namespace or of one of its rooms.
    fn broadcast(&self, place: &str, bytes: &[u8]) -> Read {
        let Decoded { json, attachments } = decode(bytes, self.max)?;
        if json.get().starts_with('{') {
            return Ok(None);
        }
        let parts = serde_json::from_str::<Vec<&RawValue>>(json.get());
        let parts = parts.map_err(|_| Unfit("it is no list".into()))?;
        let [_sender, packet, options @ ..] = &parts[..] else {
            return Err(Unfit("it has no packet".into()));
        };
        let packet = object("packet", packet.get())?;
        let path = packet.get("nsp").map_or(Ok("/".to_owned()), |path| text("nsp", path))?;
        let rest = place.strip_prefix(&path).and_then(|rest| rest.strip_prefix('#'));
        let rest = rest.ok_or(Unfit("its channel is not that of its namespace".into()))?;
        // The channel of a room means that room alone: older emitters write to those of all rooms.
        let room = match rest.strip_suffix('#') {
            None if rest.is_empty() => None,
            None => return Err(Unfit("its channel is no emitter's".into())),
            Some(room) => Some(room_name(room)?),
        };
        let options = match options.first().filter(|options| options.get() != "null") {
            Some(options) => Some(object("options", options.get())?),
            None => None,
        };
        emit(self.namespace(&path)?, &packet, options.as_ref(), room, &attachments)
    }

    /// Reads a request in JSON, from the channel of a namespace.
    fn request(&self, place: &str, bytes: &[u8]) -> Read {
        let path = place.strip_suffix('#').ok_or(Unfit("its channel is no emitter's".into()))?;
        let request = object("request", utf8(bytes)?)?;
        let kind = request.get("type").and_then(|kind| kind.get().parse().ok());
        let Some(kind @ request::JOIN..=request::DISCONNECT) = kind else { return Ok(None) };
        // Servers ask for single clients without options.
        let Some(options) = options(&request)? else { return Ok(None) };
        let namespace = self.namespace(path)?;
        Ok(Some(match kind {
            request::DISCONNECT => disconnect(&namespace, &request, Some(&options))?,
            _ => change(&namespace, &request, Some(&options), kind != request::LEAVE)?,
        }))
    }

    fn fits(&self, size: usize) -> Result<(), Unfit> {
        if size > self.max {
            return Err(Unfit("it is larger than MAX_PAYLOAD".into()));
        }
        Ok(())
    }

    fn namespace(&self, path: &str) -> Result<Arc<Namespace>, Unfit> {
        namespace(self.registry, path).map_err(|fault| Unfit(fault.into()))
    }
}

/// Reads a packet. `room` is that of its channel, if it is one of a room.
fn emit(
    namespace: Arc<Namespace>,
    packet: &Object<'_>,
    options: Option<&Object<'_>>,
    room: Option<RoomName>,
    attachments: &Arc<[Bytes]>,
) -> Read {
    // Those of events, and of events with attachments.
    if packet.get("type").is_some_and(|kind| !matches!(kind.get(), "2" | "5")) {
        return Ok(None);
    }
    let data = packet.get("data").ok_or(Unfit("it has no event".into()))?;
    if is_deeper_than(MAX_DEPTH + 1, data.get()) {
        return Err(Unfit(format!("it is deeper than {MAX_DEPTH} levels").into()));
    }
    let items = serde_json::from_str::<Vec<&RawValue>>(data.get());
    let items = items.map_err(|_| Unfit("its event is no list".into()))?;
    let Some((event, arguments)) = items.split_first() else {
        return Err(Unfit("it has no event".into()));
    };
    let event = text("event", event)?;
    if let Some(fault) = event_fault("its event", &event) {
        return Err(Unfit(fault.into()));
    }
    if attachments.is_empty() && arguments.iter().any(|argument| is_placeholder(argument)) {
        return Err(Unfit("it has a placeholder without its attachment".into()));
    }
    let (json, is_list) = if let [argument] = arguments {
        ((*argument).to_owned(), false)
    } else {
        let texts = arguments.iter().map(|argument| argument.get()).collect::<Vec<_>>();
        (raw(format!("[{}]", texts.join(","))), true)
    };
    let data = Payload::with_attachments(json, attachments.clone());
    let data = data.map_err(|refusal| Unfit(refusal.message))?;
    let rooms = match room {
        Some(room) => vec![room],
        None => rooms("rooms", options)?,
    };
    let flags = options.and_then(|options| Object::parse(options.get("flags")?.get()));
    let is_set = |flags: Object<'_>| flags.get("volatile").is_some_and(|flag| flag.get() == "true");
    let except = except(&namespace, options)?;
    let volatile = flags.is_some_and(is_set);
    Ok(Some(Operation::Emit(Emit { namespace, event, data, is_list, rooms, except, volatile })))
}

fn change(
    namespace: &Namespace,
    data: &Object<'_>,
    options: Option<&Object<'_>>,
    joins: bool,
) -> Result<Operation, Unfit> {
    let clients = selection(namespace, options)?;
    Ok(Operation::Change { clients, rooms: rooms("rooms", Some(data))?, joins })
}

fn disconnect(
    namespace: &Namespace,
    data: &Object<'_>,
    options: Option<&Object<'_>>,
) -> Result<Operation, Unfit> {
    let closes = data.get("close").is_some_and(|close| close.get() == "true");
    Ok(Operation::Disconnect { clients: selection(namespace, options)?, closes })
}

/// The field `opts`, which says who is meant.
fn options<'a>(data: &Object<'a>) -> Result<Option<Object<'a>>, Unfit> {
    data.get("opts").map(|options| object("opts", options.get())).transpose()
}

fn selection(namespace: &Namespace, options: Option<&Object<'_>>) -> Result<Selection, Unfit> {
    let rooms = rooms("rooms", options)?;
    let except = except(namespace, options)?;
    Ok(Selection { namespace: namespace.path.clone(), rooms, except })
}

/// Who is left out: the members of rooms, each of which may also be a client's id.
fn except(namespace: &Namespace, options: Option<&Object<'_>>) -> Result<Except, Unfit> {
    let rooms = rooms("except", options)?;
    if rooms.is_empty() {
        return Ok(Except::nobody());
    }
    let clients = rooms.iter().filter_map(|room| room.as_str().parse().ok()).collect();
    Ok(Except { clients, users: Vec::new(), rooms, namespace: Some(namespace.path.clone()) })
}

/// A list of rooms, each named once; empty if there is none. Whatever is no list is refused: it must never mean
/// everyone.
fn rooms(field: &str, options: Option<&Object<'_>>) -> Result<Vec<RoomName>, Unfit> {
    let Some(list) = options.and_then(|options| options.get(field)) else { return Ok(Vec::new()) };
    // As Python's emitter writes that there are none.
    if list.get() == "\"\"" {
        return Ok(Vec::new());
    }
    let list = serde_json::from_str::<Vec<&RawValue>>(list.get());
    let list = list.map_err(|_| Unfit(format!("{field} is no list").into()))?;
    let name = |name: &&RawValue| {
        let name = text_or_number(name.get())
            .ok_or_else(|| Unfit(format!("{field} is no string").into()))?;
        room_name(&name)
    };
    let names = list.iter().map(name).collect::<Result<IndexSet<_>, _>>()?;
    Ok(names.into_iter().collect())
}

fn room_name(name: &str) -> Result<RoomName, Unfit> {
    RoomName::parse(name).map_err(|error| Unfit(format!("a room's name {error}").into()))
}

fn object<'a>(what: &str, json: &'a str) -> Result<Object<'a>, Unfit> {
    Object::parse(json).ok_or_else(|| Unfit(format!("its {what} is no object").into()))
}

fn text(what: &str, json: &RawValue) -> Result<String, Unfit> {
    serde_json::from_str(json.get()).map_err(|_| Unfit(format!("{what} is no string").into()))
}

fn utf8(bytes: &[u8]) -> Result<&str, Unfit> {
    str::from_utf8(bytes).map_err(|_| Unfit("it is no text".into()))
}

#[cfg(test)]
mod tests;
