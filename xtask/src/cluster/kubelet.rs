//! The files and flags every kubelet is started with, ours and the Go one alike.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use super::{Paths, fake_runtime, runtime};
use crate::isolation::{self, NODE, NODE_IP};
use crate::process::Program;
use crate::workspace;

/// The kubelet's root folder, its default.
pub(crate) const ROOT: &str = "/var/lib/kubelet";
/// The folder with static pod manifests, relative to the state folder.
pub(crate) const MANIFESTS: &str = "manifests";

/// The name of the second node.
pub(crate) const SECOND: &str = "node-2";
/// Its root folder.
pub(crate) const SECOND_ROOT: &str = "/var/lib/kubelet-second";

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
        write_configuration(&paths.file(kind.file()), &configuration)?;
    }
    Ok(())
}

fn write_configuration(path: &Path, configuration: &Value) -> Result<()> {
    // JSON is YAML too.
    workspace::write(path, format!("{configuration:#}\n"))
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
    let mut args = vec![format!("--config={}", paths.file(kind.file()).display())];
    args.extend(always());
    if kind != Kind::Standalone {
        args.push(format!("--kubeconfig={}", paths.file("node.kubeconfig").display()));
    }
    Program::new(name, binary.to_owned(), args)
}

fn always() -> [String; 3] {
    [format!("--node-ip={NODE_IP}"), format!("--hostname-override={NODE}"), "--v=2".to_owned()]
}

/// How a kubelet's credentials differ from those of the cluster's own.
pub(crate) struct Credentials {
    /// `--kubeconfig`
    pub(crate) kubeconfig: PathBuf,
    /// `--bootstrap-kubeconfig`
    pub(crate) bootstrap: Option<PathBuf>,
    /// `--cert-dir`
    pub(crate) certificates: PathBuf,
    /// Fields of the configuration that are different; `null` removes one.
    pub(crate) fields: Value,
}

/// How a kubelet is started otherwise than the cluster's own.
#[derive(Default)]
pub(crate) struct Changes {
    /// Fields of the configuration that are different; `null` removes one.
    pub(crate) fields: Value,
    /// Further flags.
    pub(crate) flags: Vec<String>,
    /// Further variables of its environment.
    pub(crate) environment: Vec<(&'static str, OsString)>,
}

/// The kubelet under test as a second node, on a runtime without containers and beside the usual one: with ports, folders,
/// cgroups and credentials of its own.
pub(super) fn program_second(name: &'static str, paths: &Paths, fields: &Value) -> Result<Program> {
    let pair = paths.file("second.pem");
    workspace::write(&pair, super::certs::node_pair(paths, SECOND, -60, 24 * 3600)?)?;
    super::certs::write_kubeconfig(
        paths,
        "second",
        &json!({ "client-certificate": pair, "client-key": pair }),
    )?;
    isolation::remove_cgroups(SECOND)?;
    isolation::create_cgroups(SECOND)?;
    let mut all = json!({
        "cgroupRoot": format!("/{SECOND}"),
        "containerRuntimeEndpoint": format!("unix://{}", fake_runtime::SOCKET),
        "healthzPort": 10348,
        "podLogsDir": "/var/log/pods-second",
        "port": 10350,
        "staticPodPath": null,
        "volumePluginDir": format!("{SECOND_ROOT}/volumeplugins"),
    });
    if let (Some(all), Some(fields)) = (all.as_object_mut(), fields.as_object()) {
        all.extend(fields.clone());
    }
    let args = [
        format!("--config={}", write_changed(name, paths, &all)?.display()),
        format!("--kubeconfig={}", paths.file("second.kubeconfig").display()),
        format!("--node-ip={NODE_IP}"),
        format!("--hostname-override={SECOND}"),
        format!("--root-dir={SECOND_ROOT}"),
        "--v=2".to_owned(),
    ];
    Ok(Program::new(name, paths.kubelet.clone(), args))
}

/// Writes the usual configuration with these fields changed; `null` removes one.
fn write_changed(name: &str, paths: &Paths, fields: &Value) -> Result<PathBuf> {
    let mut document = configuration(paths);
    if let (Some(document), Some(fields)) = (document.as_object_mut(), fields.as_object()) {
        document.extend(fields.clone());
        document.retain(|_, value| !value.is_null());
    }
    let path = paths.file(&format!("{name}.yaml"));
    write_configuration(&path, &document)?;
    Ok(path)
}

/// A kubelet for the node whose configuration differs in these fields; `null` removes one.
pub(super) fn program_configured(
    name: &'static str,
    paths: &Paths,
    binary: &Path,
    fields: &Value,
) -> Result<Program> {
    let mut args = vec![
        format!("--config={}", write_changed(name, paths, fields)?.display()),
        format!("--kubeconfig={}", paths.file("node.kubeconfig").display()),
    ];
    args.extend(always());
    Ok(Program::new(name, binary.to_owned(), args))
}

/// The kubelet under test, started otherwise.
pub(super) fn program_changed(name: &'static str, paths: &Paths, changes: Changes) -> Result<Program> {
    let mut program = program_configured(name, paths, &paths.kubelet, &changes.fields)?;
    program.args.extend(changes.flags.into_iter().map(Into::into));
    program.environment = changes.environment;
    Ok(program)
}

/// The kubelet under test, with other credentials.
pub(super) fn program_with(name: &'static str, paths: &Paths, credentials: &Credentials) -> Result<Program> {
    let path = write_changed(name, paths, &credentials.fields)?;
    let mut args = vec![
        format!("--config={}", path.display()),
        format!("--kubeconfig={}", credentials.kubeconfig.display()),
        format!("--cert-dir={}", credentials.certificates.display()),
    ];
    args.extend(always());
    args.extend(
        credentials.bootstrap.iter().map(|path| format!("--bootstrap-kubeconfig={}", path.display())),
    );
    Ok(Program::new(name, paths.kubelet.clone(), args))
}
