//! What is sent to clients: an event, encoded once for all of them.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use serde::Serialize;

use crate::{
    protocol::payload::{Payload, json_of},
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
struct AllFrames {
    /// Those of its first recipient, which nearly always suit all others, too.
    first: OnceLock<Encoded>,
    others: Mutex<Vec<Encoded>>,
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
    pub(super) fn frames(&self, wire: &Wire, namespace: &Arc<str>, v3: bool) -> Frames {
        // Only binary frames differ between the protocols.
        let v3 = v3 && !self.payload.attachments().is_empty();
        let encode = || {
            let event = json_of(&*self.event);
            let (text, end) = self.payload.parts();
            let (text, end) = match items(text) {
                Some(items) if self.is_list => (items, ""),
                _ => (text, end.as_deref().unwrap_or_default()),
            };
            let comma = if text.is_empty() { "" } else { "," };
            let data = ["[", event.get(), comma, text, end, "]"];
            let frames = wire.encode(Kind::Event, namespace, &data, self.payload.attachments(), v3);
            Encoded { namespace: namespace.clone(), v3, frames }
        };
        let is_it = |known: &Encoded| known.v3 == v3 && known.namespace == *namespace;
        let first = self.frames.first.get_or_init(encode);
        if is_it(first) {
            return first.frames.clone();
        }
        let mut others = self.frames.others.lock();
        if let Some(known) = others.iter().find(|known| is_it(known)) {
            return known.frames.clone();
        }
        let encoded = encode();
        let frames = encoded.frames.clone();
        others.push(encoded);
        frames
    }
}

/// The text of an array's items.
fn items(array: &str) -> Option<&str> {
    Some(array.trim_ascii().strip_prefix('[')?.strip_suffix(']')?.trim_ascii())
}
