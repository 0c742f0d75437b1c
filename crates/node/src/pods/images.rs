//! Images for containers that are about to start: present, to be pulled, or waited for.

use std::time::Duration;

use k8s_openapi::api::core::v1::Container;
use model::pod::{self, ContainerKind, PullPolicy, pull_policy};
use model::reason::waiting::is_about_image;
use model::reason::{event, waiting};
use model::{ImageRef, Now, Pod, RuntimeHandler};

use super::backoff::Delays;
use super::container::{Image, Waiting};
use super::record::PodRecord;
use crate::cx::Cx;
use crate::effect::{Failure, FailureKind, ImageAction, ImageAnswer, ImageOutcome, ImageQuestion, Outcome};
use crate::outbox::Outbox;
use crate::runtime_class::{NoHandler, handler_of};
use crate::tasks::PodTask;

/// `ErrImagePull` is shown for this long before it becomes `ImagePullBackOff`, so that whoever
/// watches sees the error itself.
const PULL_ERROR_SHOWN: Duration = Duration::from_secs(1);

/// What is pulled in any case need not be looked for.
fn question(container: &Container) -> ImageQuestion {
    match pull_policy(container) {
        PullPolicy::Always => ImageQuestion::Name,
        PullPolicy::IfNotPresent | PullPolicy::Never => ImageQuestion::Presence,
    }
}

fn name_of(container: &Container) -> &str {
    container.image.as_deref().unwrap_or_default()
}

