//! What the machine, its pods and their containers use: read from control groups, `/proc`, file
//! systems and the runtime when somebody asks, and rendered as the documents that upstream's kubelet
//! serves.
//!
//! This crate answers questions; it decides nothing. It is told which pods there are ([`PodTarget`]),
//! and it does not know who asks. Nobody asks, nothing is read.
//!
//! * [`Stats`] is the whole interface for the summary and the pages made from it. A question starts a
//!   round (`collect`) on a blocking thread, one at a time; whoever asks within a moment shares its
//!   answer. `group` reads control groups, `rate` turns counters into rates, `limits` remembers what
//!   groups may use, `from_runtime` takes what only the runtime knows, which is asked less often, since
//!   asking makes it work.
//! * [`DiskTask`] (`disk`) adds up the files of volumes and logs, in the background, and is the only task.
//! * `document` is the summary on the wire, `resource` and `disk_metrics` are pages of metrics.
//! * [`cadvisor`] is the page that shows every control group, independent of the others.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests spawn what ends with them"))]

pub mod cadvisor;
mod collect;
mod disk;
mod disk_metrics;
mod document;
mod file_system;
mod from_runtime;
mod group;
mod limits;
mod rate;
mod resource;
mod targets;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use host::cgroup::CgroupMounts;
use host::cgroup::stats::GroupReader;
use model::{ContainerId, Now};
use runtime::{Runtime, RuntimeError};
use telemetry::metrics::{Exposition, Metrics};
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore, watch};
use tracing::debug;

use collect::{Collector, FromRuntime};
use disk::{Disk, Measured};
use group::{Detail, Groups};
use limits::Limits;
use rate::Rates;

pub use disk::{AskDriver, DiskTask};
pub use document::*;
pub use targets::{ContainerTarget, Measure, NodeTarget, PodTarget, SystemGroup, SystemRole, VolumeTarget};

/// Reads both clocks.
pub type Clock = Arc<dyn Fn() -> Now + Send + Sync>;

/// For how long an answer is given again. Scrapers that come at the same time share a round.
const FRESH: Duration = Duration::from_secs(2);
/// For how long the runtime's answer is used. It measures layers and images every ten seconds itself.
const RUNTIME_FRESH: Duration = Duration::from_secs(10);
/// For how long what the runtime said is shown while it is asked again. Scrapers come every minute at least; who comes
/// more rarely waits for the runtime.
const RUNTIME_SHOWN: Duration = Duration::from_secs(90);
/// How long the runtime may take. A summary without it is better than none.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(10);

/// What a node's stats depend on.
pub struct Settings {
    /// The node.
    pub node: NodeTarget,
    /// Whether everything about pods comes from the runtime (`PodAndContainerStatsFromCRI`), if it can
    /// tell.
    pub pods_from_runtime: bool,
    /// How often volumes are measured; `None` is never.
    pub volume_interval: Option<Duration>,
    /// How drivers are asked what their volumes take.
    pub ask_driver: AskDriver,
    /// Where it is counted how long measurements take.
    pub metrics: Arc<Metrics>,
}

/// Why there is no summary.
#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    /// The runtime alone knows about pods, and did not tell.
    #[error("list usage of pods")]
    Runtime(#[source] RuntimeError),
    /// The runtime alone knows about pods, and did not tell in time.
    #[error("list usage of pods: no answer from the container runtime within {RUNTIME_PATIENCE:?}")]
    RuntimeTimeout,
    /// The round panicked or was cut off by the end of the process.
    #[error("collect usage: interrupted")]
    Interrupted,
}

/// Answers questions about usage.
pub struct Stats {
    runtime: Runtime,
    pods_from_runtime: bool,
    clock: Clock,
    disk: Disk,
    metrics: Arc<Metrics>,
    /// What the runtime said last.
    heard: watch::Sender<Option<RuntimeAnswer>>,
    /// Free unless the runtime is being asked in the background.
    asking: Arc<Semaphore>,
    /// Held for a round, so that there is one at a time and those who wait find its answer.
    collection: Arc<Mutex<Collection>>,
}

struct Collection {
    collector: Collector,
    all: Option<Answer>,
    cpu_and_memory: Option<Answer>,
    /// Less of it, for the page of resource metrics.
    for_page: Option<Answer>,
}

#[derive(Clone)]
struct Answer {
    mono: Duration,
    summary: Arc<Summary>,
}

#[derive(Clone)]
struct RuntimeAnswer {
    mono: Duration,
    told: Arc<FromRuntime>,
}

