//! What actions are about.

use std::fmt;

use model::{ContainerId, ImageRef, Pod, PodKey, PodUid, SandboxId, pod};

/// The object of an action, as far as it has one: the fields of its log lines and of its span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The pod's name.
    pub key: Option<PodKey>,
    /// The pod's uid.
    pub uid: Option<PodUid>,
    /// The container's name in the spec.
    pub container: Option<&'a str>,
    /// The volume's name in the spec, or, where it is no pod's, its name on the node.
    pub volume: Option<&'a str>,
    /// The container of the runtime.
    pub container_id: Option<&'a ContainerId>,
    /// The sandbox of the runtime.
    pub sandbox_id: Option<&'a SandboxId>,
    /// An image of the node.
    pub image: Option<&'a ImageRef>,
    /// A plugin's socket, or a driver's name.
    pub plugin: Option<&'a str>,
}

impl Subject<'_> {
    pub(super) fn of(pod: &Pod) -> Self {
        Self { key: Some(pod::key(pod)), uid: Some(pod::uid(pod)), ..Self::default() }
    }

    pub(super) fn named(uid: &PodUid, key: &PodKey) -> Self {
        // Of a pod that was only found on disk nothing but its uid is known.
        let key = Some(key).filter(|key| !key.name.is_empty()).cloned();
        Self { key, uid: Some(uid.clone()), ..Self::default() }
    }
}

/// Ids, each after a space, and the container's or volume's name after its pod's uid.
impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(uid) = &self.uid {
            write!(f, " {uid}")?;
        }
        if let Some(container) = self.container {
            write!(f, "/{container}")?;
        }
        if let Some(volume) = self.volume {
            write!(f, " volume {volume}")?;
        }
        if let Some(id) = self.container_id {
            write!(f, " {id}")?;
        }
        if let Some(id) = self.sandbox_id {
            write!(f, " {id}")?;
        }
        if let Some(image) = self.image {
            write!(f, " {image}")?;
        }
        if let Some(plugin) = self.plugin {
            write!(f, " {plugin}")?;
        }
        Ok(())
    }
}
