//! The one task that writes: it takes what is queued, sends it as one pipeline, answers, and only then
//! sends the next. So the order of the queue is the order in Redis.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use redis::{ErrorKind, RedisError, Value};
use tokio::time::Instant;

use super::{
    intake::{Command, Intake, Kind},
    link::{Link, MOVED},
    replicas::FEW_REPLICAS,
    values,
};
use crate::store::{
    pending::{Outcome, Past},
    types::{Stats, StoreError},
};

/// What the writer counts.
#[derive(Default)]
pub(super) struct Counters {
    commits: AtomicU64,
    failures: AtomicU64,
    entries: AtomicU64,
    evictions: AtomicU64,
    last_micros: AtomicU64,
    total_micros: AtomicU64,
}

impl Counters {
    /// The writer's counters as statistics; the other fields are zero.
    pub(super) fn stats(&self) -> Stats {
        Stats {
            commits: self.commits.load(Relaxed),
            failures: self.failures.load(Relaxed),
            entries: self.entries.load(Relaxed),
            evictions: self.evictions.load(Relaxed),
            last_commit_micros: self.last_micros.load(Relaxed),
            total_commit_micros: self.total_micros.load(Relaxed),
            ..Stats::default()
        }
    }
}

pub(super) struct Writer {
    pub intake: Arc<Intake>,
    pub link: Arc<Link>,
    pub counters: Arc<Counters>,
    /// The limits that a refused append names.
    pub max_rooms: u64,
    pub max_rooms_per_sender: u64,
}

impl Writer {
    /// Works until the intake is closed and empty, then leaves Redis and ends the connections.
    pub(super) async fn run(self) {
        let _end = End(&self);
        while let Some(batch) = self.intake.take().await {
            self.write(batch).await;
        }
        self.link.leave().await;
    }

    async fn write(&self, batch: Vec<Command>) {
        let begun = Instant::now();
        let (late, batch): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|command| command.arrived + self.link.deadline() <= begun);
        refuse(late, "Redis did not answer in time; nothing was stored");
        let Some(deadline) = batch.first().map(|first| first.arrived + self.link.deadline()) else {
            return;
        };
        let connections = match self.link.connections(deadline).await {
            Ok(connections) => connections,
            Err(error) => {
                self.counters.failures.fetch_add(1, Relaxed);
                for command in batch {
                    let _ = command.reply.send(Err(error.clone()));
                }
                return;
            }
        };
        let mut pipeline = redis::Pipeline::with_capacity(batch.len());
        let mut waiting = Vec::with_capacity(batch.len());
        for Command { mut call, kind, reply, .. } in batch {
            if let Kind::Append = kind {
                // The run is known only now.
                call.arg(&connections.run).arg(&connections.admitted.generation);
            }
            pipeline.add_command(call);
            waiting.push((kind, reply));
        }
        let written = match self.link.write(&connections, &pipeline, deadline).await {
            Ok(written) => written,
            Err(error) => {
                self.counters.failures.fetch_add(1, Relaxed);
                let reason = format!("{error}; it is unknown whether it was stored");
                for (_, reply) in waiting {
                    let _ = reply.send(Err(StoreError::Unavailable(reason.clone())));
                }
                return;
            }
        };
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counters.commits.fetch_add(1, Relaxed);
        self.counters.last_micros.store(micros, Relaxed);
        self.counters.total_micros.fetch_add(micros, Relaxed);
        let mut refused = None;
        for ((kind, reply), value) in waiting.into_iter().zip(written.values) {
            let mut outcome = self.outcome(kind, value, &connections.run);
            if outcome.is_ok() && !written.is_safe {
                outcome = Err(StoreError::Unavailable(FEW_REPLICAS.into()));
            }
            if let Err(StoreError::Unavailable(reason)) = &outcome {
                refused = Some(reason.clone());
            }
            // A caller that is gone needs no answer.
            let _ = reply.send(outcome);
        }
        if let Some(reason) = refused {
            self.counters.failures.fetch_add(1, Relaxed);
            self.link.fails(&reason);
            if reason == MOVED {
                self.link.lose(&connections, &(ErrorKind::Io, MOVED).into());
            }
        }
    }

    fn outcome(&self, kind: Kind, value: Value, run: &str) -> Result<Outcome, StoreError> {
        match (kind, value) {
            // Redis refused it: out of memory, a replica, or a disk that it cannot write to.
            (_, Value::ServerError(error)) => {
                Err(StoreError::Unavailable(RedisError::from(error).to_string()))
            }
            (Kind::Append, Value::Int(-5)) => Err(StoreError::Unavailable(MOVED.into())),
            (_, Value::Int(-3)) => Err(StoreError::KeyReused),
            (_, Value::Int(-4)) => Ok(Past::UnderWay.into()),
            (_, Value::Array(parts)) if parts.len() == 2 => {
                let (number, answer) = values::done_before(&parts)?;
                Ok(Outcome { past: Some(Past::Done(answer)), ..number.into() })
            }
            (Kind::Append, Value::Int(-2)) => {
                Err(StoreError::TooManyRoomsBegun { limit: self.max_rooms_per_sender })
            }
            (Kind::Append, Value::Int(_)) => {
                Err(StoreError::TooManyRooms { limit: self.max_rooms })
            }
            (Kind::Append, value) => {
                let appended = values::appended(&value)?;
                self.counters.entries.fetch_add(1, Relaxed);
                self.link.seen().note(run, appended.number);
                if let Some(rooms) = appended.rooms {
                    self.link.note_rooms(rooms);
                }
                self.counters.evictions.fetch_add(appended.evicted, Relaxed);
                Ok(appended.position.into())
            }
            (Kind::Enqueue, Value::Int(-1)) => Err(StoreError::QueueFull),
            (Kind::Enqueue, Value::Int(-2)) => Err(StoreError::SenderQueueFull),
            (Kind::Enqueue, value) => {
                let number = values::number(&value)?;
                self.link.seen().note(run, number);
                Ok(number.into())
            }
            (Kind::Claim | Kind::Count, value) => Ok(values::number(&value)?.into()),
        }
    }
}

/// No caller is left waiting, whether the task ends with its runtime or by a panic.
struct End<'a>(&'a Writer);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.intake.abandon();
        self.0.link.close();
    }
}

fn refuse(commands: Vec<Command>, reason: &str) {
    for command in commands {
        let _ = command.reply.send(Err(StoreError::Unavailable(reason.into())));
    }
}
