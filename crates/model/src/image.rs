//! Which images a pod is made from: those of its containers, and those that are its volumes.

use std::fmt;

use k8s_openapi::api::core::v1::{Container, Volume};
use serde::{Deserialize, Serialize};

use crate::Pod;
use crate::pod::{self, PullPolicy, pull_policy};

/// What an image of a pod is used for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ImageUse {
    /// The container of this name is made from it.
    Container(String),
    /// It is mounted as the volume of this name
    /// (KEP-4639, <https://kubernetes.io/docs/concepts/storage/volumes/#image>).
    Volume(String),
}

/// An image as a pod asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedImage {
    /// Its reference, as the pod writes it.
    pub reference: String,
    /// When it is pulled.
    pub policy: PullPolicy,
}

impl ImageUse {
    /// The image; `None` when the pod has no such container or image volume.
    pub fn wanted(&self, pod: &Pod) -> Option<WantedImage> {
        match self {
            Self::Container(name) => pod::container(pod, name).map(|c| WantedImage {
                reference: c.spec.image.clone().unwrap_or_default(),
                policy: pull_policy(&c.spec),
            }),
            Self::Volume(name) => {
                let source = image_volumes(pod).find(|volume| volume.name == *name)?.image.as_ref()?;
                Some(WantedImage {
                    reference: source.reference.clone().unwrap_or_default(),
                    policy: PullPolicy::of(source.pull_policy.as_deref()),
                })
            }
        }
    }

    /// The container that is made from it.
    pub fn container(&self) -> Option<&str> {
        match self {
            Self::Container(name) => Some(name),
            Self::Volume(_) => None,
        }
    }
}

/// `container web`, `volume data`.
impl fmt::Display for ImageUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(name) => write!(f, "container {name}"),
            Self::Volume(name) => write!(f, "volume {name}"),
        }
    }
}

/// The volumes of a pod that are images, whether or not a container mounts them.
pub fn image_volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).filter(|volume| volume.image.is_some())
}

/// The names of the image volumes that a container mounts, in the order of its mounts.
pub fn mounted_images<'a>(pod: &'a Pod, container: &'a Container) -> impl Iterator<Item = &'a str> {
    let mounts = container.volume_mounts.iter().flatten().map(|mount| mount.name.as_str());
    mounts.filter(|name| image_volumes(pod).any(|volume| volume.name == *name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pods_images() {
        let pod: Pod = serde_json::from_value(json!({ "metadata": {}, "spec": {
            "volumes": [
                { "name": "always", "image": { "reference": "a:1", "pullPolicy": "Always" } },
                { "name": "never", "image": { "reference": "b:1", "pullPolicy": "Never" } },
                { "name": "unused", "image": { "reference": "c:1" } },
                { "name": "bare", "image": {} },
                { "name": "dir", "emptyDir": {} },
            ],
            "containers": [{ "name": "dir", "image": "d:1", "volumeMounts": [
                { "name": "never", "mountPath": "/n" }, { "name": "dir", "mountPath": "/d" },
                { "name": "always", "mountPath": "/a" },
            ] }],
        } }))
        .unwrap();
        let volume = |name: &str| ImageUse::Volume(name.to_owned()).wanted(&pod);
        let wanted = |reference: &str, policy| Some(WantedImage { reference: reference.to_owned(), policy });
        assert_eq!(volume("always"), wanted("a:1", PullPolicy::Always));
        assert_eq!(volume("never"), wanted("b:1", PullPolicy::Never));
        assert_eq!(volume("unused"), wanted("c:1", PullPolicy::IfNotPresent));
        assert_eq!(volume("bare"), wanted("", PullPolicy::IfNotPresent));
        // The container of that name is another matter.
        assert_eq!(volume("dir"), None);
        let container = ImageUse::Container("dir".to_owned());
        assert_eq!(container.wanted(&pod), wanted("d:1", PullPolicy::IfNotPresent));
        let names: Vec<_> = image_volumes(&pod).map(|v| v.name.as_str()).collect();
        assert_eq!(names, ["always", "never", "unused", "bare"]);
        let first = &pod.spec.as_ref().unwrap().containers[0];
        assert_eq!(mounted_images(&pod, first).collect::<Vec<_>>(), ["never", "always"]);
    }
}
