//! The committed tables: the last result of each test with both kubelets, the runs they are from, and reasons.
//!
//! A result is replaced only by a run of that test. Names are kept as Ginkgo prints them; a name that the suite has
//! several times counts as one test, which passes when all of them do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::report::{Outcome, Test};
use crate::workspace;

/// Whose result it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kubelet {
    /// Upstream's.
    Go,
    /// Ours.
    Ours,
}

impl Kubelet {
    /// The word in the table of runs.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Ours => "ours",
        }
    }
}

/// The last result of a test with one kubelet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// How it ended.
    pub(super) outcome: Outcome,
    /// The number of the run.
    pub(super) run: u32,
    /// Why it failed or was skipped.
    pub(super) message: String,
}

/// A test, by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    /// Sorted.
    pub(super) labels: Vec<String>,
    /// The file of its source, below upstream's `test/`.
    pub(super) file: String,
    /// With upstream's kubelet; nothing when it never ran.
    pub(super) go: Option<Seen>,
    /// With ours.
    pub(super) ours: Option<Seen>,
}

impl Row {
    /// Whether the test has this label.
    pub(super) fn has(&self, label: &str) -> bool {
        self.labels.iter().any(|own| own == label)
    }

    /// The last result with this kubelet.
    pub(super) fn seen(&self, kubelet: Kubelet) -> Option<&Seen> {
        match kubelet {
            Kubelet::Go => self.go.as_ref(),
            Kubelet::Ours => self.ours.as_ref(),
        }
    }

    fn seen_mut(&mut self, kubelet: Kubelet) -> &mut Option<Seen> {
        match kubelet {
            Kubelet::Go => &mut self.go,
            Kubelet::Ours => &mut self.ours,
        }
    }
}

/// A run, or what is known of one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Run {
    /// Its number.
    pub(super) number: u32,
    /// The kubelet.
    pub(super) kubelet: Kubelet,
    /// The kubelet's version or commit.
    pub(super) version: String,
    /// The day.
    pub(super) day: String,
    /// The group.
    pub(super) group: String,
    /// Tests that ran to their end.
    pub(super) tests: usize,
    /// How many of them passed.
    pub(super) passed: usize,
    /// How long it took.
    pub(super) seconds: u64,
    /// What the kubelet's processes used; not known of runs that were made elsewhere.
    pub(super) cpu_seconds: Option<f64>,
}

/// Why a test fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reason {
    /// A part of `name | labels | file | message`.
    part: String,
    /// The cause, or what is missing.
    pub(super) text: String,
}

/// All of it.
#[derive(Default)]
pub(super) struct Tables {
    folder: PathBuf,
    /// By the test's name.
    pub(super) rows: BTreeMap<String, Row>,
    /// In the order of their numbers.
    pub(super) runs: Vec<Run>,
    /// Why upstream's kubelet fails here: the first that fits.
    pub(super) surroundings: Vec<Reason>,
    /// Why ours does where upstream's does not: the first that fits.
    pub(super) missing: Vec<Reason>,
}

const ROWS: &str = "results.tsv";
const RUNS: &str = "runs.tsv";
const SURROUNDINGS: &str = "surroundings.tsv";
const MISSING: &str = "missing.tsv";
const ROWS_HEAD: &str = "name\tlabels\tfile\tgo\trun\twhy\tours\trun\twhy";
const RUNS_HEAD: &str =
    "run\tkubelet\tversion\tday\tgroup\ttests\tpassed\tseconds\tprocessor seconds of the kubelet";

