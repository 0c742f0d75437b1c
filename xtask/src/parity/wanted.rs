//! The one list of differences that are wanted.

use anyhow::{Context, Result};
use serde::Deserialize;

use super::verdict::{Difference, Kind};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// Names of cases; a `*` at the end stands for anything.
    cases: Vec<String>,
    /// How they differ.
    kind: Kind,
    /// Why that is better.
    reason: String,
}

/// The list, with a note of what has been used of it.
pub(crate) struct Wanted {
    entries: Vec<Entry>,
    used: Vec<Vec<u64>>,
}

impl Wanted {
    /// Reads the list.
    pub(crate) fn load() -> Result<Self> {
        let entries: Vec<Entry> = serde_saphyr::from_str(include_str!("wanted.yaml"))
            .context("read the differences that are wanted")?;
        let used = entries.iter().map(|entry| vec![0; entry.cases.len()]).collect();
        Ok(Self { entries, used })
    }

    /// What is wrong with a case, given how it differs.
    pub(crate) fn judge(&mut self, name: &str, found: Option<Difference>) -> Option<String> {
        let found = found?;
        for (entry, used) in self.entries.iter().zip(&mut self.used) {
            let pattern = entry.cases.iter().position(|pattern| match pattern.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => name == pattern,
            });
            if let Some(index) = pattern.filter(|_| entry.kind == found.kind) {
                used[index] += 1;
                return None;
            }
        }
        Some(format!("{:?}: {}", found.kind, found.text))
    }

    /// How many cases differ as wanted.
    pub(crate) fn used(&self) -> u64 {
        self.used.iter().flatten().sum()
    }

    /// Entries that no case needs any more, or that give no reason.
    pub(crate) fn unused(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (entry, used) in self.entries.iter().zip(&self.used) {
            if entry.reason.is_empty() {
                wrong.push(format!("wanted.yaml gives no reason for {:?}", entry.cases));
            }
            let stale = entry.cases.iter().zip(used).filter(|(_, count)| **count == 0);
            wrong.extend(stale.map(|(case, _)| format!("wanted.yaml: {case:?} does not differ like that")));
        }
        wrong
    }
}
