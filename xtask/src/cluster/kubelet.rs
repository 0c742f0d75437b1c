//! The files and flags every kubelet is started with, ours and the Go one alike.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Paths, fake_runtime, runtime};
use crate::isolation::{NODE, NODE_IP};
use crate::process::Program;
use crate::workspace;

/// The kubelet's root folder, its default.
pub(crate) const ROOT: &str = "/var/lib/kubelet";
/// The folder with static pod manifests, relative to the state folder.
pub(crate) const MANIFESTS: &str = "manifests";

/// What kind of node a kubelet is to make.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// With containerd.
    Usual,
    /// With `fake-cri`, for more than a thousand pods.
    Dense,
    /// Without an API server.
    Standalone,
}

impl Kind {
    /// The name of its configuration file.
    fn file(self) -> &'static str {
        match self {
            Self::Usual => "kubelet.yaml",
            Self::Dense => "kubelet-dense.yaml",
            Self::Standalone => "kubelet-standalone.yaml",
        }
    }
}

/// Writes the kubelets' configuration and makes their folders.
pub(super) fn write_files(paths: &Paths) -> Result<()> {
    workspace::create_dir(&paths.file(MANIFESTS))?;
    let usual = configuration(paths);
    let mut dense = usual.clone();
    dense["containerRuntimeEndpoint"] = format!("unix://{}", fake_runtime::SOCKET).into();
    dense["maxPods"] = 1500.into();
    // The defaults, 50 and 100, are for 110 pods: two writes for each of 1,000 would take 38 seconds at best.
    dense["kubeAPIQPS"] = 1000.into();
    dense["kubeAPIBurst"] = 2000.into();
    let mut standalone = usual.clone();
    // Without an API server there is nobody to ask who is asking.
    standalone["authentication"]["anonymous"]["enabled"] = json!(true);
    standalone["authentication"]["webhook"]["enabled"] = json!(false);
    standalone["authorization"]["mode"] = json!("AlwaysAllow");
    for (kind, configuration) in [(Kind::Usual, usual), (Kind::Dense, dense), (Kind::Standalone, standalone)]
    {
        // JSON is YAML too.
        workspace::write(&paths.file(kind.file()), format!("{configuration:#}\n"))?;
    }
    Ok(())
}

fn configuration(paths: &Paths) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "0.0.0.0",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": paths.file("ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "cgroupDriver": "cgroupfs",
        "clusterDNS": ["10.96.0.10"],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": format!("unix://{}", runtime::SOCKET),
        // The disk and memory belong to others too: only a machine that is really full may evict.
        "evictionHard": { "memory.available": "50Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%" },
        "failCgroupV1": false,
        "failSwapOn": false,
        // No collection: images cannot be pulled again.
        "imageGCHighThresholdPercent": 100,
        "serializeImagePulls": false,
        "staticPodPath": paths.file(MANIFESTS),
        "tlsCertFile": paths.file("kubelet.crt"),
        "tlsPrivateKeyFile": paths.file("kubelet.key"),
        // The default lies under /usr.
        "volumePluginDir": format!("{ROOT}/volumeplugins"),
    })
}

/// A kubelet for the node.
pub(super) fn program(name: &'static str, paths: &Paths, binary: &Path, kind: Kind) -> Program {
    let mut args = vec![
        format!("--config={}", paths.file(kind.file()).display()),
        format!("--node-ip={NODE_IP}"),
        format!("--hostname-override={NODE}"),
        "--v=2".to_owned(),
    ];
    if kind != Kind::Standalone {
        args.push(format!("--kubeconfig={}", paths.file("node.kubeconfig").display()));
    }
    Program::new(name, binary.to_owned(), args)
}
