//! Whether what the tables claim is true, as far as the text of the sources tells: a feature gate that works is asked
//! for and has a test, a field of the configuration has a reader or a warning, a metric that is shown is written.
//!
//! Many fields share a name with others, so a reader counts when the field is read off what has it: `tls.files`, not
//! `.files`. What is done with an answer the text does not tell; that is what the tests are for which gates name.

use std::path::{Path, PathBuf};

/// The table of the gates that the kubelet asks about.
const CONSULTED: &str = "crates/config/src/gates/consulted.rs";
/// The table of all gates.
const GATES: &str = "crates/config/src/gates/table.rs";
/// The table of the metrics.
const METRICS: &str = "crates/telemetry/src/metrics/items.rs";
/// The document as it is written, and where a field of it gets its meaning, or a warning that it has none.
const DOCUMENT: &str = "crates/config/src/document.rs";
const MEANINGS: &[&str] = &[
    "crates/config/src/build.rs",
    "crates/config/src/eviction.rs",
    "crates/config/src/unsupported.rs",
    "crates/config/src/credentials.rs",
    "crates/config/src/load.rs",
    "crates/config/src/sections.rs",
    "crates/kubelet/",
];
/// The configuration as its consumers see it, and who they are.
const SECTIONS: &str = "crates/config/src/sections.rs";
const CONSUMERS: &[&str] = &[SECTIONS, "crates/kubelet/", "crates/runtime/", "crates/telemetry/"];
/// What values of a type are called where their fields are read, beside the names of the fields that have one.
const CALLED: &[(&str, &[&str])] = &[
    ("KubeletConfiguration", &["document", "d"]),
    ("VmoduleItem", &["m"]),
    ("OutputOptions", &["options"]),
    ("Taint", &["taint"]),
    ("UserNamespaces", &["settings"]),
    ("Config", &["config"]),
    ("Identity", &["self"]),
    ("Server", &["settings"]),
    ("ReservedCgroup", &["reserved"]),
    ("ContainerLogs", &["settings"]),
    ("Logging", &["settings"]),
    ("Tracing", &["settings"]),
];
/// Fields of the document that are rightly read by nobody, each with the reason.
const UNREAD: &[(&str, &str)] = &[
    ("hairpin_mode", "without effect upstream, too: the runtime makes networks"),
    ("iptables_drop_bit", "without effect upstream, too"),
    ("iptables_masquerade_bit", "without effect upstream, too"),
    ("run_once", "refused when it is set"),
    ("merge_default_eviction_settings", "the defaults go by it"),
    ("show_hidden_metrics_for_version", "no metric is hidden"),
    ("priority", "a part of shutdownGracePeriodByPodPriority, which has a warning as a whole"),
    (
        "shutdown_grace_period_seconds",
        "a part of shutdownGracePeriodByPodPriority, which has a warning as a whole",
    ),
    ("numa_node", "a part of reservedMemory, which has a warning as a whole"),
    ("limits", "a part of reservedMemory, which has a warning as a whole"),
    ("time_added", "refused when it is set"),
];
/// The list of the end-to-end tests.
const SCENARIOS: &str = "xtask/src/e2e/mod.rs";

/// What stands before a module of tests.
const MARK: &str = "\n#[cfg(test)]\n";

/// One source file: its path from the root, and its text without tests.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// A file of the tree; `None` for one that holds tests alone, or no code.
    fn of(path: &Path, text: &str) -> Option<Self> {
        let name = path.to_str()?;
        let is_test = path.iter().any(|part| {
            let part = part.to_str().unwrap_or_default();
            part == "tests" || part == "tests.rs" || part.ends_with("_tests.rs")
        });
        // A module of tests in the file stands at its end; one in a file of its own is only named.
        let is_module = |at: &usize| {
            let line = text[at + MARK.len()..].lines().next().unwrap_or_default();
            line.contains("mod ") && line.ends_with('{')
        };
        let end = text.match_indices(MARK).map(|(at, _)| at).find(is_module);
        let code = end.and_then(|end| text.get(..end)).unwrap_or(text);
        let is_code =
            path.extension().is_some_and(|extension| extension == "rs") && name.starts_with("crates/");
        (is_code && !is_test).then(|| Self { path: name.to_owned(), text: code.to_owned() })
    }

    fn is_below(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }
}

/// All that is claimed and not so.
pub(crate) fn check(root: &Path, texts: &[(PathBuf, String)]) -> Vec<String> {
    let sources: Vec<Source> = texts.iter().filter_map(|(path, text)| Source::of(path, text)).collect();
    let sources = sources.as_slice();
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let mut wrong = gates(&read(CONSULTED), &read(GATES), sources, &|test| has_test(test, &read(SCENARIOS)));
    wrong.extend(metrics(&read(METRICS), sources));
    wrong.extend(fields(DOCUMENT, &read(DOCUMENT), sources, MEANINGS));
    wrong.extend(fields(SECTIONS, &read(SECTIONS), sources, CONSUMERS));
    wrong
}

