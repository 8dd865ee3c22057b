//! A session arrives: a client has come to this node, and another node has its session.
//!
//! The other node holds the session and says what it is. Then this node keeps for it what comes from now on, in its
//! rooms, for its user, for its id and for everyone, waits until all that it gave to its own clients before is
//! published, and has the session handed over: what the other node has is older than the question, and what is newer
//! is here. From then on the session is one that was lost here. If anything goes wrong, or takes too long, the
//! client is a new one.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, TryStreamExt, future::ready, stream};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::{
    Back,
    departure::{HeldPlace, HeldSession, TakenSession},
};
use crate::{
    broker::{
        cluster::Cluster,
        survey::{Owner, Survey},
    },
    commands::{
        context::Context,
        lost_clients::{end, forget},
    },
    hub::{
        Client, EventStyle, Membership, Namespace, Room, Seen, Session,
        sender::{
            ClientSender,
            journal::{Bounds, Journal, Parcel, Place},
        },
    },
    memory::{Account, Level},
    protocol::{
        names::RoomName, not_recovered::NotRecovered, position::Position, refusal::Refusal,
    },
};

/// How long a client waits for its session from another node, in all.
const BRING: Duration = Duration::from_secs(8);

/// How long the other node may take to end the old connection and hold its session.
const HOLD: Duration = Duration::from_secs(3);

/// How long it may take for anything else.
const ANSWER: Duration = Duration::from_secs(1);

/// How many rooms are subscribed to at the same time.
const SUBSCRIBING: usize = 32;

/// The length of a secret, and of the name of a node.
const NAME: usize = 32;

/// Brings the session that a client names here from the node that has it. What it holds is charged to this account.
pub(super) async fn bring(
    context: &Context,
    namespace: &Arc<Namespace>,
    back: &Back,
    owner: &Owner,
    account: &Arc<Account>,
) -> Result<Arc<Journal>, NotRecovered> {
    let cluster = context.cluster.as_ref().ok_or(NotRecovered::Ended)?;
    let home = home_of(&back.pid).ok_or(NotRecovered::Ended)?;
    if context.broker.here.wire().memory().level() > Level::Calm {
        return Err(NotRecovered::Busy);
    }
    let bringing = async {
        let permit = context.departures.arrivals.acquire().await;
        let _permit = permit.map_err(|_| NotRecovered::Busy)?;
        // Another connection of the client's may have brought it.
        if let Some(journal) = context.registry.journals.find(&back.pid) {
            return Ok(journal);
        }
        let holder = cluster.holder(&back.pid).await.map_err(|_| NotRecovered::Node)?;
        let node = holder.as_deref().unwrap_or(home);
        if node == cluster.node() {
            return Err(NotRecovered::Ended);
        }
        if context.departures.is_silent(node) {
            return Err(NotRecovered::Node);
        }
        let arrival = Arrival {
            context,
            cluster,
            node,
            name: Uuid::new_v4().simple().to_string(),
            offset: back.newest()?,
        };
        arrival.bring(namespace, back, owner, account).await
    };
    timeout(BRING, bringing).await.unwrap_or(Err(NotRecovered::Node))
}

/// The node that has made this secret.
fn home_of(pid: &str) -> Option<&str> {
    let is_name = |text: &str| text.len() == NAME && text.bytes().all(|c| c.is_ascii_hexdigit());
    let (secret, node) = pid.split_once('-')?;
    (is_name(secret) && is_name(node)).then_some(node)
}

/// Remembers, for other nodes, which sessions have moved here.
pub(super) async fn remember_moved(context: Context) {
    let Some(cluster) = &context.cluster else { return };
    let journals = context.registry.journals.all();
    let moved = journals.iter().filter(|journal| journal.has_moved());
    // The next time will do.
    let _remembered = cluster.hold(moved.map(|journal| &**journal.pid())).await;
}

/// A session on its way to this node.
struct Arrival<'a> {
    context: &'a Context,
    cluster: &'a Cluster,
    /// The node that has it.
    node: &'a str,
    /// What the move is called.
    name: String,
    /// The newest offset that the client has.
    offset: Option<u64>,
}

