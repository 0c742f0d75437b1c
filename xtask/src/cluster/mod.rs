//! A cluster of one node from real programs, inside the namespaces that `isolation` made.

mod certs;
mod control_plane;
mod csi_driver;
mod fake_runtime;
mod kubelet;
mod runtime;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::{Condition, await_condition};
use kube::{Api, Client};

use crate::isolation::{NODE, Plan};
use crate::peers::Peers;
use crate::process::{Program, ScenarioPrograms, Service};
pub(crate) use certs::{
    Authority, admin_pair_with_uid, node_pair, serving_pair, stranger_pair, write_kubeconfig,
};
pub(crate) use control_plane::ControlPlane;
pub(crate) use csi_driver::CsiDriver;
pub(crate) use fake_runtime::{Call, FakeRuntime};
pub(crate) use kubelet::{Changes, Credentials, Kind, MANIFESTS, ROOT as KUBELET_ROOT, SECOND, SECOND_ROOT};
pub(crate) use runtime::Containerd;

/// Where the parts of a cluster are on disk.
#[derive(Clone)]
pub(crate) struct Paths {
    /// The state folder.
    pub(crate) state: PathBuf,
    /// A log file for each program.
    pub(crate) logs: PathBuf,
    /// The built programs.
    pub(crate) peers: Peers,
    /// The archive with the images.
    pub(crate) images: PathBuf,
    /// The kubelet to run.
    pub(crate) kubelet: PathBuf,
    /// The runtime without containers, where it is needed.
    fake_cri: Option<PathBuf>,
    /// The CSI driver, likewise.
    fake_csi: Option<PathBuf>,
}

impl Paths {
    /// The layout of a state folder.
    pub(crate) fn new(state: &Path, plan: &Plan) -> Self {
        Self {
            state: state.to_owned(),
            logs: state.join("logs"),
            peers: plan.peers.clone(),
            images: plan.images.clone(),
            kubelet: plan.kubelet.clone(),
            fake_cri: plan.fake_cri.clone(),
            fake_csi: plan.fake_csi.clone(),
        }
    }

    /// A certificate, key or kubeconfig.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }

    /// Says what the worker found; the outer process reads it.
    pub(crate) fn write_result(&self, result: &serde_json::Value) -> Result<()> {
        crate::workspace::write(&self.state.join("result.json"), result.to_string())
    }
}

/// The running programs.
pub(crate) struct Cluster {
    /// The API server and what stands around it.
    pub(crate) control_plane: ControlPlane,
    /// The container runtime.
    pub(crate) containerd: Containerd,
    /// The kubelet under test.
    pub(crate) kubelet: Service,
    /// What is started beside these for a while, or in place of one.
    pub(crate) programs: ScenarioPrograms,
    /// A client with all rights.
    pub(crate) client: Client,
    /// Where things are.
    pub(crate) paths: Paths,
}

impl Cluster {
    /// Starts everything but the kubelet.
    pub(crate) async fn start_without_kubelet(paths: Paths) -> Result<Self> {
        let cluster = Self::start_programs(paths, Vec::new()).await?;
        cluster.default_account().await?;
        Ok(cluster)
    }

    /// Starts everything, and returns when the node is ready.
    pub(crate) async fn start(paths: Paths) -> Result<Self> {
        Self::start_with(paths, Vec::new()).await
    }

    /// The same with further flags for the kubelet.
    pub(crate) async fn start_with(paths: Paths, flags: Vec<String>) -> Result<Self> {
        let cluster = Self::start_programs(paths, flags).await?;
        // The controllers need a moment to make the account; the node need not wait for it.
        cluster.kubelet.start().await?;
        tokio::try_join!(cluster.default_account(), cluster.node_ready(Duration::from_secs(90)))?;
        Ok(cluster)
    }

