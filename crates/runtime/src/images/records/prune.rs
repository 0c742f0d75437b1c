//! Pruning of records: those of images that are on the node no more go, as they do upstream.
//!
//! An image without a record counts as put here by somebody, and may be everybody's. So a record must not go while its image
//! comes back: if a pull was under way at any time between the list of images and the removal, all records stay until the next
//! time. One that is too many does no harm.

use std::collections::BTreeSet;

use tracing::error;

use super::super::ImageFacts;
use super::{Inner, PullRecords, blocking, lock};
use crate::client::Runtime;
use crate::error::RuntimeError;

impl PullRecords {
    /// Removes the records of images that the runtime does not have. One that cannot be removed is logged.
    ///
    /// # Errors
    /// When the runtime does not list its images.
    pub async fn prune(&self, runtime: &Runtime) -> Result<(), RuntimeError> {
        let Some(begun) = lock(&self.0.cache).idle_since() else { return Ok(()) };
        let images = runtime.list_images().await?;
        let inner = self.0.clone();
        blocking(move || inner.prune(&images, begun)).await;
        Ok(())
    }
}

impl Inner {
    fn prune(&self, images: &[ImageFacts], begun: u64) {
        let _writing = lock(&self.writing);
        if lock(&self.cache).idle_since() != Some(begun) {
            return;
        }
        let of_image = |image: &ImageFacts| {
            let names = image.digests.iter().chain(&image.tags).cloned();
            std::iter::once(image.id.to_string()).chain(names).collect::<Vec<_>>()
        };
        let present: BTreeSet<String> = images.iter().flat_map(of_image).collect();
        for record in self.disk.records().found {
            if present.contains(&record.image_ref) {
                continue;
            }
            match self.disk.delete_record(&record.image_ref) {
                Ok(()) => lock(&self.cache).records.remove(&record.image_ref),
                Err(error) => {
                    error!(err = &error as &dyn std::error::Error, "Failed to remove image pulled record");
                }
            }
        }
        self.count();
    }
}
