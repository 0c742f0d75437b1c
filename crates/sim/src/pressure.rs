//! Memory that runs short: it rises, falls and flaps by what others use, and by the containers that run. And what an eviction
//! has to be founded on.

use std::time::Duration;

use model::{Signal, pod};
use node::pressure::{Amount, Limit, Sample, Threshold};
use node::{
    Action, EventObject, EventRecord, ImageAction, ImageRemovalCause, Outcome, PodToMeasure, PodUsage,
    PodUsages,
};

use crate::world::{SimEvent, World};

/// All memory there is.
const MEMORY: u64 = 100;
/// What one container uses of it.
const PER_CONTAINER: u64 = 4;
/// Less than this is a shortage, at once and after a while.
const HARD: u64 = 20;
const SOFT: u64 = 40;

/// What the node is configured to.
pub(crate) fn thresholds() -> Vec<Threshold> {
    let memory = |limit, grace, reclaim| Threshold {
        signal: Signal::Memory,
        limit: Limit::amount(limit),
        grace: Duration::from_secs(grace),
        reclaim,
    };
    // With three images there are forty left of the disk, unless others use it.
    let disk = Threshold {
        signal: Signal::ImageFs,
        limit: Limit::amount(15),
        grace: Duration::ZERO,
        reclaim: Some(Limit::amount(5)),
    };
    vec![memory(HARD, 0, Some(Limit::amount(5))), memory(SOFT, 15, None), disk]
}

/// How short the node is, and what the process that lives was told of it.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    /// What others than pods use of the memory.
    others: u64,
    /// What others have written to the disk with the images.
    pub(crate) others_on_disk: u64,
    /// Of the newest sample that the process was told: when, and whether anything was below its threshold.
    told: Option<(Duration, bool)>,
    /// When a pod was evicted last.
    evicted: Duration,
    /// When it heard last that an image is gone for the space it took.
    reclaimed: Duration,
}

impl World {
    /// Others use more, or less.
    pub(crate) fn pressure_changes(&mut self) {
        self.pressure.others = if self.rng.percent(50) { 0 } else { self.rng.number(10, 95).into() };
        self.pressure.others_on_disk = if self.rng.percent(70) { 0 } else { self.rng.number(5, 40).into() };
        let (memory, disk) = (self.pressure.others, self.pressure.others_on_disk);
        self.note(|_| format!("others use {memory} of the memory and {disk} of the disk"));
    }

    /// Nothing runs short any more.
    pub(crate) fn pressure_ends(&mut self) {
        self.pressure.others = 0;
        self.pressure.others_on_disk = 0;
    }

    /// What is left of memory.
    pub(crate) fn memory(&self) -> Amount {
        let running = self.runtime.containers.values().filter(|held| held.seen.state.is_running()).count();
        let used =
            self.pressure.others + if self.pressure.others > 0 { PER_CONTAINER * running as u64 } else { 0 };
        Amount { available: MEMORY.saturating_sub(used), capacity: MEMORY }
    }

    /// What pods use.
    pub(crate) fn measure(&self, pods: &[PodToMeasure]) -> PodUsages {
        let usage = |pod: &PodToMeasure| {
            let uid = pod.observed.uid.clone();
            let running = self.runtime.running(&uid).count() as u64;
            (uid, PodUsage { memory_bytes: Some(PER_CONTAINER * running), ..PodUsage::default() })
        };
        pods.iter().map(usage).collect()
    }

    /// Takes note of what the process is told.
    pub(crate) fn learn_sample(&mut self, sample: &Sample) {
        let is_short = |threshold: &Threshold| {
            let extra = threshold.reclaim.map_or(0, |limit| limit.of(MEMORY));
            let amount = sample.signals.get(&threshold.signal);
            amount.is_some_and(|amount| amount.available < threshold.limit.of(amount.capacity) + extra)
        };
        let at = self.at.saturating_sub(self.process.mono(self.at)) + sample.at;
        if self.pressure.told.is_none_or(|(told, _)| told <= at) {
            self.pressure.told = Some((at, thresholds().iter().any(is_short)));
        }
    }

    /// Takes note of images that went.
    pub(crate) fn learn_reclaimed(&mut self, action: &Action, outcome: &Outcome) {
        let Action::Image(ImageAction::Remove { cause: ImageRemovalCause::Space, .. }) = action else {
            return;
        };
        if matches!(outcome, Outcome::Done) {
            self.pressure.reclaimed = self.at;
        }
    }

    /// A process that starts was told nothing yet.
    pub(crate) fn forget_samples(&mut self) {
        self.pressure.told = None;
    }

    /// A pod is evicted only for a shortage that was seen after all that might have ended it: another eviction, and for a disk
    /// the removal of images.
    pub(crate) fn check_event(&mut self, event: &EventRecord) {
        let EventObject::Pod { uid, .. } = &event.about else { return };
        if event.reason != "Evicted" || !event.message.starts_with("The node was low on resource") {
            return;
        }
        let mut all = self.api.pods.values().chain(self.files.values());
        let is_critical = all.any(|known| pod::uid(known) == *uid && pod::is_critical(known));
        let is_of_disk = event.message.contains("resource: ephemeral-storage");
        let rule = match self.pressure.told {
            None => Some("and nothing was measured".to_owned()),
            Some((_, false)) => Some("and nothing runs short".to_owned()),
            Some((at, true)) if at < self.pressure.evicted => {
                Some(format!("by what was measured at {at:?}, before another was"))
            }
            Some((at, true)) if is_of_disk && at < self.pressure.reclaimed => {
                Some(format!("by what was measured at {at:?}, before images went"))
            }
            Some(_) if is_critical => Some("which is critical".to_owned()),
            Some(_) => None,
        };
        if let Some(rule) = rule {
            self.broke(format!("{uid} is evicted, {rule}"));
        }
        self.pressure.evicted = self.at;
    }

    /// When it changes next.
    pub(crate) fn plan_pressure(&mut self, lasts: u32) {
        for _ in 0..self.faults.pressure_changes {
            let after = self.rng.millis(0, lasts);
            self.after(after, SimEvent::Pressure);
        }
    }
}
