//! What pods may use of the images that are here (KEP-2535).
//!
//! An image that a secret opened must not be everybody's only because it lies on the same node. So it is noted on disk
//! which image is being pulled, and of each that was pulled, with what. Who wants an image that is present has to have
//! that too, or pulls it with what it has: the registry decides then, and the pull costs little as all layers are
//! here.
//!
//! | what | where |
//! |---|---|
//! | the documents, which are upstream's | [`document`] |
//! | their files | [`disk`] |
//! | those that are in memory, so that a start reads no file | [`cache`], [`lru`] |
//! | the end of those whose images are gone | [`prune`] |
//! | what a record says of a pod, and what a pull adds to it | [`rules`] |
//!
//! Of an image with neither note no kubelet knows: it was put here by somebody, by default for everybody. So whatever
//! is in doubt keeps its note, until the image is pulled: a pull that is given up may have succeeded, and so may one
//! of an earlier process.
//!
//! Locks: `writing` is held while files are read and changed, and blocks; `cache` only for a moment, and is taken
//! after `writing`.

mod cache;
mod disk;
mod document;
mod lru;
mod prune;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use config::ImageVerification;
use jiff::Timestamp;
use model::ImageRef;
use telemetry::metrics::Metrics;
use tokio::task::spawn_blocking;
use tracing::error;

use self::cache::{Known, RecordCache};
use self::disk::Disk;
use self::document::Record;
use self::rules::{Fit, Needs, Proof, fit, needs, to_the_second, with_proof};
use super::keyring::Credentials;
use super::name::repository;
use super::verification::is_asked_for;
use crate::client::Runtime;

pub use disk::RecordError;

/// What is noted of pulls, and the policy that goes by it.
#[derive(Clone, Debug)]
pub struct PullRecords(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    disk: Disk,
    writing: Mutex<()>,
    cache: Mutex<RecordCache>,
    verification: ImageVerification,
    metrics: Arc<Metrics>,
}

/// How many pods and pulls there may be, which bounds what is kept in memory.
#[derive(Clone, Copy, Debug)]
pub struct PullLimits {
    /// `maxPods`
    pub pods: usize,
    /// `maxParallelImagePulls`, 0 for no limit.
    pub parallel: usize,
}

/// Which of a pod's credentials it takes to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Those of its pull secrets.
    pub secrets: bool,
    /// Those of its service account.
    pub accounts: bool,
}

/// What became of a question, as upstream's metric has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    NotAskedFor,
    Known,
    MustPull,
    Unreadable,
}

impl Verdict {
    fn label(self) -> &'static str {
        match self {
            Self::NotAskedFor => "credentialPolicyAllowed",
            Self::Known => "credentialRecordFound",
            Self::MustPull => "mustAuthenticate",
            Self::Unreadable => "error",
        }
    }
}

impl PullRecords {
    /// Makes the folders below the kubelet's root folder, or reads what is in them. Blocks.
    ///
    /// # Errors
    /// When the folders cannot be made. A record that cannot be read is logged.
    pub fn open(
        root: &Path,
        verification: ImageVerification,
        limits: PullLimits,
        metrics: Arc<Metrics>,
    ) -> Result<Self, RecordError> {
        let disk = Disk::new(root)?;
        let cache = Mutex::new(RecordCache::new(disk.intents(), disk.records(), limits));
        let inner = Inner { disk, writing: Mutex::default(), cache, verification, metrics };
        inner.count();
        Ok(Self(Arc::new(inner)))
    }

    /// Images whose pulls an earlier process did not see the end of and that are here all the same are noted as
    /// pulled, with nothing: who wants one has to pull it. To be called before anything else is asked.
    pub async fn adopt(&self, runtime: &Runtime) {
        let begun: BTreeSet<String> = lock(&self.0.cache).doubtful().into_iter().collect();
        if begun.is_empty() {
            return;
        }
        let images = match runtime.list_images().await {
            Ok(images) => images,
            Err(error) => {
                error!(
                    err = &error as &dyn std::error::Error,
                    "Failed to list images to resolve image pull intents"
                );
                return;
            }
        };
        let inner = self.0.clone();
        blocking(move || {
            let _writing = lock(&inner.writing);
            for image in &images {
                for name in image.digests.iter().chain(&image.tags).filter(|name| begun.contains(*name)) {
                    inner.adopt(name, image.id.as_str());
                }
            }
            inner.count();
        })
        .await;
    }