impl Stats {
    /// Stats of a node, and the task that measures disks, which somebody has to run.
    pub fn new(
        mounts: &CgroupMounts,
        runtime: Runtime,
        settings: Settings,
        clock: Clock,
    ) -> (Self, DiskTask) {
        let metrics = Arc::clone(&settings.metrics);
        let (disk, task) =
            Disk::new(settings.volume_interval, settings.ask_driver, Arc::clone(&clock), settings.metrics);
        let groups = Groups {
            reader: GroupReader::new(mounts),
            rates: Rates::default(),
            limits: Limits::default(),
            clock: Arc::clone(&clock),
            detail: Detail::Summary,
        };
        let collector = Collector::new(groups, settings.node);
        let collection = Collection { collector, all: None, cpu_and_memory: None, for_page: None };
        let stats = Self {
            runtime,
            pods_from_runtime: settings.pods_from_runtime,
            clock,
            disk,
            metrics,
            heard: watch::Sender::new(None),
            asking: Arc::new(Semaphore::new(1)),
            collection: Arc::new(Mutex::new(collection)),
        };
        (stats, task)
    }

    /// The whole summary of the node and these pods. What cannot be read is left out.
    ///
    /// # Errors
    /// If pods are measured by the runtime, and it does not answer.
    pub async fn summary(&self, pods: Arc<Vec<PodTarget>>) -> Result<Arc<Summary>, StatsError> {
        let disk = self.disk.ask(Arc::clone(&pods), self.mono());
        let collection = Arc::clone(&self.collection).lock_owned().await;
        if let Some(summary) = fresh(collection.all.as_ref(), self.mono()) {
            return Ok(summary);
        }
        let told = self.ask_runtime(&pods).await?;
        self.round(collection, move |collection| {
            let summary = collection.collector.all(&pods, &told, &disk);
            collection.all.insert(answer(&collection.collector, summary)).summary.clone()
        })
        .await
    }

    /// What these pods use at this moment, for a decision about them: nothing that was measured before is told again.
    /// `with_files`: what their files take, too, which are added up for it.
    ///
    /// # Errors
    /// If pods are measured by the runtime, and it does not answer.
    pub async fn of_pods(
        &self,
        pods: Arc<Vec<PodTarget>>,
        with_files: bool,
    ) -> Result<Vec<PodStats>, StatsError> {
        let measured = if with_files { self.measure_files(&pods).await? } else { Measured::default() };
        let told = match with_files || self.pods_from_runtime {
            true => match hear(&self.runtime, self.pods_from_runtime).await {
                Err(error) if self.pods_from_runtime => return Err(error),
                told => told.inspect_err(without_runtime).unwrap_or_default(),
            },
            false => FromRuntime::default(),
        };
        let mut collection = Arc::clone(&self.collection).lock_owned().await;
        let work = move || collection.collector.some(&pods, &told, &measured);
        tokio::task::spawn_blocking(work).await.map_err(|_| StatsError::Interrupted)
    }

    /// Adds up the files of these pods. Their drivers are not asked: what those hold is not on the node's disk.
    async fn measure_files(&self, pods: &Arc<Vec<PodTarget>>) -> Result<Measured, StatsError> {
        let (pods, clock, metrics) = (Arc::clone(pods), Arc::clone(&self.clock), Arc::clone(&self.metrics));
        let work = move || disk::measure_all(&pods, &clock, &metrics);
        tokio::task::spawn_blocking(work).await.map_err(|_| StatsError::Interrupted)
    }

    /// CPU and memory alone.
    ///
    /// # Errors
    /// If pods are measured by the runtime, and it does not answer.
    pub async fn cpu_and_memory(&self, pods: Arc<Vec<PodTarget>>) -> Result<Arc<Summary>, StatsError> {
        self.short(pods, Detail::Summary).await
    }

    /// CPU and memory, and of these what the question is about.
    async fn short(&self, pods: Arc<Vec<PodTarget>>, detail: Detail) -> Result<Arc<Summary>, StatsError> {
        let collection = Arc::clone(&self.collection).lock_owned().await;
        let mono = self.mono();
        let for_page = || fresh(collection.for_page.as_ref(), mono).filter(|_| detail == Detail::Resource);
        if let Some(summary) = fresh(collection.cpu_and_memory.as_ref(), mono).or_else(for_page) {
            return Ok(summary);
        }
        let told = if self.pods_from_runtime { self.ask_runtime(&pods).await? } else { Arc::default() };
        self.round(collection, move |collection| {
            let summary = collection.collector.cpu_and_memory(&pods, &told, detail);
            let answer = answer(&collection.collector, summary);
            let kept = match detail {
                Detail::Summary => &mut collection.cpu_and_memory,
                Detail::Resource => &mut collection.for_page,
            };
            kept.insert(answer).summary.clone()
        })
        .await
    }

    /// The page `/metrics/resource`.
    pub async fn resource_metrics(&self, pods: Arc<Vec<PodTarget>>, page: &mut Exposition) {
        let summary = self.short(pods, Detail::Resource).await;
        if let Err(error) = &summary {
            debug!(err = %error, "Failed to collect usage for resource metrics");
        }
        resource::write(summary.ok().as_deref(), page);
    }

    /// Metrics of these pods' logs and of the claims behind their volumes, as measured last.
    pub fn disk_metrics(&self, pods: Arc<Vec<PodTarget>>, page: &mut Exposition) {
        let measured: Measured = self.disk.ask(Arc::clone(&pods), self.mono());
        disk_metrics::write(&pods, &measured, page);
    }

