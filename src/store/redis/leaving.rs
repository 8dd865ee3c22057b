//! Leaving in order. When a whole cluster is stopped and Redis with it, no node is left that could tell whether Redis came
//! back with everything. So the last node to leave writes a mark with the log's number, and the first to come finds it.
//!
//! The mark is true as long as nothing was stored after it. Therefore
//!
//! - only the last node leaves it: no other node is registered or connected (`scripts/leave.lua`);
//! - whoever checks in removes it, and stores nothing before the disk knows that. Otherwise a Redis that loses
//!   its newest writes could come back with a mark that was true once.
//!
//! Without a disk that can be waited for there is no mark, and epochs change as after a crash. Nor is there one where
//! Sentinels may name another server later: that one may have missed what came after the mark.

use std::collections::{HashMap, HashSet};

use redis::{
    FromRedisValue, RedisResult, Value, aio::ConnectionLike, aio::MultiplexedConnection, cmd,
};

use super::{names::is_of_node, scripts};

/// How long Redis may take to write to its disk, in milliseconds; it does so every second at least.
const DISK: u32 = 3_000;

/// Makes sure, after a check-in that asks for it, that the mark is gone from the disk. If that cannot be known,
/// all epochs change.
pub(super) async fn settle(
    connection: &mut MultiplexedConnection,
    prefix: &str,
    run: &str,
) -> RedisResult<()> {
    let is_gone = is_on_disk(connection).await?;
    if !is_gone {
        tracing::warn!("Redis does not confirm what it has on its disk: all epochs change");
    }
    let mut settle = scripts::SETTLE.call(prefix);
    settle.arg(run).arg(i32::from(is_gone));
    settle.exec_async(connection).await
}

/// Leaves in order, after the last write; `name` is that of this node's connections. Returns whether this node was
/// the last one and `may_mark`, so that its mark stands.
pub(super) async fn leave(
    connection: &mut MultiplexedConnection,
    name: &str,
    prefix: &str,
    run: &str,
    may_mark: bool,
) -> RedisResult<bool> {
    // In this order: who registers after it was read is not taken for gone.
    let registered: HashMap<String, String> =
        cmd("HGETALL").arg(format!("{prefix}:log:nodes")).query_async(connection).await?;
    let connected = connected(connection).await?;
    let leave = |marks: bool| {
        let mut leave = scripts::LEAVE.call(prefix);
        leave.arg(run).arg(name).arg(i32::from(marks));
        leave
    };
    let mut first = leave(false);
    for (other, state) in registered.iter().filter(|(other, _)| !connected.contains(*other)) {
        first.arg(other).arg(state);
    }
    let is_last = first.query_async::<i32>(connection).await? == 1;
    // A node that is connected without being registered is of a former version, or of another installation.
    let may_mark = may_mark
        && is_last
        && connected.contains(name)
        && connected.iter().all(|other| registered.contains_key(other))
        && is_on_disk(connection).await?;
    Ok(may_mark && leave(true).query_async::<i32>(connection).await? == 1)
}

/// The names of all nodes' connections.
async fn connected(connection: &mut MultiplexedConnection) -> RedisResult<HashSet<String>> {
    let list: String = cmd("CLIENT").arg("LIST").query_async(connection).await?;
    let named = |line: &str| {
        let name = line.split(' ').find_map(|field| field.strip_prefix("name="))?;
        is_of_node(name).then(|| name.to_owned())
    };
    Ok(list.lines().filter_map(named).collect())
}

/// Waits until everything that this connection has written is on the disk of Redis; `false` if that cannot be known.
async fn is_on_disk(connection: &mut MultiplexedConnection) -> RedisResult<bool> {
    let mut wait = cmd("WAITAOF");
    wait.arg(1).arg(0).arg(DISK);
    match connection.req_packed_command(&wait).await? {
        Value::Array(counts) => Ok(matches!(counts.first(), Some(Value::Int(1..)))),
        // Redis before 7.2 does not know the command.
        _ => is_written_at_once(connection).await,
    }
}

/// Whether Redis answers a write only when it is on the disk.
async fn is_written_at_once(connection: &mut MultiplexedConnection) -> RedisResult<bool> {
    let mut policy = cmd("CONFIG");
    policy.arg("GET").arg("appendfsync");
    let policy = connection.req_packed_command(&policy).await?;
    let mut persistence = cmd("INFO");
    persistence.arg("persistence");
    let persistence = connection.req_packed_command(&persistence).await?;
    // Either may be forbidden.
    let policy = HashMap::<String, String>::from_redis_value(policy).unwrap_or_default();
    let persistence = String::from_redis_value(persistence).unwrap_or_default();
    Ok(policy.get("appendfsync").is_some_and(|policy| policy == "always")
        && persistence.lines().any(|line| line == "aof_enabled:1"))
}
