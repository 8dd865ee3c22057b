//! The cluster: what this node tells the others and knows of them, through Redis.
//!
//! ```text
//!  broker, features ──► outbox ──► PUBLISH ─┐                ┌─► SUBSCRIBE ─► a room's message ─► tail ─► members
//!  users (dirty) ──► scripts ────────────┤     Redis      ├─► a signal ─► this node's clients
//!  lease ──► script ─────────────────────┘                └─► a question ─► its answer
//! ```
//!
//! This node's registry is what it is on a single node: its own clients, rooms and users. Beside it:
//!
//! - *Room messages* come from the log's channels alone, for this node's own members too, so that their order
//!   is the log's on every node. A log cursor per room (`tail`) ensures that none is missed or doubled. A
//!   node listens on a room's channel while it has members in the room ([`Subscription`]).
//! - *Signals* go to this node's clients at once, and to the other nodes through the outbox: at most once.
//! - *Users* are written to Redis by each node for its own clients; scripts decide which users came and went.
//! - *Leases* show which nodes are alive; the node that finds a dead one removes its users.
//! - *Surveys* go to every node; a node that did not answer in time is named, never left out silently.
//!
//! Everything depends on one session with Redis. It is lost as a whole, and renewed automatically. With several
//! instances of Redis, that is the session with the first, and each of the others has one for its rooms (`instance`).

mod asking;
mod counters;
mod instance;
mod keys;
mod lease;
mod link;
mod listening;
mod message;
mod moves;
mod outbox;
mod session;
mod subscriptions;
mod tail;
mod users;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use tokio::{sync::oneshot, time::timeout};
use tokio_util::sync::CancellationToken;

pub use self::{
    asking::Answers,
    counters::Counters,
    message::{Message, News, NodeMessage, Place},
    moves::SendingToken,
    session::{Away, redis_error_text},
    subscriptions::Subscription,
    users::SharedUser,
};
use self::{
    asking::{Asking, DEADLINE},
    instance::Instance,
    keys::Keys,
    moves::Sending,
    session::Session,
    subscriptions::Subscriptions,
    users::Users,
};
use crate::{
    broker::fanout::Fanout,
    hub::{Client, Registry, Status, packet::Packet},
    protocol::{
        audience::Except, client_id::ClientId, names::UserId, payload::json_of, position::Position,
        timestamp::Timestamp,
    },
    store::{Primary, RoomKey, Store},
    transport::Wire,
};

/// How long a node may take to leave the cluster.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// A node's settings in the cluster.
#[derive(Debug)]
pub struct Settings {
    /// The instances of Redis, the first of which has what spans rooms.
    pub primaries: Vec<Primary>,
    /// What keys and channels begin with.
    pub prefix: String,
    /// This node's name; no other node has it.
    pub node: String,
    /// How long a user without clients stays online.
    pub grace: Duration,
    /// How long an offline user's last activity is remembered.
    pub remember: Duration,
}

/// What happens in the cluster, for the [`Handler`].
#[derive(Debug)]
pub enum Event {
    /// A message from another node.
    Message(Box<Message>),
    /// A user has come online by this client of this node: to be announced on all nodes.
    Online {
        /// The user.
        user: UserId,
        /// The client and its namespace.
        subject: Option<(ClientId, Arc<str>)>,
    },
    /// A client of the user has come to this node, and the other nodes know of it now.
    Arrived {
        /// The user.
        user: UserId,
    },
    /// A user has gone offline: to be announced on all nodes, by this node alone.
    Offline {
        /// The user.
        user: UserId,
        /// When it was last active.
        last_active: Timestamp,
        /// The rooms in which it was seen last.
        rooms: Vec<Place>,
    },
}

/// Handles events; must not block.
pub type Handler = Arc<dyn Fn(Event) + Send + Sync>;

/// This node's part in the cluster; clones are handles to the same one.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

struct Inner {
    /// The instances of Redis, in the order of their list.
    instances: Vec<Arc<Instance>>,
    /// The names of what spans rooms.
    keys: Keys,
    node: Arc<str>,
    grace: Duration,
    remember: Duration,
    /// The live nodes, as of the last renewal of the lease.
    nodes: Mutex<Vec<String>>,
    store: Option<Store>,
    users: Arc<Users>,
    asking: Asking,
    sending: Sending,
    wire: Wire,
    /// Counts room messages without a log.
    unlogged: AtomicU64,
    counters: Arc<Counters>,
    closed: CancellationToken,
}

impl Inner {
    /// The instance that has what spans rooms.
    fn first(&self) -> &Arc<Instance> {
        &self.instances[0]
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("node", &self.0.node).finish_non_exhaustive()
    }
}

