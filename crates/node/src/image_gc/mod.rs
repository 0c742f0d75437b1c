//! Garbage collection of images: a state machine that removes unused ones, least recently used first, when their file system
//! fills up or they are older than they may get.
//!
//! The rules are upstream's (`image_gc_manager.go`): every five minutes those go that nobody has used for too long, then as
//! many as bring the file system down to the lower threshold if it is over the upper one. An image that a container, an image
//! volume or a start under way holds stays, and so does one that the runtime has pinned.
//!
//! Some of it is better than upstream's. A file system that fills up is not left full until the next five minutes are over:
//! the sample that shows it brings a collection forward, and so does the moment at which an image is old enough. How full it
//! is after old images went is measured again. What cannot be removed holds up nothing else. And an image is looked for again
//! if it may have gone since a pod was told that it is there ([`removals`]).

mod ages;
pub(crate) mod policy;
pub(crate) mod removals;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use model::reason::event;
use model::{ImageRef, Now};
use serde::{Deserialize, Serialize};

use self::ages::{Candidate, Held, ImageAges};
use self::policy::{Excess, size_text};
use self::removals::ImageRemovals;
use crate::effect::{
    EventObject, EventRecord, FailureKind, ImageAction, ImageRemovalCause, Outcome, RuntimeOutcome,
};
use crate::node_status::{NodeImage, Readings};
use crate::outbox::Outbox;
use crate::pods::registry::PodRegistry;
use crate::pressure::{Sample, Signal};
use crate::settings::Settings;
use crate::tasks::{NodeTask, Owner};
use crate::wait::{Found, WaitOn};

const TASK: Owner = Owner::Node(NodeTask::ImageGc);

/// Time between two collections; upstream's number.
const PERIOD: Duration = Duration::from_secs(300);
/// Time until another look whether all pods were read. What one that was not holds is not known.
const UNREAD_PAUSE: Duration = Duration::from_secs(10);

/// Which images there are, how old, and what is being done about them. Times are monotonic.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct ImageGc {
    ages: ImageAges,
    /// Whether the runtime has said which images there are.
    is_listed: bool,
    /// Whether it has said what it holds; before that, nobody knows which of them are used.
    is_relisted: bool,
    /// The next regular collection.
    next_at: Duration,
    /// A collection before that, as space runs short.
    early_at: Option<Duration>,
    /// None begins before that.
    not_before: Duration,
    /// All that may go is to go, however full the file system is.
    #[serde(default)]
    is_demanded: bool,
    collection: Option<Collection>,
    removals: ImageRemovals,
    /// Whether the last sample was over the upper threshold.
    is_over: bool,
    /// What kept the last collection from freeing enough.
    shortage: Option<String>,
    /// Whether the last regular collection has failed.
    has_failed: bool,
}

/// Why a collection began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Occasion {
    /// It was time.
    Time,
    /// It was brought forward: it does what it can, and tells of nothing.
    Early,
    /// The node runs short of disk: all that may go is to go. That it was not enough is told by whoever asked.
    Demand,
}

/// A collection under way.
#[derive(Debug, Serialize, Deserialize)]
struct Collection {
    occasion: Occasion,
    stage: Stage,
    /// What is to go in this stage.
    queue: VecDeque<Candidate>,
    removing: Option<Candidate>,
    /// When the last image went; zero when none did.
    removed_at: Duration,
    /// Why images of this stage could not be removed.
    errors: Vec<String>,
    /// Why it has failed.
    failures: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    /// Images that nobody has used for too long.
    Old,
    /// A sample of how full the file system is, newer than the last removal.
    Measuring,
    /// Images for their space.
    Space { excess: Excess, freed: u64 },
    /// Images for their space, as many as may go.
    All,
    /// Records of pulls of what is there no more.
    Pruning,
}

impl Stage {
    fn cause(self) -> ImageRemovalCause {
        match self {
            Self::Space { .. } | Self::All => ImageRemovalCause::Space,
            Self::Old | Self::Measuring | Self::Pruning => ImageRemovalCause::Age,
        }
    }

    /// Whether enough was removed.
    fn is_enough(self) -> bool {
        matches!(self, Self::Space { excess, freed } if freed >= excess.bytes)
    }
}

