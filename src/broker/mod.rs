//! The broker: everything that goes to more than one client goes through here.
//!
//! A *room message* is appended to the log, which numbers it; what the log has committed comes back in the
//! log's order, and only that is fanned out. So what is delivered is stored, the order in the log is the
//! order on the wire, and a finished append means that the message is kept. Without history the log is
//! skipped and the path stays the same. A *signal* (typing, presence, announcements) takes the same path
//! without the log: at most once.
//!
//! On one node the log is embedded, and its [`tail`] fans out. On several nodes the log is in Redis:
//! committed messages come back by the room's channel, on every node that has members in the room (see
//! [`crate::broker::cluster`]); signals go to this node's clients directly and to the other nodes.

pub mod cluster;
pub mod fanout;
mod once;
pub mod survey;
pub mod webhooks;

use std::{borrow::Cow, ops::Add, sync::Arc, time::Duration};

use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::{
    broker::{
        cluster::{Answers, Cluster, NodeMessage, SendingToken},
        fanout::Fanout,
        survey::Survey,
        webhooks::{Author, Webhooks},
    },
    hub::{
        Client, Namespace,
        packet::{KeptFor, Packet},
    },
    limits::SenderId,
    memory::Level,
    protocol::{
        audience::Except,
        client_id::ClientId,
        names::{RoomName, UserId},
        payload::Payload,
        position::Position,
        refusal::{Code, Refusal},
        timestamp::Timestamp,
    },
    store::{Append, Committed, Entry, Pending, RoomKey, Store, Webhook},
    transport::{Counts, Readers, Wire},
};

/// How long a client waits at most, after each of its messages, for most readers to catch up.
const TIMEOUT: Duration = Duration::from_millis(50);

/// How long a backend waits before it is refused.
const BACKEND_TIMEOUT: Duration = Duration::from_secs(1);

/// How often other nodes are asked for their readers while a sender waits.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// When a backend that was refused may try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A message to a room, to be numbered and kept.
#[derive(Debug)]
pub struct RoomMessage {
    /// The room's namespace.
    pub namespace: Arc<Namespace>,
    /// The room.
    pub room: RoomName,
    /// The name of the event that goes out.
    pub event: Cow<'static, str>,
    /// The object that goes out, without its offset.
    pub payload: Payload,
    /// The message's id: the client's, or the server's if the client gave none.
    pub id: String,
    /// When the server took it.
    pub timestamp: Timestamp,
    /// Who is left out of the live delivery.
    pub except: Except,
    /// The sender that is charged for the room if this message creates it; `None` for a backend.
    pub sender: Option<SenderId>,
    /// The client that sends it; `None` for a backend.
    pub from: Option<Author>,
}

/// Sends messages and signals to their audience, on all nodes.
#[derive(Debug, Clone)]
pub struct Broker {
    /// The fan-out to this node's clients alone.
    pub here: Fanout,
    log: Option<Store>,
    cluster: Option<Cluster>,
    wire: Wire,
    webhooks: Option<Webhooks>,
}

impl Broker {
    /// A broker with the log if there is history, and the cluster if there may be other nodes. The tail of an
    /// embedded log is [`tail`].
    pub fn new(here: Fanout, log: Option<Store>, cluster: Option<Cluster>, wire: Wire) -> Self {
        Self { here, log, cluster, wire, webhooks: None }
    }

    /// The same, telling the application's backend what happens.
    #[must_use]
    pub fn telling(self, webhooks: Option<Webhooks>) -> Self {
        Self { webhooks, ..self }
    }

    /// Tells the application's backend what happens, if it wants to know.
    pub fn webhooks(&self) -> Option<&Webhooks> {
        self.webhooks.as_ref()
    }

    /// The log, if there is history.
    pub fn log(&self) -> Option<&Store> {
        self.log.as_ref()
    }

