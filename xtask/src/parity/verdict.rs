//! What a kubelet said, and whether two of them said the same.

use serde::Deserialize;
use serde_json::Value;

use super::case::Case;
use super::judge::Description;

/// What a kubelet says to a command line.
#[derive(Debug, Deserialize)]
pub(crate) struct Verdict {
    accepted: bool,
    /// Upstream's reason for a refusal.
    #[serde(default)]
    error: String,
    /// Whether upstream had to overlook fields that are unknown or repeated.
    #[serde(default)]
    lenient: bool,
    /// What upstream warns about: flags, feature gates and fields, as our findings name them.
    #[serde(default)]
    warnings: Vec<String>,
    /// What we found.
    #[serde(default)]
    findings: Vec<Finding>,
    #[serde(default)]
    configuration: Value,
}

#[derive(Debug, Deserialize)]
struct Finding {
    severity: String,
    path: String,
    message: String,
}

impl Verdict {
    /// What upstream says about a refusal, as far as it is the same each time.
    pub(super) fn reason(&self) -> Option<&str> {
        (!self.accepted).then(|| {
            let first = self.error.lines().next().unwrap_or_default();
            // Quotes are written differently in the log, and the configuration follows as a dump.
            let end = first.find(['"', '\n']).unwrap_or(first.len());
            first[..end].split(", path: ").next().unwrap_or_default()
        })
    }
}

/// How the two differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// We refuse what upstream accepts.
    Stricter,
    /// We accept what upstream refuses.
    Laxer,
    /// Another configuration is in effect.
    Effect,
    /// Both refuse, for reasons that are not the same, or warn differently.
    Message,
    /// The case expects something else of both.
    Expectation,
}

/// A difference and its explanation.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) kind: Kind,
    pub(crate) text: String,
}

/// The first difference between the two, if there is one.
pub(crate) fn compare(
    case: &Case,
    ours: &Verdict,
    theirs: &Verdict,
    known: &Description,
) -> Option<Difference> {
    let differ = |kind, text| Some(Difference { kind, text });
    let errors: Vec<&Finding> = ours.findings.iter().filter(|finding| finding.severity == "error").collect();
    let reasons = || {
        errors.iter().map(|error| format!("{}: {}", error.path, error.message)).collect::<Vec<_>>().join("; ")
    };
    match (ours.accepted, theirs.accepted) {
        (true, false) => differ(Kind::Laxer, format!("only upstream refuses it: {}", theirs.error)),
        (false, true) => differ(Kind::Stricter, format!("only we refuse it: {}", reasons())),
        (true, true) if !case.is_open && case.refused.is_some() => {
            differ(Kind::Expectation, "both accept it".to_owned())
        }
        (false, false) if !case.is_open && case.refused.is_none() => {
            differ(Kind::Expectation, format!("both refuse it: {}", theirs.error))
        }
        (true, true) => effects(ours, theirs),
        (false, false) => {
            if let Some(field) = &case.refused
                && !field.is_empty()
                && !errors.iter().any(|error| is_about(&error.path, field))
            {
                return differ(Kind::Message, format!("nothing we say is about {field}: {}", reasons()));
            }
            // What is said of a document as a whole has no place; upstream may repeat the document then.
            let is_shared =
                errors.iter().any(|error| error.path.is_empty() || is_named(&theirs.error, &error.path));
            // Some messages of upstream's say nothing about where; then ours may only be better.
            if is_shared || !names_anything(&theirs.error, known) {
                return None;
            }
            differ(Kind::Message, format!("ours: {}, theirs: {}", reasons(), theirs.error))
        }
    }
}

fn effects(ours: &Verdict, theirs: &Verdict) -> Option<Difference> {
    if let Some(text) = unequal("", &ours.configuration, &theirs.configuration) {
        return Some(Difference { kind: Kind::Effect, text });
    }
    let overlooked = ours.findings.iter().any(|finding| {
        finding.message.starts_with("unknown field") || finding.message.starts_with("key is set twice")
    });
    if theirs.lenient && !overlooked {
        let text = "upstream warns of an unknown or repeated field, we do not".to_owned();
        return Some(Difference { kind: Kind::Message, text });
    }
    let is_missing = |subject: &&String| {
        !ours.findings.iter().any(|finding| finding.severity == "warning" && finding.path == **subject)
    };
    theirs.warnings.iter().find(is_missing).map(|subject| {
        let text = format!("upstream warns of {subject}, we do not");
        Difference { kind: Kind::Message, text }
    })
}

/// Whether a path is that of a field, or inside of it; flags have dashes in front.
fn is_about(path: &str, field: &str) -> bool {
    let path = path.trim_start_matches('-');
    path.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Whether a message names the last part of a path: `effect` of `registerWithTaints[0].effect`, or any part of it.
fn is_named(message: &str, path: &str) -> bool {
    let message = message.to_lowercase();
    let path = path.trim_start_matches('-').to_lowercase();
    path.split(['.', '[', ']']).any(|part| part.len() > 1 && message.contains(part))
        || message.contains(&format!("--{path}"))
}

fn names_anything(message: &str, known: &Description) -> bool {
    let message = message.split(", path: &TypeMeta").next().unwrap_or_default();
    // A field of one plain word could be just that word.
    let is_telling = |word: &str| word.bytes().any(|byte| byte.is_ascii_uppercase());
    let is_word = |word: &str| {
        (is_telling(word) && known.fields.iter().any(|field| field.name() == word))
            || known.flags.iter().any(|flag| word.strip_prefix("--") == Some(flag.name.as_str()))
    };
    message.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-').any(is_word)
}

/// Where and how two values differ.
fn unequal(at: &str, ours: &Value, theirs: &Value) -> Option<String> {
    match (ours, theirs) {
        (Value::Object(left), Value::Object(right)) => {
            let mut keys: Vec<&String> = left.keys().chain(right.keys()).collect();
            keys.sort();
            keys.dedup();
            keys.into_iter().find_map(|key| {
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
                unequal(&format!("{at}.{key}"), &of(left), &of(right))
            })
        }
        _ if ours == theirs => None,
        // One may write 1 for 1.0.
        (Value::Number(left), Value::Number(right)) if left.as_f64() == right.as_f64() => None,
        _ => Some(format!("{} is {ours} here and {theirs} there", at.trim_start_matches('.'))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_paths_and_values() {
        assert!(is_about("port", "port") && is_about("--port", "port") && is_about("a.b[0]", "a.b"));
        assert!(!is_about("ports", "port"));
        assert!(is_named("json: cannot unmarshal KubeletConfiguration.maxPods", "maxPods"));
        assert!(!is_named("time: invalid duration", "syncFrequency"));
        let value = |text| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(unequal("", &value(r#"{"a":1.0,"b":null}"#), &value(r#"{"a":1}"#)), None);
        assert_eq!(
            unequal("", &value(r#"{"a":{"b":[1]}}"#), &value(r#"{"a":{}}"#)).as_deref(),
            Some("a.b is [1] here and null there")
        );
    }
}
