//! The embedded store of one node: every room's log, the receipts of its messages, and the offline
//! users' queues, in one SQLite file.
//!
//! ```text
//!  append ─► intake ─► writer thread: number, store, commit ─► tail (fan-out, in log order) ─► answer to the caller
//!                              │ committed
//!                              ▼
//!  read   ─► index: which messages the room has, and where ─► a connection of its own, beside the writer
//! ```
//!
//! All rooms share one [`log`] in the order of the commits, so that an append touches its newest page only; the
//! [`index`] in memory tells a room's messages. Trimming is forgetting there, and [`clean`] takes the space back.
//!
//! - **What is in the log is what was delivered**: the log tail gets a message only once it is committed,
//!   in log order. A batch that fails reaches nobody and takes no offset, and all its callers are told.
//! - **Group commit**: all waiting writes share one transaction. Commits begin a millisecond apart, so that
//!   a busy server pays for at most a thousand of them a second, and a quiet one answers at once.
//! - **Nothing grows without a bound**: rooms are trimmed by number and age, forgotten rooms by age, queues
//!   by both, the intake by number and bytes. Trimming is spread over the commits.
//! - **It recovers by itself**: if the whole store is bounded, history is trimmed before anything is
//!   refused ([`trim`]). On a full disk, old data can still be deleted, because a file beside the database
//!   keeps room for that ([`reserve`]).
//!
//! [`Location::Memory`] is the same code on a database that ends with the process.

mod batch;
mod checkpoint;
mod clean;
mod epoch;
mod evict;
mod held;
mod idempotency;
mod index;
mod intake;
mod keys;
mod load;
mod log;
mod migrate;
mod outbox;
mod queue;
mod reader;
mod receipts;
mod reserve;
mod revocations;
mod rooms;
mod schema;
mod shared;
mod space;
mod sweep;
#[cfg(test)]
mod tests;
mod told;
mod trim;
mod webhook_content;
mod writer;

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

pub(super) use self::intake::Work;
pub use self::schema::OpenError;
use self::{
    checkpoint::Checkpoints,
    epoch::Epochs,
    evict::{InUse, Place},
    held::Room,
    index::Index,
    intake::{Command, Intake},
    load::Loaded,
    log::{Window, expired_at},
    reader::{Missing, Readers},
    reserve::Reserve,
    rooms::Rooms,
    shared::Shared,
    space::Space,
    writer::Writer,
};
use super::{
    backlog::Limits,
    pending::{self, Answer},
    types::{
        self, Committed, Extent, Health, Location, Page, Query, QueuedItem, RoomKey, Settings,
        Stats, StoreError,
    },
    webhook::{Announcement, Fact, FailedPlace, FailedWebhook, StoredWebhook, Stream},
};
use crate::protocol::names::UserId;

/// The embedded store; it ends with [`Embedded::close`] or when it is dropped.
pub(super) struct Embedded {
    intake: Arc<Intake>,
    shared: Arc<Shared>,
    readers: Readers,
    index: Arc<Index>,
    epochs: Epochs,
    settings: Settings,
    ended: watch::Receiver<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
    #[cfg(test)]
    writer: std::sync::Weak<Mutex<rusqlite::Connection>>,
}

/// What only tests change.
pub(super) struct Tuning {
    pub limits: Limits,
    /// Identifies this run of the machine.
    pub boot: Option<String>,
    /// How often the writer sweeps, and tries again after a failure.
    pub tick: Duration,
    /// After this many ticks without a failure the store counts as working.
    pub settle: u32,
    /// The bytes on the disk reserved for deleting old data when the disk is full.
    pub reserve: u64,
    /// The bytes of records that no room has any more whose space is not taken back yet, besides a tenth of the log.
    pub untidy: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            boot: schema::boot_id(),
            tick: Duration::from_secs(1),
            settle: 10,
            reserve: 16_777_216,
            untidy: 1_000_000,
        }
    }
}

