//! `docs/CONFORMANCE.md`, made from the tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use super::groups;
use super::report::Outcome;
use super::table::{Kubelet, Row, Run, Seen, Tables};
use crate::workspace;

/// What a difference or a failure is called that nobody has explained.
const UNEXPLAINED: &str = "**not explained yet**";

const HEAD: &str = "# Conformance

Upstream's own tests of a node, `k8s.io/kubernetes/test/e2e_node` of v1.37.2, run with both kubelets by
`cargo xtask conformance GROUP...`, which also writes this page. The tables beside it, in `conformance/`, have each test.

The suite is unchanged. What stands around it is not what it usually has: its images are made from Debian's programs,
its registry, `sudo` and `systemctl` are stand-ins, the node has namespaces of its own on a machine that may be small,
and may have cgroup v1 only. A test that upstream's kubelet does not pass here tells nothing about ours.
";

/// Writes the page.
pub(super) fn write(root: &Path, tables: &Tables) -> Result<()> {
    workspace::write(&root.join("docs/CONFORMANCE.md"), page(tables))
}

fn page(tables: &Tables) -> String {
    let mut page = format!("{HEAD}\n## Results\n\n{}", overview(tables));
    page.push_str("\n## What upstream's kubelet passes and ours does not\n\n");
    page.push_str(&differences(tables));
    page.push_str("\n## What upstream's kubelet does not pass here\n\n");
    page.push_str(&surroundings(tables));
    page.push_str("\n## What the kubelets used\n\n");
    page.push_str(&usage(tables));
    page.push_str("\n## Runs\n\n");
    page.push_str(&runs(tables));
    page
}

/// How many tests of a group ended how.
#[derive(Default)]
struct Tally {
    tests: usize,
    go: [usize; 3],
    ours: [usize; 3],
    /// Those that upstream's kubelet passes and ours ran as well.
    common: usize,
    /// Of those, the ones that ours passes.
    equal: usize,
}

impl Tally {
    fn add(&mut self, row: &Row) {
        self.tests += 1;
        for (seen, counts) in [(&row.go, &mut self.go), (&row.ours, &mut self.ours)] {
            if let Some(seen) = seen {
                counts[place(seen.outcome)] += 1;
            }
        }
        if passed(row.go.as_ref()) && row.ours.is_some() {
            self.common += 1;
            self.equal += usize::from(passed(row.ours.as_ref()));
        }
    }

    fn line(&self, name: &str) -> String {
        let counts = |of: &[usize; 3]| {
            let none = self.tests - of.iter().sum::<usize>();
            format!("{} / {} / {} / {none}", of[0], of[1], of[2])
        };
        let equal =
            if self.common == 0 { "–".to_owned() } else { format!("{} of {}", self.equal, self.common) };
        format!("| {name} | {} | {} | {} | {equal} |\n", self.tests, counts(&self.go), counts(&self.ours))
    }
}

fn place(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Pass => 0,
        Outcome::Fail => 1,
        Outcome::Skip => 2,
    }
}

fn passed(seen: Option<&Seen>) -> bool {
    seen.is_some_and(|seen| seen.outcome == Outcome::Pass)
}

/// The table of groups.
pub(super) fn overview(tables: &Tables) -> String {
    let mut text = String::from(
        "Passed / failed / skipped themselves / never ran:\n\n\
         | group | tests | upstream's kubelet | ours | of those upstream's passes, ours passes |\n\
         |---|---|---|---|---|\n",
    );
    let mut all = Tally::default();
    for group in groups::ALL {
        let mut tally = Tally::default();
        for row in tables.rows.values().filter(|row| groups::of(row).name == group.name) {
            tally.add(row);
            all.add(row);
        }
        text.push_str(&tally.line(group.name));
    }
    text.push_str(&all.line("**all**"));
    text
}

/// Tests by what is said about them, in groups, as a list.
fn list<'a>(entries: impl Iterator<Item = (&'static str, String, &'a str, String)>) -> String {
    let mut sorted: BTreeMap<(&str, String), Vec<(&str, String)>> = BTreeMap::new();
    for (group, reason, name, detail) in entries {
        sorted.entry((group, reason)).or_default().push((name, detail));
    }
    let mut text = String::new();
    for group in groups::ALL {
        let own: Vec<_> = sorted.iter().filter(|((name, _), _)| *name == group.name).collect();
        if own.is_empty() {
            continue;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, "### {}\n", group.name);
        for ((_, reason), tests) in own {
            let _ = writeln!(text, "* {reason} ({}):", tests.len());
            for (name, detail) in tests {
                let _ = writeln!(text, "  * {}{detail}", plain(name));
            }
        }
        text.push('\n');
    }
    if text.is_empty() { "None.\n".to_owned() } else { text }
}

