//! From the bytes of a manifest to a static pod of this node.

use std::fmt::Write as _;
use std::path::Path;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Toleration;
use model::pod::{ANNOTATION_CONFIG_HASH, ANNOTATION_CONFIG_SEEN, ANNOTATION_CONFIG_SOURCE};
use model::{Pod, QosClass};
use serde_json::Value;
use thiserror::Error;

use crate::validate::{FieldError, errors, forbidden_reference};

/// Where a manifest was found.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The file or URL.
    pub place: Place<'a>,
    /// The node's name.
    pub node_name: &'a str,
    /// When it was first seen.
    pub seen: Timestamp,
    /// What feature gates say about manifests.
    pub gates: ManifestGates,
}

/// What feature gates say about manifests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ManifestGates {
    /// Whether HTTP probes and hooks get a default protocol (`H2CContainerProbe`).
    pub has_http_protocols: bool,
    /// Whether a pod may have a user namespace of its own on the host's network (`UserNamespacesHostNetworkSupport`).
    pub has_users_on_host_network: bool,
    /// Whether resources of a pod that name no amount are none to its QoS class (`PodLevelResourcesFixKubeletQOSClass`).
    pub has_no_empty_resources: bool,
}

/// A file or a URL.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// A file on this node.
    File(&'a Path),
    /// A web server's answer.
    Url(&'a str),
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
    #[error("expected a v1 {}, found {found}", if *.or_list { "Pod or PodList" } else { "Pod" })]
    Kind {
        /// Whether a list would do.
        or_list: bool,
        /// What it is.
        found: String,
    },
    /// A field has the wrong type.
    #[error("not a pod")]
    Shape(#[source] serde_json::Error),
    /// No `metadata.name`.
    #[error("name is needed for the pod")]
    NoName,
    /// It breaks rules of the Pod API.
    #[error("invalid pod: {}", join(.0))]
    Invalid(Vec<FieldError>),
    /// It needs an object from the API server, which a static pod must not.
    #[error("static pods may not reference {0}")]
    Reference(&'static str),
}

fn join(errors: &[FieldError]) -> String {
    let mut text = String::new();
    for error in errors {
        let _ = write!(text, "{}{error}", if text.is_empty() { "" } else { "; " });
    }
    text
}

/// Longest uid of a static pod, bytes: with the pod's name beside it a folder of logs is to have a name that fits.
const MAX_UID: usize = 64;

/// Reads a manifest: YAML (of which JSON is a part), one Pod; of several documents the first counts.
///
/// # Errors
/// Why it is not a static pod this node can run.
pub fn parse(bytes: &[u8], origin: Origin<'_>) -> Result<Pod, ManifestError> {
    let value = document(bytes)?;
    check_kind(&value, false)?;
    pod(&value, origin)
}

/// The same for an answer that may as well be a list of pods (`PodList`): all of them, or none.
///
/// # Errors
/// Why one is not a static pod this node can run.
pub(crate) fn parse_all(bytes: &[u8], origin: Origin<'_>) -> Result<Vec<Pod>, ManifestError> {
    let value = document(bytes)?;
    check_kind(&value, true)?;
    match value.get("items") {
        Some(Value::Array(items)) if value["kind"] == "PodList" => {
            items.iter().map(|item| pod(item, origin)).collect()
        }
        _ if value["kind"] == "PodList" => Ok(Vec::new()),
        _ => Ok(vec![pod(&value, origin)?]),
    }
}

fn pod(value: &Value, origin: Origin<'_>) -> Result<Pod, ManifestError> {
    let mut pod = typed(value)?;
    if pod.metadata.name.as_deref().unwrap_or_default().is_empty() {
        return Err(ManifestError::NoName);
    }
    crate::defaults::apply(&mut pod, origin.gates.has_http_protocols);
    make_static(&mut pod, origin)?;
    let errors = errors(&pod, origin.gates);
    if !errors.is_empty() {
        return Err(ManifestError::Invalid(errors));
    }
    if let Some(what) = forbidden_reference(&pod) {
        return Err(ManifestError::Reference(what));
    }
    let class = QosClass::with_empty_resources(&pod);
    if !origin.gates.has_no_empty_resources && class != QosClass::of(&pod) {
        // Of other pods the API server says which class they are of, and everybody goes by that.
        pod.status.get_or_insert_default().qos_class = Some(class.as_str().to_owned());
    }
    Ok(pod)
}

fn typed(value: &Value) -> Result<Pod, ManifestError> {
    // By way of text, so that the pod's type is compiled for one kind of reader only.
    let text = serde_json::to_vec(value).map_err(ManifestError::Shape)?;
    serde_json::from_slice(&text).map_err(ManifestError::Shape)
}

fn untyped(pod: &Pod) -> Result<Value, ManifestError> {
    // By way of text as well.
    let text = serde_json::to_vec(pod).map_err(ManifestError::Shape)?;
    serde_json::from_slice(&text).map_err(ManifestError::Shape)
}

/// A pod as it is written, without defaults and whether or not it may run.
#[cfg(test)]
pub(crate) fn decode(bytes: &[u8]) -> Result<Pod, ManifestError> {
    typed(&document(bytes)?)
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

fn check_kind(value: &Value, or_list: bool) -> Result<(), ManifestError> {
    let field = |name| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (field("apiVersion"), field("kind"));
    if (version, kind) == ("v1", "Pod") || (or_list && (version, kind) == ("v1", "PodList")) {
        return Ok(());
    }
    let found = match (version, kind) {
        _ if !value.is_object() => "something that is not an object".to_owned(),
        ("", "") => "an object without apiVersion and kind".to_owned(),
        (_, "") => "an object without kind".to_owned(),
        ("", kind) => format!("a {kind} without apiVersion"),
        (version, kind) => format!("{version} {kind}"),
    };
    Err(ManifestError::Kind { or_list, found })
}

/// What tells a static pod of this node from the manifest it came from.
fn make_static(pod: &mut Pod, origin: Origin<'_>) -> Result<(), ManifestError> {
    if pod.metadata.uid.as_deref().unwrap_or_default().is_empty() {
        pod.metadata.uid = Some(crate::uid::of(&untyped(pod)?, origin));
    }
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    if !is_plain_name(&uid) {
        // Upstream takes any and lets it lead out of its folders.
        let problem = "names folders and cgroups, so letters, digits, '-', '_' and '.' make it up".to_owned();
        return Err(ManifestError::Invalid(vec![FieldError { field: "metadata.uid".to_owned(), problem }]));
    }
    let name = pod.metadata.name.get_or_insert_default();
    *name = format!("{name}-{}", origin.node_name.to_lowercase());
    if pod.metadata.namespace.as_deref().unwrap_or_default().is_empty() {
        pod.metadata.namespace = Some("default".to_owned());
    }
    let source = match origin.place {
        Place::File(_) => "file",
        Place::Url(_) => "http",
    };
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(ANNOTATION_CONFIG_HASH.to_owned(), uid);
    annotations.insert(ANNOTATION_CONFIG_SOURCE.to_owned(), source.to_owned());
    annotations.insert(ANNOTATION_CONFIG_SEEN.to_owned(), origin.seen.to_string());
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(origin.node_name.to_owned());
    // As upstream: what comes from a URL may be evicted by a taint.
    if matches!(origin.place, Place::File(_)) {
        tolerate_no_execute(spec.tolerations.get_or_insert_default());
    }
    pod.status.get_or_insert_default().phase = Some("Pending".to_owned());
    Ok(())
}

/// Whether it can name a folder and stay where it is put.
fn is_plain_name(uid: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    uid.bytes().all(is_plain) && uid.len() <= MAX_UID && uid != "." && uid != ".."
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

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "manifest_edge_tests.rs"]
mod edge_tests;
