//! A handful of cases with the real programs, from their start to their end, so that the verdicts compared elsewhere
//! are known to be those of the programs.
//!
//! A node whose configuration is accepted has neither API server nor container runtime, for which upstream does not wait.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result};

use super::case::{Case, Input};
use super::verdict::Verdict;

/// The cases, by name.
const CASES: &[&str] = &[
    "fields/maxPods: 2147483647",
    "fields/port: 65536",
    "flags/--no-such-flag",
    "gates/featureGates: {NodeSwap: false}",
    "layers/by name",
    "layers/empty drop-in",
    "syntax/broken YAML",
    "syntax/unknown field",
];

/// Seconds a program may take to end. It needs less than one; a busy machine may need many more.
const DEADLINE: &str = "120";

/// Runs them all; one text for each that failed.
pub(super) fn run(
    programs: super::Programs<'_>,
    folder: &Path,
    cases: &[Case],
    inputs: &[Input],
    verdicts: &[Verdict],
) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for name in CASES {
        let Some(index) = cases.iter().position(|case| case.name == *name) else {
            wrong.push(format!("there is no case {name:?} to run with the real programs"));
            continue;
        };
        let (arguments, verdict) = (&inputs[index].arguments, &verdicts[index]);
        let go = start(programs.go, folder, arguments)?;
        let said = String::from_utf8_lossy(&go.stderr);
        if go.status.success() {
            wrong.push(format!("{name}: upstream's kubelet ended well without a runtime"));
        }
        match verdict.reason() {
            Some(reason) if !said.contains(reason) => {
                wrong.push(format!("{name}: upstream's kubelet does not say {reason:?} but {}", last(&said)));
            }
            // Its configuration was read, and a node began to be built.
            None if !said.contains("failed to run Kubelet") => {
                wrong.push(format!("{name}: upstream's kubelet ended early: {}", last(&said)));
            }
            _ => {}
        }
        // Ours waits for the runtime, so that only what it refuses comes to an end.
        if verdict.reason().is_some() {
            let ours = start(programs.ours, folder, arguments)?;
            if ours.status.code() != Some(1) || ours.stderr.is_empty() {
                wrong.push(format!("{name}: our kubelet ended with {} and no word", ours.status));
            }
        }
    }
    Ok(wrong)
}

fn start(kubelet: &Path, folder: &Path, arguments: &[String]) -> Result<Output> {
    let mut command = Command::new("timeout");
    command.current_dir(folder).arg(DEADLINE).arg(kubelet).args(arguments);
    command.arg(format!("--container-runtime-endpoint=unix://{}", folder.join("none.sock").display()));
    command.arg(format!("--root-dir={}", folder.join("root").display()));
    command.output().with_context(|| format!("start {}", kubelet.display()))
}

fn last(text: &str) -> &str {
    text.lines().last().unwrap_or_default()
}
