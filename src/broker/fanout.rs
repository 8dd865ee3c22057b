//! The fan-out: from one message to many clients of this node.

use std::{sync::Arc, time::Instant};

use indexmap::IndexMap;

use crate::{
    hub::{Client, Namespace, Registry, packet::Packet},
    protocol::{
        audience::Except,
        client_id::ClientId,
        names::{RoomName, UserId},
        payload::Payload,
        position::Position,
    },
    store::{Committed, Entry, RoomKey},
    telemetry::metrics::Metrics,
    transport::Wire,
};

/// Hands packets to this node's clients.
#[derive(Debug, Clone)]
pub struct Fanout {
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    wire: Wire,
}

impl Fanout {
    /// A fan-out to the clients of this registry, on this wire.
    pub fn new(registry: Arc<Registry>, metrics: Arc<Metrics>, wire: Wire) -> Self {
        Self { registry, metrics, wire }
    }

    /// Whether connections may be recovered: what outlives them has to be kept.
    pub fn recovers(&self) -> bool {
        self.wire.numbers_packets()
    }

    /// The wire.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Sends a signal to the members of a room; returns the number of recipients.
    pub fn to_room(
        &self,
        namespace: &Namespace,
        room: &RoomName,
        packet: &Packet,
        except: &Except,
    ) -> usize {
        self.deliver(namespace, room, packet, None, except)
    }

    /// Sends a stored message to the members of its room.
    pub fn stored(&self, room: &RoomKey, position: Position, entry: &Entry, except: &Except) {
        let namespace = self.registry.namespace(&room.namespace);
        let Some(namespace) = namespace.filter(|home| home.room(room.room.as_str()).is_some())
        else {
            return;
        };
        let mut packet = stored_packet(entry, position.offset);
        if self.recovers() {
            packet = packet.kept_in(room.room.clone(), position);
        }
        self.deliver(&namespace, &room.room, &packet, Some(position), except);
    }

    /// Sends what the log has committed to its room's members.
    pub fn committed(&self, message: &Committed) {
        let Committed { room, position, entry, except } = message;
        self.stored(room, *position, entry, except);
    }

    fn deliver(
        &self,
        namespace: &Namespace,
        room: &RoomName,
        packet: &Packet,
        position: Option<Position>,
        except: &Except,
    ) -> usize {
        let Some(room) = namespace.room(room.as_str()) else { return 0 };
        room.touch();
        let since = Instant::now();
        packet.prepare(&self.wire, &namespace.path);
        let sent = room.lock().deliver(packet, position, |client| client.is_left_out(except));
        self.metrics.fanned_out(sent, since);
        sent
    }

    /// Sends a signal once to every member of these rooms; returns the number of recipients.
    pub fn to_rooms(
        &self,
        namespace: &Namespace,
        rooms: &[RoomName],
        packet: &Packet,
        except: &Except,
    ) -> usize {
        if let [room] = rooms {
            return self.to_room(namespace, room, packet, except);
        }
        let mut audience = IndexMap::new();
        for room in rooms.iter().filter_map(|room| namespace.room(room.as_str())) {
            room.touch();
            let members = room.lock();
            let lost = members.lost().filter(|_| packet.is_kept());
            audience.extend(
                members
                    .members()
                    .chain(lost)
                    .map(|member| (member.client.id.clone(), member.client.clone())),
            );
        }
        self.to_clients(&audience.into_values().collect::<Vec<_>>(), packet, except)
    }

    /// Sends a signal to every client of a namespace; returns the number of recipients.
    pub fn to_namespace(&self, namespace: &Namespace, packet: &Packet, except: &Except) -> usize {
        let since = Instant::now();
        packet.prepare(&self.wire, &namespace.path);
        let sent = namespace.send(packet, |client| client.is_left_out(except));
        self.metrics.fanned_out(sent, since);
        sent
    }

    /// Sends a packet to the clients of these ids in all namespaces; returns the number of recipients.
    pub fn to_ids(&self, ids: &[ClientId], packet: &Packet, except: &Except) -> usize {
        let registry = &self.registry;
        let find = |id| {
            if packet.is_kept() { registry.clients_and_lost(id) } else { registry.clients(id) }
        };
        let clients = ids.iter().flat_map(find).collect::<Vec<_>>();
        self.to_clients(&clients, packet, except)
    }

