//! The process itself, as the kernel sees it, under the names Prometheus' clients agreed on.

use std::fs;
use std::io;
use std::sync::OnceLock;

use super::exposition::{Exposition, Kind};

/// The kernel did not say how the process is doing.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}")]
pub struct ProcessReadError {
    path: &'static str,
    #[source]
    source: io::Error,
}

/// The unit of times in `/proc`, which Linux fixes for programs whatever its own tick.
const TICKS_PER_SECOND: f64 = 100.0;

/// Fields of `/proc/self/stat` after the name in brackets, counted from 0.
const USER_TICKS: usize = 11;
const SYSTEM_TICKS: usize = 12;
const START_TICKS: usize = 19;

/// Metrics of the network, which is that of the process' whole network namespace: so Prometheus' clients count it.
const NETWORK: [(&str, &str, &str); 2] = [
    ("process_network_receive_bytes_total", "InOctets", "Bytes received in the process' network namespace."),
    ("process_network_transmit_bytes_total", "OutOctets", "Bytes sent in the process' network namespace."),
];

/// Writes what is known about the process.
pub(super) fn write(out: &mut Exposition) -> Result<(), ProcessReadError> {
    let stat = read("/proc/self/stat")?;
    let status = read("/proc/self/status")?;
    let limits = read("/proc/self/limits")?;
    let cpu = (ticks(&stat, USER_TICKS) + ticks(&stat, SYSTEM_TICKS)) / TICKS_PER_SECOND;
    counter(out, "process_cpu_seconds_total", "Processor time used, in seconds.", cpu);
    if let Some(limit) = limit(&limits, "Max open files") {
        gauge(out, "process_max_fds", "Files that may be open.", limit);
    }
    let network = read("/proc/self/net/netstat")?;
    for (name, field, help) in NETWORK {
        if let Some(bytes) = ip_count(&network, field) {
            counter(out, name, help, bytes);
        }
    }
    gauge(out, "process_open_fds", "Files that are open.", open_files()?);
    gauge(out, "process_resident_memory_bytes", "Memory in use, in bytes.", bytes(&status, "VmRSS:"));
    gauge(out, "process_start_time_seconds", START_HELP, process_start_seconds()?);
    gauge(out, "process_virtual_memory_bytes", "Memory mapped, in bytes.", bytes(&status, "VmSize:"));
    let most = limit(&limits, "Max address space").unwrap_or(f64::from(u32::MAX) * f64::from(u32::MAX));
    gauge(out, "process_virtual_memory_max_bytes", "Memory that may be mapped, in bytes.", most);
    Ok(())
}

/// When the process was started, in seconds since 1970.
///
/// # Errors
/// If the kernel does not say.
pub fn process_start_seconds() -> Result<f64, ProcessReadError> {
    // Every page tells it, and `/proc/stat` is slow to read: it has a count for each interrupt.
    static START: OnceLock<f64> = OnceLock::new();
    if let Some(start) = START.get() {
        return Ok(*start);
    }
    let start = start_seconds(&read("/proc/self/stat")?, &read("/proc/stat")?);
    Ok(*START.get_or_init(|| start))
}

const START_HELP: &str = "When the process was started, in seconds since 1970.";

/// Writes only when the process was started, as the page about probes has it.
pub(super) fn write_start(out: &mut Exposition) -> Result<(), ProcessReadError> {
    gauge(out, "process_start_time_seconds", START_HELP, process_start_seconds()?);
    Ok(())
}

fn read(path: &'static str) -> Result<String, ProcessReadError> {
    fs::read_to_string(path).map_err(|source| ProcessReadError { path, source })
}

fn counter(out: &mut Exposition, name: &str, help: &str, value: f64) {
    out.family(name, help, Kind::Counter);
    out.sample(name, &[], value);
}

fn gauge(out: &mut Exposition, name: &str, help: &str, value: f64) {
    out.family(name, help, Kind::Gauge);
    out.sample(name, &[], value);
}

fn ticks(stat: &str, index: usize) -> f64 {
    // The name may contain blanks and brackets, but nothing after it does.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    after.split_whitespace().nth(index).and_then(|field| field.parse().ok()).unwrap_or(0.0)
}

fn bytes(status: &str, key: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kilobytes: f64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0.0);
    kilobytes * 1024.0
}

/// A number of `/proc/self/net/netstat`, in which a line of values follows a line of names.
fn ip_count(netstat: &str, name: &str) -> Option<f64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let index = names.split_whitespace().position(|known| known == name)?;
    values.split_whitespace().nth(index)?.parse().ok()
}

/// The soft limit, or `None` if there is none.
fn limit(limits: &str, key: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

fn open_files() -> Result<f64, ProcessReadError> {
    let path = "/proc/self/fd";
    let files = fs::read_dir(path).map_err(|source| ProcessReadError { path, source })?.count();
    // One of them is the folder that was just listed.
    Ok(u32::try_from(files.saturating_sub(1)).map_or(0.0, f64::from))
}

/// When the process of `stat` was started, on a machine that tells in `machine` when it was booted.
fn start_seconds(stat: &str, machine: &str) -> f64 {
    let boot: f64 = machine
        .lines()
        .find_map(|line| line.strip_prefix("btime "))
        .and_then(|seconds| seconds.trim().parse().ok())
        .unwrap_or(0.0);
    boot + ticks(stat, START_TICKS) / TICKS_PER_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fields_after_a_strange_name() {
        let stat = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1 0 4200 1 2";
        assert_eq!(ticks(stat, USER_TICKS), 250.0);
        assert_eq!(ticks(stat, SYSTEM_TICKS), 50.0);
        assert_eq!(ticks(stat, START_TICKS), 4200.0);
        assert_eq!(start_seconds(stat, "intr 1 2 3\nbtime 1000\n"), 1042.0);
        assert_eq!(ticks("", START_TICKS), 0.0);
    }

    #[test]
    fn counts_stand_below_their_names() {
        let netstat = "TcpExt: A InOctets\nTcpExt: 1 2\nIpExt: InNoRoutes InOctets OutOctets\nIpExt: 3 4 5\n";
        for (text, name, want) in [
            (netstat, "InOctets", Some(4.0)),
            (netstat, "OutOctets", Some(5.0)),
            (netstat, "InMcast", None),
            ("IpExt: InOctets\n", "InOctets", None),
            ("", "InOctets", None),
        ] {
            assert_eq!(ip_count(text, name), want, "{name}");
        }
    }

    #[test]
    fn knows_its_own_process() {
        let mut page = Exposition::new();
        write(&mut page).unwrap();
        let text = page.into_text();
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_start_time_seconds") > 1.7e9);
    }
}
