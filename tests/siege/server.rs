//! The server that is besieged: the real binary, in a control group that gives it little memory.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tokio::process::Command;

use crate::support::{
    SECRET,
    process::{self, ServerProcess},
};

/// What it may take; it is told to keep to `MEMORY_LIMIT`, which is less.
pub const LIMIT: u64 = 300_000_000;

/// Where control groups are made: version 2's, and version 1's for memory.
const GROUPS: [(&str, &str); 2] =
    [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")];

pub struct Besieged {
    process: ServerProcess,
    _group: Option<Group>,
    /// How its memory is bound, for the report.
    pub bound: String,
    _directory: TempDir,
}

impl Besieged {
    pub async fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let group = group();
        let bound = group.as_ref().map_or_else(
            || format!("is in no control group (none can be made here): what it takes is measured against {LIMIT} bytes"),
            |group| format!("has {LIMIT} bytes by the control group {}", group.0.display()),
        );
        let binary = std::env::var("ROOMCAST_BIN")
            .unwrap_or_else(|_| env!("CARGO_BIN_EXE_roomcast").to_owned());
        let mut shell = Command::new("sh");
        let procs = group.as_ref().map(|group| group.0.join("cgroup.procs").display().to_string());
        let enter = procs.map_or_else(String::new, |procs| format!("echo $$ > {procs} && "));
        shell.args(["-c", &format!("{enter}exec \"$0\""), &binary]);
        let mut command = process::wrapped(shell, &directory.path().join("roomcast.db"));
        command
            .env("MEMORY_LIMIT", "256MB")
            .env("JWT_SECRET", SECRET)
            .env("NODE_ENV", "development")
            .env("LOG_LEVEL", "info")
            .env("ANNOUNCE_MAX", "100")
            .env_remove("RATE_LIMIT_EVENTS");
        let process = process::start(command).await;
        Self { process, _group: group, bound, _directory: directory }
    }

    pub fn address(&self) -> SocketAddr {
        self.process.address()
    }

    /// How much memory it has, in bytes; `None` once it has died.
    pub fn rss(&mut self) -> Option<u64> {
        if self.process.has_ended() {
            return None;
        }
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
    }

    /// What it says of itself, as far as it concerns memory and those whom it cut off.
    pub async fn told(&self) -> String {
        let url = format!("http://{}/metrics", self.address());
        let Ok(answer) = reqwest::get(url).await else { return "it tells no metrics".to_owned() };
        let text = answer.text().await.unwrap_or_default();
        let names = ["memory", "account", "slow", "cut", "refused", "budget", "connections "];
        let wanted =
            |line: &&str| !line.starts_with('#') && names.iter().any(|name| line.contains(name));
        text.lines()
            .filter(wanted)
            .filter(|line| !line.ends_with(" 0"))
            .collect::<Vec<_>>()
            .join("\n")
    }

    pub async fn end(self) {
        self.process.kill().await;
    }
}

/// A control group; it goes with this value.
struct Group(PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        // It is empty as soon as the kernel has noticed that its process is dead.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// A new control group with the limit; `None` where none can be made.
fn group() -> Option<Group> {
    GROUPS.iter().find_map(|(root, limit)| {
        let group = Path::new(root).join(format!("roomcast-siege-{}", std::process::id()));
        // Elsewhere `memory.max` is missing in a new directory, or the directory cannot be made.
        fs::create_dir(&group).ok()?;
        let is_bound =
            group.join(limit).exists() && fs::write(group.join(limit), LIMIT.to_string()).is_ok();
        if !is_bound {
            let _ = fs::remove_dir(&group);
        }
        is_bound.then_some(Group(group))
    })
}
