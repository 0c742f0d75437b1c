//! `cargo xtask test`: everything that must hold before a change is done.
//!
//! The last line is `N passed, N failed`: each check, each unit test and each end-to-end test counts as one.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::host_folders::HostFolders;
use crate::isolation::{self, Plan, Task};
use crate::peers::{Peers, Purpose};
use crate::progress::Progress;
use crate::setup::{self, Prepared};
use crate::workspace::{Profile, Workspace};
use crate::{command, conformance, deny, parity, tidy};

/// How many lives of a node are simulated: ten times as many as `cargo test` alone, which is run again and again.
const SIMULATED_HISTORIES: &str = "100000";

/// How many passed and failed.
#[derive(Clone, Copy, Default)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    fn check(&mut self, name: &str, result: Result<()>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => {
                println!("check {name} ... FAILED\n    {error:#}");
                self.failed += 1;
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Compares the configuration of both kubelets alone.
pub(crate) fn parity(kubelet: Option<&str>, filter: &[String]) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let peers = Peers::build(&workspace.root, Purpose::Comparison)?;
    let kubelet = workspace.kubelet(kubelet, &peers, Profile::Dev, &Progress::new()?)?;
    let before = HostFolders::find();
    let mut tally = compare(&peers, &kubelet, filter)?;
    tally.check("folders", HostFolders::find().check(&before));
    println!("\n{} passed, {} failed", tally.passed, tally.failed);
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn compare(peers: &Peers, kubelet: &Path, filter: &[String]) -> Result<Tally> {
    let outcome = parity::apart::run(peers, kubelet, filter)?;
    for failure in &outcome.failures {
        println!("parity {failure} ... FAILED");
    }
    Ok(Tally { passed: outcome.passed, failed: outcome.failures.len() as u64 })
}

/// Runs it all, or only the end-to-end tests.
pub(crate) fn outer(kubelet: Option<&str>, filter: Vec<String>, e2e_only: bool) -> Result<ExitCode> {
    let mut tally = Tally::default();
    // First, for unit tests too may look at what the peers bring.
    let ready = setup::prepare(Purpose::Tests)?;
    let before = HostFolders::find();
    if !e2e_only && filter.is_empty() {
        static_checks(&ready.workspace, &mut tally);
        tally.add(unit_tests(&ready.workspace)?);
        // Upstream's own kubelet needs no comparison with itself.
        if kubelet != Some("go") {
            let ours = ready.workspace.kubelet(kubelet, &ready.peers, Profile::Dev, &Progress::new()?)?;
            match compare(&ready.peers, &ours, &[]) {
                Ok(compared) => tally.add(compared),
                Err(error) => tally.check("configuration", Err(error)),
            }
        }
    }
    let all = filter.is_empty();
    match end_to_end(&ready, kubelet, filter) {
        Ok(tests) => tally.add(tests),
        Err(error) => tally.check("end-to-end tests", Err(error)),
    }
    if all {
        match conformance::check(&ready, kubelet) {
            Ok((passed, failed)) => tally.add(Tally { passed, failed }),
            Err(error) => tally.check("conformance", Err(error)),
        }
    }
    tally.check("folders", HostFolders::find().check(&before));
    println!("\n{} passed, {} failed", tally.passed, tally.failed);
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn cargo(workspace: &Workspace, args: &[&str]) -> Command {
    let mut cargo = command::cargo();
    cargo.current_dir(&workspace.root).args(args);
    cargo
}

fn static_checks(workspace: &Workspace, tally: &mut Tally) {
    tally.check("format", command::run("check the format", &mut cargo(workspace, &["fmt", "--check"])));
    let lints = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    tally.check("lints", command::run("check the lints", &mut cargo(workspace, &lints)));
    tally.check("tidy", tidy::run());
    tally.check("crates of others", deny::check(workspace));
}

/// Runs the unit and integration tests and adds up what cargo reports for each binary.
fn unit_tests(workspace: &Workspace) -> Result<Tally> {
    eprintln!("==> run the unit tests");
    let mut tests = cargo(workspace, &["test", "--workspace", "--no-fail-fast"]);
    if std::env::var_os("SIM_COUNT").is_none() {
        tests.env("SIM_COUNT", SIMULATED_HISTORIES);
    }
    let mut child = tests.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("start cargo test")?;
    let output = child.stdout.take().context("the output of cargo test")?;
    let mut tally = Tally::default();
    for line in BufReader::new(output).lines() {
        let line = line.context("read the output of cargo test")?;
        if let Some(some) = parse_result(&line) {
            tally.add(some);
        } else if !line.ends_with("... ok") && !line.is_empty() {
            println!("{line}");
        }
    }
    let status = child.wait().context("wait for cargo test")?;
    if !status.success() && tally.failed == 0 {
        tally.check("unit tests", Err(anyhow::anyhow!("cargo test ended with {status}")));
    }
    Ok(tally)
}

/// Reads `test result: ok. 12 passed; 0 failed; ...`.
fn parse_result(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let number = |word: &str| -> Option<u64> {
        let part = counts.split("; ").find(|part| part.ends_with(word))?;
        part.split(' ').next()?.parse().ok()
    };
    Some(Tally { passed: number("passed")?, failed: number("failed")? })
}

fn end_to_end(ready: &Prepared, kubelet: Option<&str>, filter: Vec<String>) -> Result<Tally> {
    let progress = Progress::new()?;
    let kubelet = ready.workspace.kubelet(kubelet, &ready.peers, Profile::Dev, &progress)?;
    let fake_cri = Some(ready.workspace.build("fake-cri", Profile::Dev, &progress)?);
    let fake_csi = Some(ready.workspace.build("fake-csi", Profile::Dev, &progress)?);
    drop(progress);
    let logs = ready.workspace.target.join("xtask/test/logs");
    let (peers, images) = (ready.peers.clone(), ready.images.clone());
    let plan = Plan { peers, images, kubelet, fake_cri, fake_csi, task: Task::Test { filter } };
    let outcome = isolation::launch("test", plan, &logs)?;
    let count = |key: &str| outcome.result.as_ref().and_then(|result| result[key].as_u64());
    let mut tally = Tally { passed: count("passed").unwrap_or(0), failed: count("failed").unwrap_or(0) };
    if !outcome.success && tally.failed == 0 {
        tally.check("cluster", Err(anyhow::anyhow!("the cluster did not come to its end")));
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_cargo_test_reports() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        let tally = parse_result(line).unwrap();
        assert_eq!((tally.passed, tally.failed), (12, 3));
        assert!(parse_result("test model::x ... ok").is_none());
        assert!(parse_result("test result: ok").is_none());
    }
}
