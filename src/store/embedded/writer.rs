//! The one thread that writes: it takes what is queued, stores it in one transaction, hands what was
//! committed to the log tail, and answers.

use std::{
    fs::File,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rusqlite::{Connection, TransactionBehavior::Immediate};
use tokio::sync::watch;

use super::{
    idempotency,
    intake::{Command, Intake, Taken, Work},
    log::{Room, Window, expired_at},
    outbox::{self, Change},
    pending::{Outcome, Past},
    queue, receipts, revocations,
    rooms::Rooms,
    schema,
    shared::Shared,
    space::Space,
    sweep::{self, Progress, Sweep},
    trim::Trim,
    types::{Committed, Entry, RoomKey, Settings, StoreError},
};
use crate::{
    limits::SenderId,
    protocol::audience::Except,
    store::{idempotency::Once, webhook::Webhook},
};

/// Steps of the sweep on a full disk, one after the other, and the rows of each; few enough for the
/// reserve.
const SWEEPS: usize = 64;
const SWEPT: usize = 100;
/// Steps of trimming before a batch, and before one is refused.
const TRIMS: usize = 4;
const URGENT_TRIMS: usize = 64;

/// However the thread ends, waiting callers learn of it. The fields are dropped in this order.
pub(super) struct Writer<T> {
    pub intake: Arc<Intake>,
    pub shared: Arc<Shared>,
    pub settings: Settings,
    pub tail: T,
    pub rooms: Rooms,
    pub sweep: Sweep,
    pub space: Space,
    /// After this many ticks without a failure the store counts as working.
    pub settle: u32,
    /// How often the writer sweeps, and tries again after a failure.
    pub tick: Duration,
    /// Locked for a whole transaction, so that other users never find one open.
    pub conn: Arc<Mutex<Connection>>,
    #[expect(dead_code, reason = "held, not read")]
    pub lock: Option<File>,
    /// Dropped after everything above.
    #[expect(dead_code, reason = "its end is the message")]
    pub alive: watch::Sender<()>,
}

impl<T> Drop for Writer<T> {
    fn drop(&mut self) {
        self.intake.abandon();
    }
}

impl<T: FnMut(&[Committed])> Writer<T> {
    /// Works until the intake is closed and empty.
    pub(super) fn run(mut self) {
        let mut next_tick = Instant::now() + self.tick;
        let mut last_commit = Instant::now();
        loop {
            match self.intake.take(last_commit, next_tick) {
                Taken::Batch(batch) => {
                    last_commit = Instant::now();
                    self.write(batch);
                }
                Taken::Idle => {}
                Taken::Closed => break,
            }
            if Instant::now() >= next_tick {
                let more = self.tick();
                next_tick = Instant::now() + if more { Duration::ZERO } else { self.tick };
            }
        }
        if let Err(error) = schema::end_run(&self.conn.lock()) {
            tracing::warn!(%error, "the store could not be checkpointed; the next start reads its log");
        }
        self.space.reserve.take();
    }

    fn write(&mut self, batch: Vec<Command>) {
        if batch.iter().any(|command| matches!(command.work, Work::Sweep)) {
            self.tick();
        }
        let batch = self.admit(batch);
        if batch.is_empty() {
            return;
        }
        let begun = Instant::now();
        let mut committed = Vec::with_capacity(batch.len());
        let (works, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|command| (command.work, command.reply)).unzip();
        let announced = works.iter().filter(|work| matches!(work, Work::Announce(_))).count();
        let mut webhooks = Change::begin(&self.shared);
        let done = self.transact(|conn, rooms, settings| {
            let mut budget = 2 * works.len() + 256;
            let mut batch = Batch {
                conn,
                rooms,
                settings,
                webhooks: &mut webhooks,
                budget: &mut budget,
                committed: &mut committed,
            };
            works.into_iter().map(|work| batch.perform(work)).collect::<rusqlite::Result<Vec<_>>>()
        });
        match done {
            Ok(outcomes) => {
                webhooks.commit(&self.shared);
                let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.shared.commits.fetch_add(1, Relaxed);
                self.shared.last_commit_micros.store(micros, Relaxed);
                self.shared.total_commit_micros.fetch_add(micros, Relaxed);
                self.shared.entries.fetch_add(committed.len() as u64, Relaxed);
                if !committed.is_empty() {
                    (self.tail)(&committed);
                }
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    // A caller that is gone needs no answer.
                    let _ = reply.send(outcome);
                }
            }
            Err(error) => {
                self.shared.webhooks_dropped.fetch_add(announced as u64, Relaxed);
                let failure = StoreError::Unavailable(error.to_string());
                for reply in replies {
                    let _ = reply.send(Err(failure.clone()));
                }
            }
        }
    }

    /// Deletes what is too old and makes room if it is short; returns whether there is more to do at once.
    fn tick(&mut self) -> bool {
        if self.space.is_disk_full() {
            self.make_room();
        }
        let swept = self.sweep(sweep::ROWS);
        let trims = self.space.is_pressed() && self.trim(sweep::ROWS);
        if !self.space.is_disk_full() {
            self.space.reserve.take();
        }
        self.measure();
        let more = trims || swept == Some(Progress::More);
        if !more && swept.is_some() && self.space.refusal().is_none() {
            self.shared.succeeds(self.settle);
        }
        more
    }

    /// Sweeps one step; `None` if that failed. While writes fail, this also tests whether they succeed
    /// again.
    fn sweep(&mut self, rows: usize) -> Option<Progress> {
        let mut sweep = std::mem::take(&mut self.sweep);
        let mut webhooks = Change::begin(&self.shared);
        let progress = self.transact(|conn, rooms, settings| {
            webhooks.sweep(conn, settings)?;
            sweep.step(conn, rooms, settings, rows)
        });
        if progress.is_ok() {
            webhooks.commit(&self.shared);
        }
        // After a failure the pass begins anew.
        progress.inspect(|_| self.sweep = sweep).ok()
    }

    /// Trims history to make room; returns whether there is more to trim.
    fn trim(&mut self, rows: usize) -> bool {
        let mut trim = std::mem::replace(&mut self.space.trim, Trim::new(0));
        let now = self.settings.clock.now_ms();
        let trimmed = self.transact(|conn, rooms, _| trim.step(conn, rooms, now, rows));
        self.space.trim = trim;
        self.shared.trimmed.fetch_add(trimmed.as_ref().map_or(0, |trimmed| *trimmed), Relaxed);
        self.measure();
        trimmed.is_ok() && self.space.is_pressed() && !self.space.trim.is_exhausted()
    }

    /// On a full disk: deletes what is too old, giving up the reserve if necessary.
    fn make_room(&mut self) {
        // Writes the log back into the file, so that the log begins anew in the room that it has.
        self.checkpoint();
        if !self.sweep_all() && self.space.reserve.release() {
            tracing::warn!(
                "the disk is full: the store releases its reserve to delete expired data"
            );
            self.sweep_all();
        }
        self.checkpoint();
        let looked = self.space.look_for_room(&self.conn.lock());
        if let Err(error) = looked {
            tracing::debug!(%error, "the store's free room is not known");
        }
    }

    /// Sweeps in small steps, a bounded number of them; `false` if one failed.
    fn sweep_all(&mut self) -> bool {
        for _ in 0..SWEEPS {
            match self.sweep(SWEPT) {
                None => return false,
                Some(Progress::Finished) => break,
                Some(Progress::More | Progress::Later) => {}
            }
        }
        true
    }

    fn checkpoint(&self) {
        let conn = self.conn.lock();
        if let Err(error) = conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            tracing::debug!(%error, "the store's log could not be written back");
        }
    }

    fn measure(&mut self) {
        if let Err(error) = self.space.measure(&self.conn.lock()) {
            tracing::debug!(%error, "the store's size is not known");
        }
        self.shared.bytes.store(self.space.used(), Relaxed);
        match outbox::oldest(&self.conn.lock()) {
            Ok(at) => self.shared.oldest_webhook.store(at.unwrap_or(i64::MAX), Relaxed),
            Err(error) => tracing::debug!(%error, "the age of the oldest webhook is not known"),
        }
    }

    /// Trims history if room is short. If there is none, refuses the work that needs some.
    fn admit(&mut self, batch: Vec<Command>) -> Vec<Command> {
        let mut steps = 0;
        while self.space.is_pressed() && !self.space.is_disk_full() {
            let goes_on = self.trim(sweep::ROWS + 2 * batch.len());
            steps += 1;
            let enough = if self.space.refusal().is_some() { URGENT_TRIMS } else { TRIMS };
            if !goes_on || steps >= enough {
                break;
            }
        }
        let Some(reason) = self.space.refusal() else { return batch };
        let (refused, rest): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|command| command.work.wants_room());
        if !refused.is_empty() {
            self.shared.refused.fetch_add(refused.len() as u64, Relaxed);
            self.shared.fails(&reason, self.settings.clock.now_ms());
        }
        for command in refused {
            if matches!(command.work, Work::Announce(_)) {
                self.shared.webhooks_dropped.fetch_add(1, Relaxed);
            }
            let _ = command.reply.send(Err(StoreError::Full(reason.clone())));
        }
        rest
    }

    /// Runs `change` in one transaction. If it fails nothing is changed, on disk or in memory.
    fn transact<R>(
        &mut self,
        change: impl FnOnce(&Connection, &mut Rooms, &Settings) -> rusqlite::Result<R>,
    ) -> rusqlite::Result<R> {
        let rooms_before = self.rooms.counts();
        let failing = self.shared.is_failing();
        let mut conn = self.conn.lock();
        // A transaction that is dropped is rolled back.
        let result = conn.transaction_with_behavior(Immediate).and_then(|transaction| {
            if failing {
                // A transaction that changes nothing would succeed on a full disk.
                transaction.execute("UPDATE meta SET seed = seed", [])?;
            }
            let result = change(&transaction, &mut self.rooms, &self.settings)?;
            transaction.commit()?;
            Ok(result)
        });
        if result.is_ok() && self.space.is_limited() {
            // Cannot fail where a transaction has just succeeded.
            let _ = self.space.measure(&conn);
        }
        drop(conn);
        let shared = &self.shared;
        match &result {
            Ok(_) => {
                let counts = self.rooms.counts();
                shared.rooms.store(counts.stored, Relaxed);
                shared.evictions.store(counts.evicted, Relaxed);
            }
            Err(error) => {
                self.rooms.reset(rooms_before);
                shared.failures.fetch_add(1, Relaxed);
                shared.fails(&error.to_string(), self.settings.clock.now_ms());
                self.space.note_failure(error);
            }
        }
        result
    }
}

