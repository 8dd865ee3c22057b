//! The users of this node and their clients.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::Client;
use crate::protocol::{names::UserId, timestamp::Timestamp};

/// How many offline users' last activity is remembered.
const REMEMBERED: usize = 50_000;

/// The status that a user has set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Present.
    #[default]
    Online,
    /// Not at the keyboard.
    Away,
    /// Not to be disturbed.
    Busy,
    /// Absent or invisible.
    Offline,
}

impl Status {
    /// As it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Away => "away",
            Self::Busy => "busy",
            Self::Offline => "offline",
        }
    }

    /// Parses a status as it stands on the wire.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Online, Self::Away, Self::Busy, Self::Offline]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// A user as it is at one moment.
#[derive(Debug, Clone)]
pub struct User {
    /// Its clients; empty during its grace period.
    pub clients: Vec<Arc<Client>>,
    /// The status that it has set.
    pub status: Status,
    /// When one of its clients last sent something.
    pub last_active: Timestamp,
}

/// The users that are online: from their first client to the end of the grace period after their last.
#[derive(Debug, Default)]
pub struct Users {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    online: HashMap<UserId, Entry>,
    /// The clients that have lost their connection and may come back.
    lost: HashMap<UserId, Vec<Arc<Client>>>,
    /// When offline users were last active: the newer and the older half.
    gone: [HashMap<UserId, Timestamp>; 2],
    departures: u64,
}

#[derive(Debug)]
struct Entry {
    user: User,
    /// The departure of a last client that began the running grace period.
    departure: u64,
}

/// Identifies one departure of a user's last client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departure(u64);

impl Users {
    /// Binds a client to a user; returns whether that brought the user online.
    pub fn bind(&self, id: &UserId, client: Arc<Client>) -> bool {
        let state = &mut *self.state.lock();
        state.forget(id, |lost| {
            lost.id == client.id && lost.namespace.path == client.namespace.path
        });
        let mut came_online = false;
        let entry = state.online.entry(id.clone()).or_insert_with(|| {
            came_online = true;
            let user =
                User { clients: Vec::new(), status: Status::Online, last_active: Timestamp::now() };
            Entry { user, departure: 0 }
        });
        entry.user.last_active = Timestamp::now();
        if !entry.user.clients.iter().any(|known| Arc::ptr_eq(known, &client)) {
            entry.user.clients.push(client);
        }
        came_online
    }

    /// Unbinds a client. If it was the user's last, returns the departure with which [`expire`](Self::expire)
    /// can end the user's grace period.
    pub fn unbind(&self, id: &UserId, client: &Arc<Client>) -> Option<Departure> {
        let state = &mut *self.state.lock();
        if client.sender.may_come_back() {
            state.lost.entry(id.clone()).or_default().push(client.clone());
        }
        let entry = state.online.get_mut(id)?;
        let before = entry.user.clients.len();
        entry.user.clients.retain(|known| !Arc::ptr_eq(known, client));
        entry.user.last_active = entry.user.last_active.max(client.last_activity());
        if before == 0 || !entry.user.clients.is_empty() {
            return None;
        }
        state.departures += 1;
        entry.departure = state.departures;
        Some(Departure(state.departures))
    }

    /// Ends the grace period that began with this departure. Returns the user if that took it offline, `None`
    /// if a client has come since.
    pub fn expire(&self, id: &UserId, departure: Departure) -> Option<User> {
        let state = &mut *self.state.lock();
        let entry = state.online.get(id)?;
        if !entry.user.clients.is_empty() || entry.departure != departure.0 {
            return None;
        }
        let user = state.online.remove(id)?.user;
        if state.gone[0].len() >= REMEMBERED / 2 {
            state.gone[1] = std::mem::take(&mut state.gone[0]);
        }
        state.gone[0].insert(id.clone(), user.last_active);
        Some(user)
    }

    /// Sets the user's status; returns when it was last active, or `None` if it is not online.
    pub fn set_status(&self, id: &UserId, status: Status) -> Option<Timestamp> {
        let state = &mut *self.state.lock();
        let user = &mut state.online.get_mut(id)?.user;
        user.status = status;
        user.last_active = Timestamp::now();
        Some(user.last_active)
    }

    /// The user, if it is online.
    pub fn get(&self, id: &str) -> Option<User> {
        let state = self.state.lock();
        let mut user = state.online.get(id)?.user.clone();
        let newest = user.clients.iter().map(|client| client.last_activity()).max();
        user.last_active = user.last_active.max(newest.unwrap_or(user.last_active));
        Some(user)
    }

    /// When an offline user was last active, if that is remembered.
    pub fn last_seen(&self, id: &str) -> Option<Timestamp> {
        let state = self.state.lock();
        state.gone[0].get(id).or_else(|| state.gone[1].get(id)).copied()
    }

    /// The user's clients in all namespaces.
    pub fn clients(&self, id: &UserId) -> Vec<Arc<Client>> {
        self.state.lock().online.get(id).map(|entry| entry.user.clients.clone()).unwrap_or_default()
    }

    /// The user's clients in all namespaces, and those that have lost their connection and may come back.
    pub fn clients_and_lost(&self, id: &UserId) -> (Vec<Arc<Client>>, Vec<Arc<Client>>) {
        let state = self.state.lock();
        let clients = state.online.get(id).map(|entry| entry.user.clients.clone());
        (clients.unwrap_or_default(), state.lost.get(id).cloned().unwrap_or_default())
    }

    /// Enters a client of the user that was lost on another node and may come back here.
    pub fn add_lost(&self, id: &UserId, client: Arc<Client>) {
        self.state.lock().lost.entry(id.clone()).or_default().push(client);
    }

    /// Forgets a client that was lost and will not come back.
    pub fn forget(&self, id: &UserId, client: &Arc<Client>) {
        self.state.lock().forget(id, |lost| Arc::ptr_eq(lost, client));
    }

    /// The number of users that are online.
    pub fn count(&self) -> usize {
        self.state.lock().online.len()
    }
}

impl State {
    fn forget(&mut self, id: &UserId, is_it: impl Fn(&Arc<Client>) -> bool) {
        let Some(lost) = self.lost.get_mut(id) else { return };
        lost.retain(|client| !is_it(client));
        if lost.is_empty() {
            self.lost.remove(id);
        }
    }
}