/// What a collection goes by.
struct Surroundings<'a> {
    pods: &'a PodRegistry,
    readings: &'a Readings,
    settings: &'a Settings,
    now: Now,
}

impl ImageGc {
    // ---- what is known ----

    /// These are the images there are.
    pub(crate) fn listed(&mut self, images: &[NodeImage], now: Now) {
        self.is_listed = true;
        self.ages.listed(images, now.mono);
    }

    /// The runtime has said what it holds.
    pub(crate) fn relisted(&mut self) {
        self.is_relisted = true;
    }

    /// Something was done for a pod. If a container was started, its images are used now.
    pub(crate) fn pod_task_ended(&mut self, outcome: &Outcome, now: Now) {
        if let Outcome::Runtime(RuntimeOutcome::ContainerStarted(container)) = outcome {
            container.images().for_each(|image| self.ages.used(image, now.mono));
        }
    }

    /// What the node has left was measured. A file system that has just filled up is not left so until the next turn.
    pub(crate) fn sampled(&mut self, sample: &Sample, settings: &Settings) {
        let file_system = sample.signals.get(&Signal::ImageFs);
        let is_over = file_system.is_some_and(|amount| settings.image_gc.excess(*amount).is_some());
        if is_over && !self.is_over {
            self.early_at = Some(sample.at);
        }
        if !is_over {
            self.shortage = None;
        }
        self.is_over = is_over;
    }

    /// All images that may go are to go: the node runs short of disk.
    pub(crate) fn demand(&mut self) {
        self.is_demanded = true;
    }

    /// Whether that is still to be done.
    pub(crate) fn is_demanded(&self) -> bool {
        self.is_demanded
    }

    /// Which answers about images are not to be acted on.
    pub(crate) fn removals(&self) -> &ImageRemovals {
        &self.removals
    }

    // ---- what is done about it ----

    /// Goes on with a collection, or begins one that is due.
    pub(crate) fn drive(
        &mut self,
        pods: &PodRegistry,
        readings: &Readings,
        settings: &Settings,
        now: Now,
        out: &mut Outbox,
    ) {
        let is_due = self.next_deadline(settings).is_some_and(|at| at <= now.mono);
        if out.is_open(&TASK) || self.collection.is_none() && !is_due {
            return;
        }
        let around = Surroundings { pods, readings, settings, now };
        if self.collection.is_none() {
            self.begin(&around);
        }
        self.go_on(&around, out);
    }

    /// When a collection is due.
    pub(crate) fn next_deadline(&self, settings: &Settings) -> Option<Duration> {
        let is_known = self.is_listed && self.is_relisted;
        if !is_known || self.collection.is_some() {
            return None;
        }
        if self.is_demanded {
            return Some(self.not_before);
        }
        if settings.image_gc.is_off() {
            return None;
        }
        let at = self.early_at.map_or(self.next_at, |early| early.min(self.next_at));
        Some(at.max(self.not_before))
    }

    fn begin(&mut self, around: &Surroundings<'_>) {
        let (now, images, policy) = (around.now, &around.readings.images, &around.settings.image_gc);
        let Some(held) = held(around.pods) else {
            self.not_before = now.after(UNREAD_PAUSE);
            return;
        };
        for image in images.iter().filter(|image| held.has(image)) {
            self.ages.used(&image.id, now.mono);
        }
        if !around.pods.iter().any(|pod| pod.is_asking_for_image()) {
            self.removals.forget();
        }
        if self.is_demanded {
            let queue = self.ages.removable(images, &held, policy, now.mono).into();
            self.collection = Some(Collection::new(Occasion::Demand, Stage::All, queue));
            return;
        }
        // When a process has not lived for that long, it cannot know of an image that nobody has used it.
        let may_know = policy.maximum_age.is_some_and(|age| now.mono > age);
        let old = if may_know { self.ages.old(images, &held, policy, now.mono) } else { Vec::new() };
        let occasion = if self.next_at <= now.mono { Occasion::Time } else { Occasion::Early };
        self.early_at = None;
        self.collection = Some(Collection::new(occasion, Stage::Old, old.into()));
    }

