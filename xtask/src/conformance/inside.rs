//! The suite in a cluster's namespaces: a container runtime, the registry, and Ginkgo, which starts an API server and
//! the kubelet itself.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::mount::mount_bind;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::report::{self, Test};
use super::{registry, units};
use crate::cluster::{Containerd, KUBELET_ROOT, Paths};
use crate::images::STAND_IN;
use crate::isolation::NODE_IP;
use crate::workspace;

/// What to run.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The folder with the suite.
    pub(super) suite: PathBuf,
    /// The names of the tests.
    pub(super) tests: Vec<String>,
    /// How many may run at a time.
    pub(super) nodes: usize,
    /// After which the suite is stopped, with a report of what was done until then.
    pub(super) minutes: u64,
    /// Flags of the suite.
    pub(super) flags: Vec<String>,
    /// Whether other work on the machine goes first.
    pub(crate) low_priority: bool,
}

/// What came of it.
#[derive(Serialize, Deserialize)]
pub(super) struct Found {
    /// All tests of the suite; only those that ran have an outcome.
    pub(super) tests: Vec<Test>,
    /// How long it took.
    pub(super) seconds: u64,
    /// What the kubelet's processes used.
    pub(super) cpu_seconds: f64,
}

/// An image that the suite names by its digest, which nothing else can have. What lies there under its name cannot be
/// pulled again, so it must not be collected.
const BY_DIGEST: &str = "registry.k8s.io/e2e-test-images/busybox@sha256:a9155b13325b2abef48e71de77bb8ac015412a566829f621d06bfae5c699b1b9";

/// Flags for every kubelet of the suite. The runtime's group is what its summary is asked for.
const KUBELET_FLAGS: &[&str] = &["--runtime-cgroups=/containerd"];
/// How often the progress is told.
const TELL: Duration = Duration::from_secs(30);

/// Inside the namespaces: sets everything up, runs the suite, and writes what it found.
pub(crate) async fn inside(paths: Paths, order: &Order) -> Result<ExitCode> {
    registry::serve(&paths.images).await?;
    hide_journal()?;
    let shims = paths.file("shims");
    units::install(&shims)?;
    eprintln!("==> start the container runtime");
    let containerd = start_runtime(&paths).await?;
    let suite = suite_folder(&paths, order)?;
    let configuration = paths.file("suite-kubelet.yaml");
    workspace::write(&configuration, format!("{:#}\n", kubelet_configuration()))?;
    workspace::write(&paths.file("system.yaml"), "os: Linux\n")?;

    let (nodes, count) = (order.nodes, order.tests.len());
    eprintln!("==> run {count} tests of upstream's suite, {nodes} at a time");
    let started = Instant::now();
    let log = paths.logs.join("e2e.log");
    let output = std::fs::File::create(&log).context("create the suite's log")?;
    let mut ginkgo = Command::new(order.suite.join("ginkgo"));
    ginkgo.args(arguments(&paths, order, &suite)).current_dir(&suite);
    let search = [shims.as_path(), paths.peers.runtime_folder()];
    let mut search = std::env::join_paths(search).context("name the folders of programs")?;
    search.push(":");
    search.push(std::env::var_os("PATH").unwrap_or_default());
    ginkgo.env("PATH", search).stdin(Stdio::null());
    let errors = output.try_clone().context("share the suite's log")?;
    let mut running = ginkgo.stdout(output).stderr(errors).spawn().context("start ginkgo")?;
    let progress = Progress::new(log, count);
    {
        let mut keeper = std::pin::pin!(keep_running(&containerd));
        loop {
            // Cancel-safe: waiting for a child or for time loses nothing when dropped, and the keeper is not dropped.
            tokio::select! {
                status = running.wait() => { status.context("wait for ginkgo")?; break; }
                failed = &mut keeper => return failed.context("keep the container runtime running"),
                () = tokio::time::sleep(TELL) => progress.tell(),
            }
        }
    }
    let seconds = started.elapsed().as_secs();
    let cpu_seconds = tokio::task::spawn_blocking(units::stop_all).await??;
    drop(containerd);
    let tests = report::read(&paths.logs.join("report.json"))?;
    let found = Found { tests, seconds, cpu_seconds };
    paths.write_result(&serde_json::to_value(&found).context("write what was found")?)?;
    Ok(ExitCode::SUCCESS)
}

