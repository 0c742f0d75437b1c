//! Upstream's side: what it has, and what it says to each case.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::json;

use super::case::Input;
use super::verdict::Verdict;
use crate::command;

/// The flags, fields and feature gates of a kubelet.
#[derive(Debug, Deserialize)]
pub(crate) struct Description {
    /// Every flag.
    pub(crate) flags: Vec<Flag>,
    /// Every field of the document.
    #[serde(default)]
    pub(crate) fields: Vec<Field>,
    /// Every feature gate.
    pub(crate) gates: Vec<Gate>,
}

/// One flag.
#[derive(Debug, Deserialize)]
pub(crate) struct Flag {
    /// Without dashes.
    pub(crate) name: String,
    /// The letter, or nothing.
    pub(crate) shorthand: String,
    /// What Go's flag library calls its type.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// As it would be written.
    pub(crate) default: String,
    /// What the bare flag means; nothing if it needs a value.
    #[serde(rename = "noValue")]
    pub(crate) no_value: String,
    /// Whether its use is warned about.
    pub(crate) deprecated: bool,
}

/// One field of the document.
#[derive(Debug, Deserialize)]
pub(crate) struct Field {
    /// The names from the top, with `[]` behind those of lists.
    pub(crate) path: String,
    /// Its type in Go.
    #[serde(rename = "type")]
    pub(crate) kind: String,
}

impl Field {
    /// Its own name.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or_default()
    }
}

/// One feature gate.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Gate {
    name: String,
    stage: String,
    default: bool,
    locked: bool,
    #[serde(rename = "dependsOn")]
    depends_on: Vec<String>,
}

/// Asks upstream what it has.
pub(crate) fn describe(judge: &Path) -> Result<Description> {
    let text = command::output(Command::new(judge).arg("describe"))?;
    serde_json::from_str(&text).context("read upstream's flags, fields and gates")
}

/// Compares the tables of flags and gates themselves.
pub(crate) fn compare_tables(kubelet: &Path, theirs: &Description) -> Result<Vec<String>> {
    let text = command::output(Command::new(kubelet).args(["config", "describe"]))?;
    let ours: Description = serde_json::from_str(&text).context("read our flags and gates")?;
    let mut wrong = Vec::new();
    let flag = |flag: &Flag| {
        let bare = !flag.no_value.is_empty();
        (flag.name.clone(), format!("{} {:?} {} {bare}", flag.shorthand, flag.default, flag.deprecated))
    };
    let gate = |gate: &Gate| (gate.name.clone(), format!("{gate:?}"));
    differences("flag", ours.flags.iter().map(flag), theirs.flags.iter().map(flag), &mut wrong);
    differences("gate", ours.gates.iter().map(gate), theirs.gates.iter().map(gate), &mut wrong);
    Ok(wrong)
}

fn differences(
    what: &str,
    ours: impl Iterator<Item = (String, String)>,
    theirs: impl Iterator<Item = (String, String)>,
    wrong: &mut Vec<String>,
) {
    let mut ours: BTreeMap<String, String> = ours.collect();
    for (name, theirs) in theirs {
        match ours.remove(&name) {
            None => wrong.push(format!("{what} {name} is missing here")),
            Some(ours) if ours != theirs => {
                wrong.push(format!("{what} {name}: ours is {ours}, theirs {theirs}"));
            }
            Some(_) => {}
        }
    }
    wrong.extend(ours.into_keys().map(|name| format!("{what} {name} is none of upstream's")));
}

/// Upstream's verdict on each case, in the same order.
pub(crate) fn verdicts(judge: &Path, folder: &Path, inputs: &[Input]) -> Result<Vec<Verdict>> {
    let mut child = Command::new(judge)
        // Some cases name folders without saying where.
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // Upstream logs each case there.
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("start {}", judge.display()))?;
    let mut input = child.stdin.take().context("the input of the judge")?;
    let output = child.stdout.take().context("the output of the judge")?;
    let line = |one: &Input| match &one.kubeconfig {
        Some(path) => json!({ "kubeconfig": path }).to_string(),
        None => json!({ "arguments": one.arguments }).to_string(),
    };
    let lines: Vec<String> = inputs.iter().map(line).collect();
    // Written from a thread of its own, since neither pipe holds everything.
    let writer = std::thread::spawn(move || lines.iter().try_for_each(|line| writeln!(input, "{line}")));
    let mut verdicts = Vec::with_capacity(inputs.len());
    for line in BufReader::new(output).lines() {
        let line = line.context("read the judge's verdicts")?;
        verdicts.push(serde_json::from_str(&line).context("read a verdict of the judge")?);
    }
    let status = child.wait().context("wait for the judge")?;
    writer
        .join()
        .map_err(|_| anyhow::anyhow!("the thread that writes the cases panicked"))?
        .context("write cases")?;
    if !status.success() || verdicts.len() != inputs.len() {
        let next = inputs.get(verdicts.len());
        bail!("the judge ended with {status} after {} verdicts, at {next:?}", verdicts.len());
    }
    Ok(verdicts)
}
