//! What a process uses, from `/proc`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

/// CPU seconds a process has used so far, in steps of a clock tick (10 ms).
pub(super) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("read the CPU time")?;
    let ticks = parse_ticks(&stat).context("read the CPU time")?;
    // Exact: a process does not live for 2^52 ticks.
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// User and system time are fields 14 and 15; the command before them may hold spaces.
fn parse_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

/// Adds up the processor time of a process's threads, which the kernel tells in nanoseconds. So single requests can be
/// measured. What a thread used between the last look at it and its end is missing.
pub(super) struct Meter {
    pid: u32,
    threads: BTreeMap<u32, u64>,
    nanoseconds: u64,
}

impl Meter {
    pub(super) fn new(pid: u32) -> Result<Self> {
        let mut meter = Self { pid, threads: BTreeMap::new(), nanoseconds: 0 };
        meter.seconds()?;
        Ok(meter)
    }

    /// All that was used so far, seconds. Only differences mean something.
    pub(super) fn seconds(&mut self) -> Result<f64> {
        let folder = format!("/proc/{}/task", self.pid);
        let mut threads: BTreeMap<u32, u64> = BTreeMap::new();
        for entry in std::fs::read_dir(&folder).with_context(|| format!("list {folder}"))? {
            let entry = entry.with_context(|| format!("list {folder}"))?;
            // It may have ended since it was listed.
            let Ok(text) = std::fs::read_to_string(entry.path().join("schedstat")) else { continue };
            let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let used = text.split_whitespace().next().and_then(|used| used.parse().ok());
            let (id, used) = id.zip(used).with_context(|| format!("read {folder}: {text:?}"))?;
            threads.insert(id, used);
        }
        for (id, used) in &threads {
            let before = self.threads.get(id).copied().unwrap_or_default();
            self.nanoseconds += used.saturating_sub(before);
        }
        self.threads = threads;
        // Exact: a process does not run for 2^52 nanoseconds, 52 days of one core.
        Ok(self.nanoseconds as f64 / 1e9)
    }
}

/// Memory of a process in megabytes: resident (RSS) and proportional (PSS).
pub(super) fn memory(pid: u32) -> Result<(f64, f64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).context("read the memory")?;
    let read = |key: &str| megabytes(&text, key);
    Ok((read("Rss:").context("no RSS")?, read("Pss:").context("no PSS")?))
}

/// The value of a line such as `Rss:   12 kB`, in megabytes.
fn megabytes(text: &str, key: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kilobytes: u32 = line.split_whitespace().next()?.parse().ok()?;
    Some(f64::from(kilobytes) * 1024.0 / 1e6)
}

/// The most a process was ever resident with, in megabytes.
pub(super) fn peak_memory(pid: u32) -> Result<f64> {
    let text =
        std::fs::read_to_string(format!("/proc/{pid}/status")).context("read the peak of the memory")?;
    megabytes(&text, "VmHWM:").context("read the peak of the memory: no VmHWM")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_spaces_and_parentheses_is_skipped() {
        let stat = "1 (a ) b) S 0 1 1 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(parse_ticks(stat), Some(200));
        assert_eq!(parse_ticks("1 (a"), None);
    }

    #[test]
    fn this_process_uses_something() {
        let pid = std::process::id();
        assert!(cpu_seconds(pid).unwrap() >= 0.0);
        let (rss, pss) = memory(pid).unwrap();
        assert!(rss >= pss && pss > 0.0);
        assert!(peak_memory(pid).unwrap() > 0.0);
        let mut meter = Meter::new(pid).unwrap();
        let before = meter.seconds().unwrap();
        assert!(before > 0.0 && meter.seconds().unwrap() >= before);
    }
}
