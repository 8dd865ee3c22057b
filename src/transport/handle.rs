//! Weak handles on connections.

use std::sync::{Arc, Weak, atomic::Ordering};

use super::connection::Connection;

/// A weak handle on a connection.
#[derive(Debug, Clone)]
pub struct Handle(Weak<Connection>);

impl Handle {
    /// A handle on this connection.
    pub(super) fn of(connection: &Arc<Connection>) -> Self {
        Self(Arc::downgrade(connection))
    }

    /// Ends the connection at once.
    pub fn break_off(&self) {
        if let Some(connection) = self.0.upgrade() {
            connection.break_off();
        }
    }

    /// Counts bytes kept of the handshake as held for the connection.
    pub fn keep(&self, bytes: usize) {
        if let Some(connection) = self.0.upgrade() {
            connection.kept.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Marks the connection as watched until [`unwatch`]; false if it is already.
    ///
    /// [`unwatch`]: Self::unwatch
    pub fn watch(&self) -> bool {
        self.0.upgrade().is_some_and(|connection| !connection.watched.swap(true, Ordering::AcqRel))
    }

    /// Ends the watch over the connection.
    pub fn unwatch(&self) {
        if let Some(connection) = self.0.upgrade() {
            connection.watched.store(false, Ordering::Release);
        }
    }

    /// Whether nothing can be sent any more.
    pub fn is_over(&self) -> bool {
        self.0.upgrade().is_none_or(|connection| connection.is_over())
    }

    /// Whether its client polls.
    pub fn is_polled(&self) -> bool {
        self.0.upgrade().is_some_and(|connection| connection.is_polled())
    }
}
