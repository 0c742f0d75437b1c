//! The files of a layer, gathered from the machine and from Debian packages that are unpacked beside it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::oci::Entry;
use crate::command;

/// Where Debian keeps libraries.
const LIBRARIES: &str = if cfg!(target_arch = "aarch64") { "aarch64-linux-gnu" } else { "x86_64-linux-gnu" };

/// A layer that is being gathered; what is added later replaces what has the same path.
pub(super) struct Files<'a> {
    entries: BTreeMap<String, Entry>,
    unpacked: &'a Path,
}

impl<'a> Files<'a> {
    /// An empty layer. Programs are looked for in `unpacked` first.
    pub(super) fn new(unpacked: &'a Path) -> Self {
        Self { entries: BTreeMap::new(), unpacked }
    }

    /// What was gathered, in the order of the paths: a folder comes before what is in it.
    pub(super) fn entries(self) -> Vec<Entry> {
        self.entries.into_values().collect()
    }

    /// Adds a file.
    pub(super) fn file(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) {
        let entry = Entry::File { path: path.into(), mode, content: content.into() };
        self.entries.insert(path.into(), entry);
    }

    /// Adds a folder.
    pub(super) fn folder(&mut self, path: &str, mode: u32) {
        self.entries.insert(path.into(), Entry::Folder { path: path.into(), mode });
    }

    /// Adds a symbolic link.
    pub(super) fn link(&mut self, path: &str, target: &str) {
        self.entries.insert(path.into(), Entry::Link { path: path.into(), target: target.into() });
    }

    /// Adds a file of the machine under another path.
    pub(super) fn copy(&mut self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let content = std::fs::read(from).with_context(|| format!("read {}", from.display()))?;
        self.file(to, mode, content);
        Ok(())
    }

    /// Adds all files below a folder of the machine.
    pub(super) fn tree(&mut self, from: &Path, to: &str) -> Result<()> {
        let list = std::fs::read_dir(from).with_context(|| format!("list {}", from.display()))?;
        for entry in list {
            let entry = entry.with_context(|| format!("list {}", from.display()))?;
            let (path, to) = (entry.path(), format!("{to}/{}", entry.file_name().to_string_lossy()));
            let facts = std::fs::metadata(&path).with_context(|| format!("look at {}", path.display()))?;
            if facts.is_dir() {
                self.tree(&path, &to)?;
            } else {
                self.copy(&path, &to, facts.permissions().mode() & 0o777)?;
            }
        }
        Ok(())
    }

    /// Adds programs with the libraries they need.
    pub(super) fn programs(&mut self, folder: &str, names: &[&str]) -> Result<()> {
        for name in names {
            let program = self.find(name)?;
            self.copy(&program, &format!("{folder}/{name}"), 0o755)?;
            self.libraries_of(&program)?;
        }
        Ok(())
    }

    /// Adds these libraries, as far as they are on the machine: those a static program opens while it runs.
    pub(super) fn libraries(&mut self, names: &[&str]) -> Result<()> {
        for name in names {
            let found = ["/lib", "/usr/lib"].map(|folder| Path::new(folder).join(LIBRARIES).join(name));
            if let Some(path) = found.iter().find(|path| path.exists()) {
                self.copy(path, &format!("lib/{LIBRARIES}/{name}"), 0o644)?;
            }
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Result<PathBuf> {
        let folders = ["usr/bin", "bin", "usr/sbin", "sbin"];
        let beside = folders.iter().map(|folder| self.unpacked.join(folder).join(name));
        let on_machine = folders.iter().map(|folder| Path::new("/").join(folder).join(name));
        // Debian's alternatives are links that point nowhere in a folder beside: those do not exist.
        let found = beside.chain(on_machine).find(|path| path.exists());
        found.with_context(|| format!("there is no program {name} for an image"))
    }

    fn libraries_of(&mut self, program: &Path) -> Result<()> {
        let beside = ["usr/lib", "lib"].map(|folder| self.unpacked.join(folder).join(LIBRARIES));
        let search = std::env::join_paths(beside).context("name the folders of libraries")?;
        let mut ldd = Command::new("ldd");
        // A program that is linked statically is an error to it.
        let Ok(said) = command::output(ldd.arg(program).env("LD_LIBRARY_PATH", search)) else {
            return Ok(());
        };
        for path in said.split_whitespace().filter(|word| word.starts_with('/')) {
            let name = path.rsplit('/').next().unwrap_or_default();
            let to = if name.starts_with("ld-linux") {
                path.trim_start_matches('/').to_owned()
            } else {
                format!("lib/{LIBRARIES}/{name}")
            };
            self.copy(Path::new(path), &to, 0o755)?;
        }
        Ok(())
    }
}