impl Cluster {
    /// This node's part: nothing happens before [`run`](Self::run). `log` is the log of room messages, if
    /// there is one; `store` reads what its scripts publish.
    ///
    /// Must be called inside the runtime.
    pub fn new(
        settings: Settings,
        store: Option<Store>,
        log: Option<&Store>,
        registry: &Arc<Registry>,
        fanout: &Fanout,
    ) -> Self {
        let Settings { primaries, prefix, node, grace, remember } = settings;
        let node = Arc::<str>::from(node);
        let counters = Arc::<Counters>::default();
        let wire = fanout.wire().clone();
        let instance = |(place, primary): (usize, Primary)| {
            let (log, fanout) = (log.cloned(), fanout.clone());
            let subscriptions = Subscriptions::new(log, registry.clone(), fanout, counters.clone());
            let keys = Keys::new(&primary.prefix(&prefix));
            Arc::new(Instance::new(place, primary, keys, subscriptions, &counters))
        };
        let instances = primaries.into_iter().enumerate().map(instance).collect::<Vec<_>>();
        let keys = instances[0].keys.clone();
        let users =
            Users::new(registry.clone(), node.clone(), keys.clone(), (grace, remember)).into();
        Self(Arc::new(Inner {
            instances,
            keys,
            node,
            grace,
            remember,
            nodes: Mutex::default(),
            store,
            users,
            asking: Asking::default(),
            sending: Sending::default(),
            wire,
            unlogged: AtomicU64::new(0),
            counters,
            closed: CancellationToken::new(),
        }))
    }

    /// Takes part until [`close`](Self::close), reconnecting by itself; `handler` gets the events.
    pub fn run(&self, handler: Handler) -> impl Future<Output = ()> + Send + use<> {
        link::run(self.0.clone(), handler)
    }

    /// Leaves the cluster: publishes what is queued, and removes this node's users.
    pub async fn close(&self) {
        let inner = &self.0;
        let leave = async {
            inner.first().outbox.flush().await;
            let session = self.session()?;
            lease::reap(inner, &session, &inner.node, true).await
        };
        let (left, _sent) =
            tokio::join!(timeout(LEAVE_TIMEOUT, leave), timeout(LEAVE_TIMEOUT, self.flush()));
        if !matches!(left, Ok(Ok(_))) {
            tracing::warn!(
                "the node could not leave the cluster properly: other nodes will report it as dead"
            );
        }
        inner.closed.cancel();
    }

    /// Waits until what was pushed before has been published, or is lost.
    async fn flush(&self) {
        join_all(self.0.instances.iter().map(|instance| instance.outbox.flush())).await;
    }

    /// Checks whether Redis can be used; of several instances, the first.
    ///
    /// # Errors
    /// The reason why it cannot.
    pub fn health(&self) -> Result<(), String> {
        self.0.first().health()
    }

    /// The instances besides the first that cannot be used: their places from 1, and why.
    pub fn failing_instances(&self) -> Vec<(usize, String)> {
        let others = self.0.instances[1..].iter();
        others.filter_map(|it| Some((it.place + 1, it.health().err()?))).collect()
    }

    /// The counters.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// How many nodes were alive a moment ago, including this one; 0 while Redis is away.
    pub fn node_count(&self) -> usize {
        if self.session().is_ok() { self.0.nodes.lock().len() } else { 0 }
    }

    fn session(&self) -> Result<Session, Away> {
        self.0.first().session()
    }

    /// The instance that has a room.
    fn of(&self, room: &RoomKey) -> &Instance {
        &self.0.instances[room.instance(self.0.instances.len())]
    }

    /// Subscribes to a room, and waits until messages to it reach this node.
    ///
    /// # Errors
    /// While Redis is away.
    pub async fn subscribe(&self, room: &RoomKey) -> Result<Subscription, Away> {
        let instance = self.of(room);
        let session = instance.session()?;
        let subscription = instance.subscriptions.subscribe(room);
        subscription.ready(session.lost.cancelled()).await?;
        Ok(subscription)
    }

    /// Waits until the message stored at this position has been delivered to this node's members of the room,
    /// if there are any.
    pub async fn delivered(&self, room: &RoomKey, position: Position) {
        let instance = self.of(room);
        if instance.session().is_err() {
            // The message will be read from the log later.
            return;
        }
        instance.subscriptions.delivered(room, position).await;
    }

    /// Sends a message to a room on a server without history: to the members on all nodes, including this
    /// one.
    ///
    /// # Errors
    /// While Redis is away: then nobody receives the message or, if the connection was lost just now, it is
    /// unknown whether anybody does.
    pub async fn publish(
        &self,
        room: &RoomKey,
        packet: &Packet,
        except: Except,
    ) -> Result<(), Away> {
        let instance = self.of(room);
        let session = instance.session()?;
        let number = self.0.unlogged.fetch_add(1, Relaxed) + 1;
        let place = (room.namespace.clone(), room.room.clone());
        let word = NodeMessage::Unlogged { place, except, number };
        let message = self.0.encode(&word, Some(packet));
        let mut command = redis::cmd(instance.keys.publish());
        command.arg(instance.keys.to_room(room)).arg(&message[..]);
        session.query::<()>(&command).await?;
        instance.subscriptions.delivered_unlogged(room, number).await;
        Ok(())
    }

    /// Sends a node message to all other nodes, at most once.
    pub fn tell(&self, word: &NodeMessage, packet: Option<&Packet>) {
        self.0.first().outbox.push(self.0.keys.to_all(), self.0.encode(word, packet));
    }