    async fn start_programs(paths: Paths, flags: Vec<String>) -> Result<Self> {
        certs::write_all(&paths).context("make the certificates")?;
        kubelet::write_files(&paths)?;
        let containerd = async {
            let containerd = Containerd::new(&paths)?;
            containerd.start_fresh().await?;
            Ok(containerd)
        };
        let (control_plane, containerd) = tokio::try_join!(ControlPlane::start(&paths), containerd)?;
        let client = client(&paths.file("admin.kubeconfig")).await?;
        let mut program = kubelet::program("kubelet", &paths, &paths.kubelet, Kind::Usual);
        program.args.extend(flags.into_iter().map(Into::into));
        let kubelet = Service::new(program, &paths.logs);
        Ok(Self { control_plane, containerd, kubelet, programs: ScenarioPrograms::default(), client, paths })
    }

    /// Waits for what pods of the default namespace need.
    async fn default_account(&self) -> Result<()> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), "default");
        let is_there = |account: Option<&ServiceAccount>| account.is_some();
        let found = wait_for(&accounts, "default", Duration::from_secs(60), is_there).await;
        found.map(drop).context("wait for the default service account")
    }

    /// A program beside those of the cluster, which ends with the scenario at the latest.
    pub(crate) fn guest(&self, program: Program) -> Service {
        self.programs.admit(Service::new(program, &self.paths.logs))
    }

    /// Another kubelet binary for the same node, with a log of its own. Only one may run at a time.
    pub(crate) fn other_kubelet(&self, name: &'static str, binary: &Path, kind: Kind) -> Service {
        self.guest(kubelet::program(name, &self.paths, binary, kind))
    }

    /// Another kubelet binary whose configuration differs from the usual one in these fields; `null` removes one. Only
    /// one may run at a time.
    pub(crate) fn kubelet_configured(
        &self,
        name: &'static str,
        binary: &Path,
        fields: &serde_json::Value,
    ) -> Result<Service> {
        Ok(self.guest(kubelet::program_configured(name, &self.paths, binary, fields)?))
    }

    /// The kubelet under test, started otherwise than usual, with a log of its own. Only one may run at a time.
    pub(crate) fn kubelet_changed(&self, name: &'static str, changes: Changes) -> Result<Service> {
        Ok(self.guest(kubelet::program_changed(name, &self.paths, changes)?))
    }

    /// The kubelet under test with other credentials, with a log of its own. Only one may run at a time.
    pub(crate) fn kubelet_with(&self, name: &'static str, credentials: &Credentials) -> Result<Service> {
        Ok(self.guest(kubelet::program_with(name, &self.paths, credentials)?))
    }

    /// A second node, on a runtime without containers, whose configuration differs from the usual one in these fields.
    /// Both end with the scenario at the latest.
    pub(crate) fn second_node(
        &self,
        name: &'static str,
        fields: &serde_json::Value,
    ) -> Result<(Service, FakeRuntime)> {
        let runtime = FakeRuntime::new(&self.paths)?;
        self.programs.admit(runtime.service().clone());
        let kubelet = self.guest(kubelet::program_second(name, &self.paths, fields)?);
        Ok((kubelet, runtime))
    }

    /// Waits until the node says it is ready.
    pub(crate) async fn node_ready(&self, limit: Duration) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        // Cancel-safe: both only watch.
        tokio::select! {
            ready = wait_for(&nodes, NODE, limit, is_ready) => ready.map(drop),
            died = self.kubelet.died() => Err(died),
        }
        .context("wait for the node to be ready")
    }
}

/// Whether a node reports Ready.
pub(crate) fn is_ready(node: Option<&Node>) -> bool {
    let conditions = node.and_then(|node| node.status.as_ref()?.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

/// Watches one object until a condition holds, over watch failures such as a restarting API server.
pub(crate) async fn wait_for<K>(
    api: &Api<K>,
    name: &str,
    limit: Duration,
    condition: impl Condition<K> + Clone,
) -> Result<Option<K>>
where
    K: kube::Resource + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
{
    let watched = async {
        loop {
            if let Ok(object) = await_condition(api.clone(), name, condition.clone()).await {
                return object;
            }
            // The watch could not be had: the API server is away. There is no event for its return.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::time::timeout(limit, watched).await.map_err(|_| anyhow!("{name}: not within {limit:?}"))
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    let read = Kubeconfig::read_from(kubeconfig).context("read the kubeconfig")?;
    let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
    Client::try_from(config.context("use the kubeconfig")?).context("make an API client")
}
