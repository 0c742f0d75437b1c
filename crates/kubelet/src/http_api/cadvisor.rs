//! The page `/metrics/cadvisor` of this node: which groups it covers, and whose they are by what the
//! core published last.

use std::sync::Arc;

use bytes::Bytes;
use config::Config;
use host::cgroup::CgroupTree;
use host::machine::MachineFacts;
use jiff::Timestamp;
use model::{ContainerObservation, ContainerState, QosClass};
use node::{PodView, View};
use runtime::{Runtime, images};
use stats::cadvisor::{Cadvisor, CadvisorSettings, Owner, Owners, Role};
use tokio::sync::Semaphore;
use tracing::debug;

use crate::driver::Clock;
use crate::http_api::sandbox_images::SandboxImages;
use crate::usage;

/// Makes the page for scrapers.
pub(crate) struct CadvisorPage {
    cadvisor: Arc<Cadvisor>,
    runtime: Runtime,
    cgroups: CgroupTree,
    /// Whether the runtime's own metrics are shown instead of those of control groups.
    is_from_runtime: bool,
    sandbox_images: SandboxImages,
    /// One page at a time: a full node's is some megabytes long.
    turn: Arc<Semaphore>,
}

impl CadvisorPage {
    /// Looks at the machine and at the configuration.
    pub(crate) fn new(
        config: &Config,
        runtime: Runtime,
        cgroups: &CgroupTree,
        machine: &MachineFacts,
    ) -> Self {
        let gates = &config.gates;
        let settings = CadvisorSettings {
            prefixes: prefixes(config, cgroups),
            with_pressure: gates.enabled("KubeletPSI"),
        };
        let cadvisor = Cadvisor::new(cgroups.mounts().clone(), machine, settings);
        Self {
            cadvisor: Arc::new(cadvisor),
            runtime,
            cgroups: cgroups.clone(),
            is_from_runtime: gates.enabled("PodAndContainerStatsFromCRI"),
            sandbox_images: SandboxImages::default(),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// The page as it is sent.
    pub(crate) async fn page(&self, view: &View) -> Result<Bytes, String> {
        let turn = self.turn.clone().acquire_owned().await.map_err(|e| model::chain(&e))?;
        let cadvisor = self.cadvisor.clone();
        let page = if self.is_from_runtime {
            let (descriptors, samples) = self.ask_runtime().await;
            tokio::task::spawn_blocking(move || {
                let _turn = turn;
                cadvisor.page_from_runtime(&descriptors, &samples)
            })
            .await
        } else {
            self.sandbox_images.update(&self.runtime, view).await;
            let (owners, clock) = (self.owners(view), Clock::start());
            tokio::task::spawn_blocking(move || {
                let _turn = turn;
                cadvisor.page(&owners, &|| clock.now().wall.as_millisecond())
            })
            .await
        };
        page.map(Bytes::from).map_err(|_| "read control groups: interrupted".to_owned())
    }

    /// A runtime that does not tell leaves the machine's metrics, as upstream has it.
    async fn ask_runtime(&self) -> (Vec<runtime::MetricDescriptor>, Vec<runtime::MetricSample>) {
        let runtime = &self.runtime;
        let (descriptors, samples) = tokio::join!(runtime.metric_descriptors(), runtime.pod_metrics());
        let told = |e: &runtime::RuntimeError| {
            debug!(
                v = 2,
                err = model::chain(e),
                "Failed to list pod sandboxes; showing cAdvisor metrics without their labels"
            );
        };
        (descriptors.inspect_err(told).unwrap_or_default(), samples.inspect_err(told).unwrap_or_default())
    }

    fn owners(&self, view: &View) -> Owners {
        let mut owners = Owners::default();
        for pod in view.pods.values() {
            self.add(pod, &mut owners);
        }
        owners
    }

    fn add(&self, view: &PodView, owners: &mut Owners) {
        let owner = |role, created: Option<Timestamp>| Owner {
            role,
            namespace: view.key.namespace.to_string(),
            pod: view.key.name.to_string(),
            container: String::new(),
            image: String::new(),
            created_seconds: created.map_or(0, Timestamp::as_second),
            started_seconds: created.map_or(0, Timestamp::as_second),
        };
        let qos = view.pod.as_ref().map(|pod| QosClass::of(pod));
        let dir = qos.and_then(|qos| self.cgroups.pod_dir(&view.uid, qos, "memory"));
        if let Some(group) = dir.and_then(|dir| usage::group_of(&self.cgroups, dir)) {
            owners.add_pod(group, owner(Role::Pod, None));
        }
        let Some(observed) = &view.observed else { return };
        for sandbox in observed.sandboxes.iter().filter(|s| s.is_ready) {
            let image = self.sandbox_images.of(&sandbox.id);
            let of_sandbox = Owner { image, ..owner(Role::Sandbox, Some(sandbox.created_at)) };
            owners.add(sandbox.id.to_string(), of_sandbox);
        }
        for container in observed.containers.iter().filter(|c| c.state.is_running()) {
            let of_container = Owner {
                container: container.name.clone(),
                image: image(container),
                started_seconds: started(container).as_second(),
                ..owner(Role::Container, Some(container.created_at))
            };
            owners.add(container.id.to_string(), of_container);
        }
    }
}

/// The image's name with its tag, as runtimes show it.
fn image(container: &ContainerObservation) -> String {
    images::normalize(&container.image).unwrap_or_else(|_| container.image.clone())
}

fn started(container: &ContainerObservation) -> Timestamp {
    match container.state {
        ContainerState::Running { started_at: Some(at) } => at,
        _ => container.created_at,
    }
}

/// The groups upstream lets cadvisor show: of all pods, of the kubelet, and those that the configuration
/// names for the runtime and the system.
fn prefixes(config: &Config, cgroups: &CgroupTree) -> Vec<String> {
    let pods = &config.pods;
    let root = (!pods.cgroups_per_qos).then(|| match pods.cgroup_root.as_str() {
        "" => "/".to_owned(),
        root => root.to_owned(),
    });
    usage::system_groups(config, cgroups).into_iter().map(|system| system.group).chain(root).collect()
}