    /// Sends a message to a room. With history, this call itself hands it to the log, so that the order of
    /// calls is the order of the log. When the future completes, the message is stored and on its way to
    /// every member; the output is its offset. While most readers are behind, the future takes a little
    /// longer, which slows fast publishers down.
    ///
    /// # Errors
    /// `unavailable` if the log cannot take the message, `too_many_rooms` if its room would be one too many;
    /// then nobody receives it. If Redis was lost just then, the outcome is unknown.
    pub fn publish(
        &self,
        message: RoomMessage,
    ) -> impl Future<Output = Result<Option<u64>, Refusal>> + Send + use<> {
        let broker = self.clone();
        let (namespace, name) = (message.namespace.clone(), message.room.clone());
        let begun = broker.begin(message);
        async move {
            let offset = broker.finish(begun).await?;
            broker.wait_drained(&namespace, Some(&name)).await;
            Ok(offset)
        }
    }

    fn begin(&self, message: RoomMessage) -> Begun {
        let Some(log) = &self.log else {
            let room = message.namespace.key(&message.room);
            let webhook = self.webhook_of(&room, &message);
            let RoomMessage { namespace, room: name, event, payload, except, .. } = message;
            let told = webhook
                .zip(self.webhooks.as_ref())
                .and_then(|(webhook, webhooks)| webhooks.tell_unlogged(&room, webhook, &payload));
            let mut packet = Packet::new(event, payload);
            if self.here.recovers() {
                packet = packet.kept_for(KeptFor::Room(name.clone()));
            }
            if self.cluster.is_some() {
                return Begun::Unlogged(room, packet, except);
            }
            self.here.to_room(&namespace, &name, &packet, &except);
            return told.map_or(Begun::Done, Begun::Told);
        };
        let append = self.to_append(message);
        let room = append.room.clone();
        Begun::Logged(log.append(append), room)
    }

    fn webhook_of(&self, room: &RoomKey, message: &RoomMessage) -> Option<Webhook> {
        self.webhooks.as_ref().and_then(|webhooks| webhooks.of_message(room, message))
    }

    /// A message as the log takes it. Made here at the cost of the sender alone: others wait for the log's writer and
    /// for the room.
    fn to_append(&self, message: RoomMessage) -> Append {
        let room = message.namespace.key(&message.room);
        let webhook = self.webhook_of(&room, &message);
        let RoomMessage { event, payload, id, timestamp, except, sender, .. } = message;
        let payload = payload.to_be_numbered();
        let entry = Entry {
            id,
            event: event.into_owned(),
            json: payload.unnumbered().clone(),
            attachments: payload.attachments().to_vec(),
            timestamp_ms: timestamp.as_millis(),
        };
        Append { room, entry, except, sender, webhook }
    }

    async fn finish(&self, begun: Begun) -> Result<Option<u64>, Refusal> {
        match (begun, &self.cluster) {
            (Begun::Logged(appended, room), cluster) => {
                let position = appended.await?;
                if let Some(cluster) = cluster {
                    cluster.delivered(&room, position).await;
                }
                Ok(Some(position.offset))
            }
            (Begun::Unlogged(room, packet, except), Some(cluster)) => {
                cluster.publish(&room, &packet, except).await?;
                Ok(None)
            }
            (Begun::Told(told), _) => {
                if let Err(error) = told.await {
                    tracing::debug!(%error, "the webhook of a message was not stored");
                }
                Ok(None)
            }
            (Begun::Unlogged(..) | Begun::Done, _) => Ok(None),
        }
    }

    /// Waits a little while most readers of what was last sent to this room, or to the whole namespace, are
    /// behind. That slows down clients that send faster than others read.
    pub async fn wait_drained(&self, namespace: &Namespace, room: Option<&RoomName>) {
        self.drained(namespace, room, TIMEOUT).await;
    }

    /// As [`wait_drained`](Self::wait_drained), after something was sent to these clients.
    pub async fn wait_clients_drained(&self, clients: &[Arc<Client>]) {
        let readers = Arc::<Readers>::default();
        {
            let mut delivery = readers.begin();
            for client in clients {
                client.sender.count(&mut delivery);
            }
        }
        self.within(TIMEOUT, readers.wait_drained()).await;
    }

