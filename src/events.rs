//! A backend's events: to rooms, users, clients, or everyone of a namespace.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::try_join_all;
use socketioxide::socket::Sid;

use crate::{
    app::App,
    audience::Except,
    bus::RoomMessage,
    clock::Timestamp,
    direct::{self, Reached},
    message_id::MessageId,
    names::{RoomName, UserId},
    outlet::Packet,
    payload::{Object, Payload},
    refusal::{Code, Refusal},
    registry::Namespace,
    store::Entry,
};

/// An event to be sent.
#[derive(Debug)]
pub struct BackendEvent {
    /// The namespace of the rooms, or of everyone.
    pub namespace: Arc<Namespace>,
    /// The event's name.
    pub event: String,
    /// Its argument.
    pub data: Payload,
    /// To whom.
    pub audience: Audience,
    /// Who is left out of the live delivery.
    pub except: Except,
    /// Whether only those are meant who are there at this moment: nothing is stored.
    pub volatile: bool,
}

/// To whom an event goes.
#[derive(Debug)]
pub enum Audience {
    /// Every client of the namespace.
    Everyone,
    /// These, each list a sending of its own: who is in two of them gets the event twice.
    These {
        /// The members of these rooms.
        rooms: Vec<RoomName>,
        /// The clients of these users, in all namespaces.
        users: Vec<UserId>,
        /// These clients, in all namespaces.
        clients: Vec<Sid>,
    },
}

/// What became of an event.
#[derive(Debug)]
pub struct Sent {
    /// The data's id if it has one, else the server's.
    pub id: MessageId,
    /// The event's number in each of the rooms that keep it.
    pub offsets: BTreeMap<RoomName, u64>,
    /// The users without a client for whom it is kept.
    pub queued: Vec<UserId>,
    /// The users without a client whose queue is full.
    pub refused: Vec<UserId>,
}

/// Sends a backend's event.
///
/// An object to rooms is a message of each of them, numbered and stored. What is volatile, or no
/// object, is a signal, and a client that is in two of the rooms gets it once.
///
/// # Errors
/// `too_many_rooms`, `unavailable`; other rooms than the one that failed may have the message then.
pub async fn send(app: &App, event: BackendEvent) -> Result<Sent, Refusal> {
    let BackendEvent { namespace, event, data, audience, except, volatile } = event;
    let object = Object::parse(data.json());
    let id = object.as_ref().map_or_else(MessageId::make, MessageId::of);
    let is_kept = object.is_some() && !volatile;
    let packet = Packet::new(event.clone(), data.clone());
    let mut sent = Sent { id, offsets: BTreeMap::new(), queued: Vec::new(), refused: Vec::new() };
    let Audience::These { rooms, users, clients } = audience else {
        app.bus.admit(&namespace, None).await?;
        app.bus.signal_namespace(&namespace, &packet, &except);
        return Ok(sent);
    };
    // Before anything is sent: who is refused may send all of it again.
    try_join_all(rooms.iter().map(|room| app.bus.admit(&namespace, Some(room)))).await?;
    if is_kept {
        let message_to = |room: &RoomName| RoomMessage {
            namespace: namespace.clone(),
            room: room.clone(),
            event: event.clone().into(),
            payload: data.clone(),
            id: sent.id.text.clone(),
            timestamp: Timestamp::now(),
            except: except.clone(),
        };
        // Together, so that many rooms share a commit.
        let published = rooms.iter().map(|room| app.bus.publish(message_to(room)));
        let offsets = try_join_all(published).await?;
        let numbered = rooms.into_iter().zip(offsets);
        sent.offsets = numbered.filter_map(|(room, offset)| Some((room, offset?))).collect();
    } else {
        app.bus.signal_rooms(&namespace, &rooms, &packet, &except);
    }
    for user in users {
        let reached = direct::to_user(app, &user, &packet, &except).await?;
        // Whoever is left out on purpose is not offline.
        if reached != Reached::Nobody || volatile {
            continue;
        }
        let entry = Entry {
            id: sent.id.text.clone(),
            event: event.clone(),
            json: data.json().into(),
            attachments: data.attachments().to_vec(),
            timestamp_ms: Timestamp::now().as_millis(),
        };
        match direct::queue(app, &user, None, entry)
            .await
            .map_err(|refusal| (refusal.code, refusal))
        {
            Ok(()) => sent.queued.push(user),
            Err((Code::QueueFull, _)) => sent.refused.push(user),
            // There is no queue: then a user that is not there is not reached.
            Err((Code::NotFound, _)) => {}
            Err((_, refusal)) => return Err(refusal),
        }
    }
    app.bus.signal_ids(&clients, &packet, &except);
    Ok(sent)
}
