//! Measures what a node can run short of. The core judges it.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Config, EvictionThreshold, ThresholdValue};
use host::cgroup::CgroupMounts;
use host::cgroup::stats::GroupReader;
use host::usage::{self, FileSystemUsage};
use node::pressure::{Amount, DiskLayout, Limit, Signal, Threshold};
use tracing::warn;

/// The thresholds of a configuration, as the core goes by them.
///
/// Those of file systems of containers are not what the document says: as upstream, the root folder's hold for them. Where
/// such a file system is one of the others, it is measured as that alone.
pub(crate) fn thresholds(config: &Config) -> Vec<Threshold> {
    let configured = &config.node.eviction.thresholds;
    let of_signal = |signal| configured.iter().filter(move |t: &&EvictionThreshold| t.signal == signal);
    let is_of_containers =
        |t: &&EvictionThreshold| matches!(t.signal, Signal::ContainerFs | Signal::ContainerFsInodes);
    let mut all: Vec<Threshold> =
        configured.iter().filter(|t| !is_of_containers(t)).map(|t| threshold(t, t.signal)).collect();
    for (of_node, of_containers) in
        [(Signal::NodeFs, Signal::ContainerFs), (Signal::NodeFsInodes, Signal::ContainerFsInodes)]
    {
        all.extend(of_signal(of_node).map(|t| threshold(t, of_containers)));
    }
    if config.node.enforce_pods && !config.node.eviction.is_allocatable {
        // All pods together may have less than the node has: short of it they are when the node would be.
        let hard = of_signal(Signal::Memory).filter(|t| t.grace.is_none());
        all.extend(hard.map(|t| threshold(t, Signal::PodsMemory)));
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
            Signal::Memory => "memory",
            Signal::NodeFs => "ephemeral-storage",
            _ => return None,
        };
        Some((resource.to_owned(), limit(&threshold.value)))
    })
    .collect()
}

/// As the core has it.
fn limit(value: &ThresholdValue) -> Limit {
    match value {
        ThresholdValue::Amount(quantity) => Limit::Amount(*quantity),
        ThresholdValue::Share(share) => Limit::Share(*share),
    }
}

/// Where to measure.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The root folder.
    pub(crate) root: PathBuf,
    /// Where images and writable layers lie; `None` while the runtime has not said so.
    pub(crate) runtime: Option<RuntimePlaces>,
    /// The hierarchies of cgroups.
    pub(crate) cgroups: CgroupMounts,
    /// The cgroup of all pods, if there is one.
    pub(crate) pods: Option<String>,
}

/// Where the runtime keeps what takes most of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RuntimePlaces {
    /// Images.
    pub(crate) images: PathBuf,
    /// Writable layers, where they count apart from images (`KubeletSeparateDiskGC`).
    pub(crate) layers: Option<PathBuf>,
}

/// Which of the file systems are one. The runtime's folder may be on a disk that is not there any more.
pub(crate) fn layout(places: &Places) -> DiskLayout {
    let Some(RuntimePlaces { images, layers }) = &places.runtime else { return DiskLayout::Together };
    let (root, images) = (device(&places.root), device(images));
    let are_layers_apart = layers.as_ref().is_some_and(|layers| device(layers) != images);
    match (root == images, are_layers_apart) {
        (_, true) => DiskLayout::Split,
        (true, false) => DiskLayout::Together,
        (false, false) => DiskLayout::ImagesApart,
    }
}

/// The device that a folder is on; `None` for one that is not there.
fn device(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|metadata| metadata.dev())
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
    let images = places.runtime.as_ref().and_then(|runtime| file_system(&runtime.images));
    let layers = layers_apart(places).and_then(file_system);
    for (usage, bytes, inodes) in [
        (root, Signal::NodeFs, Signal::NodeFsInodes),
        (images, Signal::ImageFs, Signal::ImageFsInodes),
        (layers, Signal::ContainerFs, Signal::ContainerFsInodes),
    ] {
        let Some(usage) = usage else { continue };
        see(bytes, usage.available, usage.capacity);
        see(inodes, usage.inodes_free, usage.inodes);
    }
    if let (Ok(tasks), Ok(max)) = (usage::running_tasks(), host::machine::max_pids()) {
        see(Signal::Pids, max.saturating_sub(tasks), max);
    }
    signals
}

/// The folder of writable layers, if it is on a disk with neither the root folder nor images.
fn layers_apart(places: &Places) -> Option<&Path> {
    let runtime = places.runtime.as_ref()?;
    let layers = runtime.layers.as_deref()?;
    let others = [device(&places.root), device(&runtime.images)];
    (!others.contains(&device(layers))).then_some(layers)
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
            "evictionHard: {memory.available: 100Mi, imagefs.inodesFree: 5%, nodefs.available: 4%,\n\
                            containerfs.available: 3%}\n\
             evictionSoft: {memory.available: 1Gi}\n\
             evictionSoftGracePeriod: {memory.available: 90s}\n\
             evictionMinimumReclaim: {imagefs.inodesFree: 2%}\n",
        );
        found.sort_by_key(|t| (t.grace, t.signal));
        let expected = [
            hard(Signal::Memory, Limit::amount(100 << 20)),
            hard(Signal::PodsMemory, Limit::amount(100 << 20)),
            hard(Signal::NodeFs, Limit::Share(0.04)),
            Threshold {
                reclaim: Some(Limit::Share(0.02)),
                ..hard(Signal::ImageFsInodes, Limit::Share(0.05))
            },
            hard(Signal::ContainerFs, Limit::Share(0.04)),
            Threshold { grace: Duration::from_secs(90), ..hard(Signal::Memory, Limit::amount(1 << 30)) },
        ];
        assert_eq!(found, expected);
        let found = configured("evictionHard: {memory.available: 100Mi}\nenforceNodeAllocatable: [none]\n");
        assert_eq!(found, [hard(Signal::Memory, Limit::amount(100 << 20))]);
    }

    #[test]
    fn all_that_can_be_measured_is() {
        let folder = tempfile::tempdir().unwrap();
        let mut places = Places {
            root: folder.path().to_owned(),
            runtime: None,
            cgroups: CgroupMounts::detect().unwrap(),
            pods: None,
        };
        let signals = |places: &Places| read(places).into_keys().collect::<Vec<_>>();
        let always = [Signal::Memory, Signal::NodeFs, Signal::NodeFsInodes];
        assert_eq!(signals(&places), [always.as_slice(), &[Signal::Pids]].concat());
        let images = folder.path().to_owned();
        places.runtime = Some(RuntimePlaces { images: images.clone(), layers: Some(images) });
        assert_eq!(layout(&places), DiskLayout::Together);
        let measured = read(&places);
        let of = |signal| measured[&signal];
        assert_eq!(of(Signal::ImageFs).capacity, of(Signal::NodeFs).capacity);
        assert!(of(Signal::Memory).available <= of(Signal::Memory).capacity);
        places.root = folder.path().join("missing");
        assert!(!read(&places).contains_key(&Signal::NodeFs));
    }
}
