//! Sandboxes: from the core's wish to the runtime's calls.

use std::sync::Arc;

use config::Config;
use model::{AllocatedPod, RuntimeHandler, SandboxId, pod};
use node::{EventObject, EventRecord, Failure, FailureKind, Outcome, RuntimeOutcome, SandboxLoss};
use runtime::dns::{DnsSettings, DnsWarning, ResolvConf};
use runtime::sandbox::{SandboxInputs, SandboxSpec};
use runtime::{NodeSettings, PodTotals, Runtime, dns, sandbox};
use tracing::{info, warn};

use super::api::Api;
use super::cgroups::NodeCgroups;
use super::failure;
use super::soft_limit::SoftLimit;
use super::user_namespaces::UserNamespaces;

/// Makes and stops sandboxes.
pub(crate) struct Sandboxes {
    pub(crate) runtime: Runtime,
    pub(crate) node: Arc<NodeSettings>,
    pub(crate) config: Arc<Config>,
    pub(crate) api: Arc<Api>,
    pub(crate) cgroups: NodeCgroups,
    /// Ids of pods with user namespaces.
    pub(crate) user_namespaces: Arc<UserNamespaces>,
    /// How many are made or stopped at once. Each costs several processes; started all
    /// together, all of them would be done only when the last one is.
    pub(crate) limit: SoftLimit,
}

impl Sandboxes {
    /// Creates and starts a sandbox and reads it back, since only its status has the addresses.
    pub(crate) async fn run(
        &self,
        pod: AllocatedPod,
        attempt: u32,
        loss: Option<SandboxLoss>,
        handler: &RuntimeHandler,
        volume_groups: Vec<i64>,
    ) -> Outcome {
        match loss {
            None => {}
            Some(SandboxLoss::Gone) => {
                info!(v = 2, "No sandbox for pod can be found. Need to start a new one");
            }
            Some(SandboxLoss::NotReady) => {
                info!(v = 2, "No ready sandbox for pod can be found. Need to start a new one");
            }
        }
        let dns = dns::for_pod(&pod, &self.dns_settings().await);
        self.tell(&pod, dns.warnings);
        let spec = match self.spec_with(&pod, attempt, handler, volume_groups, dns.config).await {
            Ok(spec) => spec,
            Err(failure) => return Outcome::Failed(failure),
        };
        let log_dir = spec.log_directory().to_owned();
        if let Err(error) = tokio::fs::create_dir_all(&log_dir).await {
            return failure::other(format!("create log folder {}: {error}", log_dir.display()));
        }
        let id = match self.limit.run(|| self.runtime.run_sandbox(&spec)).await {
            Ok(id) => id,
            Err(error) => return failure::runtime(&error),
        };
        match self.runtime.sandbox(&id).await {
            Ok(Some(sandbox)) => Outcome::Runtime(RuntimeOutcome::SandboxStarted(sandbox)),
            Ok(None) => failure::other(format!("sandbox {id} vanished after its start")),
            Err(error) => failure::runtime_at(&error, FailureKind::SandboxStatus),
        }
    }

    /// Records what is wrong with the DNS settings of a pod.
    fn tell(&self, pod: &AllocatedPod, warnings: Vec<DnsWarning>) {
        for warning in warnings {
            self.api.record(EventRecord {
                about: EventObject::Pod { key: pod::key(pod), uid: pod::uid(pod), field_path: None },
                is_warning: true,
                reason: warning.reason.into(),
                message: warning.message,
            });
            if let Some(message) = warning.of_node {
                let (about, reason) = (EventObject::Node, warning.reason.into());
                self.api.record(EventRecord { about, is_warning: true, reason, message });
            }
        }
    }

    /// Stops one.
    pub(crate) async fn stop(&self, id: &SandboxId) -> Outcome {
        failure::done(self.limit.run(|| self.runtime.stop_sandbox(id)).await)
    }

    /// The sandbox's description, which pulls and container creations need as well.
    pub(crate) async fn spec(
        &self,
        pod: &AllocatedPod,
        attempt: u32,
        handler: &RuntimeHandler,
        volume_groups: Vec<i64>,
    ) -> Result<SandboxSpec, Failure> {
        let dns = dns::for_pod(pod, &self.dns_settings().await);
        self.spec_with(pod, attempt, handler, volume_groups, dns.config).await
    }

    async fn spec_with(
        &self,
        pod: &AllocatedPod,
        attempt: u32,
        handler: &RuntimeHandler,
        volume_groups: Vec<i64>,
        dns: ResolvConf,
    ) -> Result<SandboxSpec, Failure> {
        let inputs = SandboxInputs {
            attempt,
            cgroup_parent: self.cgroups.parent(pod)?,
            log_root: self.config.paths.pod_logs.clone(),
            cluster_domain: self.config.pods.cluster_domain.clone(),
            dns,
            runtime_handler: handler.name.clone(),
            totals: totals(pod),
            volume_groups,
            user_namespace: self.user_namespaces.ids_of(pod, handler).await?,
        };
        sandbox::spec(pod, &inputs, &self.node)
            .map_err(|error| Failure { kind: FailureKind::Other, message: error.to_string() })
    }

    /// The node's and the cluster's DNS settings, read anew since the node's may change.
    async fn dns_settings(&self) -> DnsSettings {
        let pods = &self.config.pods;
        let mut host = None;
        if let Some(path) = &pods.resolv_conf {
            match tokio::fs::read_to_string(path).await.map(|text| ResolvConf::parse(&text)) {
                Ok(Ok(conf)) => host = Some(conf),
                Ok(Err(error)) => {
                    warn!(path = %path.display(), err = %error, "Failed to parse resolv.conf; pods get none")
                }
                Err(error) => {
                    warn!(path = %path.display(), err = %error, "Failed to read resolv.conf; pods get none")
                }
            }
        }
        DnsSettings {
            cluster_dns: pods.cluster_dns.clone(),
            cluster_domain: pods.cluster_domain.clone(),
            host,
            node_ips: self.config.identity.node_ips.clone(),
        }
    }
}

fn totals(pod: &AllocatedPod) -> PodTotals {
    let requests = pod.requests();
    let limits = pod.limits();
    PodTotals {
        cpu_request: requests.get("cpu"),
        cpu_limit: limits.get("cpu").unwrap_or_default(),
        memory_limit: limits.get("memory").unwrap_or_default(),
        has_exclusive_cpus: false,
    }
}
