//! Eviction under node pressure: a state machine that frees the node of what it runs short of
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/>).
//!
//! What runs short, the [gauge](crate::pressure) says; this is what is done about it. For a disk, dead containers and unused
//! images go first, and it is measured again. Only if that was not enough, pods are measured and [ranked](ranking), and one
//! of them goes. When nothing of it is left, it is measured again before another goes.
//!
//! Two things are better than upstream's. A hard threshold comes before all soft ones, and what was given time for a soft one
//! is given no more of it once a hard one is met. And a pod that has nothing in the runtime yet, of which nothing can be
//! measured, is no candidate: it would go before all others, and would free nothing.

mod message;
mod ranking;
mod reclaim;
mod usage;

use std::time::Duration;

use model::reason::event;
use model::{PodKey, PodUid, Signal, pod};
use serde::{Deserialize, Serialize};

use self::message::amount_text;
use self::ranking::Candidate;
use self::reclaim::Reclaimable;
pub use self::usage::{ContainerUsage, FilesUsage, PodToMeasure, PodUsage, PodUsages};
use crate::cx::Cx;
use crate::effect::{EventObject, EventRecord, HostAction, Outcome};
use crate::pods::life::{EndCause, Life};
use crate::pods::record::PodRecord;
use crate::pods::registry::PodRegistry;
use crate::pressure::{Breach, PressureGauge, Sample};
use crate::tasks::{NodeTask, Owner};
use crate::wait::{Found, WaitOn};

const TASK: Owner = Owner::Node(NodeTask::Eviction);

/// The grace of a pod that goes for a hard threshold (upstream's `immediateEvictionGracePeriodSeconds`).
const HARD_GRACE: Duration = Duration::from_secs(1);
/// How long after a pod's grace it is waited for what is left of it to go (upstream's `podCleanupTimeout`).
const CLEANUP_PATIENCE: Duration = Duration::from_secs(30);
/// How long containers, or images, may take to be removed. What hangs is no reason to let the node run dry.
const RECLAIM_PATIENCE: Duration = Duration::from_secs(60);

/// What is being done about a shortage. Times are monotonic.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Eviction {
    stage: Stage,
    /// The sample that was acted upon last; older ones tell nothing.
    judged_at: Option<Duration>,
    /// Nobody could be evicted although somebody should have been.
    is_helpless: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
enum Stage {
    /// Nothing is done.
    #[default]
    Idle,
    /// Dead containers are being removed, until then at most.
    Containers { signal: Signal, then_images: bool, until: Duration },
    /// Unused images are, once that was asked for.
    Images { signal: Signal, is_asked: bool, until: Duration },
    /// It is measured what the node has left, after something was reclaimed for this signal, or else after an eviction.
    Sampling { reclaimed: Option<Signal> },
    /// It was.
    Sampled { reclaimed: Option<Signal> },
    /// It is measured what pods use.
    Measuring { signal: Signal },
    /// It was.
    Measured { signal: Signal, usages: PodUsages },
    /// A pod goes.
    Evicting { uid: PodUid, key: PodKey, is_hard: bool, until: Duration },
}

impl Eviction {
    /// Whether all images that nobody uses are to go; asked once.
    pub(crate) fn takes_images(&mut self) -> bool {
        match &mut self.stage {
            Stage::Images { is_asked, .. } => !std::mem::replace(is_asked, true),
            _ => false,
        }
    }

