//! CPU weight and memory protection of the cgroups of QoS classes: they follow what the pods of a class request together. When processors are short, the
//! Burstable class gets what its pods request, and BestEffort pods what is left; Guaranteed pods stand beside the
//! classes, not in one. Where configured, requested memory is kept for classes in a like manner.

use std::time::Duration;

use model::resources::pod_requests;
use model::{Now, QosClass, Quantity};
use serde::{Deserialize, Serialize};

use crate::cx::Cx;
use crate::effect::{HostAction, Outcome, QosAmounts};
use crate::pods::backoff::{Pauses, Retry};
use crate::pods::record::PodRecord;
use crate::tasks::{NodeTask, Owner};

/// Between two sums: many pods that come together are worth one write.
const PAUSE: Duration = Duration::from_secs(1);

/// What the cgroups of QoS classes are set to, and whether that still holds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct QosCgroups {
    counts_memory: bool,
    /// As last set for certain.
    set: Option<QosAmounts>,
    in_flight: Option<QosAmounts>,
    retry: Option<Retry>,
    /// Pods have come or gone since the last sum.
    is_stale: bool,
    /// Monotonic time before which no sum is made.
    next_at: Duration,
}

impl QosCgroups {
    /// Nothing is set yet. Whether memory counts is the configuration's business.
    pub(crate) fn new(counts_memory: bool) -> Self {
        Self {
            counts_memory,
            set: None,
            in_flight: None,
            retry: None,
            is_stale: false,
            next_at: Duration::ZERO,
        }
    }

    /// A pod has come or gone.
    pub(crate) fn pods_changed(&mut self) {
        self.is_stale = true;
    }

    /// Sets weight and limits anew when that is due.
    pub(crate) fn drive<'a>(&mut self, pods: impl Iterator<Item = &'a PodRecord>, cx: &mut Cx<'_>) {
        if self.next_deadline().is_none_or(|at| at > cx.now.mono) {
            return;
        }
        self.is_stale = false;
        self.next_at = cx.now.after(PAUSE);
        let amounts = requested(pods, self.counts_memory);
        if self.set != Some(amounts) {
            self.in_flight = Some(amounts);
            let memory_bytes = cx.node.facts.memory_bytes;
            cx.out.start(
                Owner::Node(NodeTask::QosCgroups),
                HostAction::UpdateQosCgroups { amounts, memory_bytes },
            );
        }
    }

    /// When [`QosCgroups::drive`] has something to do; monotonic.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let retry_at = self.retry.as_ref().map(|retry| retry.next_at).unwrap_or_default();
        (self.is_stale && self.in_flight.is_none()).then(|| self.next_at.max(retry_at))
    }

    /// Takes in how setting it ended.
    pub(crate) fn finished(&mut self, outcome: Outcome, now: Now) {
        let sent = self.in_flight.take();
        match outcome {
            Outcome::Done => {
                self.set = sent;
                self.retry = None;
            }
            Outcome::Failed(failure) => {
                self.retry = Some(Retry::after(self.retry.as_ref(), failure.message, Pauses::CALLS, now));
                self.is_stale = true;
            }
            _ => self.is_stale = true,
        }
    }
}

/// Whether a pod's cgroup is there for its containers.
pub(crate) fn counts(pod: &PodRecord) -> bool {
    pod.life.is_active()
}

/// What pods request together, class by class.
fn requested<'a>(pods: impl Iterator<Item = &'a PodRecord>, counts_memory: bool) -> QosAmounts {
    let mut amounts = QosAmounts::default();
    for pod in pods.filter(|pod| counts(pod)).filter_map(|pod| pod.desired.pod()) {
        let requests = pod_requests(pod);
        let amount = |name, of: fn(Quantity) -> i64| {
            u64::try_from(of(requests.get(name).unwrap_or_default())).unwrap_or(0)
        };
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        let memory = if counts_memory { amount("memory", |q| q.units()) } else { 0 };
        match QosClass::of(pod) {
            QosClass::Guaranteed => add(&mut amounts.guaranteed_memory_bytes, memory),
            QosClass::Burstable => {
                add(&mut amounts.burstable_cpu_millis, amount("cpu", |q| q.millis()));
                add(&mut amounts.burstable_memory_bytes, memory);
            }
            QosClass::BestEffort => {}
        }
    }
    amounts
}
