//! The one task that writes: it takes what is queued, sends it as one pipeline, answers, and only then
//! sends the next. So the order of the queue is the order in Redis.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use redis::{Arg, ErrorKind, Pipeline, RedisError, Value};
use tokio::time::Instant;

use super::{
    connections::Connections,
    intake::{Command, Intake, Kind},
    link::{Link, MOVED, Written},
    replicas::FEW_REPLICAS,
    replies::{elsewhere, no_primary},
    values,
};
use crate::store::{
    pending::{Outcome, Past},
    types::{Stats, StoreError},
};

/// Why something is refused that a server has stored whose place another one has taken.
const REPLACED: &str =
    "another Redis has taken the place of the one that stored it; it is unknown whether it is kept";

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
        let mut rest = batch;
        while !rest.is_empty() {
            rest = self.attempt(rest, begun, deadline).await;
        }
    }

    /// Sends these, and answers; returns those that Redis passed over because their keys are elsewhere by now.
    async fn attempt(
        &self,
        batch: Vec<Command>,
        begun: Instant,
        deadline: Instant,
    ) -> Vec<Command> {
        let connections = match self.link.connections(deadline).await {
            Ok(connections) => connections,
            Err(error) => {
                self.counters.failures.fetch_add(1, Relaxed);
                for command in batch {
                    let _ = command.reply.send(Err(error.clone()));
                }
                return Vec::new();
            }
        };
        let mut pipeline = redis::Pipeline::with_capacity(batch.len());
        let mut waiting = batch;
        for Command { call, kind, .. } in &mut waiting {
            let mut call = std::mem::take(call);
            if let Kind::Append = kind {
                // The run is known only now.
                call.arg(&connections.run).arg(&connections.admitted.generation);
            }
            pipeline.add_command(call);
        }
        let mut written = match self.link.write(&connections, &pipeline, deadline).await {
            Ok(written) => written,
            Err(error) => {
                self.counters.failures.fetch_add(1, Relaxed);
                let reason = format!("{error}; it is unknown whether it was stored");
                refuse(waiting, &reason);
                return Vec::new();
            }
        };
        let gone = written.values.iter().find_map(no_primary);
        let again = passed_over(&pipeline, &mut written.values, &mut waiting);
        self.answer(waiting, written, &connections, begun);
        if let Some(error) = gone {
            self.link.lose(&connections, &error);
        }
        again
    }

    fn answer(
        &self,
        waiting: Vec<Command>,
        written: Written,
        connections: &Arc<Connections>,
        begun: Instant,
    ) {
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counters.commits.fetch_add(1, Relaxed);
        self.counters.last_micros.store(micros, Relaxed);
        self.counters.total_micros.fetch_add(micros, Relaxed);
        let mut refused = None;
        for (Command { kind, reply, .. }, value) in waiting.into_iter().zip(written.values) {
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
                self.link.lose(connections, &(ErrorKind::Io, MOVED).into());
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
                self.note(run, appended.number)?;
                self.counters.entries.fetch_add(1, Relaxed);
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
                self.note(run, number)?;
                Ok(number.into())
            }
            (Kind::Claim | Kind::Count, value) => Ok(values::number(&value)?.into()),
        }
    }

    /// Notes what was stored.
    ///
    /// # Errors
    /// If this node has begun to check in to another run meanwhile, which does not hear of it. It may be lost, and no epoch
    /// would change for it.
    fn note(&self, run: &str, number: u64) -> Result<(), StoreError> {
        let counts = self.link.seen().note(run, number);
        counts.then_some(()).ok_or_else(|| StoreError::Unavailable(REPLACED.into()))
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

/// Takes out the commands of a batch that were passed over because their keys are elsewhere, to be sent again. If a later
/// one was done, repeating the earlier ones would break their order.
fn passed_over(
    pipeline: &Pipeline,
    values: &mut Vec<Value>,
    waiting: &mut Vec<Command>,
) -> Vec<Command> {
    let is_passed = |value: &Value| elsewhere(value).is_some();
    let done = values.iter().rposition(|value| !is_passed(value)).map_or(0, |last| last + 1);
    if values[..done].iter().any(is_passed) {
        return Vec::new();
    }
    values.truncate(done);
    let mut again = waiting.split_off(done);
    for (command, sent) in again.iter_mut().zip(pipeline.cmd_iter().skip(done)) {
        // Without the run and the generation, which may be others next time.
        let own = if let Kind::Append = command.kind { 2 } else { 0 };
        let count = sent.args_iter().count() - own;
        for argument in sent.args_iter().take(count) {
            if let Arg::Simple(bytes) = argument {
                command.call.arg(bytes);
            }
        }
    }
    again
}

fn refuse(commands: Vec<Command>, reason: &str) {
    for command in commands {
        let _ = command.reply.send(Err(StoreError::Unavailable(reason.into())));
    }
}

#[cfg(test)]
mod tests {
    use redis::{Cmd, cmd};
    use tokio::sync::oneshot;

    use super::*;

    fn sent(words: &[&str]) -> Cmd {
        let mut sent = cmd("EVALSHA");
        sent.arg(words);
        sent
    }

    fn answer(text: &str) -> Value {
        let error = redis::parse_redis_value(format!("-{text}\r\n").as_bytes());
        if text.is_empty() { Value::Int(1) } else { error.unwrap() }
    }

    /// What is sent again of three writes that are answered in this way, and how many are answered to their callers.
    fn again(answers: [&str; 3]) -> (Vec<Vec<u8>>, usize) {
        let command = |kind| {
            let (reply, _) = oneshot::channel();
            let (call, sender, arrived) = (Cmd::new(), None, Instant::now());
            Command { call, kind, sender, bytes: 0, arrived, reply }
        };
        let mut waiting = [Kind::Append, Kind::Count, Kind::Append].map(command).into();
        let mut pipeline = Pipeline::new();
        for words in [&["a", "run", "generation"][..], &["b"], &["c", "run", "generation"]] {
            pipeline.add_command(sent(words));
        }
        let mut values = answers.map(answer).into();
        let again = passed_over(&pipeline, &mut values, &mut waiting);
        assert_eq!(values.len(), waiting.len());
        let again = again.into_iter().map(|command| command.call.get_packed_command());
        (again.collect(), waiting.len())
    }

    #[test]
    fn writes_to_a_slot_that_moves_are_sent_again_in_their_order() {
        let (moved, ask) = ("MOVED 1 a:1", "ASK 1 a:1");
        assert_eq!(again(["", "", ""]), (vec![], 3));
        let [a, b, c] = ["a", "b", "c"].map(|word| sent(&[word]).get_packed_command());
        assert_eq!(again(["", ask, moved]), (vec![b.clone(), c.clone()], 1));
        assert_eq!(again([ask, ask, ask]), (vec![a, b, c], 0));
        // Another refusal is none that passes, and what is done behind a write is not overtaken.
        assert_eq!(again(["", "", "OOM"]), (vec![], 3));
        assert_eq!(again(["", ask, ""]), (vec![], 3));
    }
}
