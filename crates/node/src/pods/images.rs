//! Images for containers that are about to start, those of their volumes among them: present, to be pulled, or waited for.

use std::time::Duration;

use model::pod::{self, PullPolicy};
use model::reason::waiting::is_about_image;
use model::reason::{event, waiting};
use model::{ImageRef, ImageUse, Pod, RuntimeHandler, WantedImage, image_volumes};

use super::backoff::Delays;
use super::container::Waiting;
use super::image_record::{Image, ImageRecord};
use super::record::PodRecord;
use crate::cx::Cx;
use crate::effect::{Failure, FailureKind, ImageAction, ImageAnswer, ImageOutcome, ImageQuestion, Outcome};
use crate::outbox::Outbox;
use crate::runtime_class::{NoHandler, handler_of};
use crate::tasks::PodTask;

/// `ErrImagePull` is shown for this long before it becomes `ImagePullBackOff`, so that whoever
/// watches sees the error itself.
const PULL_ERROR_SHOWN: Duration = Duration::from_secs(1);

/// Time until an image is looked for again that was being removed.
const DOUBTED_IMAGE_PAUSE: Duration = Duration::from_secs(1);

/// What is pulled in any case need not be looked for.
fn question(wanted: &WantedImage) -> ImageQuestion {
    match wanted.policy {
        PullPolicy::Always => ImageQuestion::Name,
        PullPolicy::IfNotPresent | PullPolicy::Never => ImageQuestion::Presence,
    }
}

impl PodRecord {
    /// Brings an image closer to being ready.
    pub(crate) fn drive_image(&mut self, used_by: &ImageUse, cx: &mut Cx<'_>) {
        let task = PodTask::Image(used_by.clone());
        let Some(pod) = self.allocated() else { return };
        let Some(wanted) = used_by.wanted(&pod) else { return };
        if self.tasks.is_open(&task) {
            return;
        }
        let state = &mut self.image_mut(used_by).state;
        match *state {
            Image::Ready(_) => {}
            Image::Failed { next_at, .. } if next_at > cx.now.mono => {
                self.show_back_off(used_by, &wanted, cx)
            }
            Image::Unknown | Image::Outdated | Image::Failed { .. } => {
                *state = Image::Unknown;
                let question = question(&wanted);
                self.start(task, ImageAction::Inspect { pod, used_by: used_by.clone(), question }, cx.out);
            }
            Image::Wanted => {
                let Some(handler) = self.handler_to_pull_for(&pod, cx) else { return };
                let text = format!("Pulling image \"{}\"", wanted.reference);
                self.record_image_event(used_by, false, event::PULLING, text, cx.out);
                self.start(task, ImageAction::Pull { pod, used_by: used_by.clone(), handler }, cx.out);
            }
        }
    }

    /// Turns an error that was shown for long enough into a back-off.
    fn show_back_off(&mut self, used_by: &ImageUse, wanted: &WantedImage, cx: &mut Cx<'_>) {
        let state = &mut self.image_mut(used_by).state;
        let Image::Failed { at, next_at, turns_at: Some(turns_at) } = *state else { return };
        if turns_at > cx.now.mono {
            return;
        }
        *state = Image::Failed { at, next_at, turns_at: None };
        let text = format!("Back-off pulling image \"{}\"", wanted.reference);
        let shown = self.image_waiting_mut(used_by);
        let message = match shown {
            Some(w) => format!("{text}: {}: {}", w.reason, w.message),
            None => text.clone(),
        };
        let reason = waiting::IMAGE_PULL_BACK_OFF;
        *shown = Some(Waiting { reason, message, since: cx.now.mono, next_at: Some(next_at) });
        self.record_image_event(used_by, false, event::BACK_OFF, text, cx.out);
        self.record_image_error(used_by, reason, cx.out);
    }

    /// What runs the pod, as far as a pull has to know; `None` while nothing can.
    fn handler_to_pull_for(&self, pod: &Pod, cx: &Cx<'_>) -> Option<RuntimeHandler> {
        match handler_of(pod, cx.node) {
            Ok(handler) => Some(handler),
            // Its class has gone since.
            Err(NoHandler::Missing(_)) if self.has_sandbox() => Some(RuntimeHandler::default()),
            // It gets no sandbox: nothing is pulled for it in vain.
            Err(_) => None,
        }
    }

    /// When something about an image happens by itself.
    pub(crate) fn image_deadline(&self, used_by: &ImageUse) -> Option<Duration> {
        match self.image(used_by)?.state {
            Image::Failed { next_at, turns_at, .. } => Some(turns_at.unwrap_or(next_at).min(next_at)),
            _ => None,
        }
    }

