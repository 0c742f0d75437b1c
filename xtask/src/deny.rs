//! `cargo deny`: licences, duplicates and sources of others' crates, by the rules in `deny.toml`.
//!
//! The program is built once, in the version pinned here, into the cache. Its check needs no network: what it looks at is
//! the lock file and the crates that cargo has downloaded to build the workspace for this machine.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::command;
use crate::progress::Progress;
use crate::workspace::{self, Workspace};

/// The version of `cargo-deny`.
const VERSION: &str = "0.20.2";
/// What is checked. Advisories are not: they come over the network, and change without a change of ours.
const CHECKS: &[&str] = &["bans", "licenses", "sources"];

/// Checks the workspace, with a program that is built when there is none.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let program = program()?;
    // Of this machine: what others need was not downloaded.
    let machine = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut cargo = command::cargo();
    cargo.current_dir(&workspace.root).args(["metadata", "--format-version", "1", "--all-features"]);
    // Not `--offline`: should a crate that no build needs be missing, it is fetched.
    cargo.args(["--locked", "--filter-platform", &machine]);
    let folder = workspace.target.join("xtask");
    workspace::create_dir(&folder)?;
    let metadata = folder.join("metadata.json");
    workspace::write(&metadata, command::output(&mut cargo)?)?;
    let mut deny = Command::new(program);
    deny.current_dir(&workspace.root).args(["--offline", "--locked", "--log-level", "error"]);
    deny.arg("--metadata-path").arg(&metadata).args(["check", "--hide-inclusion-graph"]).args(CHECKS);
    command::quiet(&mut deny)
}

/// The program. Not optimized: it runs for seconds, and building it would take minutes more.
fn program() -> Result<PathBuf> {
    let folder = workspace::cache()?.join("peers").join(format!("cargo-deny-{VERSION}"));
    let program = folder.join("bin/cargo-deny");
    if program.is_file() {
        return Ok(program);
    }
    let mut cargo = command::cargo();
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "false").args(["install", "--locked", "--debug", "--no-track"]);
    cargo.arg("--root").arg(&folder).args(["--version", VERSION, "cargo-deny"]);
    workspace::build("cargo-deny", cargo, &Progress::new()?)?;
    Ok(program)
}
