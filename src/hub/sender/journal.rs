//! What a client was sent, and what it may have missed: for connection state recovery.
//!
//! Every event ends with an offset, the packet's number, which is the same for all recipients. A journal holds, in
//! the order of the wire, the numbers of what its client was sent, and the frames of what is kept, until the
//! client's answer to a ping proves that it has them. When the connection is lost the journal goes on: it takes
//! whatever would have reached the client. A client that comes back names the newest offset that it has, and is sent
//! what follows. Without the setting there are no journals.
//!
//! The journal's lock is held while a packet is handed to the connection, so that its order is the wire's. It is
//! taken after those of rooms, namespaces and users, and before the switch's.

mod moves;
mod state;

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{sync::futures::Notified, time::Instant};

pub use self::moves::{HandedOver, Parcel};
use self::state::State;
use super::{ClientSender, Sent};
use crate::{
    config::Config,
    hub::{
        Client, Namespace, Stay,
        packet::{KeptFor, Packet},
    },
    memory::Account,
    protocol::{names::RoomName, not_recovered::NotRecovered},
    sync::{Mutex, Notify},
    transport::Delivery,
};

/// How much may be recovered.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// For how long after the connection was lost.
    pub time: Duration,
    /// How many messages a client may have missed; 0 for no limit.
    pub missed: u64,
    /// How many messages a room's history has; 0 without history.
    pub history: u64,
    /// How old a room's messages become.
    pub age: Option<Duration>,
    /// Whether sessions move from node to node.
    pub moves: bool,
}

impl Bounds {
    /// Those of the configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            time: config.connection_state_recovery,
            missed: config.recovery_limit,
            history: config.history_size,
            age: config.history_ttl,
            moves: config.redis_url.is_some(),
        }
    }
}

/// The journal of one session in a namespace, over all its connections.
pub struct Journal {
    /// The secret by which its client claims it.
    pid: Arc<str>,
    bounds: Bounds,
    state: Mutex<State>,
    /// Notified when the session can be claimed, or never can be.
    changed: Notify,
    /// It has come from another node.
    has_moved: bool,
}

/// Where packets go.
enum Route {
    /// Nowhere yet, or no more.
    Nowhere,
    /// To the client on its connection of this number.
    Connected(u64, Weak<Client>),
    /// The client's connection was lost, and its end is being processed.
    Leaving(Arc<Client>),
    /// The client may come back.
    Away(Lost),
    /// A connection of the client is being let in.
    Claimed(Lost),
    /// The client is back and is being sent what it missed, next the entry of this number in all.
    CatchingUp(u64, Weak<Client>, u64),
}

/// A session without a connection.
struct Lost {
    client: Arc<Client>,
    since: Instant,
    /// Keeps its namespace open.
    _stay: Option<Stay>,
}

/// What became of a claim.
#[derive(Debug)]
pub enum Claimed {
    /// The session is the claimant's; its last client.
    Yes(Arc<Client>),
    /// Its client is connected.
    Connected(Arc<Client>),
    /// It will be settled in a moment.
    Soon,
    /// It is away, and cannot be recovered by anybody.
    Unfit(NotRecovered),
    /// The claimant does not get it.
    No(NotRecovered),
}

/// Where a session must be to be ended.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    /// Without a connection.
    Away,
    /// On its connection of this number, or with the end of that being processed.
    Connection(u64),
}

/// Whether a session has ended.
#[derive(Debug)]
pub(in crate::hub) enum Ended {
    /// It goes on elsewhere.
    No,
    /// It has, with the client that was away.
    With(Option<Arc<Client>>),
}

/// How much of what was missed is still to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Nothing.
    Nothing,
    /// Something.
    Something,
    /// The connection is over.
    Over,
}

/// Shows neither the secret nor the clients, which show their journals.
impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").finish_non_exhaustive()
    }
}

