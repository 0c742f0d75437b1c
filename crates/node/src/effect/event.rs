//! Kubernetes events that the core has recorded.

use std::borrow::Cow;

use model::storage::ClaimName;
use model::{PodKey, PodUid};
use serde::Serialize;

/// A Kubernetes event, before the recorder adds times, counts and the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventRecord {
    /// What it is about.
    pub about: EventObject,
    /// Whether it is of type `Warning`; `Normal` otherwise.
    pub is_warning: bool,
    /// CamelCase reason.
    pub reason: Cow<'static, str>,
    /// Text for people.
    pub message: String,
}

/// The object an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum EventObject {
    /// This node.
    Node,
    /// A pod.
    Pod {
        /// Its name.
        key: PodKey,
        /// Its uid.
        uid: PodUid,
        /// The part of it, such as `spec.containers{web}`.
        field_path: Option<String>,
    },
    /// A PersistentVolumeClaim.
    Claim {
        /// Its name.
        name: ClaimName,
        /// Its uid.
        uid: String,
    },
}

/// As log lines name it.
impl std::fmt::Display for EventObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node => f.write_str("node"),
            Self::Pod { key, field_path: None, .. } => write!(f, "pod {key}"),
            Self::Pod { key, field_path: Some(path), .. } => write!(f, "pod {key} {path}"),
            Self::Claim { name, .. } => write!(f, "claim {name}"),
        }
    }
}
