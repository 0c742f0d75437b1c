//! A public item has a caller outside tests.
//!
//! The compiler says nothing of a public function that nobody calls: it might be meant for others. Here there are no
//! others, so such a function is one that was written and tested and never connected. This counts names: an item
//! counts as used when its name occurs anywhere in the crates outside tests, comments, re-exports and the item itself.
//! Two items of one name hide each other; the check is for what was forgotten, not for what hides.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Public items without a caller, each with its crate and the reason.
const ALLOWED: &[(&str, &str, &str)] = &[];

/// Words that are followed by the name of an item.
const DEFINING: &[&str] = &["fn", "struct", "enum", "trait", "type", "const", "static", "union", "mod"];

/// Attributes of what is only there for tests. What they say in quotes is gone.
const TEST_ONLY: &[&str] = &["#[cfg(test)]", "#[cfg(any(test, feature = ))]"];

/// Crates that are tests themselves: they call nothing that counts, and what they have is theirs.
const TEST_CRATES: &[&str] = &["sim", "fake-control", "fake-cri", "fake-csi"];

/// One file without its tests.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) lines: Vec<String>,
}

/// An item that others can name.
#[derive(Debug, PartialEq, Eq)]
struct Item {
    name: String,
    /// Its file.
    source: usize,
    /// Its lines.
    lines: Range<usize>,
}

/// What is wrong in these files of the crates, each with its path below the root and its text.
pub(super) fn check(files: &[(PathBuf, String)]) -> Vec<String> {
    check_with(files, ALLOWED)
}

fn check_with(files: &[(PathBuf, String)], allowed: &[(&str, &str, &str)]) -> Vec<String> {
    let sources = production(files);
    let uses = uses(&sources);
    let mut wrong = Vec::new();
    let mut idle = BTreeSet::new();
    for item in sources.iter().enumerate().flat_map(|(index, source)| items(index, &source.lines)) {
        let is_used = uses.get(item.name.as_str()).is_some_and(|places| {
            places.iter().any(|(source, line)| *source != item.source || !item.lines.contains(line))
        });
        if is_used {
            continue;
        }
        let path = &sources[item.source].path;
        let of = crate_of(path).unwrap_or_default();
        if !allowed.iter().any(|(krate, name, _)| *krate == of && *name == item.name) {
            let (path, line) = (path.display(), item.lines.start + 1);
            wrong.push(format!(
                "{path}:{line}: {} is public and has no caller outside tests: connect it or remove it",
                item.name
            ));
        }
        idle.insert((of.to_owned(), item.name));
    }
    for (krate, name, _) in allowed {
        if !idle.contains(&((*krate).to_owned(), (*name).to_owned())) {
            wrong.push(format!("{krate}: {name} is allowed to have no caller, but has one or is gone"));
        }
    }
    wrong
}

/// The name of the crate a file belongs to.
fn crate_of(path: &Path) -> Option<&str> {
    path.strip_prefix("crates").ok()?.components().next()?.as_os_str().to_str()
}

/// The sources of the crates without tests and comments.
pub(super) fn production(files: &[(PathBuf, String)]) -> Vec<Source> {
    let is_source = |path: &Path| {
        let mut parts = path.strip_prefix("crates").ok()?.components().skip(1);
        let is_tested = !TEST_CRATES.contains(&crate_of(path)?);
        Some(is_tested && parts.next()?.as_os_str() == "src" && path.extension()? == "rs")
    };
    let sources: Vec<_> = files.iter().filter(|(path, _)| is_source(path) == Some(true)).collect();
    let mut tests = BTreeSet::new();
    let stripped: Vec<(PathBuf, Vec<String>)> = sources
        .into_iter()
        .map(|(path, text)| {
            let (lines, modules) = without_tests(text);
            for module in modules {
                let folder = module_folder(path);
                tests.insert(folder.join(&module));
                tests.insert(folder.join(format!("{module}.rs")));
            }
            (path.clone(), lines)
        })
        .collect();
    let is_test = |path: &Path| {
        path.ancestors().any(|part| tests.contains(part)) || path.to_string_lossy().ends_with("_tests.rs")
    };
    stripped
        .into_iter()
        .filter(|(path, _)| !is_test(path))
        .map(|(path, lines)| Source { path, lines })
        .collect()
}

