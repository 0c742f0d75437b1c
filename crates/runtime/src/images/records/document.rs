//! The records as documents: upstream's kubelet reads what is written here, and the other way round.

use std::collections::BTreeMap;
use std::fmt;

use golang::{hex, json};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

const INTENT: &str = "ImagePullIntent";
const RECORD: &str = "ImagePulledRecord";
/// What is written.
const CURRENT: &str = "kubelet.config.k8s.io/v1beta1";
/// What kubelets wrote before; its fields are the same.
const FORMER: &str = "kubelet.config.k8s.io/v1alpha1";

/// A file that holds no record. It does not show what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DocumentError {
    #[error("it is no JSON of that form")]
    Form,
    #[error("kind and apiVersion are not those of the record")]
    Kind,
}

/// A pull that was begun and has not ended, as far as is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Intent {
    kind: String,
    api_version: String,
    #[serde(default)]
    image: String,
}

/// An image that a kubelet has pulled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Record {
    kind: String,
    api_version: String,
    #[serde(default)]
    pub(super) last_updated_time: Option<Timestamp>,
    /// The image's id at the runtime.
    #[serde(default)]
    pub(super) image_ref: String,
    /// What it was pulled with, by the repositories it was pulled from: names as in pods, without tag and digest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) credential_mapping: BTreeMap<String, CredentialMapping>,
}

/// What has opened a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CredentialMapping {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) kubernetes_secrets: Vec<SecretCredential>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) kubernetes_service_accounts: Vec<AccountCredential>,
    /// It needs no credentials, or the node's own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) node_pods_accessible: bool,
}

/// A pull secret.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct SecretCredential {
    pub(super) uid: String,
    pub(super) namespace: String,
    pub(super) name: String,
    /// [`Credentials::digest`](crate::images::Credentials) of what was in it.
    pub(super) credential_hash: String,
}

/// Without the digest, from which a weak password could be guessed.
impl fmt::Debug for SecretCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "secret {}/{} {}", self.namespace, self.name, self.uid)
    }
}

/// A service account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct AccountCredential {
    pub(super) uid: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

/// A document that was read.
pub(super) struct Read<T> {
    pub(super) content: T,
    /// Whether it is in the form that is written now.
    pub(super) is_current: bool,
}

impl Record {
    /// Of an image nobody is known to have access to.
    pub(super) fn new(image_ref: &str) -> Self {
        Self {
            kind: RECORD.to_owned(),
            api_version: CURRENT.to_owned(),
            image_ref: image_ref.to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn decode(text: &[u8]) -> Result<Read<Self>, DocumentError> {
        let mut record: Self = parse(text)?;
        let is_current = version(RECORD, &record.kind, &record.api_version)?;
        CURRENT.clone_into(&mut record.api_version);
        Ok(Read { content: record, is_current })
    }

    pub(super) fn encode(&self) -> Result<String, serde_json::Error> {
        encode(self)
    }
}

/// The image that is being pulled.
pub(super) fn decode_intent(text: &[u8]) -> Result<Read<String>, DocumentError> {
    let intent: Intent = parse(text)?;
    let is_current = version(INTENT, &intent.kind, &intent.api_version)?;
    Ok(Read { content: intent.image, is_current })
}

pub(super) fn encode_intent(image: &str) -> Result<String, serde_json::Error> {
    encode(&Intent { kind: INTENT.to_owned(), api_version: CURRENT.to_owned(), image: image.to_owned() })
}

/// The name of the file about this image or image id.
pub(super) fn file_name(image: &str) -> String {
    FILE_PREFIX.to_owned() + &hex::encode(&Sha256::digest(image))
}

/// How names of such files begin.
const FILE_PREFIX: &str = "sha256-";

/// Whether a file of this name is a record: not one that was being written.
pub(super) fn is_record(file_name: &str) -> bool {
    file_name.starts_with(FILE_PREFIX) && !file_name.ends_with(".tmp")
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, DocumentError> {
    // The parser's error may quote what it read.
    serde_json::from_slice(text).map_err(|_| DocumentError::Form)
}

fn version(wanted: &str, kind: &str, api_version: &str) -> Result<bool, DocumentError> {
    match api_version {
        CURRENT if kind == wanted => Ok(true),
        FORMER if kind == wanted => Ok(false),
        _ => Err(DocumentError::Kind),
    }
}

fn encode(document: &impl Serialize) -> Result<String, serde_json::Error> {
    Ok(json::to_string(document)? + "\n")
}