impl Arrival<'_> {
    async fn bring(
        &self,
        namespace: &Arc<Namespace>,
        back: &Back,
        owner: &Owner,
        account: &Arc<Account>,
    ) -> Result<Arc<Journal>, NotRecovered> {
        let question = Survey::HoldSession {
            r#move: self.name.clone(),
            namespace: namespace.path.clone(),
            pid: back.pid.clone(),
            offset: back.offset.clone(),
            owner: owner.clone(),
        };
        let asked = Instant::now();
        let answer = self
            .cluster
            .ask_node::<Result<HeldSession, NotRecovered>>(self.node, &question, HOLD)
            .await;
        let Some(held) = answer.map_err(|_| NotRecovered::Node)? else {
            if asked.elapsed() >= HOLD {
                self.context.departures.note_silence(self.node);
            }
            return Err(NotRecovered::Node);
        };
        let held = held?;
        // Of what the other node has sent to the client nothing comes once more from here on.
        if !self.cluster.all_heard().await {
            return Err(NotRecovered::Node);
        }
        let bounds = Bounds::of(&self.context.config);
        let journal = Arc::new(Journal::arriving(back.pid.as_str().into(), bounds, account));
        let client = self.client_of(namespace, &held, &journal, account);
        let guest = Guest { context: self.context, journal, client, is_in: false };
        let rooms = self.place(&guest, held.places).await.map_err(|_| NotRecovered::Busy)?;
        guest.take_in(self, rooms).await.ok_or(NotRecovered::Node)
    }

    /// Asks the node that holds the session.
    async fn ask<T: DeserializeOwned>(&self, question: &Survey) -> Option<T> {
        self.cluster.ask_node::<Option<T>>(self.node, question, ANSWER).await.ok()??
    }

    /// The client, as one that was lost here.
    fn client_of(
        &self,
        namespace: &Arc<Namespace>,
        held: &HeldSession,
        journal: &Arc<Journal>,
        account: &Arc<Account>,
    ) -> Arc<Client> {
        let (context, id) = (self.context, held.client.clone());
        let wire = context.broker.here.wire().clone();
        let path = namespace.path.clone();
        let sender =
            ClientSender::to_lost(id.clone(), path, wire, account.clone(), journal.clone());
        let session = Session {
            user: held.user.clone(),
            issued: held.issued.clone(),
            ..Session::anonymous(&context.config)
        };
        Arc::new(Client::new(id, namespace.clone(), "".into(), 4, None, sender, session))
    }

    /// Gives the client its places in rooms, and listens to their channels.
    async fn place(
        &self,
        guest: &Guest<'_>,
        places: Vec<HeldPlace>,
    ) -> Result<Vec<Arc<Room>>, Refusal> {
        let (client, mut rooms) = (&guest.client, Vec::with_capacity(places.len()));
        for HeldPlace { room: name, is_camel, echo, is_granted } in places {
            let style = if is_camel { EventStyle::Camel } else { EventStyle::Dashed };
            let room = client.namespace.with_vacant_room(&name, |room, state| {
                state.insert_lost(client.clone(), style);
                client.add_membership(
                    name.clone(),
                    Membership { room: room.clone(), style, echo, is_granted },
                );
                room.clone()
            })?;
            client.namespace.retire(&room);
            rooms.push(room);
        }
        let subscribing = rooms.iter().map(async |room| {
            let key = client.namespace.key(&room.name);
            room.keep_subscription(self.cluster.subscribe(&key).await?);
            Ok::<_, Refusal>(())
        });
        let subscribing = subscribing.collect::<Vec<_>>();
        let subscribing = stream::iter(subscribing).buffer_unordered(SUBSCRIBING);
        subscribing.try_for_each(|()| ready(Ok(()))).await?;
        Ok(rooms)
    }

    /// All that the client missed on the other node.
    async fn take(&self) -> Option<TakenSession> {
        let question = Survey::TakeSession { r#move: self.name.clone() };
        let mut taken = self.ask::<TakenSession>(&question).await?;
        for _ in 0..taken.parts {
            let question = Survey::SessionPart { r#move: self.name.clone() };
            taken.parcels.extend(self.ask::<Vec<Parcel>>(&question).await?);
        }
        Some(taken)
    }
}

/// A client that is about to be one that was lost here. Dropped before, it is forgotten.
struct Guest<'a> {
    context: &'a Context,
    journal: Arc<Journal>,
    client: Arc<Client>,
    is_in: bool,
}

impl Guest<'_> {
    /// Takes over the session.
    async fn take_in(
        mut self,
        arrival: &Arrival<'_>,
        rooms: Vec<Arc<Room>>,
    ) -> Option<Arc<Journal>> {
        let (context, client) = (self.context, &self.client);
        client.namespace.add_lost(client.clone());
        if let Some(user) = client.user() {
            context.registry.users.add_lost(&user, client.clone());
        }
        self.journal.collect(client);
        if !context.registry.journals.add(&self.journal) {
            return None;
        }
        arrival.cluster.all_sent().await;
        // The other node has delivered what this one had until now: it hears of the question later.
        let key = |room: &Room| client.namespace.key(&room.name);
        let begins =
            rooms.iter().map(|room| arrival.cluster.position(&key(room))).collect::<Vec<_>>();
        let taken = arrival.take().await?;
        let seen = self.seen(&taken, rooms.iter().zip(begins))?;
        if let Some(data) = taken.data {
            client.set_data(data);
        }
        client.note_queue_sent(taken.queue_sent);
        let has_seen =
            |room: &RoomName, position| seen.get(room).is_some_and(|seen| seen.covers(position));
        let stay = context.registry.enter(&client.namespace.path);
        let (journal, offset) = (taken.journal, arrival.offset);
        if !self.journal.take_in(journal, taken.parcels, offset, has_seen, stay) {
            return None;
        }
        self.is_in = true;
        for journal in context.registry.journals.add_away(self.journal.clone(), rooms.len()) {
            end(context, &journal, Place::Away);
        }
        // Without it, the session can be recovered here alone.
        let _remembered = arrival.cluster.hold(std::iter::once(&**self.journal.pid())).await;
        Some(self.journal.clone())
    }

    /// What the client has seen on the other node, by room; `None` if something of a room may be missing, that was
    /// delivered here up to where the client began.
    fn seen<'r>(
        &self,
        taken: &TakenSession,
        rooms: impl Iterator<Item = (&'r Arc<Room>, Option<Position>)>,
    ) -> Option<HashMap<RoomName, Seen>> {
        let mut all = taken.seen.iter().cloned().collect::<HashMap<_, Seen>>();
        for (room, position) in taken.parcels.iter().filter_map(Parcel::place) {
            // One of a room that it has left meanwhile has no entry.
            if let Some(seen) = all.get_mut(room).filter(|seen| !seen.covers(position)) {
                seen.note(position);
            }
        }
        for (room, begins) in rooms {
            let seen = all.get(&room.name).copied().unwrap_or_default();
            let is_whole = begins.is_none_or(|begins| seen.reaches(begins));
            if !is_whole || !room.lock().add_seen_by_lost(&self.client, seen) {
                return None;
            }
        }
        Some(all)
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        if !self.is_in {
            end(self.context, &self.journal, Place::Away);
            forget(self.context, &self.client);
        }
    }
}
