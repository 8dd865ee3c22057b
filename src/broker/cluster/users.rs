//! Users across nodes: on which nodes they have clients, and when they come and go.
//!
//! Each node writes the clients that a user has *on it* whenever they change, and again after Redis was away
//! or came back empty. Redis decides, one script at a time, whether the user has come online or its last
//! client has gone. So that is announced once, however many nodes the user moves between.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use indexmap::IndexMap;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::sleep,
};

use super::{
    Event, Handler,
    keys::Keys,
    message::Place,
    session::{Away, Session, scripts},
};
use crate::{
    hub::{Client, Registry, Status},
    protocol::{client_id::ClientId, names::UserId, timestamp::Timestamp},
};

/// How many users are written by one pipeline.
const BATCH: usize = 200;

/// How many grace periods one script ends.
const DEPARTURES: usize = 100;

/// How often every node looks for expired grace periods: their own node may have died.
const LOOK: Duration = Duration::from_secs(3);

/// How many of a user's rooms are written.
const MAX_ROOMS: usize = 200;

/// How long after its grace period a departure would be written again, if Redis came back empty.
const DEPARTED: Duration = Duration::from_secs(10);

/// The users of this node as other nodes see them.
#[derive(Debug)]
pub(super) struct Users {
    registry: Arc<Registry>,
    node: Arc<str>,
    keys: Keys,
    grace: Duration,
    /// How long an offline user's last activity is remembered.
    remember: Duration,
    state: Mutex<State>,
    changed: Notify,
    /// Notified when a grace period has begun.
    departed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The changes to write.
    dirty: IndexMap<UserId, Change>,
    /// What Redis has been told.
    written: HashMap<UserId, Written>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    /// The user has clients here.
    Here,
    /// Its last client here has gone.
    Gone(Instant),
}

/// A change of one user on this node, to be written.
#[derive(Debug, Default)]
struct Change {
    /// The client that caused the change.
    subject: Option<(ClientId, Arc<str>)>,
    /// Whether a client has come.
    came: bool,
    /// The rooms of the client that went.
    rooms: Vec<Place>,
    status: Option<Status>,
    written: Vec<oneshot::Sender<()>>,
}

impl Change {
    /// Merges a newer change into this one.
    fn and(mut self, newer: Self) -> Self {
        self.subject = self.subject.or(newer.subject);
        self.came |= newer.came;
        self.rooms.extend(newer.rooms);
        self.status = newer.status.or(self.status);
        self.written.extend(newer.written);
        self
    }
}

/// A user as all nodes see it.
#[derive(Debug, Clone, Default)]
pub struct SharedUser {
    /// Whether it has a client anywhere, or had one a moment ago.
    pub online: bool,
    /// The status that it has set.
    pub status: Option<Status>,
    /// When it was last active, as far as was written.
    pub last_active: Option<Timestamp>,
    /// Its clients' ids, by node.
    pub clients: BTreeMap<String, Vec<String>>,
    /// The rooms in which it is seen, as far as was written.
    pub rooms: Vec<Place>,
}

impl Users {
    pub(super) fn new(
        registry: Arc<Registry>,
        node: Arc<str>,
        keys: Keys,
        (grace, remember): (Duration, Duration),
    ) -> Self {
        let (state, changed, departed) = (Mutex::default(), Notify::new(), Notify::new());
        Self { registry, node, keys, grace, remember, state, changed, departed }
    }

    /// A client of the user has come to this node. The receiver completes when other nodes can know of it.
    pub(super) fn came(&self, user: &UserId, client: &Client) -> oneshot::Receiver<()> {
        let (written, wait) = oneshot::channel();
        let subject = Some((client.id.clone(), client.namespace.path.clone()));
        self.change(
            user,
            Change { subject, came: true, written: vec![written], ..Change::default() },
        );
        wait
    }

    /// A client of the user has gone from this node; `rooms` are those it was in.
    pub(super) fn went(&self, user: &UserId, rooms: Vec<Place>) {
        self.change(user, Change { rooms, ..Change::default() });
    }