/// Where there is a journal the suite takes its logs from there; here it has none.
fn hide_journal() -> Result<()> {
    for path in ["/usr/bin/journalctl", "/bin/journalctl"].map(Path::new) {
        // A file that cannot be run is not found.
        if path.exists() && path.metadata().is_ok_and(|facts| facts.permissions().mode() & 0o111 != 0) {
            mount_bind("/dev/null", path).context("hide journalctl")?;
        }
    }
    Ok(())
}

/// containerd with the suite's images, which pulls from the registry here.
async fn start_runtime(paths: &Paths) -> Result<Containerd> {
    let hosts = paths.file("certs.d");
    registry::write_hosts(&hosts)?;
    let runc = paths.peers.containerd("runc");
    // A handler of another name, as the suite's runtime classes want one.
    let table = r#"[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.test-handler"#;
    let additions = format!(
        "{table}]\n  runtime_type = \"io.containerd.runc.v2\"\n{table}.options]\n  BinaryName = \"{}\"\n\
         [plugins.\"io.containerd.cri.v1.images\".registry]\n  config_path = \"{}\"\n",
        runc.display(),
        hosts.display()
    );
    let containerd = Containerd::with(paths, &additions)?;
    containerd.start_fresh().await?;
    containerd.ctr(&["images", "tag", STAND_IN, BY_DIGEST]).await?;
    containerd.ctr(&["images", "label", BY_DIGEST, "io.cri-containerd.pinned=pinned"]).await?;
    write_pid(&containerd)?;
    Ok(containerd)
}

/// Where the suite looks for the pid of the runtime.
fn write_pid(containerd: &Containerd) -> Result<()> {
    let pid = containerd.service.pid().context("the runtime has no pid")?;
    workspace::write(Path::new("/run/containerd/containerd.pid"), pid.to_string())
}

/// Supervises the runtime in systemd's place: a test kills it. Returns only when it does not start again.
async fn keep_running(containerd: &Containerd) -> Result<ExitCode> {
    loop {
        containerd.service.died().await;
        containerd.start().await?;
        write_pid(containerd)?;
    }
}

/// The suite's program beside the kubelet, for there it looks for it.
fn suite_folder(paths: &Paths, order: &Order) -> Result<PathBuf> {
    let folder = paths.file("suite");
    workspace::create_dir(&folder)?;
    let program = order.suite.join("e2e_node.test");
    let beside = folder.join("e2e_node.test");
    if std::fs::hard_link(&program, &beside).is_err() {
        std::fs::copy(&program, &beside).context("copy the suite")?;
    }
    std::os::unix::fs::symlink(&paths.kubelet, folder.join("kubelet")).context("link the kubelet")?;
    Ok(folder)
}

/// What the suite's own configuration is laid over. Tests that need thresholds of their own set them.
fn kubelet_configuration() -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": "/",
        // The disk and memory belong to others too: only a machine that is really full may evict.
        "evictionHard": { "memory.available": "50Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%" },
        "evictionPressureTransitionPeriod": "30s",
        "failCgroupV1": false,
        "failSwapOn": false,
        "fileCheckFrequency": "10s",
        // For the same reason: others' files must not have images collected.
        "imageGCHighThresholdPercent": 100,
        "podCIDR": "10.100.0.0/24",
        "serializeImagePulls": false,
        "volumePluginDir": format!("{KUBELET_ROOT}/volumeplugins"),
        "volumeStatsAggPeriod": "10s",
    })
}

