//! The resources of pods: what they were granted (`allocated_pods_state`), and what was applied of that
//! (`actuated_pods_state`), both of one form.
//!
//! ```text
//! {"data":"{\"entries\":{\"<uid>\":{\"ContainerResources\":{…},\"PodLevelResources\":…}}}","checksum":1234567890}
//! ```
//!
//! The checksum is the hash FNV-1a, of 32 bits, of the data as Go's library `spew` dumps a text. Amounts are in their
//! canonical form.

use std::collections::BTreeMap;
use std::sync::Arc;

use golang::quantity::Quantity as Amount;
use golang::{fnv, json, spew};
use k8s_openapi::api::core::v1::{ResourceClaim, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use model::PodUid;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::Damaged;

/// What is written down of pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PodsState {
    /// Their resources.
    pub pods: BTreeMap<PodUid, Entry>,
}

/// The resources of one pod as they are written, with amounts in their canonical form: two that are written alike are equal.
/// They are kept as a text, which takes a tenth of the memory that the maps in it take, and is put into the file as it is.
#[derive(Clone, Debug)]
pub struct Entry(Arc<RawValue>);

/// The resources of one pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodResources {
    /// Of its containers whose resources may change while it runs, by name; empty ones of those without any.
    pub containers: BTreeMap<String, ResourceRequirements>,
    /// Of the pod as a whole (KEP-5419).
    pub pod: Option<ResourceRequirements>,
    /// How large its volumes in memory may get, by name, as far as they have limits.
    pub volume_limits: BTreeMap<String, Quantity>,
}

impl PodsState {
    /// Reads a file.
    ///
    /// # Errors
    /// Upstream would refuse it as well.
    pub fn read(content: &[u8]) -> Result<Self, Damaged> {
        let Sealed { data, checksum } = object(content)?.unwrap_or_default();
        let expected = checksum_of(&data);
        if checksum != expected {
            return Err(Damaged::Checksum { found: checksum, expected });
        }
        let Data { entries } = object(data.as_bytes())?.unwrap_or_default();
        let entries: BTreeMap<PodUid, Fields> = entries.unwrap_or_default();
        Ok(Self { pods: entries.into_iter().map(|(uid, pod)| (uid, Entry::of(&pod))).collect() })
    }

    /// The content of the file.
    ///
    /// # Errors
    /// None is known: a document of texts and numbers can be written.
    pub fn write(&self) -> Result<Vec<u8>, serde_json::Error> {
        let entries: BTreeMap<_, _> = self.pods.iter().map(|(uid, Entry(json))| (uid, &**json)).collect();
        let data = json::to_string(&Data { entries: Some(entries).filter(|all| !all.is_empty()) })?;
        let checksum = checksum_of(&data);
        json::to_string(&Sealed { data, checksum }).map(String::into_bytes)
    }
}

impl Entry {
    /// What is written of these.
    #[must_use]
    pub fn new(resources: &PodResources) -> Self {
        Self::of(&resources.into())
    }

    /// What is read from it.
    #[must_use]
    pub fn resources(&self) -> PodResources {
        serde_json::from_str::<Fields>(self.0.get()).unwrap_or_default().into()
    }

    /// Texts and numbers can be put in words, and be read again: no error is known of.
    fn of(fields: &Fields) -> Self {
        let json = json::to_string(fields).and_then(RawValue::from_string);
        Self(json.unwrap_or_else(|_| RawValue::NULL.to_owned()).into())
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

/// For a recording, which is no place for what is put into it as it is.
impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.get())
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        serde_json::from_str(&text).map(|fields| Self::of(&fields)).map_err(D::Error::custom)
    }
}

/// The file.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Sealed {
    #[serde(deserialize_with = "nullable")]
    data: String,
    #[serde(deserialize_with = "nullable")]
    checksum: u64,
}

/// What stands in braces, or nothing for null. Lists, which serde takes for structures as well, do not.
fn object<T: DeserializeOwned>(text: &[u8]) -> Result<Option<T>, serde_json::Error> {
    if text.trim_ascii_start().first() == Some(&b'[') {
        return Err(serde_json::Error::custom("a list, where fields with names were expected"));
    }
    serde_json::from_slice(text)
}

fn checksum_of(data: &str) -> u64 {
    let mut hash = fnv::Hash32::default();
    // Hashing does not fail.
    let _ = spew::text(data, &mut hash);
    u64::from(hash.value())
}