    /// Whether a pod may use an image that is present without pulling it. `image` is its name as the pod has it, `id`
    /// what it is at the runtime. `offers` is asked for the pod's credentials only if they decide it.
    pub async fn allow<F, C>(&self, image: &str, id: &ImageRef, offers: F) -> bool
    where
        F: FnOnce(Wanted) -> C,
        C: Future<Output = Vec<Credentials>>,
    {
        let verdict = self.judge(image, id, offers).await;
        self.0.metrics.image_pull_checks.with([verdict.label()]).increment();
        matches!(verdict, Verdict::NotAskedFor | Verdict::Known)
    }

    async fn judge<F, C>(&self, image: &str, id: &ImageRef, offers: F) -> Verdict
    where
        F: FnOnce(Wanted) -> C,
        C: Future<Output = Vec<Credentials>>,
    {
        let known = match self.known(image, id).await {
            Ok(known) => known,
            Err(error) => {
                error!(
                    err = &error as &dyn std::error::Error,
                    image, "Failed to read image pull record; the image has to be pulled again"
                );
                return Verdict::Unreadable;
            }
        };
        let is_pulled = !matches!(known, Known::Nothing);
        if !is_asked_for(&self.0.verification, image, is_pulled) {
            return Verdict::NotAskedFor;
        }
        let Known::Pulled(record) = known else { return Verdict::MustPull };
        let repository = repository(image);
        let wanted = match needs(&record, repository) {
            Needs::Nothing => return Verdict::Known,
            Needs::Pull => return Verdict::MustPull,
            Needs::Credentials { secrets, accounts } => Wanted { secrets, accounts },
        };
        let offered = offers(wanted).await;
        let mapping = record.credential_mapping.get(repository);
        match mapping.map_or(Fit::Unknown, |mapping| fit(mapping, &offered)) {
            Fit::Known => Verdict::Known,
            Fit::Unknown => Verdict::MustPull,
            Fit::Noteworthy(proof) => {
                let (inner, image, id) = (self.0.clone(), image.to_owned(), id.clone());
                // The pod may use it whether or not that can be noted.
                let noting = move || {
                    let _writing = lock(&inner.writing);
                    inner.note_or_log(&image, id.as_str(), Some(&proof))
                };
                blocking(noting).await;
                Verdict::Known
            }
        }
    }

    async fn known(&self, image: &str, id: &ImageRef) -> Result<Known, RecordError> {
        if let Some(known) = lock(&self.0.cache).known(image, id.as_str()) {
            return Ok(known);
        }
        let (inner, image, id) = (self.0.clone(), image.to_owned(), id.clone());
        let read = blocking(move || inner.read(&image, id.as_str())).await;
        // Without an answer, as if it were noted: it has to be pulled.
        read.unwrap_or(Ok(Known::Pulling))
    }

    /// Notes that a pull begins.
    ///
    /// # Errors
    /// When it cannot be noted: the pull must not begin then.
    pub async fn begin(&self, image: &str) -> Result<PullUnderWay, RecordError> {
        let (inner, image) = (self.0.clone(), image.to_owned());
        let begun = blocking(move || {
            let _writing = lock(&inner.writing);
            inner.disk.write_intent(&image)?;
            lock(&inner.cache).began(&image);
            inner.count();
            Ok(PullUnderWay { inner: inner.clone(), image, is_settled: false })
        });
        begun.await.unwrap_or_else(|| Err(RecordError::interrupted()))
    }
}

/// A pull that is noted as under way. Dropped without a word about its end, it may have succeeded.
#[derive(Debug)]
pub struct PullUnderWay {
    inner: Arc<Inner>,
    image: String,
    is_settled: bool,
}

impl PullUnderWay {
    /// The image is there, pulled with these credentials or with none. `id` is what it will be asked for by.
    pub async fn succeeded(self, id: &ImageRef, used: Option<&Credentials>) {
        let (id, proof) = (id.clone(), Proof::of(used));
        blocking(move || {
            let inner = self.inner.clone();
            let _writing = lock(&inner.writing);
            // If that fails, the other note stays, and the image counts as pulled.
            if inner.note_or_log(&self.image, id.as_str(), Some(&proof)) {
                self.settle(true);
            }
            inner.count();
        })
        .await;
    }

