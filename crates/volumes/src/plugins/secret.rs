//! `secret`: one file for each key, or for each chosen item, in memory only.

use k8s_openapi::api::core::v1::{KeyToPath, Secret};

use super::FileDefaults;
use crate::error::SetUpError;
use crate::objects::ObjectError;
use crate::payload::Payload;

/// The files of a secret. An optional one that is missing has none, and optional keys that are
/// missing are left out.
pub(crate) fn payload(
    found: Result<impl AsRef<Secret>, ObjectError>,
    items: Option<&[KeyToPath]>,
    defaults: FileDefaults,
    is_optional: bool,
) -> Result<Payload, SetUpError> {
    let secret = match found {
        Ok(secret) => Some(secret),
        Err(ObjectError::NotFound { .. }) if is_optional => None,
        Err(error) => return Err(error.into()),
    };
    let data = secret.as_ref().and_then(|s| s.as_ref().data.as_ref());
    let mut payload = Payload::default();
    let items = items.unwrap_or_default();
    if items.is_empty() {
        for (key, bytes) in data.into_iter().flatten() {
            payload.insert(key, defaults.file(bytes.0.clone(), None, None))?;
        }
        return Ok(payload);
    }
    for item in items {
        match data.and_then(|d| d.get(&item.key)) {
            Some(bytes) => {
                payload.insert(&item.path, defaults.file(bytes.0.clone(), item.mode, item.user))?;
            }
            None if is_optional => {}
            None => return Err(SetUpError::NoSecretKey { key: item.key.clone() }),
        }
    }
    Ok(payload)
}
