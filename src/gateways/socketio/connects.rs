//! The packets that open and close namespaces on one connection: an Engine.IO session, over any transport.
//!
//! The library has no hook for most of them. It answers a CONNECT to an unknown namespace by itself, and
//! ignores one to a namespace that the connection is entering: also while the handler of a session that has
//! just ended has not returned, so that a client that leaves and comes back at once would never be answered.
//! It also passes over events for unknown namespaces, and can say no more than a message when it refuses a
//! client. So these packets are inspected before the library, or the client, gets them:
//!
//! - a CONNECT to a namespace that the client is in ends the connection, as with Node's server, and so does a
//!   packet for an unknown namespace;
//! - a refusal goes out with its code, and as mere text in Engine.IO 3;
//! - each but the first costs an event of the connection's one bucket, even a refused one; a connection that
//!   goes on regardless is cut off;
//! - a CONNECT to one of roomcast's namespaces is *offered* to the library until its handler has
//!   [taken](Connects::take) it, and what the client sends behind it waits. A handler that is called without
//!   an offer (for a CONNECT that was offered twice, and taken twice) refuses the client.

mod parse;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use socketioxide::socket::Sid;

use self::parse::{has_valid_data, parse, parse_error};
use super::connection::Connection;
use crate::{
    commands::refused::connect_error,
    config::Config,
    hub::{Registry, Stay},
    limits::{Reaction, Throttle, refused},
    protocol::{
        client_id::ClientId,
        refusal::{Code, Refusal},
    },
    telemetry::{
        event_log::{Entry, EventLog, Kind},
        metrics::{Limit, Metrics},
    },
    transport::{Came, Goes, Packets},
};

/// What all connections share.
#[derive(Debug)]
pub struct Shared {
    /// The limits.
    pub config: Arc<Config>,
    /// The namespaces whose handlers take offers.
    pub registry: Arc<Registry>,
    /// Another namespace: the Admin UI's.
    pub other: Option<&'static str>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The event log.
    pub event_log: EventLog,
}

/// The namespaces of one connection, and its bucket of events.
#[derive(Debug)]
pub(super) struct Connects {
    shared: Arc<Shared>,
    address: Option<IpAddr>,
    /// The client speaks Engine.IO 3.
    v3: bool,
    /// The bucket.
    pub throttle: Throttle,
    /// No packet has come yet: the first one belongs to opening the connection, and is free.
    first: AtomicBool,
    places: Mutex<HashMap<Arc<str>, Place>>,
    /// Keep the namespaces open that it has asked for.
    stays: Mutex<HashMap<Arc<str>, Stay>>,
    /// What is told to clients that the library is about to refuse.
    refusals: Mutex<Vec<(Arc<str>, String)>>,
    /// Woken when an offer is taken.
    reader: AtomicWaker,
}

/// A connection's place in a namespace.
#[derive(Debug)]
enum Place {
    /// A CONNECT has come.
    Offered(Offer),
    /// The client is entering, or is in.
    Inside(Weak<Connection>),
    /// Its DISCONNECT has come.
    Leaving,
}

/// A CONNECT that no handler has taken.
#[derive(Debug, Clone, Copy, Default)]
struct Offer {
    /// How long to wait, if it was over the rate limit.
    limited: Option<Duration>,
    /// It has the form of Socket.IO 1.
    is_v1: bool,
}

impl Place {
    /// Whether the client was told that it is in.
    fn is_established(&self) -> bool {
        let Self::Inside(connection) = self else { return false };
        connection.upgrade().is_some_and(|connection| connection.client().is_some())
    }

    /// Whether a CONNECT is answered, and not ignored as one too many.
    fn is_free(&self) -> bool {
        match self {
            Self::Offered(_) => false,
            Self::Leaving => true,
            // The server is disconnecting it, and the library does not know yet.
            Self::Inside(connection) => connection
                .upgrade()
                .and_then(|connection| connection.client().map(|client| client.sender.is_closed()))
                .unwrap_or(false),
        }
    }
}

/// A CONNECT that a handler has taken. Dropped before the client [enters](Self::enter), it frees the place.
#[derive(Debug)]
pub(super) struct Taken {
    connects: Arc<Connects>,
    namespace: Arc<str>,
    /// The client's library is Socket.IO 1.
    is_v1: bool,
    entered: bool,
}

