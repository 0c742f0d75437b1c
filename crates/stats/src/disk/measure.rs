//! Measures one pod.

use host::disk_usage::{self, DiskUsage, DiskUsageError};
use host::usage;
use jiff::Timestamp;
use telemetry::metrics::Metrics;
use tracing::debug;

use super::PodDisk;
use crate::Clock;
use crate::document::{FsStats, Time, VolumeStats};
use crate::targets::{Measure, PodTarget, VolumeTarget};

/// Entries looked at in one volume, which takes a minute or two on a slow disk. Beyond that a volume
/// shows as much as was counted until then.
const VOLUME_ENTRIES: u64 = 1_000_000;
/// Log files of one container.
const LOG_ENTRIES: u64 = 10_000;

/// Measures a pod's volumes, if wanted, logs and hosts file.
pub(super) fn measure(pod: &PodTarget, with_volumes: bool, clock: &Clock, metrics: &Metrics) -> PodDisk {
    let mut disk = PodDisk::default();
    for volume in pod.volumes.iter().filter(|volume| with_volumes && !is_drivers(volume)) {
        let begun = clock();
        if let Some(stats) = measure_volume(pod, volume, begun.wall) {
            let source = if volume.measure == Measure::FileSystem { "statfs" } else { "du" };
            let took = clock().mono.saturating_sub(begun.mono);
            metrics.volume_metric_collection_duration.with([source]).observe_duration(took);
            let [ephemeral, others] = &mut disk.volumes;
            if volume.is_local_ephemeral { ephemeral } else { others }.push(stats);
        }
    }
    let known = |what: &str, result: Result<DiskUsage, DiskUsageError>| match result {
        Ok(usage) => {
            warn_if_cut(pod, what, usage);
            Some(usage)
        }
        Err(error) => {
            // Not made yet, or gone already: ordinary.
            if !error.is_not_found() {
                log(pod, what, &error);
            }
            None
        }
    };
    for container in &pod.containers {
        let dir = pod.log_dir.join(&container.name);
        if let Some(usage) = known(&container.name, disk_usage::files_usage(&dir, LOG_ENTRIES)) {
            disk.logs.insert(container.name.clone(), usage);
        }
    }
    disk.pod_logs = known("logs", disk_usage::files_usage(&pod.log_dir, LOG_ENTRIES));
    disk.hosts_file = known("hosts file", disk_usage::disk_usage(&pod.hosts_file, 1));
    disk.at = clock().wall;
    disk
}

/// Whether it is the driver's to say: that is asked elsewhere, without holding up anything.
fn is_drivers(volume: &VolumeTarget) -> bool {
    matches!(volume.measure, Measure::Driver { .. })
}

fn measure_volume(pod: &PodTarget, volume: &VolumeTarget, at: Timestamp) -> Option<VolumeStats> {
    let fs = usage::file_system(&volume.path).inspect_err(|e| log(pod, &volume.name, e)).ok()?;
    let used = if volume.measure == Measure::FileSystem {
        (fs.used, fs.inodes.saturating_sub(fs.inodes_free))
    } else {
        let used = disk_usage::disk_usage(&volume.path, VOLUME_ENTRIES)
            .inspect_err(|e| log(pod, &volume.name, e))
            .ok()?;
        warn_if_cut(pod, &volume.name, used);
        (used.bytes, used.inodes)
    };
    Some(VolumeStats {
        fs: FsStats {
            time: Time(at),
            available_bytes: Some(fs.available),
            capacity_bytes: Some(fs.capacity),
            used_bytes: Some(used.0),
            inodes_free: Some(fs.inodes_free),
            inodes: Some(fs.inodes),
            inodes_used: Some(used.1),
        },
        name: volume.name.clone(),
        pvc_ref: volume.claim.clone(),
    })
}

fn warn_if_cut(pod: &PodTarget, what: &str, usage: DiskUsage) {
    if !usage.is_complete {
        debug!(pod = %pod.key, what, "Too many files to measure disk usage in full; it is reported too low");
    }
}

fn log(pod: &PodTarget, what: &str, error: &dyn std::error::Error) {
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    debug!(pod = %pod.key, what, err = %error, cause, "Failed to measure disk usage");
}

#[cfg(test)]
mod tests {
    use std::fs;

    use telemetry::metrics::{Endpoint, Exposition};

    use super::*;
    use crate::testing::{self, pod};

    #[test]
    fn a_pod_with_everything() {
        let dir = tempfile::tempdir().unwrap();
        let mut pod = pod("web", &["main", "quiet"]);
        pod.log_dir = dir.path().join("logs");
        pod.hosts_file = dir.path().join("etc-hosts");
        fs::create_dir_all(pod.log_dir.join("main")).unwrap();
        fs::write(pod.log_dir.join("main/0.log"), vec![b'x'; 10_000]).unwrap();
        fs::write(pod.log_dir.join("main/0.log.1"), "x").unwrap();
        fs::write(&pod.hosts_file, "127.0.0.1\n").unwrap();
        fs::create_dir(dir.path().join("scratch")).unwrap();
        fs::write(dir.path().join("scratch/file"), vec![b'x'; 100_000]).unwrap();
        let volume = |name: &str, is_local_ephemeral| VolumeTarget {
            name: name.to_owned(),
            path: dir.path().join(name),
            measure: Measure::Files,
            is_local_ephemeral,
            claim: None,
        };
        pod.volumes = vec![volume("absent", true), volume("scratch", true), volume("logs", false)];

        let metrics = Metrics::default();
        let disk = measure(&pod, true, &testing::clock(), &metrics);
        assert_eq!(disk.at, testing::clock()().wall);
        let [ephemeral, others] = &disk.volumes;
        assert_eq!((ephemeral.len(), others.len()), (1, 1), "the one that is absent costs only itself");
        assert_eq!((ephemeral[0].name.as_str(), ephemeral[0].fs.inodes_used), ("scratch", Some(2)));
        assert!(ephemeral[0].fs.used_bytes >= Some(100_000));
        assert_eq!(others[0].fs.inodes_used, Some(4));
        assert_eq!(disk.logs.keys().collect::<Vec<_>>(), ["main"], "a container that has written nothing");
        assert_eq!(disk.logs["main"].inodes, 2);
        assert_eq!(disk.pod_logs.map(|u| u.inodes), Some(0));
        assert_eq!(disk.hosts_file.map(|u| u.inodes), Some(1));

        let mut page = Exposition::new();
        metrics.write(Endpoint::Main, &mut page).unwrap();
        let count = "kubelet_volume_metric_collection_duration_seconds_count{metric_source=\"du\"} 2\n";
        assert!(page.into_text().contains(count));
        assert_eq!(measure(&pod, false, &testing::clock(), &metrics).volumes, [vec![], vec![]]);
    }

    #[test]
    fn a_volume_with_a_file_system_of_its_own_is_not_walked() {
        let dir = tempfile::tempdir().unwrap();
        let claim = crate::PvcReference { name: "data".to_owned(), namespace: "ns".to_owned() };
        let volume = VolumeTarget {
            name: "data".to_owned(),
            path: dir.path().to_owned(),
            measure: Measure::FileSystem,
            is_local_ephemeral: false,
            claim: Some(claim.clone()),
        };
        let pod = PodTarget { volumes: vec![volume], ..pod("web", &[]) };
        let [_, others] = measure(&pod, true, &testing::clock(), &Metrics::default()).volumes;
        assert_eq!(others[0].pvc_ref, Some(claim));
        let fs = others[0].fs;
        assert!(fs.used_bytes <= fs.capacity_bytes && fs.capacity_bytes > Some(0));
    }
}
