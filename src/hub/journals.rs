//! The journals of all sessions of this node.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    fmt,
    sync::Arc,
};

use super::{
    Client,
    sender::journal::{Bounds, Ended, Journal, Place},
};
use crate::{memory::Account, sync::Mutex};

/// The journals of this node, by their secrets.
#[derive(Default)]
pub struct Journals {
    all: Mutex<HashMap<Arc<str>, Arc<Journal>>>,
    away: Mutex<Away>,
}

/// Shows no secrets.
impl fmt::Debug for Journals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journals").finish_non_exhaustive()
    }
}

/// The journals whose clients are away.
#[derive(Debug, Default)]
struct Away {
    /// With what each weighs; those that left first are in front.
    queue: VecDeque<(Arc<Journal>, usize)>,
    /// What all weigh.
    weight: usize,
}

/// What all sessions without a connection weigh at most: each as much as it has rooms, and one.
const MAX_AWAY: usize = 100_000;

impl Journals {
    /// A journal for a new session with this secret, charged to this account.
    pub fn open(&self, pid: Arc<str>, bounds: Bounds, account: &Arc<Account>) -> Arc<Journal> {
        let journal = Arc::new(Journal::new(pid, bounds, account));
        self.all.lock().insert(journal.pid().clone(), journal.clone());
        journal
    }

    /// Enters the journal of a session that comes from another node; false if it is here already.
    pub fn add(&self, journal: &Arc<Journal>) -> bool {
        match self.all.lock().entry(journal.pid().clone()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(journal.clone());
                true
            }
        }
    }

    /// The journal with this secret.
    pub fn find(&self, pid: &str) -> Option<Arc<Journal>> {
        self.all.lock().get(pid).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Journal>> {
        self.all.lock().values().cloned().collect()
    }

    /// Remembers that the client, which is in this many rooms, is away; returns what has to be ended for it.
    pub fn add_away(&self, journal: Arc<Journal>, rooms: usize) -> Vec<Arc<Journal>> {
        let mut away = self.away.lock();
        away.queue.push_back((journal, rooms + 1));
        away.weight += rooms + 1;
        let mut too_many = Vec::new();
        while away.weight > MAX_AWAY
            && let Some((journal, weight)) = away.queue.pop_front()
        {
            away.weight -= weight;
            if journal.away().is_some() {
                too_many.push(journal);
            }
        }
        too_many
    }

    /// The sessions whose time is over; `all`: everyone that is away.
    pub fn take_over(&self, all: bool) -> Vec<Arc<Journal>> {
        let mut away = self.away.lock();
        let (mut over, mut weight) = (Vec::new(), away.weight);
        away.queue.retain(|(journal, own)| {
            let is_away = journal.away().is_some();
            let ends = is_away && (all || journal.is_over());
            if ends {
                over.push(journal.clone());
            }
            weight -= if ends || !is_away { *own } else { 0 };
            is_away && !ends
        });
        away.weight = weight;
        over
    }

    /// How many clients are away.
    pub fn count_away(&self) -> usize {
        self.away.lock().queue.iter().filter(|(journal, _)| journal.away().is_some()).count()
    }

    /// Ends a session, if it is where `place` says; returns the client that was away.
    pub fn end(&self, journal: &Journal, place: Place) -> Option<Arc<Client>> {
        match journal.end(place) {
            Ended::No => None,
            Ended::With(client) => {
                let mut all = self.all.lock();
                if all
                    .get(journal.pid())
                    .is_some_and(|known| std::ptr::eq(Arc::as_ptr(known), journal))
                {
                    all.remove(journal.pid());
                }
                client
            }
        }
    }
}
