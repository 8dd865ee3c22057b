//! The server side of the official Admin UI: the protocol of `@socket.io/admin-ui` 0.5.
//!
//! Operators connect to a namespace of their own, [`ADMIN_NAMESPACE`](crate::config::ADMIN_NAMESPACE), which
//! is not part of the contract: nobody there is a client, and no token opens it (`login`). The hooks of
//! [`Admin`], which are called where something happens to clients, bring in what operators see; one task
//! (`watch`) keeps and sends it. What operators do (`command`) goes through the same commands as everything
//! else.
//!
//! If the Admin UI is off, there is no [`Admin`], and a hook only checks an `Option`; if nobody watches, a
//! hook only checks one flag. In production mode operators see only counts.

mod attempts;
mod command;
mod login;
mod namespace;
mod redact;
mod stats;
#[cfg(test)]
mod tests;
mod view;
mod watch;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering},
    },
};

use socketioxide::socket::Socket;
use tokio::sync::mpsc::{self, error::TrySendError};

pub use self::namespace::mount;
use self::{
    login::Login,
    stats::{Counts, Node},
    watch::{News, Place, Watcher},
};
use crate::{
    config::{Config, Environment},
    hub::{Client, Registry, observer::Observer, packet::Packet},
    protocol::{client_id::ClientId, names::RoomName, timestamp::Timestamp},
};

/// How many pieces of news may wait. If there are more, operators get the whole picture anew.
const MAX_NEWS: usize = 16_384;

/// How many of the clients' events are shown a second; a sample if there are more.
const MAX_EVENTS: u32 = 500;

/// The Admin UI, behind one `Arc`: cheap to clone.
#[derive(Clone)]
pub struct Admin(Arc<Hub>);

struct Hub {
    login: Login,
    shared: Arc<Shared>,
    news: mpsc::Sender<News>,
    arrivals: mpsc::UnboundedSender<Arc<Socket>>,
    shown: Throttle,
}

/// What the hooks and the watcher share.
#[derive(Debug, Default)]
struct Shared {
    /// Whether operators see clients and events, or only counts.
    detailed: bool,
    /// At least one operator watches.
    watched: AtomicBool,
    /// More news came than may wait.
    overflown: AtomicBool,
    counts: Counts,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("shared", &self.0.shared).finish_non_exhaustive()
    }
}

impl Admin {
    /// Starts it if the configuration turns it on. Must be called inside the runtime.
    pub fn start(config: &Config, registry: &Arc<Registry>) -> Option<Self> {
        let (username, password) = (config.admin_username.clone()?, config.admin_password.clone()?);
        let detailed = config.environment == Environment::Development;
        let shared = Arc::new(Shared { detailed, ..Shared::default() });
        let (news, told) = mpsc::channel(MAX_NEWS);
        let (arrivals, arrived) = mpsc::unbounded_channel();
        let node = Node::of_process(config.port);
        tokio::spawn(Watcher::new(shared.clone(), registry.clone(), node).run(arrived, told));
        let login = Login::new(username, password);
        Some(Self(Arc::new(Hub { login, shared, news, arrivals, shown: Throttle::default() })))
    }

    fn is_watched(&self) -> bool {
        self.0.shared.watched.load(Ordering::Acquire)
    }

    fn shows_one_more(&self) -> bool {
        self.0.shared.detailed && self.0.shown.take(Timestamp::now())
    }

    fn tell(&self, news: impl FnOnce(Timestamp) -> News) {
        if !self.0.shared.detailed {
            return;
        }
        let told = self.0.news.try_send(news(Timestamp::now()));
        if let Err(TrySendError::Full(lost)) = told
            && !lost.is_event()
        {
            self.0.shared.overflown.store(true, Ordering::Release);
        }
    }
}

impl Observer for Admin {
    fn connected(&self, client: &Arc<Client>) {
        if self.is_watched() {
            self.0.shared.counts.connected();
            self.tell(|now| News::Connected(client.clone(), now));
        }
    }

    fn disconnected(&self, client: &Arc<Client>, reason: &'static str) {
        if self.is_watched() {
            self.0.shared.counts.disconnected(reason);
            self.tell(|now| News::Gone(Place::of(client), reason, now));
        }
    }

    fn joined(&self, client: &Client, room: &RoomName) {
        if self.is_watched() {
            self.tell(|now| News::Joined(Place::of(client), room.clone(), now));
        }
    }

    fn left(&self, client: &Client, room: &RoomName) {
        if self.is_watched() {
            self.tell(|now| News::Left(Place::of(client), room.clone(), now));
        }
    }

    fn received(&self, client: &Client, name: &str, text: &str) {
        if !self.is_watched() {
            return;
        }
        self.0.shared.counts.received(text.len());
        if self.shows_one_more() {
            let large = text.len() > redact::MAX_SHOWN;
            let event = if large { name } else { text }.to_owned();
            let size = large.then_some(text.len());
            self.tell(|now| News::Received { at: Place::of(client), event, size, now });
        }
    }

    fn sent(&self, namespace: &Arc<str>, id: &ClientId, packet: &Packet) {
        if !self.is_watched() {
            return;
        }
        self.0.shared.counts.sent(packet.event().len() + packet.payload().size());
        if self.shows_one_more() {
            let at = Place { namespace: namespace.clone(), id: id.clone() };
            self.tell(|now| News::Sent { at, packet: packet.clone(), now });
        }
    }
}

/// Allows a number of events a second, and no more.
#[derive(Debug, Default)]
struct Throttle {
    second: AtomicI64,
    count: AtomicU32,
}

impl Throttle {
    fn take(&self, now: Timestamp) -> bool {
        let second = now.as_millis() / 1000;
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.count.store(0, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed) < MAX_EVENTS
    }
}
