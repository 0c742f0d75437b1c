//! Which kind of volume a volume is.

use k8s_openapi::api::core::v1::Volume;

/// The kind of a volume. A volume has exactly one source; one without any is an `emptyDir`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeKind {
    /// `hostPath`.
    HostPath,
    /// `configMap`.
    ConfigMap,
    /// `secret`.
    Secret,
    /// `downwardAPI`.
    DownwardApi,
    /// `projected`.
    Projected,
    /// `emptyDir`.
    EmptyDir,
    /// `image`, which the runtime mounts.
    Image,
    /// Any other, with upstream's name of the plugin it needs: it is attached or mounted from elsewhere.
    Driver(&'static str),
}

impl VolumeKind {
    /// The kind of this volume.
    pub fn of(volume: &Volume) -> Self {
        if let Some(plugin) = driver(volume) {
            return Self::Driver(plugin);
        }
        match volume {
            v if v.host_path.is_some() => Self::HostPath,
            v if v.config_map.is_some() => Self::ConfigMap,
            v if v.secret.is_some() => Self::Secret,
            v if v.downward_api.is_some() => Self::DownwardApi,
            v if v.projected.is_some() => Self::Projected,
            v if v.image.is_some() => Self::Image,
            _ => Self::EmptyDir,
        }
    }
}

fn driver(volume: &Volume) -> Option<&'static str> {
    macro_rules! named {
        ($($field:ident => $plugin:literal),* $(,)?) => {
            $(if volume.$field.is_some() { return Some($plugin); })*
        };
    }
    named! {
        persistent_volume_claim => "kubernetes.io/persistent-volume-claim",
        csi => "kubernetes.io/csi",
        ephemeral => "kubernetes.io/ephemeral",
        nfs => "kubernetes.io/nfs",
        iscsi => "kubernetes.io/iscsi",
        fc => "kubernetes.io/fc",
        flex_volume => "kubernetes.io/flexvolume",
        git_repo => "kubernetes.io/git-repo",
        aws_elastic_block_store => "kubernetes.io/aws-ebs",
        azure_disk => "kubernetes.io/azure-disk",
        azure_file => "kubernetes.io/azure-file",
        cephfs => "kubernetes.io/cephfs",
        cinder => "kubernetes.io/cinder",
        flocker => "kubernetes.io/flocker",
        gce_persistent_disk => "kubernetes.io/gce-pd",
        glusterfs => "kubernetes.io/glusterfs",
        photon_persistent_disk => "kubernetes.io/photon-pd",
        portworx_volume => "kubernetes.io/portworx-volume",
        quobyte => "kubernetes.io/quobyte",
        rbd => "kubernetes.io/rbd",
        scale_io => "kubernetes.io/scaleio",
        storageos => "kubernetes.io/storageos",
        vsphere_volume => "kubernetes.io/vsphere-volume",
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds() {
        for (volume, kind) in [
            (json!({ "hostPath": { "path": "/x" } }), VolumeKind::HostPath),
            (json!({ "configMap": { "name": "c" } }), VolumeKind::ConfigMap),
            (json!({ "secret": { "secretName": "s" } }), VolumeKind::Secret),
            (json!({ "downwardAPI": {} }), VolumeKind::DownwardApi),
            (json!({ "projected": {} }), VolumeKind::Projected),
            (json!({ "image": { "reference": "i" } }), VolumeKind::Image),
            (json!({ "emptyDir": {} }), VolumeKind::EmptyDir),
            (json!({}), VolumeKind::EmptyDir),
            (json!({ "nfs": { "server": "s", "path": "/x" } }), VolumeKind::Driver("kubernetes.io/nfs")),
            (json!({ "csi": { "driver": "d" } }), VolumeKind::Driver("kubernetes.io/csi")),
        ] {
            let mut manifest = volume.clone();
            manifest["name"] = json!("v");
            assert_eq!(VolumeKind::of(&serde_json::from_value(manifest).unwrap()), kind, "{volume}");
        }
    }
}