    /// The user has set this status.
    pub(super) fn says(&self, user: &UserId, status: Status) {
        self.change(user, Change { status: Some(status), ..Change::default() });
    }

    /// The user is in other rooms than before.
    pub(super) fn moved(&self, user: &UserId) {
        self.change(user, Change::default());
    }

    fn change(&self, user: &UserId, change: Change) {
        let mut state = self.state.lock();
        let before = state.dirty.swap_remove(user).unwrap_or_default();
        state.dirty.insert(user.clone(), before.and(change));
        drop(state);
        self.changed.notify_one();
    }

    /// Writes everything again, because Redis may have lost it. Other nodes may meanwhile have taken a user
    /// for offline and queued messages for it.
    pub(super) fn rewrite(&self) {
        let mut state = self.state.lock();
        let State { dirty, written } = &mut *state;
        for (user, written) in written {
            let change = dirty.entry(user.clone()).or_default();
            change.came |= *written == Written::Here;
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Writes changes as long as the session lasts.
    pub(super) async fn write(self: Arc<Self>, session: Session, handler: Handler) {
        // Ends the session in any case: a node that does not write its users must not take part.
        let _session_ends = session.lost.clone().drop_guard();
        while session.is_open() {
            let changes = self.take();
            if changes.is_empty() {
                tokio::select! {
                    () = self.changed.notified() => {}
                    () = session.lost.cancelled() => {}
                }
            } else if self.write_some(&session, &handler, changes).await.is_err() {
                return;
            }
        }
        // The wake-up may have been meant for the next session.
        self.changed.notify_one();
    }

    fn take(&self) -> Vec<(UserId, Change)> {
        let mut state = self.state.lock();
        let count = state.dirty.len().min(BATCH);
        state.dirty.drain(..count).collect()
    }

    async fn write_some(
        &self,
        session: &Session,
        handler: &Handler,
        changes: Vec<(UserId, Change)>,
    ) -> Result<(), Away> {
        let mut pipeline = redis::pipe();
        let mut here = Vec::with_capacity(changes.len());
        for (user, change) in &changes {
            let clients = self.registry.users.clients(user);
            let known = self.state.lock().written.contains_key(user);
            pipeline.add_command(self.write_command(user, &clients, change, known));
            here.push(!clients.is_empty());
        }
        let outcomes = match session.pipeline::<Vec<i64>>(&pipeline).await {
            Ok(outcomes) => outcomes,
            Err(away) => {
                let mut state = self.state.lock();
                for (user, change) in changes {
                    let newer = state.dirty.swap_remove(&user).unwrap_or_default();
                    state.dirty.insert(user, change.and(newer));
                }
                drop(state);
                self.changed.notify_one();
                return Err(away);
            }
        };
        for (((user, change), is_here), outcome) in changes.into_iter().zip(here).zip(outcomes) {
            {
                let written = &mut self.state.lock().written;
                if is_here {
                    written.insert(user.clone(), Written::Here);
                } else if written.contains_key(&user) {
                    written.insert(user.clone(), Written::Gone(Instant::now()));
                }
            }
            if outcome == 2 {
                self.departed.notify_one();
            }
            if outcome == 1 {
                let subject = change.subject;
                handler(Event::Online { user: user.clone(), subject });
            }
            if change.came && is_here {
                handler(Event::Arrived { user });
            }
            for waiting in change.written {
                let _told = waiting.send(());
            }
        }
        Ok(())
    }

    fn write_command(
        &self,
        user: &UserId,
        clients: &[Arc<Client>],
        change: &Change,
        known: bool,
    ) -> redis::Cmd {
        let ids = clients.iter().map(|client| client.id.to_string()).collect::<Vec<_>>();
        let active = clients.iter().map(|client| client.last_activity()).max();
        let active = active.unwrap_or_else(Timestamp::now).as_millis();
        let rooms = clients.iter().flat_map(|client| {
            client.rooms().into_iter().map(|room| (client.namespace.path.clone(), room))
        });
        let mut rooms = rooms.take(MAX_ROOMS).collect::<Vec<Place>>();
        if clients.is_empty() {
            rooms.extend(change.rooms.iter().take(MAX_ROOMS).cloned());
        }
        rooms.sort_unstable();
        rooms.dedup();
        let keys = [
            self.keys.user(user.as_str()),
            self.keys.users_of(&self.node),
            self.keys.online(),
            self.keys.departures(),
        ];
        let mut command = self.keys.call(&scripts::WRITE_USER, &keys);
        command
            .arg(&*self.node)
            .arg(user.as_str())
            .arg(ids.join(" "))
            .arg(active)
            .arg(crate::protocol::payload::json_of(&rooms).get())
            .arg(change.status.map_or("", Status::as_str))
            .arg(u64::try_from(self.grace.as_millis()).unwrap_or(u64::MAX))
            .arg(i32::from(known))
            .arg(self.remember.as_secs());
        command
    }

    /// Ends grace periods as long as the session lasts: this node's in time, and those of dead nodes.
    pub(super) async fn depart(self: Arc<Self>, session: Session, handler: Handler) {
        let _session_ends = session.lost.clone().drop_guard();
        let keys = [self.keys.departures(), self.keys.online()];
        let mut command = self.keys.call(&scripts::DEPART, &keys);
        command.arg(self.keys.users()).arg(DEPARTURES).arg(self.remember.as_secs());
        loop {
            let Ok(answer) = session.query::<Vec<String>>(&command).await else { return };
            let mut answer = answer.into_iter();
            let next = answer.next().and_then(|next| next.parse::<u64>().ok());
            while let (Some(user), Some(active), Some(rooms)) =
                (answer.next(), answer.next(), answer.next())
            {
                let Ok(user) = UserId::parse(&user) else { continue };
                let last_active = Timestamp::from_millis(active.parse().unwrap_or_default());
                let rooms = serde_json::from_str(&rooms).unwrap_or_default();
                handler(Event::Offline { user, last_active, rooms });
            }
            let now = Instant::now();
            self.state.lock().written.retain(|_, written| match written {
                Written::Here => true,
                Written::Gone(since) => now < *since + self.grace + DEPARTED,
            });
            // A millisecond more than Redis says, because Redis rounds down.
            let wait = next.map_or(LOOK, |next| LOOK.min(Duration::from_millis(next + 1)));
            tokio::select! {
                () = sleep(wait) => {}
                () = self.departed.notified() => {}
                () = session.lost.cancelled() => return,
            }
        }
    }

    /// A user as all nodes see it.
    pub(super) async fn look_up(
        &self,
        session: &Session,
        user: &UserId,
    ) -> Result<SharedUser, Away> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("HGETALL").arg(self.keys.user(user.as_str()));
        pipeline.cmd("SISMEMBER").arg(self.keys.online()).arg(user.as_str());
        let (fields, online): (HashMap<String, String>, bool) = session.pipeline(&pipeline).await?;
        let mut found = SharedUser { online, ..SharedUser::default() };
        for (field, value) in fields {
            if let Some(node) = field.strip_prefix("n:") {
                let clients = value.split(' ').map(str::to_owned).collect();
                found.clients.insert(node.to_owned(), clients);
            } else if field.starts_with("r:") {
                found.rooms.extend(serde_json::from_str::<Vec<Place>>(&value).unwrap_or_default());
            } else if field == "status" {
                found.status = Status::parse(&value);
            } else if field == "active" {
                found.last_active = value.parse().ok().map(Timestamp::from_millis);
            }
        }
        Ok(found)
    }

    /// How many users are online on all nodes.
    pub(super) async fn count(&self, session: &Session) -> Result<usize, Away> {
        session.query(redis::cmd("SCARD").arg(self.keys.online())).await
    }
}
