//! The one thread that writes: takes what is queued, stores it in one transaction, hands what was
//! committed to the tail, answers.

use std::{
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rusqlite::{Connection, TransactionBehavior::Immediate};
use tokio::sync::watch;

use super::{
    intake::{Command, Intake, Taken, Work},
    log::{Room, Window, expired_at},
    pending::Outcome,
    queue, receipts,
    rooms::Rooms,
    schema,
    sweep::{self, Progress, Sweep},
    types::{Committed, Settings, StoreError},
};

/// What the writer tells the others.
#[derive(Default)]
pub(super) struct Shared {
    pub commits: AtomicU64,
    pub failures: AtomicU64,
    pub entries: AtomicU64,
    pub last_commit_micros: AtomicU64,
    pub total_commit_micros: AtomicU64,
    pub rooms: AtomicU64,
    pub evictions: AtomicU64,
    /// Why, and since when (in milliseconds since 1970), commits fail.
    pub failing: Mutex<Option<(String, i64)>>,
}

/// Whatever way the thread ends, callers that wait learn of it, and the fields are closed in this
/// order.
pub(super) struct Writer<T> {
    pub intake: Arc<Intake>,
    pub shared: Arc<Shared>,
    pub settings: Settings,
    pub tail: T,
    pub rooms: Rooms,
    pub sweep: Sweep,
    /// How often the writer sweeps, and tries again after a failure.
    pub tick: Duration,
    /// Locked for a whole transaction, so that other users never find one open.
    pub conn: Arc<Mutex<Connection>>,
    #[expect(dead_code, reason = "held, not read")]
    pub lock: Option<File>,
    /// Dropped when everything above is.
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
    pub fn run(mut self) {
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
                let more = self.sweep() == Progress::More;
                next_tick = Instant::now() + if more { Duration::ZERO } else { self.tick };
            }
        }
        if let Err(error) = schema::end_run(&self.conn.lock()) {
            tracing::warn!(%error, "the store could not be checkpointed; the next start reads its log");
        }
    }

    fn write(&mut self, batch: Vec<Command>) {
        let begun = Instant::now();
        let mut committed = Vec::with_capacity(batch.len());
        let (works, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|command| (command.work, command.reply)).unzip();
        let done = self.transact(|conn, rooms, settings| {
            let mut budget = 2 * works.len() + 256;
            works
                .into_iter()
                .map(|work| perform(conn, rooms, settings, work, &mut budget, &mut committed))
                .collect::<rusqlite::Result<Vec<_>>>()
        });
        match done {
            Ok(outcomes) => {
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
                let failure = StoreError::Unavailable(error.to_string());
                for reply in replies {
                    let _ = reply.send(Err(failure.clone()));
                }
            }
        }
    }

    /// Sweeps one step; while commits fail, this also finds out whether they succeed again.
    fn sweep(&mut self) -> Progress {
        let mut sweep = std::mem::take(&mut self.sweep);
        let progress =
            self.transact(|conn, rooms, settings| sweep.step(conn, rooms, settings, sweep::ROWS));
        // After a failure the pass begins anew.
        progress.inspect(|_| self.sweep = sweep).unwrap_or(Progress::Later)
    }

    /// Runs `change` in one transaction. If it fails nothing is changed, on disk or in memory.
    fn transact<R>(
        &mut self,
        change: impl FnOnce(&Connection, &mut Rooms, &Settings) -> rusqlite::Result<R>,
    ) -> rusqlite::Result<R> {
        let rooms_before = self.rooms.counts();
        let failing = self.shared.failing.lock().is_some();
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
        drop(conn);
        let shared = &self.shared;
        match &result {
            Ok(_) => {
                let counts = self.rooms.counts();
                shared.rooms.store(counts.stored, Relaxed);
                shared.evictions.store(counts.evicted, Relaxed);
                if shared.failing.lock().take().is_some() {
                    tracing::info!("the store takes messages again");
                }
            }
            Err(error) => {
                self.rooms.reset(rooms_before);
                shared.failures.fetch_add(1, Relaxed);
                let mut failing = shared.failing.lock();
                let since = failing.take().map(|(_, since)| since);
                if since.is_none() {
                    tracing::error!(%error, "the store cannot take messages; it is tried again with every write");
                }
                *failing = Some((
                    error.to_string(),
                    since.unwrap_or_else(|| self.settings.clock.now_ms()),
                ));
            }
        }
        result
    }
}

/// Does one piece of work inside the transaction: the outer error ends the batch, the inner one
/// only this work.
fn perform(
    conn: &Connection,
    rooms: &mut Rooms,
    settings: &Settings,
    work: Work,
    budget: &mut usize,
    committed: &mut Vec<Committed>,
) -> rusqlite::Result<Result<Outcome, StoreError>> {
    match work {
        Work::Append { room: key, entry, except, sender } => {
            let room =
                match rooms.find_or_create(conn, &key, sender.as_ref(), entry.timestamp_ms)? {
                    Ok(room) => room,
                    Err(refusal) => return Ok(Err(refusal)),
                };
            room.append(conn, &entry, &except)?;
            let size = settings.history_size.max(1);
            if room.head + 1 - room.first >= size + Room::slack(size) {
                room.trim(conn, room.head + 1 - size, budget)?;
            }
            let position = room.newest();
            committed.push(Committed { room: key, position, entry, except });
            Ok(Ok(Outcome { number: position.offset, epoch: position.epoch }))
        }
        Work::Receipt { room, message_id, user, timestamp_ms } => {
            let recorded = match rooms.find(conn, &room)? {
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
        Work::Enqueue { user, sender, entry } => {
            let expired_at = expired_at(settings.clock.now_ms(), settings.queue_ttl);
            let seq = queue::enqueue(conn, settings, expired_at, &user, sender.as_ref(), &entry)?;
            Ok(seq.map(Outcome::from))
        }
        Work::Confirm { user, up_to } => Ok(Ok(queue::confirm(conn, &user, up_to)?.into())),
        Work::Sweep => {
            let mut sweep = Sweep::default();
            while sweep.step(conn, rooms, settings, usize::MAX)? != Progress::Finished {}
            Ok(Ok(0.into()))
        }
    }
}
