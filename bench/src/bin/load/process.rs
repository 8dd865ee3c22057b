//! What the measured server used, from `/proc`.

use std::{fs, io};

/// Microseconds per clock tick of `/proc/PID/stat`; 100 ticks a second on every Linux that is not
/// built specially.
const TICK: u64 = 10_000;

/// A process on this machine.
#[derive(Clone, Copy)]
pub struct Process(pub u32);

impl Process {
    /// The generator itself.
    pub fn own() -> Self {
        Self(std::process::id())
    }

    /// The CPU time that it used so far, in microseconds: all threads, and children that ended.
    pub fn cpu(self) -> io::Result<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        // The name, in parentheses, may contain anything; utime is the twelfth field after it.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks: Vec<u64> =
            fields.split_whitespace().skip(11).take(4).map_while(|t| t.parse().ok()).collect();
        match *ticks {
            [user, system, child_user, child_system] => {
                Ok((user + system + child_user + child_system) * TICK)
            }
            _ => Err(io::Error::other("/proc/PID/stat is not as expected")),
        }
    }

    /// Its resident memory now, in bytes.
    pub fn memory(self) -> io::Result<u64> {
        self.status("VmRSS:")
    }

    /// The most resident memory that it ever had, in bytes.
    pub fn peak_memory(self) -> io::Result<u64> {
        self.status("VmHWM:")
    }

    fn status(self, field: &str) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB")?.parse().ok())
            .map(|kilobytes: u64| kilobytes * 1024)
            .ok_or_else(|| io::Error::other(format!("/proc/PID/status has no {field}")))
    }
}
