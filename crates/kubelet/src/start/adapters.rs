//! What the parts of the node work with, built once, and of it the adapter of each of the core's ports.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use apiserver::{ObjectCache, PodCertificates, TrustBundles};
use host::cgroup::CgroupTree;
use runtime::images::CredentialProviders;
use tokio::sync::{Notify, Semaphore};
use volumes::{CsiVolumes, HostVolumes, Volumes};

use super::{Prerequisites, settings};
use crate::executor::action_log::ActionLog;
use crate::executor::adapters::{Adapters, ApiAdapter, HostAdapter, RuntimeAdapter, VolumeAdapter};
use crate::executor::api::{Api, Remote};
use crate::executor::cgroups::NodeCgroups;
use crate::executor::containers::Containers;
use crate::executor::environment::Environments;
use crate::executor::failure::FailureLog;
use crate::executor::images::Images;
use crate::executor::log_links::LogLinks;
use crate::executor::measurements::Measurements;
use crate::executor::objects::ObjectPort;
use crate::executor::plugins::Plugins;
use crate::executor::pod_logs::PodLogs;
use crate::executor::probes::Probes;
use crate::executor::pull_rate::PullRate;
use crate::executor::sandboxes::Sandboxes;
use crate::executor::soft_limit::SoftLimit;
use crate::executor::storage::Storage;

/// What several parts of the node work with.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) api: Arc<Api>,
    pub(super) objects: ObjectPort,
    pub(super) volumes: Arc<Volumes<ObjectPort>>,
    pub(super) csi: Arc<CsiVolumes<ObjectPort>>,
    pub(super) cgroups: NodeCgroups,
    /// A pull may have changed which images there are.
    pub(super) images_changed: Arc<Notify>,
}

impl Prerequisites {
    /// What several parts work with, over the API server if there is one.
    pub(super) fn shared(&self, remote: Option<Remote>) -> anyhow::Result<Shared> {
        let Self { config, host, metrics, .. } = self;
        let tree =
            CgroupTree::new(host.mounts.clone(), settings::cgroup_driver(config), &config.pods.cgroup_root)
                .context("use the cgroup root")?;
        let cached = remote.as_ref().map(|remote| {
            let connection = remote.connection.clone();
            (ObjectCache::with(connection.clone(), settings::detection(config)), connection)
        });
        let has_trust_bundles = config.gates.enabled("ClusterTrustBundleProjection");
        let trust_bundles = remote.as_ref().filter(|_| has_trust_bundles);
        let trust_bundles = trust_bundles.map(|remote| TrustBundles::new(remote.connection.api.clone()));
        let issues_certificates = config.gates.enabled("PodCertificateRequest");
        let pod_certificates = remote.as_ref().filter(|_| issues_certificates);
        let pod_certificates = pod_certificates
            .map(|remote| PodCertificates::new(remote.connection.api.clone(), &host.node_name));
        let objects = ObjectPort::new(cached, trust_bundles, pod_certificates);
        let volumes =
            Volumes::new(&config.paths.root, objects.clone(), metrics.clone(), settings::of_volumes(config));
        let csi =
            CsiVolumes::new(&config.paths.root, objects.clone(), host.node_name.clone(), metrics.clone());
        Ok(Shared {
            csi: Arc::new(csi),
            api: Arc::new(Api::new(host.node_name.clone(), remote)),
            objects,
            volumes: Arc::new(volumes),
            cgroups: NodeCgroups::new(config.clone(), tree, metrics.clone()),
            images_changed: Arc::new(Notify::new()),
        })
    }

    /// What effects work with.
    pub(super) fn adapters(&self, shared: &Shared, measurements: Measurements) -> Adapters {
        let Self { config, host, runtime, .. } = self;
        let Shared { api, volumes, cgroups, .. } = shared;
        let node = Arc::new(settings::of_runtime(config, &host.machine, cgroups.tree().mounts()));
        let log_links = Arc::new(LogLinks::new(PathBuf::from("/var/log/containers")));
        let sandboxes = Arc::new(Sandboxes {
            runtime: runtime.clone(),
            node: node.clone(),
            config: config.clone(),
            api: api.clone(),
            cgroups: cgroups.clone(),
            user_namespaces: self.user_namespaces.clone(),
            limit: SoftLimit::new(sandboxes_at_once()),
        });
        let containers = Containers {
            runtime: runtime.clone(),
            node,
            config: config.clone(),
            sandboxes: sandboxes.clone(),
            environments: Environments {
                api: api.clone(),
                objects: shared.objects.clone(),
                volumes: volumes.clone(),
                failures: FailureLog::default(),
                reads_files: config.gates.enabled("EnvFiles"),
            },
            volumes: volumes.clone(),
            log_links: log_links.clone(),
        };
        Adapters {
            images: self.images(shared, sandboxes.clone()),
            runtime: RuntimeAdapter { runtime: runtime.clone(), sandboxes, containers },
            volumes: VolumeAdapter {
                volumes: volumes.clone(),
                user_namespaces: self.user_namespaces.clone(),
            },
            storage: Storage {
                csi: shared.csi.clone(),
                host: HostVolumes::new(&config.paths.root, self.metrics.clone()),
                api: api.clone(),
            },
            plugins: Plugins::new(self.metrics.clone()),
            host: HostAdapter {
                cgroups: cgroups.clone(),
                pod_logs: PodLogs { root: config.paths.pod_logs.clone(), links: log_links },
                measurements,
            },
            probes: Probes {
                runtime: runtime.clone(),
                api: api.clone(),
                metrics: self.metrics.clone(),
                gates: settings::of_probes(config),
            },
            api: ApiAdapter {
                api: api.clone(),
                looks_when_forbidden: !config.gates.enabled("KubeletRegistrationGetOnExistsOnly"),
            },
            state_files: config.paths.root.clone(),
            log: ActionLog::default(),
            tracer: self.tracer.clone(),
        }
    }

    /// What looks for images and pulls them.
    fn images(&self, shared: &Shared, sandboxes: Arc<Sandboxes>) -> Images {
        let config = &self.config;
        Images {
            runtime: self.runtime.clone(),
            root: config.paths.root.clone(),
            sandboxes,
            objects: shared.objects.clone(),
            api: shared.api.clone(),
            pulls: config.pods.parallel_pulls.map(|n| Semaphore::new(n.max(1) as usize)),
            pull_rate: PullRate::new(config.pods.pulls_per_second, config.pods.pull_burst),
            credential_providers: CredentialProviders::new(
                &config.runtime.credential_providers,
                config.runtime.credential_provider_bin.as_deref().unwrap_or(Path::new("")),
                &self.metrics,
            ),
            pull_records: self.pull_records.clone(),
            changed: shared.images_changed.clone(),
        }
    }
}

/// One sandbox for each processor: making one keeps several short-lived processes busy all along.
fn sandboxes_at_once() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
