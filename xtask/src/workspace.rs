//! Where things are: the workspace, cargo's target folder and our cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command;
use crate::progress::Progress;

/// The cargo workspace this task belongs to.
pub(crate) struct Workspace {
    /// The folder of the workspace's `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Cargo's target folder.
    pub(crate) target: PathBuf,
    /// `cargo metadata` without dependencies.
    pub(crate) metadata: Value,
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn load() -> Result<Self> {
        let mut cargo = command::cargo();
        cargo.args(["metadata", "--format-version", "1", "--no-deps"]);
        if let Some(manifest) = std::env::var_os("CARGO_MANIFEST_DIR") {
            cargo.current_dir(manifest);
        }
        let metadata: Value =
            serde_json::from_str(&command::output(&mut cargo)?).context("read cargo metadata")?;
        let path = |key: &str| -> Result<PathBuf> {
            let value = metadata[key].as_str();
            Ok(PathBuf::from(value.with_context(|| format!("cargo metadata has no {key}"))?))
        };
        Ok(Self { root: path("workspace_root")?, target: path("target_directory")?, metadata })
    }

    /// The kubelet a user asked for: a path, `go`, or nothing for ours, which is then built.
    pub(crate) fn kubelet(
        &self,
        wanted: Option<&str>,
        peers: &crate::peers::Peers,
        profile: Profile,
        progress: &Progress,
    ) -> Result<PathBuf> {
        match wanted {
            Some("go") => Ok(peers.kubernetes("kubelet")),
            Some(path) => std::fs::canonicalize(path).with_context(|| format!("find the kubelet {path}")),
            None => self.build("kubelet", profile, progress),
        }
    }

    /// Builds one of our programs. In release mode alone: together with others it would get what their crates ask of
    /// the ones they share. Otherwise together with the others, as the unit tests are: most of it is there already.
    pub(crate) fn build(&self, program: &str, profile: Profile, progress: &Progress) -> Result<PathBuf> {
        let mut cargo = command::cargo();
        cargo.current_dir(&self.root).arg("build");
        let (name, folder) = match profile {
            Profile::Release => {
                cargo.args(["--release", "--package", program]);
                (format!("{program} (release)"), "release")
            }
            Profile::Dev => {
                cargo.args(["--workspace", "--bin", program]);
                (program.to_owned(), "debug")
            }
        };
        build(&name, cargo, progress)?;
        Ok(self.target.join(folder).join(program))
    }
}

/// Has cargo build something, and shows how far it is.
pub(crate) fn build(name: &str, mut cargo: Command, progress: &Progress) -> Result<()> {
    // How far it is, although nobody looks at a terminal.
    cargo.env("CARGO_TERM_PROGRESS_WHEN", "always").env("CARGO_TERM_PROGRESS_WIDTH", "80");
    let mut step = None;
    let mut compiled = 0;
    command::watch(&format!("build {name}"), cargo, progress, |line| match Line::read(line) {
        Line::Compiling => {
            compiled += 1;
            step.get_or_insert_with(|| progress.step("build", name, 0, "crates"));
            true
        }
        Line::Reached { done, total } => {
            if let Some(step) = &step {
                step.reach(done, total);
            }
            true
        }
        Line::Finished => true,
        Line::Other => false,
    })?;
    step.map_or(Ok(()), |step| step.finish(compiled))
}

/// What a line that cargo prints means.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// A crate begins to be compiled.
    Compiling,
    /// So many crates are there, of so many.
    Reached { done: usize, total: usize },
    /// It is done, or a download is.
    Finished,
    /// Something for the developer.
    Other,
}

impl Line {
    fn read(line: &str) -> Self {
        let line = line.trim();
        let reached = || {
            let (_, counts) = line.strip_prefix("Building [")?.split_once("] ")?;
            let (done, rest) = counts.split_once('/')?;
            let total = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            Some(Self::Reached { done: done.parse().ok()?, total: total.parse().ok()? })
        };
        match line.split(' ').next().unwrap_or_default() {
            "Compiling" => Self::Compiling,
            "Finished" | "Downloading" | "Downloaded" | "Updating" | "Locking" => Self::Finished,
            _ => reached().unwrap_or(Self::Other),
        }
    }
}

/// How a program is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quickly, and with checks for overflow: for tests and a first look.
    Dev,
    /// As it is shipped.
    Release,
}

/// The folder for everything that is built once: `$XDG_CACHE_HOME/ferrolet`, else `~/.cache/ferrolet`.
pub(crate) fn cache() -> Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    let Some(base) = base else { bail!("neither XDG_CACHE_HOME nor HOME names a folder for the cache") };
    let folder = base.join("ferrolet");
    create_dir(&folder)?;
    Ok(folder)
}

/// Makes a folder and its parents.
pub(crate) fn create_dir(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("create the folder {}", path.display()))
}

/// Writes a whole file.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    std::fs::write(path, content).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_cargo_prints() {
        let cases = [
            ("   Compiling node v0.1.0 (/a/b)", Line::Compiling),
            ("    Building [=====>     ] 12/375: kube, serde(build)", Line::Reached { done: 12, total: 375 }),
            ("    Building [===========] 375/375", Line::Reached { done: 375, total: 375 }),
            ("    Finished `dev` profile [unoptimized] target(s) in 0.40s", Line::Finished),
            ("warning: unused variable: `x`", Line::Other),
            ("    Building [broken", Line::Other),
            ("", Line::Other),
        ];
        for (line, expected) in cases {
            assert_eq!(Line::read(line), expected, "{line:?}");
        }
    }
}
