//! What is sent to clients: an event, encoded once for all of them.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    protocol::{
        names::RoomName,
        payload::{Payload, json_of},
        position::Position,
    },
    sync::Mutex,
    transport::{
        Wire,
        frame::{Frames, Kind},
    },
};

/// An event with its arguments, ready for any number of clients.
///
/// The server's own have one argument, because rxjs' `fromEvent` turns several into an array. A backend's may
/// have any number.
#[derive(Debug, Clone)]
pub struct Packet {
    event: Cow<'static, str>,
    payload: Payload,
    /// The payload is an array of all arguments, and not the one argument.
    is_list: bool,
    frames: Arc<AllFrames>,
}

/// A packet's frames, which all its recipients share.
#[derive(Debug, Default)]
pub(super) struct AllFrames {
    /// What the packet's offset says. Only connection state recovery needs offsets.
    number: OnceLock<u64>,
    kept: OnceLock<Kept>,
    /// Those of its first recipient, which nearly always suit all others, too.
    first: OnceLock<Encoded>,
    others: Mutex<Vec<Encoded>>,
}

/// What is known of a packet that clients get even if they lose their connection before it reaches them.
#[derive(Debug)]
pub(super) struct Kept {
    /// Its recipients.
    pub audience: KeptFor,
    /// Its place in the room's log, if it has come by that.
    pub position: Option<Position>,
    /// When it was sent.
    pub since: Instant,
}

/// The recipients of a packet that outlives a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeptFor {
    /// A client, a user or everyone.
    Direct,
    /// The members of a room, which numbers it.
    Room(RoomName),
    /// The members of these rooms.
    Rooms(Arc<[RoomName]>),
}

#[derive(Debug)]
struct Encoded {
    namespace: Arc<str>,
    v3: bool,
    frames: Frames,
}

impl Packet {
    /// `event` with `payload` as its argument.
    pub fn new(event: impl Into<Cow<'static, str>>, payload: Payload) -> Self {
        Self { event: event.into(), payload, is_list: false, frames: Arc::default() }
    }

    /// `event` with `payload` as its argument or, if `is_list`, with the items of that array as its arguments.
    pub fn with(event: impl Into<Cow<'static, str>>, payload: Payload, is_list: bool) -> Self {
        Self { is_list, ..Self::new(event, payload) }
    }

    /// `event` with the JSON form of `data`.
    pub fn of<T: Serialize + ?Sized>(event: &'static str, data: &T) -> Self {
        Self::new(event, Payload::of(data))
    }

    /// The same, to be kept for clients that lose their connection.
    #[must_use]
    pub fn kept_for(self, audience: KeptFor) -> Self {
        self.keep(audience, None)
    }

    /// The same for the message at this position of a room's log.
    #[must_use]
    pub fn kept_in(self, room: RoomName, position: Position) -> Self {
        self.keep(KeptFor::Room(room), Some(position))
    }

    /// The same for a packet of another node, which has this number on all of them.
    #[must_use]
    pub fn kept_as(self, number: u64, audience: KeptFor) -> Self {
        let _first = self.frames.number.set(number);
        self.keep(audience, None)
    }

    fn keep(self, audience: KeptFor, position: Option<Position>) -> Self {
        let _first = self.frames.kept.set(Kept { audience, position, since: Instant::now() });
        self
    }

    /// What other nodes are told of a packet that is kept: its number and its recipients. `None` where packets are
    /// not numbered.
    pub fn kept(&self, wire: &Wire) -> Option<(u64, &KeptFor)> {
        let kept = self.frames.kept.get()?;
        Some((self.frames.number(wire)?, &kept.audience))
    }

    /// The same packet, to be sent once more: with an offset of its own.
    #[must_use]
    pub fn again(&self) -> Self {
        let again = Self { frames: Arc::default(), ..self.clone() };
        match self.frames.kept.get() {
            Some(kept) => again.kept_for(kept.audience.clone()),
            None => again,
        }
    }

    /// Whether it is kept for clients that lose their connection.
    pub fn is_kept(&self) -> bool {
        self.frames.kept.get().is_some()
    }

    /// What all recipients share.
    pub(super) fn shared(&self) -> &Arc<AllFrames> {
        &self.frames
    }

