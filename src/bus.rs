//! The hallway: everything that goes to more than one client goes through here.
//!
//! A *room message* is appended to the log, which numbers it; what the log has committed comes back
//! in the log's order and only that is fanned out. So what is delivered is stored, the order in the
//! log is the order on the wire, and an append that is done is a message that is kept. Without
//! history the log is skipped and the path stays. A *signal* (typing, presence, announcements)
//! takes the same way without the log: at most once.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use indexmap::IndexMap;

use crate::{
    audience::Except,
    clock::Timestamp,
    metrics::Metrics,
    names::{RoomName, UserId},
    outlet::Packet,
    payload::{Payload, with_offset},
    refusal::{Code, Refusal},
    registry::{Client, Namespace, Registry},
    store::{Append, Committed, Entry, Epoch, Store},
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
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    log: Option<Store>,
}

impl Bus {
    /// A bus over this registry, with the log where there is history. The log's tail is
    /// [`tail`].
    pub fn new(registry: Arc<Registry>, metrics: Arc<Metrics>, log: Option<Store>) -> Self {
        Self { registry, metrics, log }
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
    /// many; then nobody receives it.
    pub async fn publish(&self, message: RoomMessage) -> Result<Option<u64>, Refusal> {
        let Some(log) = &self.log else {
            let RoomMessage { namespace, room, event, payload, except, .. } = message;
            let packet = Packet::new(event, payload);
            fan_out(&namespace, &room, &packet, None, &except, &self.metrics);
            self.relieved(&namespace, Some(&room)).await;
            return Ok(None);
        };
        let (namespace, name) = (message.namespace, message.room);
        let room = namespace.key(&name);
        let entry = Entry {
            id: message.id,
            event: message.event.into_owned(),
            json: message.payload.json().into(),
            attachments: message.payload.attachments().to_vec(),
            timestamp_ms: message.timestamp.as_millis(),
        };
        let appended = log.append(Append { room, entry, except: message.except }).await?;
        self.relieved(&namespace, Some(&name)).await;
        Ok(Some(appended.offset))
    }

    /// Waits a little, where a client that reads had much to read yet when something was last sent
    /// to this room, or to the whole namespace: who sends faster than others read is held back.
    pub async fn relieved(&self, namespace: &Namespace, room: Option<&RoomName>) {
        if let Some(client) = pressed(namespace, room) {
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

    /// As [`relieved`](Self::relieved), after something was sent to a user.
    pub async fn user_relieved(&self, user: &UserId) {
        for client in self.registry.users.clients(user) {
            client.outlet.relieved(PATIENCE).await;
        }
    }

    /// Sends a signal to the members of a room; returns to how many clients of this node.
    pub fn signal_room(
        &self,
        namespace: &Namespace,
        room: &RoomName,
        packet: &Packet,
        except: &Except,
    ) -> usize {
        fan_out(namespace, room, packet, None, except, &self.metrics)
    }

    /// Sends a signal to the members of these rooms, once to each however many of them it is in;
    /// returns to how many clients of this node.
    pub fn signal_rooms(
        &self,
        namespace: &Namespace,
        rooms: &[RoomName],
        packet: &Packet,
        except: &Except,
    ) -> usize {
        if let [room] = rooms {
            return self.signal_room(namespace, room, packet, except);
        }
        let mut audience = IndexMap::new();
        for room in rooms.iter().filter_map(|room| namespace.room(room.as_str())) {
            room.touch();
            let members = room.lock();
            audience
                .extend(members.members().map(|member| (member.client.id, member.client.clone())));
        }
        self.signal_clients(&audience.into_values().collect::<Vec<_>>(), packet, except)
    }

    /// Sends a signal to every client of a namespace; returns to how many clients of this node.
    pub fn signal_namespace(
        &self,
        namespace: &Namespace,
        packet: &Packet,
        except: &Except,
    ) -> usize {
        let since = Instant::now();
        let sent = namespace.send(packet, |client| client.is_left_out(except));
        self.metrics.fanned_out(sent, since);
        sent
    }

    /// Sends a packet to all clients of a user; returns to how many.
    pub fn signal_user(&self, user: &UserId, packet: &Packet, except: &Except) -> usize {
        self.signal_clients(&self.registry.users.clients(user), packet, except)
    }

    /// Sends a packet to these clients; returns to how many.
    pub fn signal_clients(
        &self,
        clients: &[Arc<Client>],
        packet: &Packet,
        except: &Except,
    ) -> usize {
        let since = Instant::now();
        let sent = clients
            .iter()
            .filter(|client| !client.is_left_out(except))
            .filter(|client| client.outlet.send(packet).is_taken())
            .count();
        self.metrics.fanned_out(sent, since);
        sent
    }
}

/// A client that reads and had much to read yet when something was last sent there.
fn pressed(namespace: &Namespace, room: Option<&RoomName>) -> Option<Arc<Client>> {
    match room {
        Some(room) => namespace.room(room.as_str())?.lock().pressed(),
        None => namespace.pressed(),
    }
}

/// The tail of the log: fans out what has been committed, in its order.
pub fn tail(
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
) -> impl FnMut(&[Committed]) + Send + 'static {
    move |committed| {
        for message in committed {
            let Committed { room: key, offset, epoch, entry, except } = message;
            let namespace = registry.namespace(&key.namespace);
            let Some(namespace) = namespace.filter(|home| home.room(key.room.as_str()).is_some())
            else {
                continue;
            };
            let packet = stored_packet(entry, *offset);
            fan_out(namespace, &key.room, &packet, Some((*offset, *epoch)), except, &metrics);
        }
    }
}

/// A stored message as the event that it was, its offset inside.
pub fn stored_packet(entry: &Entry, offset: u64) -> Packet {
    let payload = Payload::restored(with_offset(&entry.json, offset), &entry.attachments);
    Packet::new(entry.event.clone(), payload)
}

fn fan_out(
    namespace: &Namespace,
    room: &RoomName,
    packet: &Packet,
    number: Option<(u64, Epoch)>,
    except: &Except,
    metrics: &Metrics,
) -> usize {
    let Some(room) = namespace.room(room.as_str()) else { return 0 };
    room.touch();
    let since = Instant::now();
    let sent = room.lock().deliver(packet, number, |client| client.is_left_out(except));
    metrics.fanned_out(sent, since);
    sent
}
