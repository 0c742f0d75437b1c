//! What the documents name is there: the table of the crates, files, and what they say is defined in a file.
//!
//! A file is named by its path in backticks, from the root. What follows it in parentheses, in backticks again, has to be
//! defined in that file: `crates/a/src/lib.rs` (`run`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::dependencies::{BESIDE, ORDER};

/// The document with the table of the crates.
const ARCHITECTURE: &str = "docs/ARCHITECTURE.md";
/// What a path of a file begins with.
const FOLDERS: &[&str] = &["crates/", "xtask/", "tools/", "fuzz/", "docs/"];
/// Words before the name of what is defined.
const DEFINING: &[&str] =
    &["fn", "struct", "enum", "trait", "type", "const", "static", "mod", "macro_rules!"];

/// What is wrong in these files, each with its path below the root and its text.
pub(super) fn check(metadata: &Value, files: &[(PathBuf, String)]) -> Vec<String> {
    let texts: BTreeMap<&Path, &str> =
        files.iter().map(|(path, text)| (path.as_path(), text.as_str())).collect();
    let is_document = |path: &Path| {
        let is_ours = path.starts_with("docs") || path.parent() == Some(Path::new(""));
        is_ours && path.extension().is_some_and(|extension| extension == "md")
    };
    let mut wrong = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| is_document(path)) {
        wrong.extend(named(text, &texts).into_iter().map(|what| format!("{}:{what}", path.display())));
    }
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let members: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let architecture = texts.get(Path::new(ARCHITECTURE)).copied().unwrap_or_default();
    wrong.extend(crates(architecture, &members));
    wrong
}

/// What a document names and is not there, each with its line.
fn named(document: &str, texts: &BTreeMap<&Path, &str>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, line) in document.lines().enumerate() {
        let mut pieces =
            line.split('`').enumerate().filter(|(index, _)| index % 2 == 1).map(|(_, piece)| piece);
        let mut between =
            line.split('`').enumerate().filter(|(index, _)| index % 2 == 0).map(|(_, piece)| piece);
        between.next();
        let mut file: Option<(&str, &str)> = None;
        for (name, after) in pieces.by_ref().zip(between) {
            let is_path = FOLDERS.iter().any(|folder| name.starts_with(folder)) && name.contains('.');
            if is_path && !name.contains(['*', '<', ' ']) {
                match texts.get(Path::new(name)) {
                    Some(text) => file = after.starts_with(" (").then_some((name, *text)),
                    None => {
                        wrong.push(format!("{}: {name} does not exist", number + 1));
                        file = None;
                    }
                }
                continue;
            }
            if let Some((path, text)) = file
                && !defines(text, name)
            {
                wrong.push(format!("{}: {path} does not define {name}", number + 1));
            }
            if !after.starts_with(", ") {
                file = None;
            }
        }
    }
    wrong
}

/// Whether a source file defines an item or a variant of this name.
fn defines(text: &str, name: &str) -> bool {
    text.lines().any(|line| {
        let mut before = "";
        line.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '!')).any(|word| {
            let is_definition = word == name && DEFINING.contains(&before);
            if !word.is_empty() {
                before = word;
            }
            is_definition
        })
    })
}

/// The table has one row for each crate of the workspace, in the order in which they may depend on each other.
fn crates(document: &str, members: &[&str]) -> Vec<String> {
    let rows = document
        .lines()
        .skip_while(|line| !line.starts_with("| crate |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let shown: Vec<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    let beside = BESIDE.iter().map(|(name, _)| *name);
    let mut expected: Vec<&str> = ORDER.iter().copied().chain(beside).collect();
    expected.retain(|name| members.contains(name));
    let mut wrong = Vec::new();
    for name in members.iter().filter(|name| !shown.contains(name)) {
        wrong.push(format!("{ARCHITECTURE}: the table of crates lacks {name}"));
    }
    for name in shown.iter().filter(|name| !members.contains(name)) {
        wrong.push(format!("{ARCHITECTURE}: the table of crates has {name}, which is none"));
    }
    if wrong.is_empty() && shown != expected {
        wrong.push(format!(
            "{ARCHITECTURE}: the table of crates is not in the order that tidy checks: {expected:?}"
        ));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_there() {
        let file = "pub(crate) fn run<T>() {}\nenum Phase {}\nmacro_rules! make {}\n";
        let texts = BTreeMap::from([(Path::new("crates/a/src/lib.rs"), file)]);
        for (line, expected) in [
            ("see `crates/a/src/lib.rs`", ""),
            ("see `crates/b/src/lib.rs`", "1: crates/b/src/lib.rs does not exist"),
            (
                "`crates/a/src/lib.rs` (`run`, `Phase`, `make!`)",
                "1: crates/a/src/lib.rs does not define make!",
            ),
            ("`crates/a/src/lib.rs` (`run`), `other`", ""),
            ("`crates/a/src/lib.rs` (`ru`)", "1: crates/a/src/lib.rs does not define ru"),
            ("`crates/a/src/lib.rs`: `other`", ""),
            ("`crates/a` and `crates/*/x.rs` and `a.rs`", ""),
        ] {
            assert_eq!(named(line, &texts).join("; "), expected, "{line}");
        }
    }

    #[test]
    fn the_table_has_all_crates_in_their_order() {
        let table = |rows: &[&str]| {
            let rows: String = rows.iter().map(|name| format!("| `{name}` | what | |\n")).collect();
            format!("# Text\n\n| crate | what it is for | |\n|---|---|---|\n{rows}\ntext `model`\n")
        };
        let members = ["model", "node", "xtask"];
        let count = |rows: &[&str]| crates(&table(rows), &members).len();
        assert_eq!(count(&["node", "model", "xtask"]), 0);
        assert_eq!(count(&["model", "node", "xtask"]), 1);
        assert_eq!(count(&["node", "model"]), 1);
        assert_eq!(count(&["node", "model", "xtask", "gone"]), 1);
        assert_eq!(crates("", &members).len(), 3);
    }
}
