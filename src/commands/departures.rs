//! The sessions that other nodes are about to take over.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
    vec,
};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::{
    hub::{
        Client,
        sender::journal::{Journal, Parcel},
    },
    memory::Charge,
};

/// How many sessions may be on their way to other nodes.
const MAX: usize = 1000;

/// How many clients may be waiting for their sessions from other nodes to be brought; others wait.
const MAX_ARRIVING: usize = 64;

/// For how long a node is not asked again that has not answered.
const SILENT: Duration = Duration::from_secs(5);

/// The sessions that other nodes are about to take over, and those that come from them.
#[derive(Debug)]
pub struct Departures {
    moves: Mutex<HashMap<String, Move>>,
    /// The nodes that did not answer, and when that was found.
    silent: Mutex<HashMap<String, Instant>>,
    /// How many more sessions may be brought from other nodes at once.
    pub(super) arrivals: Semaphore,
}

/// A session on its way, by what the other node calls its move.
#[derive(Debug)]
pub(super) enum Move {
    /// It is claimed for the other node.
    Held(Held),
    /// It is handed over; these parts of it, with this size, are still to be fetched.
    Parts(vec::IntoIter<Vec<Parcel>>, Charge),
}

/// A session that is claimed for another node. Dropped, it is given back.
#[derive(Debug)]
pub(super) struct Held {
    pub journal: Arc<Journal>,
    pub client: Arc<Client>,
    /// The newest offset that its client has.
    pub offset: Option<u64>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.journal.unclaim();
    }
}

impl Default for Departures {
    fn default() -> Self {
        Self {
            moves: Mutex::default(),
            silent: Mutex::default(),
            arrivals: Semaphore::new(MAX_ARRIVING),
        }
    }
}

impl Departures {
    /// Keeps a move; false, with nothing done, if there are too many.
    pub(super) fn add(&self, name: &str, step: Move) -> bool {
        let mut moves = self.moves.lock();
        let fits = moves.len() < MAX && !moves.contains_key(name);
        if fits {
            moves.insert(name.to_owned(), step);
        }
        fits
    }

    /// Whether a node has not answered a moment ago: its other clients need not wait for it, too.
    pub(super) fn is_silent(&self, node: &str) -> bool {
        let mut silent = self.silent.lock();
        silent.retain(|_, since| since.elapsed() < SILENT);
        silent.contains_key(node)
    }

    /// A node has not answered.
    pub(super) fn note_silence(&self, node: &str) {
        self.silent.lock().insert(node.to_owned(), Instant::now());
    }

    /// Takes a move out.
    pub(super) fn take(&self, name: &str) -> Option<Move> {
        self.moves.lock().remove(name)
    }
}
