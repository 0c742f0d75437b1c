//! What the crate `checkpoints` keeps of upstream's state files, against upstream's own code: documents that upstream has
//! made up, and what it makes of those and of others. The crate's tests compare with that.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::kept;
use crate::command;
use crate::workspace::Workspace;

/// Where it is kept.
const FOLDER: &str = "crates/checkpoints/src/pods";
/// Documents in which everything is set, and what they are made from.
const MADE_UP: [(&str, &str); 3] =
    [("documents/made-up-1.json", "1"), ("documents/made-up-2.json", "2"), ("documents/made-up-3.json", "3")];

/// What the judge says of a document: what was written after it was read, if it was. Why not, is upstream's to say.
#[derive(Debug, Deserialize, Serialize)]
struct Answer {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<String>,
}

/// The files that are not as upstream's code would have them, with what they should be.
pub(super) fn outdated(judge: &Path) -> Result<Vec<String>> {
    let root = Workspace::load()?.root;
    let mut wanted = vec![("upstream.jsonl", answers(judge, &root.join(FOLDER).join("documents"))?)];
    wanted.extend(kept::made_up(judge, &MADE_UP)?);
    kept::outdated(&root, FOLDER, wanted)
}

/// A line each document.
fn answers(judge: &Path, folder: &Path) -> Result<String> {
    let names = kept::names(folder)?;
    let said = command::output(Command::new(judge).current_dir(folder).arg("pods").args(&names))?;
    let mut text = String::new();
    for line in said.lines() {
        let answer: Answer = serde_json::from_str(line).context("read an answer of the judge")?;
        let _ = writeln!(text, "{}", serde_json::to_string(&answer)?);
    }
    Ok(text)
}
