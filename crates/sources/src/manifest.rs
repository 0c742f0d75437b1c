//! From the bytes of a manifest to a static pod of this node.

use std::fmt::Write as _;
use std::path::Path;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Toleration;
use model::Pod;
use model::pod::{ANNOTATION_CONFIG_HASH, ANNOTATION_CONFIG_SEEN, ANNOTATION_CONFIG_SOURCE};
use serde_json::Value;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::validate::{Flaw, flaws, forbidden_reference};

/// Where a manifest was found.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The file.
    pub path: &'a Path,
    /// The node's name.
    pub node_name: &'a str,
    /// When it was first seen.
    pub seen: Timestamp,
}

/// A manifest that is not a static pod. The file's name is added by whoever read it.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// Not YAML or JSON.
    #[error("not YAML: {0}")]
    Yaml(String),
    /// Empty.
    #[error("no document in it")]
    Empty,
    /// Something else than a v1 Pod.
    #[error("expected a v1 Pod, found {0}")]
    Kind(String),
    /// A field has the wrong type.
    #[error("not a pod")]
    Shape(#[source] serde_json::Error),
    /// No `metadata.name`.
    #[error("name is needed for the pod")]
    NoName,
    /// It breaks rules of the Pod API.
    #[error("invalid pod: {}", join(.0))]
    Invalid(Vec<Flaw>),
    /// It needs an object from the API server, which a static pod must not.
    #[error("static pods may not reference {0}")]
    Reference(&'static str),
}

fn join(flaws: &[Flaw]) -> String {
    let mut text = String::new();
    for flaw in flaws {
        let _ = write!(text, "{}{flaw}", if text.is_empty() { "" } else { "; " });
    }
    text
}

/// Reads a manifest: YAML (of which JSON is a part), one Pod; of several documents the first counts.
///
/// # Errors
/// Why it is not a static pod this node can run.
pub fn parse(bytes: &[u8], origin: Origin<'_>) -> Result<Pod, ManifestError> {
    let value = document(bytes)?;
    check_kind(&value)?;
    // By way of text, so that the pod's type is compiled for one kind of reader only.
    let text = serde_json::to_vec(&value).map_err(ManifestError::Shape)?;
    let mut pod: Pod = serde_json::from_slice(&text).map_err(ManifestError::Shape)?;
    if pod.metadata.name.as_deref().unwrap_or_default().is_empty() {
        return Err(ManifestError::NoName);
    }
    crate::defaults::apply(&mut pod);
    make_static(&mut pod, origin)?;
    let flaws = flaws(&pod);
    if !flaws.is_empty() {
        return Err(ManifestError::Invalid(flaws));
    }
    match forbidden_reference(&pod) {
        Some(what) => Err(ManifestError::Reference(what)),
        None => Ok(pod),
    }
}

fn document(bytes: &[u8]) -> Result<Value, ManifestError> {
    let text = std::str::from_utf8(bytes).map_err(|error| ManifestError::Yaml(error.to_string()))?;
    // JSON as is: faster, and its errors are better.
    if text.trim_start().starts_with('{')
        && let Ok(value) = serde_json::from_str(text)
    {
        return Ok(value);
    }
    // As upstream reads YAML: 0400 is a file's mode, of two equal keys the last counts, and what
    // follows the first document is not looked at. Errors go to the log: no lines of the file,
    // which may hold passwords.
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        with_snippet: false,
        // The caller has a limit of its own.
        budget: serde_saphyr::budget! { max_reader_input_bytes: None },
    };
    let mut reader = text.as_bytes();
    for document in serde_saphyr::read_with_options::<_, Value>(&mut reader, options) {
        let document = document.map_err(|error| ManifestError::Yaml(error.to_string()))?;
        if !document.is_null() {
            return Ok(document);
        }
    }
    Err(ManifestError::Empty)
}

fn check_kind(value: &Value) -> Result<(), ManifestError> {
    let field = |name| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (field("apiVersion"), field("kind"));
    if (version, kind) == ("v1", "Pod") {
        return Ok(());
    }
    let found = match (version, kind) {
        _ if !value.is_object() => "something that is not an object".to_owned(),
        ("", "") => "an object without apiVersion and kind".to_owned(),
        (_, "") => "an object without kind".to_owned(),
        ("", kind) => format!("a {kind} without apiVersion"),
        (version, kind) => format!("{version} {kind}"),
    };
    Err(ManifestError::Kind(found))
}

/// What tells a static pod of this node from the manifest it came from.
fn make_static(pod: &mut Pod, origin: Origin<'_>) -> Result<(), ManifestError> {
    if pod.metadata.uid.as_deref().unwrap_or_default().is_empty() {
        pod.metadata.uid = Some(uid_of(pod, origin)?);
    }
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let name = pod.metadata.name.get_or_insert_default();
    *name = format!("{name}-{}", origin.node_name.to_lowercase());
    if pod.metadata.namespace.as_deref().unwrap_or_default().is_empty() {
        pod.metadata.namespace = Some("default".to_owned());
    }
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(ANNOTATION_CONFIG_HASH.to_owned(), uid);
    annotations.insert(ANNOTATION_CONFIG_SOURCE.to_owned(), "file".to_owned());
    annotations.insert(ANNOTATION_CONFIG_SEEN.to_owned(), origin.seen.to_string());
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(origin.node_name.to_owned());
    tolerate_no_execute(spec.tolerations.get_or_insert_default());
    pod.status.get_or_insert_default().phase = Some("Pending".to_owned());
    Ok(())
}

/// Static pods stay when the node has problems.
fn tolerate_no_execute(tolerations: &mut Vec<Toleration>) {
    let wanted = Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    };
    let same = |other: &&mut Toleration| {
        other.key.as_deref().unwrap_or_default().is_empty()
            && other.effect == wanted.effect
            && other.operator == wanted.operator
    };
    match tolerations.iter_mut().find(same) {
        Some(there) => *there = wanted,
        None => tolerations.push(wanted),
    }
}

/// 32 hexadecimal digits over the pod, the node and the file: the same as long as all three are,
/// across restarts, whatever comments or spacing change. A changed pod is another pod.
fn uid_of(pod: &Pod, origin: Origin<'_>) -> Result<String, ManifestError> {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(pod).map_err(ManifestError::Shape)?);
    hash.update(format!("host:{}", origin.node_name));
    hash.update(b"file:");
    hash.update(origin.path.as_os_str().as_encoded_bytes());
    let mut uid = String::with_capacity(32);
    for byte in hash.finalize().iter().take(16) {
        let _ = write!(uid, "{byte:02x}");
    }
    Ok(uid)
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "manifest_edge_tests.rs"]
mod edge_tests;
