//! The embedded store of one node: every room's log, the receipts of its messages, and the offline
//! users' queues, in one SQLite file.
//!
//! ```text
//!  append ─► intake ─► writer thread: number, store, commit ─► tail (fan-out, in log order) ─► answer to the caller
//!  read   ─► a connection of its own, beside the writer
//! ```
//!
//! - **What is in the log is what was delivered**: the tail gets a message only when it is
//!   committed, and in the order of the log; a batch that fails reaches nobody, takes no offset,
//!   and every caller of it is told.
//! - **Group commit**: whatever waits is written in one transaction; commits begin a millisecond
//!   apart, so that a busy server pays for a thousand of them a second at most, and a quiet one
//!   answers at once.
//! - **Nothing grows without a bound**: rooms are trimmed by number and age, forgotten rooms by
//!   age, queues by both, the intake by number and bytes; and trimming is spread over the commits.
//!
//! [`Location::Memory`] is the same code on a database that ends with the process.

mod epoch;
mod intake;
mod log;
mod queue;
mod reader;
mod receipts;
mod rooms;
mod schema;
mod sweep;
#[cfg(test)]
mod tests;
mod types;
mod writer;

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use self::{
    epoch::Epochs,
    intake::{Command, Intake, Limits, Outcome, Work},
    log::{Window, expired_at},
    reader::Readers,
    rooms::Rooms,
    writer::{Shared, Writer},
};
pub use self::{
    epoch::{Epoch, EpochError},
    receipts::MAX_RECEIPTS,
    schema::OpenError,
    types::{
        Append, Appended, Clock, Committed, Entry, Health, Location, Page, Position, Query,
        QueuedItem, Receipt, RoomKey, Settings, Stats, StoreError, Stored, Sync,
    },
};
use crate::names::UserId;

/// The store; clones are handles to the same one. It ends with [`Store::close`] or its last handle.
///
/// Reads need a Tokio runtime; writes may be submitted from anywhere.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    intake: Arc<Intake>,
    shared: Arc<Shared>,
    readers: Readers,
    epochs: Epochs,
    settings: Settings,
    ended: watch::Receiver<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
    #[cfg(test)]
    writer: std::sync::Weak<Mutex<rusqlite::Connection>>,
}

/// What only tests set otherwise.
struct Tuning {
    limits: Limits,
    /// This run of the machine.
    boot: Option<String>,
    /// Rooms that the writer remembers; some 200 bytes each.
    known_rooms: usize,
    /// How often the writer sweeps, and tries again after a failure.
    tick: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            boot: schema::boot_id(),
            known_rooms: 50_000,
            tick: Duration::from_secs(1),
        }
    }
}

impl Store {
    /// Opens or creates the store.
    ///
    /// `tail` gets every committed room message, in the order of the log, on the writer's thread:
    /// it must neither block nor own a handle to this store, which would then never end.
    ///
    /// An existing file is examined first, so this takes up to some seconds; a file that is refused
    /// is left untouched.
    pub fn open(
        settings: Settings,
        tail: impl FnMut(&[Committed]) + Send + 'static,
    ) -> Result<Self, OpenError> {
        Self::open_tuned(settings, Tuning::default(), tail)
    }

