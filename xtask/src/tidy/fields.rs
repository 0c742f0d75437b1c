//! A public field is read outside tests.
//!
//! The compiler says nothing of a public field that is filled in and never looked at. As with [`callers`], names are counted:
//! a field counts as read when its name follows a dot, or stands in a pattern or an error's message, anywhere in the crates outside tests. Two
//! fields of one name hide each other. What is serialized as a whole is read by that.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::callers::{self, identifiers};

/// What may come after the brace that ends a pattern.
const AFTER_PATTERNS: &[&str] = &["=>", "= ", "| ", "if ", ": ", "in "];

/// What is wrong in these files of the crates, each with its path below the root and its text.
pub(super) fn check(files: &[(PathBuf, String)]) -> Vec<String> {
    let sources = callers::production(files);
    let texts: Vec<String> = sources.iter().map(|source| source.lines.join("\n")).collect();
    let mut read = BTreeSet::new();
    for text in &texts {
        read.extend(after_dots(text));
        read.extend(in_patterns(text));
        read.extend(in_messages(text));
    }
    let mut wrong = Vec::new();
    for source in &sources {
        for (line, name) in fields(&source.lines).into_iter().filter(|(_, name)| !read.contains(name)) {
            let path = source.path.display();
            wrong.push(format!(
                "{path}:{}: field {name} is public and nobody reads it outside tests: connect it or remove it",
                line + 1
            ));
        }
    }
    wrong
}

/// The public fields of structs that are not serialized, each with its line.
fn fields(lines: &[String]) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let (mut is_serialized, mut is_meant) = (false, false);
    for (number, line) in lines.iter().enumerate() {
        let text = line.trim();
        if text.starts_with("#[derive(") {
            is_serialized = identifiers(text).any(|word| word == "Serialize");
        } else if identifiers(text).take_while(|word| *word != "fn").any(|word| word == "struct") {
            is_meant = text.ends_with('{') && !is_serialized;
            is_serialized = false;
        } else if text == "}" {
            is_meant = false;
        }
        let field = line.strip_prefix("    pub ").and_then(|rest| rest.split_once(": "));
        // A macro's names begin with a dollar and are none.
        if let Some((name, _)) = field.filter(|(name, _)| is_meant && identifiers(name).eq([*name])) {
            found.push((number, name));
        }
    }
    found
}

/// The names after dots, but for those of methods.
fn after_dots(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices('.').filter_map(|(at, _)| {
        let rest = text.get(at + 1..)?.trim_start();
        let name = identifiers(rest).next().filter(|name| rest.starts_with(name))?;
        (!rest[name.len()..].starts_with('(')).then_some(name)
    })
}

/// The names of fields in patterns: within braces that end in two dots, or are followed by what follows a pattern.
fn in_patterns(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices('{').flat_map(|(at, _)| {
        let inner = text.get(at + 1..).unwrap_or_default();
        let end = inner.find(['{', '}']).filter(|end| inner[*end..].starts_with('}'));
        let content = end.map_or("", |end| &inner[..end]);
        let after = end.map_or("", |end| inner[end + 1..].trim_start_matches([')', ' ', '\n']));
        let is_pattern =
            content.trim_end().ends_with("..") || AFTER_PATTERNS.iter().any(|next| after.starts_with(next));
        let names = content.split(',').filter(move |_| is_pattern);
        names.filter_map(|part| identifiers(part).find(|word| !matches!(*word, "ref" | "mut")))
    })
}

/// The names in the messages of errors.
fn in_messages(text: &str) -> impl Iterator<Item = &str> {
    let messages = text.split("#[error(").skip(1).filter_map(|rest| rest.split(")]").next());
    messages.flat_map(identifiers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(declared: &str, other: &str) -> usize {
        let files = [("crates/a/src/lib.rs", declared), ("crates/b/src/lib.rs", other)];
        check(&files.map(|(path, text)| (PathBuf::from(path), text.to_owned()))).len()
    }

    #[test]
    fn a_field_needs_a_reader_outside_tests() {
        let declared = "pub struct S {\n    pub wanted: u8,\n}\n";
        for (other, expected) in [
            ("", 1),
            ("fn f(s: &S) -> u8 {\n    s.wanted\n}", 0),
            ("fn f(s: &S) -> u8 {\n    s\n        .wanted\n}", 0),
            ("fn f() -> S {\n    S { wanted: 1 }\n}", 1),
            ("fn f(s: &S) -> u8 {\n    s.wanted()\n}", 1),
            ("fn f(s: &S) -> u8 {\n    s.unwanted\n}", 1),
            ("#[cfg(test)]\nmod tests {\n    fn f() {\n        s.wanted;\n    }\n}", 1),
            ("fn f(s: &S) {\n    let S { wanted, .. } = s;\n}", 0),
            ("fn f(s: &S) {\n    let S { mut wanted } = s;\n}", 0),
            ("fn f(S { wanted }: &S) {}", 0),
            ("fn f(s: &S) {\n    match s {\n        S { wanted: 1 } => {}\n    }\n}", 0),
            ("fn f(s: Option<S>) {\n    if let Some(S { wanted }) = s {}\n}", 0),
        ] {
            assert_eq!(count(declared, other), expected, "{other}");
        }
        assert_eq!(count("#[derive(Debug, Serialize)]\npub struct S {\n    pub wanted: u8,\n}\n", ""), 0);
        assert_eq!(count("#[error(\"{a} of {wanted}\")]\npub struct S {\n    pub wanted: u8,\n}\n", ""), 0);
        assert_eq!(count("pub enum E {\n    A,\n}\n", ""), 0);
    }
}
