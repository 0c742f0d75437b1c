//! The task that asks CSI drivers what their volumes take. Each volume is asked about on its own: a driver that does not answer
//! keeps back the numbers of its own volumes, which stay as they were until it has failed, and nobody else's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use model::storage::{CsiDriver, VolumeUsage};
use model::{Now, PodKey, PodUid};
use telemetry::metrics::Metrics;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tracing::debug;

use super::task::{INTEREST, pause};
use super::{Asked, DriverUsages};
use crate::Clock;
use crate::document::{FsStats, Time, VolumeStats};
use crate::targets::{Measure, PodTarget, VolumeTarget};

/// Asks a driver about a volume of its, by its own name for it, that is published at a path.
pub type AskDriver = Arc<dyn Fn(CsiDriver, String, PathBuf) -> Answer + Send + Sync>;
/// What comes of it, or why nothing does.
type Answer = Pin<Box<dyn Future<Output = Result<VolumeUsage, String>> + Send>>;

/// Calls of one driver at the same time.
const MOST_AT_ONCE: usize = 4;

/// A volume of a pod, by its name in it.
type Key = (PodUid, String);

/// Asks about what was asked for, until nobody can ask any more.
pub(super) struct DriverTask {
    asking: watch::Receiver<Asked>,
    told: watch::Sender<Arc<DriverUsages>>,
    interval: Option<Duration>,
    ask: AskDriver,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// The last question.
    asked: Asked,
    /// When each volume was asked about last.
    begun: BTreeMap<Key, Duration>,
    /// The volumes that are being asked about, each with its driver.
    running: BTreeMap<Key, String>,
    known: DriverUsages,
}

/// What came of one call.
struct Told {
    key: Key,
    pod: PodKey,
    driver: String,
    took: Duration,
    stats: Result<VolumeStats, String>,
}

impl DriverTask {
    pub(super) fn new(
        asking: watch::Receiver<Asked>,
        told: watch::Sender<Arc<DriverUsages>>,
        interval: Option<Duration>,
        ask: AskDriver,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            asking,
            told,
            interval,
            ask,
            clock,
            metrics,
            asked: Asked::default(),
            begun: BTreeMap::new(),
            running: BTreeMap::new(),
            known: DriverUsages::new(),
        }
    }

    /// Runs until the asking side is gone.
    pub(super) async fn run(mut self) {
        let Some(interval) = self.interval else { return };
        let mut work = JoinSet::new();
        loop {
            let wait = self.begin_due(interval, &mut work);
            // All three are cancel-safe: a change stays unseen, an answer stays in its set, and the pause is reckoned anew.
            tokio::select! {
                changed = self.asking.changed() => match changed {
                    Ok(()) => self.take_question(),
                    Err(_) => return,
                },
                Some(done) = work.join_next() => self.finish(done),
                () = pause(wait) => {}
            }
        }
    }

    fn now(&self) -> Now {
        (self.clock)()
    }

    /// Takes the latest question in, and drops what is known of volumes that are not in it.
    fn take_question(&mut self) {
        self.asked = self.asking.borrow_and_update().clone();
        let volumes = self.asked.pods.iter().flat_map(|pod| {
            let driven = pod.volumes.iter().filter(|volume| driver_of(volume).is_some());
            driven.map(|volume| (&pod.uid, volume.name.as_str()))
        });
        let wanted: std::collections::BTreeSet<_> = volumes.collect();
        self.begun.retain(|(uid, name), _| wanted.contains(&(uid, name.as_str())));
        let mut has_gone = false;
        self.known.retain(|uid, volumes| {
            let before = volumes.len();
            volumes.retain(|name, _| wanted.contains(&(uid, name.as_str())));
            has_gone |= before != volumes.len();
            !volumes.is_empty()
        });
        if has_gone {
            self.told.send_replace(Arc::new(self.known.clone()));
        }
    }

    /// Asks about the volumes that are due, as far as their drivers are not busy with others. Returns how long none is.
    fn begin_due(&mut self, interval: Duration, work: &mut JoinSet<Told>) -> Option<Duration> {
        let now = self.now();
        let is_asked = now.mono.saturating_sub(self.asked.mono) < INTEREST;
        let mut next: Option<Duration> = None;
        let pods = Arc::clone(&self.asked.pods);
        for (pod, volume) in pods.iter().flat_map(|pod| pod.volumes.iter().map(move |volume| (pod, volume))) {
            let Some((driver, handle)) = driver_of(volume) else { continue };
            let key = (pod.uid.clone(), volume.name.clone());
            if self.running.contains_key(&key) {
                continue;
            }
            // One that was never asked about is once, even if nobody has asked of late.
            let at = self.begun.get(&key).map_or(Duration::ZERO, |begun| *begun + interval);
            if at > now.mono || !(is_asked || at.is_zero()) {
                next = next.into_iter().chain(is_asked.then_some(at)).min();
                continue;
            }
            if self.running.values().filter(|busy| **busy == driver.name).count() >= MOST_AT_ONCE {
                // The next answer leads back here.
                continue;
            }
            self.begun.insert(key.clone(), now.mono);
            self.running.insert(key.clone(), driver.name.clone());
            work.spawn(self.call(key, pod, volume, (driver, handle)));
        }
        next.map(|at| at.saturating_sub(now.mono))
    }

    fn call(
        &self,
        key: Key,
        pod: &PodTarget,
        volume: &VolumeTarget,
        (driver, handle): (&CsiDriver, &str),
    ) -> impl Future<Output = Told> + use<> {
        let begun = self.now();
        let answer = (self.ask)(driver.clone(), handle.to_owned(), volume.path.clone());
        let (clock, pod, driver) = (Arc::clone(&self.clock), pod.key.clone(), driver.name.clone());
        let (name, pvc_ref) = (volume.name.clone(), volume.claim.clone());
        async move {
            let stats = answer.await.map(|VolumeUsage { bytes, inodes }| VolumeStats {
                fs: FsStats {
                    time: Time(begun.wall),
                    available_bytes: Some(bytes.available),
                    capacity_bytes: Some(bytes.total),
                    used_bytes: Some(bytes.used),
                    inodes_free: Some(inodes.available),
                    inodes: Some(inodes.total),
                    inodes_used: Some(inodes.used),
                },
                name,
                pvc_ref,
            });
            Told { key, pod, driver, took: clock().mono.saturating_sub(begun.mono), stats }
        }
    }

    fn finish(&mut self, done: Result<Told, JoinError>) {
        // A panic, which nothing there should cause. Whose it was is not known any more.
        let Ok(Told { key, pod, driver, took, stats }) = done else { return self.running.clear() };
        self.running.remove(&key);
        self.metrics.volume_metric_collection_duration.with([&driver]).observe_duration(took);
        // A pod may have been dropped while the driver was asked.
        if !self.begun.contains_key(&key) {
            return;
        }
        let (uid, name) = key;
        match stats {
            Ok(stats) => drop(self.known.entry(uid).or_default().insert(name, stats)),
            Err(error) => {
                debug!(%pod, volumeName = name, driver, err = error, "Failed to calculate volume metrics");
                if let Some(volumes) = self.known.get_mut(&uid) {
                    volumes.remove(&name);
                }
            }
        }
        self.told.send_replace(Arc::new(self.known.clone()));
    }
}