impl Embedded {
    /// Opens or creates the store; see [`super::Store::open`].
    pub(super) fn open(
        settings: Settings,
        tuning: Tuning,
        tail: impl FnMut(&[Committed]) + Send + 'static,
        in_use: InUse,
    ) -> Result<Self, OpenError> {
        let Tuning { limits, boot, tick, settle, reserve, untidy } = tuning;
        let mut reserve = Reserve::of(&settings.location, reserve);
        let mut opened = match schema::open(&settings, boot.as_deref()) {
            Err(OpenError::Sqlite { source, .. } | OpenError::NoRoom { source, .. })
                if space::is_want_of_room(&source) && reserve.release() =>
            {
                schema::open(&settings, boot.as_deref())
            }
            opened => opened,
        }?;
        reserve.take();
        let path = match &settings.location {
            Location::File(path) => path.clone(),
            Location::Memory => "memory:".into(),
        };
        let place = Place::new(&settings, in_use);
        let Loaded { index, next_place, next_room } = opened.loaded;
        let index = Arc::new(index);
        let rooms = Rooms::new(Arc::clone(&index), opened.epochs, place, next_place, next_room);
        let shared = Arc::new(Shared::default());
        shared.rooms.store(rooms.counts().stored, Relaxed);
        let webhooks = outbox::count(&opened.conn)
            .map_err(|source| OpenError::Sqlite { path: path.clone(), source })?;
        shared.webhooks.store(webhooks, Relaxed);
        let keys = idempotency::load(&opened.conn)
            .map_err(|source| OpenError::Sqlite { path: path.clone(), source })?;
        shared.key_bytes.store(keys.bytes() as u64, Relaxed);
        let intake = Arc::new(Intake::new(limits));
        let checkpoints = opened
            .files
            .as_ref()
            .map(|files| Checkpoints::begin(&path, Arc::clone(&files.database), &mut opened.conn));
        let checkpoints = checkpoints
            .transpose()
            .map_err(|source| OpenError::Io { path: path.clone(), source })?;
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
            keys,
            sweep: sweep::Sweep::default(),
            clean: clean::Clean::default(),
            space: Space::new(reserve, settings.store_max_bytes, untidy),
            settle,
            tick,
            checkpoints,
            conn,
            files: opened.files,
            alive,
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run())
            .map_err(|source| OpenError::Io { path, source })?;
        Ok(Self {
            intake,
            shared,
            readers,
            index,
            epochs: opened.epochs,
            settings,
            ended,
            thread: Mutex::new(Some(thread)),
            #[cfg(test)]
            writer: weak,
        })
    }

    pub(super) fn announce(&self, announcement: Announcement) {
        // Nobody waits for the answer. What fails after this, the writer counts.
        let (reply, _) = oneshot::channel();
        if !self.intake.push(Command { work: Work::Announce(announcement), reply }) {
            self.shared.webhooks_dropped.fetch_add(1, Relaxed);
        }
    }

    pub(super) async fn changed_streams(&self) -> HashSet<Stream> {
        self.shared.outbox.changed().await
    }

    pub(super) async fn webhooks_hurried(&self) {
        self.shared.outbox.hurried.notified().await;
    }

    pub(super) fn hurry_webhooks(&self) {
        self.shared.outbox.hurried.notify_one();
    }

    pub(super) async fn failed_webhook_count(&self) -> Result<u64, StoreError> {
        self.readers.run(outbox::count_failed).await
    }

    pub(super) async fn failed_webhooks(
        &self,
        after: FailedPlace,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<FailedWebhook>, StoreError> {
        self.readers.run(move |conn| outbox::failed(conn, after, limit, max_bytes)).await
    }

    pub(super) async fn failed_webhook_ids(
        &self,
        after: FailedPlace,
        limit: usize,
    ) -> Result<Vec<(FailedPlace, String)>, StoreError> {
        self.readers.run(move |conn| outbox::failed_ids(conn, after, limit)).await
    }

    pub(super) async fn webhook_streams(&self) -> Result<HashSet<Stream>, StoreError> {
        self.readers.run(outbox::streams).await
    }

    pub(super) async fn webhooks(
        &self,
        stream: Stream,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<StoredWebhook>, StoreError> {
        self.readers.run(move |conn| outbox::page(conn, stream, limit, max_bytes)).await
    }

    pub(super) async fn webhook_facts(&self) -> Result<Vec<Fact>, StoreError> {
        self.readers.run(told::facts).await
    }

    pub(super) async fn revocations(&self) -> Result<Vec<String>, StoreError> {
        let now = self.settings.clock.now_ms();
        self.readers.run(move |conn| revocations::all(conn, now)).await
    }

    pub(super) async fn read(&self, room: &RoomKey, query: Query) -> Result<Page, StoreError> {
        loop {
            let view = self.index.view(self.epochs, self.window(), room, query);
            let read = self.readers.run(move |conn| reader::page(conn, &view, query)).await?;
            match read {
                Ok(page) => return Ok(page),
                Err(missing) => self.check(missing)?,
            }
        }
    }

    /// How far the room reaches: no read, and never fails while the store is open.
    pub(super) fn extent(&self, room: &RoomKey) -> Result<Extent, StoreError> {
        self.readers.check_open()?;
        Ok(self.index.extent(self.epochs, self.window(), room))
    }

    pub(super) async fn find_by_message_id(
        &self,
        room: &RoomKey,
        message_id: &str,
    ) -> Result<Option<u64>, StoreError> {
        self.readers.check_open()?;
        loop {
            let Some(Room { id, .. }) = self.index.room(room) else { return Ok(None) };
            let found = self.index.with_id(id, self.window(), message_id);
            if found.is_empty() {
                return Ok(None);
            }
            let message_id = message_id.to_owned();
            let read = self.readers.run(move |conn| reader::find(conn, id, &found, &message_id));
            match read.await? {
                Ok(found) => return Ok(found),
                Err(missing) => self.check(missing)?,
            }
        }
    }

    /// Whether to look again for a message that was not where the index had it: not if it still has it there.
    fn check(&self, missing: Missing) -> Result<(), StoreError> {
        if self.index.is_at(missing.room, missing.offset, missing.place) {
            return Err(missing.damaged());
        }
        Ok(())
    }

    pub(super) async fn queued(
        &self,
        user: &UserId,
        after_seq: u64,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<QueuedItem>, StoreError> {
        let (expired_at, user) = (self.queue_expired_at(), user.clone());
        self.readers
            .run(move |conn| queue::read(conn, expired_at, &user, after_seq, limit, max_bytes))
            .await
    }

    pub(super) async fn queue_len(&self, user: &UserId) -> Result<u64, StoreError> {
        let (expired_at, user) = (self.queue_expired_at(), user.clone());
        self.readers.run(move |conn| queue::len(conn, expired_at, &user)).await
    }

    pub(super) fn health(&self) -> Health {
        if self.intake.is_closed() {
            return Health::Closed;
        }
        self.shared.health()
    }

    pub(super) fn stats(&self) -> Stats {
        let (queued, queued_bytes) = self.intake.depth();
        let stats = self.shared.stats();
        Stats {
            queued: queued as u64,
            queued_bytes: queued_bytes as u64,
            index_bytes: self.index.totals().index as u64 + stats.index_bytes,
            ..stats
        }
    }

    /// Refuses everything from now on, finishes the writes that were taken in, and closes the file.
    pub(super) async fn close(&self) {
        self.intake.close();
        self.readers.close();
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    pub(super) fn location(&self) -> &Location {
        &self.settings.location
    }

    /// Takes work in for the writer.
    pub(super) fn submit(&self, work: Work) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.intake.push(Command { work, reply });
        answer
    }

    fn window(&self) -> Window {
        Window::new(&self.settings)
    }

    fn queue_expired_at(&self) -> i64 {
        expired_at(self.settings.clock.now_ms(), self.settings.queue_ttl)
    }
}

impl Drop for Embedded {
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
