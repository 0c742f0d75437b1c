//! Removals of images, and the answers about images that may be older than they are.
//!
//! A pod that asks for an image may be told that it is there a moment before it is removed. Such an answer is not acted on:
//! the image is looked for again.

use std::collections::BTreeMap;
use std::time::Duration;

use model::ImageRef;
use serde::{Deserialize, Serialize};

/// The removal under way, and those that have ended.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct ImageRemovals {
    under_way: Option<ImageRef>,
    /// When the last removal of an image ended, monotonic, whatever came of it.
    ended: BTreeMap<ImageRef, Duration>,
    /// The same of all images together.
    #[serde(default)]
    last_ended: Option<Duration>,
}

impl ImageRemovals {
    pub(super) fn begin(&mut self, image: ImageRef) {
        self.under_way = Some(image);
    }

    pub(super) fn end(&mut self, now: Duration) {
        if let Some(image) = self.under_way.take() {
            self.ended.insert(image, now);
            self.last_ended = Some(now);
        }
    }

    /// Nobody waits for an answer about an image that was asked for earlier.
    pub(super) fn forget(&mut self) {
        self.ended.clear();
    }

    pub(super) fn under_way(&self) -> Option<&ImageRef> {
        self.under_way.as_ref()
    }

    /// Whether what was measured at this monotonic time may be from before a removal.
    pub(crate) fn may_have_freed_since(&self, measured_at: Duration) -> bool {
        self.last_ended.is_some_and(|at| at > measured_at)
    }

    /// Whether an image may have been removed since an answer that it is there was asked for, at this monotonic time.
    pub(crate) fn may_have_taken(&self, image: &ImageRef, asked_at: Duration) -> bool {
        self.under_way.as_ref() == Some(image) || self.ended.get(image).is_some_and(|at| *at >= asked_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_from_before_the_end_of_a_removal_is_doubted() {
        let (a, b, at) = (ImageRef::from("a"), ImageRef::from("b"), Duration::from_secs);
        let mut removals = ImageRemovals::default();
        assert!(!removals.may_have_taken(&a, at(1)));
        removals.begin(a.clone());
        assert!(removals.may_have_taken(&a, at(9)), "under way");
        assert!(!removals.may_have_taken(&b, at(1)));
        removals.end(at(5));
        assert!(removals.may_have_taken(&a, at(5)));
        assert!(!removals.may_have_taken(&a, at(6)), "asked for after the end");
        assert!(removals.may_have_freed_since(at(4)) && !removals.may_have_freed_since(at(5)));
        removals.forget();
        assert!(removals.may_have_freed_since(at(4)), "whoever asked for it");
        assert!(!removals.may_have_taken(&a, at(1)));
    }
}
