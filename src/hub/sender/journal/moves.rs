//! A journal moves with its session from one node to another.
//!
//! The node at which the client arrives first [keeps](Journal::collect) what comes from now on. Then the node that the
//! client has left [hands over](Journal::hand_over) what was missed until then, once, and keeps nothing from that
//! moment on. What both have is [taken in](Journal::take_in) once: a message of a log by its position, everything else
//! by its number.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Bounds, Journal, Lost, Route, state::Entry};
use crate::{
    hub::{
        Client, Stay,
        packet::{AllFrames, KeptFor},
    },
    memory::Account,
    protocol::{names::RoomName, not_recovered::NotRecovered, position::Position},
    transport::frame::Frames,
};

/// What becomes of a session that was handed over.
#[derive(Debug, Serialize, Deserialize)]
pub struct HandedOver {
    /// A packet that is kept was handed to a connection.
    has_sent_kept: bool,
    /// How long ago the connection was lost, in milliseconds.
    away_ms: u64,
    /// The numbers of packets that have come, and may come once more.
    recent: Vec<u64>,
}

/// A packet that a client has missed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Parcel {
    number: u64,
    audience: KeptFor,
    position: Option<Position>,
    age_ms: u64,
    text: String,
    /// In Base64.
    attachments: Vec<String>,
}

impl Parcel {
    fn of(frames: &AllFrames, namespace: &str) -> Option<Self> {
        let kept = frames.kept()?;
        let (text, attachments) = frames.sent_to(namespace)?.take_apart()?;
        Some(Self {
            number: frames.offset(),
            audience: kept.audience.clone(),
            position: kept.position,
            age_ms: millis(kept.since.elapsed()),
            text,
            attachments: attachments.iter().map(|bytes| BASE64_STANDARD.encode(bytes)).collect(),
        })
    }

    fn open(self, namespace: &Arc<str>) -> Option<AllFrames> {
        let attachments = self.attachments.iter().map(|text| BASE64_STANDARD.decode(text));
        let attachments =
            attachments.map(|bytes| Some(Bytes::from(bytes.ok()?))).collect::<Option<Vec<_>>>()?;
        let frames = Frames::of(&self.text, &attachments);
        let age = Duration::from_millis(self.age_ms);
        let namespace = namespace.clone();
        Some(AllFrames::moved(
            self.number,
            (self.audience, self.position),
            age,
            (namespace, frames),
        ))
    }

    /// Its place in the log of its room, if it has one.
    pub fn place(&self) -> Option<(&RoomName, Position)> {
        match &self.audience {
            KeptFor::Room(room) => Some((room, self.position?)),
            _ => None,
        }
    }

    /// Its size on the way, about.
    pub fn size(&self) -> usize {
        self.text.len() + self.attachments.iter().map(String::len).sum::<usize>() + 200
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Journal {
    /// The journal of a session that comes from another node, charged to this account. It takes nothing yet.
    pub fn arriving(pid: Arc<str>, bounds: Bounds, account: &Arc<Account>) -> Self {
        Self { has_moved: true, ..Self::new(pid, bounds, account) }
    }

    /// Whether the session has come from another node.
    pub fn has_moved(&self) -> bool {
        self.has_moved
    }

    /// From now on takes what is sent to this client of another node.
    pub fn collect(&self, client: &Arc<Client>) {
        self.state.lock().route = Route::Leaving(client.clone());
    }

    /// Hands the session, which is claimed, over to another node, with what its client has missed that has everything
    /// up to this offset. `None` if that cannot be done whole.
    pub fn hand_over(&self, offset: Option<u64>) -> Option<(HandedOver, Vec<Parcel>)> {
        let mut state = self.state.lock();
        let Route::Claimed(lost) = &state.route else { return None };
        let first = state.missed_after(offset, &self.bounds).ok()?;
        let first = usize::try_from(first - state.removed).ok()?;
        let namespace = &lost.client.namespace.path;
        let missed = state.entries.iter().skip(first).filter_map(Entry::frames);
        let parcels =
            missed.map(|frames| Parcel::of(frames, namespace)).collect::<Option<Vec<_>>>()?;
        let handed_over = HandedOver {
            has_sent_kept: state.has_sent_kept,
            away_ms: millis(lost.since.elapsed()),
            recent: state.recent.iter().copied().collect(),
        };
        state.spoil(NotRecovered::Ended);
        state.route = Route::Nowhere;
        self.changed.notify_waiters();
        Some((handed_over, parcels))
    }

    /// Takes in what another node has handed over for the client that has everything up to this offset, before what
    /// came here. `has_seen` says which messages of rooms the other node has taken care of. Now the session can be
    /// claimed. Returns false if it has ended meanwhile.
    pub fn take_in(
        &self,
        handed_over: HandedOver,
        parcels: Vec<Parcel>,
        offset: Option<u64>,
        has_seen: impl Fn(&RoomName, Position) -> bool,
        stay: Option<Stay>,
    ) -> bool {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Route::Leaving(client) = &state.route else { return false };
        if state.is_spoiled() {
            return false;
        }
        let client = client.clone();
        let mut known = handed_over.recent.iter().copied().collect::<HashSet<_>>();
        known.extend(parcels.iter().map(|parcel| parcel.number));
        let namespace = &client.namespace.path;
        let frames = parcels.into_iter().map(|parcel| parcel.open(namespace).map(Arc::new));
        let Some(mut entries) =
            frames.map(|frames| frames.map(Entry::Kept)).collect::<Option<VecDeque<_>>>()
        else {
            return false;
        };
        let is_new = |entry: &Entry| {
            let Some((kept, number)) =
                entry.frames().and_then(|frames| Some((frames.kept()?, frames.offset())))
            else {
                return false;
            };
            match (&kept.audience, kept.position) {
                (KeptFor::Room(room), Some(position)) => !has_seen(room, position),
                _ => !known.contains(&number),
            }
        };
        entries.extend(std::mem::take(&mut state.entries).into_iter().filter(is_new));
        state.replace(entries, client.sender.account());
        (state.removed, state.newest_removed) = (u64::from(offset.is_some()), offset);
        state.has_sent_kept = handed_over.has_sent_kept;
        let here = std::mem::take(&mut state.recent);
        for number in handed_over.recent.into_iter().chain(here) {
            state.note_number(number);
        }
        let now = Instant::now();
        let since = now.checked_sub(Duration::from_millis(handed_over.away_ms)).unwrap_or(now);
        state.route = Route::Away(Lost { client, since, _stay: stay });
        self.changed.notify_waiters();
        true
    }
}