/// Whether a file holds nothing but tests, as far as its name tells.
pub(super) fn is_test_file(path: &Path) -> bool {
    let is_test = |part: &str| part == "tests" || part == "tests.rs" || part.ends_with("_tests.rs");
    path.iter().any(|part| part.to_str().is_some_and(is_test))
}

/// Where the modules of a file are.
fn module_folder(path: &Path) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default();
    let folder = path.parent().unwrap_or(Path::new(""));
    if ["mod", "lib", "main"].iter().any(|name| stem == *name) {
        folder.to_owned()
    } else {
        folder.join(stem)
    }
}

/// The lines with those of tests and comments emptied, and the names of modules that are files of tests.
pub(super) fn without_tests(text: &str) -> (Vec<String>, Vec<String>) {
    let mut lines: Vec<String> = text.lines().map(code).collect();
    let mut modules = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        if !TEST_ONLY.contains(&lines[at].trim()) {
            at += 1;
            continue;
        }
        let end = item_end(&lines, at);
        for line in &lines[at..end] {
            let module = line.trim().strip_suffix(';').and_then(|line| line.rsplit_once("mod "));
            modules.extend(module.map(|(_, name)| name.to_owned()));
        }
        lines[at..end].iter_mut().for_each(String::clear);
        at = end;
    }
    (lines, modules)
}

/// A line without the comment at its end and without what its texts say, but for the variables in their braces.
pub(super) fn code(line: &str) -> String {
    let mut code = String::with_capacity(line.len());
    let (mut in_text, mut in_braces) = (false, false);
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '/' if !in_text && rest.peek() == Some(&'/') => break,
            '\'' if !in_text && rest.peek() == Some(&'"') => {
                rest.next();
            }
            '\\' if in_text => {
                rest.next();
            }
            '"' => (in_text, in_braces) = (!in_text, false),
            '{' | '}' if in_text => {
                in_braces = c == '{';
                code.push(' ');
            }
            _ if in_text && !in_braces => {}
            _ => code.push(c),
        }
    }
    code
}

/// Where the item ends that begins in this line or, after attributes, in a later one. The code is formatted: an item ends
/// with the first line that is indented as it is and ends in a bracket or semicolon.
fn item_end(lines: &[String], start: usize) -> usize {
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let own = indentation(&lines[start]);
    let is_end = |line: &String| {
        let text = line.trim();
        let closes = text.ends_with(';') || text.ends_with('}') || text.ends_with("},");
        indentation(line) == own && closes && !text.starts_with('#')
    };
    let rest = lines[start..].iter().position(is_end);
    rest.map_or(lines.len(), |length| start + length + 1)
}

/// The public items of a file.
fn items(source: usize, lines: &[String]) -> Vec<Item> {
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(rest) = line.trim_start().strip_prefix("pub ") else { continue };
        let is_function = rest.split(' ').any(|word| word == "fn");
        let mut words = rest
            .split(' ')
            .skip_while(|word| is_function && matches!(*word, "const" | "async" | "unsafe" | "extern"));
        let is_item = words.next().is_some_and(|word| DEFINING.contains(&word) && word != "mod");
        // A macro's names begin with a dollar and are none.
        let name = words.next().filter(|word| is_item && !word.starts_with('$'));
        if let Some(name) = name.and_then(|word| identifiers(word).next()) {
            found.push(Item { name: name.to_owned(), source, lines: index..item_end(lines, index) });
        }
    }
    found
}

/// Where names occur that are not being defined.
fn uses(sources: &[Source]) -> BTreeMap<&str, Vec<(usize, usize)>> {
    let mut uses: BTreeMap<&str, Vec<(usize, usize)>> = BTreeMap::new();
    for (index, source) in sources.iter().enumerate() {
        let mut is_reexport = false;
        for (number, line) in source.lines.iter().enumerate() {
            let text = line.trim_start();
            is_reexport |= text.starts_with("pub use ") || text.starts_with("pub(crate) use ");
            // The type of an implementation is not used by it.
            let is_header = text.starts_with("impl ") || text.starts_with("impl<");
            if !is_reexport && !is_header {
                let mut before = "";
                for word in identifiers(text) {
                    if !DEFINING.contains(&before) {
                        uses.entry(word).or_default().push((index, number));
                    }
                    before = word;
                }
            }
            is_reexport &= !text.ends_with(';');
        }
    }
    uses
}

