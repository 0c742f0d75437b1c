//! The Go programs a kubelet works with, built once from the versions pinned in `tools/`.
//!
//! One cache folder a module, named after a hash of all that decides the result.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::go::{self, Build, Program};
use crate::progress::Progress;
use crate::{command, workspace};

struct Module {
    /// The folder under `tools/`.
    name: &'static str,
    programs: &'static [Program],
}

const fn program(name: &'static str, package: &'static str) -> Program {
    Program { name, package, variables: &[], tags: "", cgo: false }
}

const fn kubernetes(name: &'static str, package: &'static str) -> Program {
    Program { variables: KUBERNETES_VERSION, ..program(name, package) }
}

const fn containerd(name: &'static str, package: &'static str) -> Program {
    let variables = &["github.com/containerd/containerd/v2/version.Version=2.3.7"];
    Program { variables, tags: "no_btrfs,no_zfs,no_devmapper", ..program(name, package) }
}

const KUBERNETES_VERSION: &[&str] = &[
    "k8s.io/component-base/version.gitVersion=v1.37.2",
    "k8s.io/component-base/version.gitMajor=1",
    "k8s.io/component-base/version.gitMinor=37",
    "k8s.io/client-go/pkg/version.gitVersion=v1.37.2",
];

const KUBERNETES: Module = Module {
    name: "kubernetes",
    programs: &[
        kubernetes("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
        kubernetes("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
        kubernetes("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
        kubernetes("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
        kubernetes("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
        program("agnhost", "k8s.io/kubernetes/test/images/agnhost"),
    ],
};

/// Says what upstream's kubelet makes of a configuration. Its source is ours, so that it has a cache entry of its
/// own: a change of it must not have all of Kubernetes built again.
const CONFIG_JUDGE: Program = kubernetes("config-judge", "./config-judge");

/// Says what upstream's kubelet makes of the manifests of static pods; likewise ours.
const MANIFEST_JUDGE: Program = kubernetes("manifest-judge", "./manifest-judge");

/// Says what upstream's kubelet makes of its state files; likewise ours.
const STATE_JUDGE: Program = kubernetes("state-judge", "./state-judge");

/// Says what Prometheus makes of a page of metrics; likewise ours.
const PAGE_JUDGE: Program = program("page-judge", "./page-judge");

/// Asks the Pods API as an agent on the node would; likewise ours.
const PODS_CLIENT: Program = program("pods-client", "./pods-client");

/// Registers a CSI driver by upstream's gRPC library; likewise ours.
const PLUGIN_REGISTRAR: Program = program("plugin-registrar", "./plugin-registrar");

/// What `kubectl top` asks.
const METRICS_SERVER: Module = Module {
    name: "metrics-server",
    programs: &[program("metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server")],
};

/// What stands around a CSI driver: the suite that says whether a program is one, and who attaches its volumes.
const CSI: Module = Module {
    name: "csi",
    programs: &[
        program("csi-sanity", "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity"),
        program("csi-attacher", "github.com/kubernetes-csi/external-attacher/v4/cmd/csi-attacher"),
    ],
};

const ETCD: Module = Module { name: "etcd", programs: &[program("etcd", "go.etcd.io/etcd/server/v3")] };

const CONTAINERD: Module = Module {
    name: "containerd",
    programs: &[
        containerd("containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
        containerd(
            "containerd-shim-runc-v2",
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        ),
        containerd("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
        Program {
            variables: &["main.version=1.5.2"],
            tags: "seccomp",
            cgo: true,
            ..program("runc", "github.com/opencontainers/runc")
        },
        program("bridge", "github.com/containernetworking/plugins/plugins/main/bridge"),
        program("host-local", "github.com/containernetworking/plugins/plugins/ipam/host-local"),
        program("loopback", "github.com/containernetworking/plugins/plugins/main/loopback"),
        program("portmap", "github.com/containernetworking/plugins/plugins/meta/portmap"),
    ],
};

/// Upstream's node end-to-end suite, with what its images hold. A module of its own, for what it is made of must not
/// have all of Kubernetes built again.
const NODE_E2E: Module = Module {
    name: "node-e2e",
    programs: &[
        kubernetes("e2e_node.test", "k8s.io/kubernetes/test/e2e_node"),
        program("ginkgo", "github.com/onsi/ginkgo/v2/ginkgo"),
        program("sample-device-plugin", "k8s.io/kubernetes/test/images/sample-device-plugin"),
        program("nonewprivs", "k8s.io/kubernetes/test/images/nonewprivs"),
    ],
};

/// What the programs are for. What has no part in it is not built, for each module takes minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To compare configurations, without a cluster.
    Comparison,
    /// To run the sample on one kubelet.
    Sample {
        /// Whether that kubelet is upstream's.
        on_go_kubelet: bool,
    },
    /// To measure both kubelets on a cluster.
    Cluster,
    /// Everything.
    Tests,
}

/// What a cluster needs of Kubernetes beside a kubelet.
const CONTROL_PLANE: &[&str] = &["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"];

impl Purpose {
    /// Whether containers run.
    fn has_cluster(self) -> bool {
        self != Self::Comparison
    }

    /// Whether both kubelets are asked what they make of a configuration.
    fn compares(self) -> bool {
        matches!(self, Self::Comparison | Self::Tests)
    }

    /// Whether a program of the Kubernetes module is needed.
    pub(crate) fn needs(self, program: &str) -> bool {
        match self {
            Self::Comparison => program == "kubelet",
            Self::Sample { on_go_kubelet } => {
                CONTROL_PLANE.contains(&program) || (on_go_kubelet && program == "kubelet")
            }
            Self::Cluster | Self::Tests => true,
        }
    }
}

/// The folders with the programs; those that the purpose had no use for may not be there.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Peers {
    kubernetes: PathBuf,
    etcd: PathBuf,
    containerd: PathBuf,
    config_judge: PathBuf,
    manifest_judge: PathBuf,
    state_judge: PathBuf,
    page_judge: PathBuf,
    pods_client: PathBuf,
    plugin_registrar: PathBuf,
    metrics_server: PathBuf,
    csi: PathBuf,
}

impl Peers {
    /// Where the programs are, and what has to be built first.
    pub(crate) fn plan(root: &Path, purpose: Purpose) -> Result<(Self, Vec<Build>)> {
        let tests = purpose == Purpose::Tests;
        let cluster = purpose.has_cluster();
        let mut builds = Vec::new();
        let peers = Self {
            etcd: module(root, &ETCD, |_| cluster, &mut builds)?,
            containerd: module(root, &CONTAINERD, |_| cluster, &mut builds)?,
            kubernetes: module(root, &KUBERNETES, |program| purpose.needs(program), &mut builds)?,
            config_judge: own(root, &CONFIG_JUDGE, purpose.compares(), &mut builds)?,
            manifest_judge: own(root, &MANIFEST_JUDGE, purpose.compares(), &mut builds)?,
            state_judge: own(root, &STATE_JUDGE, purpose.compares(), &mut builds)?,
            page_judge: own(root, &PAGE_JUDGE, tests, &mut builds)?,
            pods_client: own(root, &PODS_CLIENT, tests, &mut builds)?,
            plugin_registrar: own(root, &PLUGIN_REGISTRAR, tests, &mut builds)?,
            metrics_server: module(root, &METRICS_SERVER, |_| tests, &mut builds)?,
            csi: module(root, &CSI, |_| tests, &mut builds)?,
        };
        Ok((peers, builds))
    }

    /// Builds what is missing.
    pub(crate) fn build(root: &Path, purpose: Purpose) -> Result<Self> {
        let (peers, builds) = Self::plan(root, purpose)?;
        go::build(&builds, &Progress::new()?)?;
        Ok(peers)
    }

    /// A program of the Kubernetes module.
    pub(crate) fn kubernetes(&self, program: &str) -> PathBuf {
        self.kubernetes.join(program)
    }

    /// The program that runs upstream's kubelet up to the start of the node.
    pub(crate) fn config_judge(&self) -> &Path {
        &self.config_judge
    }

    /// The program that reads manifests as upstream's kubelet does.
    pub(crate) fn manifest_judge(&self) -> &Path {
        &self.manifest_judge
    }

    /// The program that reads state files as upstream's kubelet does.
    pub(crate) fn state_judge(&self) -> &Path {
        &self.state_judge
    }

    /// The program that reads a page of metrics as Prometheus does.
    pub(crate) fn page_judge(&self) -> &Path {
        &self.page_judge
    }

    /// The program that asks the Pods API.
    pub(crate) fn pods_client(&self) -> &Path {
        &self.pods_client
    }

    /// The program that registers a CSI driver with whatever kubelet there is.
    pub(crate) fn plugin_registrar(&self) -> &Path {
        &self.plugin_registrar
    }

    /// What `kubectl top` asks.
    pub(crate) fn metrics_server(&self) -> PathBuf {
        self.metrics_server.join("metrics-server")
    }

    /// A program of the CSI module.
    pub(crate) fn csi(&self, program: &str) -> PathBuf {
        self.csi.join(program)
    }

    /// The etcd server.
    pub(crate) fn etcd(&self) -> PathBuf {
        self.etcd.join("etcd")
    }

    /// A program of the container runtime module.
    pub(crate) fn containerd(&self, program: &str) -> PathBuf {
        self.containerd.join(program)
    }

    /// The folder with containerd, its shim, runc and the CNI plugins.
    pub(crate) fn runtime_folder(&self) -> &Path {
        &self.containerd
    }
}

/// The folder with upstream's node end-to-end suite, which is built if it is missing. Apart from the others: it takes
/// long, and only conformance needs it.
pub(crate) fn node_suite(root: &Path) -> Result<PathBuf> {
    let mut builds = Vec::new();
    let folder = module(root, &NODE_E2E, |_| true, &mut builds)?;
    go::build(&builds, &Progress::new()?)?;
    Ok(folder)
}

/// Where the source of a package of that suite's module is.
pub(crate) fn kubernetes_source(root: &Path) -> Result<PathBuf> {
    let mut go = Command::new("go");
    go.current_dir(root.join("tools").join(NODE_E2E.name)).env("GOWORK", "off").env_remove("GOFLAGS");
    go.args(["list", "-mod=readonly", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes"]);
    Ok(PathBuf::from(command::output(&mut go)?.trim()))
}

/// A short hash that names a cache entry.
pub(crate) fn short_hash(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize()[..8].iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The folder of a module's programs. Those that are wanted and missing are added to the builds.
fn module(
    root: &Path,
    module: &'static Module,
    is_wanted: impl Fn(&str) -> bool,
    builds: &mut Vec<Build>,
) -> Result<PathBuf> {
    let source = root.join("tools").join(module.name);
    let read = |name: &str| {
        let path = source.join(name);
        std::fs::read(&path).with_context(|| format!("read {}", path.display()))
    };
    let (go_mod, go_sum) = (read("go.mod")?, read("go.sum")?);
    let flags = format!("{} {:?}", std::env::consts::ARCH, module.programs);
    let key = short_hash(&[&go_mod, &go_sum, flags.as_bytes()]);
    let folder = workspace::cache()?.join("peers").join(format!("{}-{key}", module.name));
    let wanted = module.programs.iter().filter(|program| is_wanted(program.name));
    builds.extend(go::missing(module.name, &source, &folder, wanted));
    Ok(folder)
}

/// A program whose source is in `tools/`; with the Kubernetes module, for it uses some of that.
fn own(root: &Path, program: &'static Program, is_wanted: bool, builds: &mut Vec<Build>) -> Result<PathBuf> {
    let source = root.join("tools").join(KUBERNETES.name);
    let mut parts = vec![format!("{} {program:?}", std::env::consts::ARCH).into_bytes()];
    let mut files = vec![source.join("go.mod"), source.join("go.sum")];
    let own = source.join(program.name);
    let list = std::fs::read_dir(&own).with_context(|| format!("list {}", own.display()))?;
    for entry in list {
        files.push(entry.with_context(|| format!("list {}", own.display()))?.path());
    }
    files.sort();
    for file in files {
        parts.push(std::fs::read(&file).with_context(|| format!("read {}", file.display()))?);
    }
    let key = short_hash(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let folder = workspace::cache()?.join("peers").join(format!("{}-{key}", program.name));
    builds.extend(go::missing(program.name, &source, &folder, is_wanted.then_some(program)));
    Ok(folder.join(program.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_does_without_the_other_kubelet_and_the_programs_of_tests() {
        let needed = |purpose: Purpose| -> Vec<&str> {
            KUBERNETES
                .programs
                .iter()
                .map(|program| program.name)
                .filter(|name| purpose.needs(name))
                .collect()
        };
        assert_eq!(needed(Purpose::Sample { on_go_kubelet: false }), CONTROL_PLANE);
        assert!(needed(Purpose::Sample { on_go_kubelet: true }).contains(&"kubelet"));
        assert_eq!(needed(Purpose::Comparison), ["kubelet"]);
        assert_eq!(needed(Purpose::Tests).len(), KUBERNETES.programs.len());
    }
}
