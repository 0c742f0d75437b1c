//! The state folder of a cluster. Its name carries its owner, so that what a killed run left is found and removed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::cgroup;
use crate::workspace;

/// The folder and the cgroups of one cluster.
pub(super) struct State {
    /// The folder.
    pub(super) path: PathBuf,
    /// `<name>.<pid of the owner>.<its start time>`.
    id: String,
}

impl State {
    /// Removes what dead owners left, then makes a folder for a new cluster.
    pub(super) fn create(name: &str) -> Result<Self> {
        let clusters = workspace::cache()?.join("clusters");
        workspace::create_dir(&clusters)?;
        remove_abandoned(&clusters)?;
        let pid = std::process::id();
        let started = start_time(pid).context("read the start time of this process")?;
        let name: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).collect();
        let id = format!("{name}.{pid}.{started}");
        let path = clusters.join(&id);
        std::fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self { path, id })
    }

    /// The name of its cgroups.
    pub(super) fn cgroup(&self) -> String {
        cgroup_name(&self.id)
    }

    /// Removes the cgroups and the folder. Everything in them must have ended.
    pub(super) fn remove(&self) -> Result<()> {
        cgroup::remove(&self.cgroup())?;
        remove_folder(&self.path)
    }
}

fn cgroup_name(id: &str) -> String {
    format!("ferrolet-{id}")
}

fn remove_folder(path: &Path) -> Result<()> {
    std::fs::remove_dir_all(path).with_context(|| format!("remove {}", path.display()))
}

fn remove_abandoned(clusters: &Path) -> Result<()> {
    for entry in std::fs::read_dir(clusters).with_context(|| format!("list {}", clusters.display()))? {
        let entry = entry?;
        let id = entry.file_name().to_string_lossy().into_owned();
        if owner_lives(&id) {
            continue;
        }
        eprintln!("==> remove what an earlier run left: {id}");
        let removed = cgroup::remove(&cgroup_name(&id)).and_then(|()| remove_folder(&entry.path()));
        if let Err(error) = removed {
            // Another run may be doing the same; a leftover must not keep this one from starting.
            eprintln!("warning: {error:#}");
        }
    }
    Ok(())
}

fn owner_lives(id: &str) -> bool {
    let mut parts = id.rsplit('.');
    let started = parts.next();
    let pid = parts.next().and_then(|pid| pid.parse().ok());
    pid.is_some_and(|pid: u32| start_time(pid).as_deref() == started && started.is_some())
}

/// When a process started, in clock ticks since boot: with the pid it names a process for good.
fn start_time(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command, in parentheses, may hold spaces; the state follows it as field 3, the start time is field 22.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_a_pid_with_its_start_time() {
        let pid = std::process::id();
        let started = start_time(pid).unwrap();
        assert!(owner_lives(&format!("test.{pid}.{started}")));
        assert!(owner_lives(&format!("a.name.with.dots.{pid}.{started}")));
        assert!(!owner_lives(&format!("test.{pid}.1")));
        assert!(!owner_lives("test"));
        assert!(!owner_lives(""));
    }
}
