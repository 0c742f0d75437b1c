//! What the node runs short of, as its conditions and admission see it: thresholds over what was measured, with a memory, so
//! that a node on the edge does not flap.
//!
//! The rules are upstream's (`eviction_manager.go`, `synchronize`): a threshold counts from the first measurement that is below
//! it, soft ones too, whose grace period is about evictions alone. One that was in force counts until there is so much more
//! than it as evictions are to free (`evictionMinimumReclaim`). And a condition stays for a while after the last threshold
//! was met (`evictionPressureTransitionPeriod`).

use std::collections::BTreeMap;
use std::time::Duration;

use model::Quantity;
pub use model::Signal;
use serde::{Deserialize, Serialize};

/// A condition of the node that tells of a shortage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Kind {
    Memory,
    Disk,
    Pids,
}

/// The condition that tells of a signal.
fn kind_of(signal: Signal) -> Kind {
    match signal {
        Signal::Memory | Signal::PodsMemory => Kind::Memory,
        Signal::NodeFs
        | Signal::NodeFsInodes
        | Signal::ImageFs
        | Signal::ImageFsInodes
        | Signal::ContainerFs
        | Signal::ContainerFsInodes => Kind::Disk,
        Signal::Pids => Kind::Pids,
    }
}

/// How much of something.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Limit {
    /// In the signal's unit, in the notation it is shown in.
    Amount(Quantity),
    /// A share of the capacity, from 0 to 1.
    Share(f32),
}

impl Limit {
    /// So much, shown as a plain number.
    pub fn amount(amount: u64) -> Self {
        Self::Amount(quantity(amount))
    }

    /// The amount, where there is so much in all.
    pub fn of(self, capacity: u64) -> u64 {
        match self {
            Self::Amount(amount) => u64::try_from(amount.units()).unwrap_or(0),
            Self::Share(share) => share_of(capacity, share),
        }
    }

    /// As upstream's messages have it: a share of anything in the notation of bytes.
    pub(crate) fn text(self, capacity: u64) -> String {
        match self {
            Self::Amount(amount) => amount.to_api().0,
            Self::Share(_) => quantity(self.of(capacity)).to_binary_api().0,
        }
    }
}

/// An amount of bytes, inodes or process ids.
pub(crate) fn quantity(amount: u64) -> Quantity {
    Quantity::from_units(i64::try_from(amount).unwrap_or(i64::MAX))
}

/// Rounded down.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)]
fn share_of(amount: u64, share: f32) -> u64 {
    // Amounts of memory and disk are far below 2^53, and a share lies between 0 and 1.
    (amount as f64 * f64::from(share)) as u64
}

/// Less than this is a shortage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// Of what.
    pub signal: Signal,
    /// How much.
    pub limit: Limit,
    /// How long a shortage has to last until it is in force; zero for a hard threshold.
    pub grace: Duration,
    /// How much more there has to be until it is over, once it was in force.
    pub reclaim: Option<Limit>,
}

/// How much there is of what a signal tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// What is left.
    pub available: u64,
    /// What there is in all.
    pub capacity: u64,
}

/// Which of the node's file systems are one. By that it follows whose files count, and what can be reclaimed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskLayout {
    /// Images and containers' writable layers lie on the disk with the root folder, or it is not known where they lie.
    #[default]
    Together,
    /// Images lie on a disk of their own, and so do writable layers, beside them.
    ImagesApart,
    /// Images lie on a disk of their own, and writable layers on another (`KubeletSeparateDiskGC`).
    Split,
}

/// What was measured at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When, monotonic.
    pub at: Duration,
    /// Which file systems are one.
    pub layout: DiskLayout,
    /// What could not be measured is not in it.
    pub signals: BTreeMap<Signal, Amount>,
}

impl Threshold {
    /// Whether it acts at once.
    pub fn is_hard(&self) -> bool {
        self.grace.is_zero()
    }
}