    /// Removes the next image, or goes on to the next stage, until there is something to wait for.
    fn go_on(&mut self, around: &Surroundings<'_>, out: &mut Outbox) {
        while let Some(collection) = &mut self.collection {
            if !collection.queue.is_empty() && !collection.stage.is_enough() {
                // Pods may have come meanwhile. When one that was not read is, it goes on.
                let Some(held) = held(around.pods) else { return };
                let Some(next) = collection.next(&held, &around.readings.images) else { continue };
                let (image, cause) = (next.id.clone(), collection.stage.cause());
                collection.removing = Some(next);
                self.removals.begin(image.clone());
                out.start(TASK, ImageAction::Remove { image, cause });
                return;
            }
            let errors = std::mem::take(&mut collection.errors);
            match collection.stage {
                Stage::Old => {
                    if !errors.is_empty() {
                        let age = around.settings.image_gc.maximum_age.unwrap_or_default();
                        collection.failures.push(format!(
                            "wanted to free images older than {}, encountered errors in image deletion: {}",
                            golang::duration::text(age),
                            aggregate(&errors)
                        ));
                    }
                    collection.stage = Stage::Measuring;
                }
                Stage::Measuring => {
                    let sample = around.readings.sample.as_ref();
                    let sample = sample.filter(|sample| sample.at >= collection.removed_at);
                    let Some((sample, held)) = sample.zip(held(around.pods)) else { return };
                    self.measured(sample, &held, around, out);
                }
                Stage::Space { excess, freed } => {
                    self.freed(excess, freed, &errors, around, out);
                    self.prune(out);
                }
                Stage::All => self.prune(out),
                Stage::Pruning => return,
            }
            if out.is_open(&TASK) {
                return;
            }
            if self.collection.as_ref().is_some_and(|collection| collection.stage == Stage::Pruning) {
                self.end(around.now, out);
            }
        }
    }

    /// Decides whether space is to be freed.
    fn measured(&mut self, sample: &Sample, held: &Held<'_>, around: &Surroundings<'_>, out: &mut Outbox) {
        let Some(collection) = &mut self.collection else { return };
        let (images, policy) = (&around.readings.images, &around.settings.image_gc);
        let amount = sample.signals.get(&Signal::ImageFs).copied();
        let excess = match amount {
            Some(amount) if amount.capacity > 0 => policy.excess(amount),
            Some(_) => {
                let text = "invalid capacity 0 on image filesystem";
                collection.fail(event::INVALID_DISK_CAPACITY, text.to_owned(), out);
                None
            }
            None => {
                let text = "failed to get the usage of the image filesystem: the container runtime does not say where it is";
                collection.failures.push(text.to_owned());
                None
            }
        };
        match excess {
            Some(excess) => {
                collection.queue = self.ages.removable(images, held, policy, around.now.mono).into();
                collection.stage = Stage::Space { excess, freed: 0 };
            }
            None => {
                self.shortage = None;
                self.prune(out);
            }
        }
    }

    /// Tells whether that was enough. If not, it is tried again when the next image is old enough.
    fn freed(
        &mut self,
        excess: Excess,
        freed: u64,
        errors: &[String],
        around: &Surroundings<'_>,
        out: &mut Outbox,
    ) {
        let Some(collection) = &mut self.collection else { return };
        if !errors.is_empty() {
            collection.failures.push(format!(
                "wanted to free {} bytes, but freed {freed} bytes space with errors in image deletion: {}",
                excess.bytes,
                aggregate(errors)
            ));
        }
        if freed >= excess.bytes {
            self.shortage = None;
            return;
        }
        let message = format!(
            "Insufficient free disk space on the node's image filesystem ({}% of {} used). Failed to free sufficient \
             space by deleting unused images (freed {freed} bytes). Investigate disk usage, as it could be used by \
             active images, logs, volumes, or other data.",
            excess.used_percent,
            size_text(excess.capacity)
        );
        self.shortage = Some(message.clone());
        collection.fail(event::FREE_DISK_SPACE_FAILED, message, out);
        let (images, policy) = (&around.readings.images, &around.settings.image_gc);
        if let Some(held) = held(around.pods) {
            self.early_at = self.ages.next_removable(images, &held, policy, around.now.mono);
        }
    }

