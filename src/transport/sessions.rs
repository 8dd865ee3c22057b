//! The sessions of clients that began by polling, by their ids.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use socketioxide::socket::Sid;

use super::connection::Connection;

/// The sessions whose clients began by polling. A session removes itself at its end.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<Sid, Weak<Connection>>>);

impl Sessions {
    pub(super) fn insert(&self, id: Sid, connection: Weak<Connection>) {
        self.0.lock().insert(id, connection);
    }

    pub(super) fn find(&self, id: Sid) -> Option<Arc<Connection>> {
        self.0.lock().get(&id)?.upgrade()
    }

    pub(super) fn remove(&self, id: Sid) {
        self.0.lock().remove(&id);
    }

    /// Ends the sessions whose clients poll, and answers their waiting polls.
    pub(super) fn end(&self) {
        let all = std::mem::take(&mut *self.0.lock());
        for connection in all.into_values().filter_map(|connection| connection.upgrade()) {
            connection.end_polled();
        }
    }
}
