//! Takes samples of what the node has left of what it can run short of.

use std::path::PathBuf;
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

use super::signals::{self, Places};
use crate::driver::Clock;
use crate::http_api::usage;

/// For the runtime's answer: a runtime that hangs is no reason not to see what runs short.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(1);
/// Time between two samples.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);

/// Knows where to measure.
pub(crate) struct Sampler {
    /// All but the folder of images.
    places: Places,
    runtime: Runtime,
    clock: Clock,
    image_folder: ArcSwapOption<PathBuf>,
}

impl Sampler {
    /// One whose samples bear the time of this clock.
    pub(crate) fn new(config: &Config, cgroups: &CgroupTree, runtime: Runtime, clock: Clock) -> Self {
        let places = Places {
            root: config.paths.root.clone(),
            images: None,
            cgroups: cgroups.mounts().clone(),
            pods: usage::pods_group(config, cgroups),
        };
        Self { places, runtime, clock, image_folder: ArcSwapOption::empty() }
    }

    /// The runtime came up, and may be another one.
    pub(crate) fn forget_image_folder(&self) {
        self.image_folder.store(None);
    }

    /// Measures now.
    pub(crate) async fn sample(&self) -> Sample {
        let places = Places { images: self.image_folder().await, ..self.places.clone() };
        let signals = tokio::task::spawn_blocking(move || signals::read(&places)).await.unwrap_or_default();
        Sample { at: self.clock.now().mono, signals }
    }

    /// Where the images lie. The runtime is asked once each time it comes up.
    async fn image_folder(&self) -> Option<PathBuf> {
        if let Some(folder) = self.image_folder.load_full() {
            return Some(folder.as_ref().clone());
        }
        let asked = tokio::time::timeout(RUNTIME_PATIENCE, self.runtime.image_fs());
        // Cancel-safe: the question is simply asked again.
        let told =
            asked.await.inspect_err(|_| debug!("Runtime does not report its image file system")).ok()?;
        let told = told.inspect_err(|error| debug!(err = error.message(), "Failed to get image file system"));
        let folder = told.ok()?.images.into_iter().next()?.mountpoint;
        self.image_folder.store(Some(Arc::new(folder.clone())));
        Some(folder)
    }
}

/// Samples for the core, one every so often: what is left differs each time, and conditions end by it even when it does not.
pub(crate) async fn samples(sampler: Arc<Sampler>, inbox: Sender<Input>) {
    while inbox.send(Input::Sample(sampler.sample().await)).await.is_ok() {
        tokio::time::sleep(SAMPLE_EVERY).await;
    }
}