    /// The event's name.
    pub fn event(&self) -> &str {
        &self.event
    }

    /// Its argument, or the array of its arguments.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// Whether the payload is an array of all arguments.
    pub fn is_list(&self) -> bool {
        self.is_list
    }

    /// Encodes it for the clients of this namespace. Call this before taking a lock that others wait for, as
    /// a packet may be large.
    pub fn prepare(&self, wire: &Wire, namespace: &Arc<str>) {
        let _prepared = self.frames(wire, namespace, false);
    }

    /// Its frames for clients of this namespace.
    pub(super) fn frames(&self, wire: &Wire, namespace: &Arc<str>, v3: bool) -> Cow<'_, Frames> {
        // Only binary frames differ between the protocols, and offsets, which Engine.IO 3 does not know.
        let number = self.frames.number(wire);
        let v3 = v3 && (number.is_some() || !self.payload.attachments().is_empty());
        let encode = || {
            let offset = number.filter(|_| !v3).map(|number| format!(",\"{number:x}\""));
            let offset = offset.unwrap_or_default();
            let event = json_of(&*self.event);
            let (text, end) = self.payload.parts();
            let (text, end) = match items(text) {
                Some(items) if self.is_list => (items, ""),
                _ => (text, end.as_deref().unwrap_or_default()),
            };
            let comma = if text.is_empty() { "" } else { "," };
            let data = ["[", event.get(), comma, text, end, &offset, "]"];
            let frames = wire.encode(Kind::Event, namespace, &data, self.payload.attachments(), v3);
            Encoded { namespace: namespace.clone(), v3, frames }
        };
        let is_it = |known: &Encoded| known.v3 == v3 && known.namespace == *namespace;
        let first = self.frames.first.get_or_init(encode);
        if is_it(first) {
            return Cow::Borrowed(&first.frames);
        }
        let mut others = self.frames.others.lock();
        if let Some(known) = others.iter().find(|known| is_it(known)) {
            return Cow::Owned(known.frames.clone());
        }
        let encoded = encode();
        let frames = encoded.frames.clone();
        others.push(encoded);
        Cow::Owned(frames)
    }
}

impl AllFrames {
    /// The number of the packet, if packets are numbered.
    fn number(&self, wire: &Wire) -> Option<u64> {
        wire.numbers_packets().then(|| *self.number.get_or_init(|| wire.next_number()))
    }

    /// Those of a packet that was kept on another node: as it was sent there, this long ago.
    pub(super) fn moved(
        number: u64,
        (audience, position): (KeptFor, Option<Position>),
        age: Duration,
        (namespace, frames): (Arc<str>, Frames),
    ) -> Self {
        let now = Instant::now();
        let since = now.checked_sub(age).unwrap_or(now);
        Self {
            number: number.into(),
            kept: Kept { audience, position, since }.into(),
            first: Encoded { namespace, v3: false, frames }.into(),
            others: Mutex::default(),
        }
    }

    /// The number that its offset says; 0 if it has none.
    pub(super) fn offset(&self) -> u64 {
        self.number.get().copied().unwrap_or_default()
    }

    /// Its size on the wire.
    pub(super) fn size(&self) -> usize {
        self.first.get().map_or(0, |first| first.frames.size())
    }

    /// What is known of it, if it is kept.
    pub(super) fn kept(&self) -> Option<&Kept> {
        self.kept.get()
    }

    /// The frames with offsets for a namespace, if it was sent there.
    pub(super) fn sent_to(&self, namespace: &str) -> Option<Frames> {
        let is_it = |known: &&Encoded| !known.v3 && *known.namespace == *namespace;
        if let Some(first) = self.first.get().filter(is_it) {
            return Some(first.frames.clone());
        }
        self.others.lock().iter().find(is_it).map(|known| known.frames.clone())
    }
}

/// Reads the offset that a client gives back.
pub fn parse_offset(text: &str) -> Option<u64> {
    let is_ours = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    u64::from_str_radix(text, 16).ok().filter(|_| is_ours)
}

/// The text of an array's items.
fn items(array: &str) -> Option<&str> {
    Some(array.trim_ascii().strip_prefix('[')?.strip_suffix(']')?.trim_ascii())
}
