//! The SQLite file: checks that it is ours and sound *before* anything is written to it, locks it against a
//! second server, and holds its tables and their migrations.

use std::{
    fs::{File, TryLockError},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};

use super::{
    epoch::Epochs,
    load::{LoadError, Loaded, load},
    migrate,
    space::is_want_of_room,
    types::{Location, Settings, Sync},
};

/// "rmct": marks a SQLite file as this program's.
const APPLICATION_ID: i32 = 0x726d_6374;
/// `MIGRATIONS[n]` takes a file from version `n` to `n + 1`.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/1.sql"),
    include_str!("migrations/2.sql"),
    include_str!("migrations/3.sql"),
    include_str!("migrations/4.sql"),
    include_str!("migrations/5.sql"),
    include_str!("migrations/6.sql"),
    include_str!("migrations/7.sql"),
    include_str!("migrations/8.sql"),
];
/// Above this size only the small tables are checked at start; a full check would take minutes.
const FULL_CHECK_BYTES: u64 = 256_000_000;

/// Why a store could not be opened. The file was left as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory, the lock or the file itself cannot be created, read or written.
    #[error("cannot use {} as the store: {source}; {}", path.display(), advice(source))]
    Io {
        /// What could not be used.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process, or another store of this one, has the file open.
    #[error("{} is in use by another roomcast (its lock is held); stop that one, or give each its own STORE_URL", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file is no SQLite database, or a damaged one.
    #[error("{} is damaged or not a database ({detail}); restore it from a backup, or move it away to begin an empty one", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The file is the database of some other program.
    #[error("{} is a SQLite database, but not one of roomcast; choose another STORE_URL", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a newer roomcast.
    #[error("{} has schema version {found}, this roomcast knows versions up to {supported}; run the newer roomcast", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The file's version.
        found: i32,
        /// The newest version that this program knows.
        supported: i32,
    },
    /// There is no room to bring the file to this version's layout.
    #[error("{} cannot be brought to this version's layout: {source}; free some disk space (50 MB are enough for most) and start again: it goes on where it stopped, and nothing is lost", path.display())]
    NoRoom {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// SQLite refused for another reason.
    #[error("cannot open {} as the store: {source}", path.display())]
    Sqlite {
        /// The file, or `memory:`.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// What helps where a file or its directory cannot be used. Containers mount directories that belong to root.
fn advice(source: &io::Error) -> String {
    #[cfg(unix)]
    if source.kind() == io::ErrorKind::PermissionDenied {
        let user = rustix::process::geteuid();
        return format!(
            "roomcast runs as user {user}, who must own the directory and what is in it: chown -R {user} DIRECTORY"
        );
    }
    "the directory must exist or be creatable, and be writable".to_owned()
}

/// An opened file, ready for the writer.
pub(super) struct Opened {
    pub conn: Connection,
    pub epochs: Epochs,
    pub loaded: Loaded,
    /// None in memory.
    pub files: Option<Files>,
}

/// What is held for as long as the file is in use.
pub(super) struct Files {
    /// To flush it. Closing it any earlier would drop the locks that SQLite's connections have: POSIX knows them by process
    /// and file.
    pub database: Arc<File>,
    #[expect(dead_code, reason = "held, not read")]
    lock: File,
}

/// Opens what `settings` name. `boot` names this run of the machine, where the system tells it.
pub(super) fn open(settings: &Settings, boot: Option<&str>) -> Result<Opened, OpenError> {
    let (path, files, conn) = match &settings.location {
        Location::Memory => {
            let path = PathBuf::from("memory:");
            let conn = Connection::open_in_memory().map_err(sqlite(&path))?;
            (path, None, conn)
        }
        Location::File(path) => {
            let lock = lock(path)?;
            inspect(path)?;
            let conn = Connection::open(path).map_err(sqlite(path))?;
            let database =
                File::open(path).map_err(|source| OpenError::Io { path: path.clone(), source })?;
            (path.clone(), Some(Files { database: database.into(), lock }), conn)
        }
    };
    let mut conn = conn;
    prepare(&mut conn, settings).map_err(sqlite(&path))?;
    migrate(&mut conn).map_err(|source| refusal(&path, source))?;
    // One transaction, so that a file that turns out to be damaged is left as it was.
    let transaction = conn.transaction().map_err(sqlite(&path))?;
    let epochs = begin_run(&transaction, settings.sync, boot).map_err(sqlite(&path))?;
    let loaded = load(&transaction, epochs).map_err(|error| match error {
        LoadError::Sqlite(source) => sqlite(&path)(source),
        LoadError::Damaged(detail) => OpenError::Damaged { path: path.clone(), detail },
    })?;
    transaction.commit().map_err(sqlite(&path))?;
    Ok(Opened { conn, epochs, loaded, files })
}

/// A further connection to an opened file that can only read.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(std::time::Duration::from_secs(1))?;
    keep_plans(&conn)?;
    conn.execute_batch("PRAGMA cache_size = -2000; PRAGMA temp_store = MEMORY;")?;
    Ok(conn)
}

/// A further connection that writes back the write-ahead log, and nothing else.
pub(super) fn open_checkpointer(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
}

/// Marks everything as written, and checkpoints.
pub(super) fn end_run(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute("UPDATE meta SET settled = 1", [])?;
    // If readers are busy, the write-ahead log stays; the next open reads it.
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// The kernel's name for this run of the machine.
pub(super) fn boot_id() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned())
}