fn driver_of(volume: &VolumeTarget) -> Option<(&CsiDriver, &str)> {
    match &volume.measure {
        Measure::Driver { driver, handle } => Some((driver, handle)),
        Measure::Files | Measure::FileSystem => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use model::storage::Amounts;
    use telemetry::metrics::{Endpoint, Exposition};
    use tokio::sync::Notify;

    use super::*;
    use crate::disk::Disk;
    use crate::testing::{self, pod};

    fn target(uid: &str, driver: &str) -> PodTarget {
        let volume = VolumeTarget {
            name: "v".to_owned(),
            path: PathBuf::from("/v"),
            measure: Measure::Driver {
                driver: CsiDriver { name: driver.to_owned(), ..CsiDriver::default() },
                handle: uid.to_owned(),
            },
            is_local_ephemeral: false,
            claim: None,
        };
        PodTarget { volumes: vec![volume], ..pod(uid, &[]) }
    }

    /// Drivers called `hung` answer when they are told to, those called `bad` fail, and others say one byte.
    fn drivers(asked: Arc<Mutex<Vec<String>>>, release: Arc<Notify>) -> AskDriver {
        Arc::new(move |driver: CsiDriver, handle, _| {
            asked.lock().unwrap().push(handle);
            let release = release.clone();
            Box::pin(async move {
                let bytes = Amounts { total: 3, used: 1, available: 2 };
                match driver.name.as_str() {
                    "hung" => release.notified().await,
                    "bad" => return Err("no".to_owned()),
                    _ => {}
                }
                Ok(VolumeUsage { bytes, inodes: Amounts::default() })
            })
        })
    }

    #[tokio::test]
    async fn a_driver_that_hangs_or_fails_keeps_back_its_own_volumes() {
        let (asked, release, metrics) =
            (Arc::<Mutex<Vec<String>>>::default(), Arc::<Notify>::default(), Arc::<Metrics>::default());
        let ask = drivers(asked.clone(), release.clone());
        let (mut disk, task) =
            Disk::new(Some(Duration::from_secs(60)), ask, testing::clock(), metrics.clone());
        let task = tokio::spawn(task.run());
        let mut pods: Vec<PodTarget> = (0..6).map(|n| target(&format!("h{n}"), "hung")).collect();
        pods.extend([target("a", "good"), target("b", "bad"), target("c", "good")]);
        disk.ask(Arc::new(pods.clone()), testing::clock()().mono);
        let names = |told: &DriverUsages| told.keys().map(ToString::to_string).collect::<BTreeSet<_>>();
        let good: BTreeSet<String> = ["a", "c"].map(str::to_owned).into();
        disk.told.wait_for(|told| names(told) == good).await.unwrap();
        let told = disk.told.borrow_and_update()[&PodUid::from("a")]["v"].clone();
        assert_eq!((told.fs.capacity_bytes, told.fs.inodes), (Some(3), Some(0)));
        let hung = || asked.lock().unwrap().iter().filter(|handle| handle.starts_with('h')).count();
        assert_eq!(hung(), MOST_AT_ONCE, "no more calls of one driver at once");
        release.notify_one();
        disk.told.wait_for(|told| told.len() == 3).await.unwrap();
        // Those that are gone are forgotten.
        disk.ask(Arc::new(vec![target("a", "good")]), testing::clock()().mono);
        disk.told.wait_for(|told| told.len() == 1).await.unwrap();
        drop(disk);
        task.await.unwrap();
        let mut page = Exposition::new();
        metrics.write(Endpoint::Main, &mut page).unwrap();
        let page = page.into_text();
        for (driver, count) in [("good", 2), ("bad", 1), ("hung", 1)] {
            let line = format!(
                "kubelet_volume_metric_collection_duration_seconds_count{{metric_source=\"{driver}\"}} {count}\n"
            );
            assert!(page.contains(&line), "{line}{page}");
        }
    }
}