    /// Sends a signal to the members of a room on the other nodes, at most once.
    pub fn tell_room(&self, room: &RoomKey, packet: &Packet, except: &Except) {
        let place = (room.namespace.clone(), room.room.clone());
        let word = NodeMessage::Room { place, except: except.clone() };
        let (instance, message) = (self.of(room), self.0.encode(&word, Some(packet)));
        instance.outbox.push(instance.keys.to_room(room), message);
    }

    /// Asks all other nodes that are alive.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        question: &impl Serialize,
        packet: Option<&Packet>,
    ) -> Answers<T> {
        self.ask_within(question, packet, DEADLINE).await
    }

    /// The same with another time for the answers.
    pub async fn ask_within<T: DeserializeOwned>(
        &self,
        question: &impl Serialize,
        packet: Option<&Packet>,
        within: Duration,
    ) -> Answers<T> {
        let Ok(nodes) = self.others().await else {
            let mut unreachable = self.0.nodes.lock().clone();
            unreachable.retain(|node| **node != *self.0.node);
            return Answers { unreachable, away: true, ..Answers::none() };
        };
        if nodes.is_empty() {
            return Answers::none();
        }
        let asked = self.0.asking.begin();
        self.tell(&NodeMessage::Ask { id: asked.id, question: json_of(question) }, packet);
        asked.wait(nodes, within).await
    }

    /// Asks these nodes.
    ///
    /// # Errors
    /// While Redis is away.
    pub async fn ask_nodes<T: DeserializeOwned>(
        &self,
        nodes: Vec<String>,
        question: &impl Serialize,
        packet: Option<&Packet>,
    ) -> Result<Answers<T>, Away> {
        self.ask_nodes_within(nodes, question, packet, DEADLINE).await
    }

    async fn ask_nodes_within<T: DeserializeOwned>(
        &self,
        nodes: Vec<String>,
        question: &impl Serialize,
        packet: Option<&Packet>,
        within: Duration,
    ) -> Result<Answers<T>, Away> {
        if nodes.is_empty() {
            return Ok(Answers::none());
        }
        if packet.is_some() {
            // A packet must not overtake what this node has sent to the same clients before.
            self.0.first().outbox.flush().await;
        }
        let session = self.session()?;
        let asked = self.0.asking.begin();
        let word = NodeMessage::Ask { id: asked.id, question: json_of(question) };
        let message = self.0.encode(&word, packet);
        let mut pipeline = redis::pipe();
        for node in &nodes {
            pipeline.cmd(self.0.keys.publish()).arg(self.0.keys.to_node(node)).arg(&message[..]);
        }
        let heard: Vec<u64> = session.pipeline(&pipeline).await?;
        // Nodes without a listener are not waited for.
        let (there, gone): (Vec<_>, Vec<_>) =
            nodes.into_iter().zip(heard).partition(|(_, listeners)| *listeners > 0);
        let mut answers =
            asked.wait(there.into_iter().map(|(node, _)| node).collect(), within).await;
        answers.unreachable.extend(gone.into_iter().map(|(node, _)| node));
        Ok(answers)
    }

    /// Answers a question of another node.
    pub fn answer(&self, to: &str, id: u64, answer: Box<RawValue>) {
        let message = self.0.encode(&NodeMessage::Answer { id, answer }, None);
        self.0.first().outbox.push(self.0.keys.to_node(to), message);
    }

    async fn others(&self) -> Result<Vec<String>, Away> {
        let mut nodes = lease::live(&self.0, &self.session()?).await?;
        nodes.retain(|node| **node != *self.0.node);
        Ok(nodes)
    }

    /// A client of the user has come to this node. The receiver completes when other nodes can know of it.
    pub fn user_came(&self, user: &UserId, client: &Client) -> oneshot::Receiver<()> {
        self.0.users.came(user, client)
    }

    /// A client of the user has gone from this node; `rooms` are those it was in.
    pub fn user_went(&self, user: &UserId, rooms: Vec<Place>) {
        self.0.users.went(user, rooms);
    }

    /// The user has set this status.
    pub fn user_says(&self, user: &UserId, status: Status) {
        self.0.users.says(user, status);
    }

    /// A client of the user is in other rooms than before.
    pub fn user_moved(&self, user: &UserId) {
        self.0.users.moved(user);
    }

    /// The user as all nodes see it.
    ///
    /// # Errors
    /// While Redis is away.
    pub async fn user(&self, user: &UserId) -> Result<SharedUser, Away> {
        self.0.users.look_up(&self.session()?, user).await
    }

    /// The other nodes that have clients of the user.
    ///
    /// # Errors
    /// While Redis is away.
    pub async fn nodes_of(&self, user: &UserId) -> Result<Vec<String>, Away> {
        let clients = self.user(user).await?.clients;
        Ok(clients.into_keys().filter(|node| **node != *self.0.node).collect())
    }

    /// How many users are online on all nodes.
    ///
    /// # Errors
    /// While Redis is away.
    pub async fn user_count(&self) -> Result<usize, Away> {
        self.0.users.count(&self.session()?).await
    }
}