impl Taken {
    /// The id of the client that enters: of the session with this id, in Socket.IO 1 and 2.
    pub(super) fn client_id(&self, session: Sid) -> ClientId {
        if !self.connects.v3 {
            return ClientId::make();
        }
        let namespace = if self.is_v1 { "/" } else { &*self.namespace };
        ClientId::of_session(session.as_str(), namespace)
    }

    /// The client enters.
    pub(super) fn enter(mut self, connection: &Arc<Connection>) {
        self.entered = true;
        let place = Place::Inside(Arc::downgrade(connection));
        self.connects.places.lock().insert(self.namespace.clone(), place);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if !self.entered {
            self.connects.left(&self.namespace);
        }
    }
}

impl Connects {
    /// A new connection from this address. With Engine.IO 3 (`v3`), the library lets it into `/` by itself.
    pub(super) fn new(shared: Arc<Shared>, address: Option<IpAddr>, v3: bool) -> Arc<Self> {
        let root = v3.then(|| ("/".into(), Place::Offered(Offer::default())));
        Arc::new(Self {
            throttle: Throttle::new(&shared.config),
            first: AtomicBool::new(true),
            address,
            v3,
            refusals: Mutex::default(),
            stays: Mutex::default(),
            places: Mutex::new(root.into_iter().collect()),
            reader: AtomicWaker::new(),
            shared,
        })
    }

    /// Takes what was offered to a namespace.
    ///
    /// # Errors
    /// If nothing was offered, or the offer was over a limit.
    pub(super) fn take(self: &Arc<Self>, namespace: &Arc<str>) -> Result<Taken, Refusal> {
        let (taken, is_v1) = {
            let mut places = self.places.lock();
            let Some(Place::Offered(offer)) = places.get(namespace) else {
                let message = "this connection has not asked for that namespace";
                return Err(Refusal::new(Code::Forbidden, message));
            };
            let Offer { limited, is_v1 } = *offer;
            let inside = |place: &&Place| !matches!(place, Place::Offered(_));
            let count = places.values().filter(inside).count() as u64;
            let max = self.shared.config.max_namespaces_per_connection;
            let taken = match limited {
                Some(wait) => Err(refused(wait, "too many events a second: slow down")),
                None if max > 0 && count >= max => {
                    let message = format!(
                        "this connection is in {count} namespaces, the most that MAX_NAMESPACES_PER_CONNECTION allows"
                    );
                    Err(Refusal::new(Code::Forbidden, message))
                }
                None => Ok(()),
            };
            if taken.is_ok() {
                places.insert(namespace.clone(), Place::Inside(Weak::new()));
            } else {
                places.remove(namespace);
                self.stays.lock().remove(namespace);
            }
            (taken, is_v1)
        };
        self.reader.wake();
        taken.map(|()| Taken {
            connects: self.clone(),
            namespace: namespace.clone(),
            is_v1,
            entered: false,
        })
    }

    /// Has the library's `CONNECT_ERROR` packet for this namespace say this.
    pub(super) fn refuse(&self, namespace: &Arc<str>, refusal: &Refusal) {
        let text = if self.v3 { json_text(&refusal.message) } else { connect_error(refusal) };
        let mut refusals = self.refusals.lock();
        refusals.retain(|(other, _)| other != namespace);
        refusals.push((namespace.clone(), text));
    }

    /// Ends the connection as Node's server does over a packet that is not allowed now.
    fn end(&self, why: &str) -> Came {
        tracing::debug!(address = ?self.address, why, "the connection is closed");
        self.note_ends("forced server close");
        Came::Ends
    }

    /// Notes why the server ends the connection of all its clients.
    fn note_ends(&self, why: &'static str) {
        for place in self.places.lock().values() {
            if let Place::Inside(connection) = place
                && let Some(connection) = connection.upgrade()
                && let Some(client) = connection.client()
            {
                client.note_end(why);
            }
        }
    }

    /// The session in a namespace has ended. A newer offer stays.
    pub(super) fn left(&self, namespace: &str) {
        let mut places = self.places.lock();
        if !matches!(places.get(namespace), Some(Place::Offered(_))) {
            places.remove(namespace);
            self.stays.lock().remove(namespace);
        }
    }

    /// Whether the connection is in one of the namespaces, or entering it.
    pub(super) fn is_inside(&self) -> bool {
        self.places.lock().values().any(|place| matches!(place, Place::Inside(_)))
    }

    /// The address from which alone requests of the session may come: that of Engine.IO 3 has a public id.
    pub(super) fn bound_to(&self) -> Option<IpAddr> {
        self.address.filter(|_| self.v3)
    }

