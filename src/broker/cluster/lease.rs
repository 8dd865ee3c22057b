//! Node liveness: every node holds a lease, and the node that finds an expired one cleans up after its
//! holder.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use super::{
    Inner,
    message::NodeMessage,
    session::{Away, Session, scripts},
};

/// How long a lease lasts without being renewed.
pub(super) const LEASE: Duration = Duration::from_secs(12);

/// How often it is renewed.
pub(super) const RENEWAL: Duration = Duration::from_secs(3);

/// How many users of a dead node one script removes.
const BATCH: usize = 200;

/// Renews the lease, as long as the session lasts.
pub(super) async fn hold(inner: Arc<Inner>, session: Session) {
    let mut ticks = interval(RENEWAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is at once, and the lease was renewed just before.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        if renew(&inner, &session).await.is_err() {
            return session.lost.cancel();
        }
        // The beat comes back through Redis: proof that other nodes' messages would arrive, too.
        let beat = inner.encode(&NodeMessage::Beat, None);
        inner.first().outbox.push(inner.keys.to_node(&inner.node), beat);
    }
}

/// Renews the lease, and cleans up after nodes whose lease has expired.
pub(super) async fn renew(inner: &Inner, session: &Session) -> Result<(), Away> {
    let mut command = inner.keys.call(&scripts::RENEW, &[inner.keys.nodes()]);
    command.arg(&*inner.node).arg(u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX));
    let (lapsed, live, dead): (bool, Vec<String>, Vec<String>) = session.query(&command).await?;
    if lapsed {
        // Other nodes may have cleaned up after this one, or Redis has lost its data.
        inner.users.rewrite();
    }
    *inner.nodes.lock() = live;
    for node in dead {
        if reap(inner, session, &node, false).await? {
            tracing::warn!(%node, "a node is dead: its users go offline");
            inner.counters.reaped.inc();
        }
    }
    Ok(())
}

/// Removes what a node has left behind; returns whether this call did it.
pub(super) async fn reap(
    inner: &Inner,
    session: &Session,
    node: &str,
    whether_dead_or_not: bool,
) -> Result<bool, Away> {
    let keys = &inner.keys;
    let keys = [keys.nodes(), keys.users_of(node), keys.departures(), keys.online()];
    let mut command = inner.keys.call(&scripts::REAP, &keys);
    command
        .arg(node)
        .arg(inner.keys.users())
        .arg(u64::try_from(inner.grace.as_millis()).unwrap_or(u64::MAX))
        .arg(i32::from(whether_dead_or_not))
        .arg(BATCH)
        .arg(inner.remember.as_secs());
    loop {
        let left: i64 = session.query(&command).await?;
        if left <= 0 {
            return Ok(left == 0);
        }
    }
}

/// The nodes whose lease is valid at this moment.
pub(super) async fn live(inner: &Inner, session: &Session) -> Result<Vec<String>, Away> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("TIME");
    pipeline.cmd("ZRANGE").arg(inner.keys.nodes()).arg(0).arg(-1).arg("WITHSCORES");
    let (now, leases): ((u64, u64), Vec<(String, f64)>) = session.pipeline(&pipeline).await?;
    #[allow(clippy::cast_precision_loss, reason = "milliseconds of this age are exact")]
    let now = (now.0 * 1000 + now.1 / 1000) as f64;
    Ok(leases.into_iter().filter(|(_, ends)| *ends > now).map(|(node, _)| node).collect())
}
