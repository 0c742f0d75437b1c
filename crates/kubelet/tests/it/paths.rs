//! Where the kubelet's own process is.

use std::fs;
use std::path::PathBuf;

use host::cgroup::CgroupMounts;
use rustix::process::Signal;

use crate::exit_codes::started;
use crate::process::{Lab, ended, signal};

/// A group that is not left behind.
struct Group {
    name: String,
    dirs: Vec<PathBuf>,
}

impl Group {
    fn new() -> Self {
        let name = format!("ferrolet-it-{}", std::process::id());
        let mounts = CgroupMounts::detect().unwrap();
        let dirs = mounts.roots().into_iter().map(|root| root.join(&name)).collect();
        Self { name, dirs }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for dir in &self.dirs {
            // After a failure the kubelet may still be in it.
            let _ = fs::remove_dir(dir);
        }
    }
}

#[tokio::test]
async fn it_moves_into_the_group_it_is_to_be_in() {
    let group = Group::new();
    let lab = Lab::new().with(&format!("kubeletCgroups: /{}\n", group.name));
    let (_lab, kubelet, _systemd) = started(lab).await;
    let table = fs::read_to_string(format!("/proc/{}/cgroup", kubelet.id().unwrap())).unwrap();
    let own = format!("/{}", group.name);
    let is_in = |controller: &str| {
        table.lines().filter_map(|line| line.split_once(':')?.1.split_once(':')).any(|(controllers, path)| {
            (controllers.is_empty() || controllers.split(',').any(|c| c == controller)) && path == own
        })
    };
    assert!(is_in("memory") && is_in("cpu"), "{table}");
    signal(&kubelet, Signal::TERM);
    let ended = ended(kubelet).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("Failed to move processes"), "{}", ended.stderr);
}
