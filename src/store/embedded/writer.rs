//! The one thread that writes: it takes what is queued, stores it in one transaction, hands what was
//! committed to the log tail, and answers.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rusqlite::{Connection, TransactionBehavior::Immediate};
use tokio::sync::watch;

use super::{
    batch::Batch,
    checkpoint::Checkpoints,
    clean::Clean,
    index::Totals,
    intake::{Command, Intake, Taken, Work},
    keys::Keys,
    outbox::{self, Change},
    pending::Outcome,
    rooms::Rooms,
    schema::{self, Files},
    shared::Shared,
    space::Space,
    sweep::{self, Progress, Sweep},
    trim::Trim,
    types::{Committed, Settings, StoreError},
};

/// Steps of the sweep on a full disk, one after the other, and the rows of each; few enough for the
/// reserve.
const SWEEPS: usize = 64;
const SWEPT: usize = 100;
/// Steps of trimming, and of taking back space, before a batch, and before one is refused.
const STEPS: usize = 4;
const URGENT_STEPS: usize = 64;
/// Records looked at after a batch to take back space, besides two for each write of the batch.
const TIDIED: usize = 64;

/// What a change may use inside its transaction.
struct Inside<'a> {
    conn: &'a Connection,
    rooms: &'a mut Rooms,
    keys: &'a mut Keys,
    settings: &'a Settings,
}

