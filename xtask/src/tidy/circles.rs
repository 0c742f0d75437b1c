//! Modules that import each other in no circle.
//!
//! Two modules that name each other are one module in two files: neither can be read, tested or moved alone, and a third
//! that joins them makes the knot larger. In the crates listed here, whose parts are meant to stand alone, arrows of
//! imports lead one way. Only paths through modules count; what the crate shows at its root is everybody's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::callers::{Source, production};

/// Crates without circles.
const CRATES: &[&str] = &["node", "model"];

/// Which modules each module imports from.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// What is wrong in these files of the crates.
pub(super) fn check(files: &[(PathBuf, String)]) -> Vec<String> {
    let sources = production(files);
    let mut wrong = Vec::new();
    for name in CRATES {
        if let Some(circle) = circle(&imports(&Path::new("crates").join(name).join("src"), &sources)) {
            let circle = circle.join(" -> ");
            wrong.push(format!("crates/{name}: modules import each other in a circle: {circle}"));
        }
    }
    wrong
}

fn imports(root: &Path, sources: &[Source]) -> Imports {
    let named: Vec<(String, &Source)> =
        sources.iter().filter_map(|source| Some((module(root, &source.path)?, source))).collect();
    let modules: BTreeSet<String> = named.iter().map(|(module, _)| module.clone()).collect();
    let imports_of = |module: &str, source: &Source| {
        let text = source.lines.join("\n");
        let mut found: BTreeSet<String> = paths(&text)
            .iter()
            .filter_map(|path| resolve(module, path))
            .filter_map(|path| innermost(&modules, &path))
            .collect();
        found.remove(module);
        found
    };
    named.iter().map(|(module, source)| (module.clone(), imports_of(module, source))).collect()
}

/// The path of a file's module below the crate; that of the root is empty.
fn module(root: &Path, path: &Path) -> Option<String> {
    let below = path.strip_prefix(root).ok()?.with_extension("");
    let mut parts: Vec<&str> = below.iter().filter_map(|part| part.to_str()).collect();
    if matches!(parts.last(), Some(&"mod" | &"lib" | &"main")) {
        parts.pop();
    }
    Some(parts.join("::"))
}

/// All paths in a text that begin at the root of the crate or at a module above, trees of imports as single paths.
fn paths(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in text.match_indices(start) {
            let before = text[..at].chars().next_back();
            let is_start = before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':');
            if is_start {
                expand("", &text[at..], &mut found);
            }
        }
    }
    found
}

/// Adds the paths that begin here, and returns what follows them.
fn expand<'a>(prefix: &str, text: &'a str, found: &mut Vec<String>) -> &'a str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(text.len());
    let (path, mut rest) = text.split_at(end);
    let path = format!("{prefix}{path}");
    if !path.ends_with("::") || !rest.starts_with('{') {
        found.push(path);
        return rest;
    }
    loop {
        rest = rest[1..].trim_start();
        if let Some(rest) = rest.strip_prefix('}') {
            return rest;
        }
        rest = expand(&path, rest, found).trim_start();
        // After a name may stand `as` and another one.
        rest = rest.find([',', '}']).map_or("", |at| &rest[at..]);
        match rest.chars().next() {
            Some(',') => {}
            Some(_) => return &rest[1..],
            None => return rest,
        }
    }
}

/// The path below the crate that a path in a module means.
fn resolve(module: &str, path: &str) -> Option<String> {
    if let Some(path) = path.strip_prefix("crate::") {
        return Some(path.to_owned());
    }
    let mut above: Vec<&str> = module.split("::").collect();
    let mut rest = path;
    while let Some(path) = rest.strip_prefix("super::") {
        above.pop()?;
        rest = path;
    }
    above.push(rest);
    Some(above.join("::"))
}

/// The innermost module on a path.
fn innermost(modules: &BTreeSet<String>, path: &str) -> Option<String> {
    let mut path = path.trim_end_matches(':');
    loop {
        if modules.contains(path) {
            return Some(path.to_owned());
        }
        path = path.rsplit_once("::")?.0;
    }
}

/// A circle, if there is one; its first module is named once more at the end.
fn circle(imports: &Imports) -> Option<Vec<&str>> {
    let mut done = BTreeSet::new();
    imports.keys().find_map(|module| visit(module, imports, &mut Vec::new(), &mut done))
}

fn visit<'a>(
    module: &'a str,
    imports: &'a Imports,
    way: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<Vec<&'a str>> {
    if let Some(at) = way.iter().position(|before| *before == module) {
        let mut circle = way[at..].to_vec();
        circle.push(module);
        return Some(circle);
    }
    if done.contains(module) {
        return None;
    }
    way.push(module);
    let found = imports.get(module).into_iter().flatten().find_map(|next| visit(next, imports, way, done));
    way.pop();
    done.insert(module);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_files(files: &[(&str, &str)]) -> Vec<String> {
        let file =
            |(path, text): &(&str, &str)| (Path::new("crates/node/src").join(path), (*text).to_owned());
        check(&files.iter().map(file).collect::<Vec<_>>())
    }

    #[test]
    fn a_circle_is_found_however_it_is_written() {
        for text in [
            "use crate::a::A;",
            "use crate::{other::B as C, a::{self, A}};",
            "use super::a;",
            "fn b() {\n    crate::a::go();\n}",
        ] {
            let found =
                check_files(&[("lib.rs", "mod a;\nmod b;"), ("a.rs", "use crate::b::B;"), ("b.rs", text)]);
            let wrong = "crates/node: modules import each other in a circle: a -> b -> a";
            assert_eq!(found, [wrong], "{text}");
        }
    }

    #[test]
    fn arrows_one_way_are_none() {
        let found = check_files(&[
            ("lib.rs", "mod a;\nmod b;\npub use a::A;"),
            ("a.rs", "use crate::{Root, b};\n#[cfg(test)]\nmod tests {\n    use super::*;\n}"),
            ("b/mod.rs", "// crate::a\nmod inner;\npub use inner::B;"),
            ("b/inner.rs", "pub struct B;\nconst A: &str = \"crate::a\";"),
        ]);
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn a_parent_that_its_child_needs_is_one() {
        let found = check_files(&[
            ("b/mod.rs", "mod inner;\nuse crate::b::inner::B;\npub struct A;"),
            ("b/inner.rs", "use super::A;"),
        ]);
        assert_eq!(found, ["crates/node: modules import each other in a circle: b -> b::inner -> b"]);
    }
}
