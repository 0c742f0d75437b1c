//! `downwardAPI`: fields of the pod and resources of its containers as files.

use k8s_openapi::api::core::v1::DownwardAPIVolumeFile;
use model::AllocatedPod;
use model::downward::{self, PodFacts};

use super::FileDefaults;
use crate::error::SetUpError;
use crate::payload::Payload;

/// The files of a downward API volume.
pub(crate) fn payload(
    pod: &AllocatedPod,
    facts: &PodFacts,
    items: Option<&[DownwardAPIVolumeFile]>,
    defaults: FileDefaults,
) -> Result<Payload, SetUpError> {
    let mut payload = Payload::default();
    let mut errors = Vec::new();
    for item in items.unwrap_or_default() {
        let value = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => downward::field(pod, facts, &field.field_path),
            // In a volume the selector has to name its container; there is no default.
            (None, Some(resource)) => downward::resource(pod, facts, resource, ""),
            (None, None) => Ok(String::new()),
        };
        let inserted = value.map_err(SetUpError::from).and_then(|value| {
            Ok(payload.insert(&item.path, defaults.file(value.into_bytes(), item.mode, item.user))?)
        });
        errors.extend(inserted.err());
    }
    SetUpError::of_all(errors)?;
    Ok(payload)
}
