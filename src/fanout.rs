//! From one to many, on this node.

use std::{sync::Arc, time::Instant};

use indexmap::IndexMap;
use socketioxide::socket::Sid;

use crate::{
    audience::Except,
    metrics::Metrics,
    names::RoomName,
    outlet::Packet,
    payload::{Payload, with_offset},
    registry::{Client, Namespace, Registry},
    store::{Committed, Entry, Epoch, RoomKey},
};

/// Hands packets to this node's clients.
#[derive(Debug, Clone)]
pub struct Fanout {
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
}

impl Fanout {
    /// To the clients of this registry.
    pub fn new(registry: Arc<Registry>, metrics: Arc<Metrics>) -> Self {
        Self { registry, metrics }
    }

    /// Sends a signal to the members of a room; returns to how many.
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
    pub fn stored(
        &self,
        room: &RoomKey,
        epoch: Epoch,
        offset: u64,
        entry: &Entry,
        except: &Except,
    ) {
        let namespace = self.registry.namespace(&room.namespace);
        let Some(namespace) = namespace.filter(|home| home.room(room.room.as_str()).is_some())
        else {
            return;
        };
        let packet = stored_packet(entry, offset);
        self.deliver(namespace, &room.room, &packet, Some((offset, epoch)), except);
    }

    /// Sends what the log has committed to its room's members.
    pub fn committed(&self, message: &Committed) {
        let Committed { room, offset, epoch, entry, except } = message;
        self.stored(room, *epoch, *offset, entry, except);
    }

    fn deliver(
        &self,
        namespace: &Namespace,
        room: &RoomName,
        packet: &Packet,
        number: Option<(u64, Epoch)>,
        except: &Except,
    ) -> usize {
        let Some(room) = namespace.room(room.as_str()) else { return 0 };
        room.touch();
        let since = Instant::now();
        let sent = room.lock().deliver(packet, number, |client| client.is_left_out(except));
        self.metrics.fanned_out(sent, since);
        sent
    }

    /// Sends a signal to the members of these rooms, once to each however many of them it is in;
    /// returns to how many.
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
            audience
                .extend(members.members().map(|member| (member.client.id, member.client.clone())));
        }
        self.to_clients(&audience.into_values().collect::<Vec<_>>(), packet, except)
    }

    /// Sends a signal to every client of a namespace; returns to how many.
    pub fn to_namespace(&self, namespace: &Namespace, packet: &Packet, except: &Except) -> usize {
        let since = Instant::now();
        let sent = namespace.send(packet, |client| client.is_left_out(except));
        self.metrics.fanned_out(sent, since);
        sent
    }

    /// Sends a packet to the clients of these ids, in whichever namespace they are; returns to how many.
    pub fn to_ids(&self, ids: &[Sid], packet: &Packet, except: &Except) -> usize {
        let clients = ids.iter().flat_map(|id| self.registry.clients(*id)).collect::<Vec<_>>();
        self.to_clients(&clients, packet, except)
    }

    /// Sends a packet to these clients; returns to how many.
    pub fn to_clients(&self, clients: &[Arc<Client>], packet: &Packet, except: &Except) -> usize {
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

/// A stored message as the event that it was, its offset inside.
pub fn stored_packet(entry: &Entry, offset: u64) -> Packet {
    let payload = Payload::restored(with_offset(&entry.json, offset), &entry.attachments);
    Packet::new(entry.event.clone(), payload)
}