impl Sample {
    /// How much there is in all; `None` for what could not be measured.
    pub fn capacity(&self, signal: Signal) -> Option<u64> {
        self.signals.get(&signal).map(|amount| amount.capacity)
    }

    /// The same with memory that is neither free nor in use left out of it: huge pages count as free although nobody but
    /// those who ask for them gets them.
    pub(crate) fn without_memory(mut self, bytes: u64) -> Self {
        if let Some(memory) = self.signals.get_mut(&Signal::Memory) {
            memory.available = memory.available.saturating_sub(bytes);
            memory.capacity = memory.capacity.saturating_sub(bytes);
        }
        self
    }
}

/// What the node is short of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressures {
    /// Memory.
    pub memory: bool,
    /// Disk space or inodes.
    pub disk: bool,
    /// Process ids.
    pub pids: bool,
}

/// A threshold that is met.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Breach {
    /// Which.
    pub(crate) threshold: Threshold,
    /// Since when, monotonic.
    pub(crate) since: Duration,
    /// What there was at the last measurement.
    pub(crate) amount: Amount,
    /// Whether it has lasted for the grace period.
    pub(crate) is_in_force: bool,
}

/// What is remembered between measurements.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct PressureGauge {
    /// Thresholds that were met the last time, by their place in the settings.
    #[serde(with = "crate::pairs")]
    met: BTreeMap<usize, Breach>,
    /// When a condition's thresholds were met last (monotonic).
    last_met: BTreeMap<Kind, Duration>,
    current: Pressures,
}

impl PressureGauge {
    /// Takes measurements in. Returns whether that changes what the node is short of.
    pub(crate) fn observe(
        &mut self,
        sample: &Sample,
        thresholds: &[Threshold],
        transition: Duration,
    ) -> bool {
        let mut met = BTreeMap::new();
        for (place, threshold) in thresholds.iter().enumerate() {
            let before = self.met.get(&place);
            let was_in_force = before.is_some_and(|before| before.is_in_force);
            let reclaim = threshold.reclaim.filter(|_| was_in_force);
            let Some(amount) = sample.signals.get(&threshold.signal).copied() else { continue };
            let extra = reclaim.map_or(0, |limit| limit.of(amount.capacity));
            if amount.available >= threshold.limit.of(amount.capacity).saturating_add(extra) {
                continue;
            }
            let since = before.map_or(sample.at, |before| before.since);
            let is_in_force = sample.at.saturating_sub(since) >= threshold.grace;
            met.insert(place, Breach { threshold: *threshold, since, amount, is_in_force });
            self.last_met.insert(kind_of(threshold.signal), sample.at);
        }
        self.met = met;
        let is_recent = |kind: Kind| {
            self.last_met.get(&kind).is_some_and(|at| sample.at.saturating_sub(*at) < transition)
        };
        let current = Pressures {
            memory: is_recent(Kind::Memory),
            disk: is_recent(Kind::Disk),
            pids: is_recent(Kind::Pids),
        };
        std::mem::replace(&mut self.current, current) != current
    }

    /// The thresholds that are met, in the order of the settings.
    pub(crate) fn met(&self) -> impl Iterator<Item = &Breach> {
        self.met.values()
    }

    /// Those of them that pods may have to go for.
    pub(crate) fn in_force(&self) -> impl Iterator<Item = &Breach> {
        self.met().filter(|breach| breach.is_in_force)
    }