fn sqlite(path: &Path) -> impl FnOnce(rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    move |source| match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            OpenError::Damaged { path, detail: source.to_string() }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Locked { path },
        _ => OpenError::Sqlite { path, source },
    }
}

/// Why the file could not be brought to this version's layout.
pub(super) fn refusal(path: &Path, source: rusqlite::Error) -> OpenError {
    if is_want_of_room(&source) {
        return OpenError::NoRoom { path: path.to_owned(), source };
    }
    sqlite(path)(source)
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let io = |path: &Path, source| OpenError::Io { path: path.to_owned(), source };
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(|source| io(parent, source))?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let beside = PathBuf::from(beside);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&beside)
        .map_err(|source| io(&beside, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io(&beside, source)),
    }
}

/// Looks at an existing file without writing to it.
fn inspect(path: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let damaged =
        |detail: &str| OpenError::Damaged { path: path.to_owned(), detail: detail.to_owned() };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
    };
    let size = file.metadata().map_err(io)?.len();
    if size == 0 {
        return Ok(());
    }
    let mut header = [0; 100];
    file.read_exact(&mut header).map_err(|_| damaged("it is shorter than a database's header"))?;
    if !header.starts_with(b"SQLite format 3\0") {
        return Err(damaged("it does not begin as a SQLite database does"));
    }
    drop(file);

    let conn = open_reader(path).map_err(sqlite(path))?;
    // Closing the last connection would write the log back into a file that may be refused.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(sqlite(path))?;
    let pragma = |name| {
        conn.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(sqlite(path))
    };
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    let tables: i64 = conn
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(sqlite(path))?;
    if application != APPLICATION_ID && (tables > 0 || application != 0) {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    if version > newest() {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found: version,
            supported: newest(),
        });
    }
    let checks: &[&str] = if size <= FULL_CHECK_BYTES {
        &["PRAGMA quick_check(1)"]
    } else {
        &["PRAGMA quick_check(meta)", "PRAGMA quick_check(rooms)"]
    };
    for check in checks {
        let found: String = conn.query_row(check, [], |row| row.get(0)).map_err(sqlite(path))?;
        if found != "ok" {
            // One problem a line, below a headline.
            return Err(damaged(&found.lines().collect::<Vec<_>>().join(" ")));
        }
    }
    Ok(())
}

fn newest() -> i32 {
    i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)
}

fn prepare(conn: &mut Connection, settings: &Settings) -> rusqlite::Result<()> {
    conn.busy_timeout(std::time::Duration::from_secs(1))?;
    conn.set_prepared_statement_cache_capacity(100);
    keep_plans(conn)?;
    if settings.location != Location::Memory {
        let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        if mode != "wal" {
            let detail =
                format!("its file system does not allow a write-ahead log (journal mode {mode})");
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
            return Err(rusqlite::Error::SqliteFailure(code, Some(detail)));
        }
    }
    conn.execute_batch(match settings.sync {
        Sync::Normal => "PRAGMA synchronous = NORMAL;",
        Sync::Full => "PRAGMA synchronous = FULL;",
    })?;
    conn.execute_batch(
        "PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -16000; PRAGMA temp_store = MEMORY;",
    )?;
    Ok(())
}

/// A statement is compiled once, and not anew whenever a number that the planner may look at is another: a `LIMIT`, or
/// what is compared with a column that a part of an index is for.
fn keep_plans(conn: &Connection) -> rusqlite::Result<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

/// Brings the file to this version's layout.
pub(super) fn migrate(conn: &mut Connection) -> rusqlite::Result<()> {
    let found: i32 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let pending = MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0));
    for (migration, version) in pending.zip(found + 1..) {
        let transaction = conn.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    if migrate::is_pending(conn)? { migrate::finish(conn) } else { Ok(()) }
}

/// Reads what epochs are made from, and marks the file as being written.
///
/// With [`Sync::Normal`] a power failure may take acknowledged commits, whose offsets would be assigned
/// again. A file that was not closed in order and was last written in another run of the machine is taken
/// to be in that state. All its epochs change, so that nobody trusts the offset of a message that is gone.
fn begin_run(conn: &Connection, sync: Sync, boot: Option<&str>) -> rusqlite::Result<Epochs> {
    conn.execute(
        "INSERT INTO meta (id, seed, salt, boot, settled) VALUES (1, random(), random(), NULL, 1)
         ON CONFLICT (id) DO NOTHING",
        [],
    )?;
    conn.execute(
        "UPDATE meta SET salt = CASE WHEN settled = 0 AND boot IS NOT ?1 THEN random() ELSE salt END,
                         boot = ?1, settled = ?2",
        rusqlite::params![boot, sync == Sync::Full],
    )?;
    conn.query_row("SELECT seed, salt FROM meta", [], |row| {
        let (seed, salt): (i64, i64) = (row.get(0)?, row.get(1)?);
        Ok(Epochs { seed: seed.cast_unsigned(), salt: salt.cast_unsigned() })
    })
}
