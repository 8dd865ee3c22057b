//! A file beside the database that reserves room on the disk. It is removed when the disk is full, because
//! deleting old data makes the database write, too.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::types::Location;

/// The reserve file.
pub(super) struct Reserve {
    /// `None` in memory, where there is no disk.
    path: Option<PathBuf>,
    size: u64,
    held: u64,
    /// How many more calls do nothing, after one found no room.
    pause: u32,
}

/// How many calls those are.
const PAUSE: u32 = 60;

impl Reserve {
    /// The reserve of a store; an earlier process may have left the file.
    pub(super) fn of(location: &Location, size: u64) -> Self {
        let path = match location {
            Location::File(path) => Some(suffixed(path, ".reserve")),
            Location::Memory => None,
        };
        let left = path.as_ref().and_then(|path| fs::metadata(path).ok());
        Self { path, size, held: left.map_or(0, |file| file.len()), pause: 0 }
    }

    /// The free bytes inside the database that are worth as much as a free disk.
    pub(super) fn worth(&self) -> u64 {
        self.size / 4
    }

    /// Fills the reserve unless it is full; after a failure, tries again some calls later.
    pub(super) fn take(&mut self) {
        self.pause = self.pause.saturating_sub(1);
        if self.held < self.size && self.pause == 0 && !self.fill(false) {
            self.pause = PAUSE;
        }
    }

    /// Fills another file before it replaces the old one. If this succeeds, the disk has room for more.
    pub(super) fn renew(&mut self) -> bool {
        self.fill(true)
    }

    fn fill(&mut self, to_the_disk: bool) -> bool {
        let Some(path) = &self.path else { return true };
        let new = suffixed(path, ".new");
        match fill(&new, self.size, to_the_disk).and_then(|()| fs::rename(&new, path)) {
            Ok(()) => {
                self.held = self.size;
                true
            }
            Err(error) => {
                tracing::debug!(%error, "there is no room for the store's reserve");
                // If it was not even created, there is nothing to remove.
                let _ = fs::remove_file(&new);
                false
            }
        }
    }

    /// Removes the file; `false` if there was none.
    pub(super) fn release(&mut self) -> bool {
        let Some(path) = self.path.as_ref().filter(|_| self.held > 0) else { return false };
        self.held = 0;
        fs::remove_file(path).is_ok()
    }
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(suffix);
    beside.into()
}

/// Fills a file with data that no file system can compress.
fn fill(path: &Path, size: u64, to_the_disk: bool) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut left = size;
    while left > 0 {
        let mut block = Vec::with_capacity(65_536);
        while block.len() < 65_536 {
            state = xorshift(state);
            block.extend_from_slice(&state.to_le_bytes());
        }
        block.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        file.write_all(&block)?;
        left -= block.len() as u64;
    }
    // Some file systems detect only here that there is no room.
    if to_the_disk { file.sync_data() } else { Ok(()) }
}

/// The next of a sequence of pseudo-random numbers; not for secrets. `state` must not be 0.
fn xorshift(mut state: u64) -> u64 {
    state ^= state << 13;
    state ^= state >> 7;
    state ^ (state << 17)
}
