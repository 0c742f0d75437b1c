//! `emptyDir` with medium `HugePages` or `HugePages-<size>`: which pages are behind it.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::ResourceRequirements;
use model::{AllocatedPod, Quantity};

const MEDIUM: &str = "HugePages";
const RESOURCE_PREFIX: &str = "hugepages-";

/// Why a pod has no such volume.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HugePagesError {
    /// The size in the medium is none.
    #[error("medium {0:?} has no valid huge page size")]
    Size(String),
    /// The pod requests no pages of that size, or none at all.
    #[error("medium {0}: hugePages storage requested, but there is no resource request for huge pages")]
    NotRequested(String),
    /// The medium names no size, and the pod requests several.
    #[error("medium: {0} can't be used if container requests multiple huge page sizes")]
    Several(String),
    /// There is such a volume already, with other pages.
    #[error("mounted dir {} pagesize '{mounted}' and requested medium size '{wanted}' differ", path.display())]
    Differs {
        /// The volume's folder.
        path: PathBuf,
        /// What is mounted there, bytes.
        mounted: u64,
        /// What the pod asks for, bytes.
        wanted: u64,
    },
}

/// Whether a medium is one of these.
pub(crate) fn is_medium(medium: &str) -> bool {
    medium == MEDIUM || size_text(medium).is_some()
}

fn size_text(medium: &str) -> Option<&str> {
    medium.strip_prefix(MEDIUM)?.strip_prefix('-')
}

/// The size of the pages behind a medium, bytes: what it names, or the only one the pod requests.
pub(crate) fn page_bytes(medium: &str, pod: &AllocatedPod) -> Result<u64, HugePagesError> {
    let named = match size_text(medium) {
        Some(text) => Some(bytes(text).ok_or_else(|| HugePagesError::Size(medium.to_owned()))?),
        None => None,
    };
    let spec = pod.spec.as_ref();
    let containers = spec.iter().flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()));
    let all = spec.and_then(|s| s.resources.as_ref()).into_iter();
    let mut requested: Vec<u64> =
        all.chain(containers.filter_map(|c| c.resources.as_ref())).flat_map(requests).collect();
    requested.sort_unstable();
    requested.dedup();
    match (named, requested.as_slice()) {
        (Some(named), sizes) if sizes.contains(&named) => Ok(named),
        (None, [only]) => Ok(*only),
        (None, [_, _, ..]) => Err(HugePagesError::Several(medium.to_owned())),
        (Some(_), _) | (None, []) => Err(HugePagesError::NotRequested(medium.to_owned())),
    }
}

/// The page sizes that are requested.
fn requests(resources: &ResourceRequirements) -> impl Iterator<Item = u64> {
    let names = resources.requests.iter().flat_map(|map| map.keys());
    names.filter_map(|name| bytes(name.strip_prefix(RESOURCE_PREFIX)?))
}

fn bytes(size: &str) -> Option<u64> {
    u64::try_from(size.parse::<Quantity>().ok()?.units()).ok().filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Upstream's `TestGetPageSizeMountOption`, in our words.
    #[test]
    fn pages_are_those_requested() {
        let requests = |name: &str| json!({ "requests": { name: "4Mi" } });
        let two = || json!([{ "name": "a", "resources": requests("hugepages-2Mi") }]);
        let both = || {
            json!([
                { "name": "a", "resources": requests("hugepages-2Mi") },
                { "name": "b", "resources": requests("hugepages-1Gi") },
            ])
        };
        let missing = |medium: &str| Err(HugePagesError::NotRequested(medium.to_owned()));
        for (medium, spec, want) in [
            ("HugePages", json!({ "containers": two() }), Ok(2 << 20)),
            ("HugePages", json!({ "containers": [], "initContainers": two() }), Ok(2 << 20)),
            ("HugePages", json!({ "containers": [], "resources": requests("hugepages-1Gi") }), Ok(1 << 30)),
            (
                "HugePages",
                json!({ "containers": both() }),
                Err(HugePagesError::Several("HugePages".to_owned())),
            ),
            ("HugePages", json!({ "containers": [{ "name": "a" }] }), missing("HugePages")),
            ("HugePages-1Gi", json!({ "containers": both() }), Ok(1 << 30)),
            ("HugePages-2Mi", json!({ "containers": both() }), Ok(2 << 20)),
            ("HugePages-1Gi", json!({ "containers": two() }), missing("HugePages-1Gi")),
            (
                "HugePages-x",
                json!({ "containers": two() }),
                Err(HugePagesError::Size("HugePages-x".to_owned())),
            ),
        ] {
            let pod: AllocatedPod = serde_json::from_value(json!({ "spec": spec })).unwrap();
            assert!(is_medium(medium));
            assert_eq!(page_bytes(medium, &pod), want, "{medium} {spec}");
        }
        assert!(!is_medium("Memory") && !is_medium("HugePagesX"));
    }
}
