//! The size of a volume on the node: what its claim says of it, what the node knows it to have, and how far the call is that makes
//! it larger.

use std::time::Duration;

use model::Now;
use model::storage::{ClaimName, ClaimSize, Growth, VolumeSpec};
use serde::{Deserialize, Serialize};

use crate::effect::{EventObject, FailureKind, Outcome};
use crate::pods::backoff::{Pauses, Retry};

/// How often a claim is read again whose volume may grow: nobody tells a node of it. Upstream does it whenever it looks at a pod,
/// which is about as often.
const READ_PERIOD: Duration = Duration::from_secs(60);

/// The size of a volume on the node.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct VolumeSize {
    /// The claim behind it, and what that said last.
    claim: Option<(ClaimName, ClaimSize)>,
    /// When that is read again, monotonic.
    read_at: Duration,
    /// What the node knows it to have, bytes; zero as long as it knows nothing.
    known: u64,
    /// What the driver is making of it.
    pub(super) under_way: Option<Growth>,
    /// Why it could not be grown, and when that is tried again, after another look at the claim.
    pub(super) retry: Option<Retry>,
    /// The driver has failed for good: another size may do.
    has_failed: bool,
    /// The driver grows no volume that is in use.
    is_given_up: bool,
    /// What a pod has not been told yet.
    pub(super) news: Option<Result<(), String>>,
}

impl VolumeSize {
    /// The claim was read.
    pub(super) fn claim_says(&mut self, claim: &ClaimName, size: &ClaimSize, now: Now) {
        if self.known == 0 {
            self.known = size.capacity;
        }
        self.claim = Some((claim.clone(), size.clone()));
        self.read_at = now.after(READ_PERIOD);
    }

    /// The claim could not be read.
    pub(super) fn claim_unread(&mut self, now: Now) {
        self.read_at = now.after(READ_PERIOD);
    }

    /// The claim to be read again, if it is time.
    pub(super) fn rereads(&self, now: Now) -> Option<ClaimName> {
        let (claim, _) = self.claim.as_ref()?;
        (self.under_way.is_none() && self.read_at <= now.mono).then(|| claim.clone())
    }

    /// When the claim is read again; `None` for one that never is.
    pub(super) fn read_at(&self) -> Option<Duration> {
        self.claim.is_some().then_some(self.read_at)
    }

    /// The claim, as events are about it.
    pub(super) fn about(&self) -> Option<EventObject> {
        let (name, size) = self.claim.as_ref()?;
        Some(EventObject::Claim { name: name.clone(), uid: size.uid.clone() })
    }

    /// What is to be done.
    pub(super) fn wanted(&self, spec: &VolumeSpec) -> Option<(ClaimName, String, Growth)> {
        let (claim, size) = self.claim.as_ref().filter(|_| !self.is_given_up)?;
        let mut growth = size.growth(self.known, spec.capacity?)?;
        growth.is_outdated &= self.has_failed;
        Some((claim.clone(), size.uid.clone(), growth))
    }

    /// Whether the driver is at it.
    pub(super) fn is_changing(&self) -> bool {
        self.under_way.is_some()
    }

    /// The driver has done it, or has not. The claim is read again before it is tried again: who looks after it may have
    /// decided otherwise.
    pub(super) fn grown(&mut self, outcome: &Outcome, now: Now) {
        let Some(growth) = self.under_way.take() else { return };
        let message = match outcome {
            Outcome::Failed(failure) if failure.kind == FailureKind::InUse => {
                self.is_given_up = true;
                self.retry = None;
                return;
            }
            Outcome::Failed(failure) => {
                self.has_failed |= failure.kind == FailureKind::Other;
                failure.message.clone()
            }
            Outcome::Cancelled => "the call was given up".to_owned(),
            _ => {
                (self.known, self.retry, self.has_failed) = (growth.size, None, false);
                self.news = Some(Ok(()));
                return;
            }
        };
        let retry = Retry::after(self.retry.as_ref(), message.clone(), Pauses::VOLUMES, now);
        self.read_at = retry.next_at;
        self.retry = Some(retry);
        self.news = Some(Err(message));
    }

    pub(super) fn retry_is_due(&self, now: Now) -> bool {
        self.retry.as_ref().is_none_or(|retry| retry.next_at <= now.mono)
    }

    /// The driver expands nothing, which is fine unless the claim says that it is the node's turn; and who runs already is
    /// not bothered with that.
    pub(super) fn settle_without_driver(&mut self, spec: &VolumeSpec, is_first: bool) {
        let Some((.., growth)) = self.wanted(spec) else { return };
        if growth.is_told || !growth.has_steps || !is_first {
            self.known = growth.size;
        }
    }
}
