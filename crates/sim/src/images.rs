//! Images: what the agent is told of them and of the disk they fill, and when it may remove one.

use std::collections::BTreeSet;
use std::time::Duration;

use model::ImageRef;
use node::node_status::NodeImage;
use node::pressure::{Amount, Sample, Signal};
use node::{Action, ImageAction, ImageGcPolicy, Input, Outcome, RuntimeAction};

use crate::runtime::{PRIVATE_IMAGE, Runtime};
use crate::world::{SimEvent, World};

/// What an image takes of the disk of 100, of which others have 30.
const IMAGE_SIZE: u64 = 10;
const USED_BY_OTHERS: u64 = 30;
const DISK_SIZE: u64 = 100;
/// The one image that the runtime wants to stay.
const PINNED_IMAGE: &str = "image-1";

/// Time between two samples.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);
/// Time between two lists of images.
const IMAGES_EVERY: Duration = Duration::from_secs(30);

/// With three images the disk is too full, and it is not with two. A small node removes old images as well.
pub(crate) fn policy(is_small: bool) -> ImageGcPolicy {
    ImageGcPolicy {
        high_percent: 60,
        low_percent: 50,
        minimum_age: Duration::from_secs(5),
        maximum_age: is_small.then(|| Duration::from_secs(40)),
    }
}

impl World {
    /// What a process that starts hears of them.
    pub(crate) fn begin_images(&mut self) {
        let number = self.process.number;
        for event in [SimEvent::Sample(number), SimEvent::ListImages(number, true)] {
            let delay = self.delay();
            self.after(delay, event);
        }
    }

    pub(crate) fn take_sample(&mut self) {
        let sample = self.sample();
        self.tell(Input::Sample(sample));
        self.after(SAMPLE_EVERY, SimEvent::Sample(self.process.number));
    }

    /// What the node has left now.
    pub(crate) fn sample(&self) -> Sample {
        let images = IMAGE_SIZE * self.runtime.images.len() as u64;
        let used = USED_BY_OTHERS + self.pressure.others_on_disk + images;
        let disk = Amount { available: DISK_SIZE.saturating_sub(used), capacity: DISK_SIZE };
        let signals = [(Signal::ImageFs, disk), (Signal::Memory, self.memory())].into();
        Sample { at: self.process.mono(self.at), signals, ..Sample::default() }
    }

    pub(crate) fn list_images(&mut self, is_regular: bool) {
        if !self.runtime.is_away {
            let image = |name: &String| NodeImage {
                id: ImageRef::from(name.as_str()),
                names: Vec::new(),
                size_bytes: IMAGE_SIZE,
                is_pinned: name == PINNED_IMAGE,
            };
            self.tell(Input::Images(self.runtime.images.iter().map(image).collect()));
        }
        if is_regular {
            self.after(IMAGES_EVERY, SimEvent::ListImages(self.process.number, true));
        }
    }

    /// The watcher of images looks again.
    pub(crate) fn images_changed(&mut self) {
        let delay = self.delay();
        self.after(delay, SimEvent::ListImages(self.process.number, false));
    }

    /// Nobody whom the agent knows of uses an image that it removes.
    pub(crate) fn check_remove_image(&self, image: &ImageRef) -> Result<(), String> {
        if image.as_str() == PINNED_IMAGE {
            return Err(format!("{image} is removed, which is pinned"));
        }
        let uses = |images: &BTreeSet<ImageRef>| images.contains(image);
        let held = self.runtime.containers.values().filter(|held| !held.is_ghost && !held.is_late);
        if let Some(held) = held.into_iter().find(|held| uses(&held.seen.images().cloned().collect())) {
            return Err(format!("{image} is removed, which {} is made from", held.seen.id));
        }
        let mut starting = self
            .in_flight
            .iter()
            .filter(|((process, _), pending)| *process == self.process.number && !pending.is_told);
        let is_used = starting.any(|(_, pending)| match &pending.action {
            Action::Runtime(RuntimeAction::StartContainer(start)) => {
                start.image == *image || start.image_volumes.values().any(|mounted| mounted == image)
            }
            _ => false,
        });
        if is_used {
            Err(format!("{image} is removed, from which a container is being started"))
        } else {
            Ok(())
        }
    }

    /// An image that a container is started from is there, unless it went after its removal was given up.
    pub(crate) fn check_is_there(&self, image: &ImageRef) -> Result<(), String> {
        let is_there = self.runtime.images.contains(image.as_str());
        if is_there || self.truth.removed_late.contains(image.as_str()) {
            return Ok(());
        }
        Err(format!("a container is started from {image}, which was removed"))
    }
}

impl Runtime {
    /// Removes an image, or what is noted of pulls.
    pub(crate) fn collect(&mut self, action: &ImageAction) -> Outcome {
        match action {
            ImageAction::Remove { image, .. } => {
                self.images.remove(image.as_str());
            }
            _ if !self.images.contains(PRIVATE_IMAGE) => self.has_pulled.clear(),
            _ => {}
        }
        Outcome::Done
    }
}
