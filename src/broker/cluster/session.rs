//! A session with Redis: a connection for commands, and one that listens.
//!
//! The loss of either ends the session, and the next one begins with both: after a loss, what is heard would
//! have gaps, and a node must not send without hearing.

use std::{fmt, time::Duration};

use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, ServerErrorKind,
    aio::MultiplexedConnection,
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::listening::{Heard, Sink, listen};
use crate::{
    protocol::refusal::{Code, Refusal},
    store::{Found, Primary, Replaced},
};

/// How long Redis may take to accept a node, and to answer a command.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// Redis cannot be reached, or did not answer in time.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Away(pub(super) String);

impl Away {
    pub(super) fn unconnected() -> Self {
        Self("not connected to Redis".to_owned())
    }
}

impl From<Away> for Refusal {
    /// What a client is told; the reason is for the operator alone.
    fn from(_: Away) -> Self {
        Self::new(Code::Unavailable, "The other nodes cannot be reached now; try again later")
    }
}

/// The scripts, known to Redis by their hashes.
pub(super) mod scripts {
    use std::sync::LazyLock;

    use redis::Script;

    pub(crate) static RENEW: LazyLock<Script> =
        LazyLock::new(|| Script::new(include_str!("scripts/renew.lua")));
    pub(crate) static REAP: LazyLock<Script> =
        LazyLock::new(|| Script::new(include_str!("scripts/reap.lua")));
    pub(crate) static WRITE_USER: LazyLock<Script> =
        LazyLock::new(|| Script::new(include_str!("scripts/write_user.lua")));
    pub(crate) static DEPART: LazyLock<Script> =
        LazyLock::new(|| Script::new(include_str!("scripts/depart.lua")));

    pub(crate) fn all() -> [&'static Script; 4] {
        [&RENEW, &REAP, &WRITE_USER, &DEPART]
    }
}

/// A session; clones are handles to the same one.
#[derive(Clone)]
pub(super) struct Session {
    /// The session's number on this node.
    pub number: u64,
    commands: MultiplexedConnection,
    /// Cancelled when the session has ended.
    pub lost: CancellationToken,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Session {
    /// Connects: a session, the connection that listens to these channels, and news of its server's replacement.
    pub(super) async fn open(
        primary: &Primary,
        number: u64,
        name: &str,
        own: &[String],
    ) -> Result<(Self, (Sink, Heard), Replaced), Away> {
        let opened = async {
            let Found { client, replaced } = primary.find().await?;
            let listening = listen(&client, primary.is_in_cluster(), own).await?;
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(TIMEOUT))
                .set_response_timeout(Some(TIMEOUT));
            let mut commands = client.get_multiplexed_async_connection_with_config(&config).await?;
            // The name is for operators who inspect Redis; the command need not be permitted.
            let named =
                redis::cmd("CLIENT").arg("SETNAME").arg(name).exec_async(&mut commands).await;
            named.or_else(|error| if error.code().is_some() { Ok(()) } else { Err(error) })?;
            for script in scripts::all() {
                script.load_async(&mut commands).await?;
            }
            Ok::<_, RedisError>((commands, listening, replaced))
        };
        let opened = timeout(TIMEOUT, opened).await;
        let (commands, listening, replaced) = opened
            .map_err(|_| Away("no answer in time".to_owned()))?
            .map_err(|error| Away(redis_error_text(&error)))?;
        Ok((Self { number, commands, lost: CancellationToken::new() }, listening, replaced))
    }

    /// Whether the session is still open.
    pub(super) fn is_open(&self) -> bool {
        !self.lost.is_cancelled()
    }

    /// Sends a command and reads its answer.
    pub(super) async fn query<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<T, Away> {
        let mut commands = self.commands.clone();
        self.outcome(cmd.query_async(&mut commands).await)
    }

    /// Sends these commands at once and reads their answers.
    pub(super) async fn pipeline<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, Away> {
        let mut connection = self.commands.clone();
        self.outcome(commands.query_async(&mut connection).await)
    }

    fn outcome<T>(&self, result: Result<T, RedisError>) -> Result<T, Away> {
        result.map_err(|error| {
            // The next session loads the scripts again, and may find the new primary if this one has been
            // demoted or serves the slot no more.
            let is_stale = matches!(
                error.kind(),
                ErrorKind::Server(
                    ServerErrorKind::NoScript | ServerErrorKind::ReadOnly | ServerErrorKind::Moved
                )
            );
            if error.is_unrecoverable_error() || error.is_timeout() || is_stale {
                self.lost.cancel();
            }
            Away(redis_error_text(&error))
        })
    }
}

/// The text of an error, without details that may be a message or a password.
pub fn redis_error_text(error: &RedisError) -> String {
    match error.code() {
        Some(code) => format!("Redis answered {code}"),
        // The operating system's message about the connection.
        None if error.is_io_error() => error.to_string(),
        None => error.category().to_owned(),
    }
}