    /// If images went, so do the records of their pulls.
    fn prune(&mut self, out: &mut Outbox) {
        let Some(collection) = &mut self.collection else { return };
        collection.stage = Stage::Pruning;
        if collection.removed_at > Duration::ZERO {
            out.start(TASK, ImageAction::PruneRecords);
        }
    }

    /// As upstream, one failure is told by nothing but its own event: there may be nothing measured yet.
    fn end(&mut self, now: Now, out: &mut Outbox) {
        let Some(collection) = self.collection.take() else { return };
        match collection.occasion {
            Occasion::Time => {}
            Occasion::Early => return,
            Occasion::Demand => {
                self.is_demanded = false;
                return;
            }
        }
        self.next_at = now.after(PERIOD);
        let has_failed = !collection.failures.is_empty();
        if std::mem::replace(&mut self.has_failed, has_failed) && has_failed {
            record(event::IMAGE_GC_FAILED, collection.failures.join("; "), out);
        }
    }

    /// The removal of an image, or of records, has ended.
    pub(crate) fn finished(&mut self, outcome: Outcome, now: Now, out: &mut Outbox) {
        let Some(collection) = &mut self.collection else { return };
        let Some(image) = collection.removing.take() else { return self.end(now, out) };
        // What failed may have happened, and may still.
        self.removals.end(now.mono);
        match outcome {
            Outcome::Failed(failure) => {
                if failure.kind == FailureKind::RuntimeUnavailable {
                    // None of the others will go either.
                    collection.queue.clear();
                }
                collection.errors.push(failure.message);
            }
            Outcome::Done | Outcome::Gone => {
                collection.removed_at = now.mono;
                if let Stage::Space { freed, .. } = &mut collection.stage {
                    *freed = freed.saturating_add(image.size_bytes);
                }
                self.ages.removed(&image.id);
            }
            _ => {}
        }
    }

    /// Finds what is being removed, and what there is no space for.
    pub(crate) fn find_waits(&self, settings: &Settings, out: &Outbox, found: &mut Found) {
        if let Some(image) = self.removals.under_way() {
            let wait = found.add(WaitOn::ImageRemoval(image.to_string()));
            wait.since = out.since(&TASK).unwrap_or_default();
        }
        if let Some(shortage) = &self.shortage {
            let wait = found.add(WaitOn::ImageSpace);
            wait.error = Some(shortage.clone());
            wait.next_try = self.next_deadline(settings);
        }
    }
}

impl Collection {
    fn new(occasion: Occasion, stage: Stage, queue: VecDeque<Candidate>) -> Self {
        Self {
            occasion,
            stage,
            queue,
            removing: None,
            removed_at: Duration::ZERO,
            errors: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// The next image to be removed that is still there and held by nobody.
    fn next(&mut self, held: &Held<'_>, images: &[NodeImage]) -> Option<Candidate> {
        let is_free = |candidate: &Candidate| {
            images.iter().find(|image| image.id == candidate.id).is_some_and(|image| !held.has(image))
        };
        std::iter::from_fn(|| self.queue.pop_front()).find(is_free)
    }

    fn fail(&mut self, reason: &'static str, message: String, out: &mut Outbox) {
        if self.occasion == Occasion::Time {
            record(reason, message.clone(), out);
        }
        self.failures.push(message);
    }
}

/// The images that pods hold; `None` as long as one of them was not read, which may hold any.
fn held(pods: &PodRegistry) -> Option<Held<'_>> {
    let mut held = Held::default();
    for pod in pods.iter() {
        let observed = pod.seen.last()?;
        held.0.extend(
            observed.containers.iter().flat_map(|container| container.images()).map(ImageRef::as_str),
        );
        held.0.extend(pod.images_to_start_from().map(ImageRef::as_str));
    }
    Some(held)
}

/// As Go prints several errors in one.
fn aggregate(errors: &[String]) -> String {
    match errors {
        [only] => only.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

fn record(reason: &'static str, message: String, out: &mut Outbox) {
    let about = EventObject::Node;
    out.record(EventRecord { about, is_warning: true, reason: reason.into(), message });
}
