//! Reads the stream to which Socket.IO's Redis Streams emitter adds.
//!
//! The position is kept in Redis when a batch is carried out, by the node that has the turn: whoever has it next
//! goes on there, and repeats at most one batch.

use std::{
    cmp::Ordering,
    sync::{Arc, LazyLock},
    time::Duration,
};

use redis::{RedisError, RedisResult, Script, Value, aio::MultiplexedConnection, cmd};
use tokio::time::sleep;

use super::{Shared, carry_out, reading::Operation};
use crate::{
    broker::cluster::redis_error_text,
    protocol::refusal::Code,
    telemetry::metrics::{EmitterOutcome, EmitterSource},
};

/// How many entries are read together.
const BATCH: usize = 32;

/// How long Redis waits for an entry, in milliseconds.
const BLOCK: u64 = 1000;

/// How long to wait before an entry that could not be carried out, or a stream that could not be read, is tried
/// again: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Before the first entry.
const BEGINNING: &str = "0-0";

static KEEP: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/keep_position.lua")));

/// What `XREAD` answers: streams, their entries, and the fields of each.
type Answer = Option<Vec<(Vec<u8>, Vec<Entry>)>>;
type Entry = (String, Vec<Vec<u8>>);

/// How a batch ended.
enum Ended {
    /// It is carried out, and the position is kept.
    Kept,
    /// The turn is over.
    TurnOver,
}

/// Reads the stream while it is this node's turn; returns why it cannot.
pub(super) async fn read(
    shared: Arc<Shared>,
    mut commands: MultiplexedConnection,
    mut waiting: MultiplexedConnection,
) -> String {
    loop {
        shared.turn.own().await;
        let mut at = match position(&shared, &mut commands).await {
            Ok(at) => at,
            Err(error) if is_lost(&error) => return redis_error_text(&error),
            Err(_) => {
                // Why has been said when the turn began.
                sleep(RETRY.1).await;
                continue;
            }
        };
        while shared.turn.is_own() {
            let entries = tokio::select! {
                entries = next(&shared, &mut waiting, &at) => entries,
                // What is being carried out is finished; nothing new is begun.
                () = shared.stop.cancelled() => std::future::pending().await,
            };
            match entries {
                Ok(entries) if entries.is_empty() => {}
                Ok(entries) => {
                    let _under_way = shared.reading.lock().await;
                    let Some((last, _)) = entries.last() else { continue };
                    let last = last.clone();
                    match batch(&shared, &mut commands, entries, &last).await {
                        Ok(Ended::Kept) => at = last,
                        Ok(Ended::TurnOver) => break,
                        Err(error) => return redis_error_text(&error),
                    }
                }
                Err(error) if is_lost(&error) => return redis_error_text(&error),
                Err(error) => {
                    tracing::warn!(
                        reason = redis_error_text(&error),
                        "the emitters' stream cannot be read"
                    );
                    sleep(RETRY.1).await;
                }
            }
        }
    }
}

/// The entries behind `at`; none if none comes in time.
async fn next(
    shared: &Shared,
    waiting: &mut MultiplexedConnection,
    at: &str,
) -> RedisResult<Vec<Entry>> {
    let mut read = cmd("XREAD");
    read.arg("COUNT").arg(BATCH).arg("BLOCK").arg(BLOCK);
    read.arg("STREAMS").arg(&shared.names.prefix).arg(at);
    let answer = read.query_async::<Answer>(waiting).await?;
    Ok(answer.into_iter().flatten().flat_map(|(_, entries)| entries).collect())
}

