//! Measures for a decision of the core what the node has left, and what pods use.

use std::sync::Arc;

use node::{Outcome, PodToMeasure};

use super::failure;
use crate::usage::Usage;
use crate::watchers::sampler::Sampler;

/// Measures when it is asked, beside those who measure at intervals or for scrapers.
pub(crate) struct Measurements {
    pub(crate) sampler: Arc<Sampler>,
    pub(crate) usage: Arc<Usage>,
}

impl Measurements {
    pub(super) async fn sample(&self) -> Outcome {
        Outcome::Sampled(self.sampler.sample().await)
    }

    pub(super) async fn pods(&self, pods: Vec<PodToMeasure>, with_files: bool) -> Outcome {
        match self.usage.of_pods(&pods, with_files).await {
            Ok(usages) => Outcome::PodUsages(usages),
            Err(error) => failure::other(model::chain(&error)),
        }
    }
}
