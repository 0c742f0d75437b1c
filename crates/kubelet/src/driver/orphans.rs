//! The log line of an orphan, a pod that the container runtime holds and no source has: why it is ended, which else only the
//! one who removed its manifest knows.

use node::{Phase, PodView, View};
use tracing::info;

/// Tells of those whose end began between two pictures.
pub(super) fn tell(before: &View, now: &View) {
    if before.tallies.orphans == now.tallies.orphans {
        return;
    }
    for pod in begun(before, now) {
        info!(v = 2, pod = %pod.key, podUID = %pod.uid, "Clean up containers for orphaned pod we had not seen before");
    }
}

fn begun<'a>(before: &View, now: &'a View) -> impl Iterator<Item = &'a PodView> {
    let was_decided =
        |pod: &PodView| before.pods.get(&pod.uid).is_some_and(|before| before.phase != Phase::Admitting);
    let holds_something = |pod: &PodView| {
        pod.observed.as_ref().is_some_and(|held| !held.sandboxes.is_empty() || !held.containers.is_empty())
    };
    let all = now.pods.values().map(AsRef::as_ref);
    all.filter(move |pod| {
        pod.pod.is_none() && pod.phase != Phase::Admitting && holds_something(pod) && !was_decided(pod)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::PodStatus;
    use model::{Pod, PodKey, PodObservation, PodUid, SandboxObservation};

    use super::*;

    fn view(phase: Phase, is_known: bool, is_held: bool) -> View {
        let (uid, key) = (PodUid::from("u"), PodKey::new("ns", "web"));
        let mut held = PodObservation::empty(uid.clone(), key.clone());
        if is_held {
            let sandbox = SandboxObservation {
                id: "s".into(),
                attempt: 0,
                is_ready: true,
                created_at: jiff::Timestamp::UNIX_EPOCH,
                ips: Vec::new(),
            };
            held.sandboxes.push(sandbox);
        }
        let pod = PodView {
            uid: uid.clone(),
            key,
            pod: is_known.then(|| Arc::new(Pod::default())),
            allocated: None,
            is_wanted: is_known,
            is_static: false,
            status: Arc::new(PodStatus::default()),
            observed: Some(Arc::new(held)),
            phase,
            is_finished: false,
            are_volumes_made: false,
            published: BTreeMap::new(),
            waits: Arc::default(),
            timeline: Arc::default(),
        };
        View { pods: [(uid, Arc::new(pod))].into_iter().collect(), ..View::default() }
    }

    #[test]
    fn each_is_told_of_once() {
        let count = |before: &View, now: &View| begun(before, now).count();
        let (none, found) = (View::default(), view(Phase::Admitting, false, true));
        let ends = view(Phase::Terminating, false, true);
        assert_eq!(count(&none, &found), 0, "its source may be about to name it");
        assert_eq!((count(&none, &ends), count(&found, &ends)), (1, 1));
        assert_eq!(count(&ends, &view(Phase::Terminated, false, true)), 0);
        assert_eq!(count(&found, &view(Phase::Terminating, true, true)), 0, "a source has it");
        assert_eq!(count(&none, &view(Phase::Terminated, false, false)), 0, "there is nothing but logs");
    }
}
