//! Which objects a pod's volumes are made of, so that they can be watched.

use std::collections::BTreeSet;

use model::Pod;

/// Names in the pod's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Config maps.
    pub config_maps: BTreeSet<String>,
    /// Secrets.
    pub secrets: BTreeSet<String>,
}

/// The config maps and secrets that the pod's volumes refer to. Environment variables and image
/// pull secrets are not volumes' business.
pub fn references(pod: &Pod) -> References {
    let mut found = References::default();
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        found.config_maps.extend(volume.config_map.as_ref().map(|c| c.name.clone()));
        found.secrets.extend(volume.secret.as_ref().and_then(|s| s.secret_name.clone()));
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            found.config_maps.extend(source.config_map.as_ref().map(|c| c.name.clone()));
            found.secrets.extend(source.secret.as_ref().map(|s| s.name.clone()));
        }
    }
    found
}
