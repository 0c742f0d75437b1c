//! What the crate `sources` keeps of upstream's static pods, against upstream's own code: the types a pod is made of, and
//! the uids of some manifests. The crate's tests compare our uids with those.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::kept;
use crate::command;
use crate::workspace::Workspace;

/// Where it is kept.
const FOLDER: &str = "crates/sources/src/uid";
/// The node that the uids are for.
const NODE: &str = "node-1";
/// Pods in which everything is there, without and with a value, and what they are made from.
const MADE_UP: [(&str, &str); 2] = [("manifests/made-up-0.json", "0"), ("manifests/made-up-1.json", "1")];

/// What the judge says of a manifest.
#[derive(Debug, Deserialize)]
struct Answer {
    path: String,
    #[serde(default)]
    hash: String,
    #[serde(default)]
    pods: Vec<k8s_openapi::api::core::v1::Pod>,
}

impl Answer {
    fn uid(&self) -> &str {
        match self.pods.as_slice() {
            [pod] => pod.metadata.uid.as_deref().unwrap_or("-"),
            _ => "-",
        }
    }
}

/// The files that are not as upstream's code would have them, with what they should be.
pub(super) fn outdated(judge: &Path) -> Result<Vec<String>> {
    let root = Workspace::load()?.root;
    let mut wanted = vec![
        ("types.txt", command::output(Command::new(judge).arg("types"))?),
        ("upstream.txt", uids(judge, &root.join(FOLDER).join("manifests"))?),
    ];
    wanted.extend(kept::made_up(judge, &MADE_UP)?);
    kept::outdated(&root, FOLDER, wanted)
}

/// A line each manifest: its name, the hash of the pod, and its uid from a file and from a URL.
fn uids(judge: &Path, folder: &Path) -> Result<String> {
    let names = kept::names(folder)?;
    let ask = |source: &str| -> Result<Vec<Answer>> {
        let mut command = Command::new(judge);
        // The uid has the path in it, so that the path must not be one of this machine.
        command.current_dir(folder).arg(source).arg(NODE).args(&names);
        let text = command::output(&mut command)?;
        text.lines().map(|line| serde_json::from_str(line).context("read an answer of the judge")).collect()
    };
    let mut text = String::new();
    for (file, url) in ask("file")?.iter().zip(&ask("url")?) {
        let _ = writeln!(text, "{} {} {} {}", file.path, file.hash, file.uid(), url.uid());
    }
    Ok(text)
}
