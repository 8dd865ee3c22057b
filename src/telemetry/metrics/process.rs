//! The figures of the process, under the names that Prometheus' own libraries give them.
//!
//! Read from `/proc/self`; left out where there is none (on systems other than Linux).

use std::fs;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

/// Clock ticks a second in `/proc`: 100 on every architecture that matters, whatever the kernel's own rate.
const TICKS: f64 = 100.0;

/// Reads the figures on request.
#[derive(Debug)]
pub(super) struct Process;

#[derive(Debug, PartialEq)]
struct Figures {
    cpu_seconds: f64,
    resident_bytes: i64,
    threads: i64,
    open_fds: i64,
    max_fds: Option<i64>,
}

impl Figures {
    fn read() -> Option<Self> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        // The directory itself is open while it is read.
        let fds = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').split_whitespace().next()?.parse::<i64>().ok()
        };
        Some(Self {
            cpu_seconds: cpu_seconds(&stat)?,
            resident_bytes: field("VmRSS")? * 1024,
            threads: field("Threads")?,
            open_fds: i64::try_from(fds).ok()?,
            max_fds: max_fds(&limits),
        })
    }
}

/// The CPU time of the process in seconds, its own and the kernel's; from `/proc/self/stat`.
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The second field is the program's name, which may hold anything, parentheses too.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11).map(str::parse::<f64>);
    let (user, system) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some((user + system) / TICKS)
}

/// The soft limit on open files; `None` if there is none.
fn max_fds(limits: &str) -> Option<i64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(figures) = Figures::read() else { return Ok(()) };
        let cpu = ConstCounter::new(figures.cpu_seconds);
        let help = "CPU time used by the process, in user and kernel mode";
        cpu.encode(encoder.encode_descriptor(
            "process_cpu",
            help,
            Some(&Unit::Seconds),
            cpu.metric_type(),
        )?)?;
        let mut gauge = |name, help, unit, value| {
            let gauge = ConstGauge::<i64>::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)
        };
        let resident = figures.resident_bytes;
        gauge("process_resident_memory", "Resident memory", Some(&Unit::Bytes), resident)?;
        gauge("process_threads", "Threads", None, figures.threads)?;
        gauge("process_open_fds", "Open file descriptors", None, figures.open_fds)?;
        if let Some(max) = figures.max_fds {
            gauge("process_max_fds", "Limit of open file descriptors", None, max)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_may_be_called_anything() {
        let stat = "7 (a) 1 (b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 1 2 3";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("nonsense"), None);
    }

    #[test]
    fn files_may_be_unlimited() {
        let limits =
            |value| format!("Max processes  1 1 p\nMax open files   {value}  4096  files\n");
        assert_eq!(max_fds(&limits("1024")), Some(1024));
        assert_eq!(max_fds(&limits("unlimited")), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_figures() {
        let figures = Figures::read().unwrap();
        assert!(figures.resident_bytes > 100_000 && figures.threads >= 1 && figures.open_fds >= 1);
    }
}