    fn is_offering(&self) -> bool {
        self.places.lock().values().any(|place| matches!(place, Place::Offered(_)))
    }

    /// Takes one event from the bucket; if it is empty, returns the wait until it is not. `None`: the
    /// connection has gone on for too long.
    fn count(&self) -> Option<Result<(), Duration>> {
        if self.first.swap(false, Ordering::Relaxed) {
            return Some(Ok(()));
        }
        let Err(wait) = self.throttle.take() else { return Some(Ok(())) };
        let Shared { metrics, event_log, .. } = &*self.shared;
        metrics.limited(Limit::Events);
        if !matches!(self.throttle.refused(Instant::now()), Reaction::Disconnect | Reaction::CutOff)
        {
            return Some(Err(wait));
        }
        metrics.flooded();
        tracing::info!(address = ?self.address, "flooding with CONNECT or DISCONNECT packets: disconnecting");
        event_log.write(|| Entry {
            address: self.address,
            code: Some(Code::RateLimited),
            reason: Some("flooding".into()),
            ..Entry::new(Kind::Refusal)
        });
        None
    }

    /// Records a CONNECT to one of roomcast's namespaces, and decides what happens to it.
    fn offer(&self, namespace: &str, offer: Offer) -> Came {
        if self.shared.other == Some(namespace) {
            return Came::Pass;
        }
        let Some(stay) = self.shared.registry.enter(namespace) else { return Came::Pass };
        let namespace = &stay.namespace().path.clone();
        self.stays.lock().insert(namespace.clone(), stay);
        let mut places = self.places.lock();
        let place = places.get(namespace);
        if place.is_none_or(Place::is_free) {
            places.insert(namespace.clone(), Place::Offered(offer));
            return Came::Offer;
        }
        // Engine.IO 3 is in `/` from the beginning, and clients that ask for it were never disconnected.
        let is_in = !self.v3 && place.is_some_and(Place::is_established);
        drop(places);
        if is_in { self.end("it is in that namespace") } else { Came::Pass }
    }
}

impl Packets for Connects {
    fn came(&self, packet: &[u8]) -> Came {
        let Some(counted) = self.count() else {
            self.note_ends("flooding");
            return Came::TooMany;
        };
        let Some((is_connect, namespace)) = parse(packet) else { return Came::Pass };
        if is_connect {
            if !self.v3 && !has_valid_data(packet) {
                return self.end("the data of its CONNECT packet is no object");
            }
            // Later clients put a comma behind the namespace.
            let is_v1 = self.v3 && !packet.contains(&b',');
            return self.offer(namespace, Offer { limited: counted.err(), is_v1 });
        }
        if let Some(place @ Place::Inside(_)) = self.places.lock().get_mut(namespace) {
            *place = Place::Leaving;
        }
        if self.knows(namespace) { Came::Pass } else { self.end("it leaves an unknown namespace") }
    }

    fn knows(&self, namespace: &str) -> bool {
        // Servers that spoke Engine.IO 3 alone passed over such packets.
        self.v3
            || self.shared.other == Some(namespace)
            || self.shared.registry.namespace(namespace).is_some()
    }

    /// A refusal goes out with its code. The library's other answers name the session: clients get one with their
    /// own id [in its place](crate::hub::sender::ClientSender::greet), and operators have no use for theirs.
    fn goes(&self, answer: &[u8]) -> Goes {
        if let Some((true, namespace)) = parse(answer).filter(|_| !self.v3) {
            if self.shared.other != Some(namespace) {
                return Goes::Nowhere;
            }
            let id = ClientId::make();
            return Goes::Instead(format!("40{namespace},{{\"sid\":\"{id}\"}}"));
        }
        let Some((head, namespace, message)) = parse_error(answer) else { return Goes::AsIs };
        let mut refusals = self.refusals.lock();
        if let Some(at) = refusals.iter().position(|(refused, _)| &**refused == namespace) {
            return Goes::Instead(format!("{head}{}", refusals.swap_remove(at).1));
        }
        drop(refusals);
        if self.v3 {
            return Goes::Instead(format!("{head}{}", json_text(&message)));
        }
        if self.knows(namespace) {
            return Goes::AsIs;
        }
        let error = connect_error(&Refusal::new(Code::NotFound, message));
        Goes::Instead(format!("{head}{error}"))
    }

    fn poll_taken(&self, context: &mut Context<'_>) -> Poll<()> {
        self.reader.register(context.waker());
        if self.is_offering() { Poll::Pending } else { Poll::Ready(()) }
    }
}

fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
