//! Checkpoints: a thread of their own writes the pages of SQLite's write-ahead log back into the database, so that
//! commits do not wait for the disk.
//!
//! SQLite begins the log anew when a transaction begins and everything before it was written back. Under load the writer
//! is always some commits ahead of the thread. So the writer writes the last few pages back itself once the log is long.
//! SQLite flushes the database only then. The thread flushes it after each of its passes, so that little is left to do
//! for the writer.

use std::{
    fs::File,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
};

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use super::schema;

/// The thread writes pages back each time that the log has grown by so many (4 KB each), until few are left, or so often.
const START: u64 = 1_000;
const FEW: u64 = 250;
const PASSES: usize = 4;
/// In a log of so many pages the writer writes back the last few; in a longer one, all that are left.
const LONG: u64 = 4_000;
const LONGEST: u64 = 16_000;

/// The checkpoints of one file. Ends with [`close`](Self::close) or when it is dropped.
pub(super) struct Checkpoints {
    log: Arc<Log>,
    thread: Option<JoinHandle<()>>,
}

struct Log {
    /// Held for a pass.
    conn: Mutex<Connection>,
    /// The database, to flush it.
    database: Arc<File>,
    /// The pages in the log, as of the last commit.
    pages: Arc<AtomicU64>,
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Debug)]
struct Progress {
    pages: u64,
    written_back: u64,
    /// How long the log must be for the next passes of the thread, and of the writer. Readers may keep a pass from getting
    /// on; it is not tried again at every commit.
    next_passes: u64,
    next_finish: u64,
    closed: bool,
}

impl Progress {
    const fn new() -> Self {
        Self { pages: 0, written_back: 0, next_passes: START, next_finish: LONG, closed: false }
    }

    fn left(&self) -> u64 {
        self.pages.saturating_sub(self.written_back)
    }

    /// Notes how long the log is.
    fn measure(&mut self, pages: u64) {
        if pages < self.pages {
            // It has begun anew.
            *self = Self { closed: self.closed, ..Self::new() };
        }
        self.pages = pages;
    }

    /// Whether the writer is to write back what is left.
    fn is_to_be_finished(&self) -> bool {
        self.pages >= self.next_finish && (self.left() <= FEW || self.pages >= LONGEST)
    }
}

impl Checkpoints {
    /// Begins the checkpoints of the file that `writer` writes to, in place of SQLite's own.
    pub(super) fn begin(
        path: &Path,
        database: Arc<File>,
        writer: &mut Connection,
    ) -> io::Result<Self> {
        let pages = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&pages);
        let hook = move |_: &mut rusqlite::hooks::Wal, pages: i32| {
            counted.store(u64::try_from(pages).unwrap_or(0), Relaxed);
            Ok(())
        };
        let conn = schema::open_checkpointer(path).and_then(|conn| {
            writer.wal_hook(Some(hook))?;
            Ok(conn)
        });
        let log = Arc::new(Log {
            conn: Mutex::new(conn.map_err(io::Error::other)?),
            database,
            pages,
            progress: Mutex::new(Progress::new()),
            changed: Condvar::new(),
        });
        let shared = Arc::clone(&log);
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(move || shared.run())?;
        Ok(Self { log, thread: Some(thread) })
    }

    /// The writer has committed.
    pub(super) fn after_commit(&self) {
        let mut progress = self.log.progress.lock();
        progress.measure(self.log.pages.load(Relaxed));
        if progress.pages >= progress.next_passes {
            self.log.changed.notify_one();
        }
        if progress.is_to_be_finished() {
            progress.next_finish = progress.pages + START;
            drop(progress);
            self.finish();
        }
    }

    /// Writes back what is left, after the thread's pass if one is under way.
    pub(super) fn finish(&self) {
        self.log.pass(|| ());
    }

    /// Ends the thread.
    pub(super) fn close(&mut self) {
        self.log.progress.lock().closed = true;
        self.log.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It reports a panic where it happens.
            let _ = thread.join();
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.close();
    }
}

impl Log {
    fn run(&self) {
        loop {
            let mut progress = self.progress.lock();
            while !progress.closed && progress.pages < progress.next_passes {
                self.changed.wait(&mut progress);
            }
            if progress.closed {
                return;
            }
            progress.next_passes = u64::MAX;
            drop(progress);
            for _ in 0..PASSES {
                if self.pass(|| self.flush()) <= FEW || self.progress.lock().closed {
                    break;
                }
            }
            let mut progress = self.progress.lock();
            // If the log has begun anew meanwhile, its next passes are known already.
            if progress.next_passes == u64::MAX {
                progress.next_passes = progress.pages + START;
            }
        }
    }

