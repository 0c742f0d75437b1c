//! Where a value of the document in effect came from, and where in which file a finding is about.
//!
//! Merging loses that, so the layers are kept beside the result: the file, the drop-ins in their order, and the
//! command line. The last one that mentions a field is where its value came from.

use serde_json::Value as Json;

use crate::duration::GoDuration;
use crate::finding::Finding;
use crate::flags::{CommandLine, Place};
use crate::tree::{Mark, Tree, Value};

/// One file as it was read.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) file: String,
    pub(crate) is_drop_in: bool,
    pub(crate) tree: Tree,
}

/// The files that make up a document, the later one winning.
#[derive(Debug, Default)]
pub(crate) struct Layers(pub(crate) Vec<Layer>);

impl Layers {
    /// Where the value at a path such as `evictionHard[memory.available]` came from.
    pub(crate) fn origin(&self, path: &str, value: &Json, line: &CommandLine) -> String {
        let steps = steps(path);
        if let Some(name) = flag_for(&steps, line) {
            return format!("flag --{name}");
        }
        for layer in self.0.iter().rev() {
            let Some(written) = whole(&layer.tree, &steps) else { continue };
            // A zero is how files that a program wrote say "unset", so that the value is the default.
            if is_zero(&written.value) && !is_zero(&Tree::from(value).value) {
                break;
            }
            let kind = if layer.is_drop_in { "drop-in" } else { "file" };
            return format!("{kind} {}:{}", layer.file, written.mark.line);
        }
        "default".to_owned()
    }

    /// Adds file, line and column to a finding about a field that none of the flags set.
    pub(crate) fn locate(&self, finding: &mut Finding, line: &CommandLine) {
        if finding.file.is_some() || finding.path.is_empty() || finding.path.starts_with('-') {
            return;
        }
        let steps = steps(&finding.path);
        if let Some(name) = flag_for(&steps, line) {
            let hint = format!("set by --{name}");
            finding.hint = Some(finding.hint.take().map_or(hint.clone(), |old| format!("{old}; {hint}")));
            return;
        }
        let place =
            self.0.iter().rev().find_map(|layer| nearest(&layer.tree, &steps).map(|mark| (layer, mark)));
        if let Some((layer, mark)) = place {
            finding.file = Some(layer.file.clone());
            *finding = finding.clone().at(mark);
        }
    }
}

/// The flag that set a field or something around or below it.
fn flag_for(steps: &[&str], line: &CommandLine) -> Option<&'static str> {
    line.set.iter().find_map(|(flag, value)| {
        let Place::Document(field) = flag.place else { return None };
        let place: Vec<&str> = field.split('.').collect();
        let inner = steps.strip_prefix(place.as_slice())?;
        // Gates are merged one by one, everything else is replaced.
        let is_part = flag.name != "feature-gates" || inner.is_empty() || whole(value, inner).is_some();
        is_part.then_some(flag.name)
    })
}

/// The value that all steps lead to; null counts as absent.
fn whole<'a>(tree: &'a Tree, steps: &[&str]) -> Option<&'a Tree> {
    let reached = steps.iter().try_fold(tree, |tree, step| child(tree, step))?;
    (reached.value != Value::Null).then_some(reached)
}

/// Whether Go takes a value for unset.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Int(number) => *number == 0,
        Value::Text(text) => {
            text.is_empty() || text.parse().is_ok_and(|it: GoDuration| it == GoDuration::ZERO)
        }
        _ => false,
    }
}

/// The place of the value that as many steps as possible lead to, but at least one.
fn nearest(tree: &Tree, steps: &[&str]) -> Option<Mark> {
    (1..=steps.len()).rev().find_map(|count| whole(tree, &steps[..count])).map(|tree| tree.mark)
}

fn child<'a>(tree: &'a Tree, step: &str) -> Option<&'a Tree> {
    match &tree.value {
        Value::List(items) => items.get(step.parse::<usize>().ok()?),
        _ => tree.get(step),
    }
}

/// Splits `a.b[c.d].e` into `a`, `b`, `c.d`, `e`.
fn steps(path: &str) -> Vec<&str> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some((inner, after)) = rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            steps.push(inner);
            rest = after.strip_prefix('.').unwrap_or(after);
            continue;
        }
        let end = rest.find(['.', '[']).filter(|end| *end > 0).unwrap_or(rest.len());
        steps.push(&rest[..end]);
        rest = &rest[end..];
        rest = rest.strip_prefix('.').unwrap_or(rest);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_paths() {
        for (path, expected) in [
            ("port", &["port"][..]),
            ("a.b[c.d].e", &["a", "b", "c.d", "e"]),
            ("list[0]", &["list", "0"]),
            ("odd[", &["odd", "["]),
            ("..", &[".."]),
        ] {
            assert_eq!(steps(path), expected, "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_hangs(path in "[a\\[\\].]{0,12}") {
            steps(&path);
        }
    }
}
