//! The cache of records and pulls: what is known without reading a file.

use std::collections::HashMap;
use std::sync::Arc;

use super::PullLimits;
use super::disk::Listed;
use super::document::Record;
use super::lru::Lru;

/// Upstream's bounds, which its metrics of use are percentages of.
const MOST_INTENTS: usize = 1024;
const MOST_RECORDS: usize = 2000;

/// What is known of an image.
pub(super) enum Known {
    /// Nothing.
    Nothing,
    /// It is or was being pulled.
    Pulling,
    /// It was pulled.
    Pulled(Arc<Record>),
}

/// Records of images, as many as there is room for, and pulls.
#[derive(Debug)]
pub(super) struct RecordCache {
    pub(super) records: Lru<Arc<Record>>,
    /// Pulls that are noted on disk, by the image's name as pods have it. As many as there are: those under way, and
    /// the few in doubt.
    pulls: HashMap<String, Pulls>,
    /// Whether those are all that are noted.
    has_all_pulls: bool,
    /// How many there may be until the metric says 100 %.
    most_pulls: usize,
    /// How many pulls have begun so far.
    begun: u64,
}

/// Pulls of one image.
#[derive(Debug, Default)]
struct Pulls {
    under_way: usize,
    /// Whether one of them was given up, or an earlier process did not see its end. It may have succeeded.
    is_doubtful: bool,
}

impl RecordCache {
    /// Of what earlier processes have left.
    pub(super) fn new(intents: Listed<String>, records: Listed<Record>, limits: PullLimits) -> Self {
        let by_ref = |record: Record| (record.image_ref.clone(), Arc::new(record));
        let left = |image| (image, Pulls { under_way: 0, is_doubtful: true });
        Self {
            records: Lru::new(
                records.found.into_iter().map(by_ref),
                records.is_all,
                (5 * limits.pods).min(MOST_RECORDS),
            ),
            pulls: intents.found.into_iter().map(left).collect(),
            has_all_pulls: intents.is_all,
            begun: 0,
            most_pulls: (2 * limits.pods.max(limits.parallel)).clamp(1, MOST_INTENTS),
        }
    }

    /// `None` if only the files can tell.
    pub(super) fn known(&mut self, image: &str, id: &str) -> Option<Known> {
        if let Some(record) = self.records.get(id) {
            return Some(Known::Pulled(record.clone()));
        }
        if !self.records.is_complete() {
            return None;
        }
        let is_noted = self.is_noted(image)?;
        Some(if is_noted { Known::Pulling } else { Known::Nothing })
    }

    /// Whether a pull of the image is noted. `None` if only the file can tell.
    pub(super) fn is_noted(&self, image: &str) -> Option<bool> {
        if self.pulls.contains_key(image) {
            return Some(true);
        }
        self.has_all_pulls.then_some(false)
    }

    /// Images of whose pulls it is not known what came, and which are not being pulled.
    pub(super) fn doubtful(&self) -> Vec<String> {
        let doubtful = self.pulls.iter().filter(|(_, pulls)| pulls.under_way == 0);
        doubtful.map(|(image, _)| image.clone()).collect()
    }

    pub(super) fn began(&mut self, image: &str) {
        self.begun += 1;
        self.pulls.entry(image.to_owned()).or_default().under_way += 1;
    }

    /// How many pulls had begun when the last one that was under way ended; `None` while one is.
    pub(super) fn idle_since(&self) -> Option<u64> {
        self.pulls.values().all(|pulls| pulls.under_way == 0).then_some(self.begun)
    }

    /// Returns whether that was the last pull of the image, and none is in doubt.
    pub(super) fn ended(&mut self, image: &str, is_success: bool) -> bool {
        let Some(pulls) = self.pulls.get_mut(image) else { return false };
        pulls.under_way = pulls.under_way.saturating_sub(1);
        // What one of them brought is known now.
        pulls.is_doubtful &= !is_success;
        pulls.under_way == 0 && !pulls.is_doubtful
    }

    pub(super) fn given_up(&mut self, image: &str) {
        if let Some(pulls) = self.pulls.get_mut(image) {
            pulls.under_way = pulls.under_way.saturating_sub(1);
            pulls.is_doubtful = true;
        }
    }

    /// The note on disk is deleted.
    pub(super) fn forget_pulls(&mut self, image: &str) {
        self.pulls.remove(image);
    }

    /// How full there is room for pulls and for records.
    pub(super) fn percentages(&self) -> [usize; 2] {
        [self.pulls.len() * 100 / self.most_pulls, self.records.percent()]
    }
}