    /// Takes in what an inspection or a pull came to that was asked for at this monotonic time.
    pub(crate) fn image_done(
        &mut self,
        used_by: &ImageUse,
        outcome: &Outcome,
        asked_at: Duration,
        cx: &mut Cx<'_>,
    ) {
        let Some(wanted) = self.desired.pod().and_then(|pod| used_by.wanted(pod)) else { return };
        let image = &wanted.reference;
        let state = &mut self.image_mut(used_by).state;
        if *state == Image::Outdated {
            *state = Image::Unknown;
            return;
        }
        match outcome {
            Outcome::Image(ImageOutcome::Inspected(
                answer @ (ImageAnswer::Present(present) | ImageAnswer::Accessible(present)),
            )) if wanted.policy != PullPolicy::Always => {
                self.image_ready(used_by, present.clone());
                let is_checked = matches!(answer, ImageAnswer::Accessible(_));
                let checked = if is_checked { " and can be accessed by the pod" } else { "" };
                let text = format!("Container image \"{image}\" already present on machine{checked}");
                self.record_pulled(used_by, text, cx.out);
            }
            // The same words whether it is absent or not this pod's: whose images are here is nobody's business.
            Outcome::Image(ImageOutcome::Inspected(_)) if wanted.policy == PullPolicy::Never => {
                let text = format!("Container image \"{image}\" is not present with pull policy of Never");
                self.record_image_event(used_by, true, event::ERR_IMAGE_NEVER_PULL, text.clone(), cx.out);
                self.image_failed(used_by, waiting::ERR_IMAGE_NEVER_PULL, text, None, cx);
            }
            Outcome::Image(ImageOutcome::Inspected(_)) => *state = Image::Wanted,
            Outcome::Image(ImageOutcome::Pulled { image: pulled, size_bytes, took, took_with_wait }) => {
                self.image_ready(used_by, pulled.clone());
                let text = format!(
                    "Successfully pulled image \"{image}\" in {} ({} including waiting). Image size: {size_bytes} bytes.",
                    golang::duration::text(*took),
                    golang::duration::text(*took_with_wait),
                );
                self.record_pulled(used_by, text, cx.out);
            }
            Outcome::Failed(failure) => self.image_error(used_by, image, failure, cx),
            _ => *state = Image::Unknown,
        }
        self.doubt_image(used_by, asked_at, cx);
    }

    /// An image that may have been removed since it was found is looked for again, when that is over.
    fn doubt_image(&mut self, used_by: &ImageUse, asked_at: Duration, cx: &Cx<'_>) {
        let state = &mut self.image_mut(used_by).state;
        let Image::Ready(image) = &*state else { return };
        if cx.removals.may_have_taken(image, asked_at) {
            let next_at = cx.now.after(DOUBTED_IMAGE_PAUSE);
            *state = Image::Failed { at: cx.now.wall, next_at, turns_at: None };
        }
    }

    /// The images that something of the pod is about to start from, is being started from, or was perhaps started from without
    /// having been seen.
    pub(crate) fn images_to_start_from(&self) -> impl Iterator<Item = &ImageRef> {
        let (has_ended, is_fresh) = (self.life.has_ended(), self.seen.is_fresh());
        let of_containers = self.containers.values().map(|record| &record.image);
        let of_volumes = self.volume_images.values().map(|volume| &volume.image);
        let ready = of_containers.chain(of_volumes).filter_map(|image| match &image.state {
            Image::Ready(image) => Some(image),
            _ => None,
        });
        let may_start =
            move |name: &String| !is_fresh || self.tasks.is_open(&PodTask::Container(name.clone()));
        let unseen = self
            .containers
            .iter()
            .filter(move |(name, record)| !record.started_from.is_empty() && may_start(name));
        ready.filter(move |_| !has_ended).chain(unseen.flat_map(|(_, record)| &record.started_from))
    }

    /// Whether an image is looked for or pulled for it.
    pub(crate) fn is_asking_for_image(&self) -> bool {
        self.tasks.any(|task| matches!(task, PodTask::Image(_)))
    }

    /// Images are looked for while volumes and sandbox are made. Events tell it in upstream's order,
    /// where they come after the sandbox.
    fn record_pulled(&mut self, used_by: &ImageUse, text: String, out: &mut Outbox) {
        if self.has_sandbox() {
            self.record_image_event(used_by, false, event::PULLED, text, out);
        } else {
            self.image_mut(used_by).pulled_untold = Some(text);
        }
    }

    /// Tells what was found out about images before the sandbox was there.
    pub(crate) fn tell_pulled(&mut self, out: &mut Outbox) {
        let of_volumes = self.volume_images.values().map(|volume| &volume.image);
        let mut all = self.containers.values().map(|record| &record.image).chain(of_volumes);
        if all.all(|image| image.pulled_untold.is_none()) {
            return;
        }
        let Some(pod) = self.desired.pod().cloned() else { return };
        let of_volumes = image_volumes(&pod).map(|volume| ImageUse::Volume(volume.name.clone()));
        let of_containers = pod::containers(&pod).map(|c| ImageUse::Container(c.spec.name.clone()));
        for used_by in of_volumes.chain(of_containers) {
            if self.image(&used_by).is_some_and(|image| image.pulled_untold.is_some())
                && let Some(text) = self.image_mut(&used_by).pulled_untold.take()
            {
                self.record_image_event(&used_by, false, event::PULLED, text, out);
            }
        }
    }