/// Each field of the configuration has somebody who reads it, or a warning that nobody does.
fn fields(path: &str, text: &str, sources: &[Source], readers: &[&str]) -> Vec<String> {
    let readers: Vec<&Source> =
        sources.iter().filter(|source| readers.iter().any(|reader| source.is_below(reader))).collect();
    let declared = declared(text);
    let unread = declared.iter().filter(|field| {
        let is_exempt = UNREAD.iter().any(|(exempt, _)| *exempt == field.name);
        let names = owners(field.of, &declared);
        !is_exempt && !readers.iter().any(|source| names.iter().any(|o| reads(&source.text, o, field.name)))
    });
    unread.map(|field| format!("{path}: nobody reads {}, and nobody warns of that", field.name)).collect()
}

/// A field as it is declared.
struct Field<'a> {
    /// The type that has it.
    of: &'a str,
    name: &'a str,
    /// Its own type.
    ty: &'a str,
}

/// The public fields of a file's types. A macro that makes them has the name that is written after an equals sign.
fn declared(text: &str) -> Vec<Field<'_>> {
    let mut of = "";
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        let words = line.strip_prefix("pub ").unwrap_or(line);
        if let Some(rest) = words.strip_prefix("struct ") {
            of = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        }
        let Some((name, ty)) = line.strip_prefix("pub ").and_then(|rest| rest.split_once(": ")) else {
            continue;
        };
        if line.ends_with(',') && name.chars().all(|c| c.is_alphanumeric() || c == '_') {
            found.push(Field { of, name, ty: ty.split(" = ").next().unwrap_or_default() });
        }
    }
    found
}

/// What values of a type are called.
fn owners<'a>(of: &str, declared: &[Field<'a>]) -> Vec<&'a str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let has = declared.iter().filter(|field| field.ty.split(|c| !is_word(c)).any(|word| word == of));
    let called = CALLED.iter().filter(|(ty, _)| *ty == of).flat_map(|(_, names)| names.iter().copied());
    has.map(|field| field.name).chain(called).collect()
}

/// Whether a text has `owner.field` in it, or `owner().field`, perhaps over the end of a line.
fn reads(text: &str, owner: &str, field: &str) -> bool {
    text.match_indices(field).any(|(at, _)| {
        let before = text.get(..at).unwrap_or_default().trim_end();
        let Some(before) = before.strip_suffix('.').map(str::trim_end) else { return false };
        let before = before.strip_suffix("()").unwrap_or(before);
        let Some(rest) = before.strip_suffix(owner) else { return false };
        let is_whole = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let after = text.get(at + field.len()..).and_then(|rest| rest.chars().next());
        is_whole(rest.chars().next_back()) && is_whole(after)
    })
}

/// Each metric has a writer: nobody is shown a figure that says nothing.
fn metrics(items: &str, sources: &[Source]) -> Vec<String> {
    let declared = items.lines().filter_map(|line| {
        let (head, _) = line.split_once(" = \"").filter(|_| line.ends_with("\";"))?;
        let (field, _) = head.trim().split_once(": ")?;
        Some(field)
    });
    let unwritten = declared.filter(|field| {
        let mut others = sources.iter().filter(|source| source.path != METRICS);
        !others.any(|source| names_field(&source.text, field))
    });
    unwritten.map(|field| format!("{METRICS}: {field} is shown, and nobody writes it")).collect()
}

/// Whether a text has `.field` in it, perhaps over the end of a line.
fn names_field(text: &str, field: &str) -> bool {
    text.match_indices(field).any(|(at, _)| {
        let before = text.get(..at).unwrap_or_default().trim_end();
        let after = text.get(at + field.len()..).and_then(|rest| rest.chars().next());
        before.ends_with('.') && !after.is_some_and(|next| next.is_alphanumeric() || next == '_')
    })
}

/// The quoted value of a field in a row of a table.
fn field<'a>(row: &'a str, name: &str) -> Option<&'a str> {
    row.split_once(&format!("{name}: \""))?.1.split('"').next()
}

fn gates(consulted: &str, table: &str, sources: &[Source], has_test: &dyn Fn(&str) -> bool) -> Vec<String> {
    let is_locked = |name: &str| {
        table.lines().any(|row| field(row, "name") == Some(name) && row.contains("locked: true"))
    };
    let mut wrong = Vec::new();
    for row in consulted.lines().filter(|row| row.contains("works: true")) {
        let Some(name) = field(row, "name") else { continue };
        let head = format!("(\"{name}\", \"");
        let tests = consulted.lines().filter_map(|line| line.trim().strip_prefix(&head));
        let test = tests.filter_map(|rest| rest.split('"').next()).next().unwrap_or_default();
        if is_locked(name) {
            continue;
        }
        let is_asked = sources
            .iter()
            .any(|source| !source.is_below("crates/config/src/gates/") && asks(&source.text, name));
        if !is_asked {
            wrong.push(format!("{CONSULTED}: {name} works, and nobody asks whether it is on"));
        }
        if test.is_empty() {
            wrong.push(format!("{CONSULTED}: {name} works and may be set, and no test is named"));
        } else if !has_test(test) {
            wrong.push(format!("{CONSULTED}: {name} names a test that is not there: {test}"));
        }
    }
    wrong
}

