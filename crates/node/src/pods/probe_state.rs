//! The state of a probe of one container instance: its verdict, its run of equal results, its next attempt.

use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;
use model::Now;
use serde::{Deserialize, Serialize};

/// One probe of one container instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProbeState {
    /// The verdict so far; `None` before a threshold was reached.
    pub(crate) verdict: Option<bool>,
    /// The last outcome and how often it came in a row.
    pub(super) run: (bool, u32),
    /// Monotonic time of the next attempt.
    pub(crate) next_at: Duration,
    /// Monotonic time at which the initial delay is over. It counts from the container's start,
    /// whichever process of the node saw that.
    not_before: Duration,
    /// Failed for good: the container is being restarted.
    pub(super) is_on_hold: bool,
}

impl ProbeState {
    /// A probe of an instance seen for the first time, `age` after its start. It is due as soon as
    /// its initial delay is over.
    pub(crate) fn new(probe: &Probe, age: Duration, now: Now) -> Self {
        let initial = probe.initial_delay_seconds.and_then(|v| u64::try_from(v).ok()).unwrap_or(0);
        let not_before = now.after(Duration::from_secs(initial).saturating_sub(age));
        Self { verdict: None, run: (false, 0), next_at: not_before, not_before, is_on_hold: false }
    }

    /// Plans the next attempt for this monotonic time, or for the end of the initial delay.
    pub(crate) fn plan(&mut self, at: Duration) {
        self.next_at = at.max(self.not_before);
    }
}