    fn image_error(&mut self, used_by: &ImageUse, image: &str, failure: &Failure, cx: &mut Cx<'_>) {
        let was_pulling = self.image_mut(used_by).state == Image::Wanted;
        match failure.kind {
            FailureKind::InvalidImageName => {
                let text = format!("Failed to apply default image tag \"{image}\": {}", failure.message);
                self.record_image_event(used_by, true, event::INSPECT_FAILED, text.clone(), cx.out);
                self.image_failed(used_by, failure.kind.pull_reason(), text, None, cx);
            }
            // The runtime is away: no fault of the image; asked again without an event.
            FailureKind::RuntimeUnavailable => {
                let now = cx.now;
                self.image_mut(used_by).state = Image::Failed {
                    at: now.wall,
                    next_at: now.after(Duration::from_secs(1)),
                    turns_at: None,
                };
            }
            _ if !was_pulling => {
                let text = format!("Failed to inspect image \"{image}\": {}", failure.message);
                self.record_image_event(used_by, true, event::INSPECT_FAILED, text.clone(), cx.out);
                self.image_failed(used_by, waiting::IMAGE_INSPECT_ERROR, text, None, cx);
            }
            other => {
                let text = format!("Failed to pull image \"{image}\": {}", failure.message);
                self.record_image_event(used_by, true, event::FAILED, text, cx.out);
                let message = failure.message.clone();
                self.image_failed(used_by, other.pull_reason(), message, Some(PULL_ERROR_SHOWN), cx);
            }
        }
    }

    fn image_ready(&mut self, used_by: &ImageUse, image: ImageRef) {
        self.image_mut(used_by).state = Image::Ready(image);
        let shown = self.image_waiting_mut(used_by);
        // Why the container itself could not be started stays true until it is.
        if shown.as_ref().is_some_and(|w| is_about_image(w.reason)) {
            *shown = None;
        }
    }

    fn image_failed(
        &mut self,
        used_by: &ImageUse,
        reason: &'static str,
        message: String,
        turns_after: Option<Duration>,
        cx: &mut Cx<'_>,
    ) {
        let now = cx.now;
        if let ImageUse::Container(name) = used_by {
            self.container_mut(name).replacement_failed();
        }
        let image = self.image_mut(used_by);
        let failed_before = match &image.state {
            Image::Failed { at, .. } => *at,
            _ => now.wall,
        };
        image.backoff.advance(failed_before, Delays::USUAL, now);
        let next_at = now.after(image.backoff.delay());
        image.state = Image::Failed { at: now.wall, next_at, turns_at: turns_after.map(|d| now.after(d)) };
        *self.image_waiting_mut(used_by) =
            Some(Waiting { reason, message, since: now.mono, next_at: Some(next_at) });
        self.record_image_error(used_by, reason, cx.out);
    }

    // ---- where it is remembered, and told ----

    pub(super) fn image(&self, used_by: &ImageUse) -> Option<&ImageRecord> {
        match used_by {
            ImageUse::Container(name) => self.containers.get(name).map(|record| &record.image),
            ImageUse::Volume(name) => self.volume_images.get(name).map(|volume| &volume.image),
        }
    }

    fn image_mut(&mut self, used_by: &ImageUse) -> &mut ImageRecord {
        match used_by {
            ImageUse::Container(name) => &mut self.container_mut(name).image,
            ImageUse::Volume(name) => &mut self.volume_images.entry(name.clone()).or_default().image,
        }
    }

    /// Why it is not there, or, for a container's, why the container does not run.
    pub(super) fn image_waiting(&self, used_by: &ImageUse) -> Option<&Waiting> {
        match used_by {
            ImageUse::Container(name) => self.containers.get(name)?.waiting.as_ref(),
            ImageUse::Volume(name) => self.volume_images.get(name)?.waiting.as_ref(),
        }
    }

    fn image_waiting_mut(&mut self, used_by: &ImageUse) -> &mut Option<Waiting> {
        match used_by {
            ImageUse::Container(name) => &mut self.container_mut(name).waiting,
            ImageUse::Volume(name) => &mut self.volume_images.entry(name.clone()).or_default().waiting,
        }
    }

    /// What happens to the image of a volume is told of the whole pod.
    fn record_image_event(
        &self,
        used_by: &ImageUse,
        is_warning: bool,
        reason: &'static str,
        message: String,
        out: &mut Outbox,
    ) {
        match used_by {
            ImageUse::Container(name) => {
                self.record_container_event(self.kind_of(name), name, is_warning, reason, message, out);
            }
            ImageUse::Volume(_) => self.record_event(is_warning, reason, message, out),
        }
    }

    /// That a container cannot start for it. For the image of a volume that is told of each container that is kept
    /// from its start.
    fn record_image_error(&self, used_by: &ImageUse, reason: &'static str, out: &mut Outbox) {
        if let ImageUse::Container(name) = used_by {
            let text = format!("Error: {reason}");
            self.record_container_event(self.kind_of(name), name, true, event::FAILED, text, out);
        }
    }
}