/// Whether a text has a call with the gate's name for its argument, perhaps over the end of a line. A name in a message is
/// no question.
fn asks(text: &str, name: &str) -> bool {
    text.match_indices(&format!("\"{name}\"")).any(|(at, _)| {
        let before = text.get(..at).unwrap_or_default().trim_end();
        ["enabled(", "is_turned_off("].iter().any(|call| before.ends_with(call))
    })
}

/// Whether there is an end-to-end test of this name, `theme::scenario`.
fn has_test(test: &str, scenarios: &str) -> bool {
    scenarios.lines().any(|line| line.trim().ends_with(&format!(" {test},")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source::of(Path::new(path), text).unwrap()
    }

    #[test]
    fn a_field_has_a_reader() {
        let document = "    pub struct KubeletConfiguration {\n        /// Pods.\n        pub max_pods: i32 = \"maxPods\",\n";
        let count = |path: &str, text: &str| fields("d", document, &[source(path, text)], MEANINGS).len();
        assert_eq!(count("crates/config/src/build.rs", "unsigned(document.max_pods)"), 0);
        assert_eq!(count("crates/config/src/defaults.rs", "fill(&mut document.max_pods, 110)"), 1);
        assert_eq!(count("crates/config/src/build.rs", "max_pods(document)"), 1);
        let parts = "pub struct Config {\n    pub node: Option<Node>,\n}\npub struct Node {\n    /// Pods.\n    pub max_pods: u32,\n}\n";
        let count = |path: &str, text: &str| fields("p", parts, &[source(path, text)], CONSUMERS).len();
        assert_eq!(count("crates/kubelet/src/a.rs", "config.node.max_pods"), 0);
        assert_eq!(count("crates/kubelet/src/a.rs", "config\n    .node\n    .max_pods"), 0);
        assert_eq!(count("crates/config/src/build.rs", "config.node.max_pods"), 2, "no consumer");
        // Others have fields of that name.
        assert_eq!(count("crates/kubelet/src/a.rs", "config.node; facts.max_pods"), 1);
        assert_eq!(count("crates/kubelet/src/a.rs", "config.node; other_node.max_pods"), 1);
        assert_eq!(count("crates/kubelet/src/a.rs", "config.node; node.max_pods_each"), 1);
    }

    #[test]
    fn a_metric_has_a_writer() {
        let items = "    /// Pods.\n    pods: Gauge = \"kubelet_pods\" on Main, \"[ALPHA] Pods.\";\n";
        let count = |text: &str| metrics(items, &[source("crates/a/src/lib.rs", text)]).len();
        assert_eq!(count("metrics.pods.set(1.0);"), 0);
        assert_eq!(count("metrics\n    .pods\n    .set(1.0);"), 0);
        assert_eq!(count("metrics.pods_ended.set(pods);"), 1);
        assert_eq!(metrics(items, &[source(METRICS, "self.pods")]).len(), 1);
    }

    #[test]
    fn a_gate_that_works_is_asked_for_and_has_a_test() {
        let table = "Spec { name: \"Fixed\", locked: true }\nSpec { name: \"Free\", locked: false }\n";
        let row = |name: &str, test: &str| {
            format!("Consulted {{ name: \"{name}\", works: true }}\n    (\"{name}\", \"{test}\"),\n")
        };
        let asking = [source("crates/a/src/lib.rs", "//! A.\nfn f() { gates.enabled(\"Free\"); }\n")];
        let has_test = |test: &str| test == "gates::all";
        let count = |row: &str, sources: &[Source]| gates(row, table, sources, &has_test).len();
        assert_eq!(count(&row("Free", "gates::all"), &asking), 0);
        assert_eq!(count(&row("Free", "gates::all"), &[]), 1);
        assert_eq!(count(&row("Free", "gates::none"), &asking), 1);
        assert_eq!(count(&row("Free", "gates::none"), &[]), 2);
        assert_eq!(count(&row("Free", ""), &asking), 1);
        assert_eq!(count(&row("Free", ""), &[]), 2);
        assert_eq!(count(&row("Fixed", ""), &[]), 0);
        assert_eq!(count("Consulted { name: \"Free\", works: false }", &[]), 0);
        let over_lines = [source("crates/a/src/lib.rs", "gates.is_turned_off(\n    \"Free\",\n)")];
        assert_eq!(count(&row("Free", "gates::all"), &over_lines), 0);
        // Tests, messages and the table itself do not count.
        let told = [source("crates/a/src/lib.rs", "warn(\"Free\")")];
        assert_eq!(count(&row("Free", "gates::all"), &told), 1);
        let own = [source("crates/config/src/gates/mod.rs", "enabled(\"Free\")")];
        assert_eq!(count(&row("Free", "gates::all"), &own), 1);
        let tested =
            [source("crates/a/src/lib.rs", "//! A.\n#[cfg(test)]\nmod tests {\n    enabled(\"Free\")\n}")];
        assert_eq!(count(&row("Free", "gates::all"), &tested), 1);
    }
}
