//! A backend's events: to rooms, users, clients, or everyone of a namespace.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use futures_util::future::try_join_all;

use crate::{
    broker::RoomMessage,
    commands::{
        backend_message::{self, Published},
        context::Context,
        idempotency::Keyed,
        private_message::{self, Reached},
    },
    hub::{
        Namespace,
        packet::{KeptFor, Packet},
    },
    protocol::{
        audience::Except,
        client_id::ClientId,
        message_id::MessageId,
        names::{RoomName, UserId},
        payload::{Object, Payload},
        refusal::{Code, Refusal},
        timestamp::Timestamp,
    },
    store::Entry,
};

/// An event to be sent.
#[derive(Debug)]
pub struct BackendEvent {
    /// The namespace of the rooms, or of everyone.
    pub namespace: Arc<Namespace>,
    /// The event's name.
    pub event: String,
    /// Its argument, or an array of all of them.
    pub data: Payload,
    /// Whether `data` is an array of all arguments. Such an event is volatile.
    pub is_list: bool,
    /// The recipients.
    pub audience: Audience,
    /// The clients that live delivery excludes.
    pub except: Except,
    /// Whether it goes only to clients that are connected now: nothing is stored.
    pub volatile: bool,
}

impl BackendEvent {
    /// The event as a message with this id to one of its rooms.
    fn message_to(&self, room: &RoomName, id: &MessageId) -> RoomMessage {
        RoomMessage {
            namespace: self.namespace.clone(),
            room: room.clone(),
            event: self.event.clone().into(),
            payload: self.data.clone(),
            id: id.text.clone(),
            timestamp: Timestamp::now(),
            except: self.except.clone(),
            sender: None,
            from: None,
        }
    }

    /// The rooms that are named.
    pub fn rooms(&self) -> &[RoomName] {
        match &self.audience {
            Audience::Everyone => &[],
            Audience::These { rooms, .. } => rooms,
        }
    }

    /// What it is to others than the rooms; `None` if nobody else is named.
    #[must_use]
    pub fn without_rooms(self) -> Option<Self> {
        match self.audience {
            Audience::These { users, clients, .. } if !users.is_empty() || !clients.is_empty() => {
                let audience = Audience::These { rooms: Vec::new(), users, clients };
                Some(Self { audience, ..self })
            }
            _ => None,
        }
    }

    /// Whether all that it does is to store one message.
    pub fn is_one_message(&self) -> bool {
        let is_kept = !self.volatile && !self.is_list && self.data.json().starts_with('{');
        match &self.audience {
            Audience::These { rooms, users, clients } => {
                is_kept && rooms.len() == 1 && users.is_empty() && clients.is_empty()
            }
            Audience::Everyone => false,
        }
    }
}

/// What makes an event happen once.
#[derive(Debug, Clone)]
pub enum Keys {
    /// Nothing.
    None,
    /// The key of its [one message](BackendEvent::is_one_message).
    Message(Keyed),
    /// The key of the whole, which is claimed: what an earlier try has stored is not stored again.
    Parts(Keyed),
}

impl Keys {
    fn of_room(&self, place: usize, room: &RoomName) -> Option<Keyed> {
        match self {
            Self::None => None,
            Self::Message(keyed) => Some(keyed.clone()),
            Self::Parts(keyed) => Some(keyed.part(place, &format!("room {room}"))),
        }
    }

    fn of_user(&self, place: usize, user: &UserId) -> Option<Keyed> {
        match self {
            Self::None | Self::Message(_) => None,
            Self::Parts(keyed) => Some(keyed.part(place, &format!("user {user}"))),
        }
    }
}

/// The recipients of an event.
#[derive(Debug)]
pub enum Audience {
    /// Every client of the namespace.
    Everyone,
    /// Each list is a delivery of its own: a client that is in two of them gets the event twice.
    These {
        /// The members of these rooms.
        rooms: Vec<RoomName>,
        /// The clients of these users, in all namespaces.
        users: Vec<UserId>,
        /// These clients, in all namespaces.
        clients: Vec<ClientId>,
    },
}

/// The result of sending an event.
#[derive(Debug)]
pub struct Sent {
    /// The data's id if it has one, else the server's.
    pub id: MessageId,
    /// The event's number in each of the rooms that keep it.
    pub offsets: BTreeMap<RoomName, u64>,
    /// The users without a client: it is queued for them.
    pub queued: Vec<UserId>,
    /// Users without a client whose queue is full.
    pub refused: Vec<UserId>,
    /// The users that have no client, and nothing queued.
    pub unreached: Vec<UserId>,
    /// Whether its one message was stored before.
    pub is_duplicate: bool,
}

