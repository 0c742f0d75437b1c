//! The ages of images: since when each is on the node, when it was used last, and the LRU order that follows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::ImageRef;
use serde::{Deserialize, Serialize};

use super::policy::ImageGcPolicy;
use crate::node_status::NodeImage;

/// Ages by images' ids; times are monotonic.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct ImageAges(BTreeMap<ImageRef, ImageAge>);

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct ImageAge {
    first_seen: Duration,
    /// `None` when this process has never seen it in use.
    last_used: Option<Duration>,
}

/// An image that may be removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Candidate {
    pub(super) id: ImageRef,
    pub(super) size_bytes: u64,
}

impl ImageAges {
    /// These are the images there are.
    pub(super) fn listed(&mut self, images: &[NodeImage], now: Duration) {
        let new = ImageAge { first_seen: now, last_used: None };
        let age = |image: &NodeImage| self.0.get(&image.id).copied().unwrap_or(new);
        self.0 = images.iter().map(|image| (image.id.clone(), age(image))).collect();
    }

    /// It is used now.
    pub(super) fn used(&mut self, image: &ImageRef, now: Duration) {
        if let Some(age) = self.0.get_mut(image) {
            age.last_used = Some(now);
        }
    }

    /// It is there no more.
    pub(super) fn removed(&mut self, image: &ImageRef) {
        self.0.remove(image);
    }

    /// Those that nobody has used for longer than the policy's age, what was used least recently first. As upstream, one
    /// that was never seen in use is older than any age.
    pub(super) fn old(
        &self,
        images: &[NodeImage],
        held: &Held<'_>,
        policy: &ImageGcPolicy,
        now: Duration,
    ) -> Vec<Candidate> {
        let Some(maximum) = policy.maximum_age else { return Vec::new() };
        let is_old = |age: &ImageAge| age.last_used.is_none_or(|used| now.saturating_sub(used) > maximum);
        self.in_order(images, held, is_old)
    }

    /// Those that may be removed for their space, what was used least recently first.
    pub(super) fn removable(
        &self,
        images: &[NodeImage],
        held: &Held<'_>,
        policy: &ImageGcPolicy,
        now: Duration,
    ) -> Vec<Candidate> {
        let is_ripe = |age: &ImageAge| now.saturating_sub(age.first_seen) >= policy.minimum_age;
        self.in_order(images, held, is_ripe)
    }

    /// When the first of those that are too young may be removed; monotonic.
    pub(super) fn next_removable(
        &self,
        images: &[NodeImage],
        held: &Held<'_>,
        policy: &ImageGcPolicy,
        now: Duration,
    ) -> Option<Duration> {
        let free = images.iter().filter(|image| !image.is_pinned && !held.has(image));
        let ripe_at = free.filter_map(|image| Some(self.0.get(&image.id)?.first_seen + policy.minimum_age));
        ripe_at.filter(|at| *at > now).min()
    }

    /// Upstream's order: by last use, then by when they came.
    fn in_order(
        &self,
        images: &[NodeImage],
        held: &Held<'_>,
        is_meant: impl Fn(&ImageAge) -> bool,
    ) -> Vec<Candidate> {
        let free = images.iter().filter(|image| !image.is_pinned && !held.has(image));
        let mut found: Vec<(Option<Duration>, Duration, &NodeImage)> = free
            .filter_map(|image| {
                let age = self.0.get(&image.id).filter(|age| is_meant(age))?;
                Some((age.last_used, age.first_seen, image))
            })
            .collect();
        found.sort_by(|a, b| (a.0, a.1, &a.2.id).cmp(&(b.0, b.1, &b.2.id)));
        let candidate = |image: &NodeImage| Candidate { id: image.id.clone(), size_bytes: image.size_bytes };
        found.into_iter().map(|(_, _, image)| candidate(image)).collect()
    }
}

/// The images that somebody holds, by their ids or by whatever the runtime calls them.
#[derive(Debug, Default)]
pub(super) struct Held<'a>(pub(super) BTreeSet<&'a str>);

impl Held<'_> {
    pub(super) fn has(&self, image: &NodeImage) -> bool {
        // An older runtime tells of a container's image by one of its names.
        self.0.contains(image.id.as_str()) || image.names.iter().any(|name| self.0.contains(name.as_str()))
    }
}
