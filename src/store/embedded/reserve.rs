//! Room on the disk, beside the database, that is let go of when the disk is full: to delete what is too
//! old the database must write, too.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::types::Location;

/// The file that holds the room.
pub(super) struct Reserve {
    /// `None` in memory, where there is no disk.
    path: Option<PathBuf>,
    size: u64,
    held: u64,
    /// For how many looks it is left alone, as there was no room.
    pause: u32,
}

/// How many looks those are.
const PAUSE: u32 = 60;

impl Reserve {
    /// The reserve of a store, as an earlier process may have left it.
    pub fn of(location: &Location, size: u64) -> Self {
        let path = match location {
            Location::File(path) => Some(suffixed(path, ".reserve")),
            Location::Memory => None,
        };
        let left = path.as_ref().and_then(|path| fs::metadata(path).ok());
        Self { path, size, held: left.map_or(0, |file| file.len()), pause: 0 }
    }

    /// How much free room inside the database is worth as much as a free disk.
    pub fn worth(&self) -> u64 {
        self.size / 4
    }

    /// Takes the room unless it is taken; where there was none, it is tried again some looks later.
    pub fn take(&mut self) {
        self.pause = self.pause.saturating_sub(1);
        if self.held < self.size && self.pause == 0 && !self.fill(false) {
            self.pause = PAUSE;
        }
    }

    /// Takes the room once more and only then lets go of what it held: so the disk has room for more if
    /// this succeeds.
    pub fn renew(&mut self) -> bool {
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

    /// Lets go of the room; `false` if there was none.
    pub fn release(&mut self) -> bool {
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

/// Fills a file with what no file system can compress.
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
    // Some file systems find out only then whether there is room.
    if to_the_disk { file.sync_data() } else { Ok(()) }
}

/// The next of a sequence of numbers that look random; not for secrets. `state` must not be 0.
pub(super) fn xorshift(mut state: u64) -> u64 {
    state ^= state << 13;
    state ^= state >> 7;
    state ^ (state << 17)
}
