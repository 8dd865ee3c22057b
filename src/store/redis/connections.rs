//! Making connections: what is done on each before it is used.

use std::time::Duration;

use parking_lot::Mutex;
use redis::{
    AsyncConnectionConfig, Client, ErrorKind, RedisResult,
    aio::{ConnectionLike, MultiplexedConnection},
    cmd,
};

use super::scripts;

/// So long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(2);
/// So much of the name of a run of Redis (40 random digits) tells it from others.
const RUN_DIGITS: usize = 8;

/// Both connections of one attempt. Reads have their own, so that large answers do not hold up the
/// answers to writes.
pub struct Connections {
    pub writes: MultiplexedConnection,
    pub reads: MultiplexedConnection,
    /// The run of Redis: another one after every restart.
    pub run: String,
}

/// How far this node has seen the log.
#[derive(Default)]
pub struct Seen {
    newest: Mutex<Newest>,
}

#[derive(Default)]
struct Newest {
    /// The run of Redis that was last checked in to; empty before the first.
    run: String,
    /// The newest number of the log, in that run or before it.
    number: u64,
}

impl Seen {
    /// Notes a number that was given in this run. What was given in others is left out: in an
    /// earlier one, it may have been lost since; in a later one, this node has yet to check in.
    pub fn note(&self, run: &str, number: u64) {
        let mut newest = self.newest.lock();
        if newest.run == run {
            newest.number = newest.number.max(number);
        }
    }

    /// Where it checked in to last, and the newest number it has seen.
    pub fn newest(&self) -> (String, u64) {
        let newest = self.newest.lock();
        (newest.run.clone(), newest.number)
    }

    /// It has checked in to this run.
    pub fn checked_in(&self, run: &str) {
        run.clone_into(&mut self.newest.lock().run);
    }
}

/// Connects, and says who this is and how far the log was seen.
pub async fn connect(
    client: &Client,
    name: &str,
    prefix: &str,
    seen: &Seen,
) -> RedisResult<Connections> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(None);
    let mut writes = client.get_multiplexed_async_connection_with_config(&config).await?;
    let mut reads = client.get_multiplexed_async_connection_with_config(&config).await?;
    let mut named = cmd("CLIENT");
    named.arg("SETNAME").arg(name);
    writes.req_packed_command(&named).await?;
    reads.req_packed_command(&named).await?;
    load_scripts(&mut writes).await?;
    let run = examine(&mut writes).await?;
    check_in(&mut writes, prefix, &run, seen).await?;
    Ok(Connections { writes, reads, run })
}

/// Makes the scripts known.
pub async fn load_scripts(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    let mut pipeline = redis::pipe();
    for script in scripts::ALL {
        pipeline.add_command(script.load()).ignore();
    }
    pipeline.exec_async(connection).await
}

/// Refuses a server that will not do; returns which run of Redis it is.
async fn examine(connection: &mut MultiplexedConnection) -> RedisResult<String> {
    let mut info = cmd("INFO");
    info.arg("server").arg("memory");
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
    if field("redis_mode") == "cluster" {
        let detail = "one Redis is needed, which has all keys".to_owned();
        return Err((ErrorKind::Client, "this is a Redis Cluster", detail).into());
    }
    let policy = field("maxmemory_policy");
    if field("maxmemory") != "0" && policy != "noeviction" {
        tracing::warn!(
            policy,
            "this Redis may delete messages and queues when its memory is full; set maxmemory-policy to noeviction"
        );
    }
    Ok(field("run_id").chars().take(RUN_DIGITS).collect())
}

/// A restarted Redis may have lost what it had acknowledged. Then offsets that clients know would be
/// given to other messages, unnoticed. So every node says how far it has seen the log, and all
/// epochs change if that is further than it was when Redis came back; or if who comes first knows
/// nothing of the time before, because then nobody can tell.
async fn check_in(
    connection: &mut MultiplexedConnection,
    prefix: &str,
    run: &str,
    seen: &Seen,
) -> RedisResult<()> {
    let (known_run, number) = seen.newest();
    let mut check_in = scripts::CHECK_IN.call(prefix);
    check_in.arg(run).arg(known_run).arg(number);
    check_in.exec_async(connection).await?;
    seen.checked_in(run);
    Ok(())
}