/// The identifiers of a line.
pub(super) fn identifiers(line: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + line.get(at..)?.find(is_part)?;
        let length = line[start..].find(|c| !is_part(c)).unwrap_or(line.len() - start);
        at = start + length;
        Some(&line[start..at])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], allowed: &[(&str, &str, &str)]) -> Vec<String> {
        let files: Vec<_> =
            files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
        check_with(&files, allowed)
    }

    #[test]
    fn an_item_needs_a_use_outside_tests_and_itself() {
        let lib = |item: &str| format!("//! Lib.\n{item}\n");
        let function = "pub fn wanted(deep: bool) {\n    wanted(true);\n}";
        for (item, other, count) in [
            (function, "fn f() {\n    wanted(false);\n}", 0),
            (function, "", 1),
            (function, "// wanted\n/// wanted\nfn f() {} // wanted", 1),
            (function, "#[cfg(test)]\nmod tests {\n    fn f() {\n        wanted();\n    }\n}", 1),
            (function, "#[cfg(test)]\nuse x::wanted;\nfn f() {}", 1),
            (function, "pub use a::{\n    wanted,\n};", 1),
            (function, "use a::{\n    wanted,\n};", 0),
            (function, "trait T {\n    fn wanted();\n}", 1),
            (function, "fn f() {\n    unwanted();\n}", 1),
            ("pub async fn wanted() {}", "", 1),
            ("pub const fn wanted() {}", "", 1),
            ("pub const wanted: &str = \"\";", "", 1),
            ("pub const wanted: &str = \"\";", "fn f() {\n    g(wanted);\n}", 0),
            ("pub struct wanted;", "impl Drop for wanted {}", 1),
            ("pub struct wanted;", "fn f() -> wanted {}", 0),
            ("pub enum wanted {\n    A,\n}", "", 1),
            ("pub(crate) fn wanted() {}", "", 0),
            (function, "fn f() -> &str {\n    \"wanted\"\n}", 1),
            (function, "fn f() {\n    g('\"', \"//\", wanted);\n}", 0),
            ("pub const wanted: u8 = 1;", "fn f() -> String {\n    format!(\"a {wanted}\")\n}", 0),
            ("pub const wanted: u8 = 1;", "fn f() -> String {\n    format!(\"{a} of {wanted}\")\n}", 0),
            ("#[cfg(any(test, feature = \"testing\"))]\npub fn wanted() {}", "", 0),
            ("    pub fn $wanted() {}", "", 0),
        ] {
            let found = check(&[("crates/a/src/lib.rs", &lib(item)), ("crates/b/src/lib.rs", other)], &[]);
            assert_eq!(found.len(), count, "{item:?} and {other:?}: {found:?}");
        }
    }

    #[test]
    fn files_of_tests_call_nothing() {
        let item = ("crates/a/src/lib.rs", "pub fn wanted() {}\n#[cfg(test)]\nmod fake;\nmod real;\n");
        let with = |path, text| check(&[item, (path, text)], &[]).len();
        assert_eq!(with("crates/a/src/real.rs", "fn f() {\n    wanted();\n}"), 0);
        assert_eq!(with("crates/a/src/fake.rs", "fn f() {\n    wanted();\n}"), 1);
        assert_eq!(with("crates/a/src/fake/deep.rs", "fn f() {\n    wanted();\n}"), 1);
        assert_eq!(with("crates/a/src/real_tests.rs", "fn f() {\n    wanted();\n}"), 1);
        assert_eq!(with("crates/sim/src/lib.rs", "fn f() {\n    wanted();\n}"), 1);
        assert_eq!(with("crates/a/tests/it/main.rs", "fn f() {\n    wanted();\n}"), 1);
        assert_eq!(with("crates/a/examples/x.rs", "fn f() {\n    wanted();\n}"), 1);
    }

    #[test]
    fn exceptions_are_for_what_is_there_and_has_no_caller() {
        let idle = [("crates/a/src/lib.rs", "pub fn wanted() {}\n")];
        let used = [idle[0], ("crates/b/src/lib.rs", "fn f() {\n    wanted();\n}")];
        assert!(check(&idle, &[("a", "wanted", "because")]).is_empty());
        assert_eq!(check(&idle, &[("b", "wanted", "because")]).len(), 2);
        assert_eq!(check(&used, &[("a", "wanted", "because")]).len(), 1);
        assert_eq!(check(&[], &[("a", "wanted", "because")]).len(), 1);
    }
}
