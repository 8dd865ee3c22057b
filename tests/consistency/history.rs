//! What every client did and saw, and what was done to the servers, in the order in which it happened.
//!
//! A run only records. Whether what it recorded may be is decided afterwards, by `checker`, from the
//! records alone.

use std::{
    fmt,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// One of the run's clients, whatever connections it has one after the other.
pub type ClientNo = usize;
/// One connection of one client; never used twice.
pub type ConnectionNo = usize;

/// A place in a room's log, as the server tells it: offsets of different epochs cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    pub offset: u64,
    /// `None` where a client does not know it.
    pub epoch: Option<String>,
}

/// What the acknowledgement of a join says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    pub offset: u64,
    pub epoch: String,
    /// Where the join asked to recover.
    pub recovered: Option<bool>,
    pub missed: u64,
}

/// A page of a room's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub epoch: String,
    /// Where the next page begins.
    pub offset: u64,
    pub complete: bool,
    /// Offsets and ids, as they came.
    pub items: Vec<(u64, String)>,
}

/// An answer: what was asked for, or the code of the refusal.
pub type Answer<T> = Result<T, String>;

/// What a run promises to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Messages expire during the run: rooms are forgotten and begin again.
    pub expires: bool,
    /// A message that was refused may be stored all the same: the connection to Redis may break in between.
    pub refusals_are_doubtful: bool,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The run begins.
    Began(Terms),
    /// The client's user is connected to a node.
    Connected {
        user: String,
        node: usize,
    },
    /// The connection is over, whoever ended it.
    Ended {
        why: String,
    },
    JoinAsked {
        room: String,
        from: Option<Position>,
    },
    JoinAnswered {
        room: String,
        answer: Answer<Joined>,
    },
    LeaveAsked {
        room: String,
    },
    LeaveAnswered {
        room: String,
        answer: Answer<()>,
    },
    /// A message is sent; `left_out` names a connection that is not to get it live.
    SendAsked {
        id: String,
        room: String,
        left_out: Option<ConnectionNo>,
    },
    SendAnswered {
        id: String,
        answer: Answer<u64>,
    },
    /// A message of a room has come, live or replayed.
    Received {
        room: String,
        offset: u64,
        id: String,
    },
    PageAsked {
        room: String,
        after: u64,
    },
    /// The page's messages are here alone, and nowhere as `Received`.
    PageAnswered {
        room: String,
        after: u64,
        answer: Answer<Page>,
    },
    PrivateAsked {
        id: String,
        to: String,
    },
    /// Whether it was queued, or else delivered.
    PrivateAnswered {
        id: String,
        answer: Answer<Queued>,
    },
    PrivateReceived {
        id: String,
    },
    /// A node that knows nothing of the time before may be the first that comes to a restarted Redis. It cannot tell whether
    /// that has everything, so all epochs may change.
    NobodyCanTell,
    /// Something was done to the servers. `loses`: what was acknowledged until it ends may be gone.
    FaultBegan {
        what: String,
        loses: bool,
    },
    FaultEnded {
        what: String,
    },
    /// Everything is healed and everyone is back: from now on nothing is disturbed.
    Quiet,
}

/// Whether a private message waits in the store.
pub type Queued = bool;

/// An event, who it happened to, and when.
#[derive(Debug, Clone)]
pub struct Record {
    pub at: Duration,
    /// Nobody for what concerns the run or the servers.
    pub who: Option<(ClientNo, ConnectionNo)>,
    pub event: Event,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>7} ms  ", self.at.as_millis())?;
        match self.who {
            Some((client, connection)) => write!(f, "client {client} on {connection:<3}  ")?,
            None => write!(f, "{:17}", "")?,
        }
        write!(f, "{:?}", self.event)
    }
}

/// The records of a run that is under way.
pub struct History {
    begun: Instant,
    records: Mutex<Vec<Record>>,
}

impl History {
    pub fn begin(terms: Terms) -> Self {
        let history = Self { begun: Instant::now(), records: Mutex::default() };
        history.note(None, Event::Began(terms));
        history
    }

    /// Notes what happens to a client, or, without one, to the run.
    pub fn note(&self, who: Option<(ClientNo, ConnectionNo)>, event: Event) {
        let mut records = self.records.lock();
        // Under the lock, so that times grow with the places.
        let at = self.begun.elapsed();
        records.push(Record { at, who, event });
    }

    /// What is to be known of everything until now.
    pub fn look<T>(&self, look: impl FnOnce(&[Record]) -> T) -> T {
        look(&self.records.lock())
    }
}