    fn open_tuned(
        settings: Settings,
        tuning: Tuning,
        tail: impl FnMut(&[Committed]) + Send + 'static,
    ) -> Result<Self, OpenError> {
        let Tuning { limits, boot, known_rooms, tick } = tuning;
        let opened = schema::open(&settings, boot.as_deref())?;
        let path = match &settings.location {
            Location::File(path) => path.clone(),
            Location::Memory => "memory:".into(),
        };
        let rooms = Rooms::new(&opened.conn, opened.epochs, known_rooms, settings.max_rooms)
            .map_err(|source| OpenError::Sqlite { path: path.clone(), source })?;
        let shared = Arc::new(Shared::default());
        shared.rooms.store(rooms.count(), Relaxed);
        let intake = Arc::new(Intake::new(limits));
        let conn = Arc::new(Mutex::new(opened.conn));
        let readers = match &settings.location {
            Location::File(path) => Readers::of_file(path.clone()),
            Location::Memory => Readers::of_memory(Arc::clone(&conn)),
        };
        #[cfg(test)]
        let weak = Arc::downgrade(&conn);
        let (alive, ended) = watch::channel(());
        let writer = Writer {
            intake: Arc::clone(&intake),
            shared: Arc::clone(&shared),
            settings: settings.clone(),
            tail,
            rooms,
            sweep: sweep::Sweep::default(),
            tick,
            conn,
            lock: opened.lock,
            alive,
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run())
            .map_err(|source| OpenError::Io { path, source })?;
        let inner = Inner {
            intake,
            shared,
            readers,
            epochs: opened.epochs,
            settings,
            ended,
            thread: Mutex::new(Some(thread)),
            #[cfg(test)]
            writer: weak,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Adds a message to its room's log. It is taken in during this call, so the order of calls is
    /// the order of the log; the answer comes when it is committed, after the tail got it. Dropping
    /// the answer does not take the message back.
    ///
    /// Await one append before the next, or bound how many are under way: beyond 100,000 writes or
    /// 512 MB that wait for the disk, further ones are refused.
    pub fn append(&self, Append { room, entry, except }: Append) -> Pending<Appended> {
        self.submit(Work::Append { room, entry: Arc::new(entry), except }, |outcome| Appended {
            offset: outcome.number,
            epoch: outcome.epoch,
        })
    }

    /// Records that `user` has read the newest message of the room with this id: `false` if no such
    /// message can be read or it has [`MAX_RECEIPTS`]. A user's first receipt of a message stays; a
    /// second one is `true` and changes nothing.
    pub fn record_receipt(
        &self,
        room: RoomKey,
        message_id: String,
        user: UserId,
        timestamp_ms: i64,
    ) -> Pending<bool> {
        self.submit(Work::Receipt { room, message_id, user, timestamp_ms }, |outcome| {
            outcome.number == 1
        })
    }

    /// Queues a message for an offline user and returns its place. A `sender` (whatever names one;
    /// without: a backend) may hold a tenth of the queue, rounded up.
    pub fn enqueue(&self, user: UserId, sender: Option<String>, entry: Entry) -> Pending<u64> {
        self.submit(Work::Enqueue { user, sender, entry }, |outcome| outcome.number)
    }

    /// Removes the user's queued messages up to and with the place `up_to`; returns how many those
    /// were.
    pub fn confirm(&self, user: UserId, up_to: u64) -> Pending<u64> {
        self.submit(Work::Confirm { user, up_to }, |outcome| outcome.number)
    }

    /// Deletes now everything that is too old. The writer does so by itself, a little every second.
    pub fn sweep(&self) -> Pending<()> {
        self.submit(Work::Sweep, |_| ())
    }

    /// Reads a part of a room's history.
    pub async fn read(&self, room: &RoomKey, query: Query) -> Result<Page, StoreError> {
        let (epochs, window, room) = (self.inner.epochs, self.window(), room.clone());
        self.inner.readers.run(move |conn| reader::page(conn, epochs, window, &room, query)).await
    }

    /// How far a room's history reaches. A room that was never written has a head of 0 and already
    /// the epoch that its first message will have (but see [`Epoch`]'s module: it may change while
    /// the room stays unwritten); asking stores nothing.
    pub async fn position(&self, room: &RoomKey) -> Result<Position, StoreError> {
        let (epochs, window, room) = (self.inner.epochs, self.window(), room.clone());
        self.inner
            .readers
            .run(move |conn| {
                log::position(conn, epochs, window, &room).map(|(position, _)| position)
            })
            .await
    }

    /// The offset of the room's newest readable message with this id.
    pub async fn find_by_message_id(
        &self,
        room: &RoomKey,
        message_id: &str,
    ) -> Result<Option<u64>, StoreError> {
        let (epochs, window) = (self.inner.epochs, self.window());
        let (room, id) = (room.clone(), message_id.to_owned());
        self.inner
            .readers
            .run(move |conn| match log::Room::load(conn, epochs, &room)? {
                Some(room) => room.find(conn, window, &id),
                None => Ok(None),
            })
            .await
    }

    /// The user's queued messages after the place `after_seq`, in order: at most `limit` of them,
    /// and at most `max_bytes` but always one if there is one.
    pub async fn queued(
        &self,
        user: &UserId,
        after_seq: u64,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<QueuedItem>, StoreError> {
        let (expired_at, user) = (self.queue_expired_at(), user.clone());
        self.inner
            .readers
            .run(move |conn| queue::read(conn, expired_at, &user, after_seq, limit, max_bytes))
            .await
    }

    /// How many messages wait for the user.
    pub async fn queue_len(&self, user: &UserId) -> Result<u64, StoreError> {
        let (expired_at, user) = (self.queue_expired_at(), user.clone());
        self.inner.readers.run(move |conn| queue::len(conn, expired_at, &user)).await
    }

    /// Whether the store can take messages.
    pub fn health(&self) -> Health {
        if self.inner.intake.is_closed() {
            return Health::Closed;
        }
        match &*self.inner.shared.failing.lock() {
            None => Health::Working,
            Some((reason, since_ms)) => {
                Health::Failing { reason: reason.clone(), since_ms: *since_ms }
            }
        }
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        let shared = &self.inner.shared;
        let (queued, queued_bytes) = self.inner.intake.depth();
        Stats {
            commits: shared.commits.load(Relaxed),
            failures: shared.failures.load(Relaxed),
            entries: shared.entries.load(Relaxed),
            last_commit_micros: shared.last_commit_micros.load(Relaxed),
            total_commit_micros: shared.total_commit_micros.load(Relaxed),
            queued: queued as u64,
            queued_bytes: queued_bytes as u64,
            rooms: shared.rooms.load(Relaxed),
        }
    }

    /// Refuses everything from now on, finishes the writes that were taken in, and lets go of the
    /// file.
    pub async fn close(&self) {
        self.inner.intake.close();
        self.inner.readers.close();
        let mut ended = self.inner.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    fn submit<T>(&self, work: Work, read: fn(Outcome) -> T) -> Pending<T> {
        let (reply, answer) = oneshot::channel();
        self.inner.intake.push(Command { work, reply });
        Pending { answer, read }
    }

    fn window(&self) -> Window {
        Window::new(&self.inner.settings)
    }

    fn queue_expired_at(&self) -> i64 {
        expired_at(self.inner.settings.clock.now_ms(), self.inner.settings.queue_ttl)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("location", &self.inner.settings.location)
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    /// Finishes what was taken in, and returns when the file can be opened again.
    fn drop(&mut self) {
        self.intake.close();
        self.readers.close();
        let thread = self.thread.get_mut().take();
        if let Some(thread) =
            thread.filter(|thread| thread.thread().id() != std::thread::current().id())
        {
            // A panic of the tail was reported where it happened.
            let _ = thread.join();
        }
    }
}

/// The answer to a write that was taken in.
#[must_use = "the write is under way, but only the answer tells whether it was stored"]
pub struct Pending<T> {
    answer: oneshot::Receiver<Result<Outcome, StoreError>>,
    read: fn(Outcome) -> T,
}

impl<T> Future for Pending<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let read = self.read;
        Pin::new(&mut self.answer).poll(context).map(|answer| match answer {
            Ok(outcome) => outcome.map(read),
            Err(_) => Err(StoreError::Unavailable("the store's writer has ended".into())),
        })
    }
}
