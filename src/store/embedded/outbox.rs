//! The outbox: webhooks, written in the transaction of what they tell of.
//!
//! A room message's webhook has the place of its message in the log, and the content stays there: it is copied into the
//! outbox only when its record is about to be deleted ([`keep`]), or the webhook is given up. All other webhooks have
//! places of their own, so that the places are the order.
//!
//! It holds at most [`Settings::webhook_limit`]: beyond that the oldest announcement makes way. Messages never
//! do; what is too old is given up ([`sweep`]).

use std::{collections::HashSet, sync::atomic::Ordering::Relaxed, time::Duration};

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::Notify;

use super::{
    log::{sql, unpack},
    reader::within,
    rooms::Rooms,
    shared::Shared,
    told,
    types::Settings,
    webhook_content::{Content, damaged, in_log, keep},
};
use crate::{
    protocol::{epoch::Epoch, position::Position},
    store::webhook::{
        Announcement, FAILED_KEPT, FailedPlace, FailedWebhook, Fate, Settled, StoredWebhook,
        Stream, TOO_OLD, Webhook, WebhookMessage,
    },
};

/// The most webhooks looked at in one step of the sweep.
const SWEPT: usize = 100;

const COLUMNS: &str = "stream, droppable, at, id, json, offset, epoch, data, attachments";

/// What one transaction does to the outbox; in force once it is committed.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// The webhooks that wait, this transaction's among them.
    pending: u64,
    /// The streams that have something new.
    streams: HashSet<Stream>,
    dropped: u64,
    failed: u64,
}

/// A webhook's place in the outbox.
#[derive(Debug, Clone, Copy)]
struct Row {
    place: u64,
    droppable: bool,
    /// That of the room message which lies in the log in the same place.
    position: Option<Position>,
}

/// What the store's handles see of the outbox.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// The streams that have something new.
    streams: Mutex<HashSet<Stream>>,
    changed: Notify,
    /// What waits for another try is to be tried at once.
    pub hurried: Notify,
}

impl Outbox {
    /// Waits for streams that have something new, and takes them.
    pub(super) async fn changed(&self) -> HashSet<Stream> {
        loop {
            let changed = self.changed.notified();
            let streams = std::mem::take(&mut *self.streams.lock());
            if !streams.is_empty() {
                return streams;
            }
            changed.await;
        }
    }
}

impl Change {
    pub(super) fn begin(shared: &Shared) -> Self {
        Self { pending: shared.webhooks.load(Relaxed), ..Self::default() }
    }

    /// The transaction is committed.
    pub(super) fn commit(self, shared: &Shared) {
        shared.webhooks.store(self.pending, Relaxed);
        shared.webhooks_dropped.fetch_add(self.dropped, Relaxed);
        shared.webhooks_failed.fetch_add(self.failed, Relaxed);
        if !self.streams.is_empty() {
            shared.outbox.streams.lock().extend(self.streams);
            shared.outbox.changed.notify_one();
        }
    }

    /// Stores a webhook of a message. If that was appended to its room's log just now, `position` is where.
    pub(super) fn insert_message(
        &mut self,
        conn: &Connection,
        rooms: &mut Rooms,
        settings: &Settings,
        webhook: &Webhook,
        position: Option<Position>,
    ) -> rusqlite::Result<()> {
        let place = match position {
            Some(_) => rooms.newest_place(),
            None => rooms.place_for_webhook(),
        };
        self.insert(conn, settings, webhook, Row { place, droppable: false, position })
    }

    /// Stores an announcement.
    pub(super) fn announce(
        &mut self,
        conn: &Connection,
        rooms: &mut Rooms,
        settings: &Settings,
        announcement: &Announcement,
    ) -> rusqlite::Result<()> {
        if let Some((fact, holds)) = &announcement.fact {
            told::note(conn, fact, *holds)?;
        }
        match &announcement.webhook {
            Some(webhook) => {
                let place = rooms.place_for_webhook();
                self.insert(conn, settings, webhook, Row { place, droppable: true, position: None })
            }
            None => Ok(()),
        }
    }