impl PodRecord {
    /// Brings a container's image closer to being ready.
    pub(crate) fn drive_image(&mut self, container: &Container, kind: ContainerKind, cx: &mut Cx<'_>) {
        let name = container.name.clone();
        let task = PodTask::Image(name.clone());
        let Some(pod) = self.allocated() else { return };
        if self.tasks.is_open(&task) {
            return;
        }
        let image = name_of(container).to_owned();
        let record = self.container_mut(&name);
        match record.image {
            Image::Ready(_) => {}
            Image::Unknown | Image::Outdated => {
                record.image = Image::Unknown;
                self.start(
                    task,
                    ImageAction::Inspect { pod, container: name, question: question(container) },
                    cx.out,
                );
            }
            Image::Wanted => {
                let Some(handler) = self.handler_to_pull_for(&pod, cx) else { return };
                self.record_container_event(
                    kind,
                    &name,
                    false,
                    event::PULLING,
                    format!("Pulling image \"{image}\""),
                    cx.out,
                );
                self.start(task, ImageAction::Pull { pod, container: name, handler }, cx.out);
            }
            Image::Failed { next_at, .. } if next_at <= cx.now.mono => {
                record.image = Image::Unknown;
                self.start(
                    task,
                    ImageAction::Inspect { pod, container: name, question: question(container) },
                    cx.out,
                );
            }
            Image::Failed { at, next_at, turns_at: Some(turns_at) } if turns_at <= cx.now.mono => {
                record.image = Image::Failed { at, next_at, turns_at: None };
                let message = match &record.waiting {
                    Some(w) => format!("Back-off pulling image \"{image}\": {}: {}", w.reason, w.message),
                    None => format!("Back-off pulling image \"{image}\""),
                };
                record.waiting = Some(Waiting {
                    reason: waiting::IMAGE_PULL_BACK_OFF,
                    message,
                    since: cx.now.mono,
                    next_at: Some(next_at),
                });
                let text = format!("Back-off pulling image \"{image}\"");
                self.record_container_event(kind, &name, false, event::BACK_OFF, text, cx.out);
                self.record_container_event(
                    kind,
                    &name,
                    true,
                    event::FAILED,
                    "Error: ImagePullBackOff".into(),
                    cx.out,
                );
            }
            Image::Failed { .. } => {}
        }
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

    /// When something about a container's image happens by itself.
    pub(crate) fn image_deadline(&self, name: &str) -> Option<Duration> {
        match self.containers.get(name)?.image {
            Image::Failed { next_at, turns_at, .. } => Some(turns_at.unwrap_or(next_at).min(next_at)),
            _ => None,
        }
    }

    /// Takes in what an inspection or a pull came to.
    pub(crate) fn image_done(
        &mut self,
        container: &Container,
        kind: ContainerKind,
        outcome: &Outcome,
        cx: &mut Cx<'_>,
    ) {
        let name = container.name.as_str();
        let image = name_of(container).to_owned();
        let record = self.container_mut(name);
        if record.image == Image::Outdated {
            record.image = Image::Unknown;
            return;
        }
        match outcome {
            Outcome::Image(ImageOutcome::Inspected(
                answer @ (ImageAnswer::Present(present) | ImageAnswer::Accessible(present)),
            )) if pull_policy(container) != PullPolicy::Always => {
                self.image_ready(name, present.clone());
                let is_checked = matches!(answer, ImageAnswer::Accessible(_));
                let checked = if is_checked { " and can be accessed by the pod" } else { "" };
                let text = format!("Container image \"{image}\" already present on machine{checked}");
                self.record_pulled(kind, name, text, cx.out);
            }
            // The same words whether it is absent or not this pod's: whose images are here is nobody's business.
            Outcome::Image(ImageOutcome::Inspected(_)) if pull_policy(container) == PullPolicy::Never => {
                let text = format!("Container image \"{image}\" is not present with pull policy of Never");
                self.record_container_event(
                    kind,
                    name,
                    true,
                    event::ERR_IMAGE_NEVER_PULL,
                    text.clone(),
                    cx.out,
                );
                self.record_container_event(
                    kind,
                    name,
                    true,
                    event::FAILED,
                    "Error: ErrImageNeverPull".into(),
                    cx.out,
                );
                self.image_failed(name, waiting::ERR_IMAGE_NEVER_PULL, text, None, cx.now);
            }
            Outcome::Image(ImageOutcome::Inspected(_)) => self.container_mut(name).image = Image::Wanted,
            Outcome::Image(ImageOutcome::Pulled { image: pulled, size_bytes, took, took_with_wait }) => {
                self.image_ready(name, pulled.clone());
                let text = format!(
                    "Successfully pulled image \"{image}\" in {} ({} including waiting). Image size: {size_bytes} bytes.",
                    golang::duration::text(*took),
                    golang::duration::text(*took_with_wait),
                );
                self.record_pulled(kind, name, text, cx.out);
            }
            Outcome::Failed(failure) => self.image_error(container, kind, failure, cx),
            _ => self.container_mut(name).image = Image::Unknown,
        }
    }

    /// Images are looked for while volumes and sandbox are made. Events tell it in upstream's order,
    /// where they come after the sandbox.
    fn record_pulled(&mut self, kind: ContainerKind, name: &str, text: String, out: &mut Outbox) {
        if self.has_sandbox() {
            self.record_container_event(kind, name, false, event::PULLED, text, out);
        } else {
            self.container_mut(name).pulled_untold = Some(text);
        }
    }

    /// Tells what was found out about images before the sandbox was there.
    pub(crate) fn tell_pulled(&mut self, out: &mut Outbox) {
        if self.containers.values().all(|record| record.pulled_untold.is_none()) {
            return;
        }
        let Some(pod) = self.desired.pod().cloned() else { return };
        for container in pod::containers(&pod) {
            let name = &container.spec.name;
            if let Some(text) = self.containers.get_mut(name).and_then(|m| m.pulled_untold.take()) {
                self.record_container_event(container.kind, name, false, event::PULLED, text, out);
            }
        }
    }

    fn image_error(
        &mut self,
        container: &Container,
        kind: ContainerKind,
        failure: &Failure,
        cx: &mut Cx<'_>,
    ) {
        let name = container.name.as_str();
        let image = name_of(container).to_owned();
        let was_pulling = self.containers.get(name).is_some_and(|m| m.image == Image::Wanted);
        match failure.kind {
            FailureKind::InvalidImageName => {
                let text = format!("Failed to apply default image tag \"{image}\": {}", failure.message);
                self.record_container_event(kind, name, true, event::INSPECT_FAILED, text.clone(), cx.out);
                self.record_container_event(
                    kind,
                    name,
                    true,
                    event::FAILED,
                    "Error: InvalidImageName".into(),
                    cx.out,
                );
                self.image_failed(name, failure.kind.pull_reason(), text, None, cx.now);
            }
            // The runtime is away: no fault of the image; asked again without an event.
            FailureKind::RuntimeUnavailable => {
                let now = cx.now;
                self.container_mut(name).image = Image::Failed {
                    at: now.wall,
                    next_at: now.after(Duration::from_secs(1)),
                    turns_at: None,
                };
            }
            _ if !was_pulling => {
                let text = format!("Failed to inspect image \"{image}\": {}", failure.message);
                self.record_container_event(kind, name, true, event::INSPECT_FAILED, text.clone(), cx.out);
                self.record_container_event(
                    kind,
                    name,
                    true,
                    event::FAILED,
                    "Error: ImageInspectError".into(),
                    cx.out,
                );
                self.image_failed(name, waiting::IMAGE_INSPECT_ERROR, text, None, cx.now);
            }
            other => {
                let reason = other.pull_reason();
                let text = format!("Failed to pull image \"{image}\": {}", failure.message);
                self.record_container_event(kind, name, true, event::FAILED, text, cx.out);
                self.record_container_event(
                    kind,
                    name,
                    true,
                    event::FAILED,
                    format!("Error: {reason}"),
                    cx.out,
                );
                self.image_failed(name, reason, failure.message.clone(), Some(PULL_ERROR_SHOWN), cx.now);
            }
        }
    }

    fn image_ready(&mut self, name: &str, image: ImageRef) {
        let record = self.container_mut(name);
        record.image = Image::Ready(image);
        // Why the container itself could not be started stays true until it is.
        if record.waiting.as_ref().is_some_and(|w| is_about_image(w.reason)) {
            record.waiting = None;
        }
    }

    fn image_failed(
        &mut self,
        name: &str,
        reason: &'static str,
        message: String,
        turns_after: Option<Duration>,
        now: Now,
    ) {
        let record = self.container_mut(name);
        record.replacement_failed();
        let failed_before = match &record.image {
            Image::Failed { at, .. } => *at,
            _ => now.wall,
        };
        record.pull_backoff.advance(failed_before, Delays::USUAL, now);
        let next_at = now.after(record.pull_backoff.delay());
        record.image = Image::Failed { at: now.wall, next_at, turns_at: turns_after.map(|d| now.after(d)) };
        record.waiting = Some(Waiting { reason, message, since: now.mono, next_at: Some(next_at) });
    }
}
