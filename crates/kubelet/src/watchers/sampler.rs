//! Takes samples of what the node has left of what it can run short of.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use config::Config;
use host::cgroup::CgroupTree;
use node::Input;
use node::pressure::Sample;
use runtime::Runtime;
use tokio::sync::mpsc::Sender;
use tracing::debug;

use super::signals::{self, Places, RuntimePlaces};
use crate::driver::Clock;
use crate::usage;

/// For the runtime's answer: a runtime that hangs is no reason not to see what runs short.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(1);
/// Time between two samples.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);

/// Knows where to measure.
pub(crate) struct Sampler {
    /// All but the runtime's.
    places: Places,
    runtime: Runtime,
    clock: Clock,
    /// Whether writable layers count apart from images (`KubeletSeparateDiskGC`).
    counts_layers_apart: bool,
    told: ArcSwapOption<RuntimePlaces>,
}

impl Sampler {
    /// One whose samples bear the time of this clock.
    pub(crate) fn new(config: &Config, cgroups: &CgroupTree, runtime: Runtime, clock: Clock) -> Self {
        let places = Places {
            root: config.paths.root.clone(),
            runtime: None,
            cgroups: cgroups.mounts().clone(),
            pods: usage::pods_group(config, cgroups),
        };
        let counts_layers_apart = config.gates.enabled("KubeletSeparateDiskGC");
        Self { places, runtime, clock, counts_layers_apart, told: ArcSwapOption::empty() }
    }

    /// The runtime came up, and may be another one.
    pub(crate) fn forget_runtime_places(&self) {
        self.told.store(None);
    }

    /// Measures now.
    pub(crate) async fn sample(&self) -> Sample {
        let places = Places { runtime: self.runtime_places().await, ..self.places.clone() };
        let read = tokio::task::spawn_blocking(move || (signals::layout(&places), signals::read(&places)));
        let (layout, signals) = read.await.unwrap_or_default();
        Sample { at: self.clock.now().mono, layout, signals }
    }

    /// Where images and layers lie. The runtime is asked once each time it comes up.
    async fn runtime_places(&self) -> Option<RuntimePlaces> {
        if let Some(told) = self.told.load_full() {
            return Some(told.as_ref().clone());
        }
        let asked = tokio::time::timeout(RUNTIME_PATIENCE, self.runtime.image_fs());
        // Cancel-safe: the question is simply asked again.
        let told =
            asked.await.inspect_err(|_| debug!("Runtime does not report its image file system")).ok()?;
        let told = told.inspect_err(|error| debug!(err = error.message(), "Failed to get image file system"));
        let told = told.ok()?;
        let layers = told.containers.into_iter().next().map(|layers| layers.mountpoint);
        let places = RuntimePlaces {
            images: told.images.into_iter().next()?.mountpoint,
            layers: layers.filter(|_| self.counts_layers_apart),
        };
        self.told.store(Some(Arc::new(places.clone())));
        Some(places)
    }
}

/// Samples for the core, one every so often: what is left differs each time, and conditions end by it even when it does not.
pub(crate) async fn samples(sampler: Arc<Sampler>, inbox: Sender<Input>) {
    while inbox.send(Input::Sample(sampler.sample().await)).await.is_ok() {
        tokio::time::sleep(SAMPLE_EVERY).await;
    }
}
