//! The machine, and what pods have on it beside containers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use checkpoints::PodsState;
use model::{AllocatedPod, CgroupObservation, PodUid, QosClass, cpu, pod};
use node::{CheckpointWrite, DamagedFile, Machine, StateFile};

/// Processors; volumes, the folders they are in, cgroups and log folders, by pod; a disk with state files.
#[derive(Debug, Default)]
pub(crate) struct Host {
    /// Processors, thousandths.
    pub(crate) cpu_millis: u64,
    /// How many pods may run at once.
    pub(crate) max_pods: u32,
    pub(crate) volumes: BTreeSet<PodUid>,
    pub(crate) folders: BTreeSet<PodUid>,
    pub(crate) cgroups: BTreeMap<PodUid, CgroupObservation>,
    pub(crate) logs: BTreeSet<PodUid>,
    /// `None` for one that is damaged.
    pub(crate) files: BTreeMap<StateFile, Option<Arc<PodsState>>>,
    pub(crate) is_disk_full: bool,
}

impl Host {
    /// What a node agent that starts is told of the machine.
    pub(crate) fn machine(&self) -> Machine {
        Machine { cpus: self.cpu_millis / 1000, memory_bytes: 1 << 36, ..Machine::default() }
    }

    /// What a node agent that starts finds.
    pub(crate) fn found(&self) -> Vec<PodUid> {
        let all: BTreeSet<&PodUid> =
            self.folders.iter().chain(self.cgroups.keys()).chain(&self.logs).collect();
        all.into_iter().cloned().collect()
    }

    /// Makes a pod's cgroup. Its weight is coarser than what the pod requests.
    pub(crate) fn make_cgroup(&mut self, pod: &AllocatedPod) -> CgroupObservation {
        let millis = pod.requests().get("cpu").and_then(|cpu| u64::try_from(cpu.millis()).ok());
        let weight = cpu::cpu_weight(cpu::cpu_shares(millis.unwrap_or(0)));
        let has =
            CgroupObservation { cpu_shares: cpu::shares_of_weight(weight), ..CgroupObservation::default() };
        self.cgroups.insert(pod::uid(pod), has);
        has
    }

    /// What the cgroups of pods have, without those that are gone.
    pub(crate) fn read_cgroups(&self, pods: &[(PodUid, QosClass)]) -> Vec<(PodUid, CgroupObservation)> {
        let read = |(uid, _): &(PodUid, QosClass)| Some((uid.clone(), *self.cgroups.get(uid)?));
        pods.iter().filter_map(read).collect()
    }

    /// Replaces a state file.
    pub(crate) fn write(&mut self, write: &CheckpointWrite) {
        self.files.insert(write.file, Some(write.content.clone()));
    }

    /// What a state file has, unless it is damaged or was never written.
    pub(crate) fn file(&self, file: StateFile) -> Option<&Arc<PodsState>> {
        self.files.get(&file)?.as_ref()
    }

    /// A state file cannot be read any more, if there is one.
    pub(crate) fn damage(&mut self, file: StateFile) {
        if let Some(content) = self.files.get_mut(&file) {
            *content = None;
        }
    }

    /// What a node agent that starts reads. Damaged files are set aside.
    pub(crate) fn read_files(&mut self) -> BTreeMap<StateFile, Result<PodsState, DamagedFile>> {
        let damaged = || DamagedFile { error: "damaged".to_owned(), kept_as: Some("aside".to_owned()) };
        let read = |content: &Option<Arc<PodsState>>| {
            content.as_ref().map(|content| (**content).clone()).ok_or_else(damaged)
        };
        let all = self.files.iter().map(|(file, content)| (*file, read(content))).collect();
        self.files.retain(|_, content| content.is_some());
        all
    }
}
