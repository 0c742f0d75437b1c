//! Everything a cluster needs on disk before it starts.

use std::path::PathBuf;

use anyhow::Result;

use crate::peers::{Peers, Purpose};
use crate::workspace::Workspace;
use crate::{images, packages};

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
    let images = images::build(&peers)?;
    Ok(Prepared { workspace, peers, images })
}