/// Carries out entries, again and again where Redis or the clients are not ready for them, and keeps the position.
async fn batch(
    shared: &Shared,
    commands: &mut MultiplexedConnection,
    entries: Vec<Entry>,
    last: &str,
) -> RedisResult<Ended> {
    let mut operations = Vec::with_capacity(entries.len());
    for (id, fields) in &entries {
        let fields = fields.chunks_exact(2).map(|field| (&*field[0], &*field[1]));
        match shared.reader().entry(fields) {
            Ok(operation) => operations.extend(operation),
            Err(error) => shared.note_unfit(EmitterSource::Stream, id, &error),
        }
    }
    let mut pause = RETRY.0;
    loop {
        if !shared.turn.is_own() {
            return Ok(Ended::TurnOver);
        }
        if shared.app.memory.check_work().is_ok() {
            operations = carry_out_once(shared, operations).await;
        }
        if operations.is_empty() {
            break;
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
    }
    let mut keep = KEEP.key(shared.names.turn());
    keep.key(shared.names.position()).arg(&shared.names.node).arg(last);
    if keep.invoke_async::<bool>(commands).await? {
        return Ok(Ended::Kept);
    }
    shared.turn.lose();
    Ok(Ended::TurnOver)
}

/// Carries out operations; returns those that are to be tried again.
async fn carry_out_once(shared: &Shared, operations: Vec<Operation>) -> Vec<Operation> {
    let outcomes = carry_out::carry_out(&shared.app, operations.clone()).await;
    let mut again = Vec::new();
    for (operation, outcome) in operations.into_iter().zip(outcomes) {
        match outcome {
            Ok(()) => shared.count(EmitterSource::Stream, EmitterOutcome::Done, 1),
            Err(refusal) if refusal.code == Code::Unavailable => again.push(operation),
            Err(refusal) => shared.note_refused(EmitterSource::Stream, &refusal),
        }
    }
    again
}

/// How far the stream has been read. The first time that is its end.
pub(super) async fn position(
    shared: &Shared,
    commands: &mut MultiplexedConnection,
) -> RedisResult<String> {
    let (stream, key) = (&shared.names.prefix, shared.names.position());
    let kept = cmd("GET").arg(&key).query_async::<Option<String>>(commands).await?;
    let (end, dropped) = extent(stream, commands).await?;
    let Some(kept) = kept else {
        cmd("SET").arg(&key).arg(&end).arg("NX").exec_async(commands).await?;
        return cmd("GET").arg(&key).query_async(commands).await;
    };
    if compare(&end, &kept) == Ordering::Less {
        // It was deleted and made anew.
        return Ok(BEGINNING.to_owned());
    }
    if compare(&dropped, &kept) == Ordering::Greater {
        tracing::warn!(
            "the emitters' stream was trimmed before it was read to its end: raise its maxLen"
        );
    }
    Ok(kept)
}

/// The ids of the last entry that the stream had, and of the last one that it has no more.
async fn extent(
    stream: &str,
    commands: &mut MultiplexedConnection,
) -> RedisResult<(String, String)> {
    let kind = cmd("TYPE").arg(stream).query_async::<String>(commands).await?;
    let (mut end, mut dropped) = (BEGINNING.to_owned(), BEGINNING.to_owned());
    if kind != "stream" {
        // What is put in the place of another key is new.
        return Ok((end, dropped));
    }
    let mut info = cmd("XINFO");
    info.arg("STREAM").arg(stream);
    for (name, value) in info.query_async::<Vec<(String, Value)>>(commands).await? {
        match &*name {
            "last-generated-id" => end = redis::from_redis_value(value)?,
            "max-deleted-entry-id" => dropped = redis::from_redis_value(value)?,
            _ => {}
        }
    }
    Ok((end, dropped))
}

/// Compares ids of entries: milliseconds, and a number within each.
fn compare(a: &str, b: &str) -> Ordering {
    let parts = |id: &str| {
        let (time, number) = id.split_once('-').unwrap_or((id, "0"));
        (time.parse().unwrap_or(0_u64), number.parse().unwrap_or(0_u64))
    };
    parts(a).cmp(&parts(b))
}

fn is_lost(error: &RedisError) -> bool {
    error.is_unrecoverable_error() || error.is_timeout()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_compared_as_numbers() {
        for (a, b, wanted) in [
            ("0-0", "0-1", Ordering::Less),
            ("9-0", "10-0", Ordering::Less),
            ("10-2", "10-10", Ordering::Less),
            ("10-2", "10-2", Ordering::Equal),
            ("11-0", "10-99", Ordering::Greater),
        ] {
            assert_eq!(compare(a, b), wanted, "{a} {b}");
        }
    }
}