    /// Lets a backend send to this room, or to the whole namespace, once at most half of the readers are
    /// behind.
    ///
    /// # Errors
    /// `unavailable` if that takes too long: a backend that sends faster than clients read would cost them
    /// their connections.
    pub async fn admit(
        &self,
        namespace: &Namespace,
        room: Option<&RoomName>,
    ) -> Result<(), Refusal> {
        if self.drained(namespace, room, BACKEND_TIMEOUT).await {
            return Ok(());
        }
        let message = "most of the clients there cannot keep up: nothing was sent; try again later";
        Err(Refusal::new(Code::Unavailable, message).after(RETRY_AFTER))
    }

    /// Waits until at most half of the readers there are behind, counted over all nodes; false if that takes
    /// longer than `max_wait`.
    async fn drained(
        &self,
        namespace: &Namespace,
        room: Option<&RoomName>,
        max_wait: Duration,
    ) -> bool {
        let Some(readers) = readers_of(namespace, room) else { return true };
        if self.is_drained(&readers) {
            return true;
        }
        let drained = async {
            while !self.are_drained_elsewhere(namespace, room, &readers).await {
                let is_drained = readers.wait_until(|readers| self.is_drained(readers));
                if timeout(ASK_AGAIN, is_drained).await.is_ok() {
                    break;
                }
            }
        };
        self.within(max_wait, drained).await
    }

    /// Waits for `drained`, but at most `max_wait`; false if it took longer. True when the server stops.
    async fn within(&self, max_wait: Duration, drained: impl Future<Output = ()>) -> bool {
        tokio::select! {
            () = drained => true,
            () = tokio::time::sleep(max_wait) => false,
            () = self.wire.hurried() => true,
        }
    }

    /// Whether at most half of the readers are behind; while memory is short, whether none is.
    fn is_drained(&self, readers: &Readers) -> bool {
        match self.wire.memory().level() {
            Level::Calm => !readers.is_backpressured(),
            Level::Near | Level::Over => readers.counts().behind == 0,
        }
    }

    /// Whether at most half of the readers are behind, with those on other nodes counted in.
    async fn are_drained_elsewhere(
        &self,
        namespace: &Namespace,
        room: Option<&RoomName>,
        readers: &Readers,
    ) -> bool {
        let Some(cluster) =
            self.cluster.as_ref().filter(|_| self.wire.memory().level() == Level::Calm)
        else {
            return false;
        };
        let question = Survey::Readers { namespace: namespace.path.clone(), room: room.cloned() };
        let elsewhere = readers.elsewhere(async {
            let answers = cluster.ask::<Counts>(&question, None).await.answers;
            answers.into_iter().fold(Counts::default(), Counts::add)
        });
        !(elsewhere.await + readers.counts()).are_backpressured()
    }

    /// Asks all other nodes; without any, there are no answers.
    pub async fn survey<T: DeserializeOwned>(
        &self,
        survey: &Survey,
        packet: Option<&Packet>,
    ) -> Answers<T> {
        match &self.cluster {
            Some(cluster) => cluster.ask(survey, packet).await,
            None => Answers::none(),
        }
    }

    /// As [`survey`](Self::survey), with this time for the answers.
    pub async fn survey_within<T: DeserializeOwned>(
        &self,
        survey: &Survey,
        packet: Option<&Packet>,
        within: Duration,
    ) -> Answers<T> {
        match &self.cluster {
            Some(cluster) => cluster.ask_within(survey, packet, within).await,
            None => Answers::none(),
        }
    }

    /// Sends a signal to the members of a room, on all nodes.
    pub fn signal_room(
        &self,
        namespace: &Namespace,
        room: &RoomName,
        packet: &Packet,
        except: &Except,
    ) {
        let _sending = self.sending(packet);
        self.here.to_room(namespace, room, packet, except);
        self.signal_room_elsewhere(namespace, room, packet, except);
    }

    /// Sends a signal to the members of a room on the other nodes: this node's members have it already.
    pub fn signal_room_elsewhere(
        &self,
        namespace: &Namespace,
        room: &RoomName,
        packet: &Packet,
        except: &Except,
    ) {
        if let Some(cluster) = &self.cluster {
            cluster.tell_room(&namespace.key(room), packet, except);
        }
    }