    /// It was not pulled.
    pub async fn failed(self) {
        blocking(move || {
            let inner = self.inner.clone();
            let _writing = lock(&inner.writing);
            self.settle(false);
            inner.count();
        })
        .await;
    }

    /// The last pull that ends deletes the note, unless it is not known what became of another. `writing` is held, so
    /// that none begins meanwhile.
    fn settle(mut self, is_success: bool) {
        self.is_settled = true;
        if !lock(&self.inner.cache).ended(&self.image, is_success) {
            return;
        }
        match self.inner.disk.delete_intent(&self.image) {
            Ok(()) => lock(&self.inner.cache).forget_pulls(&self.image),
            Err(error) => {
                error!(err = &error as &dyn std::error::Error, "Failed to remove image pull intent");
            }
        }
    }
}

impl Drop for PullUnderWay {
    fn drop(&mut self) {
        if !self.is_settled {
            lock(&self.inner.cache).given_up(&self.image);
        }
    }
}

impl Inner {
    /// From the files. `writing` is not held yet.
    fn read(&self, image: &str, id: &str) -> Result<Known, RecordError> {
        let _writing = lock(&self.writing);
        if let Some(record) = self.record(id)? {
            return Ok(Known::Pulled(record));
        }
        if lock(&self.cache).is_noted(image) == Some(true) {
            return Ok(Known::Pulling);
        }
        Ok(if self.disk.has_intent(image)? { Known::Pulling } else { Known::Nothing })
    }

    /// From memory or its file. `writing` is held.
    fn record(&self, id: &str) -> Result<Option<Arc<Record>>, RecordError> {
        let mut memory = lock(&self.cache);
        if let Some(record) = memory.records.get(id) {
            return Ok(Some(record.clone()));
        }
        if memory.records.is_complete() {
            return Ok(None);
        }
        drop(memory);
        let Some(record) = self.disk.record(id)?.map(Arc::new) else { return Ok(None) };
        lock(&self.cache).records.put(id.to_owned(), record.clone());
        Ok(Some(record))
    }

    /// Notes that the image was pulled and what that proves, if anything. `writing` is held.
    fn note(&self, image: &str, id: &str, proof: Option<&Proof>) -> Result<(), RecordError> {
        let now = Timestamp::now();
        // One that cannot be read is as good as none, and is replaced.
        let known = self.record(id).unwrap_or_default();
        let changed = match (known, proof) {
            (Some(record), Some(proof)) => with_proof(&record, repository(image), proof, now),
            (None, Some(proof)) => with_proof(&Record::new(id), repository(image), proof, now),
            (Some(_), None) => None,
            (None, None) => {
                let mut record = Record::new(id);
                record.last_updated_time = Some(to_the_second(now));
                Some(record)
            }
        };
        let Some(record) = changed else { return Ok(()) };
        self.disk.write_record(&record)?;
        lock(&self.cache).records.put(id.to_owned(), Arc::new(record));
        Ok(())
    }

    fn note_or_log(&self, image: &str, id: &str, proof: Option<&Proof>) -> bool {
        let noted = self.note(image, id, proof);
        if let Err(error) = &noted {
            error!(err = error as &dyn std::error::Error, image, "Failed to write image pulled record");
        }
        noted.is_ok()
    }

    /// `writing` is held.
    fn adopt(&self, image: &str, id: &str) {
        if !self.note_or_log(image, id, None) {
            return;
        }
        match self.disk.delete_intent(image) {
            Ok(()) => lock(&self.cache).forget_pulls(image),
            Err(error) => {
                error!(
                    err = &error as &dyn std::error::Error,
                    "Failed to remove image pull intent of an earlier kubelet"
                );
            }
        }
    }

    /// Tells the metrics how much there is.
    fn count(&self) {
        // There are far fewer files than a float counts exactly.
        if let Ok((intents, records)) = self.disk.counts() {
            self.metrics.pull_intents_on_disk.set(intents as f64);
            self.metrics.pull_records_on_disk.set(records as f64);
        }
        let [intents, records] = lock(&self.cache).percentages();
        self.metrics.pull_intents_in_memory.set(intents as f64);
        self.metrics.pull_records_in_memory.set(records as f64);
    }
}

/// Whoever panicked with it has at worst not finished writing a file, which is not seen then.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs what waits for the disk where that holds nobody up. Once begun it runs to its end, whether or not the answer is
/// still waited for. `None` if the process ends.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    spawn_blocking(work).await.ok()
}
