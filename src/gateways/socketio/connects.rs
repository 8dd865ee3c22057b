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
use serde::{Deserialize, de::IgnoredAny};
use socketioxide::socket::Sid;

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
    transport::{Came, Goes, MAX_CONTROL, Packets},
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

/// Whether a CONNECT packet's data is an object or absent. What is too long has come without its end.
fn has_valid_data(packet: &[u8]) -> bool {
    let rest = &packet[2..];
    let data = match rest.iter().position(|byte| *byte == b',') {
        _ if rest.first() != Some(&b'/') => rest,
        Some(comma) => &rest[comma + 1..],
        None => &[],
    };
    let is_json =
        || packet.len() >= MAX_CONTROL || serde_json::from_slice::<IgnoredAny>(data).is_ok();
    data.is_empty() || (data[0] == b'{' && is_json())
}

/// Parses a `CONNECT_ERROR` packet: up to its data, its namespace, and the message.
fn parse_error(packet: &[u8]) -> Option<(&str, &str, String)> {
    #[derive(Deserialize)]
    struct Error {
        message: String,
    }
    let packet = str::from_utf8(packet).ok()?;
    let rest = packet.strip_prefix("44")?;
    // Only the comma ends the name of a namespace.
    let begin = if rest.starts_with('/') { rest.find(',')? + 1 } else { 0 };
    let namespace = rest[..begin].strip_suffix(',').unwrap_or("/");
    let Error { message } = serde_json::from_str(&rest[begin..]).ok()?;
    Some((&packet[..2 + begin], namespace, message))
}

