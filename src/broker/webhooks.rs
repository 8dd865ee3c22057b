//! What happens, told to the application's backend: written to the store's outbox, from which the gateway for
//! webhooks delivers it.
//!
//! Invariants:
//! - the webhook of a message is stored in the transaction of the message;
//! - what a user or a room is told to be alternates: online and offline, occupied and vacated. The store keeps what
//!   was told last, so that it also holds over a crash;
//! - nothing waits for an announcement.

mod body;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::json;
use tokio::{sync::mpsc, time::Instant};

pub use self::body::body_of;
use self::body::{ClientData, MemberData, MessageData, QueuedData, complete, plain, webhook};
use super::RoomMessage;
use crate::{
    config::{Config, Patterns},
    hub::Client,
    limits::SenderId,
    protocol::{
        client_id::ClientId,
        names::{RoomName, UserId},
        payload::Payload,
        timestamp::Timestamp,
        webhook::WebhookType,
    },
    store::{
        Announcement, Entry, Fact, Pending, RoomKey, Stale, Store, StoreError, Stream, Webhook,
    },
};

/// How long a room must have been without members to count as vacated: a page reload is nothing to tell.
const VACATED_AFTER: Duration = Duration::from_secs(5);

/// How often the node that delivers looks for what nobody else tells.
const WATCH: Duration = Duration::from_secs(1);

/// The client that sends a message.
#[derive(Debug, Clone)]
pub struct Author {
    client: ClientId,
    user: Option<UserId>,
}

impl Author {
    /// This client, as the user that it is now.
    pub fn of(client: &Client) -> Self {
        Self { client: client.id.clone(), user: client.user() }
    }
}

/// Tells the backend what happens. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Webhooks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    types: Patterns,
    rooms: Patterns,
    node: String,
    vacant: Mutex<Vacant>,
    /// The users that were online when the server last ended, until they are back or their grace is over. Held
    /// while users come and go, so that it is told in the order in which it happens.
    returning: Mutex<HashSet<UserId>>,
    departures: mpsc::UnboundedSender<Departure>,
    /// The server stops: everything has been told.
    stopped: AtomicBool,
    /// Whether other nodes tell, too: then the store says what is news.
    is_shared: bool,
}

/// The rooms that were left by their last member a moment ago, each with the number of that departure.
#[derive(Debug, Default)]
struct Vacant {
    rooms: HashMap<RoomKey, u64>,
    departures: u64,
}

#[derive(Debug)]
struct Departure {
    number: u64,
    room: RoomKey,
    over: Instant,
}