    /// When a stage is given up.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        match &self.stage {
            Stage::Containers { until, .. } | Stage::Images { until, .. } | Stage::Evicting { until, .. } => {
                Some(*until)
            }
            _ => None,
        }
    }

    /// Goes on, as far as that is possible now. `are_images_going`: what was asked for of images is under way. Returns for which
    /// signal a pod goes from now on, if one does.
    pub(crate) fn drive(
        &mut self,
        pods: &mut PodRegistry,
        are_images_going: bool,
        cx: &mut Cx<'_>,
    ) -> Option<Signal> {
        let mut evicted = None;
        if let Stage::Evicting { .. } = self.stage {
            self.drive_evicting(pods, cx);
        }
        if let Stage::Sampled { reclaimed } = self.stage {
            self.stage = Stage::Idle;
            let is_still_short =
                |signal: &Signal| worst(cx.node.gauge).is_some_and(|b| b.threshold.signal == *signal);
            if let Some(signal) = reclaimed.filter(is_still_short) {
                self.judged_at = cx.node.readings.sample.as_ref().map(|sample| sample.at);
                self.measure(signal, pods, cx);
            }
        }
        if let Stage::Measured { signal, usages } = &mut self.stage {
            let (signal, usages) = (*signal, std::mem::take(usages));
            self.stage = Stage::Idle;
            evicted = self.choose(signal, &usages, pods, cx);
        }
        if let Stage::Idle = self.stage {
            self.begin(pods, cx);
        }
        self.drive_reclaim(pods, are_images_going, cx);
        evicted
    }

    /// Goes on from what was reclaimed to what comes next.
    fn drive_reclaim(&mut self, pods: &PodRegistry, are_images_going: bool, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        if let Stage::Containers { signal, then_images, until } = self.stage
            && (now >= until || !pods.iter().any(PodRecord::is_removing_remains))
        {
            self.stage = match then_images {
                true => Stage::Images { signal, is_asked: false, until: cx.now.after(RECLAIM_PATIENCE) },
                false => self.sample(Some(signal), cx),
            };
        }
        if let Stage::Images { signal, is_asked: true, until } = self.stage
            && (now >= until || !are_images_going)
        {
            self.stage = self.sample(Some(signal), cx);
        }
    }

    /// Acts upon a new sample that shows a shortage.
    fn begin(&mut self, pods: &mut PodRegistry, cx: &mut Cx<'_>) {
        let Some(Sample { at, layout, .. }) = cx.node.readings.sample.as_ref() else { return };
        let Some(breach) = worst(cx.node.gauge) else {
            self.is_helpless = false;
            return;
        };
        if self.judged_at.is_some_and(|judged| *at <= judged) {
            return;
        }
        self.judged_at = Some(*at);
        let signal = breach.threshold.signal;
        cx.out.record(EventRecord {
            about: EventObject::Node,
            is_warning: true,
            reason: event::EVICTION_THRESHOLD_MET.into(),
            message: format!("Attempting to reclaim {}", signal.resource()),
        });
        let until = cx.now.after(RECLAIM_PATIENCE);
        let Reclaimable { containers, images } = Reclaimable::of(signal, *layout);
        if containers {
            pods.mark_where(|record| {
                record.remove_remains(cx.out);
                false
            });
            self.stage = Stage::Containers { signal, then_images: images, until };
        } else if images {
            self.stage = Stage::Images { signal, is_asked: false, until };
        } else {
            self.measure(signal, pods, cx);
        }
    }

    /// Has the node measured anew.
    fn sample(&self, reclaimed: Option<Signal>, cx: &mut Cx<'_>) -> Stage {
        cx.out.start(TASK, HostAction::TakeSample);
        Stage::Sampling { reclaimed }
    }

    /// Has the pods measured that may go.
    fn measure(&mut self, signal: Signal, pods: &PodRegistry, cx: &mut Cx<'_>) {
        let candidates = pods.iter().filter(|record| is_candidate(record));
        let pods: Vec<PodToMeasure> = candidates
            .filter_map(|record| {
                let (pod, observed) = (record.allocated()?.shared().clone(), record.seen.last()?.clone());
                Some(PodToMeasure { pod, observed })
            })
            .collect();
        if pods.is_empty() {
            self.is_helpless = true;
            return;
        }
        let sampled = cx.node.readings.sample.as_ref().map_or(cx.now.mono, |sample| sample.at);
        let age = cx.now.mono.saturating_sub(sampled);
        let ages = cx.node.gauge.in_force().map(|breach| (breach.threshold.signal, age)).collect();
        let with_files = signal.is_of_disk();
        cx.out.start(TASK, HostAction::MeasurePods { pods, with_files, ages });
        self.stage = Stage::Measuring { signal };
    }

    /// Evicts the pod that is to go first, if the signal still tells of a shortage. Returns the signal if one goes.
    fn choose(
        &mut self,
        signal: Signal,
        usages: &PodUsages,
        pods: &mut PodRegistry,
        cx: &mut Cx<'_>,
    ) -> Option<Signal> {
        let all = cx.node.gauge.in_force().filter(|breach| breach.threshold.signal == signal);
        let breach = all.min_by_key(|breach| breach.threshold.grace).copied()?;
        let Sample { at, layout, .. } = cx.node.readings.sample.as_ref()?;
        if signal.is_of_disk() && cx.removals.may_have_freed_since(*at) {
            // Images went meanwhile, which may be enough. There are only so many of them.
            self.stage = self.sample(Some(signal), cx);
            return None;
        }
        let allocated: Vec<_> = pods
            .iter()
            .filter(|record| is_candidate(record))
            .filter_map(|record| Some((record.uid.clone(), record.allocated()?)))
            .collect();
        let mut candidates: Vec<Candidate<'_>> =
            allocated.iter().map(|(uid, pod)| Candidate { pod, usage: usages.get(uid) }).collect();
        ranking::rank(signal, *layout, &mut candidates);
        let Some(first) = candidates.iter().find(|candidate| !candidate.is_critical()) else {
            self.is_helpless = true;
            return None;
        };
        let message = message::message(&breach, first.pod, first.usage, cx.settings.gates);
        let grace = match breach.threshold.is_hard() {
            true => HARD_GRACE,
            // A second at least, as upstream.
            false => Duration::from_secs(
                cx.settings.max_eviction_grace_seconds.min(pod::grace_seconds(first.pod)).max(1),
            ),
        };
        let mut record = pods.get_mut(&pod::uid(first.pod))?;
        record.record_event(true, event::EVICTED, message.clone(), cx.out);
        record.begin_end_within(EndCause::Evicted { message }, grace, cx);
        let (uid, key) = (record.uid.clone(), record.key.clone());
        drop(record);
        pods.mark(uid.clone());
        self.is_helpless = false;
        let until = cx.now.after(grace + CLEANUP_PATIENCE);
        self.stage = Stage::Evicting { uid, key, is_hard: breach.threshold.is_hard(), until };
        Some(signal)
    }

    /// Waits until nothing of the pod is left that takes from the node.
    fn drive_evicting(&mut self, pods: &mut PodRegistry, cx: &mut Cx<'_>) {
        let Stage::Evicting { uid, is_hard, until, .. } = &mut self.stage else { return };
        if !*is_hard && cx.node.gauge.in_force().any(|breach| breach.threshold.is_hard()) {
            *is_hard = true;
            *until = (*until).min(cx.now.after(HARD_GRACE + CLEANUP_PATIENCE));
            if let Some(mut record) = pods.get_mut(uid) {
                record.shorten_grace(HARD_GRACE, cx.now);
            }
            pods.mark(uid.clone());
        }
        let is_gone = pods.get_mut(uid).is_none_or(|mut record| {
            record.remove_remains(cx.out);
            record.has_left_nothing()
        });
        if is_gone || cx.now.mono >= *until {
            self.judged_at = Some(cx.now.mono);
            self.stage = self.sample(None, cx);
        }
    }

    // ---- results ----

    /// A measurement has ended. Returns the sample, if that was it.
    pub(crate) fn finished(&mut self, outcome: Outcome) -> Option<Sample> {
        match (std::mem::take(&mut self.stage), outcome) {
            (Stage::Sampling { reclaimed }, Outcome::Sampled(sample)) => {
                self.stage = Stage::Sampled { reclaimed };
                Some(sample)
            }
            (Stage::Measuring { signal }, Outcome::PodUsages(usages)) => {
                self.stage = Stage::Measured { signal, usages };
                None
            }
            // The next regular sample begins anew.
            (Stage::Sampling { .. } | Stage::Measuring { .. }, _) => None,
            (stage, _) => {
                self.stage = stage;
                None
            }
        }
    }

    // ---- explanation ----

    /// Finds what the node is short of, and what is being done about it.
    pub(crate) fn find_waits(&self, gauge: &PressureGauge, found: &mut Found) {
        for breach in gauge.met() {
            let signal = breach.threshold.signal;
            let is_same = |other: &&Breach| other.threshold.signal == signal;
            // Of several thresholds of a signal the most urgent is told of.
            let first =
                gauge.met().filter(is_same).min_by_key(|other| (!other.is_in_force, other.threshold.grace));
            if first.is_some_and(|first| first.threshold != breach.threshold) {
                continue;
            }
            let wait = found.add(WaitOn::Shortage(signal));
            wait.since = breach.since;
            let limit = breach.threshold.limit.text(breach.amount.capacity);
            let (left, all) = (breach.amount.available, breach.amount.capacity);
            let (left, all) = (amount_text(breach, left), amount_text(breach, all));
            let done = match breach.is_in_force {
                true => self.stage.to_string(self.is_helpless),
                false => "its grace period is not over".to_owned(),
            };
            wait.error =
                Some(format!("{left} of {all} are left, which is below the threshold of {limit}; {done}"));
            if !breach.is_in_force {
                wait.next_try = Some(breach.since + breach.threshold.grace);
            }
        }
    }
}

