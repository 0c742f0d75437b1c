//! Everything a cluster needs on disk before it starts.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::peers::{Peers, Purpose};
use crate::progress::Progress;
use crate::workspace::{Profile, Workspace};
use crate::{go, images, packages};

/// What `setup` leaves behind, for the tasks that go on from there.
pub(crate) struct Prepared {
    /// The workspace.
    pub(crate) workspace: Workspace,
    /// The built programs.
    pub(crate) peers: Peers,
    /// An OCI archive with all images.
    pub(crate) images: PathBuf,
}

/// Installs packages, builds peers and images; quick when there is nothing to do.
pub(crate) fn prepare(purpose: Purpose) -> Result<Prepared> {
    let workspace = Workspace::load()?;
    packages::install_missing()?;
    let peers = Peers::build(&workspace.root, purpose)?;
    let images = images::build(&peers, purpose)?;
    Ok(Prepared { workspace, peers, images })
}

/// The same, with the kubelet a user asked for, which is built beside the peers.
pub(crate) fn prepare_with_kubelet(
    purpose: Purpose,
    kubelet: Option<&str>,
    profile: Profile,
) -> Result<(Prepared, PathBuf)> {
    let workspace = Workspace::load()?;
    packages::install_missing()?;
    let (peers, builds) = Peers::plan(&workspace.root, purpose)?;
    let progress = Progress::new()?;
    let kubelet = std::thread::scope(|scope| {
        let ours = scope.spawn(|| {
            let built = workspace.kubelet(kubelet, &peers, profile, &progress);
            built.inspect_err(|_| progress.fail())
        });
        let others = go::build(&builds, &progress);
        let ours = ours.join().map_err(|_| anyhow::anyhow!("the thread that builds the kubelet panicked"))?;
        match (ours, others) {
            (Ok(path), Ok(())) => Ok(path),
            // The one that was given up has nothing to say.
            (Err(first), Err(second)) => Err(first).context(format!("{second:#}")),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    })?;
    drop(progress);
    let images = images::build(&peers, purpose)?;
    Ok((Prepared { workspace, peers, images }, kubelet))
}
