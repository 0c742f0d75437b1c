//! What a crate keeps of upstream in files, against what upstream's own code makes of them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;

/// Files of a crate, by their names in its folder, with what should be in them.
pub(super) type Wanted = Vec<(&'static str, String)>;

/// The files that are not as upstream's code would have them, with what they should be. `folder` is where they are, below
/// the workspace's root.
pub(super) fn outdated(root: &Path, folder: &str, wanted: Wanted) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (name, wanted) in wanted {
        let path = root.join(folder).join(name);
        let found = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        if found.trim_end() != wanted.trim_end() {
            wrong.push(format!("{folder}/{name} is not upstream's, it should be:\n{wanted}"));
        }
    }
    Ok(wrong)
}

/// Documents in which everything is set, each made from a seed.
pub(super) fn made_up(judge: &Path, documents: &[(&'static str, &str)]) -> Result<Wanted> {
    let document = |(name, seed): &(&'static str, &str)| {
        Ok((*name, command::output(Command::new(judge).args(["made-up", seed]))?))
    };
    documents.iter().map(document).collect()
}

/// The files in a folder, in the order of their names.
pub(super) fn names(folder: &Path) -> Result<Vec<String>> {
    let list = std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in list {
        names.push(entry?.file_name().into_string().ok().context("a name that is no text")?);
    }
    names.sort();
    Ok(names)
}
