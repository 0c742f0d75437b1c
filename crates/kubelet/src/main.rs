//! The kubelet: reads its configuration, starts a node, and ends when it is told to.
//!
//! Exit codes are upstream's: 0 when it was told to end, 1 for everything else. Whatever keeps it from
//! starting is the last line of the log: `"command failed" err="…"`.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests spawn what ends with them"))]

mod checks;
mod commands;
mod control;
mod declared_features;
mod driver;
mod executor;
mod http_api;
mod identity;
mod iptables;
mod kubeconfig;
mod lock;
mod notify;
mod observe;
mod start;
mod usage;
mod watchers;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use config::{Config, Invocation, Loaded, Logging};
use telemetry::log::LogHandle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use lock::Lock;
use model::chain;
use notify::Notifier;
use observe::health::Health;
use observe::sync_loop_health::SyncLoopHealth;

/// Threads for tasks. The work is short and mostly waiting: two keep one slow poll from holding
/// up the rest, more would only cost memory.
const WORKERS: usize = 2;
/// Threads for calls that block (files, mounts, cgroups) at most.
const BLOCKING_THREADS: usize = 32;
/// For a node to end that was told to. What it does then is a matter of milliseconds.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// For ports to close before another process gets the lock. Tasks end at their next wait; only a hung disk takes longer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    host::memory::use_one_arena();
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    if let Some(code) = commands::run(&arguments) {
        return code;
    }
    match config::load(&arguments) {
        Ok(Invocation::Run(loaded)) => run(*loaded),
        Ok(Invocation::Print(text)) => print(&text, ExitCode::SUCCESS),
        Ok(Invocation::Faulty(text)) => print(&text, ExitCode::FAILURE),
        Ok(Invocation::Kubeconfig { path, is_json }) => match kubeconfig::look_at(&path, is_json) {
            Ok(text) => print(&text, ExitCode::SUCCESS),
            Err(text) => print(&text, ExitCode::FAILURE),
        },
        Err(refused) => {
            // How the log was to look is not known, as the configuration is not.
            let log = telemetry::log::install(&Logging::default());
            error!(err = %refused, "command failed");
            if let Ok(log) = log {
                log.flush();
            }
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str, code: ExitCode) -> ExitCode {
    // Whoever closed the other end has read enough.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    code
}

fn run(loaded: Loaded) -> ExitCode {
    let log = match telemetry::log::install(&loaded.config.logging) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("kubelet: {}", chain(&error));
            return ExitCode::FAILURE;
        }
    };
    let result = run_logging(loaded, &log);
    if let Err(error) = &result {
        error!(err = format!("failed to run Kubelet: {}", chain(error.as_ref())), "command failed");
    }
    log.flush();
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_logging(loaded: Loaded, log: &LogHandle) -> anyhow::Result<()> {
    info!(config = loaded.config.document_yaml_for_log(), "Effective KubeletConfiguration");
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    checks::permissions();
    info!(
        kubeletVersion = config::version::KUBELET_VERSION,
        version = config::version::VERSION,
        "Kubelet version"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .context("start threads")?;
    let mut lock = None;
    let result = runtime.block_on(until_stopped(loaded.config, loaded.flags, log.clone(), &mut lock));
    // Effects under way are abandoned: the next process starts from what it observes.
    if lock.is_none() {
        runtime.shutdown_background();
    } else {
        // Whoever waits for the lock opens the same ports at once: these have to be closed first.
        runtime.shutdown_timeout(CLOSE_TIMEOUT);
    }
    drop(lock);
    result
}

/// Runs a node until a signal or another kubelet ends it. The lock is the caller's to give up.
async fn until_stopped(
    config: Config,
    flags: BTreeMap<&'static str, String>,
    log: LogHandle,
    lock: &mut Option<Lock>,
) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let [terminate, interrupt] = signals;
    let (terminate, interrupt) =
        (terminate.context("listen for SIGTERM")?, interrupt.context("listen for SIGINT")?);
    #[expect(clippy::disallowed_methods, reason = "ends with the process")]
    tokio::spawn(stop_on_signal(terminate, interrupt, stop.clone(), log.clone()));
    let health = Health { sync_loop: Arc::new(SyncLoopHealth::default()), log: log.clone() };
    let notifier = Notifier::from_environment();
    if let Some(timeout) = notify::watchdog_timeout().context("create health checker")? {
        let health = health.clone();
        #[expect(clippy::disallowed_methods, reason = "ends with the process")]
        tokio::spawn(notify::watch(notifier.clone(), timeout, move || health.check()));
    }
    // Cancel-safe: who is told to end while waiting for the lock does not want it any more.
    *lock = tokio::select! {
        lock = take_lock(&config) => lock?,
        () = stop.cancelled() => return Ok(()),
    };
    let process = start::Process { log, health, notifier, flags: Arc::new(flags) };
    let mut node = std::pin::pin!(start::run(config, process, stop.clone()));
    // Both are cancel-safe: the node is not dropped by the second, which only waits.
    let result = tokio::select! {
        result = &mut node => result,
        () = ended(&stop, lock.as_ref()) => {
            stop.cancel();
            // One that is still starting may be in the middle of anything; nothing of that is lost.
            tokio::time::timeout(END_TIMEOUT, node).await.unwrap_or(Ok(()))
        }
    };
    if result.is_ok() {
        info!("Kubelet stopped; pods keep running");
    }
    result
}

async fn take_lock(config: &Config) -> Result<Option<Lock>, lock::LockError> {
    let (file, is_watching) = (&config.process.lock_file, config.process.exit_on_lock_contention);
    match file {
        Some(path) => Lock::acquire(path, is_watching).await.map(Some),
        None if is_watching => Err(lock::LockError::NoFile),
        None => Ok(None),
    }
}

/// Waits for a signal, or for somebody who opens the lock file.
async fn ended(stop: &CancellationToken, lock: Option<&Lock>) {
    let contended = async {
        match lock {
            Some(lock) => lock.contended().await,
            None => std::future::pending().await,
        }
    };
    // Both only wait.
    tokio::select! {
        () = stop.cancelled() => {}
        () = contended => info!("Another process opened or removed the lock file; giving way to it"),
    }
}

/// Ends the node at the first signal, and the process at the second.
async fn stop_on_signal(
    mut terminate: Signal,
    mut interrupt: Signal,
    stop: CancellationToken,
    log: LogHandle,
) {
    loop {
        // Both are cancel-safe: a signal that arrived stays until it is received.
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        if stop.is_cancelled() {
            error!("Received {name} a second time, exiting at once");
            log.flush();
            std::process::exit(1);
        }
        info!("Received {name}, shutting down");
        stop.cancel();
    }
}