    /// Sends a packet to a user's clients; returns the number of recipients. If there are any, it is kept for the
    /// others, those that are `lost` among them.
    pub fn to_user(&self, clients: &[Arc<Client>], lost: &[Arc<Client>], packet: &Packet) -> usize {
        let since = Instant::now();
        let (reached, others): (Vec<_>, Vec<_>) =
            clients.iter().partition(|client| client.sender.offer(packet).is_taken());
        if !reached.is_empty() && packet.is_kept() {
            for client in others.into_iter().chain(lost) {
                client.sender.send(packet);
            }
        }
        self.metrics.fanned_out(reached.len(), since);
        reached.len()
    }

    /// Keeps a packet that has reached a user for those of its clients that lack it and may come back, or have just
    /// done so.
    pub fn keep_for_user(&self, user: &UserId, packet: &Packet, except: &Except) {
        let (clients, lost) = self.registry.users.clients_and_lost(user);
        let kept = clients.iter().filter(|client| client.sender.journal().is_some()).chain(&lost);
        for client in kept.filter(|client| !client.is_left_out(except)) {
            client.sender.send(packet);
        }
    }

    /// Sends a packet to these clients; returns the number of recipients.
    pub fn to_clients(&self, clients: &[Arc<Client>], packet: &Packet, except: &Except) -> usize {
        let since = Instant::now();
        let sent = clients
            .iter()
            .filter(|client| !client.is_left_out(except))
            .filter(|client| client.sender.send(packet).is_taken())
            .count();
        self.metrics.fanned_out(sent, since);
        sent
    }
}

/// A stored message as its event, with its offset inside. Runs on the log's writer thread, so it does not
/// read the text.
pub fn stored_packet(entry: &Entry, offset: u64) -> Packet {
    let payload = Payload::stored(entry.json.clone(), &entry.attachments);
    Packet::new(entry.event.clone(), payload.numbered(offset))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::{protocol::payload::work, support::TestServer};

    fn committed(room: &str, offset: u64, json: String) -> Committed {
        let entry = Entry {
            id: "m".into(),
            event: "message-reply".into(),
            json: json.into(),
            attachments: vec![Bytes::from_static(b"x")],
            timestamp_ms: 0,
        };
        Committed {
            room: RoomKey { namespace: "/".into(), room: RoomName::parse(room).unwrap() },
            position: Position { offset, epoch: "0000000000000001".parse().unwrap() },
            entry: Arc::new(entry),
            except: Except::nobody(),
        }
    }

    fn deep() -> String {
        let (open, close) = ("{\"a\":".repeat(60), "}".repeat(60));
        format!(r#"{open}{{"_placeholder":true,"num":0}}{close}"#)
    }

    /// The log's writer calls this for all rooms: a message to one room must not delay the others.
    #[tokio::test]
    async fn what_was_committed_is_fanned_out_without_being_read() {
        let server = TestServer::one_node(|_| {}).await;
        let mut members = [server.client().await, server.client().await];
        for member in &mut members {
            member.join("r").await;
        }
        let message = committed("r", 1, deep());
        let (read, ()) = work::read_by(|| server.app.broker.here.committed(&message));
        assert_eq!(read, 0);
        for member in &mut members {
            let event = member.next_event("message-reply").await;
            assert_eq!(event.data["offset"], 1);
            assert_eq!(event.attachments, [b"x".to_vec()]);
        }
    }

    /// A task that waits for the room's lock never waits for a packet to be encoded.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_packet_is_encoded_before_the_rooms_lock_is_taken() {
        let server = TestServer::one_node(|_| {}).await;
        let mut member = server.client().await;
        member.join("r").await;
        member.settle().await;
        let (here, wire) = (server.app.broker.here.clone(), &server.app.wire);
        let room = here.registry.namespace("/").unwrap().room("r").unwrap();
        let before = wire.encoded();
        let lock = room.lock();
        let fanning_out = thread::spawn(move || here.committed(&committed("r", 1, deep())));
        while wire.encoded() == before {
            thread::yield_now();
        }
        drop(lock);
        fanning_out.join().unwrap();
        assert_eq!(wire.encoded(), before + 1, "once for all");
        assert_eq!(member.next("message-reply").await["offset"], json!(1));
    }
}
