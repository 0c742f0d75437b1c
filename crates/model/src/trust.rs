//! Which ClusterTrustBundles the volumes of a pod show (KEP-3257).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::Pod;

/// What a pod asks for of the cluster's ClusterTrustBundles.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TrustSource {
    /// The bundle of this name.
    Named(String),
    /// Bundles of this signer, whichever labels they have.
    OfSigner(String),
}

/// All of them.
pub fn trust_sources(pod: &Pod) -> BTreeSet<TrustSource> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let sources = volumes.filter_map(|volume| volume.projected.as_ref()?.sources.as_ref()).flatten();
    let bundles = sources.filter_map(|source| source.cluster_trust_bundle.as_ref());
    let named = bundles.filter_map(|bundle| match (&bundle.name, &bundle.signer_name) {
        (Some(name), _) => Some(TrustSource::Named(name.clone())),
        (None, Some(signer)) => Some(TrustSource::OfSigner(signer.clone())),
        (None, None) => None,
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn by_name_and_by_signer() {
        let pod: Pod =
            serde_json::from_value(json!({ "metadata": {}, "spec": { "containers": [], "volumes": [
            { "name": "a", "projected": { "sources": [
                { "clusterTrustBundle": { "name": "one", "path": "x" } },
                { "configMap": { "name": "c" } },
                { "clusterTrustBundle": { "signerName": "s/t", "path": "y", "labelSelector": {} } },
                { "clusterTrustBundle": { "path": "z" } },
            ] } },
            { "name": "b", "emptyDir": {} },
        ] } }))
            .unwrap();
        let wanted = [TrustSource::Named("one".to_owned()), TrustSource::OfSigner("s/t".to_owned())];
        assert_eq!(trust_sources(&pod), BTreeSet::from(wanted));
        assert_eq!(trust_sources(&Pod::default()), BTreeSet::new());
    }
}