impl Webhooks {
    /// Tells that this node has started, and that one that ended without a word is lost. What it leaves behind,
    /// users online and rooms occupied, ends in due time unless they are back. Must be called inside the runtime.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn start(config: &Config, store: Store, node: &str) -> Result<Self, StoreError> {
        let facts = store.webhook_facts().await?;
        let (departures, departed) = mpsc::unbounded_channel();
        let webhooks = Self(Arc::new(Inner {
            store: store.clone(),
            types: config.webhook_events.clone(),
            rooms: config.webhook_rooms.clone(),
            node: node.to_owned(),
            vacant: Mutex::default(),
            returning: Mutex::default(),
            departures,
            stopped: AtomicBool::new(false),
            is_shared: store.is_shared(),
        }));
        for fact in facts {
            match fact {
                Fact::Node(lost) => webhooks.node(WebhookType::NodeLost, &lost, false),
                Fact::User(user) => drop(webhooks.0.returning.lock().insert(user)),
                Fact::Room(room) => webhooks.begin_vacancy(&mut webhooks.0.vacant.lock(), room),
            }
        }
        if !webhooks.0.is_shared {
            webhooks.node(WebhookType::NodeStarted, node, true);
        }
        let (watching, grace) = (webhooks.clone(), config.presence_grace);
        tokio::spawn(async move {
            tokio::time::sleep(grace).await;
            watching.give_up_returning();
        });
        tokio::spawn(end_vacancies(webhooks.clone(), departed));
        Ok(webhooks)
    }

    /// Tells of the clients that are connected when the server stops, and nothing after that. Their users and
    /// rooms are told of by the next start, where they are not back by then.
    pub fn stop(&self, clients: Vec<Arc<Client>>, sender_of: impl Fn(&Client) -> SenderId) {
        for client in clients {
            let sender = sender_of(&client);
            for room in client.rooms() {
                self.member(WebhookType::RoomLeft, &client, &room, sender.clone());
            }
            self.disconnected(&client, "server shutting down", sender);
        }
        let fact = Some((Fact::Node(self.0.node.clone()), false));
        self.announce(None, fact, None, None);
        self.0.stopped.store(true, Relaxed);
    }

    /// Tells that a client has connected.
    pub fn connected(&self, client: &Client, sender: SenderId) {
        self.client(WebhookType::ClientConnected, client, None, sender);
    }

    /// Tells that a client has gone.
    pub fn disconnected(&self, client: &Client, reason: &str, sender: SenderId) {
        self.client(WebhookType::ClientDisconnected, client, Some(reason), sender);
    }

    /// Tells that a client has become a member of a room, the first one where `is_first`. Must be called under
    /// the room's lock.
    pub fn joined(&self, client: &Client, room: &RoomName, is_first: bool, sender: SenderId) {
        if is_first {
            let mut vacant = self.0.vacant.lock();
            let key = client.namespace.key(room);
            // Where it is back in time, nothing was told and nothing is; unless another node has told it.
            if vacant.rooms.remove(&key).is_none() || self.0.is_shared {
                self.room(WebhookType::RoomOccupied, key, true, Some(sender.clone()));
            }
        }
        self.member(WebhookType::RoomJoined, client, room, sender);
    }

    /// Tells that a client is no longer a member of a room, the last one where `is_last`. Must be called under
    /// the room's lock.
    pub fn left(&self, client: &Client, room: &RoomName, is_last: bool, sender: SenderId) {
        self.member(WebhookType::RoomLeft, client, room, sender.clone());
        if is_last {
            let room = client.namespace.key(room);
            self.0.store.room_left(&room, sender);
            self.begin_vacancy(&mut self.0.vacant.lock(), room);
        }
    }

    /// Lets a user come by `bind`, which returns whether that brings it online. `sender` is its client.
    pub fn user_comes(&self, user: &UserId, sender: SenderId, bind: impl FnOnce() -> bool) -> bool {
        if self.0.is_shared {
            return bind();
        }
        let mut returning = self.0.returning.lock();
        let came_online = bind();
        if came_online && !returning.remove(user) {
            self.user(WebhookType::UserOnline, user, true, Some(sender));
        }
        came_online
    }

    /// Lets a user go by `expire`, which returns the user if that takes it offline. `sender` is its last client.
    pub fn user_goes<T>(
        &self,
        user: &UserId,
        sender: SenderId,
        expire: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        if self.0.is_shared {
            return expire();
        }
        let _order = self.0.returning.lock();
        let gone = expire();
        if gone.is_some() {
            self.user(WebhookType::UserOffline, user, false, Some(sender));
        }
        gone
    }

    /// The webhook of a message to a room, up to the message itself, to be stored with it.
    pub fn of_message(&self, room: &RoomKey, message: &RoomMessage) -> Option<Webhook> {
        let wanted = WebhookType::MessageCreated;
        if !self.wants(wanted) || !self.0.rooms.matches(room.room.as_str()) {
            return None;
        }
        let author = message.from.as_ref();
        let data = MessageData {
            room: &room.room,
            namespace: &room.namespace,
            id: &message.id,
            event: &message.event,
            user_id: author.and_then(|author| author.user.as_ref()),
            client_id: author.map(|author| author.client.as_str()),
        };
        let mut webhook = webhook(wanted, Stream::of_room(room), message.timestamp, data);
        // Both objects stay open.
        webhook.json.truncate(webhook.json.len() - 2);
        Some(webhook)
    }

    /// Stores the webhook of a message that no log keeps.
    pub fn tell_unlogged(
        &self,
        room: &RoomKey,
        mut webhook: Webhook,
        payload: &Payload,
    ) -> Option<Pending<()>> {
        webhook.json = complete(&webhook.json, None, payload)?;
        Some(self.0.store.tell(room, webhook))
    }

    /// The webhook of a message that is queued for an offline user, to be stored with it.
    pub fn of_queued(&self, user: &UserId, entry: &Entry) -> Option<Webhook> {
        let wanted = WebhookType::MessageQueued;
        if !self.wants(wanted) {
            return None;
        }
        let payload = Payload::stored(entry.json.clone(), &entry.attachments);
        let data = plain(&payload)?;
        let data = QueuedData { user_id: user, id: &entry.id, event: &entry.event, data: &data };
        Some(webhook(
            wanted,
            Stream::of_user(user),
            Timestamp::from_millis(entry.timestamp_ms),
            data,
        ))
    }

    fn wants(&self, kind: WebhookType) -> bool {
        self.0.types.matches(kind.as_str())
    }

    fn client(&self, kind: WebhookType, client: &Client, reason: Option<&str>, sender: SenderId) {
        if !self.wants(kind) {
            return;
        }
        let user_id = client.user();
        let stream = match &user_id {
            Some(user) => Stream::of_user(user),
            None => Stream::of_client(client.id.as_str()),
        };
        let data = ClientData {
            client_id: client.id.as_str(),
            user_id,
            client_name: &client.name,
            namespace: &client.namespace.path,
            node: &self.0.node,
            reason,
        };
        let webhook = webhook(kind, stream, Timestamp::now(), data);
        self.announce(Some(webhook), None, Some(sender), None);
    }

    fn member(&self, kind: WebhookType, client: &Client, room: &RoomName, sender: SenderId) {
        if !self.wants(kind) || !self.0.rooms.matches(room.as_str()) {
            return;
        }
        let key = client.namespace.key(room);
        let data = MemberData {
            room,
            namespace: &client.namespace.path,
            client_id: client.id.as_str(),
            user_id: client.user(),
        };
        let webhook = webhook(kind, Stream::of_room(&key), Timestamp::now(), data);
        self.announce(Some(webhook), None, Some(sender), Some(key));
    }

    /// The writes of one sender stay in order: what a client brings about has the client's, so that each room and
    /// user is told of it in order.
    fn room(&self, kind: WebhookType, room: RoomKey, is_occupied: bool, sender: Option<SenderId>) {
        if !self.0.rooms.matches(room.room.as_str()) {
            return;
        }
        let data = json!({"room": room.room, "namespace": room.namespace});
        let webhook =
            self.wants(kind).then(|| webhook(kind, Stream::of_room(&room), Timestamp::now(), data));
        let fact = Some((Fact::Room(room.clone()), is_occupied));
        self.announce(webhook, fact, sender, Some(room));
    }

    /// Tells that a user has come online or gone offline, on all nodes together.
    pub fn user_is(&self, user: &UserId, is_online: bool) {
        let kind = if is_online { WebhookType::UserOnline } else { WebhookType::UserOffline };
        self.user(kind, user, is_online, None);
    }

    /// Tells what nobody else does, as long as this is not dropped: nodes that come and go, and what those that died have
    /// left behind. For the one node that delivers.
    pub async fn watch_nodes(&self) {
        let mut passes = [Stale::Users, Stale::Rooms, Stale::UntoldUsers, Stale::UntoldRooms]
            .map(|of| (of, String::from("0")));
        loop {
            match self.0.store.told_nodes().await {
                Ok((started, lost)) => {
                    for node in &started {
                        self.node(WebhookType::NodeStarted, node, true);
                    }
                    for node in &lost {
                        self.node(WebhookType::NodeLost, node, false);
                    }
                }
                Err(error) => tracing::debug!(%error, "the nodes are not known"),
            }
            for (of, cursor) in &mut passes {
                match self.0.store.stale_facts(*of, cursor).await {
                    Ok((next, facts)) => {
                        *cursor = next;
                        for fact in facts {
                            self.correct(*of, fact);
                        }
                    }
                    Err(error) => tracing::debug!(%error, "what was told is not known"),
                }
            }
            tokio::time::sleep(WATCH).await;
        }
    }

    /// Tells what holds instead of a fact that was found to be stale.
    fn correct(&self, of: Stale, fact: Fact) {
        match fact {
            Fact::User(user) => self.user_is(&user, of == Stale::UntoldUsers),
            Fact::Room(room) if of == Stale::UntoldRooms => {
                self.room(WebhookType::RoomOccupied, room, true, None);
            }
            Fact::Room(room) => {
                let mut vacant = self.0.vacant.lock();
                if !vacant.rooms.contains_key(&room) {
                    self.begin_vacancy(&mut vacant, room);
                }
            }
            Fact::Node(_) => {}
        }
    }

    fn user(&self, kind: WebhookType, user: &UserId, is_online: bool, sender: Option<SenderId>) {
        let stream = Stream::of_user(user);
        let data = json!({"userId": user});
        let webhook = self.wants(kind).then(|| webhook(kind, stream, Timestamp::now(), data));
        self.announce(webhook, Some((Fact::User(user.clone()), is_online)), sender, None);
    }

    fn node(&self, kind: WebhookType, node: &str, is_alive: bool) {
        let stream = Stream::of_node(node);
        let webhook = self
            .wants(kind)
            .then(|| webhook(kind, stream, Timestamp::now(), json!({"node": node})));
        self.announce(webhook, Some((Fact::Node(node.to_owned()), is_alive)), None, None);
    }

    fn announce(
        &self,
        webhook: Option<Webhook>,
        fact: Option<(Fact, bool)>,
        sender: Option<SenderId>,
        room: Option<RoomKey>,
    ) {
        if !self.0.stopped.load(Relaxed) {
            self.0.store.announce(Announcement { webhook, fact, sender, room });
        }
    }

    fn begin_vacancy(&self, vacant: &mut Vacant, room: RoomKey) {
        vacant.departures += 1;
        let number = vacant.departures;
        vacant.rooms.insert(room.clone(), number);
        let over = Instant::now() + VACATED_AFTER;
        // Its end is that of the runtime.
        let _ended = self.0.departures.send(Departure { number, room, over });
    }

    fn end_vacancy(&self, departure: Departure) {
        let mut vacant = self.0.vacant.lock();
        if vacant.rooms.get(&departure.room) == Some(&departure.number) {
            vacant.rooms.remove(&departure.room);
            self.room(WebhookType::RoomVacated, departure.room, false, None);
        }
    }

    fn give_up_returning(&self) {
        let mut returning = self.0.returning.lock();
        for user in returning.drain() {
            self.user(WebhookType::UserOffline, &user, false, None);
        }
    }
}

/// Ends the vacancies, in the order in which they began: all take the same time.
async fn end_vacancies(webhooks: Webhooks, mut departed: mpsc::UnboundedReceiver<Departure>) {
    while let Some(departure) = departed.recv().await {
        tokio::time::sleep_until(departure.over).await;
        webhooks.end_vacancy(departure);
    }
}
