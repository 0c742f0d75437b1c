//! `kubelet config check` and `kubelet config show`: a configuration looked at without starting a node.
//!
//! Upstream has neither. `check` prints every finding with its place; `show` prints every value in effect and
//! where it came from. Both take the flags the node would be started with. `kubeconfig` looks at that file.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use crate::finding::{Finding, Severity};
use crate::flags::{Deprecation, FLAGS, Kind, OWN};
use crate::gates;
use crate::load::{Accepted, Invocation, Reading, read};

const USAGE: &str = "\
Look at a configuration without starting a node.

Usage:
  kubelet config check FILE [--config-dir DIR] [flags]   print everything that is wrong with it
  kubelet config show [--output text|json] [FILE] [flags]
                                                         print every value in effect and where it came from
  kubelet config kubeconfig [--output text|json] FILE    print what a kubeconfig comes to, without its secrets
  kubelet config describe                                print all flags and feature gates as JSON
";

/// Runs the words after `config`.
pub(crate) fn run(words: &[String]) -> Invocation {
    match words {
        [word, file, flags @ ..] if word == "check" && !file.starts_with('-') => check(file, flags),
        [word, rest @ ..] if word == "show" => match output(rest) {
            Some((is_json, [file, flags @ ..])) if !file.starts_with('-') => {
                show(is_json, &with_file(file, flags))
            }
            Some((is_json, flags)) => show(is_json, flags),
            None => Invocation::Faulty(USAGE.to_owned()),
        },
        [word, rest @ ..] if word == "kubeconfig" => match output(rest) {
            Some((is_json, [file])) if !file.starts_with('-') => {
                Invocation::Kubeconfig { path: file.into(), is_json }
            }
            _ => Invocation::Faulty(USAGE.to_owned()),
        },
        [word] if word == "describe" => Invocation::Print(line(&describe())),
        [] => Invocation::Print(USAGE.to_owned()),
        [word] if matches!(word.as_str(), "-h" | "--help" | "help") => Invocation::Print(USAGE.to_owned()),
        _ => Invocation::Faulty(USAGE.to_owned()),
    }
}

/// Whether JSON is wanted, and the flags for the node; `None` if the format is not known.
fn output(words: &[String]) -> Option<(bool, &[String])> {
    let (format, rest) = match words {
        [word, format, rest @ ..] if word == "--output" || word == "-o" => (format.as_str(), rest),
        [word, rest @ ..] if word.starts_with("--output=") || word.starts_with("-o=") => {
            (word.split_once('=')?.1, rest)
        }
        rest => ("text", rest),
    };
    match format {
        "json" => Some((true, rest)),
        "text" => Some((false, rest)),
        _ => None,
    }
}

fn check(file: &str, flags: &[String]) -> Invocation {
    match read(&with_file(file, flags)) {
        Reading::Print(text) => Invocation::Print(text),
        Reading::Accepted(accepted) => Invocation::Print(report(&accepted.warnings)),
        Reading::Refused(findings) => Invocation::Faulty(report(&findings)),
    }
}

/// The flags for a node that reads a file.
fn with_file(file: &str, flags: &[String]) -> Vec<String> {
    ["--config".to_owned(), file.to_owned()].into_iter().chain(flags.iter().cloned()).collect()
}

