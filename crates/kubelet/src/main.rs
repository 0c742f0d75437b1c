//! The kubelet: reads its configuration, starts a node, and ends when it is told to.

mod checks;
mod ports;
mod shell;
mod start;

use std::process::ExitCode;

use config::{Config, Invocation};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Threads for tasks. The work is short and mostly waiting: two keep one slow poll from holding
/// up the rest, more would only cost memory.
const WORKERS: usize = 2;
/// Threads for calls that block (files, mounts, cgroups) at most.
const BLOCKING_THREADS: usize = 32;

fn main() -> ExitCode {
    host::memory::use_one_arena();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let loaded = match config::load(&arguments) {
        Ok(Invocation::Run(loaded)) => loaded,
        Ok(Invocation::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(refused) => {
            eprintln!("kubelet: {refused}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = telemetry::log::install(&loaded.config.logging) {
        eprintln!("kubelet: {error}");
        return ExitCode::FAILURE;
    }
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            error!("cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(loaded.config));
    // Effects under way are abandoned: the next process starts from what it observes.
    runtime.shutdown_background();
    code
}

async fn run(config: Config) -> ExitCode {
    let stop = CancellationToken::new();
    if let Err(error) = stop_on_signal(stop.clone()) {
        error!("cannot listen for signals: {error}");
        return ExitCode::FAILURE;
    }
    match start::run(config, stop).await {
        Ok(()) => {
            info!("stopped; pods keep running");
            ExitCode::SUCCESS
        }
        Err(error) => {
            error!("{}", shell::failure::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn stop_on_signal(stop: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        // Both are cancel-safe: a signal that arrived stays until it is received.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(())
}
