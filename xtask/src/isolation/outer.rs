//! The outer process: starts a cluster's namespaces, waits, cleans up.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use super::state::State;
use super::{Plan, cgroup};
use crate::workspace;

/// Arguments of the hidden `enter` task.
#[derive(clap::Args)]
pub(crate) struct EnterArgs {
    /// A cgroup folder to join; may be repeated.
    #[arg(long)]
    cgroup: Vec<PathBuf>,
    /// Be killed when the parent goes.
    #[arg(long)]
    die_with_parent: bool,
    /// The program to become, with its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Joins the cgroups and becomes the program.
pub(crate) fn enter(args: EnterArgs) -> Result<Infallible> {
    if args.die_with_parent {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .context("set the death signal")?;
    }
    cgroup::join(&args.cgroup)?;
    let (program, rest) = args.command.split_first().context("no program to become")?;
    let error = Command::new(program).args(rest).exec();
    Err(error).with_context(|| format!("become {}", program.to_string_lossy()))
}

/// How a cluster ended.
pub(crate) struct Outcome {
    /// The exit code for the whole task.
    pub(crate) code: ExitCode,
    /// Whether the worker ended well.
    pub(crate) success: bool,
    /// Whether a signal ended it.
    pub(crate) interrupted: bool,
    /// What the worker wrote to `result.json`.
    pub(crate) result: Option<serde_json::Value>,
}

/// Starts a cluster for this plan and waits for its end, or for SIGINT or SIGTERM. When it fails its logs are kept
/// in `logs`, those of upstream's suite always; nothing else stays.
pub(crate) fn launch(name: &str, plan: Plan, logs: &Path) -> Result<Outcome> {
    if !rustix::process::geteuid().is_root() {
        bail!("a cluster needs root: it makes namespaces, cgroups and containers");
    }
    let state = State::create(name)?;
    // What a suite of others says about a test is only in its log.
    let always = matches!(plan.task, super::Task::Conformance(_));
    let outcome = launch_in(&state, plan);
    if always || !outcome.as_ref().is_ok_and(|outcome| outcome.success || outcome.interrupted) {
        keep_logs(&state.path.join("logs"), logs);
    }
    let removed = state.remove();
    let outcome = outcome?;
    removed?;
    Ok(outcome)
}

fn launch_in(state: &State, mut plan: Plan) -> Result<Outcome> {
    keep(state, "kubelet-under-test", &mut plan.kubelet)?;
    if let Some(program) = &mut plan.fake_cri {
        keep(state, "fake-cri", program)?;
    }
    if let Some(program) = &mut plan.fake_csi {
        keep(state, "fake-csi", program)?;
    }
    if let super::Task::Bench(order) = &mut plan.task
        && let Some(program) = &mut order.against
    {
        keep(state, "kubelet-against", program)?;
    }
    let plan = &plan;
    let text = serde_json::to_vec(plan).context("write the plan")?;
    workspace::write(&state.path.join("plan.json"), text)?;
    let groups = cgroup::create(&state.cgroup())?;
    if matches!(&plan.task, super::Task::Conformance(order) if order.low_priority) {
        groups.yield_to_others()?;
    }
    // Not multi-threaded: the parent death signal is bound to the thread that starts the child, this one.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start tokio")?;
    let code = runtime.block_on(supervise(&state.path, &groups, plan))?;
    let result = std::fs::read(state.path.join("result.json")).ok();
    let result = result.and_then(|text| serde_json::from_slice(&text).ok());
    Ok(Outcome { code: ExitCode::from(code), success: code == 0, interrupted: code > 128, result })
}

/// Copies a program that was just built: it may lie in a folder that is hidden inside, and may be built anew while
/// the cluster runs.
fn keep(state: &State, name: &str, program: &mut PathBuf) -> Result<()> {
    if !program.starts_with(workspace::cache()?) {
        let copy = state.path.join(name);
        std::fs::copy(&*program, &copy).with_context(|| format!("copy {}", program.display()))?;
        *program = copy;
    }
    Ok(())
}

async fn supervise(state: &Path, groups: &cgroup::Groups, plan: &Plan) -> Result<u8> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut child =
        tokio::process::Command::from(unshare(state, groups)?).spawn().context("start unshare")?;
    let pid = child.id().context("the pid of unshare")?;
    write_kubectl(state, pid, plan)?;
    // Cancel-safe: waiting for a child or a signal loses nothing when dropped.
    let stopped_by = tokio::select! {
        status = child.wait() => {
            let status = status.context("wait for the cluster")?;
            return Ok(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1));
        }
        _ = interrupt.recv() => Signal::INT,
        _ = terminate.recv() => Signal::TERM,
    };
    eprintln!("\n==> stop the cluster");
    child.start_kill().context("stop the cluster")?;
    child.wait().await.context("wait for the cluster")?;
    Ok(128 + u8::try_from(stopped_by.as_raw()).unwrap_or(0))
}

/// `enter` joins the groups, the first `unshare` makes them the root of a cgroup namespace, `enter` moves to the
/// leaf below it, the second `unshare` does the rest.
fn unshare(state: &Path, groups: &cgroup::Groups) -> Result<Command> {
    let exe = std::env::current_exe().context("find this program")?;
    let mut command = Command::new(&exe);
    command.args(["enter", "--die-with-parent"]);
    for group in &groups.roots {
        command.arg("--cgroup").arg(group);
    }
    command.args(["--", "unshare", "--cgroup"]).arg(&exe).arg("enter");
    for group in &groups.leaves {
        command.arg("--cgroup").arg(group);
    }
    command.args(["--", "unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"]);
    command.arg("--mount-proc").arg(&exe).arg("inside").arg(state);
    // Where ip and nft are; not every login has it.
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    command.env("PATH", path);
    // A process group of its own: Ctrl-C is for the outer process, which stops the rest.
    command.stdin(Stdio::null()).process_group(0);
    Ok(command)
}

/// A `kubectl` for the developer: it joins the network namespace of the process that called `unshare`.
fn write_kubectl(state: &Path, pid: u32, plan: &Plan) -> Result<()> {
    let kubectl = plan.peers.kubernetes("kubectl");
    let script = format!(
        "#!/bin/sh\nexec nsenter --net=/proc/{pid}/ns/net '{}' --kubeconfig '{}' \"$@\"\n",
        kubectl.display(),
        state.join("admin.kubeconfig").display()
    );
    let path = state.join("kubectl");
    workspace::write(&path, script)?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).context("make kubectl executable")
}

fn keep_logs(from: &Path, to: &Path) {
    let Ok(entries) = std::fs::read_dir(from) else { return };
    let _ = std::fs::remove_dir_all(to);
    if let Err(error) = workspace::create_dir(to) {
        eprintln!("warning: logs are lost: {error:#}");
        return;
    }
    for entry in entries.flatten() {
        let _ = std::fs::copy(entry.path(), to.join(entry.file_name()));
    }
    eprintln!("==> logs: {}", to.display());
}
