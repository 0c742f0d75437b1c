//! The record of an image that a pod uses: how far it is from being there.

use std::time::Duration;

use jiff::Timestamp;
use model::ImageRef;
use serde::{Deserialize, Serialize};

use super::backoff::Backoff;

/// What is remembered of an image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    /// What is known of it.
    pub(crate) state: Image,
    /// The message of a `Pulled` event that waits for the sandbox.
    pub(crate) pulled_untold: Option<String>,
    /// Pulls that failed.
    pub(crate) backoff: Backoff,
}

impl ImageRecord {
    /// It is looked for again before it is used again.
    pub(crate) fn forget(&mut self) {
        if matches!(self.state, Image::Ready(_)) {
            self.state = Image::Unknown;
        }
    }
}

/// What is known of an image for the next start of a container. Forgotten after each start, since
/// the image may be removed in between and policy `Always` asks again every time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Image {
    /// Not asked.
    #[default]
    Unknown,
    /// The inspection or pull under way is of an image that is no longer wanted.
    Outdated,
    /// To be pulled.
    Wanted,
    /// Can be used.
    Ready(ImageRef),
    /// The pull, or the question, failed at this time and is tried again at `next_at`.
    Failed {
        /// When it failed, wall clock.
        at: Timestamp,
        /// When it is tried again, monotonic.
        next_at: Duration,
        /// When `ErrImagePull` turns into `ImagePullBackOff`, monotonic; `None` when it did.
        turns_at: Option<Duration>,
    },
}

/// How the images stand that something needs, taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Readiness {
    /// All are there.
    Ready,
    /// Some are looked for, or pulled.
    Pending,
    /// Some failed.
    Failed,
}

impl Image {
    pub(crate) fn readiness(&self) -> Readiness {
        match self {
            Self::Ready(_) => Readiness::Ready,
            Self::Unknown | Self::Outdated | Self::Wanted => Readiness::Pending,
            Self::Failed { .. } => Readiness::Failed,
        }
    }
}
