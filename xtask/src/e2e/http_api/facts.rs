//! What an answer comes to: facts that can be compared one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use anyhow::Result;
use http::HeaderMap;
use serde_json::Value;

use super::client::Answer;
use super::request::{Case, Compare};

/// What is known about an answer: `status`, `header NAME`, `text`, `field PATH`, `family NAME`, `labels NAME`.
pub(super) type Facts = BTreeMap<String, String>;

/// Headers that say how the answer is transferred, or when, and not what it is.
const TRANSFER: &[&str] = &["connection", "content-length", "date", "transfer-encoding", "keep-alive"];
/// Headers whose value is another one each time.
const EACH_TIME: &[&str] = &["last-modified", "process-start-time-unix", "sec-websocket-accept"];
/// Pods whose containers come and go: which state they are in is a matter of the moment.
const RESTLESS: &str = "crashes";

/// The facts of an answer.
pub(super) fn of(case: &Case, answer: &Result<Answer>, namespace: &str) -> Facts {
    let mut facts = Facts::new();
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            // The chain's first part says at which step; the rest depends on the moment.
            facts.insert("status".to_owned(), format!("none: {error:#}"));
            return facts;
        }
    };
    facts.insert("status".to_owned(), answer.status.as_u16().to_string());
    headers(&answer.headers, &mut facts);
    if case.compare == Compare::Head {
        return facts;
    }
    let body = unzip(&answer.headers, &answer.body);
    let text = String::from_utf8_lossy(&body);
    let kind = answer.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_metrics = case.path.starts_with("/metrics") && text.contains("# TYPE ");
    match serde_json::from_str::<Value>(&text) {
        Ok(mut value) if value.is_object() && kind.starts_with("application/json") => {
            keep_namespace(&mut value, namespace);
            fields(&value, "", case.compare == Compare::Values, &mut facts);
            facts.retain(|fact, _| !is_restless(&case.path, fact));
        }
        _ if is_metrics => metrics(&text, &mut facts),
        _ => {
            facts.insert("text".to_owned(), text.into_owned());
        }
    }
    facts
}

fn headers(headers: &HeaderMap, facts: &mut Facts) {
    for name in headers.keys().map(http::HeaderName::as_str).filter(|name| !TRANSFER.contains(name)) {
        let values: Vec<_> =
            headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        let value = if EACH_TIME.contains(&name) { "any".to_owned() } else { values.join(" | ") };
        facts.insert(format!("header {name}"), value);
    }
}

fn unzip(headers: &HeaderMap, body: &[u8]) -> Vec<u8> {
    if headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
        let mut text = Vec::new();
        if flate2::read::GzDecoder::new(body).read_to_end(&mut text).is_ok() {
            return text;
        }
    }
    body.to_vec()
}

/// Whether a fact is about what comes and goes: its state, that it runs, what it uses.
fn is_restless(path: &str, fact: &str) -> bool {
    let Some((_, field)) = fact.split_once(&format!("[{RESTLESS}].")) else { return false };
    path.starts_with("/stats")
        || path.starts_with("/runningpods") && field.starts_with("spec.")
        || field.starts_with("status.containerStatuses")
}

/// Drops list items of other namespaces: pods of other scenarios that are on their way out.
fn keep_namespace(value: &mut Value, namespace: &str) {
    match value {
        Value::Array(items) => {
            items.retain(|item| {
                let of = item["metadata"]["namespace"].as_str().or(item["podRef"]["namespace"].as_str());
                of.is_none_or(|of| of == namespace)
            });
            items.iter_mut().for_each(|item| keep_namespace(item, namespace));
        }
        Value::Object(fields) => fields.values_mut().for_each(|field| keep_namespace(field, namespace)),
        _ => {}
    }
}

