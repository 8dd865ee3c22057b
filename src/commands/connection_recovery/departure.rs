//! A session leaves: its client has come to another node, which asks for it.
//!
//! It is claimed first, as for a client that comes back here, and handed over, once, when the other node is ready for
//! it. What the other node does not fetch in time is given back or, if it was handed over, lost with the session.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use super::{Back, claim_here};
use crate::{
    auth::Issued,
    broker::survey::Owner,
    commands::{
        context::Context,
        departures::{Held, Move},
        lost_clients::{end, forget},
    },
    hub::{
        EventStyle, Seen,
        sender::journal::{HandedOver, Parcel, Place},
    },
    protocol::{
        client_id::ClientId,
        names::{RoomName, UserId},
        not_recovered::NotRecovered,
    },
};

/// How long the other node may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the end of the old connection may take. The other node waits a little longer: that it is answered shows
/// that this one is alive.
const CLAIM: Duration = Duration::from_secs(2);

/// How large a part is, about, in bytes; one packet may be larger.
const PART: usize = 128 * 1024;

/// A session that is held for another node.
#[derive(Debug, Serialize, Deserialize)]
pub struct HeldSession {
    /// Its client.
    pub client: ClientId,
    /// The client's user.
    pub user: Option<UserId>,
    /// What a revocation of the client's token goes by.
    pub issued: Option<Issued>,
    /// The client's places in rooms.
    pub places: Vec<HeldPlace>,
}

/// A place in a room.
#[derive(Debug, Serialize, Deserialize)]
pub struct HeldPlace {
    /// The room.
    pub room: RoomName,
    /// Whether it was joined by an event in the camelCase style.
    pub is_camel: bool,
    /// The room's name as the client gave it, in JSON.
    pub echo: Arc<str>,
    /// A backend has put the client into it.
    pub is_granted: bool,
}

/// A session that is handed over to another node.
#[derive(Debug, Serialize, Deserialize)]
pub struct TakenSession {
    /// What becomes of its journal.
    pub journal: HandedOver,
    /// What the client must not be sent any more, by room.
    pub seen: Vec<(RoomName, Seen)>,
    /// The object that the application's backend keeps with the client.
    pub data: Option<Arc<RawValue>>,
    /// The newest message of its user's queue that it was sent.
    pub queue_sent: u64,
    /// The first part of what the client missed.
    pub parcels: Vec<Parcel>,
    /// How many parts are to be fetched.
    pub parts: usize,
}

/// Holds the session that a client of another node names.
///
/// # Errors
/// If the client cannot recover.
pub async fn hold(
    context: &Context,
    name: &str,
    namespace: &str,
    back: &Back,
    owner: &Owner,
) -> Result<HeldSession, NotRecovered> {
    let namespace = context.registry.namespace(namespace).ok_or(NotRecovered::Ended)?;
    let journal = context.registry.journals.find(&back.pid).ok_or(NotRecovered::Ended)?;
    let offset = back.newest()?;
    let deadline = Instant::now() + CLAIM;
    let is_late = |_| NotRecovered::Busy;
    let claiming = claim_here(context, &namespace, &journal, offset, owner);
    let client = timeout_at(deadline, claiming).await.map_err(is_late)??;
    let held = Held { journal, client: client.clone(), offset };
    // What this node sent to the client, the other one hears before the answer: it keeps none of that.
    if let Some(cluster) = &context.cluster {
        timeout_at(deadline, cluster.all_sent()).await.map_err(is_late)?;
    }
    let places = client.rooms().into_iter().filter_map(|room| {
        let place = client.membership(&room)?;
        let is_camel = place.style == EventStyle::Camel;
        Some(HeldPlace { room, is_camel, echo: place.echo, is_granted: place.is_granted })
    });
    let session = client.session();
    let found = HeldSession {
        client: client.id.clone(),
        user: session.user,
        issued: session.issued,
        places: places.collect(),
    };
    if !context.departures.add(name, Move::Held(held)) {
        return Err(NotRecovered::Busy);
    }
    let (context, name) = (context.clone(), name.to_owned());
    tokio::spawn(async move {
        tokio::time::sleep(PATIENCE).await;
        drop(context.departures.take(&name));
    });
    Ok(found)
}

/// Hands over the session that is held for this move.
pub fn take(context: &Context, name: &str) -> Option<TakenSession> {
    let Move::Held(held) = context.departures.take(name)? else { return None };
    let (client, journal) = (&held.client, &held.journal);
    // Before the journal is closed: what comes in between is in the journal, with its position.
    let seen = client.rooms().into_iter().filter_map(|name| {
        let seen = client.membership(&name)?.room.lock().seen_by_lost(client)?;
        Some((name, seen))
    });
    let seen = seen.collect::<Vec<_>>();
    let (handed_over, parcels) = journal.hand_over(held.offset)?;
    end(context, journal, Place::Away);
    forget(context, client);
    let size = parcels.iter().map(Parcel::size).sum();
    let mut parts = parts_of(parcels).into_iter();
    let taken = TakenSession {
        journal: handed_over,
        seen,
        data: client.data(),
        queue_sent: client.queue_sent(),
        parcels: parts.next().unwrap_or_default(),
        parts: parts.len(),
    };
    if taken.parts > 0 {
        let charge = client.sender.account().charge_kept(size);
        context.departures.add(name, Move::Parts(parts, charge)).then_some(())?;
    }
    tracing::debug!(client = %client.id, "its session was handed over to another node");
    Some(taken)
}

/// The next part of a session that was handed over.
pub fn part(context: &Context, name: &str) -> Option<Vec<Parcel>> {
    let Move::Parts(mut parts, charge) = context.departures.take(name)? else { return None };
    let part = parts.next();
    if parts.len() > 0 {
        context.departures.add(name, Move::Parts(parts, charge));
    }
    part
}

fn parts_of(parcels: Vec<Parcel>) -> Vec<Vec<Parcel>> {
    let (mut parts, mut size) = (vec![Vec::new()], 0);
    for parcel in parcels {
        size += parcel.size();
        match parts.last_mut() {
            Some(part) if size <= PART || part.is_empty() => part.push(parcel),
            _ => {
                size = parcel.size();
                parts.push(vec![parcel]);
            }
        }
    }
    parts
}
