//! What a line is made of, whatever its form.

use std::error::Error;
use std::fmt::{self, Write as _};

use jiff::Timestamp;
use tracing::Level;
use tracing::field::{Field, Visit};

/// What is known of an event besides its fields.
pub(super) struct Line<'a> {
    pub(super) level: Level,
    pub(super) verbosity: u32,
    pub(super) file: &'a str,
    pub(super) line: u32,
    pub(super) time: Timestamp,
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Int(i128),
    Float(f64),
    Bool(bool),
    Text(String),
}

/// A field: its name and its value.
pub(super) type Pair = (&'static str, Value);

/// The fields of an event, in the order in which they were given.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) message: String,
    /// What went wrong, with its causes.
    pub(super) error: Option<String>,
    pub(super) pairs: Vec<Pair>,
    /// The level the event gives itself in a field `v`.
    pub(super) level: Option<u32>,
}

impl Fields {
    fn text(&mut self, field: &Field, text: String) {
        match field.name() {
            "message" => self.message = text,
            // klog and everything that reads its lines know errors by the name `err`.
            "error" | "err" => self.error = Some(text),
            _ => self.pairs.push((name_of(field), Value::Text(text))),
        }
    }

    fn number(&mut self, field: &Field, number: i128) {
        if field.name() == "v" {
            self.level = Some(u32::try_from(number).unwrap_or(0));
        } else {
            self.pairs.push((name_of(field), Value::Int(number)));
        }
    }

    /// Puts the fields of the surroundings before those of the event, whose values win.
    pub(super) fn surrounded_by(&mut self, context: &[Pair]) {
        if context.is_empty() {
            return;
        }
        let own = std::mem::take(&mut self.pairs);
        self.pairs = merged(context, own);
    }
}

/// `inner` after `outer`, each name once: a name that comes again with the same value stays where it
/// was, one with another value moves back.
pub(super) fn merged(outer: &[Pair], inner: Vec<Pair>) -> Vec<Pair> {
    let mut all = outer.to_vec();
    for pair in inner {
        if all.contains(&pair) {
            continue;
        }
        all.retain(|(name, _)| *name != pair.0);
        all.push(pair);
    }
    all
}

/// A field's name without the `r#` that a name needs that is a word of Rust, such as `type`, and without the `_` that
/// one ends with whose name means something else to tracing, such as `message_`.
fn name_of(field: &Field) -> &'static str {
    let name = field.name().strip_prefix("r#").unwrap_or(field.name());
    name.strip_suffix('_').unwrap_or(name)
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing to a string fails only if the value's own formatting does.
        if write!(text, "{value:?}").is_err() {
            text.push_str("<cannot be shown>");
        }
        self.text(field, text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.pairs.push((name_of(field), Value::Bool(value)));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.pairs.push((name_of(field), Value::Float(value)));
    }

    /// The whole chain. What an error of a library says of its own cause is not said again.
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(error) = source {
            let reason = error.to_string();
            if !text.ends_with(&reason) {
                let _ = write!(text, ": {reason}");
            }
            source = error.source();
        }
        self.text(field, text);
    }
}

/// Names of files that say nothing without their folder.
const FACELESS: [&str; 3] = ["mod", "lib", "main"];

/// The folder and the name, with its ending, of a source file. `src` is no folder to speak of.
pub(super) fn folder_and_name(file: &str) -> (&str, &str) {
    let (path, name) = file.rsplit_once('/').unwrap_or(("", file));
    let path = path.strip_suffix("/src").unwrap_or(path);
    (path.rsplit('/').next().unwrap_or(path), name)
}

/// What `--vmodule` patterns are compared with: the name of the file without its ending, or of its
/// folder where the name says nothing.
pub(super) fn module(file: &str) -> &str {
    let (folder, name) = folder_and_name(file);
    let stem = name.strip_suffix(".rs").unwrap_or(name);
    if FACELESS.contains(&stem) && !folder.is_empty() { folder } else { stem }
}

/// Whether the name of a file needs that of its folder to mean anything.
pub(super) fn is_faceless(name: &str) -> bool {
    name.strip_suffix(".rs").is_some_and(|stem| FACELESS.contains(&stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_names_that_mean_something() {
        for (file, parts, module_name) in [
            ("crates/kubelet/src/watchers/facts.rs", ("watchers", "facts.rs"), "facts"),
            ("crates/kubelet/src/driver/mod.rs", ("driver", "mod.rs"), "driver"),
            ("crates/kubelet/src/main.rs", ("kubelet", "main.rs"), "kubelet"),
            ("/any/hyper-1.0/src/lib.rs", ("hyper-1.0", "lib.rs"), "hyper-1.0"),
            ("pods.rs", ("", "pods.rs"), "pods"),
            ("mod.rs", ("", "mod.rs"), "mod"),
            ("", ("", ""), ""),
        ] {
            assert_eq!(folder_and_name(file), parts, "{file}");
            assert_eq!(module(file), module_name, "{file}");
        }
    }

    #[test]
    fn the_last_value_of_a_name_wins() {
        let int = |name, number| (name, Value::Int(number));
        let outer = [int("a", 1), int("b", 2), int("c", 3)];
        for (inner, expected) in [
            (vec![], vec![int("a", 1), int("b", 2), int("c", 3)]),
            (vec![int("b", 2), int("d", 4)], vec![int("a", 1), int("b", 2), int("c", 3), int("d", 4)]),
            (vec![int("a", 9)], vec![int("b", 2), int("c", 3), int("a", 9)]),
        ] {
            assert_eq!(merged(&outer, inner), expected);
        }
    }
}
