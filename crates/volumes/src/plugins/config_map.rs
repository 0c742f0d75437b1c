//! `configMap`: one file for each key, or for each chosen item.

use k8s_openapi::api::core::v1::{ConfigMap, KeyToPath};

use super::FileDefaults;
use crate::error::SetUpError;
use crate::objects::ObjectError;
use crate::payload::Payload;

/// The files of a config map. An optional one that is missing has none, and optional keys that
/// are missing are left out.
pub(crate) fn payload(
    found: Result<impl AsRef<ConfigMap>, ObjectError>,
    items: Option<&[KeyToPath]>,
    defaults: FileDefaults,
    is_optional: bool,
) -> Result<Payload, SetUpError> {
    let map = match found {
        Ok(map) => Some(map),
        Err(ObjectError::NotFound { .. }) if is_optional => None,
        Err(error) => return Err(error.into()),
    };
    let map = map.as_ref().map(AsRef::as_ref);
    let mut payload = Payload::default();
    let items = items.unwrap_or_default();
    if items.is_empty() {
        for (key, text) in map.iter().flat_map(|m| m.data.iter().flatten()) {
            payload.insert(key, defaults.file(text.as_bytes().to_vec(), None, None))?;
        }
        for (key, bytes) in map.iter().flat_map(|m| m.binary_data.iter().flatten()) {
            payload.insert(key, defaults.file(bytes.0.clone(), None, None))?;
        }
        return Ok(payload);
    }
    for item in items {
        let text = map.and_then(|m| m.data.as_ref()?.get(&item.key)).map(|t| t.as_bytes());
        let bytes = || map.and_then(|m| m.binary_data.as_ref()?.get(&item.key)).map(|b| b.0.as_slice());
        match text.or_else(bytes) {
            Some(content) => {
                payload.insert(&item.path, defaults.file(content.to_vec(), item.mode, item.user))?;
            }
            None if is_optional => {}
            None => return Err(SetUpError::NoConfigKey { key: item.key.clone() }),
        }
    }
    Ok(payload)
}
