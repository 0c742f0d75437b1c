//! Answers as a whole: what is shared, and what happens when the runtime is silent.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use runtime::RuntimeSettings;
use runtime::usage::{ContainerUsage, CpuUsage};

use super::*;
use crate::testing::{at, pod};

/// Stats of a machine without any control groups, whose runtime is not there.
fn stats(pods_from_runtime: bool, seconds: Arc<AtomicU64>) -> (Stats, DiskTask, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mounts = CgroupMounts::V2 { root: dir.path().to_owned(), controllers: Vec::new() };
    let endpoint = format!("unix://{}/no.sock", dir.path().display());
    let runtime = Runtime::connect(&endpoint, None, RuntimeSettings::default()).unwrap();
    let node = NodeTarget {
        name: "node-1".to_owned(),
        memory_bytes: 1,
        huge_page_bytes: 0,
        swap_bytes: 0,
        root_dir: dir.path().to_owned(),
        booted_at: at(1),
        kubelet_started: at(1),
        shows_layers_apart: true,
        system_groups: Vec::new(),
    };
    let settings = Settings {
        node,
        pods_from_runtime,
        volume_interval: None,
        ask_driver: crate::testing::no_drivers(),
        metrics: Arc::default(),
    };
    let clock: Clock = Arc::new(move || {
        let mono = Duration::from_secs(seconds.load(Ordering::Relaxed));
        Now { wall: at(i64::try_from(mono.as_secs()).unwrap()), mono }
    });
    let (stats, task) = Stats::new(&mounts, runtime, settings, clock);
    (stats, task, dir)
}

fn pods(names: &[&str]) -> Arc<Vec<PodTarget>> {
    Arc::new(names.iter().map(|name| pod(name, &["main"])).collect())
}

#[tokio::test]
async fn a_round_is_shared_for_a_moment() {
    let time = Arc::new(AtomicU64::new(100));
    let (stats, _task, _dir) = stats(false, Arc::clone(&time));
    let first = stats.summary(pods(&["a"])).await.unwrap();
    time.store(101, Ordering::Relaxed);
    let second = stats.summary(pods(&["a"])).await.unwrap();
    assert!(Arc::ptr_eq(&first, &second), "within two seconds");
    let short = stats.cpu_and_memory(pods(&["a"])).await.unwrap();
    assert_eq!(short.node.fs, None, "the other question has an answer of its own");
    time.store(102, Ordering::Relaxed);
    let third = stats.summary(pods(&["a", "b"])).await.unwrap();
    assert_eq!((first.pods.len(), third.pods.len()), (1, 2));
    assert_eq!(third.node.fs.map(|fs| fs.time), Some(Time(Timestamp::from_second(102).unwrap())));
}

#[tokio::test]
async fn a_silent_runtime_costs_what_it_alone_knows() {
    let (stats, _task, _dir) = stats(false, Arc::new(AtomicU64::new(100)));
    let summary = stats.summary(pods(&["a"])).await.unwrap();
    assert_eq!(summary.node.runtime, Some(RuntimeStats::default()));
    assert!(summary.node.fs.is_some() && summary.pods.len() == 1);
    assert_eq!(summary.pods[0].containers[0].rootfs, None);
}

#[tokio::test]
async fn what_the_runtime_said_is_shown_while_it_is_asked_again() {
    let time = Arc::new(AtomicU64::new(100));
    let (stats, _task, _dir) = stats(false, Arc::clone(&time));
    let usage = ContainerUsage {
        id: "a-main".into(),
        cpu: Some(CpuUsage { at: at(100), core_nanos: Some(7), nano_cores: None, pressure: None }),
        memory: None,
        swap: None,
        io: None,
        writable_layer: None,
    };
    let containers = HashMap::from([(usage.id.clone(), usage)]);
    let told = Arc::new(FromRuntime { containers, ..FromRuntime::default() });
    stats.heard.send_replace(Some(RuntimeAnswer { mono: Duration::from_secs(100), told }));
    let shown = async |seconds, names: &[&str]| {
        time.store(seconds, Ordering::Relaxed);
        stats.summary(pods(names)).await.unwrap().pods[0].containers[0].cpu.is_some()
    };
    assert!(shown(101, &["a"]).await);
    assert!(shown(150, &["a"]).await, "the runtime is not there");
    // The attempt in the background is over.
    let _free = stats.asking.acquire().await.unwrap();
    assert!(shown(189, &["a"]).await);
    assert!(!shown(250, &["a"]).await, "too old");
}

#[tokio::test]
async fn where_the_runtime_alone_knows_its_silence_is_an_error() {
    let (stats, _task, _dir) = stats(true, Arc::new(AtomicU64::new(100)));
    let error = stats.summary(pods(&["a"])).await.unwrap_err();
    assert_eq!(error.to_string(), "list usage of pods");
    let mut page = Exposition::new();
    stats.resource_metrics(pods(&["a"]), &mut page).await;
    assert!(page.into_text().ends_with("\nresource_scrape_error 1\n"));
}

#[tokio::test]
async fn disks_show_once_they_are_measured() {
    let (stats, task, _dir) = stats(false, Arc::new(AtomicU64::new(100)));
    let mut page = Exposition::new();
    stats.disk_metrics(pods(&["a"]), &mut page);
    assert_eq!(page.into_text(), "");
    drop(stats);
    // Nobody can ask any more.
    task.run().await;
}
