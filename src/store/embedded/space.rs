//! Whether there is room for more: on the disk, and below `STORE_MAX_BYTES`.

use rusqlite::{Connection, ErrorCode};

use super::{index::Totals, reserve::Reserve, trim::Trim};

/// How much room is left.
pub(super) struct Space {
    pub reserve: Reserve,
    pub trim: Trim,
    /// 0: no limit.
    max_bytes: u64,
    /// The bytes in use at the last measurement.
    used: u64,
    /// The bytes of records that no room has any more which may lie in the log, besides a tenth of the others.
    untidy: u64,
    /// Whether history is being trimmed to make room.
    pressed: bool,
    /// Why the disk took no more, if it is full.
    disk_full: Option<String>,
}

impl Space {
    pub(super) fn new(reserve: Reserve, max_bytes: u64, untidy: u64) -> Self {
        let trim = Trim::new(max_bytes);
        let untidy = if max_bytes > 0 { untidy.min(max_bytes / 32) } else { untidy };
        Self { reserve, trim, max_bytes, used: 0, untidy, pressed: false, disk_full: None }
    }

    /// Whether there is a limit. If so, the bytes in use must be measured after every commit.
    pub(super) fn is_limited(&self) -> bool {
        self.max_bytes > 0
    }

    /// The bytes in use at the last measurement.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Measures the bytes in use. Trimming begins when what is kept takes thirteen sixteenths of the limit, and ends at
    /// twelve: the rest is for what no room has any more and [is not tidied up](Self::is_untidy), and for what must
    /// be written meanwhile.
    pub(super) fn measure(&mut self, conn: &Connection, log: Totals) -> rusqlite::Result<()> {
        let pages = pragma(conn, "PRAGMA page_count")? - pragma(conn, "PRAGMA freelist_count")?;
        self.used = pages * pragma(conn, "PRAGMA page_size")?;
        let kept = self.used.saturating_sub(log.dead());
        let (high, low) = (self.max_bytes / 16 * 13, self.max_bytes / 16 * 12);
        if !self.pressed && self.max_bytes > 0 && kept >= high {
            self.pressed = true;
        } else if self.pressed && kept <= low {
            self.pressed = false;
            self.trim.relax();
        }
        Ok(())
    }

    /// Whether so much of the log is nobody's any more that the space is taken back.
    pub(super) fn is_untidy(&self, log: Totals) -> bool {
        log.dead() > log.kept / 10 + self.untidy
    }

    /// Whether the space of what no room has any more is wanted at once.
    pub(super) fn is_urgent(&self, log: Totals) -> bool {
        self.max_bytes > 0
            && self.used >= self.max_bytes / 16 * 15
            && log.dead() > self.max_bytes / 64
    }

    /// Whether taking back what no room has any more would give a full disk some room.
    pub(super) fn is_worth_cleaning(&self, log: Totals) -> bool {
        log.dead() >= self.reserve.worth() / 4
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
