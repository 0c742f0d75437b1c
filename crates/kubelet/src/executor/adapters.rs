//! Everything an effect may need beside what the core says in it, shared by all of them. What the core knows is not
//! among that: an effect carries it.

use std::path::PathBuf;
use std::sync::Arc;

use config::Config;
use host::cgroup::CgroupTree;
use model::{PodKey, PodUid};
use node::Outcome;
use runtime::dns::{DnsSettings, ResolvConf};
use runtime::images::{CredentialProviders, PullRecords};
use runtime::{NodeSettings, Runtime, podfiles};
use telemetry::metrics::Metrics;
use telemetry::traces::Tracer;
use tokio::sync::{Notify, Semaphore};
use tracing::warn;
use volumes::Volumes;

use super::api::Api;
use super::cgroups::Driver;
use super::exit_log::ExitLog;
use super::failure::{self, FailureLog};
use super::log_links::LogLinks;
use super::objects::ObjectPort;
use super::pull_rate::PullRate;
use super::soft_limit::SoftLimit;
use super::user_namespaces::UserNamespaces;

/// What effects work with.
pub(crate) struct Adapters {
    pub(crate) config: Arc<Config>,
    pub(crate) runtime: Runtime,
    pub(crate) runtime_node: NodeSettings,
    pub(crate) volumes: Volumes<ObjectPort>,
    pub(crate) objects: ObjectPort,
    /// Where cgroups are.
    pub(crate) cgroups: CgroupTree,
    /// How they are made.
    pub(crate) cgroup_driver: Driver,
    pub(crate) api: Api,
    pub(crate) metrics: Arc<Metrics>,
    /// How many images are pulled at once; `None` does not limit.
    pub(crate) pulls: Option<Semaphore>,
    /// How often; `None` does not limit.
    pub(crate) pull_rate: Option<PullRate>,
    /// How many sandboxes are made or stopped at once. Each costs several processes; started all
    /// together, all of them would be done only when the last one is.
    pub(crate) sandbox_limit: SoftLimit,
    /// Programs that know registries' credentials.
    pub(crate) credential_providers: CredentialProviders,
    /// What is noted of pulls; `None` if nothing is, and whatever is present is everybody's.
    pub(crate) pull_records: Option<PullRecords>,
    /// Ids of pods with user namespaces.
    pub(crate) user_namespaces: Arc<UserNamespaces>,
    /// A pull may have changed which images there are.
    pub(crate) images_changed: Arc<Notify>,
    /// Links to the logs of containers.
    pub(crate) log_links: LogLinks,
    /// What failed last, so that the log tells of a change and not of every attempt.
    pub(crate) failures: FailureLog,
    /// The ends of containers it has told of.
    pub(crate) exit_log: ExitLog,
    /// Makes spans of what is done for pods.
    pub(crate) tracer: Tracer,
}

impl Adapters {
    /// `<root>/pods/<uid>`.
    pub(crate) fn pod_dir(&self, uid: &PodUid) -> PathBuf {
        self.config.paths.root.join("pods").join(uid.as_str())
    }

    /// The node's and the cluster's DNS settings, read anew since the node's may change.
    pub(crate) async fn dns_settings(&self) -> DnsSettings {
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

    // ---- files ----

    /// Removes a pod's log folder, and the links into it.
    pub(crate) async fn remove_logs(&self, uid: PodUid, key: PodKey) -> Outcome {
        let root = self.config.paths.pod_logs.clone();
        let name = key.clone();
        let removed = blocking(move || {
            let dirs = if key.name.is_empty() {
                dirs_ending_with(&root, uid.as_str())
            } else {
                vec![podfiles::pod_log_dir(&root, &key, &uid)]
            };
            dirs.iter().try_for_each(|dir| podfiles::remove_pod_log_dir(dir))
        })
        .await;
        if matches!(removed, Outcome::Done) {
            self.log_links.remove_dangling(&name).await;
        }
        removed
    }
}

/// Log folders of a pod of which only the uid is known.
fn dirs_ending_with(root: &std::path::Path, uid: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    let is_pods = |name: &str| name.rsplit_once('_').is_some_and(|(_, end)| end == uid);
    entries.flatten().filter(|e| e.file_name().to_str().is_some_and(is_pods)).map(|e| e.path()).collect()
}

pub(super) async fn blocking<E: std::error::Error + Send + 'static>(
    work: impl FnOnce() -> Result<(), E> + Send + 'static,
) -> Outcome {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(())) => Outcome::Done,
        Ok(Err(error)) => failure::other(model::chain(&error)),
        Err(_) => failure::other("interrupted".to_owned()),
    }
}
