//! Which Secrets and ConfigMaps a pod names.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, PodSpec, Volume};
use serde::{Deserialize, Serialize};

use crate::Pod;

/// Secret or ConfigMap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ObjectKind {
    /// `v1.Secret`.
    Secret,
    /// `v1.ConfigMap`.
    ConfigMap,
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectName {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            ObjectKind::Secret => "secret",
            ObjectKind::ConfigMap => "configmap",
        };
        write!(f, "{kind} {}/{}", self.namespace, self.name)
    }
}

/// All of them, optional ones and image pull secrets included.
pub fn references(pod: &Pod) -> BTreeSet<ObjectName> {
    let mut found = Found::of(pod);
    for container in crate::pod::containers(pod) {
        found.container(&container.spec);
    }
    if let Some(spec) = &pod.spec {
        found.spec(spec);
    }
    found.names
}

/// Those whose content the pod's volumes show.
pub fn shown_by_volumes(pod: &Pod) -> BTreeSet<ObjectName> {
    let mut found = Found::of(pod);
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        found.own_volume(volume);
    }
    found.names
}

/// Those that one container of the pod has in its environment.
pub fn in_environment(pod: &Pod, container: &Container) -> BTreeSet<ObjectName> {
    let mut found = Found::of(pod);
    found.container(container);
    found.names
}

struct Found {
    namespace: String,
    names: BTreeSet<ObjectName>,
}

impl Found {
    fn of(pod: &Pod) -> Self {
        Self { namespace: pod.metadata.namespace.clone().unwrap_or_default(), names: BTreeSet::new() }
    }

    fn add(&mut self, kind: ObjectKind, namespace: Option<&str>, name: Option<&str>) {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            let namespace = namespace.filter(|namespace| !namespace.is_empty()).unwrap_or(&self.namespace);
            self.names.insert(ObjectName { kind, namespace: namespace.to_owned(), name: name.to_owned() });
        }
    }

    fn secret(&mut self, name: Option<&str>) {
        self.add(ObjectKind::Secret, None, name);
    }

    fn config_map(&mut self, name: Option<&str>) {
        self.add(ObjectKind::ConfigMap, None, name);
    }

    fn container(&mut self, container: &Container) {
        for source in container.env_from.iter().flatten() {
            self.secret(source.secret_ref.as_ref().map(|reference| reference.name.as_str()));
            self.config_map(source.config_map_ref.as_ref().map(|reference| reference.name.as_str()));
        }
        for value in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
            self.secret(value.secret_key_ref.as_ref().map(|reference| reference.name.as_str()));
            self.config_map(value.config_map_key_ref.as_ref().map(|reference| reference.name.as_str()));
        }
    }

    fn spec(&mut self, spec: &PodSpec) {
        for reference in spec.image_pull_secrets.iter().flatten() {
            self.secret(Some(&reference.name));
        }
        for volume in spec.volumes.iter().flatten() {
            self.own_volume(volume);
            self.driver_volume(volume);
        }
    }

    fn own_volume(&mut self, volume: &Volume) {
        self.secret(volume.secret.as_ref().and_then(|source| source.secret_name.as_deref()));
        self.config_map(volume.config_map.as_ref().map(|source| source.name.as_str()));
        let projected = volume.projected.as_ref().and_then(|projected| projected.sources.as_ref());
        for source in projected.into_iter().flatten() {
            self.secret(source.secret.as_ref().map(|source| source.name.as_str()));
            self.config_map(source.config_map.as_ref().map(|source| source.name.as_str()));
        }
    }

    /// Credentials of storage systems.
    fn driver_volume(&mut self, volume: &Volume) {
        self.secret(volume.azure_file.as_ref().map(|source| source.secret_name.as_str()));
        let references = [
            volume.cephfs.as_ref().and_then(|source| source.secret_ref.as_ref()),
            volume.cinder.as_ref().and_then(|source| source.secret_ref.as_ref()),
            volume.flex_volume.as_ref().and_then(|source| source.secret_ref.as_ref()),
            volume.iscsi.as_ref().and_then(|source| source.secret_ref.as_ref()),
            volume.rbd.as_ref().and_then(|source| source.secret_ref.as_ref()),
            volume.storageos.as_ref().and_then(|source| source.secret_ref.as_ref()),
            volume.csi.as_ref().and_then(|source| source.node_publish_secret_ref.as_ref()),
            volume.scale_io.as_ref().map(|source| &source.secret_ref),
        ];
        for reference in references.into_iter().flatten() {
            self.secret(Some(&reference.name));
        }
    }
}
