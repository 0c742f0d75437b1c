//! The metrics of disks: room in the volumes behind claims (`kubelet_volume_stats_…`), and what the logs of
//! containers take.

use std::collections::BTreeMap;

use telemetry::metrics::{Exposition, Kind};

use crate::disk::Measured;
use crate::document::{FsStats, PvcReference};
use crate::targets::PodTarget;

/// A metric: its name, its help and its value.
type Family = (&'static str, &'static str, fn(&FsStats) -> Option<u64>);

const FAMILIES: [Family; 6] = [
    ("kubelet_volume_stats_available_bytes", "[ALPHA] Bytes free in the volume of a claim.", |fs| {
        fs.available_bytes
    }),
    ("kubelet_volume_stats_capacity_bytes", "[ALPHA] Size of the volume of a claim in bytes.", |fs| {
        fs.capacity_bytes
    }),
    ("kubelet_volume_stats_inodes", "[ALPHA] Inodes of the volume of a claim.", |fs| fs.inodes),
    ("kubelet_volume_stats_inodes_free", "[ALPHA] Inodes free in the volume of a claim.", |fs| {
        fs.inodes_free
    }),
    ("kubelet_volume_stats_inodes_used", "[ALPHA] Inodes used in the volume of a claim.", |fs| {
        fs.inodes_used
    }),
    ("kubelet_volume_stats_used_bytes", "[ALPHA] Bytes used in the volume of a claim.", |fs| fs.used_bytes),
];

/// Writes both.
pub(crate) fn write(pods: &[PodTarget], measured: &Measured, page: &mut Exposition) {
    logs(pods, measured, page);
    claims(measured, page);
}

/// One sample a container whose logs were measured; nothing if there is none.
fn logs(pods: &[PodTarget], measured: &Measured, page: &mut Exposition) {
    const NAME: &str = "kubelet_container_log_filesystem_used_bytes";
    let mut is_begun = false;
    for pod in pods {
        let Some(disk) = measured.pods.get(&pod.uid) else { continue };
        for container in &pod.containers {
            let Some(usage) = disk.logs.get(&container.name) else { continue };
            if !std::mem::replace(&mut is_begun, true) {
                page.family(NAME, "[ALPHA] Bytes the logs of a container take.", Kind::Gauge);
            }
            let labels = [
                ("container", container.name.as_str()),
                ("namespace", &pod.key.namespace),
                ("pod", &pod.key.name),
                ("uid", pod.uid.as_str()),
            ];
            page.sample(NAME, &labels, usage.bytes as f64);
        }
    }
}

/// One sample a claim, however many pods use it; nothing if there is none.
fn claims(measured: &Measured, page: &mut Exposition) {
    let volumes = measured.pods.values().flat_map(|disk| disk.volumes.iter().flatten());
    let volumes = volumes.chain(measured.drivers.values().flat_map(BTreeMap::values));
    let claims: BTreeMap<&PvcReference, FsStats> =
        volumes.filter_map(|volume| Some((volume.pvc_ref.as_ref()?, volume.fs))).collect();
    if claims.is_empty() {
        return;
    }
    for (name, help, value) in FAMILIES {
        page.family(name, help, Kind::Gauge);
        for (claim, fs) in &claims {
            if let Some(value) = value(fs) {
                let labels =
                    [("namespace", claim.namespace.as_str()), ("persistentvolumeclaim", claim.name.as_str())];
                page.sample(name, &labels, value as f64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use host::disk_usage::DiskUsage;

    use super::*;
    use crate::disk::{PodDisk, PodDisks};
    use crate::document::VolumeStats;
    use crate::testing;

    #[test]
    fn logs_of_each_container_that_has_some() {
        let usage = DiskUsage { bytes: 4096, inodes: 1, is_complete: true };
        let disk = PodDisk { logs: BTreeMap::from([("main".to_owned(), usage)]), ..PodDisk::default() };
        let measured = PodDisks::from([("web".into(), Arc::new(disk))]);
        let mut page = Exposition::new();
        write(
            &[testing::pod("web", &["main", "quiet"]), testing::pod("other", &["main"])],
            &Measured { pods: Arc::new(measured), ..Measured::default() },
            &mut page,
        );
        let text = page.into_text();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let labels = r#"container="main",namespace="ns",pod="web",uid="web""#;
        assert_eq!(samples, [format!("kubelet_container_log_filesystem_used_bytes{{{labels}}} 4096")]);
    }

    #[test]
    fn each_claim_once() {
        let claim = PvcReference { name: "data".to_owned(), namespace: "ns".to_owned() };
        let fs = FsStats { used_bytes: Some(7), inodes: Some(3), ..FsStats::default() };
        let volume = |claim: Option<PvcReference>| VolumeStats { fs, name: "v".to_owned(), pvc_ref: claim };
        let disk = PodDisk { volumes: [vec![volume(None)], vec![volume(Some(claim))]], ..PodDisk::default() };
        let disk = Arc::new(disk);
        let measured = PodDisks::from([("a".into(), Arc::clone(&disk)), ("b".into(), disk)]);
        let mut page = Exposition::new();
        let other = PvcReference { name: "other".to_owned(), namespace: "ns".to_owned() };
        let told = BTreeMap::from([("v".to_owned(), volume(Some(other)))]);
        let drivers = Arc::new(BTreeMap::from([("c".into(), told)]));
        write(&[], &Measured { pods: Arc::new(measured), drivers }, &mut page);
        let text = page.into_text();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                r#"kubelet_volume_stats_inodes{namespace="ns",persistentvolumeclaim="data"} 3"#,
                r#"kubelet_volume_stats_inodes{namespace="ns",persistentvolumeclaim="other"} 3"#,
                r#"kubelet_volume_stats_used_bytes{namespace="ns",persistentvolumeclaim="data"} 7"#,
                r#"kubelet_volume_stats_used_bytes{namespace="ns",persistentvolumeclaim="other"} 7"#,
            ]
        );
        let mut none = Exposition::new();
        write(&[testing::pod("web", &["main"])], &Measured::default(), &mut none);
        assert_eq!(none.into_text(), "");
    }
}
