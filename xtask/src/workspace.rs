//! Where things are: the workspace, cargo's target folder and our cache.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command;

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
    ) -> Result<PathBuf> {
        match (wanted, profile) {
            (Some("go"), _) => Ok(peers.kubernetes("kubelet")),
            (Some(path), _) => {
                std::fs::canonicalize(path).with_context(|| format!("find the kubelet {path}"))
            }
            (None, Profile::Release) => self.build("kubelet"),
            (None, Profile::Dev) => {
                let mut cargo = command::cargo();
                // Together with the others, as the unit tests are: most of it is there already.
                cargo.current_dir(&self.root).args(["build", "--workspace", "--bin", "kubelet"]);
                command::run("build the kubelet", &mut cargo)?;
                Ok(self.target.join("debug/kubelet"))
            }
        }
    }

    /// Builds one of our programs in release mode. Alone: together with others it would get what their crates ask
    /// of the ones they share.
    pub(crate) fn build(&self, program: &str) -> Result<PathBuf> {
        let mut cargo = command::cargo();
        cargo.current_dir(&self.root).args(["build", "--release", "--package", program]);
        command::run(&format!("build {program}"), &mut cargo)?;
        Ok(self.target.join("release").join(program))
    }
}

/// How a kubelet is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quickly, and with checks for overflow: for tests.
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
