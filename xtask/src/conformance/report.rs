//! What a run of the suite has found, from the report that Ginkgo writes.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// As upstream wants it.
    Pass,
    /// Otherwise.
    Fail,
    /// It found that it cannot run here, and says why.
    Skip,
}

impl Outcome {
    /// The word in the table.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Skip => "skip",
        }
    }

    /// Reads the word; there is none for what did not run.
    pub(super) fn parse(word: &str) -> Option<Self> {
        [Self::Pass, Self::Fail, Self::Skip].into_iter().find(|outcome| outcome.word() == word)
    }
}

/// A test of the suite, and how it ended if it ran.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Test {
    /// All its texts, from the outermost on.
    pub(super) name: String,
    /// Sorted, each once.
    pub(super) labels: Vec<String>,
    /// The file of its source, below upstream's `test/`.
    pub(super) file: String,
    /// Nothing when it did not run to its end.
    pub(super) outcome: Option<Outcome>,
    /// How long it took.
    pub(super) seconds: f64,
    /// Why it failed or was skipped.
    pub(super) message: String,
}

/// What Ginkgo writes, as far as it matters here.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Suite {
    #[serde(default)]
    spec_reports: Option<Vec<Spec>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    container_hierarchy_texts: Option<Vec<String>>,
    container_hierarchy_labels: Option<Vec<Option<Vec<String>>>>,
    leaf_node_type: String,
    leaf_node_text: String,
    leaf_node_labels: Option<Vec<String>>,
    leaf_node_location: Location,
    state: String,
    run_time: u64,
    failure: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Location {
    #[serde(default)]
    file_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    #[serde(default)]
    message: String,
}

/// Reads a report. Fails when the suite could not be set up, for then no test ran.
pub(super) fn read(path: &Path) -> Result<Vec<Test>> {
    let file = File::open(path).context("the suite left no report")?;
    let suites: Vec<Suite> =
        serde_json::from_reader(BufReader::new(file)).context("read the suite's report")?;
    let specs: Vec<Spec> = suites.into_iter().filter_map(|suite| suite.spec_reports).flatten().collect();
    let set_up = specs.iter().find(|spec| {
        spec.leaf_node_type.ends_with("BeforeSuite") && !matches!(spec.state.as_str(), "passed" | "skipped")
    });
    if let Some(failed) = set_up {
        let why = failed.failure.as_ref().map_or("", |failure| failure.message.as_str());
        bail!("the suite could not be set up: {why}");
    }
    Ok(specs.into_iter().filter(|spec| spec.leaf_node_type == "It").map(Spec::test).collect())
}

impl Spec {
    fn test(self) -> Test {
        let mut words = self.container_hierarchy_texts.unwrap_or_default();
        words.push(self.leaf_node_text);
        let outer = self.container_hierarchy_labels.unwrap_or_default().into_iter().flatten().flatten();
        let mut labels: Vec<String> = outer.chain(self.leaf_node_labels.unwrap_or_default()).collect();
        labels.sort();
        labels.dedup();
        let full = self.failure.map(|failure| failure.message).unwrap_or_default();
        let file = self.leaf_node_location.file_name;
        Test {
            name: one_line(&words.join(" ")),
            labels,
            file: file.rsplit_once("/test/").map_or(file.as_str(), |(_, below)| below).to_owned(),
            outcome: outcome(&self.state, &full),
            // Exact: no test takes 2^52 nanoseconds.
            seconds: self.run_time as f64 / 1e9,
            message: telling(&full),
        }
    }
}

/// How a test ended. One that was cut off, or left out by the filters, did not.
fn outcome(state: &str, message: &str) -> Option<Outcome> {
    let cut_off = ["suite timeout occurred", "nterrupted by"].iter().any(|part| message.contains(part));
    match state {
        "passed" => Some(Outcome::Pass),
        // What the filters leave out has no message.
        "skipped" if !message.is_empty() => Some(Outcome::Skip),
        "failed" | "panicked" | "timedout" if !cut_off => Some(Outcome::Fail),
        _ => None,
    }
}

/// Long messages have one line that tells more than their start.
const TELLING: &[&str] = &["oom_score_adj", "missing expected", "failed to find \"", "Told to stop trying"];
const LONGEST: usize = 200;

fn telling(message: &str) -> String {
    let line = message.lines().find(|line| TELLING.iter().any(|part| line.contains(part)));
    let words = line.unwrap_or(message).split_whitespace().map(without_place);
    words.collect::<Vec<_>>().join(" ").chars().take(LONGEST).collect()
}

/// A path without its start, which is another one on each machine.
fn without_place(word: &str) -> &str {
    let cut = ["/pkg/mod/", "/ferrolet/clusters/"].iter().find_map(|place| word.split_once(place));
    cut.map_or(word, |(_, rest)| rest)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ended_has_an_outcome() {
        assert_eq!(outcome("passed", ""), Some(Outcome::Pass));
        assert_eq!(outcome("skipped", ""), None);
        assert_eq!(outcome("skipped", "needs swap"), Some(Outcome::Skip));
        assert_eq!(outcome("failed", "no"), Some(Outcome::Fail));
        assert_eq!(outcome("timedout", "A suite timeout occurred"), None);
        assert_eq!(outcome("interrupted", "Interrupted by User"), None);
    }

    #[test]
    fn messages_name_no_folder_of_the_machine() {
        assert_eq!(telling("at /a/go/pkg/mod/k8s.io/x.go:7\nend"), "at k8s.io/x.go:7 end");
        assert_eq!(telling("no /a/ferrolet/clusters/c.1.2/fs"), "no c.1.2/fs");
    }

    #[test]
    fn reads_what_ginkgo_writes() {
        let report = serde_json::json!([{ "SpecReports": [
            { "LeafNodeType": "SynchronizedBeforeSuite", "LeafNodeText": "", "LeafNodeLocation": {},
              "State": "passed", "RunTime": 1 },
            { "ContainerHierarchyTexts": ["[sig-node] Pods", "when\tit runs"], "LeafNodeText": "works",
              "ContainerHierarchyLabels": [["sig-node"], null], "LeafNodeLabels": ["NodeConformance", "sig-node"],
              "LeafNodeType": "It", "LeafNodeLocation": { "FileName": "/x/test/e2e_node/a_test.go" },
              "State": "failed", "RunTime": 1_500_000_000_u64,
              "Failure": { "Message": "first\nmissing expected that\nlast" } },
        ]}]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        std::fs::write(&path, report.to_string()).unwrap();
        let tests = read(&path).unwrap();
        assert_eq!(tests.len(), 1);
        let test = &tests[0];
        assert_eq!(test.name, "[sig-node] Pods when it runs works");
        assert_eq!(test.labels, ["NodeConformance", "sig-node"]);
        assert_eq!(test.file, "e2e_node/a_test.go");
        assert_eq!((test.outcome, test.seconds), (Some(Outcome::Fail), 1.5));
        assert_eq!(test.message, "missing expected that");
    }

    #[test]
    fn a_suite_that_could_not_be_set_up_is_an_error() {
        let report = serde_json::json!([{ "SpecReports": [
            { "LeafNodeType": "SynchronizedBeforeSuite", "LeafNodeText": "", "LeafNodeLocation": {},
              "State": "failed", "RunTime": 1, "Failure": { "Message": "no kubelet" } },
        ]}]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        std::fs::write(&path, report.to_string()).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("no kubelet"));
    }
}
