//! The Go programs a kubelet works with, built once from the versions pinned in `tools/`.
//!
//! One cache folder a module, named after a hash of all that decides the result. Each program is built under a
//! temporary name and renamed, so a build that was cut off leaves nothing half-made and is continued by the next.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::{command, workspace};

struct Module {
    /// The folder under `tools/`.
    name: &'static str,
    programs: &'static [Program],
}

#[derive(Debug)]
struct Program {
    name: &'static str,
    package: &'static str,
    /// Values of Go variables: versions the programs report.
    variables: &'static [&'static str],
    tags: &'static str,
    /// Whether the program needs a C compiler.
    cgo: bool,
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

/// Says what Prometheus makes of a page of metrics; likewise ours.
const PAGE_JUDGE: Program = program("page-judge", "./page-judge");

/// Asks the Pods API as an agent on the node would; likewise ours.
const PODS_CLIENT: Program = program("pods-client", "./pods-client");

/// What `kubectl top` asks.
const METRICS_SERVER: Module = Module {
    name: "metrics-server",
    programs: &[program("metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server")],
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

/// What the programs are for. What has no part in it is not built, for each module takes minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To compare configurations, without a cluster.
    Comparison,
    /// To run a cluster.
    Cluster,
    /// Everything.
    Tests,
}

/// The folders with the programs; those that the purpose had no use for may not be there.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Peers {
    kubernetes: PathBuf,
    etcd: PathBuf,
    containerd: PathBuf,
    config_judge: PathBuf,
    manifest_judge: PathBuf,
    page_judge: PathBuf,
    pods_client: PathBuf,
    metrics_server: PathBuf,
}

impl Peers {
    /// Builds what is missing.
    pub(crate) fn build(root: &Path, purpose: Purpose) -> Result<Self> {
        let cluster = purpose != Purpose::Comparison;
        let tests = purpose == Purpose::Tests;
        let comparison = purpose != Purpose::Cluster;
        Ok(Self {
            etcd: module(root, &ETCD, cluster)?,
            containerd: module(root, &CONTAINERD, cluster)?,
            kubernetes: module(root, &KUBERNETES, true)?,
            config_judge: own(root, &CONFIG_JUDGE, comparison)?,
            manifest_judge: own(root, &MANIFEST_JUDGE, comparison)?,
            page_judge: own(root, &PAGE_JUDGE, tests)?,
            pods_client: own(root, &PODS_CLIENT, tests)?,
            metrics_server: module(root, &METRICS_SERVER, tests)?,
        })
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

    /// The program that reads a page of metrics as Prometheus does.
    pub(crate) fn page_judge(&self) -> &Path {
        &self.page_judge
    }

    /// The program that asks the Pods API.
    pub(crate) fn pods_client(&self) -> &Path {
        &self.pods_client
    }

    /// What `kubectl top` asks.
    pub(crate) fn metrics_server(&self) -> PathBuf {
        self.metrics_server.join("metrics-server")
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

/// The folder of a module's programs, which are there afterwards if they are wanted.
fn module(root: &Path, module: &Module, is_wanted: bool) -> Result<PathBuf> {
    let source = root.join("tools").join(module.name);
    let read = |name: &str| {
        let path = source.join(name);
        std::fs::read(&path).with_context(|| format!("read {}", path.display()))
    };
    let (go_mod, go_sum) = (read("go.mod")?, read("go.sum")?);
    let flags = format!("{} {:?}", std::env::consts::ARCH, module.programs);
    let key = short_hash(&[&go_mod, &go_sum, flags.as_bytes()]);
    let folder = workspace::cache()?.join("peers").join(format!("{}-{key}", module.name));
    if is_wanted {
        compile_missing(&source, &folder, module.programs)?;
    }
    Ok(folder)
}

/// A program whose source is in `tools/`; with the Kubernetes module, for it uses some of that.
fn own(root: &Path, program: &Program, is_wanted: bool) -> Result<PathBuf> {
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
    if is_wanted {
        compile_missing(&source, &folder, std::slice::from_ref(program))?;
    }
    Ok(folder.join(program.name))
}

fn compile_missing(source: &Path, folder: &Path, programs: &[Program]) -> Result<()> {
    let missing: Vec<&Program> = programs.iter().filter(|p| !folder.join(p.name).exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !command::exists("go") {
        bail!("building the peers needs Go 1.26 or newer in PATH: install it from https://go.dev/dl/");
    }
    workspace::create_dir(folder)?;
    missing.into_iter().try_for_each(|program| compile(source, folder, program))
}

fn compile(source: &Path, folder: &Path, program: &Program) -> Result<()> {
    let unfinished = folder.join(format!(".{}.{}", program.name, std::process::id()));
    let variables: String = program.variables.iter().map(|variable| format!(" -X {variable}")).collect();
    let mut go = Command::new("go");
    go.current_dir(source).env("CGO_ENABLED", if program.cgo { "1" } else { "0" });
    // Neither a workspace file nor flags of the user's environment may change what is built.
    go.env("GOWORK", "off").env_remove("GOFLAGS");
    go.args(["build", "-buildvcs=false", "-mod=readonly", "-tags", program.tags]);
    go.arg("-ldflags").arg(format!("-s -w{variables}"));
    go.arg("-o").arg(&unfinished).arg(program.package);
    let built = command::run(&format!("build {}", program.name), &mut go);
    if let Err(error) = built {
        let _ = std::fs::remove_file(&unfinished);
        return Err(error);
    }
    let finished = folder.join(program.name);
    std::fs::rename(&unfinished, &finished).with_context(|| format!("rename to {}", finished.display()))
}