impl Tables {
    /// Reads the tables of a workspace.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let folder = root.join("docs/conformance");
        let mut tables = Self { folder, ..Self::default() };
        tables.rows = tables.lines(ROWS, parse_row)?.into_iter().collect();
        tables.runs = tables.lines(RUNS, parse_run)?;
        tables.surroundings = tables.lines(SURROUNDINGS, parse_reason)?;
        tables.missing = tables.lines(MISSING, parse_reason)?;
        Ok(tables)
    }

    fn lines<T>(&self, file: &str, parse: fn(&[&str]) -> Option<T>) -> Result<Vec<T>> {
        let path = self.folder.join(file);
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let mut found = Vec::new();
        for (number, line) in text.lines().enumerate().skip(1) {
            let fields: Vec<&str> = line.split('\t').collect();
            match parse(&fields) {
                Some(one) => found.push(one),
                None => bail!("{}:{}: it has not the columns of the first line", path.display(), number + 1),
            }
        }
        Ok(found)
    }

    /// Writes the tables of results and of runs; those of reasons are kept by hand.
    pub(super) fn write(&self) -> Result<()> {
        let rows: Vec<String> = self.rows.iter().map(|(name, row)| write_row(name, row)).collect();
        let runs: Vec<String> = self.runs.iter().map(write_run).collect();
        for (file, head, lines) in [(ROWS, ROWS_HEAD, rows), (RUNS, RUNS_HEAD, runs)] {
            let text = format!("{head}\n{}\n", lines.join("\n"));
            workspace::write(&self.folder.join(file), text.trim_start_matches('\n'))?;
        }
        Ok(())
    }

    /// The number of the next run.
    pub(super) fn next_run(&self) -> u32 {
        self.runs.last().map_or(1, |run| run.number + 1)
    }

    /// Takes over what a run has found: results of tests that ran, and names of tests that are new.
    pub(super) fn merge(&mut self, kubelet: Kubelet, run: u32, tests: Vec<Test>) {
        let mut fresh: BTreeMap<String, Seen> = BTreeMap::new();
        for test in tests {
            let row = self.rows.entry(test.name.clone()).or_default();
            (row.labels, row.file) = (test.labels, test.file);
            let Some(outcome) = test.outcome else { continue };
            let seen = Seen { outcome, run, message: test.message };
            // Of two tests of one name the one that fails is told.
            let worse = |other: &Seen| rank(other.outcome) >= rank(seen.outcome);
            if !fresh.get(&test.name).is_some_and(worse) {
                fresh.insert(test.name, seen);
            }
        }
        for (name, seen) in fresh {
            if let Some(row) = self.rows.get_mut(&name) {
                *row.seen_mut(kubelet) = Some(seen);
            }
        }
    }

    /// Why upstream's kubelet fails this test here.
    pub(super) fn surrounding(&self, name: &str, row: &Row) -> Option<&Reason> {
        first(&self.surroundings, name, row, row.go.as_ref())
    }

    /// Why ours fails where upstream's does not.
    pub(super) fn missing(&self, name: &str, row: &Row) -> Option<&Reason> {
        first(&self.missing, name, row, row.ours.as_ref())
    }
}

fn rank(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Skip => 0,
        Outcome::Pass => 1,
        Outcome::Fail => 2,
    }
}

fn first<'a>(reasons: &'a [Reason], name: &str, row: &Row, seen: Option<&Seen>) -> Option<&'a Reason> {
    let message = seen.map_or("", |seen| seen.message.as_str());
    let text = format!("{name} | {} | {} | {message}", row.labels.join(","), row.file);
    reasons.iter().find(|reason| text.contains(&reason.part))
}

fn parse_row(fields: &[&str]) -> Option<(String, Row)> {
    let [name, labels, file, go, go_run, go_why, ours, ours_run, ours_why] = fields else { return None };
    let row = Row {
        labels: labels.split(',').filter(|label| !label.is_empty()).map(str::to_owned).collect(),
        file: (*file).to_owned(),
        go: parse_seen(go, go_run, go_why)?,
        ours: parse_seen(ours, ours_run, ours_why)?,
    };
    Some(((*name).to_owned(), row))
}

/// Outer nothing: not to be read; inner: the test never ran.
fn parse_seen(word: &str, run: &str, message: &str) -> Option<Option<Seen>> {
    if word == "-" {
        return Some(None);
    }
    let (outcome, run) = (Outcome::parse(word)?, run.parse().ok()?);
    Some(Some(Seen { outcome, run, message: message.to_owned() }))
}

fn write_row(name: &str, row: &Row) -> String {
    let seen = |seen: Option<&Seen>| match seen {
        Some(seen) => format!("{}\t{}\t{}", seen.outcome.word(), seen.run, seen.message),
        None => "-\t\t".to_owned(),
    };
    let (labels, file) = (row.labels.join(","), &row.file);
    format!("{name}\t{labels}\t{file}\t{}\t{}", seen(row.go.as_ref()), seen(row.ours.as_ref()))
}

