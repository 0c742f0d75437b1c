//! Names that say something: a type or module is called by its role, not by a word that fits anything.

use std::path::{Path, PathBuf};

use super::callers::code;

/// Words that say nothing of what a thing does, as parts of a name.
const BANNED: &[&str] = &["Manager", "Helper", "Util", "Utils", "Common", "Base", "Impl", "Misc"];
/// Words that say nothing alone.
const BANNED_ALONE: &[&str] = &["Handler"];

/// Words that begin the definition of a type or module.
const DEFINING: &[&str] = &["struct", "enum", "trait", "type", "union", "mod"];

/// What is wrong in these files, each with its path below the root and its text.
pub(super) fn check(files: &[(PathBuf, String)]) -> Vec<String> {
    let is_code = |path: &Path| path.extension().is_some_and(|extension| extension == "rs");
    let mut wrong = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| is_code(path)) {
        for (number, line) in text.lines().enumerate() {
            let Some(name) = defined(&code(line)) else { continue };
            if let Some(word) = banned_word(&name) {
                let at = path.display();
                wrong.push(format!("{at}:{}: {name}: {word} says nothing; name the role", number + 1));
            }
        }
    }
    wrong
}

/// The type or module that a line begins to define.
fn defined(line: &str) -> Option<String> {
    let mut words = line.split_whitespace().skip_while(|word| *word == "pub" || word.starts_with("pub("));
    words.next().filter(|word| DEFINING.contains(word))?;
    let name: String = words.next()?.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

fn banned_word(name: &str) -> Option<&'static str> {
    let words = words(name);
    let is_in = |banned: &&&str| words.iter().any(|word| word == &banned.to_lowercase());
    let is_all = |banned: &&&str| words == [banned.to_lowercase()];
    BANNED.iter().find(is_in).or_else(|| BANNED_ALONE.iter().find(is_all)).copied()
}

/// The words of a name in either case, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut is_new = true;
    for c in name.chars() {
        if c == '_' {
            is_new = true;
            continue;
        }
        if is_new || c.is_uppercase() {
            words.push(String::new());
        }
        is_new = false;
        if let Some(word) = words.last_mut() {
            word.extend(c.to_lowercase());
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_types_and_modules_say_something() {
        for (line, count) in [
            ("pub struct PodManager;", 1),
            ("struct PodRegistry;", 0),
            ("pub(crate) enum UtilKind {", 1),
            ("mod common;", 1),
            ("mod utils;", 1),
            ("trait Handler {", 1),
            ("struct RuntimeHandler {", 0),
            ("type Based = u8;", 0),
            ("impl Impl for A {}", 0),
            ("fn helper() {}", 0),
            ("// struct Manager", 0),
            ("const A: &str = \"struct Manager\";", 0),
        ] {
            let files = [(PathBuf::from("a.rs"), line.to_owned())];
            assert_eq!(check(&files).len(), count, "{line}");
        }
    }
}
