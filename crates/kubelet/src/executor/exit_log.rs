//! Deduplication of the log lines about exits of containers: each is logged once.
//!
//! The runtime's event says that something has ended; how, and whether it was memory that ran out, is known when
//! the pod was looked at. That is the line people search the log for.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::{ContainerId, ContainerObservation, ContainerState, PodObservation};

/// The containers whose exit needs no line any more.
#[derive(Debug, Default)]
pub(crate) struct ExitLog {
    // Held for look-ups only.
    known: Mutex<Option<HashSet<ContainerId>>>,
}

impl ExitLog {
    /// The containers of a pod whose exit was not logged yet.
    pub(crate) fn unreported<'a>(&self, pod: &'a PodObservation) -> Vec<&'a ContainerObservation> {
        let mut known = self.known();
        let known = known.get_or_insert_default();
        ended(pod).filter(|container| known.insert(container.id.clone())).collect()
    }

    /// The exit of one container was logged.
    pub(crate) fn reported(&self, id: &ContainerId) {
        self.known().get_or_insert_default().insert(id.clone());
    }

    /// Takes in a list of all there is. What ended before the first one needs no line; what the runtime has no more is
    /// forgotten.
    pub(crate) fn relisted(&self, pods: &[PodObservation]) {
        let all = pods.iter().flat_map(ended).map(|container| container.id.clone());
        let mut known = self.known();
        *known = match known.take() {
            None => Some(all.collect()),
            Some(before) => Some(all.filter(|id| before.contains(id)).collect()),
        };
    }

    fn known(&self) -> MutexGuard<'_, Option<HashSet<ContainerId>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ended(pod: &PodObservation) -> impl Iterator<Item = &ContainerObservation> {
    pod.containers.iter().filter(|container| matches!(container.state, ContainerState::Exited(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::observed::ContainerExit;
    use model::{PodKey, PodUid};

    fn pod(containers: &[(&str, bool)]) -> PodObservation {
        let mut pod =
            PodObservation::empty(PodUid::from("u"), PodKey { namespace: "ns".into(), name: "web".into() });
        let container = |&(id, has_ended): &(&str, bool)| {
            let state = match has_ended {
                true => ContainerState::Exited(ContainerExit::default()),
                false => ContainerState::Running { started_at: None },
            };
            ContainerObservation::bare(id.into(), "s".into(), "a", state)
        };
        pod.containers = containers.iter().map(container).collect();
        pod
    }

    fn unreported(exits: &ExitLog, containers: &[(&str, bool)]) -> Vec<String> {
        exits.unreported(&pod(containers)).iter().map(|container| container.id.to_string()).collect()
    }

    #[test]
    fn every_end_is_told_once() {
        let exits = ExitLog::default();
        exits.relisted(&[pod(&[("old", true), ("a", false)])]);
        assert_eq!(unreported(&exits, &[("old", true), ("a", false)]), [""; 0]);
        assert_eq!(unreported(&exits, &[("old", true), ("a", true)]), ["a"]);
        assert_eq!(unreported(&exits, &[("old", true), ("a", true)]), [""; 0]);
        exits.reported(&"b".into());
        assert_eq!(unreported(&exits, &[("a", true), ("b", true)]), [""; 0]);
    }

    #[test]
    fn what_a_later_list_finds_ended_is_still_to_be_told() {
        let exits = ExitLog::default();
        exits.relisted(&[]);
        exits.relisted(&[pod(&[("a", true)])]);
        assert_eq!(unreported(&exits, &[("a", true)]), ["a"]);
        // Gone from the runtime, it is forgotten; what it still has is not.
        exits.relisted(&[pod(&[("a", true)])]);
        assert_eq!(unreported(&exits, &[("a", true)]), [""; 0]);
        exits.relisted(&[]);
        assert_eq!(exits.known().as_ref().map(HashSet::len), Some(0));
    }
}
