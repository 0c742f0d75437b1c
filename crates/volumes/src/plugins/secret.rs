//! `secret`: one file for each key, or for each chosen item, in memory only.

use k8s_openapi::api::core::v1::{KeyToPath, Secret};

use super::mode;
use crate::error::SetUpError;
use crate::objects::ObjectError;
use crate::payload::{FileContent, Payload};

/// The files of a secret. An optional one that is missing has none, and optional keys that are
/// missing are left out.
pub(crate) fn payload(
    found: Result<impl AsRef<Secret>, ObjectError>,
    items: Option<&[KeyToPath]>,
    default_mode: Option<i32>,
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
            let file = FileContent { data: bytes.0.clone(), mode: mode(None, default_mode), owner: None };
            payload.insert(key, file)?;
        }
        return Ok(payload);
    }
    for item in items {
        match data.and_then(|d| d.get(&item.key)) {
            Some(bytes) => {
                let file =
                    FileContent { data: bytes.0.clone(), mode: mode(item.mode, default_mode), owner: None };
                payload.insert(&item.path, file)?;
            }
            None if is_optional => {}
            None => return Err(SetUpError::NoSecretKey { key: item.key.clone() }),
        }
    }
    Ok(payload)
}
