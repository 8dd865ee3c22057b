//! The system's memory figures, available on Linux only.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// How much memory the process may have, in bytes: the limit of its control groups (version 2 or 1) or the
/// machine's memory, whichever is less. `None` if that is unknown.
pub(super) fn available() -> Option<u64> {
    available_below(Path::new("/"))
}

fn available_below(root: &Path) -> Option<u64> {
    let machine = kilobytes(&read(root, "proc/meminfo")?, "MemTotal")?;
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    // Control groups write "no limit" as a word, or as more than any machine has.
    Some(groups.lines().filter_map(|line| limit(root, line)).fold(machine, u64::min))
}

/// The limit of a control group and of those above it; `line` is one of `/proc/self/cgroup`.
fn limit(root: &Path, line: &str) -> Option<u64> {
    let (_, group) = line.split_once(':')?;
    let (controllers, path) = group.split_once(':')?;
    let (mount, file) = if controllers.is_empty() {
        ("sys/fs/cgroup", "memory.max")
    } else if controllers.split(',').any(|name| name == "memory") {
        ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
    } else {
        return None;
    };
    // In a container the group's directory may be the mount itself, whatever its path says.
    let path = PathBuf::from(path.trim_start_matches('/'));
    let directories = path.ancestors().map(|path| Path::new(mount).join(path));
    directories.filter_map(|directory| read(root, directory.join(file))?.trim().parse().ok()).min()
}

/// The memory that only the process uses, in bytes. Mapped files do not count: the system takes them back
/// when it needs the memory.
pub(super) fn used() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let swapped = kilobytes(&status, "VmSwap").unwrap_or(0);
    Some(kilobytes(&status, "RssAnon")? + swapped)
}

fn read(root: &Path, path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(root.join(path)).ok()
}

/// The value, in bytes, of a line `name: value kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is available on a system with 1,000 kB and these files below `/`.
    fn system(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        let machine = ("proc/meminfo", "MemTotal:       1000 kB\nMemFree: 1 kB\n");
        for (path, text) in files.iter().chain([&machine]) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        available_below(root.path())
    }

    #[test]
    fn the_machine_bounds_where_nothing_else_does() {
        assert_eq!(system(&[]), Some(1_024_000));
        let unlimited = [("proc/self/cgroup", "0::/a\n"), ("sys/fs/cgroup/a/memory.max", "max\n")];
        assert_eq!(system(&unlimited), Some(1_024_000));
        let (none, value) = ("9223372036854771712\n", Some(1_024_000));
        let first = [
            ("proc/self/cgroup", "8:pids:/a\n4:memory:/a\n0::/\n"),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", none),
        ];
        assert_eq!(system(&first), value);
    }

    #[test]
    fn the_narrowest_control_group_bounds() {
        let second = [
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/memory.max", "500000\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
        ];
        assert_eq!(system(&second), Some(500_000));
        let first = [
            ("proc/self/cgroup", "4:cpu,memory:/a\n0::/\n"),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "300000\n"),
        ];
        assert_eq!(system(&first), Some(300_000));
        // A container's own view: the path is the host's.
        let container = [
            ("proc/self/cgroup", "4:memory:/docker/1\n0::/docker/1\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "200000\n"),
        ];
        assert_eq!(system(&container), Some(200_000));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_memory_and_may() {
        let (used, available) = (used().unwrap(), available().unwrap());
        assert!(0 < used && used < available, "{used} of {available}");
    }
}
