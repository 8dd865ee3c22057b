//! Forgets rooms that are another instance's since the list changed.

use std::time::Duration;

use redis::cmd;
use tokio::time::sleep;

use super::{link::Link, names::room_of_part, scripts, values};
use crate::store::types::StoreError;

/// How many rooms are looked at, and forgotten, at a time.
const LOOKED_AT: usize = 1_000;
const FORGOTTEN: usize = 50;
/// How long to wait before rooms are looked at again after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// Forgets the rooms that are another instance's now, whenever a connection finds that there may be some.
pub(super) async fn tidy_up(link: &Link) {
    loop {
        let generation = link.untidy().await;
        while let Err(error) = forget_moved(link, &generation).await {
            tracing::debug!(%error, "rooms that have moved are not forgotten yet");
            sleep(PAUSE).await;
        }
    }
}

async fn forget_moved(link: &Link, generation: &str) -> Result<(), StoreError> {
    let (place, count) = link.place();
    let call = || {
        let mut call = scripts::MOVED.call(link.prefix());
        call.arg(generation);
        call
    };
    let mut cursor = "0".to_owned();
    let mut forgotten = 0;
    loop {
        let mut scan = cmd("ZSCAN");
        scan.arg(format!("{}:log:rooms", link.prefix())).arg(&cursor).arg("COUNT").arg(LOOKED_AT);
        let (next, rooms) = values::scanned(&link.read(&scan).await?)?;
        let is_moved =
            |name: &String| room_of_part(name).is_some_and(|room| room.instance(count) != place);
        let moved = rooms.into_iter().filter(is_moved).collect::<Vec<_>>();
        for rooms in moved.chunks(FORGOTTEN) {
            let mut call = call();
            call.arg(rooms);
            if values::number(&link.read(&call).await?)? == 0 {
                // Another list is in force: the next connection tells what is to be done.
                return Ok(());
            }
            forgotten += rooms.len();
        }
        cursor = next;
        if cursor == "0" {
            break;
        }
    }
    link.read(&call()).await?;
    if forgotten > 0 {
        tracing::info!(
            instance = place + 1,
            rooms = forgotten,
            "rooms that are another instance's are forgotten"
        );
    }
    Ok(())
}
