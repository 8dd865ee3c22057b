//! Makes connections and prepares each before it is used.

use std::time::Duration;

use parking_lot::Mutex;
use redis::{
    AsyncConnectionConfig, ErrorKind, RedisError, RedisResult, ServerErrorKind,
    aio::{ConnectionLike, MultiplexedConnection},
    cmd,
};

use super::{
    layout::{Admitted, Layout},
    leaving,
    names::slot_key,
    primary::{Found, Primary, Replaced},
    scripts,
};

/// The longest time that making a connection may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How much of the replication id of Redis (40 random digits) is kept to tell runs apart.
const RUN_DIGITS: usize = 8;

/// Both connections of one attempt. Reads have their own, so that large answers do not hold up the
/// answers to writes.
pub(super) struct Connections {
    pub writes: MultiplexedConnection,
    pub reads: MultiplexedConnection,
    /// The run of Redis; every restart and every promotion begins another.
    pub run: String,
    /// The list of instances that they belong to.
    pub admitted: Admitted,
    /// Tells when another server takes the writes.
    pub replaced: Replaced,
}

/// How far this node has seen the log.
#[derive(Default)]
pub(super) struct Seen {
    newest: Mutex<Newest>,
}

#[derive(Default)]
struct Newest {
    /// The run of Redis that this node last checked in to; empty before the first.
    run: String,
    /// The run that it last began to check in to.
    next: String,
    /// The newest log number seen, in that run or before it.
    number: u64,
    /// Where the keys were on their way to when this node last asked for one.
    going_to: Option<String>,
}

impl Seen {
    /// Notes a log number of this run; returns whether a later run will be told of it. Numbers of other runs are
    /// ignored: an earlier run's may have been lost since, and this node has yet to check in to a later run.
    pub(super) fn note(&self, run: &str, number: u64) -> bool {
        let mut newest = self.newest.lock();
        let counts = newest.run == run && newest.next == run;
        if counts {
            newest.number = newest.number.max(number);
        }
        counts
    }

    /// Begins to check in to a run; returns the run that this node last checked in to, and the newest number it has
    /// seen. What an earlier run answers from now on is not told to this one.
    pub(super) fn check_in(&self, run: &str) -> (String, u64) {
        let mut newest = self.newest.lock();
        run.clone_into(&mut newest.next);
        (newest.run.clone(), newest.number)
    }

    /// Notes where a Redis Cluster moves the keys to, if that is why something failed.
    pub(super) fn note_move(&self, error: &RedisError) {
        if error.kind() == ErrorKind::Server(ServerErrorKind::Ask)
            && let Some((address, _)) = error.redirect_node()
        {
            self.newest.lock().going_to = Some(address.to_owned());
        }
    }

    /// Whether the keys were going elsewhere than to this address. Then the move was broken off, perhaps by a failover,
    /// and a part of them may have been left behind.
    fn is_astray(&self, address: &str) -> bool {
        // A node that does not know the host of another one names the port alone.
        let newest = self.newest.lock();
        newest.going_to.as_ref().is_some_and(|going_to| !address.ends_with(going_to))
    }

    /// Notes that this node has checked in to this run.
    pub(super) fn checked_in(&self, run: &str) {
        let mut newest = self.newest.lock();
        run.clone_into(&mut newest.run);
        newest.going_to = None;
    }
}

/// Connects, names the connections, and reports how far the log was seen.
pub(super) async fn connect(
    primary: &Primary,
    name: &str,
    prefix: &str,
    seen: &Seen,
    (layout, place): (&Layout, usize),
) -> RedisResult<Connections> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(None);
    let Found { client, replaced } = primary.find().await?;
    let is_astray = seen.is_astray(&client.get_connection_info().addr().to_string());
    let mut writes = client.get_multiplexed_async_connection_with_config(&config).await?;
    let mut reads = client.get_multiplexed_async_connection_with_config(&config).await?;
    let mut named = cmd("CLIENT");
    named.arg("SETNAME").arg(name);
    writes.req_packed_command(&named).await?;
    reads.req_packed_command(&named).await?;
    let run = examine(&mut writes, primary.is_in_cluster()).await?;
    // Refused while the slot is another node's, or on its way to one.
    cmd("EXISTS").arg(slot_key(prefix)).exec_async(&mut writes).await?;
    load_scripts(&mut writes).await?;
    let admitted = layout.admit(&mut writes, prefix, place).await?;
    check_in(&mut writes, name, prefix, &run, (seen, is_astray)).await?;
    Ok(Connections { writes, reads, run, admitted, replaced })
}

/// Loads the scripts into Redis.
pub(super) async fn load_scripts(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    let mut pipeline = redis::pipe();
    for script in scripts::ALL {
        pipeline.add_command(script.load()).ignore();
    }
    pipeline.exec_async(connection).await
}

/// Refuses an unsuitable server; returns the run of Redis.
async fn examine(
    connection: &mut MultiplexedConnection,
    is_in_cluster: bool,
) -> RedisResult<String> {
    let mut info = cmd("INFO");
    info.arg("server").arg("memory").arg("replication");
    let info: String = info.query_async(connection).await?;
    let field = |name: &str| {
        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or("")
    };
    let version = field("redis_version");
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < 7) {
        let detail = format!("it is version {version}, and 7 or newer is needed");
        return Err((ErrorKind::Client, "this Redis is too old", detail).into());
    }
    if !is_in_cluster && field("redis_mode") == "cluster" {
        let detail = "name it redis+cluster://… in REDIS_URL".to_owned();
        return Err((ErrorKind::Client, "this is a Redis Cluster", detail).into());
    }
    // Sentinels may still name the server of before.
    if field("role") == "slave" {
        let detail = "it does not take writes".to_owned();
        return Err((ErrorKind::Client, "this is a replica", detail).into());
    }
    let policy = field("maxmemory_policy");
    if field("maxmemory") != "0" && policy != "noeviction" {
        tracing::warn!(
            policy,
            "this Redis may delete messages and queues when its memory is full; set maxmemory-policy to noeviction"
        );
    }
    // Another one after each start, and after each promotion: the process may have taken writes before, and may have
    // lost them as a replica in between.
    let run = [field("master_replid"), field("run_id")].into_iter().find(|id| !id.is_empty());
    Ok(run.unwrap_or_default().chars().take(RUN_DIGITS).collect())
}

/// A restarted Redis may have lost what it had acknowledged; it would then give offsets that clients know
/// to other messages, unnoticed. So every node reports how far it has seen the log. All epochs change if
/// that is further than the log reached when Redis came back. They also change if the first node to check
/// in knows nothing of the time before, because then nobody can tell; unless the last node left in order. And they change
/// if a part of the keys may be missing.
async fn check_in(
    connection: &mut MultiplexedConnection,
    name: &str,
    prefix: &str,
    run: &str,
    (seen, is_astray): (&Seen, bool),
) -> RedisResult<()> {
    let (known_run, number) = seen.check_in(run);
    let mut check_in = scripts::CHECK_IN.call(prefix);
    check_in.arg(run).arg(known_run).arg(number).arg(name).arg(i32::from(is_astray));
    if check_in.query_async::<i32>(connection).await? == 1 {
        leaving::settle(connection, prefix, run).await?;
    }
    seen.checked_in(run);
    Ok(())
}