fn arguments(paths: &Paths, order: &Order, suite: &Path) -> Vec<OsString> {
    let flag = |name: &str, value: &Path| {
        let mut flag = OsString::from(format!("--{name}="));
        flag.push(value);
        flag
    };
    let mut args: Vec<OsString> = vec!["run".into()];
    args.push(format!("--nodes={}", order.nodes).into());
    args.push(format!("--timeout={}m", order.minutes).into());
    args.extend(["--no-color", "-v", "--json-report=report.json"].map(OsString::from));
    args.push(flag("output-dir", &paths.logs));
    args.extend(focus(&order.tests).into_iter().map(OsString::from));
    args.push(suite.join("e2e_node.test").into());
    args.push("--".into());
    args.push(flag("kubelet-config-file", &paths.file("suite-kubelet.yaml")));
    args.push(format!("--kubelet-flags=--node-ip={NODE_IP} {}", KUBELET_FLAGS.join(" ")).into());
    args.push(flag("report-dir", &paths.logs));
    args.push(flag("system-spec-file", &paths.file("system.yaml")));
    args.extend(order.flags.iter().map(OsString::from));
    args
}

/// Bytes an argument may have; the kernel allows 128 KiB.
const LONGEST_ARGUMENT: usize = 60_000;

/// Flags that choose exactly these tests. Ginkgo matches the suite's description, a space and the test's name.
fn focus(tests: &[String]) -> Vec<String> {
    let mut flags: Vec<String> = Vec::new();
    for name in tests {
        let one = format!(r"^E2eNode Suite\s+{}\s*$", escape(name));
        match flags.last_mut() {
            Some(flag) if flag.len() + one.len() < LONGEST_ARGUMENT => {
                flag.push('|');
                flag.push_str(&one);
            }
            _ => flags.push(format!("--focus={one}")),
        }
    }
    flags
}

/// A regular expression for this text. Spaces in it stand for any, as names are kept on one line.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() * 2);
    for sign in text.chars() {
        match sign {
            ' ' => escaped.push_str(r"\s+"),
            sign if sign.is_ascii_alphanumeric() || !sign.is_ascii() => escaped.push(sign),
            sign => escaped.extend(['\\', sign]),
        }
    }
    escaped
}

/// Counts the tests that have ended, in what Ginkgo prints.
struct Progress {
    log: PathBuf,
    count: usize,
    started: Instant,
}

impl Progress {
    fn new(log: PathBuf, count: usize) -> Self {
        Self { log, count, started: Instant::now() }
    }

    fn tell(&self) {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let lines = text.split(|byte| *byte == b'\n');
        let dots: Vec<&[u8]> = lines.filter(|line| line.starts_with("•".as_bytes())).collect();
        let failed = dots.iter().filter(|line| line.windows(8).any(|part| part == b"[FAILED]")).count();
        let minutes = self.started.elapsed().as_secs() / 60;
        let (ended, all) = (dots.len(), self.count);
        eprintln!("    after {minutes} min: {ended} of {all} have ended, {failed} failed");
    }
}

/// What the worker wrote, read by the outer process.
pub(super) fn found(result: Option<serde_json::Value>) -> Result<Found> {
    let Some(result) = result else { bail!("the suite did not come to its end: see its log") };
    serde_json::from_value(result).context("read what the suite found")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_chosen_exactly() {
        let one = focus(&["[a] b.c".to_owned()]);
        assert_eq!(one, [r"--focus=^E2eNode Suite\s+\[a\]\s+b\.c\s*$"]);
    }

    #[test]
    fn no_argument_is_too_long() {
        let names: Vec<String> = (0..2000).map(|number| format!("[sig-node] {number:0100}")).collect();
        let flags = focus(&names);
        assert!(flags.len() > 1 && flags.iter().all(|flag| flag.len() < LONGEST_ARGUMENT + 300));
        let chosen: usize = flags.iter().map(|flag| flag.split('|').count()).sum();
        assert_eq!(chosen, names.len());
    }
}