/// A fact for each field: its path and type, or its value.
fn fields(value: &Value, path: &str, has_values: bool, facts: &mut Facts) {
    match value {
        Value::Object(all) if !all.is_empty() => {
            for (name, value) in all {
                if name == "managedFields" {
                    // Hundreds of fields that say nothing about a kubelet.
                    facts.insert(format!("field {path}.{name}"), "list".to_owned());
                    continue;
                }
                fields(value, &format!("{path}.{name}"), has_values, facts);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                let key =
                    item_name(item).unwrap_or(if has_values { index.to_string() } else { String::new() });
                fields(item, &format!("{path}[{key}]"), has_values, facts);
            }
        }
        _ => {
            let kind = match value {
                Value::Null => "null",
                Value::Bool(_) => "bool",
                Value::Number(_) => "number",
                Value::String(_) => "string",
                Value::Array(_) => "empty list",
                Value::Object(_) => "empty object",
            };
            let fact = if has_values { value.to_string() } else { kind.to_owned() };
            facts.insert(format!("field {path}"), fact);
        }
    }
}

/// What tells one item of a list from the others.
fn item_name(item: &Value) -> Option<String> {
    let name = item["metadata"]["name"].as_str().or(item["podRef"]["name"].as_str());
    name.or(item["name"].as_str()).or(item["type"].as_str()).map(str::to_owned)
}

/// A fact for each metric: its type, and the sets of label names it is used with.
fn metrics(text: &str, facts: &mut Facts) {
    let mut labels: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            if let Some((name, kind)) = rest.split_once(' ') {
                facts.insert(format!("family {name}"), kind.to_owned());
            }
        } else if !line.starts_with('#') && !line.is_empty() {
            let end = line.find(['{', ' ']).unwrap_or(line.len());
            labels.entry(&line[..end]).or_default().insert(label_names(&line[end..]));
        }
    }
    for (name, sets) in labels {
        let sets: Vec<String> = sets.into_iter().collect();
        facts.insert(format!("labels {name}"), sets.join(" | "));
    }
}

/// The names of the labels in `{name="value",other="with \" and ,"} 1`, in order.
fn label_names(text: &str) -> String {
    let mut names = Vec::new();
    let mut rest = text.strip_prefix('{').unwrap_or_default();
    while let Some((name, after)) = rest.split_once("=\"") {
        names.push(name.trim_start_matches(',').to_owned());
        let mut is_escaped = false;
        let end = after.find(|c| {
            let is_end = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            is_end
        });
        rest = end.map_or("", |end| &after[end + 1..]);
        if rest.starts_with('}') {
            break;
        }
    }
    names.sort();
    names.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_names_survive_odd_values() {
        for (text, names) in
            [(" 1", ""), ("{} 1", ""), (r#"{b="x",a="y"} 1"#, "a,b"), (r#"{a="\",c=\"}{",b="\\"} 1"#, "a,b")]
        {
            assert_eq!(label_names(text), names, "{text}");
        }
    }

    #[test]
    fn what_comes_and_goes_is_not_compared() {
        for (path, fact, is) in [
            ("/pods", "field .items[crashes].status.containerStatuses[main].ready", true),
            ("/pods", "field .items[crashes].status.phase", false),
            ("/pods", "field .items[running].status.containerStatuses[main].ready", false),
            ("/pods", "field .items[crashes].spec.containers[main].name", false),
            ("/runningpods/", "field .items[crashes].spec.containers[main].name", true),
            ("/stats/summary", "field .pods[crashes].cpu.time", true),
        ] {
            assert_eq!(is_restless(path, fact), is, "{path} {fact}");
        }
    }

    #[test]
    fn fields_are_named_by_what_tells_them_apart() {
        let value = serde_json::json!({ "items": [
            { "metadata": { "name": "a", "namespace": "n" }, "status": { "conditions": [{ "type": "Ready" }] } },
            { "metadata": { "name": "b", "namespace": "other" } },
        ], "list": [1, 2] });
        let mut kept = value;
        keep_namespace(&mut kept, "n");
        let mut facts = Facts::new();
        fields(&kept, "", false, &mut facts);
        let names: Vec<&str> = facts.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "field .items[a].metadata.name",
                "field .items[a].metadata.namespace",
                "field .items[a].status.conditions[Ready].type",
                "field .list[]",
            ]
        );
    }
}
