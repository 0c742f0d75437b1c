//! The configuration of both kubelets, side by side.
//!
//! Every case is a command line with its files. Upstream's verdict comes from `tools/kubernetes/config-judge`, which
//! runs upstream's own command up to the start of the node; ours from `kubelet config show`. Both must accept or
//! refuse it, with the same configuration in effect or about the same field. The cases are those written down in
//! `cases/`, among them kubeconfigs, which both load up to the client they would make of it, plus, for each flag and field that upstream says it has, a few that are made up. What differs on purpose
//! is in `wanted.yaml`, with the reason.
//!
//! What is kept of upstream's static pods is checked as well, for a uid that differs restarts a control plane, and what
//! is kept of upstream's state files, which a node has when it is handed from one kubelet to the other.

pub(crate) mod apart;
mod case;
mod judge;
mod kept;
mod kubeconfig;
mod made_up;
mod manifests;
mod real;
mod states;
mod verdict;
mod wanted;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use case::{Case, Input};
use judge::Description;
use verdict::Verdict;
use wanted::Wanted;

/// How many held, and what did not.
#[derive(Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Cases in which both kubelets agree, or differ as wanted.
    pub(crate) passed: u64,
    /// One text for each case that failed.
    pub(crate) failures: Vec<String>,
}

/// Kubelets of ours to run at a time: one a core, and they last a few milliseconds each.
const AT_A_TIME: usize = 4;

/// The programs that are compared.
#[derive(Clone, Copy)]
struct Programs<'a> {
    /// Says what upstream makes of a configuration.
    judge: &'a Path,
    /// Says what upstream makes of a static pod's manifest.
    manifest_judge: &'a Path,
    /// Says what upstream makes of a state file.
    state_judge: &'a Path,
    /// Upstream's kubelet.
    go: &'a Path,
    /// Our kubelet.
    ours: &'a Path,
}

/// Runs every case whose name contains one of the filters; all of them without filters.
fn run(programs: Programs<'_>, filter: &[String]) -> Result<Outcome> {
    eprintln!("==> compare the configuration with upstream's");
    let folder = tempfile::tempdir().context("make a folder for the cases")?;
    let description = judge::describe(programs.judge)?;
    let mut cases = case::written()?;
    cases.extend(made_up::cases(&description));
    let is_whole = filter.is_empty();
    if !is_whole {
        cases.retain(|case| filter.iter().any(|part| case.name.contains(part.as_str())));
    }
    let mut failures = Vec::new();
    if is_whole {
        failures.extend(uncovered(&description, &cases));
        failures.extend(repeated(&cases));
        failures.extend(judge::compare_tables(programs.ours, &description)?);
    }
    let pki = kubeconfig::Pki::new()?;
    let inputs =
        cases.iter().map(|case| case.materialize(folder.path(), &pki)).collect::<Result<Vec<_>>>()?;
    let theirs = judge::verdicts(programs.judge, folder.path(), &inputs)?;
    let ours = ours(programs.ours, folder.path(), &inputs)?;
    let mut wanted = Wanted::load()?;
    let mut passed = 0;
    for ((case, ours), theirs) in cases.iter().zip(&ours).zip(&theirs) {
        let found = verdict::compare(case, ours, theirs, &description);
        match wanted.judge(&case.name, found) {
            None => passed += 1,
            Some(text) => failures.push(format!("{}: {text}", case.describe())),
        }
    }
    if is_whole {
        failures.extend(wanted.unused());
        failures.extend(real::run(programs, folder.path(), &cases, &inputs, &theirs)?);
        for outdated in
            [manifests::outdated(programs.manifest_judge)?, states::outdated(programs.state_judge)?]
        {
            passed += u64::from(outdated.is_empty());
            failures.extend(outdated);
        }
    }
    eprintln!("    {} cases, {} differ as wanted", cases.len(), wanted.used());
    Ok(Outcome { passed, failures })
}

/// Each flag and each field has to be in a case.
fn uncovered(description: &Description, cases: &[Case]) -> Vec<String> {
    let words: BTreeSet<&str> = cases.iter().flat_map(Case::words).collect();
    let flags = description.flags.iter().map(|flag| flag.name.as_str());
    let fields = description.fields.iter().map(|field| field.name());
    flags
        .chain(fields)
        .filter(|name| !words.contains(name))
        .map(|name| format!("{name} is in no case"))
        .collect()
}

fn repeated(cases: &[Case]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let twice = cases.iter().filter(|case| !seen.insert(case.name.as_str()));
    twice.map(|case| format!("two cases are called {:?}", case.name)).collect()
}

/// What our kubelet says to each case.
fn ours(kubelet: &Path, folder: &Path, inputs: &[Input]) -> Result<Vec<Verdict>> {
    let share = inputs.len().div_ceil(AT_A_TIME).max(1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = inputs
            .chunks(share)
            .map(|some| {
                scope.spawn(move || {
                    some.iter().map(|one| show(kubelet, folder, one)).collect::<Result<Vec<_>>>()
                })
            })
            .collect();
        let mut all = Vec::with_capacity(inputs.len());
        for worker in workers {
            let done = worker.join().map_err(|_| anyhow::anyhow!("a thread that runs kubelets panicked"))?;
            all.extend(done?);
        }
        Ok(all)
    })
}

fn show(kubelet: &Path, folder: &Path, input: &Input) -> Result<Verdict> {
    let mut command = Command::new(kubelet);
    command.current_dir(folder).arg("config");
    match &input.kubeconfig {
        Some(path) => command.args(["kubeconfig", "--output=json"]).arg(path),
        None => command.args(["show", "--output=json"]).args(&input.arguments),
    };
    let done = command.output().with_context(|| format!("start {}", kubelet.display()))?;
    serde_json::from_slice(&done.stdout).with_context(|| {
        format!(
            "read what {} says to {input:?}: {}",
            kubelet.display(),
            String::from_utf8_lossy(&done.stderr)
        )
    })
}
