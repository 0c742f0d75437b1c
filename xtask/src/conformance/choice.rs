//! The choice of upstream's tests that `cargo xtask test` runs: quick ones of every kind, which the table says pass, and
//! none that goes on from others.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::report::Outcome;
use super::table::{Kubelet, Tables};
use super::{Order, Suite, side_by_side};
use crate::progress::Progress;
use crate::setup::Prepared;
use crate::workspace::Profile;

/// One name a line.
const NAMES: &str = include_str!("choice.txt");
/// More than the choice takes, which is two minutes on two cores; what did not run until then has failed.
const MINUTES: u64 = 8;

/// The names of the choice.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.lines().filter(|line| !line.starts_with('#') && !line.is_empty())
}

/// Runs the choice, without keeping what it finds, and returns how many passed and failed.
pub(crate) fn check(ready: &Prepared, kubelet: Option<&str>) -> Result<(u64, u64)> {
    let program = ready.workspace.kubelet(kubelet, &ready.peers, Profile::Dev, &Progress::new()?)?;
    let suite = Suite::prepare(ready, program, kubelet)?;
    let tables = Tables::read(&ready.workspace.root)?;
    let tests: Vec<String> = expected(&tables, suite.kubelet).map(str::to_owned).collect();
    let order = Order {
        suite: suite.folder.clone(),
        tests: tests.clone(),
        nodes: side_by_side(),
        minutes: MINUTES,
        flags: Vec::new(),
        low_priority: false,
    };
    let found = suite.run(order, "conformance/choice")?;
    let ended: BTreeMap<&str, _> = found.tests.iter().map(|test| (test.name.as_str(), test)).collect();
    let (mut passed, mut failed) = (0, 0);
    for name in &tests {
        let test = ended.get(name.as_str()).with_context(|| format!("the suite has no test {name}"))?;
        if test.outcome == Some(Outcome::Pass) {
            passed += 1;
        } else {
            let outcome = test.outcome.map_or("did not end", Outcome::word);
            println!("conformance {name} ... FAILED ({outcome})\n    {}", test.message);
            failed += 1;
        }
    }
    Ok((passed, failed))
}

/// Those of the choice that the table says pass with this kubelet.
fn expected(tables: &Tables, kubelet: Kubelet) -> impl Iterator<Item = &'static str> {
    names().filter(move |name| {
        let seen = tables.rows.get(*name).and_then(|row| row.seen(kubelet));
        seen.is_some_and(|seen| seen.outcome == Outcome::Pass)
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_whole_choice_passes_according_to_the_table() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let tables = Tables::read(root).unwrap();
        let expected: Vec<&str> = expected(&tables, Kubelet::Ours).collect();
        let others: Vec<&str> = names().filter(|name| !expected.contains(name)).collect();
        assert!(others.is_empty(), "not in the table as passed: {others:#?}");
        assert!(!expected.is_empty());
    }
}