impl Journal {
    /// The journal of a new session with this secret, charged to this account.
    pub(in crate::hub) fn new(pid: Arc<str>, bounds: Bounds, account: &Arc<Account>) -> Self {
        Self {
            pid,
            bounds,
            state: Mutex::new(State::new(account)),
            changed: Notify::new(),
            has_moved: false,
        }
    }

    /// The secret by which its client claims it.
    pub fn pid(&self) -> &Arc<str> {
        &self.pid
    }

    /// The number of one more connection of the client.
    pub(super) fn count_connection(&self) -> u64 {
        let mut state = self.state.lock();
        state.connections += 1;
        state.connections
    }

    /// The client goes on naming this offset, of a session before, until it gets something of this one.
    pub fn begin_after(&self, offset: Option<u64>) {
        self.state.lock().newest_removed = offset;
    }

    /// The client of a new session gets everything from now on.
    pub fn connect(&self, client: &Arc<Client>) {
        let number = client.sender.connection_number();
        self.state.lock().route = Route::Connected(number, Arc::downgrade(client));
    }

    /// Hands a packet to the client, and remembers it. What is kept is remembered also if the client cannot be
    /// reached, unless `only_reached`. The second value asks for a [proof](Self::prove) of what the client has up
    /// to there.
    pub(super) fn send(
        &self,
        sender: &ClientSender,
        packet: &Packet,
        delivery: Option<&Delivery<'_>>,
        only_reached: bool,
    ) -> (Sent, Option<u64>) {
        // Encoded before the lock is taken.
        let frames = packet.frames(sender.wire(), sender.namespace(), false);
        let (shared, mut state) = (packet.shared(), self.state.lock());
        let kept = shared.kept();
        // It may come by two ways. What has its place in a room's log is known by that.
        let number = kept
            .filter(|kept| kept.position.is_none() && self.bounds.moves)
            .map(|_| shared.offset());
        if number.is_some_and(|number| state.recent.contains(&number)) {
            return (Sent::Yes, None);
        }
        let own = sender.connection_number();
        let sent = match &state.route {
            Route::Connected(number, _) if *number == own => sender.pass(|| frames, delivery),
            Route::Connected(_, client) => match client.upgrade() {
                Some(client) => client.sender.pass(|| frames, None),
                None => Sent::Gone,
            },
            Route::Nowhere => return (Sent::Gone, None),
            Route::Leaving(_) | Route::Away(_) | Route::Claimed(_) | Route::CatchingUp(..) => {
                Sent::Gone
            }
        };
        if sent.is_taken() || (kept.is_some() && !only_reached) {
            state.has_sent_kept |= kept.is_some() && sent.is_taken();
            if let Some(number) = number {
                state.note_number(number);
            }
            state.append(shared, &self.bounds);
        }
        let asks = sent.is_taken() && state.wants_proof();
        state.is_asked |= asks;
        (sent, asks.then(|| state.end()))
    }

    /// The client, on its connection of this number, has everything up to the entry `end`.
    pub(super) fn prove(&self, number: u64, end: u64, has_it: bool) {
        let mut state = self.state.lock();
        if matches!(&state.route, Route::Connected(now, _) if *now == number) {
            state.is_asked = false;
            if has_it {
                state.remove_to(end);
                state.slack = (0, 0);
            }
        }
    }

    /// Forgets what the client must have: what it was sent before the last call, if it has answered a ping since.
    pub fn tidy(&self) {
        let mut state = self.state.lock();
        let Route::Connected(_, client) = &state.route else { return };
        if client.upgrade().is_none_or(|client| client.sender.is_over()) {
            return;
        }
        let (mark, end) = (state.mark, state.end());
        state.remove_to(mark);
        state.mark = end;
        let room = 2 * state.entries.len();
        state.entries.shrink_to(room);
    }

    /// Something that the client should have got is missing: it cannot recover.
    pub fn spoil(&self) {
        let mut state = self.state.lock();
        state.spoil(NotRecovered::Ended);
        self.changed.notify_waiters();
    }