fn parse_run(fields: &[&str]) -> Option<Run> {
    let [number, kubelet, version, day, group, tests, passed, seconds, cpu_seconds] = fields else {
        return None;
    };
    let kubelet = [Kubelet::Go, Kubelet::Ours].into_iter().find(|one| one.word() == *kubelet)?;
    Some(Run {
        number: number.parse().ok()?,
        kubelet,
        version: (*version).to_owned(),
        day: (*day).to_owned(),
        group: (*group).to_owned(),
        tests: tests.parse().ok()?,
        passed: passed.parse().ok()?,
        seconds: seconds.parse().ok()?,
        cpu_seconds: if *cpu_seconds == "-" { None } else { Some(cpu_seconds.parse().ok()?) },
    })
}

fn write_run(run: &Run) -> String {
    let cpu = run.cpu_seconds.map_or("-".to_owned(), |seconds| format!("{seconds:.1}"));
    let Run { number, kubelet, version, day, group, tests, passed, seconds, .. } = run;
    let kubelet = kubelet.word();
    format!("{number}\t{kubelet}\t{version}\t{day}\t{group}\t{tests}\t{passed}\t{seconds}\t{cpu}")
}

fn parse_reason(fields: &[&str]) -> Option<Reason> {
    let [part, text] = fields else { return None };
    (!part.is_empty()).then(|| Reason { part: (*part).to_owned(), text: (*text).to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(name: &str, outcome: Option<Outcome>) -> Test {
        let message = if outcome == Some(Outcome::Fail) { "no" } else { "" };
        Test {
            name: name.into(),
            labels: vec!["Slow".into()],
            file: "e2e_node/a_test.go".into(),
            outcome,
            seconds: 1.0,
            message: message.into(),
        }
    }

    #[test]
    fn a_result_is_replaced_only_by_a_run_of_that_test() {
        let mut tables = Tables::default();
        tables.merge(Kubelet::Go, 1, vec![test("a", Some(Outcome::Pass)), test("b", None)]);
        tables.merge(Kubelet::Ours, 2, vec![test("a", Some(Outcome::Fail)), test("b", Some(Outcome::Pass))]);
        tables.merge(Kubelet::Ours, 3, vec![test("a", None), test("b", Some(Outcome::Skip))]);
        let (a, b) = (&tables.rows["a"], &tables.rows["b"]);
        assert_eq!(a.go.as_ref().map(|seen| (seen.outcome, seen.run)), Some((Outcome::Pass, 1)));
        assert_eq!(a.ours.as_ref().map(|seen| (seen.outcome, seen.run)), Some((Outcome::Fail, 2)));
        assert_eq!(b.go, None);
        assert_eq!(b.ours.as_ref().map(|seen| (seen.outcome, seen.run)), Some((Outcome::Skip, 3)));
    }

    #[test]
    fn of_two_tests_of_one_name_the_one_that_fails_is_told() {
        for order in [[Outcome::Pass, Outcome::Fail], [Outcome::Fail, Outcome::Pass]] {
            let mut tables = Tables::default();
            tables.merge(Kubelet::Go, 1, order.map(|outcome| test("a", Some(outcome))).into());
            assert_eq!(tables.rows["a"].go.as_ref().map(|seen| seen.outcome), Some(Outcome::Fail));
        }
    }

    #[test]
    fn lines_are_read_as_they_were_written() {
        let mut tables = Tables::default();
        tables.merge(Kubelet::Ours, 7, vec![test("a name", Some(Outcome::Fail))]);
        let row = &tables.rows["a name"];
        let line = write_row("a name", row);
        let fields: Vec<&str> = line.split('\t').collect();
        assert_eq!(parse_row(&fields), Some(("a name".to_owned(), row.clone())));
        let run = Run {
            number: 7,
            kubelet: Kubelet::Ours,
            version: "abc".into(),
            day: "2026-01-01".into(),
            group: "serial".into(),
            tests: 3,
            passed: 2,
            seconds: 60,
            cpu_seconds: Some(1.5),
        };
        let line = write_run(&run);
        assert_eq!(parse_run(&line.split('\t').collect::<Vec<_>>()), Some(run));
    }

    #[test]
    fn the_first_reason_that_fits_is_told() {
        let mut tables = Tables::default();
        let reason = |part: &str, text: &str| Reason { part: part.into(), text: text.into() };
        tables.missing = vec![reason("other", "x"), reason("| no", "y"), reason("Slow", "z")];
        tables.merge(Kubelet::Ours, 1, vec![test("a", Some(Outcome::Fail)), test("b", Some(Outcome::Pass))]);
        assert_eq!(tables.missing("a", &tables.rows["a"]).unwrap().text, "y");
        assert_eq!(tables.missing("b", &tables.rows["b"]).unwrap().text, "z");
    }
}
