//! `cargo xtask tidy`: the rules of the code's shape that the compiler does not know.
//!
//! Crates depend downwards only, the core on nothing that does I/O, and its modules on each other in no circle. Every source
//! file starts by saying why it exists, no file and no function grows without end, names say something, what is public has a
//! caller, what one part alone may decide is decided there, what documents name is there, and nothing in the repository depends
//! on one machine.

mod callers;
mod circles;
mod dependencies;
mod documents;
mod fields;
mod functions;
mod names;
mod reserved;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::claims;
use crate::status;
use crate::workspace::Workspace;

/// Lines a source file may have without its tests.
const MOST_LINES: usize = 800;

/// Words that only make sense on one machine, split so that this file does not hold them.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("/ro", "ot/"), "somebody's home"),
    (concat!("/ho", "me/"), "somebody's home"),
    (concat!("/var/", "tmp/"), "a path of one machine"),
    (concat!("index.", "crates.io"), "a package registry"),
    (concat!("static.", "crates.io"), "a package registry"),
    (concat!("proxy.", "golang.org"), "a package registry"),
    (concat!("sum.", "golang.org"), "a package registry"),
    (concat!("deb.", "debian.org"), "a package mirror"),
];

/// Files that are not ours to shape: checksums and lists of versions.
const GENERATED: &[&str] = &["Cargo.lock", "go.sum", "go.mod"];

/// Checks everything and fails with all that is wrong.
pub(crate) fn run() -> Result<()> {
    let workspace = Workspace::load()?;
    let mut wrong = dependencies::check(&workspace.metadata);
    let mut texts = Vec::new();
    for path in files(&workspace.root)? {
        let Ok(text) = std::fs::read_to_string(workspace.root.join(&path)) else { continue };
        wrong.extend(file(&path, &text));
        texts.push((path, text));
    }
    wrong.extend(callers::check(&texts));
    wrong.extend(fields::check(&texts));
    wrong.extend(circles::check(&texts));
    wrong.extend(functions::check(&texts));
    wrong.extend(names::check(&texts));
    wrong.extend(documents::check(&workspace.metadata, &texts));
    wrong.extend(reserved::check(&texts));
    wrong.extend(claims::check(&workspace.root, &texts));
    wrong.extend(status::unproven(&crate::e2e::names()));
    wrong.extend(status_table(&workspace.root)?);
    if wrong.is_empty() { Ok(()) } else { bail!("the tree is not tidy:\n  {}", wrong.join("\n  ")) }
}

/// The README's table is made from [`status`].
fn status_table(root: &Path) -> Result<Option<String>> {
    let path = root.join("README.md");
    let readme = std::fs::read_to_string(&path).context("read the README")?;
    let renewed = status::renewed(&readme).context("the README has no status table")?;
    if renewed == readme {
        return Ok(None);
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, renewed).context("write the README")?;
        return Ok(None);
    }
    Ok(Some("README.md: the status table is old: run UPDATE_DOCS=1 cargo xtask tidy".to_owned()))
}

/// All files below the root, but for what is built and git's own.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let list =
            std::fs::read_dir(root.join(&folder)).with_context(|| format!("list {}", folder.display()))?;
        for entry in list {
            let entry = entry.with_context(|| format!("list {}", folder.display()))?;
            let (path, kind) = (folder.join(entry.file_name()), entry.file_type()?);
            let skipped = entry.file_name() == "target" || entry.file_name() == ".git";
            if kind.is_dir() && !skipped {
                folders.push(path);
            } else if kind.is_file() && !skipped {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn file(path: &Path, text: &str) -> Vec<String> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if GENERATED.contains(&name) {
        return Vec::new();
    }
    let at = path.display();
    let mut wrong = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (word, why) in FORBIDDEN.iter().filter(|(word, _)| line.contains(word)) {
            wrong.push(format!("{at}:{}: {word} is {why}", number + 1));
        }
    }
    if path.extension().is_some_and(|extension| extension == "rs") {
        if !text.starts_with("//!") {
            wrong.push(format!(
                "{at}: the file does not start with a module doc (//!) that says why it exists"
            ));
        }
        let lines = lines_without_tests(path, text);
        if lines > MOST_LINES {
            wrong.push(format!(
                "{at}: {lines} lines without tests, more than {MOST_LINES}: split it by ideas"
            ));
        }
    }
    wrong
}

/// Tests are a module at the end of a file, or files of their own.
fn lines_without_tests(path: &Path, text: &str) -> usize {
    if callers::is_test_file(path) {
        return 0;
    }
    text.lines().take_while(|line| line.trim_end() != "#[cfg(test)]").count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_documented_short_and_belong_to_no_machine() {
        let check = |name: &str, text: &str| file(Path::new(name), text).len();
        let long = "fn f() {}\n".repeat(MOST_LINES);
        assert_eq!(check("a.rs", "//! Why.\n"), 0);
        assert_eq!(check("a.rs", "use x;\n"), 1);
        assert_eq!(check("a.md", "no doc needed\n"), 0);
        assert_eq!(check("a.rs", &format!("//! Why.\n{long}")), 1);
        assert_eq!(check("a.rs", &format!("//! Why.\n#[cfg(test)]\n{long}")), 0);
        assert_eq!(check("a/tests.rs", &format!("//! Why.\n{long}")), 0);
        assert_eq!(check("a.md", &format!("see {}x\n", FORBIDDEN[0].0)), 1);
        assert_eq!(check("tools/go.sum", FORBIDDEN[0].0), 0);
    }
}
