//! A cluster in namespaces of its own: network, mounts, cgroups, processes, host name.
//!
//! Programs find their usual paths (`/var/lib/kubelet`, `/run/containerd`) and ports, and still several clusters run
//! side by side. [`launch`] is called by the outer process: it makes a state folder and cgroups, starts
//! `unshare ... xtask inside`, waits, and removes both again. [`inside`] is the init of the new pid namespace; it sets
//! up mounts and network and starts [`worker`], which does the work. The death of any of them ends all: the
//! kernel kills the first by parent death signal, the rest with their pid namespace.

mod cgroup;
mod inside;
mod outer;
mod state;

pub(crate) use cgroup::{create_inside as create_cgroups, remove as remove_cgroups};
pub(crate) use inside::inside;
pub(crate) use outer::{EnterArgs, enter, launch};

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::peers::Peers;
use crate::{bench, cluster, conformance, e2e, run, workspace};

/// The node's name, also the host name inside.
pub(crate) const NODE: &str = "node-1";
/// The node's address, on a bridge: kubelets refuse loopback addresses.
pub(crate) const NODE_IP: &str = "10.78.0.1";
/// Its other address, for nodes that are told to use it.
pub(crate) const NODE_IPV6: &str = "fd00:78::1";

/// What the worker shall do, written by the outer process.
#[derive(Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Where the programs are.
    pub(crate) peers: Peers,
    /// The archive with the images.
    pub(crate) images: PathBuf,
    /// The kubelet to run. The bench measures it beside the Go kubelet.
    pub(crate) kubelet: PathBuf,
    /// The runtime without containers, where it is needed.
    pub(crate) fake_cri: Option<PathBuf>,
    /// The CSI driver, likewise.
    pub(crate) fake_csi: Option<PathBuf>,
    /// What to do with the cluster.
    pub(crate) task: Task,
}

/// What a cluster is started for.
#[derive(Serialize, Deserialize)]
pub(crate) enum Task {
    /// A sample workload, until it is interrupted.
    Run,
    /// The end-to-end tests whose names contain one of these; all when empty.
    Test { filter: Vec<String> },
    /// Measurements.
    Bench(bench::Order),
    /// Upstream's node end-to-end suite, which brings its own API server.
    Conformance(conformance::Order),
}

/// Reads the plan in the state folder and does it.
pub(crate) fn worker(state: &Path) -> Result<ExitCode> {
    let text = std::fs::read(state.join("plan.json")).context("read the plan")?;
    let plan: Plan = serde_json::from_slice(&text).context("read the plan")?;
    workspace::create_dir(&state.join("logs"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start tokio")?;
    runtime.block_on(async {
        let paths = cluster::Paths::new(state, &plan);
        match &plan.task {
            Task::Run => run::inside(paths).await,
            Task::Test { filter } => e2e::inside(paths, filter).await,
            Task::Bench(order) => bench::inside(paths, &plan.kubelet, order).await,
            Task::Conformance(order) => conformance::inside(paths, order).await,
        }
    })
}
