//! Reads beside the writer, on a few connections of their own and on Tokio's blocking threads. A store in
//! memory is read through the writer's connection, between two commits.

use std::{path::PathBuf, sync::Arc};

use parking_lot::Mutex;
use rusqlite::{Connection, Row, Rows};
use tokio::sync::Semaphore;

use super::{
    held::Found,
    index::View,
    log, receipts, schema,
    types::{Page, Query, StoreError, Stored},
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
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| closed())?;
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

    /// Refuses if reads are.
    pub(super) fn check_open(&self) -> Result<(), StoreError> {
        if self.permits.is_closed() { Err(closed()) } else { Ok(()) }
    }

    /// Refuses reads from now on and closes the connections that are not in use.
    pub(super) fn close(&self) {
        self.permits.close();
        if let Source::File { idle, .. } = &*self.source {
            idle.lock().clear();
        }
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".into())
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

/// What is read from these rows, with sizes within `max_bytes` except for the first.
pub(super) fn within<T>(
    mut rows: Rows<'_>,
    max_bytes: usize,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<(usize, T)>,
) -> rusqlite::Result<Vec<T>> {
    let (mut items, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let (size, item) = read(row)?;
        bytes += size;
        if bytes > max_bytes && !items.is_empty() {
            break;
        }
        items.push(item);
    }
    Ok(items)
}

/// Reads the page that `view` is of; the error is a message that is not where the index had it.
pub(super) fn page(
    conn: &Connection,
    view: &View,
    query: Query,
) -> rusqlite::Result<Result<Page, Missing>> {
    let mut items: Vec<Stored> = Vec::new();
    let mut bytes = 0;
    for (&place, offset) in view.places.iter().zip(view.from..) {
        let Some(item) = log::read(conn, view.room, offset, place)? else {
            return Ok(Err(Missing { room: view.room, offset, place }));
        };
        bytes += item.entry.size();
        if bytes > query.max_bytes && !items.is_empty() {
            break;
        }
        items.push(item);
    }
    if query.receipts
        && let [first, .., last] | [first @ last] = items.as_slice()
    {
        for (offset, receipt) in receipts::read(conn, view.room, first.offset, last.offset)? {
            // Offsets are consecutive, so they tell the place.
            let at = usize::try_from(offset - view.from).ok();
            if let Some(item) = at.and_then(|at| items.get_mut(at)) {
                item.receipts.push(receipt);
            }
        }
    }
    let (extent, head) = (view.extent, view.extent.head.offset);
    let complete = items.last().map_or(view.from > head, |last| last.offset == head);
    Ok(Ok(Page { items, extent, complete }))
}

/// Finds the newest of the messages `found` that has this id, and is fresh.
pub(super) fn find(
    conn: &Connection,
    room: i64,
    found: &[Found],
    id: &str,
) -> rusqlite::Result<Result<Option<u64>, Missing>> {
    for &Found { offset, place, is_fresh } in found {
        let Some(item) = log::read(conn, room, offset, place)? else {
            return Ok(Err(Missing { room, offset, place }));
        };
        if item.entry.id == id {
            return Ok(Ok(is_fresh.then_some(offset)));
        }
    }
    Ok(Ok(None))
}

/// A message that is not where the index had it: the index knows better by now, or the record is damaged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Missing {
    pub room: i64,
    pub offset: u64,
    pub place: u64,
}

impl Missing {
    pub(super) fn damaged(&self) -> StoreError {
        StoreError::Unavailable(format!(
            "message {} of the room with the id {} is damaged on the disk (place {} of the log)",
            self.offset, self.room, self.place
        ))
    }
}
