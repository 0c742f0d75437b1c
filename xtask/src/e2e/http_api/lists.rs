//! The differences that are wanted, and those that are not there to stay.

use anyhow::{Context, Result};
use serde::Deserialize;

use super::facts::Facts;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// Names of cases, each beginning with a configuration; `*` stands for anything.
    cases: Vec<String>,
    /// Facts that differ; `*` stands for anything.
    facts: Vec<String>,
    /// Why that is better, or what is missing.
    reason: String,
    /// Whether upstream's kubelet itself is now one way, now the other, so that in some runs nothing differs.
    #[serde(default)]
    is_chance: bool,
}

struct Used {
    list: &'static str,
    entry: Entry,
    cases: Vec<bool>,
    facts: Vec<bool>,
}

/// Both lists, with a note of what has been used of them.
pub(super) struct Lists(Vec<Used>);

impl Lists {
    /// Reads them.
    pub(super) fn load() -> Result<Self> {
        let mut all = Vec::new();
        for (list, text) in
            [("wanted.yaml", include_str!("wanted.yaml")), ("not-yet.yaml", include_str!("not-yet.yaml"))]
        {
            let entries: Vec<Entry> =
                serde_saphyr::from_str(text).with_context(|| format!("read {list} of the HTTP API"))?;
            all.extend(entries.into_iter().map(|entry| Used {
                list,
                cases: vec![false; entry.cases.len()],
                facts: vec![false; entry.facts.len()],
                entry,
            }));
        }
        Ok(Self(all))
    }

    /// What differs in a case and is in neither list.
    pub(super) fn judge(&mut self, case: &str, ours: &Facts, theirs: &Facts) -> Vec<String> {
        let mut wrong = Vec::new();
        let names: std::collections::BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        for name in names {
            let (mine, other) = (ours.get(name), theirs.get(name));
            // Every entry that it is in, so that each can become stale by itself.
            if mine == other || self.0.iter_mut().filter_map(|used| used.covers(case, name)).count() > 0 {
                continue;
            }
            let text = |fact: Option<&String>| match fact {
                Some(text) => format!("{:?}", text.chars().take(300).collect::<String>()),
                None => "nothing".to_owned(),
            };
            wrong.push(format!("{case}: {name}: ours {}, upstream's {}", text(mine), text(other)));
        }
        wrong
    }

    /// Entries that nothing needs any more, or that give no reason.
    pub(super) fn unused(&self, configurations: &[&str]) -> Vec<String> {
        let is_run = |pattern: &&String| {
            configurations
                .iter()
                .any(|name| pattern.strip_prefix(name).is_some_and(|rest| rest.starts_with('/')))
        };
        let mut wrong = Vec::new();
        for used in &self.0 {
            let (list, entry) = (used.list, &used.entry);
            if entry.reason.is_empty() {
                wrong.push(format!("{list} gives no reason for {:?}", entry.cases));
            }
            if entry.is_chance || !entry.cases.iter().any(|case| is_run(&case)) {
                continue;
            }
            let cases = entry.cases.iter().zip(&used.cases).filter(|(case, used)| !**used && is_run(case));
            let facts = entry.facts.iter().zip(&used.facts).filter(|(_, used)| !**used);
            let stale = cases.chain(facts).map(|(pattern, _)| {
                format!("{list}: {pattern:?} of {:?} does not differ any more: remove it", entry.reason)
            });
            wrong.extend(stale);
        }
        wrong
    }
}

impl Used {
    /// Whether the entry is about this fact of this case; it then counts as used.
    fn covers(&mut self, case: &str, fact: &str) -> Option<()> {
        let matching = |patterns: &[String], text: &str| -> Vec<usize> {
            let found = patterns.iter().enumerate().filter(|(_, pattern)| matches(pattern, text));
            found.map(|(index, _)| index).collect()
        };
        let (cases, facts) = (matching(&self.entry.cases, case), matching(&self.entry.facts, fact));
        if cases.is_empty() || facts.is_empty() {
            return None;
        }
        cases.into_iter().for_each(|index| self.cases[index] = true);
        facts.into_iter().for_each(|index| self.facts[index] = true);
        Some(())
    }
}

/// Whether a text is as a pattern says, in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(start) else { return false };
    text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| matches(rest, &text[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match() {
        for (pattern, text, is_match) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "a", true),
            ("*b", "ab", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, text), is_match, "{pattern} {text}");
        }
    }

    #[test]
    fn lists_are_sound() {
        let lists = Lists::load().unwrap();
        let known = super::super::configurations::names();
        for used in &lists.0 {
            for case in &used.entry.cases {
                let named = known.iter().any(|name| case.starts_with(&format!("{name}/")));
                assert!(named, "{case:?} begins with no configuration");
            }
        }
    }
}