    fn mono(&self) -> Duration {
        (self.clock)().mono
    }

    /// Runs a round to its end, whether or not anybody still waits for its answer.
    async fn round(
        &self,
        mut collection: OwnedMutexGuard<Collection>,
        work: impl FnOnce(&mut Collection) -> Arc<Summary> + Send + 'static,
    ) -> Result<Arc<Summary>, StatsError> {
        tokio::task::spawn_blocking(move || work(&mut collection)).await.map_err(|_| StatsError::Interrupted)
    }

    /// What the runtime says, now or a moment ago. Where others know most, nobody waits for it who can be shown what it
    /// said last. Its silence is an error only where nobody else knows.
    async fn ask_runtime(&self, pods: &[PodTarget]) -> Result<Arc<FromRuntime>, StatsError> {
        let now = self.mono();
        let last = self.heard.borrow().clone();
        if let Some(last) = last {
            let age = now.saturating_sub(last.mono);
            let is_known = |id: &ContainerId| last.told.containers.contains_key(id);
            let are_known = || pods.iter().flat_map(|pod| &pod.containers).all(|c| is_known(&c.id));
            if age < FRESH {
                return Ok(last.told);
            }
            if !self.pods_from_runtime && age < RUNTIME_SHOWN && are_known() {
                if age >= RUNTIME_FRESH {
                    self.ask_in_background(now);
                }
                return Ok(last.told);
            }
        }
        let told = match hear(&self.runtime, self.pods_from_runtime).await {
            Err(error) if self.pods_from_runtime => return Err(error),
            told => told.inspect_err(without_runtime).unwrap_or_default(),
        };
        let told = Arc::new(told);
        self.heard.send_replace(Some(RuntimeAnswer { mono: now, told: Arc::clone(&told) }));
        Ok(told)
    }

    /// Asks for the next ones who want to know. What it said last stays until it has answered.
    fn ask_in_background(&self, now: Duration) {
        let Ok(asking) = Arc::clone(&self.asking).try_acquire_owned() else { return };
        let (runtime, heard) = (self.runtime.clone(), self.heard.clone());
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with one answer of the runtime, whose calls have deadlines"
        )]
        tokio::spawn(async move {
            match hear(&runtime, false).await {
                Ok(told) => drop(heard.send_replace(Some(RuntimeAnswer { mono: now, told: Arc::new(told) }))),
                Err(error) => without_runtime(&error),
            }
            drop(asking);
        });
    }
}

fn without_runtime(error: &StatsError) {
    debug!(
        err = error as &dyn std::error::Error,
        "Failed to get container stats from the runtime; showing usage without them"
    );
}

/// Asks the runtime for all it knows that is wanted, within its time.
async fn hear(runtime: &Runtime, pods_from_runtime: bool) -> Result<FromRuntime, StatsError> {
    match tokio::time::timeout(RUNTIME_PATIENCE, hear_out(runtime, pods_from_runtime)).await {
        Ok(told) => told.map_err(StatsError::Runtime),
        Err(_) => Err(StatsError::RuntimeTimeout),
    }
}

async fn hear_out(runtime: &Runtime, pods_from_runtime: bool) -> Result<FromRuntime, RuntimeError> {
    let images = async {
        let result = runtime.image_fs().await;
        result.inspect_err(|e| debug!(err = e.message(), "Failed to get image file system")).ok()
    };
    let sandboxes = async { if pods_from_runtime { runtime.sandbox_usage().await } else { Ok(None) } };
    let (images, sandboxes) = tokio::join!(images, sandboxes);
    let (images, layers) = images.map(|all| (all.images, all.containers)).unwrap_or_default();
    let (images, layers) = (images.into_iter().next(), layers.into_iter().next());
    let told = match sandboxes? {
        Some(sandboxes) => {
            let containers = sandboxes.iter().flat_map(|s| &s.containers).cloned();
            let containers = containers.map(|c| (c.id.clone(), c)).collect();
            let sandboxes: HashMap<_, _> = sandboxes.into_iter().map(|s| (s.id.clone(), s)).collect();
            FromRuntime { containers, sandboxes: Some(sandboxes), images, layers }
        }
        None => {
            let containers = runtime.container_usage().await?;
            let containers = containers.into_iter().map(|c| (c.id.clone(), c)).collect();
            FromRuntime { containers, sandboxes: None, images, layers }
        }
    };
    Ok(told)
}

fn fresh(answer: Option<&Answer>, mono: Duration) -> Option<Arc<Summary>> {
    let answer = answer.filter(|answer| mono.saturating_sub(answer.mono) < FRESH)?;
    Some(Arc::clone(&answer.summary))
}

fn answer(collector: &Collector, summary: Summary) -> Answer {
    Answer { mono: (collector.groups.clock)().mono, summary: Arc::new(summary) }
}
