//! What Redis answers, and what is done about answers that are none.

use redis::{
    ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::time::error::Elapsed;

use super::connections::load_scripts;

/// The reason given when a deadline has passed.
pub(super) const LATE: &str = "Redis did not answer in time";

/// Sends those writes again that Redis skipped because somebody had flushed its scripts.
pub(super) async fn done_again(
    writes: &mut MultiplexedConnection,
    pipeline: &Pipeline,
    mut values: Vec<Value>,
) -> RedisResult<Vec<Value>> {
    let Some(first) = values.iter().position(is_no_script) else { return Ok(values) };
    // If a later write was done, repeating the earlier ones would break their order.
    if values[first..].iter().all(is_no_script) {
        load_scripts(writes).await?;
        let mut rest = Pipeline::with_capacity(values.len() - first);
        for command in pipeline.cmd_iter().skip(first) {
            rest.add_command(command.clone());
        }
        values.truncate(first);
        values.extend(writes.req_packed_commands(&rest, 0, rest.len()).await?);
    }
    Ok(values)
}

/// Whether this node of a Redis Cluster did nothing, because the keys are another one's, or on their way to one.
pub(super) fn is_elsewhere(kind: ServerErrorKind) -> bool {
    use ServerErrorKind::{Ask, ClusterDown, Moved, TryAgain};
    matches!(kind, Moved | Ask | TryAgain | ClusterDown)
}

/// The error that says so, if this answer is one.
pub(super) fn elsewhere(value: &Value) -> Option<RedisError> {
    match value {
        Value::ServerError(error) if error.kind().is_some_and(is_elsewhere) => {
            Some(error.clone().into())
        }
        _ => None,
    }
}

/// The error that says that the server takes no writes to these keys: it has become a replica, where its address may lead to the
/// new primary, or the keys are elsewhere.
pub(super) fn no_primary(value: &Value) -> Option<RedisError> {
    match value {
        Value::ServerError(error) if error.kind() == Some(ServerErrorKind::ReadOnly) => {
            Some(error.clone().into())
        }
        value => elsewhere(value),
    }
}

/// Whether Redis did nothing because it does not know the script.
pub(super) fn is_no_script(value: &Value) -> bool {
    is_error(value, ServerErrorKind::NoScript)
}

pub(super) fn is_error(value: &Value, kind: ServerErrorKind) -> bool {
    matches!(value, Value::ServerError(error) if error.kind() == Some(kind))
}

/// Turns a passed deadline into an error of the connection.
pub(super) fn flatten<T>(result: Result<RedisResult<T>, Elapsed>) -> RedisResult<T> {
    result.unwrap_or_else(|_| Err((ErrorKind::Io, LATE).into()))
}
