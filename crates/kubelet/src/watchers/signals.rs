//! Measures what a node can run short of. The core judges it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Config, EvictionSignal, EvictionThreshold, ThresholdValue};
use host::cgroup::CgroupMounts;
use host::cgroup::stats::GroupReader;
use host::usage::{self, FileSystemUsage};
use node::pressure::{Amount, Limit, Signal, Threshold};
use tracing::warn;

/// The thresholds of a configuration, as the core goes by them.
///
/// Those of file systems of containers are left out: upstream replaces them by those of the file system that the containers'
/// lies on, which is one of the other two.
pub(crate) fn thresholds(config: &Config) -> Vec<Threshold> {
    let configured = &config.node.eviction.thresholds;
    let mut all: Vec<Threshold> = configured
        .iter()
        .filter_map(|configured| Some(threshold(configured, signal(configured.signal)?)))
        .collect();
    if config.node.enforce_pods {
        // All pods together may have less than the node has: short of it they are when the node would be.
        let of_node =
            |t: &&EvictionThreshold| t.signal == EvictionSignal::MemoryAvailable && t.grace.is_none();
        all.extend(configured.iter().filter(of_node).map(|t| threshold(t, Signal::PodsMemory)));
    }
    all
}

fn threshold(configured: &EvictionThreshold, signal: Signal) -> Threshold {
    Threshold {
        signal,
        limit: limit(&configured.value),
        grace: configured.grace.unwrap_or(Duration::ZERO),
        reclaim: configured.minimum_reclaim.as_ref().map(limit),
    }
}

/// What hard thresholds keep from pods, by resource.
pub(crate) fn kept_free(config: &Config) -> BTreeMap<String, Limit> {
    if config.node.eviction.is_allocatable {
        return BTreeMap::new();
    }
    let hard = config.node.eviction.thresholds.iter().filter(|threshold| threshold.grace.is_none());
    hard.filter_map(|threshold| {
        let resource = match threshold.signal {
            EvictionSignal::MemoryAvailable => "memory",
            EvictionSignal::NodeFsAvailable => "ephemeral-storage",
            _ => return None,
        };
        Some((resource.to_owned(), limit(&threshold.value)))
    })
    .collect()
}

/// As the core has it.
fn limit(value: &ThresholdValue) -> Limit {
    match value {
        ThresholdValue::Amount(quantity) => Limit::Amount(u64::try_from(quantity.units()).unwrap_or(0)),
        ThresholdValue::Share(share) => Limit::Share(*share),
    }
}

fn signal(configured: EvictionSignal) -> Option<Signal> {
    Some(match configured {
        EvictionSignal::MemoryAvailable => Signal::Memory,
        EvictionSignal::AllocatableMemoryAvailable => Signal::PodsMemory,
        EvictionSignal::NodeFsAvailable => Signal::NodeFs,
        EvictionSignal::NodeFsInodesFree => Signal::NodeFsInodes,
        EvictionSignal::ImageFsAvailable => Signal::ImageFs,
        EvictionSignal::ImageFsInodesFree => Signal::ImageFsInodes,
        EvictionSignal::PidAvailable => Signal::Pids,
        EvictionSignal::ContainerFsAvailable | EvictionSignal::ContainerFsInodesFree => return None,
    })
}

/// Where to measure.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The root folder.
    pub(crate) root: PathBuf,
    /// Where images lie; `None` while the runtime has not said so.
    pub(crate) images: Option<PathBuf>,
    /// The hierarchies of cgroups.
    pub(crate) cgroups: CgroupMounts,
    /// The cgroup of all pods, if there is one.
    pub(crate) pods: Option<String>,
}

