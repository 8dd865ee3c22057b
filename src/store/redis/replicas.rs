//! Waiting until replicas have what was written.

use redis::{
    RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cmd,
};

/// The reason given when too few replicas have what was written.
pub(super) const FEW_REPLICAS: &str =
    "fewer replicas than REDIS_REPLICAS have confirmed it; it is unknown whether it will be kept";

/// How long replicas may take to confirm what was written, in milliseconds.
const ANSWER_MS: u64 = 1_000;

/// Waits until this many replicas have everything that this connection has written; false if that takes too long.
pub(super) async fn have_all(count: u64, writes: &mut MultiplexedConnection) -> RedisResult<bool> {
    if count == 0 {
        return Ok(true);
    }
    let mut wait = cmd("WAIT");
    wait.arg(count).arg(ANSWER_MS);
    match writes.req_packed_command(&wait).await? {
        Value::Int(confirmed) => Ok(confirmed.cast_unsigned() >= count),
        // A replica has no replicas to wait for.
        _ => Ok(false),
    }
}
