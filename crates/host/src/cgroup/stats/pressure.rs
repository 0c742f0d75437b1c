//! Pressure: how long tasks of a group were held up because a resource was short.

use super::{Controller, GroupReader};

/// How long tasks waited for one resource.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// At least one task waited.
    pub some: Stall,
    /// All tasks waited.
    pub full: Stall,
}

/// Time lost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stall {
    /// Since the group was made, microseconds.
    pub total_micros: u64,
    /// Share of the last ten seconds, percent.
    pub avg10: f64,
    /// Share of the last minute, percent.
    pub avg60: f64,
    /// Share of the last five minutes, percent.
    pub avg300: f64,
}

/// Pressure on each resource.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PressureSum {
    /// On CPUs.
    pub cpu: Option<Pressure>,
    /// On memory.
    pub memory: Option<Pressure>,
    /// On devices.
    pub io: Option<Pressure>,
}

impl GroupReader {
    /// Whether the kernel tells pressure at all: since 4.20, unless it is switched off, and for groups
    /// of version 2 only.
    pub fn has_pressure(&mut self) -> bool {
        !self.is_v1() && self.folder("/").is_some_and(|root| root.join("cpu.pressure").exists())
    }

    /// Pressure on the group. All absent on version 1.
    pub fn pressure(&mut self, group: &str) -> PressureSum {
        if self.is_v1() {
            return PressureSum::default();
        }
        let mut of = |file| self.text(Controller::Cpu, group, file).and_then(pressure);
        PressureSum { cpu: of("cpu.pressure"), memory: of("memory.pressure"), io: of("io.pressure") }
    }
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and a line that begins with `full`, which old
/// kernels do not have for CPUs.
fn pressure(text: &str) -> Option<Pressure> {
    let mut found = Pressure::default();
    let mut is_any = false;
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let stall = match fields.next() {
            Some("some") => &mut found.some,
            Some("full") => &mut found.full,
            _ => continue,
        };
        is_any = true;
        for (key, value) in fields.filter_map(|f| f.split_once('=')) {
            let share = || value.parse().ok();
            match key {
                "total" => stall.total_micros = value.parse().ok()?,
                "avg10" => stall.avg10 = share()?,
                "avg60" => stall.avg60 = share()?,
                "avg300" => stall.avg300 = share()?,
                _ => {}
            }
        }
    }
    is_any.then_some(found)
}