/// Parses the text of a packet: whether it is a CONNECT (or a DISCONNECT), and its namespace.
fn parse(packet: &[u8]) -> Option<(bool, &str)> {
    let is_connect = packet.starts_with(b"40");
    if !is_connect && !packet.starts_with(b"41") {
        return None;
    }
    let rest = &packet[2..];
    if rest.first() != Some(&b'/') {
        return Some((is_connect, "/"));
    }
    // With Engine.IO 3 a query may follow.
    let end = rest.iter().position(|byte| matches!(byte, b',' | b'?')).unwrap_or(rest.len());
    Some((is_connect, str::from_utf8(&rest[..end]).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::TestServer;

    fn connects(change: impl FnOnce(&mut Config)) -> Arc<Connects> {
        let mut config = Config { max_namespaces_per_connection: 2, ..Config::default() };
        change(&mut config);
        let shared = Shared {
            config: Arc::new(config),
            registry: Arc::new(Registry::new(&["/", "/chat", "/third"].map(str::to_owned), 0)),
            other: Some("/admin"),
            metrics: Arc::new(Metrics::default()),
            event_log: EventLog::default(),
        };
        Connects::new(Arc::new(shared), None, false)
    }

    #[test]
    fn packets_are_told_apart_with_their_namespaces() {
        for (packet, wanted) in [
            ("40", Some((true, "/"))),
            ("40{\"token\":\"/a,\"}", Some((true, "/"))),
            ("40/chat", Some((true, "/chat"))),
            ("40/chat,{}", Some((true, "/chat"))),
            ("40/chat?token=a,b", Some((true, "/chat"))),
            ("41/chat,", Some((false, "/chat"))),
            ("41", Some((false, "/"))),
            ("42[]", None),
            ("4", None),
            ("", None),
        ] {
            assert_eq!(parse(packet.as_bytes()), wanted, "{packet}");
        }
    }

    #[test]
    fn a_connect_is_offered_once_and_taken_once() {
        let connects = connects(|_| {});
        let root: Arc<str> = "/".into();
        assert_eq!(connects.take(&root).unwrap_err().code, Code::Forbidden);
        assert_eq!(connects.came(b"40"), Came::Offer);
        assert_eq!(connects.came(b"40"), Came::Pass, "one that is not taken yet is answered, too");
        let taken = connects.take(&root).unwrap();
        assert_eq!(connects.take(&root).unwrap_err().code, Code::Forbidden);
        assert_eq!(connects.came(b"40"), Came::Pass, "it is being answered");
        drop(taken);
        assert_eq!(connects.came(b"40"), Came::Offer, "it was refused before");
        assert_eq!(connects.came(b"40/unknown,"), Came::Pass);
    }

    #[test]
    fn a_client_gets_an_id_of_its_namespace() {
        let session = Sid::new();
        let of = |v3: bool, packet: &str, namespace: &str| {
            let connects = connects(|_| {});
            let connects = Connects::new(connects.shared.clone(), None, v3);
            assert_eq!(connects.came(packet.as_bytes()), Came::Offer);
            let id = connects.take(&namespace.into()).unwrap().client_id(session);
            id.to_string()
        };
        assert_eq!(of(true, "40/chat,", "/chat"), format!("/chat#{session}"));
        assert_eq!(of(true, "40/chat?token=x,", "/chat"), format!("/chat#{session}"));
        assert_eq!(of(true, "40/chat", "/chat"), session.to_string(), "Socket.IO 1");
        for packet in ["40/chat,", "40/chat"] {
            let id = of(false, packet, "/chat");
            assert_eq!(id.len(), 20);
            assert_ne!(id, of(false, packet, "/chat"));
        }
        let connects = connects(|_| {});
        let root = Connects::new(connects.shared.clone(), None, true);
        assert_eq!(root.take(&"/".into()).unwrap().client_id(session).as_str(), session.as_str());
    }

    #[test]
    fn the_librarys_answer_does_not_go_to_a_client() {
        let connects = connects(|_| {});
        assert_eq!(connects.goes(b"40{\"sid\":\"x\"}"), Goes::Nowhere);
        assert_eq!(connects.goes(b"40/chat,{\"sid\":\"x\"}"), Goes::Nowhere);
        let Goes::Instead(text) = connects.goes(b"40/admin,{\"sid\":\"secret\"}") else { panic!() };
        assert!(text.starts_with("40/admin,{\"sid\":\"") && !text.contains("secret"), "{text}");
        let third = Connects::new(connects.shared.clone(), None, true);
        assert_eq!(third.goes(b"40/chat,"), Goes::AsIs);
    }

    #[test]
    fn who_leaves_may_come_back_before_its_end() {
        let connects = connects(|_| {});
        let root: Arc<str> = "/".into();
        assert_eq!(connects.came(b"40"), Came::Offer);
        let mut taken = connects.take(&root).unwrap();
        taken.entered = true;
        assert_eq!(connects.came(b"41"), Came::Pass);
        assert_eq!(connects.came(b"40"), Came::Offer);
        connects.left("/");
        connects.take(&root).unwrap();
    }

    /// The library tells a client that it is connected before it calls the handler, and ignores another CONNECT
    /// until the handler has returned. Only a slow handler makes a client meet that.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn who_comes_back_before_the_handler_has_returned_is_answered() {
        let server = TestServer::start().await;
        let slow = server.connecting().query("clientName", "dawdles+at+welcoming");
        let mut client = slow.knock().await.unwrap();
        for _ in 0..10 {
            client.send_frame("41").await;
            client.send_frame("40").await;
            client.next("connect").await;
        }
        client.disconnect().await;
    }

    #[test]
    fn a_connection_has_so_many_namespaces() {
        let connects = connects(|_| {});
        let mut taken = Vec::new();
        for (packet, namespace) in [("40", "/"), ("40/chat,", "/chat")] {
            assert_eq!(connects.came(packet.as_bytes()), Came::Offer);
            taken.push(connects.take(&namespace.into()).unwrap());
        }
        assert_eq!(connects.came(b"40/third,"), Came::Offer);
        let refusal = connects.take(&"/third".into()).unwrap_err();
        assert!(refusal.message.contains("MAX_NAMESPACES_PER_CONNECTION"), "{refusal}");
        taken.pop();
        assert_eq!(connects.came(b"40/third,"), Came::Offer);
        connects.take(&"/third".into()).unwrap();
    }

    #[test]
    fn what_is_over_the_limit_is_refused_and_then_ends_it() {
        let connects = connects(|config| {
            config.rate_limit_events = 1;
            config.rate_limit_burst = 2;
        });
        for packet in ["40/unknown,", "40/unknown,", "41/chat,"] {
            assert_eq!(connects.came(packet.as_bytes()), Came::Pass);
        }
        assert_eq!(connects.came(b"40"), Came::Offer);
        let refusal = connects.take(&"/".into()).unwrap_err();
        assert_eq!(refusal.code, Code::RateLimited);
        let ended = (0..30).find(|_| connects.came(b"40/unknown,") == Came::TooMany);
        assert!(ended.is_some());
    }
}