    /// What the node is short of.
    pub(crate) fn current(&self) -> Pressures {
        self.current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSITION: Duration = Duration::from_secs(300);

    fn hard(signal: Signal, limit: Limit) -> Threshold {
        Threshold { signal, limit, grace: Duration::ZERO, reclaim: None }
    }

    /// What a node is short of after each measurement, a number of seconds and what is available of 1,000: `m` for memory,
    /// `d` for disk, `p` for process ids.
    fn course(thresholds: &[Threshold], measured: &[(u64, &[(Signal, u64)])]) -> Vec<String> {
        let mut gauge = PressureGauge::default();
        let mut before = gauge.current();
        let states = measured.iter().map(|(at, seen)| {
            let signals = seen
                .iter()
                .map(|(signal, available)| (*signal, Amount { available: *available, capacity: 1000 }));
            let sample =
                Sample { at: Duration::from_secs(*at), signals: signals.collect(), ..Sample::default() };
            let has_changed = gauge.observe(&sample, thresholds, TRANSITION);
            let Pressures { memory, disk, pids } = gauge.current();
            assert_eq!(has_changed, std::mem::replace(&mut before, gauge.current()) != gauge.current());
            let letters = [(memory, "m"), (disk, "d"), (pids, "p")];
            letters.iter().filter(|(is_short, _)| *is_short).map(|(_, letter)| *letter).collect::<String>()
        });
        states.collect()
    }

    #[test]
    fn each_signal_is_about_a_condition() {
        use Signal::*;
        for (signal, condition) in [
            (Memory, "m"),
            (PodsMemory, "m"),
            (NodeFs, "d"),
            (NodeFsInodes, "d"),
            (ImageFs, "d"),
            (ImageFsInodes, "d"),
            (ContainerFs, "d"),
            (ContainerFsInodes, "d"),
            (Pids, "p"),
        ] {
            let thresholds = [hard(signal, Limit::Share(0.1))];
            assert_eq!(course(&thresholds, &[(0, &[(signal, 100)])]), [""], "{signal:?}: so much is enough");
            assert_eq!(course(&thresholds, &[(0, &[(signal, 99)])]), [condition], "{signal:?}");
            assert_eq!(course(&[], &[(0, &[(signal, 0)])]), [""], "{signal:?} without a threshold");
            assert_eq!(course(&thresholds, &[(0, &[])]), [""], "{signal:?} not measured");
        }
    }

    #[test]
    fn a_condition_stays_for_the_transition_period() {
        let thresholds = [hard(Signal::Memory, Limit::amount(50))];
        let (short, enough): (&[_], &[_]) = (&[(Signal::Memory, 49)], &[(Signal::Memory, 500)]);
        let measured = [(0, enough), (10, short), (20, enough), (319, enough), (320, enough)];
        // The last measurement below is the one at 10; a node that flaps begins anew each time.
        assert_eq!(course(&thresholds, &measured), ["", "m", "m", "", ""]);
        let flapping = [(10, short), (20, enough), (200, short), (310, enough), (499, enough), (500, enough)];
        assert_eq!(course(&thresholds, &flapping), ["m", "m", "m", "m", "m", ""]);
        assert_eq!(
            course(&thresholds, &[(10, short), (309, &[]), (310, &[])]),
            ["m", "m", ""],
            "silence is no shortage"
        );
    }

    #[test]
    fn a_soft_threshold_shows_at_once() {
        let soft = Threshold { grace: Duration::from_secs(90), ..hard(Signal::NodeFs, Limit::Share(0.2)) };
        assert_eq!(course(&[soft], &[(0, &[(Signal::NodeFs, 199)])]), ["d"]);
    }

    #[test]
    fn a_threshold_in_force_counts_until_enough_is_reclaimed() {
        let reclaim = Some(Limit::amount(100));
        let (short, between, enough): (&[_], &[_], &[_]) =
            (&[(Signal::Pids, 49)], &[(Signal::Pids, 149)], &[(Signal::Pids, 150)]);
        let measured =
            [(0, between), (10, short), (20, between), (319, between), (400, between), (700, enough)];
        let hard = Threshold { reclaim, ..hard(Signal::Pids, Limit::amount(50)) };
        assert_eq!(course(&[hard], &measured), ["", "p", "p", "p", "p", ""]);
        // A soft one whose grace period is not over yet was not in force: nothing is to be reclaimed.
        let soft = Threshold { grace: Duration::from_secs(60), ..hard };
        assert_eq!(course(&[soft], &measured), ["", "p", "p", "", "", ""]);
    }
}