/// One line for each finding, and how many there are: first what is in no file, then each file from its top.
fn report(findings: &[Finding]) -> String {
    let mut text = String::new();
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| (&finding.file, finding.line, finding.column));
    for finding in sorted {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}: {finding}", severity(finding));
    }
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    let _ = match (errors, findings.len() - errors) {
        (0, 0) => writeln!(text, "valid"),
        (0, warnings) => writeln!(text, "valid, {}", counted(warnings, "warning")),
        (errors, warnings) => {
            writeln!(text, "invalid: {}, {}", counted(errors, "error"), counted(warnings, "warning"))
        }
    };
    text
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn severity(finding: &Finding) -> &'static str {
    match finding.severity {
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

fn show(is_json: bool, flags: &[String]) -> Invocation {
    match (read(flags), is_json) {
        (Reading::Print(text), _) => Invocation::Print(text),
        (Reading::Refused(findings), false) => Invocation::Faulty(report(&findings)),
        (Reading::Refused(findings), true) => {
            Invocation::Faulty(line(&json!({ "accepted": false, "findings": described(&findings) })))
        }
        (Reading::Accepted(accepted), true) => Invocation::Print(as_json(&accepted)),
        (Reading::Accepted(accepted), false) => Invocation::Print(as_text(&accepted)),
    }
}

/// The tables of flags and gates, in the words of Go's libraries.
fn describe() -> Json {
    let flags = FLAGS.iter().filter(|flag| !OWN.contains(&flag.name)).map(|flag| {
        json!({
            "name": flag.name,
            "shorthand": flag.short.map(String::from).unwrap_or_default(),
            "type": flag.kind.type_name(),
            "default": match flag.kind {
                Kind::TextList => format!("[{}]", flag.default),
                _ => flag.default.to_owned(),
            },
            "noValue": flag.kind.bare_value(),
            "deprecated": flag.deprecation != Deprecation::No,
        })
    });
    let gates = gates::all().iter().map(|gate| {
        json!({
            "name": gate.name,
            "stage": gate.stage.as_metric_label(),
            "default": gate.default,
            "locked": gate.locked,
            "dependsOn": gate.depends_on,
        })
    });
    json!({ "flags": flags.collect::<Vec<_>>(), "gates": gates.collect::<Vec<_>>() })
}

fn line(json: &Json) -> String {
    format!("{json}\n")
}

fn described(findings: &[Finding]) -> Json {
    let each = findings.iter().map(|finding| {
        json!({
            "severity": severity(finding),
            "path": finding.path,
            "file": finding.file,
            "line": finding.line,
            "column": finding.column,
            "message": finding.message,
            "hint": finding.hint,
        })
    });
    Json::Array(each.collect())
}

fn as_json(accepted: &Accepted) -> String {
    let document = accepted.config.document_json_for_log();
    let origins: serde_json::Map<String, Json> = leaves(&document)
        .into_iter()
        .map(|(path, value)| {
            let origin = accepted.layers.origin(&path, value, &accepted.line);
            (path, Json::String(origin))
        })
        .collect();
    line(&json!({
        "accepted": true,
        "findings": described(&accepted.warnings),
        "configuration": document,
        "origins": origins,
    }))
}

fn as_text(accepted: &Accepted) -> String {
    let document = accepted.config.document_json_for_log();
    let rows: Vec<(String, String, String)> = leaves(&document)
        .into_iter()
        .map(|(path, value)| {
            let origin = accepted.layers.origin(&path, value, &accepted.line);
            (path, value.to_string(), origin)
        })
        .collect();
    let width = |column: fn(&(String, String, String)) -> &str| {
        // One long value must not push all origins off the screen.
        rows.iter().map(|row| column(row).chars().count()).max().unwrap_or(0).min(60)
    };
    let (first, second) = (width(|row| &row.0), width(|row| &row.1));
    let mut text = String::new();
    for (path, value, origin) in &rows {
        let _ = writeln!(text, "{path:first$}  {value:second$}  {origin}");
    }
    text
}

/// Every value that is no map, with its path. What kind of document it is is not said again.
fn leaves(document: &Json) -> Vec<(String, &Json)> {
    let mut found = Vec::new();
    let Json::Object(fields) = document else { return found };
    for (name, value) in fields {
        if name != "apiVersion" && name != "kind" {
            descend(name.clone(), value, &mut found);
        }
    }
    found
}

fn descend<'a>(path: String, value: &'a Json, found: &mut Vec<(String, &'a Json)>) {
    match value {
        Json::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric());
                let below = if is_plain { format!("{path}.{name}") } else { format!("{path}[{name}]") };
                descend(below, value, found);
            }
        }
        value => found.push((path, value)),
    }
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
mod tests;