impl Stage {
    fn to_string(&self, is_helpless: bool) -> String {
        let text = match self {
            Self::Idle if is_helpless => "there is no pod that may be evicted",
            Self::Idle => "the next measurement decides what is done",
            Self::Containers { .. } => "dead containers are being removed",
            Self::Images { .. } => "images that nobody uses are being removed",
            Self::Sampling { .. } | Self::Sampled { .. } => "it is being measured again",
            Self::Measuring { .. } | Self::Measured { .. } => {
                "pods are being measured, of which one is to go"
            }
            Self::Evicting { key, .. } => return format!("pod {key} is being evicted"),
        };
        text.to_owned()
    }
}

/// The threshold that is acted upon: hard ones first, then those of memory, as upstream has it, then in their order.
fn worst(gauge: &PressureGauge) -> Option<&Breach> {
    gauge
        .in_force()
        .min_by_key(|breach| (!breach.threshold.is_hard(), breach.threshold.signal.resource() != "memory"))
}

/// Whether a pod has something in the runtime that would be freed if it went, or went sooner.
fn is_candidate(record: &PodRecord) -> bool {
    let may_go = match &record.life {
        Life::Running(_) => true,
        Life::Terminating(end) => matches!(end.why, EndCause::Deleted | EndCause::DeadlineExceeded),
        Life::Admitting(_) | Life::Terminated(_) => false,
    };
    let has_something =
        || record.seen.last().is_some_and(|o| o.has_running_container() || o.ready_sandbox().is_some());
    record.desired.is_present() && !record.desired.is_static() && may_go && has_something()
}