    /// Writes back the pages of the commits so far, unless readers need them where they are. `flush` is called before
    /// they count as written back. Returns how many are left.
    fn pass(&self, flush: impl FnOnce()) -> u64 {
        let done = {
            let conn = self.conn.lock();
            conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get::<_, i64>(2))
        };
        flush();
        let mut progress = self.progress.lock();
        match done {
            Ok(pages) => {
                // None, if the log was empty.
                let pages = u64::try_from(pages).unwrap_or(0);
                progress.written_back = pages.min(progress.pages);
            }
            Err(error) => tracing::debug!(%error, "the store's log could not be written back"),
        }
        progress.left()
    }

    fn flush(&self) {
        // SQLite flushes it once more before it relies on it, and then reports the failure.
        if let Err(error) = self.database.sync_data() {
            tracing::debug!(%error, "the store's file could not be flushed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(pages: u64, written_back: u64) -> Progress {
        Progress { pages, written_back, ..Progress::new() }
    }

    #[test]
    fn the_writer_finishes_a_long_log_and_what_is_left_of_it_is_little() {
        assert!(!progress(LONG - 1, LONG - 1).is_to_be_finished());
        assert!(progress(LONG, LONG - FEW).is_to_be_finished());
        assert!(!progress(LONG, LONG - FEW - 1).is_to_be_finished());
        assert!(progress(LONGEST, 0).is_to_be_finished());
    }

    /// A file with a table, and its writer's connection.
    fn file() -> (tempfile::TempDir, std::path::PathBuf, Connection) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("test.db");
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; CREATE TABLE log (place INTEGER PRIMARY KEY, json)",
        )
        .unwrap();
        (directory, path, conn)
    }

    fn begin(path: &Path, conn: &mut Connection) -> Checkpoints {
        Checkpoints::begin(path, File::open(path).unwrap().into(), conn).unwrap()
    }

    #[test]
    fn the_log_begins_anew_while_the_writer_never_pauses() {
        let (_directory, path, mut conn) = file();
        let checkpoints = begin(&path, &mut conn);
        let (mut begun, mut longest, mut before) = (0, 0, 0);
        for _ in 0..2_000 {
            conn.execute("INSERT INTO log (json) VALUES (zeroblob(100000))", []).unwrap();
            checkpoints.after_commit();
            let pages = checkpoints.log.pages.load(Relaxed);
            begun += u32::from(pages < before);
            longest = longest.max(pages);
            before = pages;
        }
        assert!(begun > 0, "it has {before} pages");
        assert!(longest < LONGEST + 100, "it had {longest} pages");
    }

    #[test]
    fn what_a_reader_needs_stays_and_goes_back_after_it() {
        let (_directory, path, mut conn) = file();
        let checkpoints = begin(&path, &mut conn);
        let write = |times| {
            for _ in 0..times {
                conn.execute("INSERT INTO log (json) VALUES (zeroblob(100000))", []).unwrap();
                checkpoints.after_commit();
            }
            checkpoints.log.pages.load(Relaxed)
        };
        write(1);
        let reader = schema::open_reader(&path).unwrap();
        let count = |reader: &Connection| {
            reader.query_row("SELECT count(*) FROM log", [], |row| row.get::<_, u32>(0)).unwrap()
        };
        reader.execute_batch("BEGIN").unwrap();
        assert_eq!(count(&reader), 1);
        let pages = write(400);
        assert!(pages > 9_000, "the log has begun anew under a reader: {pages}");
        assert_eq!(count(&reader), 1);
        reader.execute_batch("COMMIT").unwrap();
        checkpoints.finish();
        assert!(write(1) < 100);
        assert_eq!(count(&reader), 402);
    }

    #[test]
    fn a_log_that_begins_anew_begins_its_passes_anew() {
        let mut progress = progress(LONGEST, LONGEST);
        (progress.next_passes, progress.next_finish) = (u64::MAX, LONGEST + START);
        progress.measure(LONGEST + 1);
        assert_eq!((progress.left(), progress.next_finish), (1, LONGEST + START));
        progress.measure(3);
        assert_eq!((progress.left(), progress.next_passes, progress.next_finish), (3, START, LONG));
    }
}
