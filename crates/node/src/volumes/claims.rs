//! Claims that pods wait for: one request of the API server about each, however many pods ask. A node may only read claims,
//! not watch them, so a claim that cannot be used yet is read again. What is known of a claim is what a pod was told when it
//! asked: a later pod asks anew, as a claim may have been made anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::storage::{BoundClaim, ClaimAnswer, ClaimName};
use model::{Now, PodUid};
use serde::{Deserialize, Serialize};

use crate::effect::{ApiAction, ApiOutcome, Outcome};
use crate::outbox::Outbox;
use crate::pods::backoff::{Pauses, Retry};
use crate::tasks::Owner;

/// A claim is mostly bound within seconds, and nobody tells the node of it.
const PAUSES: Pauses = Pauses { initial: Duration::from_millis(500), max: Duration::from_secs(10) };

/// The claims that are asked about.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Claims {
    #[serde(with = "crate::pairs")]
    asked: BTreeMap<ClaimName, Asked>,
}

/// A claim of which nothing is known that would help.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Asked {
    pods: BTreeSet<PodUid>,
    retry: Option<Retry>,
}

/// What came of a question.
pub(super) struct Answered {
    /// Who asked.
    pub(super) pods: BTreeSet<PodUid>,
    /// The volume; `None` when the claim cannot be used yet.
    pub(super) bound: Option<BoundClaim>,
    /// How it was before there was an answer.
    pub(super) retry: Option<Retry>,
}

impl Claims {
    /// Asks for a pod. Returns why there is no answer, as far as one is known.
    pub(super) fn ask(
        &mut self,
        claim: &ClaimName,
        uid: &PodUid,
        now: Now,
        out: &mut Outbox,
    ) -> Option<&Retry> {
        let asked = self.asked.entry(claim.clone()).or_default();
        asked.pods.insert(uid.clone());
        let owner = Owner::Claim(claim.clone());
        if asked.retry.as_ref().is_none_or(|retry| retry.next_at <= now.mono) && !out.is_open(&owner) {
            out.start(owner, ApiAction::ResolveClaim { claim: claim.clone() });
        }
        asked.retry.as_ref()
    }

    /// Why there is no answer yet.
    pub(super) fn retry(&self, claim: &ClaimName) -> Option<&Retry> {
        self.asked.get(claim)?.retry.as_ref()
    }

    /// A pod needs none any more.
    pub(super) fn forget(&mut self, claim: &ClaimName, uid: &PodUid) {
        let Some(asked) = self.asked.get_mut(claim) else { return };
        asked.pods.remove(uid);
        if asked.pods.is_empty() {
            self.asked.remove(claim);
        }
    }

    /// The API server has answered, or has not.
    pub(super) fn finished(&mut self, claim: &ClaimName, outcome: Outcome, now: Now) -> Answered {
        let Some(asked) = self.asked.get_mut(claim) else {
            return Answered { pods: BTreeSet::new(), bound: None, retry: None };
        };
        let error = match outcome {
            Outcome::Api(ApiOutcome::Claim(ClaimAnswer::Bound(bound))) => {
                let Asked { pods, retry } = std::mem::take(asked);
                self.asked.remove(claim);
                return Answered { pods, bound: Some(bound), retry };
            }
            Outcome::Api(ApiOutcome::Claim(ClaimAnswer::Unusable(problem))) => problem.about(claim),
            Outcome::Failed(failure) => format!("error processing PVC {claim}: {}", failure.message),
            _ => format!(
                "error processing PVC {claim}: failed to fetch PVC from API server: there was no answer"
            ),
        };
        asked.retry = Some(Retry::after(asked.retry.as_ref(), error, PAUSES, now));
        Answered { pods: asked.pods.clone(), bound: None, retry: None }
    }

    /// A pod may not have what was answered: it asks again later, for another claim may bear the name then.
    pub(super) fn refuse(&mut self, claim: &ClaimName, uid: &PodUid, before: Option<&Retry>, now: Now) {
        let asked = self.asked.entry(claim.clone()).or_default();
        asked.pods.insert(uid.clone());
        asked.retry = Some(Retry::after(before, format!("{claim} is not the pod's own"), PAUSES, now));
    }
}