/// What is in it as a text.
#[derive(Serialize, Deserialize)]
#[serde(default)]
struct Data<T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<T>,
}

impl<T> Default for Data<T> {
    fn default() -> Self {
        Self { entries: None }
    }
}

/// One pod. In Go, it has no names of its own for its fields.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Fields {
    #[serde(deserialize_with = "nullable")]
    container_resources: BTreeMap<String, Requirements>,
    pod_level_resources: Option<Requirements>,
    empty_dir_volume_limits: Option<BTreeMap<String, Option<CanonicalAmount>>>,
}

/// `v1.ResourceRequirements`, in the order in which Go declares its fields.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Requirements {
    #[serde(deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    limits: BTreeMap<String, CanonicalAmount>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    requests: BTreeMap<String, CanonicalAmount>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    claims: Vec<Claim>,
}

/// `v1.ResourceClaim`.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Claim {
    #[serde(deserialize_with = "nullable")]
    name: String,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    request: String,
}

/// An amount in its canonical form.
struct CanonicalAmount(String);

impl From<Quantity> for CanonicalAmount {
    fn from(amount: Quantity) -> Self {
        Self(Amount::of(&amount.0).canonical())
    }
}

impl Serialize for CanonicalAmount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// As Go reads it: a text between quotes or a number, whatever is written there, and null for zero.
impl<'de> Deserialize<'de> for CanonicalAmount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Box::<RawValue>::deserialize(deserializer)?;
        let text = match written.get() {
            "null" => "0",
            text => text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text),
        };
        let amount = Amount::parse(text).ok_or_else(|| D::Error::custom(format!("{text:?} is no amount")))?;
        Ok(Self(amount.canonical()))
    }
}

/// What is null is as if it were not there, in Go.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl From<&PodResources> for Fields {
    fn from(pod: &PodResources) -> Self {
        let limits: BTreeMap<_, _> = pod
            .volume_limits
            .iter()
            .map(|(name, limit)| (name.clone(), Some(limit.clone().into())))
            .collect();
        Self {
            container_resources: pod
                .containers
                .iter()
                .map(|(name, resources)| (name.clone(), resources.into()))
                .collect(),
            pod_level_resources: pod.pod.as_ref().map(Requirements::from),
            empty_dir_volume_limits: Some(limits).filter(|limits| !limits.is_empty()),
        }
    }
}

impl From<Fields> for PodResources {
    fn from(entry: Fields) -> Self {
        let limits = entry.empty_dir_volume_limits.unwrap_or_default();
        Self {
            containers: entry
                .container_resources
                .into_iter()
                .map(|(name, resources)| (name, resources.into()))
                .collect(),
            pod: entry.pod_level_resources.map(Requirements::into),
            volume_limits: limits
                .into_iter()
                .filter_map(|(name, limit)| Some((name, limit?.into())))
                .collect(),
        }
    }
}

impl From<&ResourceRequirements> for Requirements {
    fn from(resources: &ResourceRequirements) -> Self {
        let amounts = |list: &Option<BTreeMap<String, Quantity>>| {
            list.iter().flatten().map(|(name, amount)| (name.clone(), amount.clone().into())).collect()
        };
        let claim = |claim: &ResourceClaim| Claim {
            name: claim.name.clone(),
            request: claim.request.clone().unwrap_or_default(),
        };
        Self {
            limits: amounts(&resources.limits),
            requests: amounts(&resources.requests),
            claims: resources.claims.iter().flatten().map(claim).collect(),
        }
    }
}

impl From<Requirements> for ResourceRequirements {
    fn from(resources: Requirements) -> Self {
        let amounts = |list: BTreeMap<String, CanonicalAmount>| {
            let amounts = list.into_iter().map(|(name, amount)| (name, amount.into()));
            Some(amounts.collect::<BTreeMap<_, _>>()).filter(|list| !list.is_empty())
        };
        let claim = |claim: Claim| ResourceClaim {
            name: claim.name,
            request: Some(claim.request).filter(|request| !request.is_empty()),
        };
        Self {
            limits: amounts(resources.limits),
            requests: amounts(resources.requests),
            claims: Some(resources.claims.into_iter().map(claim).collect::<Vec<_>>())
                .filter(|all| !all.is_empty()),
        }
    }
}

impl From<CanonicalAmount> for Quantity {
    fn from(amount: CanonicalAmount) -> Self {
        Self(amount.0)
    }
}

#[cfg(test)]
mod tests;
