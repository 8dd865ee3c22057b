//! The hallway: everything that goes to more than one client goes through here.
//!
//! A *room message* is appended to the log, which numbers it; what the log has committed comes back
//! in the log's order and only that is fanned out. So what is delivered is stored, the order in the
//! log is the order on the wire, and an append that is done is a message that is kept. Without
//! history the log is skipped and the path stays. A *signal* (typing, presence, announcements)
//! takes the same way without the log: at most once.
//!
//! On one node the log is embedded, and its tail fans out. On several it is Redis: what comes back, on
//! every node that has members in the room, comes by the room's channel (see [`crate::cluster`]), and
//! signals go out here and are told to the other nodes.

use std::{borrow::Cow, sync::Arc, time::Duration};

use socketioxide::socket::Sid;

use crate::{
    audience::Except,
    clock::Timestamp,
    cluster::{Cluster, Word},
    fanout::Fanout,
    names::RoomName,
    outlet::Packet,
    payload::Payload,
    refusal::{Code, Refusal},
    registry::{Client, Namespace},
    store::{Append, Committed, Entry, Store},
};

/// How long a client waits, after each message that it sends, for those who read it.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long a backend waits before it is refused.
const BACKENDS_PATIENCE: Duration = Duration::from_secs(1);

/// When a backend that was refused may try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A message to a room, to be numbered and kept.
#[derive(Debug)]
pub struct RoomMessage {
    /// The room's namespace.
    pub namespace: Arc<Namespace>,
    /// The room.
    pub room: RoomName,
    /// The event as which it goes out.
    pub event: Cow<'static, str>,
    /// The object that goes out, without its offset.
    pub payload: Payload,
    /// The message's id: the client's, or the server's where the client gave none.
    pub id: String,
    /// When the server took it.
    pub timestamp: Timestamp,
    /// Who is left out of the live delivery.
    pub except: Except,
}

/// Takes what is sent to where it belongs.
#[derive(Debug, Clone)]
pub struct Bus {
    /// The way to this node's clients alone.
    pub here: Fanout,
    log: Option<Store>,
    cluster: Option<Cluster>,
}

impl Bus {
    /// A bus with the log where there is history, and the other nodes where there may be some. The tail
    /// of an embedded log is [`tail`].
    pub fn new(here: Fanout, log: Option<Store>, cluster: Option<Cluster>) -> Self {
        Self { here, log, cluster }
    }

    /// The log, where there is history.
    pub fn log(&self) -> Option<&Store> {
        self.log.as_ref()
    }

    /// Sends a message to a room. When this returns, the message is stored (where there is history)
    /// and on its way to every member; the answer is its offset. Where members that read have much
    /// to read yet, this waits for them a little: who publishes faster than that is held back.
    ///
    /// # Errors
    /// `unavailable` when the log cannot take it, `too_many_rooms` when its room would be one too
    /// many; then nobody receives it. Or, where Redis was lost just then, nobody knows.
    pub async fn publish(&self, message: RoomMessage) -> Result<Option<u64>, Refusal> {
        let room = message.namespace.key(&message.room);
        let Some(log) = &self.log else {
            let RoomMessage { namespace, room: name, event, payload, except, .. } = message;
            let packet = Packet::new(event, payload);
            match &self.cluster {
                Some(cluster) => cluster.publish(&room, &packet, except).await?,
                None => {
                    self.here.to_room(&namespace, &name, &packet, &except);
                }
            }
            self.relieved(&namespace, Some(&name)).await;
            return Ok(None);
        };
        let entry = Entry {
            id: message.id,
            event: message.event.into_owned(),
            json: message.payload.json().into(),
            attachments: message.payload.attachments().to_vec(),
            timestamp_ms: message.timestamp.as_millis(),
        };
        let offset = match &self.cluster {
            None => log.append(Append { room, entry, except: message.except }).await?.offset,
            Some(cluster) => {
                let (except, id) = (message.except, entry.id.clone());
                cluster.sending(&room, &entry, &except);
                let appended = log.append(Append { room: room.clone(), entry, except }).await?;
                cluster.delivered(&room, appended.epoch, appended.offset, &id).await;
                appended.offset
            }
        };
        self.relieved(&message.namespace, Some(&message.room)).await;
        Ok(Some(offset))
    }

