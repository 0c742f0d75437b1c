//! Image volumes (KEP-4639): images that containers mount. When something of a pod is to start, the images of all its
//! volumes are seen to, as upstream does it; a container starts with those that it mounts, and its own image is its next
//! concern. With the start of the last container they are forgotten, and with a start that failed those it had.

use std::collections::BTreeMap;
use std::time::Duration;

use model::pod;
use model::reason::event;
use model::reason::waiting::is_about_image;
use model::{ImageRef, ImageUse, Pod, image_volumes, mounted_images};

use super::image_record::{Image, Readiness};
use super::record::PodRecord;
use crate::cx::Cx;
use crate::schedule::earliest;

impl PodRecord {
    /// Brings the images of all volumes closer to being ready. Returns when something about them happens by itself.
    pub(super) fn drive_volume_images(&mut self, pod: &Pod, cx: &mut Cx<'_>) -> Option<Duration> {
        let mut next = None;
        for volume in image_volumes(pod) {
            let used_by = ImageUse::Volume(volume.name.clone());
            self.drive_image(&used_by, cx);
            next = earliest(next, self.image_deadline(&used_by));
        }
        next
    }

    /// How the images stand that a container mounts.
    pub(super) fn volume_images_of(&self, pod: &Pod, container: &str) -> Readiness {
        let Some(container) = pod::container(pod, container) else { return Readiness::Ready };
        let state = |name: &str| self.volume_images.get(name).map(|volume| volume.image.state.readiness());
        let all = mounted_images(pod, &container.spec).map(|name| state(name).unwrap_or(Readiness::Pending));
        all.max().unwrap_or(Readiness::Ready)
    }

    /// The images that a container mounts, by volume, as far as they are there.
    pub(super) fn images_to_mount(&self, pod: &Pod, container: &str) -> BTreeMap<String, ImageRef> {
        let Some(container) = pod::container(pod, container) else { return BTreeMap::new() };
        let ready = |name: &str| match &self.volume_images.get(name)?.image.state {
            Image::Ready(image) => Some((name.to_owned(), image.clone())),
            _ => None,
        };
        mounted_images(pod, &container.spec).filter_map(ready).collect()
    }

    /// Shows of a container that is to start what is wrong with an image that it mounts: of several that
    /// of the last mount, as upstream does it. What is over is shown no more.
    pub(super) fn show_volume_images(&mut self, pod: &Pod, name: &str, cx: &mut Cx<'_>) {
        let Some(container) = pod::container(pod, name) else { return };
        let failed = mounted_images(pod, &container.spec).filter_map(|volume| {
            let volume = self.volume_images.get(volume)?;
            volume.waiting.as_ref().filter(|_| !matches!(volume.image.state, Image::Ready(_)))
        });
        let failed = failed.last().cloned();
        let record = self.container_mut(name);
        match failed {
            Some(failed) if record.waiting.as_ref() != Some(&failed) => {
                let text = format!("Error: {}", failed.reason);
                record.replacement_failed();
                record.waiting = Some(failed);
                record.is_waiting_for_volume = true;
                self.record_container_event(container.kind, name, true, event::FAILED, text, cx.out);
            }
            Some(_) => {}
            None if std::mem::take(&mut record.is_waiting_for_volume) => {
                record.waiting.take_if(|waiting| is_about_image(waiting.reason));
            }
            None => {}
        }
    }

    /// Images that are there are looked for again before the next start: they may be removed in between, and policy
    /// `Always` asks again every time.
    pub(super) fn forget_volume_images(&mut self) {
        self.volume_images.values_mut().for_each(|volume| volume.image.forget());
    }

    /// The same for those that one container mounts.
    pub(super) fn forget_images_mounted_by(&mut self, container: &str) {
        let Some(pod) = self.desired.pod().cloned() else { return };
        let Some(container) = pod::container(&pod, container) else { return };
        for name in mounted_images(&pod, &container.spec) {
            if let Some(volume) = self.volume_images.get_mut(name) {
                volume.image.forget();
            }
        }
    }
}
