//! `kubelet config kubeconfig`: what a kubeconfig comes to, or why no node starts with it.

use std::fmt::Write as _;
use std::path::Path;

use apiserver::{ConnectError, examine_kubeconfig};
use serde_json::{Value as Json, json};

use model::chain;

/// The text to print; as an error if the file cannot be used.
pub(crate) fn look_at(path: &Path, is_json: bool) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("kubelet: start a thread: {error}\n"))?;
    match runtime.block_on(examine_kubeconfig(path)) {
        Ok(facts) => {
            let facts = json!(facts);
            Ok(if is_json {
                format!("{}\n", json!({ "accepted": true, "findings": [], "configuration": facts }))
            } else {
                lines(&facts)
            })
        }
        Err(error) if is_json => {
            Err(format!("{}\n", json!({ "accepted": false, "findings": findings(&error) })))
        }
        Err(error) => Err(format!("{}\n", chain(&error))),
    }
}

fn findings(error: &ConnectError) -> Json {
    let finding =
        |path: &str, message: String| json!({ "severity": "error", "path": path, "message": message });
    match error {
        ConnectError::Contradictory { findings, .. } => {
            findings.iter().map(|one| finding(one.field, one.message.clone())).collect()
        }
        other => json!([finding("", chain(other))]),
    }
}

fn lines(facts: &Json) -> String {
    let mut text = String::new();
    for (name, value) in facts.as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}: {value}");
    }
    text
}
