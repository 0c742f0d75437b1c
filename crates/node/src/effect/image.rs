//! What is asked for of images.

use std::sync::Arc;
use std::time::Duration;

use model::{AllocatedPod, ImageRef, ImageUse, Pod, RuntimeHandler};
use serde::{Deserialize, Serialize};

use super::{ActionKind, Subject};

/// An action on an image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum ImageAction {
    /// Ask about an image. → `Inspected`
    Inspect {
        /// The pod it is for, whose runtime class decides the image's variant.
        #[serde(serialize_with = "super::as_version")]
        pod: AllocatedPod,
        /// What it is for.
        used_by: ImageUse,
        /// How much of it is to be known.
        question: ImageQuestion,
    },
    /// Pull an image with the pod's and the node's credentials. → `Pulled`
    Pull {
        /// The pod it is for.
        #[serde(serialize_with = "super::as_version")]
        pod: AllocatedPod,
        /// What it is for.
        used_by: ImageUse,
        /// What runs the pod.
        handler: RuntimeHandler,
    },
    /// Remove an image. → `Done`
    Remove {
        /// Its id.
        image: ImageRef,
        /// Why.
        cause: ImageRemovalCause,
    },
    /// Remove what is noted of pulls of images that are there no more, and list those that are. → `Done`
    PruneRecords,
}

impl ImageAction {
    pub(super) fn kind(&self) -> ActionKind {
        match self {
            Self::Inspect { .. } => ActionKind::InspectImage,
            Self::Pull { .. } => ActionKind::PullImage,
            Self::Remove { .. } => ActionKind::RemoveImage,
            Self::PruneRecords => ActionKind::PruneImageRecords,
        }
    }

    pub(super) fn pod(&self) -> Option<&Arc<Pod>> {
        match self {
            Self::Inspect { pod, .. } | Self::Pull { pod, .. } => Some(pod.shared()),
            Self::Remove { .. } | Self::PruneRecords => None,
        }
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        match self {
            Self::Inspect { pod, used_by, .. } | Self::Pull { pod, used_by, .. } => match used_by {
                ImageUse::Container(name) => Subject { container: Some(name), ..Subject::of(pod) },
                ImageUse::Volume(name) => Subject { volume: Some(name), ..Subject::of(pod) },
            },
            Self::Remove { image, .. } => Subject { image: Some(image), ..Subject::default() },
            Self::PruneRecords => Subject::default(),
        }
    }
}

/// Why an image is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageRemovalCause {
    /// Nobody has used it for too long.
    Age,
    /// Its space is needed.
    Space,
}

impl ImageRemovalCause {
    /// Upstream's label of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Space => "space",
        }
    }
}

/// What is to be known of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageQuestion {
    /// Whether it can have this name. It is pulled whatever there is.
    Name,
    /// Whether it is present, and whether the pod may use it.
    Presence,
}

/// What came of an image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ImageOutcome {
    /// What there is of it.
    Inspected(ImageAnswer),
    /// The image is there now.
    Pulled {
        /// What to create containers from.
        image: ImageRef,
        /// Its size.
        size_bytes: u64,
        /// Time the pull itself took.
        took: Duration,
        /// The same with the wait for other pulls.
        took_with_wait: Duration,
    },
}

/// What there is of an image, for the pod it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageAnswer {
    /// Nothing.
    Absent,
    /// It is there; who may use it is not looked into.
    Present(ImageRef),
    /// It is there, and this pod may use it.
    Accessible(ImageRef),
    /// Only a pull with the pod's credentials tells whether it may use what may be there.
    Unproven,
}