    /// The client has lost its connection; returns whether it may recover. Until [`settle`](Self::settle) is called
    /// its end is being processed.
    pub fn lose(&self, client: &Arc<Client>) -> bool {
        let mut state = self.state.lock();
        let own = client.sender.connection_number();
        let is_own = match &state.route {
            Route::Connected(number, _) | Route::CatchingUp(number, ..) => *number == own,
            _ => false,
        };
        if is_own && !state.is_spoiled() {
            state.route = Route::Leaving(client.clone());
        }
        is_own && !state.is_spoiled()
    }

    /// Whether the end of this client's connection is being processed, after which it may recover.
    pub(super) fn is_leaving(&self, number: u64) -> bool {
        let state = self.state.lock();
        matches!(&state.route, Route::Leaving(client) if client.sender.connection_number() == number)
    }

    /// The end of the connection has been processed: from now on the session can be claimed. `stay` keeps its
    /// namespace open.
    pub fn settle(&self, stay: Option<Stay>) {
        let mut state = self.state.lock();
        if let Route::Leaving(client) = &state.route {
            let lost = Lost { client: client.clone(), since: Instant::now(), _stay: stay };
            state.entries.shrink_to_fit();
            state.route = Route::Away(lost);
        }
        self.changed.notify_waiters();
    }

    /// Completes when the session can be claimed, or never can be.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Claims the session for a client that comes back to this namespace with the newest offset that it has.
    /// `is_own` decides whether the session is the claimant's.
    pub fn claim(
        &self,
        namespace: &Arc<Namespace>,
        offset: Option<u64>,
        is_own: impl Fn(&Client) -> bool,
    ) -> Claimed {
        let mut state = self.state.lock();
        let is_own = |client: &Client| Arc::ptr_eq(&client.namespace, namespace) && is_own(client);
        match &state.route {
            Route::Leaving(client) if is_own(client) => Claimed::Soon,
            Route::Claimed(lost) if is_own(&lost.client) => Claimed::Soon,
            Route::Connected(_, client) | Route::CatchingUp(_, client, _) => {
                let Some(client) = client.upgrade() else {
                    return Claimed::No(NotRecovered::Ended);
                };
                if !is_own(&client) {
                    return Claimed::No(NotRecovered::Foreign);
                }
                // A client that cannot recover leaves its old connection to itself.
                match state.missed_after(offset, &self.bounds) {
                    Ok(_) => Claimed::Connected(client),
                    Err(why) => Claimed::No(why),
                }
            }
            Route::Away(lost) if is_own(&lost.client) => {
                if lost.since.elapsed() >= self.bounds.time {
                    return Claimed::Unfit(NotRecovered::Ended);
                }
                if let Err(why) = state.missed_after(offset, &self.bounds) {
                    return Claimed::Unfit(why);
                }
                let client = lost.client.clone();
                if let Route::Away(lost) = std::mem::replace(&mut state.route, Route::Nowhere) {
                    state.route = Route::Claimed(lost);
                }
                Claimed::Yes(client)
            }
            Route::Nowhere => Claimed::No(NotRecovered::Ended),
            Route::Leaving(_) | Route::Claimed(_) | Route::Away(_) => {
                Claimed::No(NotRecovered::Foreign)
            }
        }
    }

    /// Gives a claim back: the client may try again.
    pub fn unclaim(&self) {
        let mut state = self.state.lock();
        if let Route::Claimed(_) = &state.route
            && let Route::Claimed(lost) = std::mem::replace(&mut state.route, Route::Nowhere)
        {
            state.route = Route::Away(lost);
        }
        self.changed.notify_waiters();
    }

