//! Deletes what is too old.

use std::time::Duration;

use redis::{Value, cmd};
use tokio::time::sleep;

use super::{expired_at, link::Link, millis, outbox, scripts, values};
use crate::store::types::{Settings, StoreError};

/// The most messages of one room that a step of the sweep deletes.
const SWEPT: usize = 64;

/// Every now and then, one of the nodes deletes what is too old. If two do so at once, no harm is done.
pub(super) async fn sweep_on(link: &Link, settings: &Settings, every: Duration) {
    let turn = every.mul_f32(0.9);
    loop {
        sleep(every).await;
        let mut take_turn = cmd("SET");
        take_turn
            .arg(format!("{}:sweeper", link.prefix()))
            .arg("")
            .arg("NX")
            .arg("PX")
            .arg(millis(turn).max(1));
        let turn = link.read(&take_turn).await;
        if turn.as_ref().is_ok_and(|turn| *turn != Value::Okay) {
            // It is another node's turn.
            continue;
        }
        // A full Redis refuses to note whose turn it is, and needs the sweep all the more. An unreachable
        // one is reported elsewhere.
        if let (Err(error), Ok(_)) = (sweep(link, settings).await, turn) {
            tracing::warn!(%error, "expired data could not be deleted from Redis; retrying later");
        }
    }
}

pub(super) async fn sweep(link: &Link, settings: &Settings) -> Result<(), StoreError> {
    loop {
        let mut call = scripts::SWEEP.call(link.prefix());
        call.arg(settings.clock.now_ms())
            .arg(expired_at(settings, settings.history_ttl))
            .arg(expired_at(settings, settings.queue_ttl))
            .arg(SWEPT);
        let (more, rooms) = values::swept(&link.read(&call).await?)?;
        link.note_rooms(rooms);
        if !more {
            break;
        }
    }
    if settings.has_webhooks { outbox::sweep(link, settings).await } else { Ok(()) }
}
