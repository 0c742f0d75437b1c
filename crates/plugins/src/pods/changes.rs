//! What has happened to pods between two pictures of the node, as upstream tells it.
//!
//! Upstream tells of each status it makes; here pictures are compared, and several changes in a row may be one. A pod has
//! gone for the watchers when nothing of it is left on the node, although its object may stay, and is told of no more.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::PodUid;
use node::{PodView, View};

use crate::wire::EventType;

/// What a watcher has been told.
#[derive(Debug, Default)]
pub(crate) struct SentPods {
    pods: BTreeMap<PodUid, Arc<PodView>>,
}

/// The pods that clients are shown.
pub(crate) fn shown(view: &View) -> impl Iterator<Item = &Arc<PodView>> {
    view.pods.values().filter(|pod| pod.is_wanted && pod.pod.is_some())
}

impl SentPods {
    /// Of a watcher that was told of all these pods.
    pub(crate) fn all(view: &View) -> Self {
        Self { pods: shown(view).map(|pod| (pod.uid.clone(), pod.clone())).collect() }
    }

    /// What it is told next, in the order of the uids.
    pub(crate) fn changes(&mut self, view: &View) -> Vec<(EventType, Arc<PodView>)> {
        let mut changes = Vec::new();
        let before = std::mem::take(&mut self.pods);
        for (uid, pod) in &before {
            if !view.pods.get(uid).is_some_and(|now| now.is_wanted && now.pod.is_some()) && !pod.is_finished {
                changes.push((EventType::Deleted, pod.clone()));
            }
        }
        for pod in shown(view) {
            self.pods.insert(pod.uid.clone(), pod.clone());
            let kind = match before.get(&pod.uid) {
                Some(old) if Arc::ptr_eq(old, pod) || old.is_finished => continue,
                _ if pod.is_finished => EventType::Deleted,
                None if is_deleted(pod) => EventType::Modified,
                None => EventType::Added,
                Some(old) if old.status != pod.status || is_deleted(old) != is_deleted(pod) => {
                    EventType::Modified
                }
                Some(_) => continue,
            };
            changes.push((kind, pod.clone()));
        }
        changes
    }
}

fn is_deleted(view: &PodView) -> bool {
    view.pod.as_ref().is_some_and(|pod| pod.metadata.deletion_timestamp.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::tests::{pod, view};

    #[test]
    fn a_life_is_told() {
        let mut told = SentPods::all(&view(&[]));
        let mut changes = |pods: &[PodView]| {
            let changes = told.changes(&view(pods));
            changes
                .into_iter()
                .map(|(kind, pod)| format!("{} {}", kind.as_str_name(), pod.key.name))
                .collect::<Vec<_>>()
        };
        let none: [&str; 0] = [];
        assert_eq!(changes(&[pod("a", "Pending")]), ["ADDED a"]);
        assert_eq!(changes(&[pod("a", "Pending")]), none, "the same status");
        assert_eq!(changes(&[pod("a", "Running"), pod("b", "Pending")]), ["MODIFIED a", "ADDED b"]);
        let mut deleted = pod("a", "Running");
        let mut object = model::Pod::clone(deleted.pod.as_ref().unwrap());
        object.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
        deleted.pod = Some(Arc::new(object));
        assert_eq!(changes(&[deleted.clone(), pod("b", "Pending")]), ["MODIFIED a"]);
        deleted.is_finished = true;
        assert_eq!(changes(&[deleted.clone(), pod("b", "Pending")]), ["DELETED a"]);
        assert_eq!(changes(&[deleted]), ["DELETED b"], "gone without having ended");
        assert_eq!(changes(&[]), none, "it was told of already");
    }

    #[test]
    fn one_that_was_over_from_the_beginning_is_told_of_no_more() {
        let mut over = pod("a", "Succeeded");
        over.is_finished = true;
        let mut told = SentPods::all(&view(&[over.clone()]));
        assert!(told.changes(&view(&[over])).is_empty());
        assert!(told.changes(&view(&[])).is_empty());
    }

    #[test]
    fn what_no_source_wants_is_not_shown() {
        let mut orphan = pod("a", "Running");
        orphan.is_wanted = false;
        assert_eq!(shown(&view(&[orphan])).count(), 0);
    }
}