    /// The client is back, by a claim, and has everything up to this offset. What it missed is to be sent
    /// [piece by piece](Self::send_missed), except for what went to rooms that it `may` not be in any more. Returns
    /// false if it cannot recover after all.
    pub fn resume(
        &self,
        client: &Arc<Client>,
        offset: Option<u64>,
        may: impl Fn(&RoomName) -> bool,
    ) -> bool {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Route::Claimed(_) = &state.route else { return false };
        let Ok(first) = state.missed_after(offset, &self.bounds) else { return false };
        state.remove_to(first);
        let mut entries = std::mem::take(&mut state.entries);
        entries.retain(|entry| {
            entry.kept().is_some_and(|(_, audience)| match audience {
                KeptFor::Direct => true,
                KeptFor::Room(room) => may(room),
                KeptFor::Rooms(rooms) => rooms.iter().any(&may),
            })
        });
        state.replace(entries, client.sender.account());
        (state.is_asked, state.mark) = (false, 0);
        let number = client.sender.connection_number();
        state.route = Route::CatchingUp(number, Arc::downgrade(client), state.removed);
        // Another connection of the client's may wait to take over.
        self.changed.notify_waiters();
        true
    }

    /// Sends the next piece of what the client missed. With the last one, it gets everything as it comes again.
    pub fn send_missed(&self, client: &Client) -> Rest {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Route::CatchingUp(number, back, next) = &mut state.route else { return Rest::Over };
        if *number != client.sender.connection_number() || state.spoiled.is_some() {
            return Rest::Over;
        }
        let mut room = client.sender.piece_bytes();
        while room > 0 {
            let at = usize::try_from(*next - state.removed).unwrap_or(usize::MAX);
            let Some(entry) = state.entries.get(at) else {
                state.route = Route::Connected(*number, back.clone());
                // The oldest go only when the client has them.
                state.slack = (state.entries.len(), state.bytes);
                return Rest::Nothing;
            };
            let frames =
                entry.frames().and_then(|frames| frames.sent_to(client.sender.namespace()));
            let Some(frames) = frames else { return Rest::Over };
            room = room.saturating_sub(frames.size());
            state.has_sent_kept = true;
            if !client.sender.pass(|| Cow::Owned(frames), None).is_taken() {
                return Rest::Over;
            }
            *next += 1;
        }
        Rest::Something
    }

    /// Ends the session for good, if it is where `place` says; returns the client that was away.
    pub(in crate::hub) fn end(&self, place: Place) -> Ended {
        let mut state = self.state.lock();
        let is_it = match (&state.route, place) {
            (
                Route::Connected(number, _) | Route::CatchingUp(number, ..),
                Place::Connection(own),
            ) => *number == own,
            (Route::Leaving(client), Place::Connection(own)) => {
                client.sender.connection_number() == own
            }
            (Route::Leaving(_) | Route::Away(_) | Route::Claimed(_), Place::Away)
            | (Route::Nowhere, _) => true,
            _ => false,
        };
        if !is_it {
            return Ended::No;
        }
        state.spoil(NotRecovered::Ended);
        let route = std::mem::replace(&mut state.route, Route::Nowhere);
        self.changed.notify_waiters();
        match route {
            Route::Leaving(client) => Ended::With(Some(client)),
            Route::Away(lost) | Route::Claimed(lost) => Ended::With(Some(lost.client)),
            Route::Nowhere | Route::Connected(..) | Route::CatchingUp(..) => Ended::With(None),
        }
    }

    /// The client that is away and may come back.
    pub fn away(&self) -> Option<Arc<Client>> {
        match &self.state.lock().route {
            Route::Leaving(client) => Some(client.clone()),
            Route::Away(lost) | Route::Claimed(lost) => Some(lost.client.clone()),
            Route::Nowhere | Route::Connected(..) | Route::CatchingUp(..) => None,
        }
    }

    /// Whether the time in which the client may come back is over.
    pub fn is_over(&self) -> bool {
        match &self.state.lock().route {
            Route::Away(lost) => lost.since.elapsed() >= self.bounds.time,
            _ => false,
        }
    }
}
