//! Every family of the page in tables: what it is called, what it counts, and its samples.
//!
//! Where the kernel does not count something, upstream shows zero rather than nothing, and so do we:
//! alerts compare with zero.

mod cpu;
mod disk;
mod life;
mod memory;
mod network;
mod pressure;
mod tasks;

use telemetry::metrics::{Exposition, Kind};

use super::group::Group;

const NANOS_PER_SECOND: f64 = 1e9;
const MICROS_PER_SECOND: f64 = 1e6;
const MILLIS_PER_SECOND: f64 = 1e3;

/// All families with samples of groups, in the order of the page.
pub(super) const FAMILIES: [&[Family]; 7] = [
    life::FAMILIES,
    cpu::FAMILIES,
    memory::FAMILIES,
    disk::FAMILIES,
    network::FAMILIES,
    tasks::FAMILIES,
    pressure::FAMILIES,
];

/// One family.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    help: &'static str,
    pub(super) kind: Kind,
    /// The names of the labels that its samples have beside a group's.
    labels: &'static [&'static str],
    /// Writes a group's samples. What it returns means nothing: it lets a missing part end it.
    write: fn(&Group, &mut Samples<'_>) -> Option<()>,
}

const fn gauge(
    name: &'static str,
    help: &'static str,
    write: fn(&Group, &mut Samples<'_>) -> Option<()>,
) -> Family {
    Family { name, help, kind: Kind::Gauge, labels: &[], write }
}

const fn counter(
    name: &'static str,
    help: &'static str,
    write: fn(&Group, &mut Samples<'_>) -> Option<()>,
) -> Family {
    Family { name, help, kind: Kind::Counter, labels: &[], write }
}

const fn labelled(family: Family, labels: &'static [&'static str]) -> Family {
    Family { labels, ..family }
}

/// Writes the samples of one family, and its head before the first of them.
#[derive(Debug)]
pub(super) struct Samples<'a> {
    family: &'a Family,
    page: &'a mut Exposition,
    is_begun: bool,
}

/// A value with the group's labels.
struct Sample<'a> {
    group: &'a Group,
    labels: &'a [(&'a str, &'a str)],
    millis: Option<i64>,
}

impl<'a> Samples<'a> {
    pub(super) fn new(family: &'a Family, page: &'a mut Exposition) -> Self {
        Self { family, page, is_begun: false }
    }

    /// The samples of one group.
    pub(super) fn write(&mut self, group: &Group) {
        let _ = (self.family.write)(group, self);
    }

    /// A value measured when the group was read.
    fn at(&mut self, group: &Group, value: f64) -> Option<()> {
        self.push(&Sample { group, labels: &[], millis: Some(group.millis) }, value)
    }

    /// A value with labels of its own, in the order of the family's.
    fn of<const N: usize>(&mut self, group: &Group, values: [&str; N], value: f64) -> Option<()> {
        let mut labels = [("", ""); N];
        for (slot, pair) in labels.iter_mut().zip(self.family.labels.iter().copied().zip(values)) {
            *slot = pair;
        }
        self.push(&Sample { group, labels: &labels, millis: Some(group.millis) }, value)
    }

    /// A value that was not measured, but set.
    fn set(&mut self, group: &Group, value: f64) -> Option<()> {
        self.push(&Sample { group, labels: &[], millis: None }, value)
    }

    fn push(&mut self, sample: &Sample<'_>, value: f64) -> Option<()> {
        if !self.is_begun {
            self.page.family(self.family.name, self.family.help, self.family.kind);
            self.is_begun = true;
        }
        self.page.sample_in(self.family.name, &sample.group.labels, sample.labels, value, sample.millis);
        Some(())
    }
}

/// Counters stay exact up to 2^53: as nanoseconds, 104 days of one CPU. Beyond, digits far behind the
/// point are lost.
fn number(value: u64) -> f64 {
    value as f64
}

fn nanos(value: u64) -> f64 {
    number(value) / NANOS_PER_SECOND
}

fn micros(value: u64) -> f64 {
    number(value) / MICROS_PER_SECOND
}

fn millis(value: u64) -> f64 {
    number(value) / MILLIS_PER_SECOND
}
