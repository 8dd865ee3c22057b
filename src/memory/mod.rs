//! What the server holds for its clients, in bytes: one [`Account`] for each connection, and a budget
//! of the whole process above them.
//!
//! Whatever is held for a connection is charged to its account: what is to be sent to it, what it has sent
//! that is not processed yet, what is kept of its requests. `SEND_BUFFER` bounds each of an account's two
//! sides, outgoing and incoming (incoming: six messages of `MAX_PAYLOAD`, if that is more).
//!
//! `MEMORY_LIMIT` bounds the process. A thread checks its memory ten times a second ([`watch`]), and more
//! often near the limit. From nine tenths of the limit on, until it is back at eight, the connections that
//! hold most are cut off and new ones are refused. At the limit itself events and requests are refused, too.
//!
//! This module is a leaf: everything but the configuration may import it.

mod account;
mod system;
mod watch;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use crate::{
    config::{Config, MemoryLimit},
    protocol::refusal::{Code, Refusal},
};

pub use self::{
    account::{Account, Charge, Slow, Transport},
    watch::watch,
};

/// When to retry after a refusal: the connections that are cut off are gone by then.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What one account may hold, and what all of them may.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// What one connection may have unsent, in bytes.
    pub outgoing: usize,
    /// What one connection may have sent that is not processed yet, in bytes.
    pub incoming: usize,
    /// What the process may use, in bytes; 0 for no limit.
    pub process: u64,
}

impl Limits {
    /// Those of the configuration.
    pub fn of(config: &Config) -> Self {
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let outgoing = bytes(config.send_buffer);
        // Beside what waits when reading stops, there is room for the message being read then and one more
        // that has begun, each with attachments.
        let incoming = outgoing.max(bytes(config.max_payload.saturating_mul(6)));
        let process = match config.memory_limit {
            MemoryLimit::Bytes(bytes) => bytes,
            MemoryLimit::Percent(percent) => {
                system::available().map_or(0, |bytes| bytes / 100 * u64::from(percent))
            }
        };
        Self { outgoing, incoming, process }
    }
}

/// How near the process is to its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Far from the limit.
    Calm,
    /// Near: new connections are refused, and those that hold most are cut off.
    Near,
    /// At or over the limit: whatever would need more memory is refused.
    Over,
}

/// All accounts, and the budget above them; clones are handles to the same one.
#[derive(Clone)]
pub struct Memory(Arc<Shared>);

struct Shared {
    limits: Limits,
    table: Mutex<Table>,
    level: AtomicU8,
    /// How many connections were cut off, by reason.
    cut_off: [AtomicU64; Slow::ALL.len()],
}

/// The accounts by number.
#[derive(Default)]
struct Table {
    next: u64,
    accounts: HashMap<u64, Weak<Account>>,
}

/// The sum of all accounts, and the largest one, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// All of them together.
    pub all: usize,
    /// The largest one.
    pub largest: usize,
}

impl Memory {
    /// A budget without accounts.
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Shared {
            limits,
            table: Mutex::default(),
            level: AtomicU8::new(Level::Calm as u8),
            cut_off: Default::default(),
        }))
    }

    /// What accounts may hold.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// An account for a new connection.
    pub fn open_account(&self) -> Arc<Account> {
        let mut table = self.0.table.lock();
        let id = table.next;
        table.next += 1;
        let account = Arc::new(Account::new(self.clone(), id));
        table.accounts.insert(id, Arc::downgrade(&account));
        account
    }

    /// How near the process is to its limit.
    pub fn level(&self) -> Level {
        match self.0.level.load(Ordering::Relaxed) {
            0 => Level::Calm,
            1 => Level::Near,
            _ => Level::Over,
        }
    }

    /// Refuses a new connection while the process is near its limit.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn check_connection(&self) -> Result<(), Refusal> {
        self.check_below(Level::Near)
    }

    /// Refuses an event or a request while the process is over its limit.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn check_work(&self) -> Result<(), Refusal> {
        self.check_below(Level::Over)
    }

    fn check_below(&self, level: Level) -> Result<(), Refusal> {
        if self.level() < level {
            return Ok(());
        }
        let message = "the server is short of memory; try again later";
        Err(Refusal::new(Code::Unavailable, message).after(RETRY_AFTER))
    }

    /// What the accounts hold.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for account in self.accounts() {
            let held = account.total();
            totals.all += held;
            totals.largest = totals.largest.max(held);
        }
        totals
    }

    /// How many connections were cut off, by reason.
    pub fn cut_off(&self) -> impl Iterator<Item = (Slow, u64)> {
        Slow::ALL.into_iter().zip(&self.0.cut_off).map(|(why, n)| (why, n.load(Ordering::Relaxed)))
    }

    fn accounts(&self) -> Vec<Arc<Account>> {
        let weak = self.0.table.lock().accounts.values().cloned().collect::<Vec<_>>();
        weak.iter().filter_map(Weak::upgrade).collect()
    }

    fn count_cut_off(&self, why: Slow) {
        self.0.cut_off[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn set_level(&self, level: Level) {
        self.0.level.store(level as u8, Ordering::Relaxed);
    }

    fn close_account(&self, id: u64) {
        self.0.table.lock().accounts.remove(&id);
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}
