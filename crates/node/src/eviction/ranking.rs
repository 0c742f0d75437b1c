//! The order in which pods are evicted: a comparison by keys, one table row for each signal.
//!
//! The rules are upstream's (`helpers.go`, `buildSignalToRankFunc`): for memory and disks those come first that use more than
//! they have requested, then those of lower priority, then those that use most beyond their requests; for process ids
//! priority comes first. A pod of which nothing is known comes before all of which something is.

use std::cmp::Reverse;

use model::pod;
use model::{AllocatedPod, Signal};

use super::usage::{Parts, PodUsage};
use crate::pressure::DiskLayout;

/// A pod that may be evicted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) pod: &'a AllocatedPod,
    /// What it uses; `None` when nothing of it could be measured.
    pub(super) usage: Option<&'a PodUsage>,
}

/// Sorts them; who is to go first comes first. Equals keep their order.
pub(super) fn rank(signal: Signal, layout: DiskLayout, candidates: &mut [Candidate<'_>]) {
    match signal {
        Signal::Memory | Signal::PodsMemory => candidates.sort_by_cached_key(|candidate| {
            let over = candidate.over(|usage| usage.memory_bytes.unwrap_or(0), "memory", "memory");
            (candidate.usage.is_some(), Reverse(over.is_over), candidate.priority(), Reverse(over.amount))
        }),
        Signal::Pids => candidates.sort_by_cached_key(|candidate| {
            let processes = candidate.usage.and_then(|usage| usage.processes).unwrap_or(0);
            (candidate.priority(), candidate.usage.is_some(), Reverse(processes))
        }),
        _ => {
            let parts = parts(signal, layout);
            candidates.sort_by_cached_key(|candidate| {
                let used = |usage: &PodUsage| {
                    let files = usage.files(parts);
                    if signal.is_in_bytes() { files.bytes } else { files.inodes }
                };
                // As upstream, bytes that were requested are taken from inodes, too.
                let over = candidate.over(used, signal.resource(), "ephemeral-storage");
                (candidate.usage.is_some(), Reverse(over.is_over), candidate.priority(), Reverse(over.amount))
            });
        }
    }
}

/// What of pods' files lies on the disk that the signal is about.
fn parts(signal: Signal, layout: DiskLayout) -> Parts {
    let is_of_images = matches!(signal, Signal::ImageFs | Signal::ImageFsInodes);
    let is_of_layers = matches!(signal, Signal::ContainerFs | Signal::ContainerFsInodes);
    let all = Parts { layers: true, logs: true, volumes: true };
    match layout {
        DiskLayout::Together => all,
        DiskLayout::ImagesApart if is_of_images || is_of_layers => Parts { layers: true, ..Parts::default() },
        DiskLayout::ImagesApart => Parts { layers: false, ..all },
        DiskLayout::Split if is_of_images => Parts::default(),
        DiskLayout::Split => all,
    }
}

/// Usage against a request.
struct Over {
    is_over: bool,
    /// How much it is more than was requested; may be negative.
    amount: i128,
}

impl Candidate<'_> {
    fn priority(&self) -> i32 {
        self.pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
    }

    fn requested(&self, resource: &str) -> i128 {
        i128::from(self.pod.requests().get(resource).unwrap_or_default().units())
    }

    /// Whether it uses more than it requests of `resource`, and how much more than it requests of `counted`.
    fn over(&self, used: impl Fn(&PodUsage) -> u64, resource: &str, counted: &str) -> Over {
        let Some(usage) = self.usage else { return Over { is_over: false, amount: 0 } };
        let used = i128::from(used(usage));
        Over { is_over: used > self.requested(resource), amount: used - self.requested(counted) }
    }

    /// Whether it stays whatever happens: static pods, their mirrors and those of critical priority.
    pub(super) fn is_critical(&self) -> bool {
        pod::is_critical(self.pod)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::Pod;
    use serde_json::json;

    use super::super::usage::{ContainerUsage, FilesUsage};
    use super::*;

    const MI: u64 = 1 << 20;

    fn pod(name: &str, priority: i32, requests: serde_json::Value) -> AllocatedPod {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": { "priority": priority, "containers": [{ "name": "c", "resources": { "requests": requests } }] },
        }))
        .unwrap();
        AllocatedPod::granted(Arc::new(pod))
    }

    fn order(signal: Signal, layout: DiskLayout, pods: &[(AllocatedPod, Option<PodUsage>)]) -> String {
        let mut candidates: Vec<Candidate<'_>> =
            pods.iter().map(|(pod, usage)| Candidate { pod, usage: usage.as_ref() }).collect();
        rank(signal, layout, &mut candidates);
        let names = candidates.iter().map(|candidate| candidate.pod.metadata.name.as_deref().unwrap());
        names.collect::<Vec<_>>().join(" ")
    }

    fn memory(bytes: u64) -> Option<PodUsage> {
        Some(PodUsage { memory_bytes: Some(bytes), ..PodUsage::default() })
    }

    /// Upstream's `TestOrderedByExceedsRequestMemory`, `TestOrderedByMemory` and `TestOrderedByPriorityMemory`.
    #[test]
    fn memory_is_ranked_by_excess_then_priority_then_amount() {
        let asks = |amount: &str| json!({ "memory": amount });
        let pods = [
            (pod("below-low", -1, asks("1Gi")), memory(900 * MI)),
            (pod("above-low", -1, asks("100Mi")), memory(150 * MI)),
            (pod("above-high-most", 1, asks("100Mi")), memory(900 * MI)),
            (pod("above-high-less", 1, asks("100Mi")), memory(400 * MI)),
            (pod("best-effort", -1, json!({})), memory(500 * MI)),
            (pod("exact", -1, asks("400Mi")), memory(400 * MI)),
            (pod("unknown", 1, asks("400Mi")), None),
        ];
        for signal in [Signal::Memory, Signal::PodsMemory] {
            assert_eq!(
                order(signal, DiskLayout::Together, &pods),
                "unknown best-effort above-low above-high-most above-high-less exact below-low"
            );
        }
    }

    /// Upstream's `TestOrderedByPriorityProcess`.
    #[test]
    fn process_ids_are_ranked_by_priority_then_number() {
        let of = |processes| Some(PodUsage { processes: Some(processes), ..PodUsage::default() });
        let pods = [
            (pod("low-few", -1, json!({})), of(30)),
            (pod("low-many", -1, json!({})), of(50)),
            (pod("high-many", 1, json!({})), of(100)),
            (pod("high-unknown", 1, json!({})), None),
        ];
        assert_eq!(
            order(Signal::Pids, DiskLayout::Together, &pods),
            "low-many low-few high-unknown high-many"
        );
    }

    /// Upstream's `TestOrderedByExceedsRequestDisk`, `TestOrderedByPriorityDisk` and `TestOrderedByInodes`, by what lies where
    /// (`TestBuildSignalToRankFunc` has no case of its own upstream).
    #[test]
    fn disks_are_ranked_by_what_lies_on_them() {
        let files = |layer: u64, logs: u64, volume: u64| {
            let files = |n: u64| FilesUsage { bytes: n * MI, inodes: n };
            let container = ContainerUsage {
                name: "c".to_owned(),
                layer: Some(files(layer)),
                logs: Some(files(logs)),
                ..ContainerUsage::default()
            };
            let volumes = [("v".to_owned(), files(volume))].into();
            Some(PodUsage { containers: vec![container], volumes, ..PodUsage::default() })
        };
        let none = json!({});
        let pods = [
            (pod("layer", 0, none.clone()), files(300, 10, 10)),
            (pod("logs", 0, none.clone()), files(20, 250, 20)),
            (pod("volume", 0, none.clone()), files(30, 20, 240)),
            (pod("asked", -1, json!({ "ephemeral-storage": "1Gi" })), files(100, 100, 200)),
        ];
        use DiskLayout::{ImagesApart, Split, Together};
        for (signal, layout, expected) in [
            (Signal::NodeFs, Together, "layer logs volume asked"),
            (Signal::ImageFs, Together, "layer logs volume asked"),
            (Signal::NodeFs, ImagesApart, "logs volume layer asked"),
            (Signal::ImageFs, ImagesApart, "layer volume logs asked"),
            (Signal::NodeFs, Split, "layer logs volume asked"),
            (Signal::ContainerFs, Split, "layer logs volume asked"),
            // Nothing of a pod lies there: nobody exceeds anything, and the lowest priority goes.
            (Signal::ImageFs, Split, "asked layer logs volume"),
            // Nobody requests inodes.
            (Signal::NodeFsInodes, Together, "asked layer logs volume"),
            (Signal::ImageFsInodes, ImagesApart, "asked layer volume logs"),
        ] {
            assert_eq!(order(signal, layout, &pods), expected, "{signal} {layout:?}");
        }
    }
}