/// Measures. Reads a few small files. What cannot be measured is not in it.
pub(crate) fn read(places: &Places) -> BTreeMap<Signal, Amount> {
    let mut signals = BTreeMap::new();
    let mut see = |signal, available, capacity| {
        signals.insert(signal, Amount { available, capacity });
    };
    match usage::node_memory(&places.cgroups) {
        Ok(memory) => see(Signal::Memory, memory.available(), memory.capacity),
        Err(error) => warn!(err = model::chain(&error), "Failed to read memory usage"),
    }
    if let Some((available, limit)) = places.pods.as_deref().and_then(|group| left_to(group, &places.cgroups))
    {
        see(Signal::PodsMemory, available, limit);
    }
    let root = file_system(&places.root);
    let images = places.images.as_deref().and_then(file_system);
    for (usage, bytes, inodes) in
        [(root, Signal::NodeFs, Signal::NodeFsInodes), (images, Signal::ImageFs, Signal::ImageFsInodes)]
    {
        let Some(usage) = usage else { continue };
        see(bytes, usage.available, usage.capacity);
        see(inodes, usage.inodes_free, usage.inodes);
    }
    if let (Ok(tasks), Ok(max)) = (usage::running_tasks(), host::machine::max_pids()) {
        see(Signal::Pids, max.saturating_sub(tasks), max);
    }
    signals
}

fn file_system(path: &Path) -> Option<FileSystemUsage> {
    let usage = usage::file_system(path);
    usage
        .inspect_err(|e| warn!(path = %path.display(), err = model::chain(e), "Failed to read disk usage"))
        .ok()
}

/// What a group with a limit has left of it, and the limit.
fn left_to(group: &str, cgroups: &CgroupMounts) -> Option<(u64, u64)> {
    let mut reader = GroupReader::new(cgroups);
    let limit = reader.memory_limit(group)?;
    let usage = reader.memory(group)?;
    Some((limit.saturating_sub(usage.working_set_bytes), limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::Invocation;

    fn configured(text: &str) -> Vec<Threshold> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
                    containerRuntimeEndpoint: unix:///x\n";
        std::fs::write(&file, format!("{head}{text}")).unwrap();
        let Ok(Invocation::Run(loaded)) = config::load(&[format!("--config={}", file.display())]) else {
            panic!("{text}")
        };
        thresholds(&loaded.config)
    }

    #[test]
    fn thresholds_are_those_of_the_configuration_and_one_for_all_pods() {
        let hard = |signal, limit| Threshold { signal, limit, grace: Duration::ZERO, reclaim: None };
        let mut found = configured(
            "evictionHard: {memory.available: 100Mi, imagefs.inodesFree: 5%, containerfs.available: 3%}\n\
             evictionSoft: {memory.available: 1Gi}\n\
             evictionSoftGracePeriod: {memory.available: 90s}\n\
             evictionMinimumReclaim: {imagefs.inodesFree: 2%}\n",
        );
        found.sort_by_key(|t| (t.grace, t.signal));
        let expected = [
            hard(Signal::Memory, Limit::Amount(100 << 20)),
            hard(Signal::PodsMemory, Limit::Amount(100 << 20)),
            Threshold {
                reclaim: Some(Limit::Share(0.02)),
                ..hard(Signal::ImageFsInodes, Limit::Share(0.05))
            },
            Threshold { grace: Duration::from_secs(90), ..hard(Signal::Memory, Limit::Amount(1 << 30)) },
        ];
        assert_eq!(found, expected);
        let found = configured("evictionHard: {memory.available: 100Mi}\nenforceNodeAllocatable: [none]\n");
        assert_eq!(found, [hard(Signal::Memory, Limit::Amount(100 << 20))]);
    }

    #[test]
    fn all_that_can_be_measured_is() {
        let folder = tempfile::tempdir().unwrap();
        let mut places = Places {
            root: folder.path().to_owned(),
            images: None,
            cgroups: CgroupMounts::detect().unwrap(),
            pods: None,
        };
        let signals = |places: &Places| read(places).into_keys().collect::<Vec<_>>();
        let always = [Signal::Memory, Signal::NodeFs, Signal::NodeFsInodes];
        assert_eq!(signals(&places), [always.as_slice(), &[Signal::Pids]].concat());
        places.images = Some(folder.path().to_owned());
        let measured = read(&places);
        let of = |signal| measured[&signal];
        assert_eq!(of(Signal::ImageFs).capacity, of(Signal::NodeFs).capacity);
        assert!(of(Signal::Memory).available <= of(Signal::Memory).capacity);
        places.root = folder.path().join("missing");
        assert!(!read(&places).contains_key(&Signal::NodeFs));
    }
}