/// What the works of one transaction share.
struct Batch<'a> {
    conn: &'a Connection,
    rooms: &'a mut Rooms,
    settings: &'a Settings,
    webhooks: &'a mut Change,
    /// How many rows may still be trimmed.
    budget: &'a mut usize,
    committed: &'a mut Vec<Committed>,
}

impl Batch<'_> {
    /// Does one piece of work inside the transaction: the outer error ends the batch, the inner one
    /// only this work.
    fn perform(&mut self, work: Work) -> rusqlite::Result<Result<Outcome, StoreError>> {
        let Self { conn, settings, .. } = *self;
        match work {
            Work::Append { room, entry, except, sender, webhook, once } => {
                if let Some(known) = self.known(once.as_deref())? {
                    return Ok(known);
                }
                self.append(Append { room, entry, except, sender, webhook, once })
            }
            Work::Receipt { room, message_id, user, timestamp_ms } => {
                let recorded = match self.rooms.find(conn, &room)? {
                    Some(room) => receipts::record(
                        conn,
                        room,
                        Window::new(settings),
                        &message_id,
                        &user,
                        timestamp_ms,
                    )?,
                    None => false,
                };
                Ok(Ok(u64::from(recorded).into()))
            }
            Work::Enqueue { user, sender, entry, webhook, once } => {
                match self.known(once.as_deref())? {
                    // The caller's own claim.
                    None | Some(Ok(Outcome { past: Some(Past::UnderWay), .. })) => {}
                    Some(known) => return Ok(known),
                }
                let expired_at = expired_at(settings.clock.now_ms(), settings.queue_ttl);
                let seq =
                    queue::enqueue(conn, settings, expired_at, &user, sender.as_ref(), &entry)?;
                if let (Ok(_), Some(webhook)) = (&seq, &webhook) {
                    self.webhooks.insert_message(conn, settings, webhook, None)?;
                }
                if let (Ok(seq), Some(once)) = (&seq, &once) {
                    idempotency::remember(conn, settings, once, *seq)?;
                }
                Ok(seq.map(Outcome::from))
            }
            Work::Confirm { user, up_to } => Ok(Ok(queue::confirm(conn, &user, up_to)?.into())),
            Work::Announce(announcement) => {
                self.webhooks.announce(conn, settings, &announcement)?;
                Ok(Ok(1.into()))
            }
            Work::Tell(webhook) => {
                self.webhooks.insert_message(conn, settings, &webhook, None)?;
                Ok(Ok(1.into()))
            }
            Work::Settle(settled) => Ok(Ok(self.webhooks.settle(conn, settings, &settled)?.into())),
            Work::Revoke(revoked) => {
                let stored = revocations::revoke(conn, &revoked, settings.clock.now_ms())?;
                Ok(Ok(u64::from(stored).into()))
            }
            Work::Reinstate { id } => Ok(Ok(u64::from(revocations::reinstate(conn, &id)?).into())),
            Work::Claim { once, lease } => idempotency::claim(conn, settings, &once, lease),
            Work::SettleClaim(once) => {
                idempotency::settle(conn, settings, &once)?;
                Ok(Ok(1.into()))
            }
            Work::ReleaseClaim { key } => {
                idempotency::release(conn, &key)?;
                Ok(Ok(1.into()))
            }
            Work::Sweep => {
                let mut sweep = Sweep::default();
                while sweep.step(conn, self.rooms, settings, usize::MAX)? != Progress::Finished {}
                Ok(Ok(0.into()))
            }
        }
    }

    /// The outcome of a write that is not to happen now.
    fn known(&self, once: Option<&Once>) -> rusqlite::Result<Option<Result<Outcome, StoreError>>> {
        match once {
            Some(once) => idempotency::look_up(self.conn, self.settings, once),
            None => Ok(None),
        }
    }

    fn append(&mut self, append: Append) -> rusqlite::Result<Result<Outcome, StoreError>> {
        let Append { room: key, entry, except, sender, webhook, once } = append;
        let Self { conn, settings, .. } = *self;
        let found = self.rooms.find_or_create(conn, &key, sender.as_ref(), entry.timestamp_ms)?;
        let room = match found {
            Ok(room) => room,
            Err(refusal) => return Ok(Err(refusal)),
        };
        room.append(conn, &entry, &except)?;
        let size = settings.history_size.max(1);
        if room.head + 1 - room.first >= size + Room::slack(size) {
            room.trim(conn, room.head + 1 - size, self.budget)?;
        }
        let position = room.newest();
        if let Some(webhook) = &webhook {
            self.webhooks.insert_message(conn, settings, webhook, Some((position, &entry)))?;
        }
        if let Some(once) = &once {
            idempotency::remember(conn, settings, once, position.offset)?;
        }
        self.committed.push(Committed { room: key, position, entry, except });
        Ok(Ok(position.into()))
    }
}

/// A room message to be stored.
struct Append {
    room: RoomKey,
    entry: Arc<Entry>,
    except: Except,
    sender: Option<SenderId>,
    webhook: Option<Webhook>,
    once: Option<Box<Once>>,
}