    /// Waits a little, where a client of this node that reads had much to read yet when something was
    /// last sent to this room, or to the whole namespace: who sends faster than others read is held
    /// back.
    pub async fn relieved(&self, namespace: &Namespace, room: Option<&RoomName>) {
        if let Some(client) = pressed(namespace, room) {
            client.outlet.relieved(PATIENCE).await;
        }
    }

    /// As [`relieved`](Self::relieved), after something was sent to these clients.
    pub async fn clients_relieved(&self, clients: &[Arc<Client>]) {
        for client in clients {
            client.outlet.relieved(PATIENCE).await;
        }
    }

    /// Lets a backend send to this room, or to the whole namespace, once those who read have little to
    /// read yet.
    ///
    /// # Errors
    /// `unavailable` where that takes too long: a backend that sends faster than is read must wait, or
    /// it would cost those who read their connection.
    pub async fn admit(
        &self,
        namespace: &Namespace,
        room: Option<&RoomName>,
    ) -> Result<(), Refusal> {
        let Some(client) = pressed(namespace, room) else { return Ok(()) };
        if client.outlet.relieved(BACKENDS_PATIENCE).await {
            return Ok(());
        }
        let message =
            "more is being sent there than its clients can read: nothing was sent, try again later";
        let refusal = Refusal::new(Code::Unavailable, message);
        Err(Refusal { retry_after: Some(RETRY_AFTER), ..refusal })
    }

    /// Sends a signal to the members of a room, on all nodes.
    pub fn signal_room(
        &self,
        namespace: &Namespace,
        room: &RoomName,
        packet: &Packet,
        except: &Except,
    ) {
        self.here.to_room(namespace, room, packet, except);
        self.signal_room_elsewhere(namespace, room, packet, except);
    }

    /// Sends a signal to the members of a room on the other nodes: those of this one have it already.
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

    /// Sends a signal to the members of these rooms, on all nodes, once to each however many of them it
    /// is in.
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
        self.here.to_rooms(namespace, rooms, packet, except);
        self.elsewhere(packet, || Word::Rooms {
            namespace: namespace.path.clone(),
            rooms: rooms.to_vec(),
            except: except.clone(),
        });
    }

    /// Sends a signal to every client of a namespace, on all nodes.
    pub fn signal_namespace(&self, namespace: &Namespace, packet: &Packet, except: &Except) {
        self.here.to_namespace(namespace, packet, except);
        self.elsewhere(packet, || Word::Namespace {
            namespace: namespace.path.clone(),
            except: except.clone(),
            announcement: false,
        });
    }

    /// Tells every client of a namespace that one came or went, but not on nodes where there are too
    /// many of them.
    pub fn announce(&self, namespace: &Namespace, packet: &Packet) {
        self.here.to_namespace(namespace, packet, &Except::nobody());
        self.announce_elsewhere(namespace, packet);
    }

    /// The same for the other nodes alone.
    pub fn announce_elsewhere(&self, namespace: &Namespace, packet: &Packet) {
        self.elsewhere(packet, || Word::Namespace {
            namespace: namespace.path.clone(),
            except: Except::nobody(),
            announcement: true,
        });
    }

    /// Sends a signal to the clients of these ids, in whichever namespace and on whichever node they are.
    pub fn signal_ids(&self, ids: &[Sid], packet: &Packet, except: &Except) {
        if ids.is_empty() {
            return;
        }
        self.here.to_ids(ids, packet, except);
        self.elsewhere(packet, || Word::Clients { clients: ids.to_vec(), except: except.clone() });
    }

    fn elsewhere(&self, packet: &Packet, word: impl FnOnce() -> Word) {
        if let Some(cluster) = &self.cluster {
            cluster.tell(&word(), Some(packet));
        }
    }
}

/// A client of this node that reads and had much to read yet when something was last sent there.
fn pressed(namespace: &Namespace, room: Option<&RoomName>) -> Option<Arc<Client>> {
    match room {
        Some(room) => namespace.room(room.as_str())?.lock().pressed(),
        None => namespace.pressed(),
    }
}

/// The tail of an embedded log: fans out what has been committed, in its order.
pub fn tail(here: Fanout) -> impl FnMut(&[Committed]) + Send + 'static {
    move |committed| committed.iter().for_each(|message| here.committed(message))
}
