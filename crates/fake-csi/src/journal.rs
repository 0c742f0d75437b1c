//! Records of the calls for volumes: what was asked, and what CSI forbids to ask.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use plugins::wire::csi::VolumeCapability;
use plugins::wire::csi::volume_capability::AccessType;
use serde_json::{Value, json};
use tonic::Status;

/// Secrets with such a beginning are a test's own, and shown.
const MARKER: &str = "marker-";
/// The attribute that has the tokens of a pod's service account.
const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

/// The records of one process.
#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<Records>);

#[derive(Debug, Default)]
struct Records {
    /// Of each request its call, its volume and the rest, in their order.
    requests: Vec<(&'static str, String, Value)>,
    wrong: Vec<String>,
    /// The volumes that a call is under way for.
    busy: BTreeSet<String>,
}

/// A call for a volume that is under way.
pub(crate) struct UnderWay<'a> {
    journal: &'a Journal,
    volume: String,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.journal.records().busy.remove(&self.volume);
    }
}

impl Journal {
    fn records(&self) -> MutexGuard<'_, Records> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request. A node is to have one call for a volume under way.
    pub(crate) fn begin(
        &self,
        call: &'static str,
        volume: &str,
        request: Value,
    ) -> Result<UnderWay<'_>, Status> {
        let mut records = self.records();
        records.requests.push((call, volume.to_owned(), request));
        if !records.busy.insert(volume.to_owned()) {
            records.wrong.push(format!("{call} of {volume} while another call for it is under way"));
            return Err(Status::aborted("another call for the volume is under way"));
        }
        drop(records);
        Ok(UnderWay { journal: self, volume: volume.to_owned() })
    }

    /// Notes a request that may come beside others.
    pub(crate) fn note(&self, call: &'static str, volume: &str, request: Value) {
        self.records().requests.push((call, volume.to_owned(), request));
    }

    /// Notes what is forbidden.
    pub(crate) fn forbidden(&self, what: &str) -> Status {
        self.records().wrong.push(what.to_owned());
        Status::failed_precondition(what)
    }

    /// All that was forbidden.
    pub(crate) fn wrong(&self) -> String {
        self.records().wrong.join("; ")
    }

    /// The calls for volumes, or for one, in their order: `CALL:VOLUME CALL:VOLUME`.
    pub(crate) fn calls(&self, volume: Option<&str>) -> String {
        let records = self.records();
        let chosen = records.requests.iter().filter(|(_, of, _)| volume.is_none_or(|volume| volume == of));
        chosen.map(|(call, of, _)| format!("{call}:{of}")).collect::<Vec<_>>().join(" ")
    }

    /// The last request of a kind, as JSON in one line.
    pub(crate) fn last(&self, call: &str) -> Option<String> {
        let records = self.records();
        let found = records.requests.iter().rev().find(|(of, _, _)| *of == call);
        found.map(|(_, _, request)| request.to_string())
    }
}

/// How a volume is to be used, for the records.
pub(crate) fn shown_use(capability: Option<&VolumeCapability>) -> Value {
    let mode = capability.and_then(|capability| capability.access_mode).map(|mode| mode.mode());
    let mode = mode.map(|mode| mode.as_str_name());
    match capability.and_then(|capability| capability.access_type.as_ref()) {
        Some(AccessType::Mount(mount)) => json!({
            "mode": mode,
            "fsType": mount.fs_type,
            "flags": mount.mount_flags,
            "group": mount.volume_mount_group,
        }),
        Some(AccessType::Block(_)) => json!({ "mode": mode, "block": true }),
        None => json!({ "mode": mode }),
    }
}

/// Secrets for the records: their names, and values that are a test's own.
pub(crate) fn shown_secrets(secrets: &BTreeMap<String, String>) -> Value {
    let shown = |value: &String| if value.starts_with(MARKER) { value.clone() } else { "hidden".to_owned() };
    secrets.iter().map(|(key, value)| (key.clone(), json!(shown(value)))).collect()
}

/// Attributes for the records: of tokens their audiences.
pub(crate) fn shown_attributes(attributes: &BTreeMap<String, String>) -> Value {
    let shown = |key: &String, value: &String| {
        if key != TOKENS {
            return json!(value);
        }
        let tokens: BTreeMap<String, Value> = serde_json::from_str(value).unwrap_or_default();
        json!(tokens.into_keys().collect::<Vec<_>>())
    };
    attributes.iter().map(|(key, value)| (key.clone(), shown(key, value))).collect()
}