/// A name as it is to be read, where brackets would make links.
fn plain(text: &str) -> String {
    format!("`{}`", text.replace('`', "'"))
}

fn differences(tables: &Tables) -> String {
    let differ = |row: &&Row| passed(row.go.as_ref()) && row.ours.is_some() && !passed(row.ours.as_ref());
    let rows = tables.rows.iter().filter(|(_, row)| differ(row));
    list(rows.map(|(name, row)| {
        let reason = tables.missing(name, row);
        let text = reason.map_or(UNEXPLAINED.to_owned(), |reason| reason.text.clone());
        let message = row.ours.as_ref().map_or("", |seen| seen.message.as_str());
        // What is explained needs no message.
        let detail = if reason.is_none() && !message.is_empty() {
            format!(": {}", plain(message))
        } else {
            String::new()
        };
        (groups::of(row).name, text, name.as_str(), detail)
    }))
}

fn surroundings(tables: &Tables) -> String {
    let fails = |row: &&Row| row.go.as_ref().is_some_and(|seen| seen.outcome == Outcome::Fail);
    let rows = tables.rows.iter().filter(|(_, row)| fails(row));
    let failures = list(rows.map(|(name, row)| {
        let reason = tables.surrounding(name, row);
        let text = reason.map_or(UNEXPLAINED.to_owned(), |reason| reason.text.clone());
        let detail = if passed(row.ours.as_ref()) { " (ours passes)" } else { "" };
        (groups::of(row).name, text, name.as_str(), detail.to_owned())
    }));
    let mut skips: BTreeMap<&str, usize> = BTreeMap::new();
    for seen in tables.rows.values().filter_map(|row| row.go.as_ref()) {
        if seen.outcome == Outcome::Skip {
            *skips.entry(&seen.message).or_default() += 1;
        }
    }
    let mut text = format!("{failures}Tests that skip themselves here with upstream's kubelet, and why:\n\n");
    for (message, count) in skips {
        let _ = writeln!(text, "* {count}: {}", plain(message));
    }
    text
}

/// The last run of each group by a kubelet, as far as it ran as many tests as any before.
fn usage(tables: &Tables) -> String {
    let fullest = |group: &str, kubelet: Kubelet| -> Option<&Run> {
        let own = tables.runs.iter().filter(|run| run.group == group && run.kubelet == kubelet);
        own.filter(|run| run.cpu_seconds.is_some()).max_by_key(|run| (run.tests, run.number))
    };
    let mut text = String::from(
        "Processor seconds of the kubelet's processes over the fullest run of each group, where both kubelets have one:\n\n\
         | group | upstream's (tests) | ours (tests) | ours ÷ upstream's |\n|---|---|---|---|\n",
    );
    let mut sums = [0.0, 0.0];
    for group in groups::ALL {
        let pair = (fullest(group.name, Kubelet::Go), fullest(group.name, Kubelet::Ours));
        let (Some(go), Some(ours)) = pair else { continue };
        let (Some(go_used), Some(ours_used)) = (go.cpu_seconds, ours.cpu_seconds) else { continue };
        sums[0] += go_used;
        sums[1] += ours_used;
        let (name, ratio) = (group.name, ours_used / go_used);
        let _ = writeln!(
            text,
            "| {name} | {go_used:.1} ({}) | {ours_used:.1} ({}) | {ratio:.2} |",
            go.tests, ours.tests
        );
    }
    if sums[0] > 0.0 {
        let _ = writeln!(text, "| **all** | {:.1} | {:.1} | {:.2} |", sums[0], sums[1], sums[1] / sums[0]);
    }
    text
}

fn runs(tables: &Tables) -> String {
    let mut text = String::from(
        "Each result in `conformance/results.tsv` has the number of the run it is from.\n\n\
         | run | kubelet | version | day | group | tests | passed | seconds |\n|---|---|---|---|---|---|---|---|\n",
    );
    for run in &tables.runs {
        let Run { number, kubelet, version, day, group, tests, passed, seconds, .. } = run;
        let kubelet = kubelet.word();
        let _ = writeln!(
            text,
            "| {number} | {kubelet} | {version} | {day} | {group} | {tests} | {passed} | {seconds} |"
        );
    }
    text
}
