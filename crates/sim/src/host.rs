//! The machine, and what pods have on it beside containers.

use std::collections::BTreeSet;

use model::PodUid;

/// Processors; volumes, cgroups and log folders, by pod.
#[derive(Debug, Default)]
pub(crate) struct Host {
    /// Processors, thousandths.
    pub(crate) cpu_millis: u64,
    pub(crate) volumes: BTreeSet<PodUid>,
    pub(crate) cgroups: BTreeSet<PodUid>,
    pub(crate) logs: BTreeSet<PodUid>,
}

impl Host {
    /// What a node agent that starts finds.
    pub(crate) fn found(&self) -> Vec<PodUid> {
        let all: BTreeSet<&PodUid> = self.volumes.iter().chain(&self.cgroups).chain(&self.logs).collect();
        all.into_iter().cloned().collect()
    }
}
