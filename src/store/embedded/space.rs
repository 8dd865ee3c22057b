//! Whether there is room for more: on the disk, and below `STORE_MAX_BYTES`.

use rusqlite::{Connection, ErrorCode};

use super::{reserve::Reserve, trim::Trim};

/// How much room is left.
pub(super) struct Space {
    pub reserve: Reserve,
    pub trim: Trim,
    /// 0: no limit.
    max_bytes: u64,
    /// The bytes in use at the last measurement.
    used: u64,
    /// Whether history is being trimmed to make room.
    pressed: bool,
    /// Why the disk took no more, if it is full.
    disk_full: Option<String>,
}

impl Space {
    pub(super) fn new(reserve: Reserve, max_bytes: u64) -> Self {
        let trim = Trim::new(max_bytes);
        Self { reserve, trim, max_bytes, used: 0, pressed: false, disk_full: None }
    }

    /// Whether there is a limit. If so, the bytes in use must be measured after every commit.
    pub(super) fn is_limited(&self) -> bool {
        self.max_bytes > 0
    }

    /// The bytes in use at the last measurement.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Measures the bytes in use. Trimming begins a sixteenth below the limit, a reserve for what must be
    /// written meanwhile, and ends an eighth below it.
    pub(super) fn measure(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let pages = pragma(conn, "PRAGMA page_count")? - pragma(conn, "PRAGMA freelist_count")?;
        self.used = pages * pragma(conn, "PRAGMA page_size")?;
        let (high, low) =
            (self.max_bytes - self.max_bytes / 16, self.max_bytes - self.max_bytes / 8);
        if !self.pressed && self.max_bytes > 0 && self.used >= high {
            self.pressed = true;
        } else if self.pressed && self.used <= low {
            self.pressed = false;
            self.trim.relax();
        }
        Ok(())
    }

    /// Whether history is to be trimmed to make room.
    pub(super) fn is_pressed(&self) -> bool {
        self.pressed
    }

    /// Why nothing more can be stored, if so.
    pub(super) fn refusal(&self) -> Option<String> {
        if let Some(reason) = &self.disk_full {
            return Some(reason.clone());
        }
        let over = self.max_bytes > 0 && self.used >= self.max_bytes;
        over.then(|| {
            format!(
                "the store holds {} bytes and may hold {} (STORE_MAX_BYTES), and no history is left to \
                 make room: raise it, or wait until queued messages are delivered or expire",
                self.used, self.max_bytes
            )
        })
    }

    pub(super) fn is_disk_full(&self) -> bool {
        self.disk_full.is_some()
    }

    /// Notes that a transaction failed. If there was no room for it, nothing more is stored until there is
    /// some.
    pub(super) fn note_failure(&mut self, error: &rusqlite::Error) {
        if is_want_of_room(error) {
            self.disk_full = Some(error.to_string());
        }
    }

    /// After old data was deleted from a full disk: accepts writes again if there is room on the disk or
    /// inside the file.
    pub(super) fn look_for_room(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let free = pragma(conn, "PRAGMA freelist_count")? * pragma(conn, "PRAGMA page_size")?;
        if self.reserve.renew() || free >= self.reserve.worth() {
            self.disk_full = None;
        }
        Ok(())
    }
}

/// Whether a larger disk or quota would have helped; the system reports some such cases as I/O failures.
pub(super) fn is_want_of_room(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure))
}

fn pragma(conn: &Connection, name: &str) -> rusqlite::Result<u64> {
    conn.prepare_cached(name)?.query_row([], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
}