    fn insert(
        &mut self,
        conn: &Connection,
        settings: &Settings,
        webhook: &Webhook,
        row: Row,
    ) -> rusqlite::Result<()> {
        conn.prepare_cached(
            "INSERT INTO webhooks (seq, stream, droppable, at, id, json, offset, epoch)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            sql(row.place),
            webhook.stream.0,
            row.droppable,
            webhook.at_ms,
            webhook.id,
            webhook.json,
            row.position.map(|position| sql(position.offset)),
            row.position.map(|position| position.epoch.0.cast_signed()),
        ])?;
        self.pending += 1;
        self.streams.insert(webhook.stream);
        self.make_way(conn, settings)
    }

    /// Drops the oldest announcements of what is too much.
    fn make_way(&mut self, conn: &Connection, settings: &Settings) -> rusqlite::Result<()> {
        let excess = self.pending.saturating_sub(settings.webhook_limit);
        if excess > 0 {
            let dropped = conn
                .prepare_cached(
                    "DELETE FROM webhooks WHERE seq IN
                     (SELECT seq FROM webhooks WHERE droppable = 1 ORDER BY seq LIMIT ?1)",
                )?
                .execute([sql(excess)])?;
            self.pending -= dropped as u64;
            self.dropped += dropped as u64;
        }
        Ok(())
    }

    /// Removes what is delivered, and what is given up; returns how many.
    pub(super) fn settle(
        &mut self,
        conn: &Connection,
        settings: &Settings,
        settled: &Settled,
    ) -> rusqlite::Result<u64> {
        let mut removed = 0;
        for (seq, id) in &settled.delivered {
            // After a restart a place may be used again; the id tells them apart.
            removed += conn
                .prepare_cached("DELETE FROM webhooks WHERE seq = ?1 AND id = ?2")?
                .execute(params![sql(*seq), id])? as u64;
        }
        if let Some((seq, id, error)) = &settled.failed {
            let known = conn
                .prepare_cached("SELECT 1 FROM webhooks WHERE seq = ?1 AND id = ?2")?
                .query_row(params![sql(*seq), id], |_| Ok(()))
                .optional()?;
            if known.is_some() {
                fail(conn, settings, sql(*seq), error)?;
                self.failed += 1;
                removed += 1;
            }
        }
        self.pending = self.pending.saturating_sub(removed);
        Ok(removed)
    }

    /// Does with webhooks that were given up what was decided; returns how many of them were still there.
    pub(super) fn decide(
        &mut self,
        conn: &Connection,
        rooms: &mut Rooms,
        settings: &Settings,
        failed: &[(FailedPlace, String)],
        fate: Fate,
    ) -> rusqlite::Result<u64> {
        let mut count = 0;
        for (place, id) in failed {
            let place = sql(place.0);
            if fate == Fate::Retried {
                let stream = conn
                    .prepare_cached(&format!(
                        "INSERT INTO webhooks (seq, {COLUMNS})
                         SELECT ?4, stream, droppable, ?3, id, json, offset, epoch, data, attachments
                         FROM failed_webhooks WHERE seq = ?1 AND id = ?2 RETURNING stream"
                    ))?
                    .query_row(
                        params![
                            place,
                            id,
                            settings.clock.now_ms(),
                            sql(rooms.place_for_webhook())
                        ],
                        |row| row.get(0),
                    )
                    .optional()?;
                self.pending += u64::from(stream.is_some());
                self.streams.extend(stream.map(|stream| Stream(stream, 0)));
            }
            count += conn
                .prepare_cached("DELETE FROM failed_webhooks WHERE seq = ?1 AND id = ?2")?
                .execute(params![place, id])? as u64;
        }
        self.make_way(conn, settings)?;
        Ok(count)
    }

    /// Gives up what is too old, and forgets what was given up long ago, a bounded number of each.
    pub(super) fn sweep(&mut self, conn: &Connection, settings: &Settings) -> rusqlite::Result<()> {
        let now = settings.clock.now_ms();
        let before =
            |age: Duration| now.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        let old = conn
            .prepare_cached("SELECT seq, at FROM webhooks ORDER BY seq LIMIT ?1")?
            .query_map([sql(SWEPT as u64)], |row| Ok((row.get(0)?, row.get(1)?)))?
            .take_while(|row| !row.as_ref().is_ok_and(|(_, at)| *at > before(TOO_OLD)))
            .collect::<rusqlite::Result<Vec<(i64, i64)>>>()?;
        for (seq, _) in old {
            fail(conn, settings, seq, "it could not be tried in time")?;
            self.failed += 1;
            self.pending = self.pending.saturating_sub(1);
        }
        conn.prepare_cached(
            "DELETE FROM failed_webhooks WHERE seq IN
             (SELECT seq FROM failed_webhooks WHERE failed_at <= ?1 ORDER BY seq LIMIT ?2)",
        )?
        .execute(params![before(FAILED_KEPT), sql(SWEPT as u64)])?;
        Ok(())
    }
}

/// Keeps a webhook among those that were given up. As many of them are kept as may wait.
fn fail(conn: &Connection, settings: &Settings, seq: i64, error: &str) -> rusqlite::Result<()> {
    keep(conn, seq.cast_unsigned())?;
    conn.prepare_cached(&format!(
        "INSERT INTO failed_webhooks ({COLUMNS}, failed_at, error)
         SELECT {COLUMNS}, ?2, ?3 FROM webhooks WHERE seq = ?1"
    ))?
    .execute(params![seq, settings.clock.now_ms(), error])?;
    conn.prepare_cached("DELETE FROM webhooks WHERE seq = ?1")?.execute([seq])?;
    // Places of those given up grow by one each, unless the newest are taken out by hand.
    conn.prepare_cached(
        "DELETE FROM failed_webhooks WHERE seq <= (SELECT max(seq) FROM failed_webhooks) - ?1",
    )?
    .execute([sql(settings.webhook_limit)])?;
    Ok(())
}

