//! No function grows without end: what fits on one screen can be read in one go.
//!
//! Tests are left out. Theirs are tables for the most part, and a table is read line by line.

use std::path::{Path, PathBuf};

use super::callers::{is_test_file, without_tests};

/// Lines a function may have, from its head to its closing brace.
const MOST_LINES: usize = 70;

/// Functions that may be longer, each with the reason.
const ALLOWED: &[(&str, &str, &str)] =
    &[("xtask/src/e2e/mod.rs", "all", "the list of the end-to-end tests, one line each")];

/// What is wrong in these files, each with its path below the root and its text.
pub(super) fn check(files: &[(PathBuf, String)]) -> Vec<String> {
    check_with(files, ALLOWED)
}

fn check_with(files: &[(PathBuf, String)], allowed: &[(&str, &str, &str)]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut long = Vec::new();
    let is_code = |path: &Path| path.extension().is_some_and(|extension| extension == "rs");
    for (path, text) in files.iter().filter(|(path, _)| is_code(path) && !is_test_file(path)) {
        let at = path.display().to_string();
        for (name, line, length) in functions(&without_tests(text).0) {
            if length <= MOST_LINES {
                continue;
            }
            if !allowed.iter().any(|(file, function, _)| *file == at && *function == name) {
                wrong.push(format!(
                    "{at}:{line}: {name} has {length} lines, more than {MOST_LINES}: split it"
                ));
            }
            long.push((at.clone(), name));
        }
    }
    for (file, function, _) in allowed {
        if !long.iter().any(|(at, name)| at == file && name == function) {
            wrong.push(format!("{file}: {function} may be long, but is not or is gone"));
        }
    }
    wrong
}

/// The functions in these lines, each with its first line, counted from one, and its number of lines. The code is
/// formatted: a function ends with the first line that is indented as its head is and closes a brace.
fn functions(lines: &[String]) -> Vec<(String, usize, usize)> {
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let rest = &lines[index..];
        let is_end = |end: &&String| {
            let text = end.trim();
            // What a trait asks for has no body.
            let closes = text.starts_with('}') || (text.starts_with(')') && text.ends_with(';'));
            indentation(end) == indentation(line) && closes
        };
        let is_one_line = line.trim_end().ends_with(['}', ';']);
        let length =
            if is_one_line { 1 } else { rest.iter().position(|end| is_end(&end)).map_or(1, |at| at + 1) };
        found.push((name, index + 1, length));
    }
    found
}

/// The name of the function whose head begins in this line.
fn function_name(line: &str) -> Option<String> {
    let (before, after) = line.trim_start().split_once("fn ")?;
    let is_qualifier = |word: &str| {
        matches!(word, "pub" | "const" | "async" | "unsafe" | "default" | "extern")
            || word.starts_with("pub(")
    };
    if !before.split_whitespace().all(is_qualifier) {
        return None;
    }
    let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_file(path: &str, text: &str, allowed: &[(&str, &str, &str)]) -> usize {
        check_with(&[(PathBuf::from(path), text.to_owned())], allowed).len()
    }

    #[test]
    fn a_function_has_at_most_seventy_lines() {
        let body = |lines: usize| "    work();\n".repeat(lines);
        let of = |head: &str, lines: usize| format!("//! Why.\n{head} {{\n{}}}\n", body(lines));
        for head in ["fn f()", "pub(crate) async fn f()", "pub const unsafe fn f(a: u8) -> u8"] {
            let lines = head.lines().count();
            assert_eq!(check_file("a.rs", &of(head, MOST_LINES - lines - 1), &[]), 0, "{head}");
            assert_eq!(check_file("a.rs", &of(head, MOST_LINES - lines), &[]), 1, "{head}");
        }
        let long = of("fn f()", MOST_LINES);
        assert_eq!(
            check_file(
                "a.rs",
                &format!(
                    "trait A {{\n    fn f(\n        &self,\n    );\n}}\nstruct B {{\n{}}}\n",
                    body(MOST_LINES)
                ),
                &[]
            ),
            0
        );
        assert_eq!(check_file("a.rs", &format!("#[cfg(test)]\nmod tests {{\n{long}}}\n"), &[]), 0);
        assert_eq!(check_file("a/tests.rs", &long, &[]), 0);
        assert_eq!(check_file("a.md", &long, &[]), 0);
        assert_eq!(check_file("a.rs", &long, &[("a.rs", "f", "because")]), 0);
        assert_eq!(check_file("a.rs", &long, &[("a.rs", "g", "because")]), 2);
        assert_eq!(check_file("a.rs", &of("fn f()", 1), &[("a.rs", "f", "because")]), 1);
    }
}