/// However the thread ends, waiting callers learn of it. The fields are dropped in this order.
pub(super) struct Writer<T> {
    pub intake: Arc<Intake>,
    pub shared: Arc<Shared>,
    pub settings: Settings,
    pub tail: T,
    pub rooms: Rooms,
    pub keys: Keys,
    pub sweep: Sweep,
    pub clean: Clean,
    pub space: Space,
    /// After this many ticks without a failure the store counts as working.
    pub settle: u32,
    /// How often the writer sweeps, and tries again after a failure.
    pub tick: Duration,
    /// None in memory.
    pub checkpoints: Option<Checkpoints>,
    /// Locked for a whole transaction, so that other users never find one open.
    pub conn: Arc<Mutex<Connection>>,
    #[expect(dead_code, reason = "held, not read")]
    pub files: Option<Files>,
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
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.close();
        }
        if let Err(error) = schema::end_run(&self.conn.lock()) {
            tracing::warn!(%error, "the store could not be checkpointed; the next start reads its log");
        }
        self.space.reserve.take();
    }

    fn write(&mut self, batch: Vec<Command>) {
        let (sweeps, batch): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|command| matches!(command.work, Work::Sweep));
        let batch = self.admit(batch);
        if !batch.is_empty() {
            let rows = TIDIED + 2 * batch.len();
            self.commit(batch);
            self.tidy(rows);
        }
        if !sweeps.is_empty() {
            self.tick();
            let outcome = self.sweep_at_once();
            for command in sweeps {
                // A caller that is gone needs no answer.
                let _ = command.reply.send(outcome.clone());
            }
        }
    }

    fn commit(&mut self, batch: Vec<Command>) {
        let begun = Instant::now();
        let mut committed = Vec::with_capacity(batch.len());
        let (works, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|command| (command.work, command.reply)).unzip();
        let announced = works.iter().filter(|work| matches!(work, Work::Announce(_))).count();
        let mut webhooks = Change::begin(&self.shared);
        let done = self.transact(|Inside { conn, rooms, keys, settings }| {
            let mut budget = 2 * works.len() + 256;
            let mut batch = Batch {
                conn,
                rooms,
                keys,
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
                let written = committed.iter().map(|message| message.entry.size() as u64).sum();
                self.clean.allow_for(written, self.rooms.totals());
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

    /// Deletes all that is too old, and takes back the space of most of it.
    fn sweep_at_once(&mut self) -> Result<Outcome, StoreError> {
        self.sweep = Sweep::default();
        loop {
            match self.sweep(usize::MAX) {
                Ok(Progress::Finished) => break,
                Ok(_) => {}
                Err(error) => return Err(StoreError::Unavailable(error.to_string())),
            }
        }
        while self.clean(self.space.is_untidy(self.unclean()), sweep::ROWS, true) {}
        Ok(0.into())
    }

    /// Deletes what is too old and makes room if it is short; returns whether there is more to do at once.
    fn tick(&mut self) -> bool {
        if self.space.is_disk_full() {
            self.make_room();
        }
        let swept = self.sweep(sweep::ROWS).ok();
        let trims = self.space.is_pressed() && self.trim(sweep::ROWS);
        self.clean.allow_for_tick(self.tick);
        let cleans = self.tidy(sweep::ROWS);
        if !self.space.is_disk_full() {
            self.space.reserve.take();
        }
        self.measure();
        let more = trims || cleans || swept == Some(Progress::More);
        if !more && swept.is_some() && self.space.refusal().is_none() {
            self.shared.succeeds(self.settle);
        }
        more
    }

    /// Sweeps one step. While writes fail, this also tests whether they succeed again.
    fn sweep(&mut self, rows: usize) -> rusqlite::Result<Progress> {
        let mut sweep = std::mem::take(&mut self.sweep);
        let mut webhooks = Change::begin(&self.shared);
        let progress = self.transact(|Inside { conn, rooms, keys, settings }| {
            webhooks.sweep(conn, settings)?;
            sweep.step(conn, rooms, keys, settings, rows)
        });
        if progress.is_ok() {
            webhooks.commit(&self.shared);
        }
        // After a failure the pass begins anew.
        progress.inspect(|_| self.sweep = sweep)
    }

    /// Takes back some of the space of what no room has any more, if there is too much of it; returns whether there is
    /// more to do at once.
    fn tidy(&mut self, rows: usize) -> bool {
        self.clean(self.space.is_untidy(self.unclean()), rows, false)
    }

    /// The sums of the log without the records that the next step of taking back space deletes in any case.
    fn unclean(&self) -> Totals {
        let totals = self.rooms.totals();
        Totals { all: totals.all - self.clean.pending(), ..totals }
    }

    /// Takes back the space of the records that were looked at before, and looks at `rows` further ones if that is
    /// `wanted`; if that is `urgent`, whatever it costs. Returns whether there was anything to do, and it succeeded.
    fn clean(&mut self, wanted: bool, rows: usize, urgent: bool) -> bool {
        let mut clean = self.clean;
        if !wanted && clean.pending() == 0 {
            return false;
        }
        let rows = if wanted { rows } else { 0 };
        let done = self.transact(|it| clean.step(it.conn, it.rooms, rows, urgent));
        done.inspect(|_| self.clean = clean).unwrap_or(false)
    }

    /// Trims history to make room; returns whether there is more to trim.
    fn trim(&mut self, rows: usize) -> bool {
        let mut trim = std::mem::replace(&mut self.space.trim, Trim::new(0));
        let now = self.settings.clock.now_ms();
        let trimmed = self.transact(|it| trim.step(it.conn, it.rooms, now, rows));
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
                Err(_) => return false,
                Ok(Progress::Finished) => break,
                Ok(Progress::More | Progress::Later) => {}
            }
        }
        for _ in 0..SWEEPS {
            let is_worth_it = self.space.is_worth_cleaning(self.unclean());
            if !is_worth_it && self.clean.pending() == 0 {
                break;
            }
            if !self.clean(is_worth_it, SWEPT, true) {
                return false;
            }
        }
        true
    }

    fn checkpoint(&self) {
        if let Some(checkpoints) = &self.checkpoints {
            checkpoints.finish();
        }
    }

    fn measure(&mut self) {
        if let Err(error) = self.space.measure(&self.conn.lock(), self.rooms.totals()) {
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
        let rows = sweep::ROWS + 2 * batch.len();
        for step in 0..URGENT_STEPS {
            let is_enough = step >= STEPS && self.space.refusal().is_none();
            if is_enough || self.space.is_disk_full() {
                break;
            }
            let trims = self.space.is_pressed() && self.trim(rows);
            let cleans = self.clean(self.space.is_urgent(self.unclean()), rows, true);
            if !trims && !cleans {
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
        change: impl FnOnce(Inside<'_>) -> rusqlite::Result<R>,
    ) -> rusqlite::Result<R> {
        let failing = self.shared.is_failing();
        let mut conn = self.conn.lock();
        // A transaction that is dropped is rolled back.
        let result = conn.transaction_with_behavior(Immediate).and_then(|transaction| {
            if failing {
                // A transaction that changes nothing would succeed on a full disk.
                transaction.execute("UPDATE meta SET seed = seed", [])?;
            }
            let result = change(Inside {
                conn: &transaction,
                rooms: &mut self.rooms,
                keys: &mut self.keys,
                settings: &self.settings,
            })?;
            transaction.commit()?;
            Ok(result)
        });
        // What is committed is in the indexes before anybody is told, and what is not never was.
        if result.is_ok() {
            self.rooms.commit();
            self.keys.commit();
        } else {
            self.rooms.roll_back();
            self.keys.roll_back();
        }
        if result.is_ok() && self.space.is_limited() {
            // Cannot fail where a transaction has just succeeded.
            let _ = self.space.measure(&conn, self.rooms.totals());
        }
        drop(conn);
        let shared = &self.shared;
        match &result {
            Ok(_) => {
                if let Some(checkpoints) = &self.checkpoints {
                    checkpoints.after_commit();
                }
                let counts = self.rooms.counts();
                shared.rooms.store(counts.stored, Relaxed);
                shared.evictions.store(counts.evicted, Relaxed);
                shared.key_bytes.store(self.keys.bytes() as u64, Relaxed);
            }
            Err(error) => {
                shared.failures.fetch_add(1, Relaxed);
                shared.fails(&error.to_string(), self.settings.clock.now_ms());
                self.space.note_failure(error);
            }
        }
        result
    }
}