/// Sends a backend's event.
///
/// An object to rooms is a message: each room numbers and stores it. A volatile event, or data that is no
/// object, is a signal, and a client that is in two of the rooms gets it once.
///
/// # Errors
/// `too_many_rooms`, `unavailable`. Rooms other than the one that failed may have the message then.
pub async fn send(context: &Context, event: BackendEvent, keys: Keys) -> Result<Sent, Refusal> {
    let BackendEvent { namespace, event: name, data, is_list, audience, except, volatile } = &event;
    let volatile = *volatile || *is_list;
    let text = data.json();
    let object = Object::parse(&text);
    let id = object.as_ref().map_or_else(MessageId::make, MessageId::of);
    let is_kept = object.is_some() && !volatile;
    let packet = Packet::with(name.clone(), data.clone(), *is_list);
    let recovers = !volatile && context.broker.here.recovers();
    // Each sending has an offset of its own, so that a client that gets two of them knows them apart.
    let kept_for =
        |audience| if recovers { packet.again().kept_for(audience) } else { packet.clone() };
    let mut sent = Sent {
        id,
        offsets: BTreeMap::new(),
        queued: Vec::new(),
        refused: Vec::new(),
        unreached: Vec::new(),
        is_duplicate: false,
    };
    let Audience::These { rooms, users, clients } = audience else {
        context.broker.admit(namespace, None).await?;
        let packet = kept_for(KeptFor::Direct);
        context.broker.signal_namespace(namespace, &packet, except);
        return Ok(sent);
    };
    // Checked before anything is sent, so that a refused caller can send all of it again.
    try_join_all(rooms.iter().map(|room| context.broker.admit(namespace, Some(room)))).await?;
    if is_kept {
        let (event, id) = (&event, &sent.id);
        // Concurrent, so that many rooms share a commit.
        let published = rooms.iter().enumerate().map(|(place, room)| {
            // A room that is named twice gets two.
            let keyed = keys.of_room(place, room);
            backend_message::publish(context, move || event.message_to(room, id), keyed, id)
        });
        let published = try_join_all(published).await?;
        for (room, Published { offset, before }) in rooms.iter().zip(published) {
            sent.offsets.extend(offset.map(|offset| (room.clone(), offset)));
            if let Some(id) = before {
                sent.is_duplicate = matches!(keys, Keys::Message(_));
                sent.id = id;
            }
        }
    } else {
        let packet = kept_for(KeptFor::Rooms(rooms.as_slice().into()));
        context.broker.signal_rooms(namespace, rooms, &packet, except);
    }
    let kept = Entry {
        id: sent.id.text.clone(),
        event: name.clone(),
        json: data.unnumbered().clone(),
        attachments: data.attachments().to_vec(),
        timestamp_ms: Timestamp::now().as_millis(),
    };
    let kept = (!volatile).then_some(&kept);
    // Concurrent, so that no user waits for another user's nodes.
    let packets = users.iter().map(|_| kept_for(KeptFor::Direct)).collect::<Vec<_>>();
    let reached = users.iter().zip(&packets).enumerate().map(|(place, (user, packet))| {
        to_user(context, user, packet, except, kept, keys.of_user(place, user))
    });
    for (user, outcome) in users.iter().zip(try_join_all(reached).await?) {
        match outcome {
            ToUser::Queued => sent.queued.push(user.clone()),
            ToUser::Refused => sent.refused.push(user.clone()),
            ToUser::Unreached => sent.unreached.push(user.clone()),
            ToUser::Reached => {}
        }
    }
    for clients in sendings(clients, recovers) {
        context.broker.signal_ids(clients, &kept_for(KeptFor::Direct), except);
    }
    Ok(sent)
}

/// The clients in the lists that are each sent one packet. A client that is named twice gets two, which must not
/// be the same packet where clients may `recover`.
fn sendings(clients: &[ClientId], recovers: bool) -> Vec<&[ClientId]> {
    let mut known = HashSet::new();
    if recovers && !clients.iter().all(|client| known.insert(client)) {
        return clients.chunks(1).collect();
    }
    vec![clients]
}

/// Begins to send an event's message to its rooms, whose readers were waited for: when this call returns, it has
/// its place in each of them behind what was begun before it.
///
/// # Errors
/// As [`send`].
pub fn begin(
    context: &Context,
    event: &BackendEvent,
) -> impl Future<Output = Result<(), Refusal>> + Send + use<> {
    let object = event.data.json();
    let id = Object::parse(&object).as_ref().map_or_else(MessageId::make, MessageId::of);
    let publish = |room: &RoomName| context.broker.publish(event.message_to(room, &id));
    let published = event.rooms().iter().map(publish).collect::<Vec<_>>();
    async move { try_join_all(published).await.map(drop) }
}

/// The result of an event for one user.
enum ToUser {
    /// Its clients have it or are excluded.
    Reached,
    /// It has no client, and nothing is queued for it.
    Unreached,
    /// The event is queued.
    Queued,
    /// The user's queue is full.
    Refused,
}

/// Sends an event to a user. If the user has no client, queues `kept`, if given.
async fn to_user(
    context: &Context,
    user: &UserId,
    packet: &Packet,
    except: &Except,
    kept: Option<&Entry>,
    keyed: Option<Keyed>,
) -> Result<ToUser, Refusal> {
    let reached = private_message::to_user(context, user, packet, except).await?;
    // A user whose clients are all excluded is not offline.
    if reached != Reached::Nobody {
        return Ok(ToUser::Reached);
    }
    let Some(entry) = kept else { return Ok(ToUser::Unreached) };
    let once = keyed.map(|keyed| keyed.once(""));
    match private_message::queue(context, user, None, entry.clone(), once).await {
        Ok(()) => Ok(ToUser::Queued),
        Err(refusal) if refusal.code == Code::QueueFull => Ok(ToUser::Refused),
        // There are no queues; a client that comes back in time has it all the same.
        Err(refusal) if refusal.code == Code::NotFound => {
            private_message::keep_for_lost(context, user, packet, except);
            Ok(ToUser::Unreached)
        }
        Err(refusal) => Err(refusal),
    }
}