    /// Sends a signal once to every member of these rooms, on all nodes.
    pub fn signal_rooms(
        &self,
        namespace: &Namespace,
        rooms: &[RoomName],
        packet: &Packet,
        except: &Except,
    ) {
        if let [room] = rooms {
            return self.signal_room(namespace, room, packet, except);
        }
        let _sending = self.sending(packet);
        self.here.to_rooms(namespace, rooms, packet, except);
        self.elsewhere(packet, || NodeMessage::Rooms {
            namespace: namespace.path.clone(),
            rooms: rooms.to_vec(),
            except: except.clone(),
        });
    }

    /// Sends a signal to every client of a namespace, on all nodes.
    pub fn signal_namespace(&self, namespace: &Namespace, packet: &Packet, except: &Except) {
        let _sending = self.sending(packet);
        self.here.to_namespace(namespace, packet, except);
        self.elsewhere(packet, || NodeMessage::Namespace {
            namespace: namespace.path.clone(),
            except: except.clone(),
            announcement: false,
        });
    }

    /// Tells every client of a namespace that one came or went, except on other nodes with too many clients.
    pub fn announce(&self, namespace: &Namespace, packet: &Packet) {
        self.here.to_namespace(namespace, packet, &Except::nobody());
        self.announce_elsewhere(namespace, packet);
    }

    /// The same for the other nodes only.
    pub fn announce_elsewhere(&self, namespace: &Namespace, packet: &Packet) {
        self.elsewhere(packet, || NodeMessage::Namespace {
            namespace: namespace.path.clone(),
            except: Except::nobody(),
            announcement: true,
        });
    }

    /// Sends a signal to the clients of these ids, in all namespaces and on all nodes.
    pub fn signal_ids(&self, ids: &[ClientId], packet: &Packet, except: &Except) {
        if ids.is_empty() {
            return;
        }
        let _sending = self.sending(packet);
        self.here.to_ids(ids, packet, except);
        self.elsewhere(packet, || NodeMessage::Clients {
            clients: ids.to_vec(),
            except: except.clone(),
        });
    }

    /// Keeps a packet that has reached a user for those of its clients on all nodes that have lost their connections.
    pub fn keep_for_user(&self, user: &UserId, packet: &Packet, except: &Except) {
        let _sending = self.sending(packet);
        self.here.keep_for_user(user, packet, except);
        self.elsewhere(packet, || NodeMessage::Keep { user: user.clone(), except: except.clone() });
    }

    /// Held while a packet that outlives connections is sent.
    fn sending(&self, packet: &Packet) -> Option<SendingToken> {
        let cluster = self.cluster.as_ref()?;
        (packet.is_kept() && self.here.recovers()).then(|| cluster.sending())
    }

    fn elsewhere(&self, packet: &Packet, message: impl FnOnce() -> NodeMessage) {
        if let Some(cluster) = &self.cluster {
            cluster.tell(&message(), Some(packet));
        }
    }
}

/// A message to a room that is on its way.
enum Begun {
    /// To the log.
    Logged(Pending<Position>, RoomKey),
    /// To be published to all nodes, without a log.
    Unlogged(RoomKey, Packet, Except),
    /// Delivered to this node's members already.
    Done,
    /// The same; its webhook is being stored.
    Told(Pending<()>),
}

/// This node's readers of a room or a namespace; `None` if there are none.
pub fn readers_of(namespace: &Namespace, room: Option<&RoomName>) -> Option<Arc<Readers>> {
    match room {
        Some(room) => Some(namespace.room(room.as_str())?.lock().readers().clone()),
        None => Some(namespace.readers().clone()),
    }
}

/// The tail of an embedded log: fans out what has been committed, in its order.
pub fn tail(here: Fanout) -> impl FnMut(&[Committed]) + Send + 'static {
    move |committed| committed.iter().for_each(|message| here.committed(message))
}
