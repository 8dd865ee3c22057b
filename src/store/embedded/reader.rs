//! Reads beside the writer, on a few connections of their own and on Tokio's blocking threads. A store in
//! memory is read through the writer's connection, between two commits.

use std::{path::PathBuf, sync::Arc};

use parking_lot::Mutex;
use rusqlite::{Connection, params};
use tokio::sync::Semaphore;

use super::{
    epoch::Epochs,
    log::{self, ENTRY_COLUMNS, Window, entry, except, sql},
    receipts, schema,
    types::{Page, Query, RoomKey, StoreError, Stored},
};

/// The most reads at once; further ones wait in order.
const CONNECTIONS: usize = 4;

/// Where reads are done.
pub(super) struct Readers {
    source: Arc<Source>,
    permits: Arc<Semaphore>,
}

enum Source {
    File { path: PathBuf, idle: Mutex<Vec<Connection>> },
    Memory(Arc<Mutex<Connection>>),
}

impl Readers {
    pub(super) fn of_file(path: PathBuf) -> Self {
        Self::new(Source::File { path, idle: Mutex::default() }, CONNECTIONS)
    }

    pub(super) fn of_memory(conn: Arc<Mutex<Connection>>) -> Self {
        Self::new(Source::Memory(conn), 1)
    }

    fn new(source: Source, permits: usize) -> Self {
        Self { source: Arc::new(source), permits: Arc::new(Semaphore::new(permits)) }
    }

    /// Runs `read` on one consistent state of the data, on a blocking thread.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let gone = || StoreError::Unavailable("the store is closed".into());
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| gone())?;
        let source = Arc::clone(&self.source);
        let done = tokio::task::spawn_blocking(move || {
            // Held until the read ends, even if its caller is gone.
            let _permit = permit;
            source.run(read)
        });
        match done.await {
            Ok(result) => result.map_err(|error| StoreError::Unavailable(error.to_string())),
            Err(error) => Err(StoreError::Unavailable(error.to_string())),
        }
    }

    /// Refuses reads from now on and closes the connections that are not in use.
    pub(super) fn close(&self) {
        self.permits.close();
        if let Source::File { idle, .. } = &*self.source {
            idle.lock().clear();
        }
    }
}

impl Source {
    fn run<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        match self {
            Self::Memory(conn) => snapshot(&conn.lock(), read),
            Self::File { path, idle } => {
                let free = idle.lock().pop();
                let conn = match free {
                    Some(conn) => conn,
                    None => schema::open_reader(path)?,
                };
                let result = snapshot(&conn, read);
                // A connection that met an error is not reused.
                if result.is_ok() {
                    idle.lock().push(conn);
                }
                result
            }
        }
    }
}

fn snapshot<T>(
    conn: &Connection,
    read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = conn.unchecked_transaction()?;
    let result = read(&transaction)?;
    transaction.finish()?;
    Ok(result)
}

/// Reads the part of a room's history that `query` names.
pub(super) fn page(
    conn: &Connection,
    epochs: Epochs,
    window: Window,
    key: &RoomKey,
    query: Query,
) -> rusqlite::Result<Page> {
    let (extent, room) = log::extent(conn, epochs, window, key)?;
    let Some(room) = room else { return Ok(Page { items: Vec::new(), extent, complete: true }) };
    let from = extent.oldest.max(query.after.saturating_add(1));
    let mut items: Vec<Stored> = Vec::new();
    let head = extent.head.offset;
    if from <= head {
        let mut statement = conn.prepare_cached(&format!(
            "SELECT offset, left_out, {ENTRY_COLUMNS} FROM messages WHERE room = ?1 AND offset >= ?2 ORDER BY offset LIMIT ?3"
        ))?;
        let mut rows = statement.query(params![room.id, sql(from), sql(query.limit as u64)])?;
        let mut bytes = 0;
        while let Some(row) = rows.next()? {
            let entry = entry(row, 2)?;
            bytes += entry.size();
            if bytes > query.max_bytes && !items.is_empty() {
                break;
            }
            items.push(Stored {
                offset: row.get::<_, i64>(0)?.cast_unsigned(),
                entry,
                except: except(row, 1)?,
                receipts: Vec::new(),
            });
        }
    }
    if query.receipts
        && let [first, .., last] | [first @ last] = items.as_slice()
    {
        for (offset, receipt) in receipts::read(conn, &room, first.offset, last.offset)? {
            // Offsets are consecutive, so they tell the place.
            if let Some(item) = usize::try_from(offset - from).ok().and_then(|at| items.get_mut(at))
            {
                item.receipts.push(receipt);
            }
        }
    }
    let complete = items.last().map_or(from > head, |last| last.offset == head);
    Ok(Page { items, extent, complete })
}
