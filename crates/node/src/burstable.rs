//! The weight of all Burstable pods together: when processors are short, the class gets what its
//! pods request, and BestEffort pods what is left. Guaranteed pods stand beside the class, not in it.

use std::time::Duration;

use model::resources::pod_requests;
use model::{Now, QosClass};

use crate::effect::Action;
use crate::input::Outcome;
use crate::outbox::{Outbox, Place};
use crate::pods::backoff::{Pauses, Retry};
use crate::pods::record::{Phase, PodRecord};

/// Between two sums: many pods that come together are worth one write.
const PAUSE: Duration = Duration::from_secs(1);

/// What the class is set to, and whether that still holds.
#[derive(Debug, Default)]
pub(crate) struct BurstableWeight {
    /// Thousandths of a processor, as last set for certain.
    set: Option<u64>,
    in_flight: Option<u64>,
    retry: Option<Retry>,
    /// Pods have come or gone since the last sum.
    is_stale: bool,
    /// Monotonic time before which no sum is made.
    next_at: Duration,
}

impl BurstableWeight {
    /// A pod has come or gone.
    pub(crate) fn pods_changed(&mut self) {
        self.is_stale = true;
    }

    /// Sets the weight anew when it is due.
    pub(crate) fn drive<'a>(
        &mut self,
        now: Now,
        pods: impl Iterator<Item = &'a PodRecord>,
        out: &mut Outbox,
    ) {
        if self.next_deadline().is_none_or(|at| at > now.mono) {
            return;
        }
        self.is_stale = false;
        self.next_at = now.after(PAUSE);
        let millis = requested(pods);
        if self.set != Some(millis) {
            self.in_flight = Some(millis);
            out.start(Place::BurstableWeight, Action::WeighBurstable { millis });
        }
    }

    /// When [`BurstableWeight::drive`] has something to do; monotonic.
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
    matches!(pod.phase, Phase::Running { .. } | Phase::Terminating(_))
}

/// What Burstable pods request together, in thousandths of a processor.
fn requested<'a>(pods: impl Iterator<Item = &'a PodRecord>) -> u64 {
    let pods = pods.filter(|pod| counts(pod)).filter_map(|pod| pod.desired.pod());
    let of_class = pods.filter(|pod| QosClass::of(pod) == QosClass::Burstable);
    let millis = of_class.map(|pod| pod_requests(pod).get("cpu").unwrap_or_default().millis());
    millis.fold(0, |sum, millis| sum.saturating_add(u64::try_from(millis).unwrap_or(0)))
}
