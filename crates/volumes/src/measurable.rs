//! Which of a pod's volumes take room that is worth measuring, and where they are. Upstream measures
//! the same kinds: a hostPath is the node's own, and an image the runtime's.

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::Volume;
use model::storage::{ClaimName, PublishedPlace, PublishedVolume, UsageSource};
use model::{Pod, VolumeKind, pod as pods};

use crate::layout::PodLayout;
use crate::mounts;
use crate::plugins;

/// A volume whose usage can be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeasurableVolume {
    /// Its name in the pod's spec.
    pub name: String,
    /// Where it is, if it is mounted.
    pub path: PathBuf,
    /// Whether it counts as the pod's ephemeral storage. Volumes in memory do not, nor do, as upstream has
    /// it, any made by the kubelet but those from config maps.
    pub is_local_ephemeral: bool,
    /// Who can say what it takes; `None` where that is found by adding up its files.
    pub usage: Option<UsageSource>,
    /// The claim behind it.
    pub claim: Option<ClaimName>,
}

/// The measurable volumes that a pod uses, in the order of its spec.
pub(crate) fn of_pod(
    layout: &PodLayout,
    pod: &Pod,
    published: &BTreeMap<String, PublishedVolume>,
) -> Vec<MeasurableVolume> {
    let used = pods::used_volumes(pod)
        .filter(|volume| !matches!(VolumeKind::of(volume), VolumeKind::HostPath | VolumeKind::Image));
    let found = used.filter_map(|volume| {
        let made = published.get(&volume.name);
        let path = match made {
            Some(PublishedVolume { place: PublishedPlace::HostPath(_), .. }) => return None,
            Some(made) => mounts::path_of(layout, made).ok()?,
            None => plugins::location(layout, volume).ok()?.0,
        };
        Some(MeasurableVolume {
            name: volume.name.clone(),
            path,
            is_local_ephemeral: is_local(volume),
            usage: made.map(|made| made.usage.clone()),
            claim: ClaimName::of(pod, volume),
        })
    });
    found.collect()
}

fn is_local(volume: &Volume) -> bool {
    let on_disk = |medium: Option<&str>| matches!(medium, None | Some(""));
    match VolumeKind::of(volume) {
        VolumeKind::ConfigMap => true,
        VolumeKind::EmptyDir => on_disk(volume.empty_dir.as_ref().and_then(|dir| dir.medium.as_deref())),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use model::PodUid;
    use model::storage::VolumeMode;
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds() {
        let mounts = ["disk", "memory", "map", "token", "host", "claim", "missing"]
            .map(|name| json!({ "name": name, "mountPath": format!("/{name}") }));
        let container = json!({ "name": "c", "volumeMounts": mounts });
        let name = json!({ "name": "web", "namespace": "ns" });
        let pod: Pod = serde_json::from_value(
            json!({ "metadata": name, "spec": { "containers": [container], "volumes": [
            { "name": "unused", "emptyDir": {} },
            { "name": "disk", "emptyDir": {} },
            { "name": "memory", "emptyDir": { "medium": "Memory" } },
            { "name": "map", "configMap": { "name": "m" } },
            { "name": "token", "projected": { "sources": [] } },
            { "name": "host", "hostPath": { "path": "/etc" } },
            { "name": "claim", "persistentVolumeClaim": { "claimName": "c" } },
            { "name": "missing", "ephemeral": {} },
        ] } }),
        )
        .unwrap();
        let layout = PodLayout::new(Path::new("/kubelet"), &PodUid::from("u")).unwrap();
        let usage = UsageSource::Driver { name: "d".to_owned(), handle: "h".to_owned() };
        let made = PublishedVolume {
            folder: "pv".to_owned(),
            place: PublishedPlace::Csi,
            is_read_only: false,
            mode: VolumeMode::Filesystem,
            plugin: String::new(),
            usage: usage.clone(),
        };
        let published = BTreeMap::from([("claim".to_owned(), made)]);
        let all = of_pod(&layout, &pod, &published);
        let last = all.last().unwrap();
        let claim = ClaimName { namespace: "ns".to_owned(), name: "c".to_owned() };
        assert_eq!((&last.usage, &last.claim), (&Some(usage), &Some(claim)));
        let found: Vec<_> = all.into_iter().map(|v| (v.name, v.path, v.is_local_ephemeral)).collect();
        let path = |rest: &str| Path::new("/kubelet/pods/u/volumes").join(rest);
        assert_eq!(
            found,
            [
                ("disk".to_owned(), path("kubernetes.io~empty-dir/disk"), true),
                ("memory".to_owned(), path("kubernetes.io~empty-dir/memory"), false),
                ("map".to_owned(), path("kubernetes.io~configmap/map"), true),
                ("token".to_owned(), path("kubernetes.io~projected/token"), false),
                ("claim".to_owned(), path("kubernetes.io~csi/pv/mount"), false),
            ]
        );
    }
}
