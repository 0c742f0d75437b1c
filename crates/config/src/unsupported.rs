//! What a document may ask for that this version does not do yet. Asking for it is not silently
//! ignored: each entry that applies becomes a warning, and disappears from this list on the day the
//! feature works.

use std::time::Duration;

use crate::document::KubeletConfiguration;
use crate::finding::{Finding, Findings};

struct Entry {
    path: &'static str,
    is_asked_for: fn(&KubeletConfiguration) -> bool,
    instead: &'static str,
}

#[rustfmt::skip]
const ENTRIES: &[Entry] = &[
    Entry { path: "contentType", is_asked_for: |d| !matches!(d.content_type.as_str(), PROTOBUF | "application/json"), instead: "the API server is sent JSON" },
    Entry { path: "cpuManagerPolicy", is_asked_for: |d| d.cpu_manager_policy != "none", instead: "no container gets CPUs of its own" },
    Entry { path: "cpuManagerPolicyOptions", is_asked_for: |d| d.cpu_manager_policy_options.iter().next().is_some(), instead: "no container gets CPUs of its own" },
    Entry { path: "cpuManagerReconcilePeriod", is_asked_for: |d| d.cpu_manager_reconcile_period.to_std() != Duration::from_secs(10), instead: "no container gets CPUs of its own" },
    Entry { path: "enableContentionProfiling", is_asked_for: |d| d.enable_contention_profiling, instead: "there is no profile of lock contention" },
    Entry { path: "enableControllerAttachDetach", is_asked_for: |d| d.enable_controller_attach_detach == Some(false), instead: "the kubelet attaches no volumes" },
    Entry { path: "kernelMemcgNotification", is_asked_for: |d| d.kernel_memcg_notification, instead: "memory is measured at intervals" },
    Entry { path: "memoryManagerPolicy", is_asked_for: |d| d.memory_manager_policy != "None", instead: "no container gets memory of a NUMA node of its own" },
    Entry { path: "reservedMemory", is_asked_for: |d| !d.reserved_memory.items().is_empty(), instead: "no memory of a NUMA node is held back" },
    Entry { path: "shutdownGracePeriod", is_asked_for: |d| d.shutdown_grace_period.nanos() > 0 || !d.shutdown_grace_period_by_pod_priority.items().is_empty(), instead: "a shutdown of the node is not held up for pods" },
    Entry { path: "shutdownGracePeriodCriticalPods", is_asked_for: |d| d.shutdown_grace_period_critical_pods.nanos() > 0, instead: "a shutdown of the node is not held up for pods" },
    Entry { path: "topologyManagerPolicy", is_asked_for: |d| d.topology_manager_policy != "none", instead: "resources are not aligned to NUMA nodes" },
    Entry { path: "topologyManagerPolicyOptions", is_asked_for: |d| d.topology_manager_policy_options.iter().next().is_some(), instead: "resources are not aligned to NUMA nodes" },
    Entry { path: "topologyManagerScope", is_asked_for: |d| d.topology_manager_scope != "container", instead: "resources are not aligned to NUMA nodes" },
    Entry { path: "volumePluginDir", is_asked_for: |d| d.volume_plugin_dir != FLEX_VOLUMES, instead: "FlexVolume drivers are not used" },
];

/// The default of `contentType`. What is sent instead means the same.
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// The default of `volumePluginDir`.
const FLEX_VOLUMES: &str = "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/";

/// Warns of everything the document asks for in vain.
pub(crate) fn warn(document: &KubeletConfiguration, findings: &mut Findings) {
    for entry in ENTRIES.iter().filter(|entry| (entry.is_asked_for)(document)) {
        findings.push(Finding::warning(entry.path, format!("not implemented yet: {}", entry.instead)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::FeatureGates;

    fn warned(change: impl FnOnce(&mut KubeletConfiguration)) -> Vec<String> {
        let mut document = KubeletConfiguration::default();
        crate::defaults::apply(&mut document, &FeatureGates::default());
        change(&mut document);
        let mut findings = Findings::default();
        warn(&document, &mut findings);
        findings.into_list().into_iter().map(|finding| finding.path).collect()
    }

    #[test]
    fn the_defaults_ask_for_nothing_in_vain() {
        assert_eq!(warned(|_| {}), [""; 0]);
    }

    #[test]
    fn lists_everything_asked_for_in_vain() {
        let paths = warned(|document| {
            "static".clone_into(&mut document.cpu_manager_policy);
            document.enable_controller_attach_detach = Some(false);
            document.kernel_memcg_notification = true;
        });
        assert_eq!(paths, ["cpuManagerPolicy", "enableControllerAttachDetach", "kernelMemcgNotification"]);
    }
}