/// The streams in which something waits.
pub(super) fn streams(conn: &Connection) -> rusqlite::Result<HashSet<Stream>> {
    conn.prepare("SELECT DISTINCT stream FROM webhooks")?
        .query_map([], |row| row.get(0).map(|stream| Stream(stream, 0)))?
        .collect()
}

/// The first webhooks of a stream: at most `limit`, and within `max_bytes` except for the first.
pub(super) fn page(
    conn: &Connection,
    stream: Stream,
    limit: usize,
    max_bytes: usize,
) -> rusqlite::Result<Vec<StoredWebhook>> {
    let mut statement = conn.prepare_cached(
        "SELECT seq, id, at, json, offset, epoch, data, attachments FROM webhooks
         WHERE stream = ?1 ORDER BY seq LIMIT ?2",
    )?;
    let rows = statement.query(params![stream.0, sql(limit as u64)])?;
    within(rows, max_bytes, |row| {
        let webhook = stored(row, |place| in_log(conn, place))?;
        Ok((webhook.size(), webhook))
    })
}

/// Those that were given up behind this place: at most `limit`, and within `max_bytes` except for the first.
pub(super) fn failed(
    conn: &Connection,
    after: FailedPlace,
    limit: usize,
    max_bytes: usize,
) -> rusqlite::Result<Vec<FailedWebhook>> {
    let mut statement = conn.prepare_cached(
        "SELECT seq, id, at, json, offset, epoch, data, attachments, failed_at, error
         FROM failed_webhooks WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let rows = statement.query(params![sql(after.0), sql(limit as u64)])?;
    within(rows, max_bytes, |row| {
        let webhook = stored(row, |_| Ok(damaged()))?;
        let failed = FailedWebhook {
            place: FailedPlace(webhook.seq, 0, 0),
            failed_at_ms: row.get(8)?,
            error: row.get(9)?,
            webhook,
        };
        Ok((failed.webhook.size(), failed))
    })
}

/// The places and ids of the same.
pub(super) fn failed_ids(
    conn: &Connection,
    after: FailedPlace,
    limit: usize,
) -> rusqlite::Result<Vec<(FailedPlace, String)>> {
    conn.prepare_cached("SELECT seq, id FROM failed_webhooks WHERE seq > ?1 ORDER BY seq LIMIT ?2")?
        .query_map(params![sql(after.0), sql(limit as u64)], |row| {
            Ok((FailedPlace(row.get::<_, i64>(0)?.cast_unsigned(), 0, 0), row.get(1)?))
        })?
        .collect()
}

/// How many are kept that were given up.
pub(super) fn count_failed(conn: &Connection) -> rusqlite::Result<u64> {
    conn.query_row("SELECT count(*) FROM failed_webhooks", [], |row| row.get(0))
        .map(i64::cast_unsigned)
}

/// Reads a webhook. `in_log` reads what it tells of, if that was not copied.
fn stored(
    row: &rusqlite::Row<'_>,
    in_log: impl FnOnce(u64) -> rusqlite::Result<Content>,
) -> rusqlite::Result<StoredWebhook> {
    let seq = row.get::<_, i64>(0)?.cast_unsigned();
    let message = match row.get::<_, Option<i64>>(4)? {
        None => None,
        Some(offset) => {
            let epoch = Epoch(row.get::<_, i64>(5)?.cast_unsigned());
            let (json, attachments) = match row.get_ref(6)?.as_str_or_null()? {
                Some(json) => {
                    let packed = row.get_ref(7)?.as_blob_or_null()?;
                    (json.into(), packed.map_or_else(Vec::new, unpack))
                }
                None => in_log(seq)?,
            };
            let position = Position { offset: offset.cast_unsigned(), epoch };
            Some(WebhookMessage { position, json, attachments })
        }
    };
    Ok(StoredWebhook { seq, id: row.get(1)?, at_ms: row.get(2)?, json: row.get(3)?, message })
}

/// How many webhooks wait.
pub(super) fn count(conn: &Connection) -> rusqlite::Result<u64> {
    conn.query_row("SELECT count(*) FROM webhooks", [], |row| row.get(0)).map(i64::cast_unsigned)
}

/// When the oldest one that waits happened.
pub(super) fn oldest(conn: &Connection) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached("SELECT at FROM webhooks ORDER BY seq LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()
}
