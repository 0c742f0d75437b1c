//! What objects say of volumes and their drivers.

use serde_json::json;

use super::*;

fn persistent(spec: &serde_json::Value) -> Result<VolumeSpec, SpecError> {
    let object = json!({ "metadata": { "name": "pv-1" }, "spec": spec });
    VolumeSpec::of_persistent(&serde_json::from_value(object).unwrap())
}

#[test]
fn a_persistent_volume_of_a_csi_driver() {
    let spec = persistent(&json!({
        "accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "capacity": { "storage": "1Gi" },
        "mountOptions": ["noatime"], "volumeMode": "Block",
        "csi": {
            "driver": "d.example", "volumeHandle": "h/1", "fsType": "xfs", "readOnly": true,
            "volumeAttributes": { "a": "b" },
            "nodeStageSecretRef": { "name": "s", "namespace": "n" },
            "nodePublishSecretRef": { "name": "p", "namespace": "n" },
        },
    }))
    .unwrap();
    assert_eq!(spec.name.as_str(), "kubernetes.io/csi/d.example^h/1");
    assert_eq!((spec.folder.as_str(), spec.mode), ("pv-1", VolumeMode::Block));
    assert_eq!((spec.capacity, spec.mount_options.as_slice()), (Some(1 << 30), &["noatime".to_owned()][..]));
    let secret = |name: &str| Some(SecretName { namespace: "n".into(), name: name.into() });
    let source = spec.as_csi().unwrap().csi();
    assert_eq!((&source.stage_secret, &source.publish_secret), (&secret("s"), &secret("p")));
    assert_eq!((source.expand_secret.as_ref(), source.is_ephemeral, source.read_only), (None, false, true));
    assert_eq!((source.fs_type.as_str(), source.attributes["a"].as_str()), ("xfs", "b"));
}

#[test]
fn one_of_another_kind_says_of_which() {
    let fc = json!({ "fc": { "lun": 1 } });
    assert_eq!(persistent(&fc), Err(SpecError::NoPlugin { plugin: "kubernetes.io/fc".into() }));
    assert_eq!(persistent(&json!({})), Err(SpecError::Unknown));
}

/// The handle is upstream's: whichever kubelet unpublishes it calls it by the same name.
#[test]
fn an_inline_volume_is_its_pods_alone() {
    let pod: crate::Pod = serde_json::from_value(json!({
        "metadata": { "name": "p", "namespace": "ns", "uid": "u-1" },
        "spec": { "containers": [], "volumes": [
            { "name": "v", "csi": {
                "driver": "d.example", "readOnly": true, "nodePublishSecretRef": { "name": "s" },
            } },
            { "name": "e", "emptyDir": {} },
            { "name": "n", "nfs": { "server": "s", "path": "/x", "readOnly": true } },
        ] },
    }))
    .unwrap();
    let volumes = pod.spec.as_ref().unwrap().volumes.as_ref().unwrap();
    let (spec, is_read_only) = VolumeSpec::of_inline(&pod, &volumes[0]).unwrap();
    assert!(is_read_only);
    assert_eq!(spec.name.as_str(), "kubernetes.io/csi/u-1-v");
    let source = spec.as_csi().unwrap().csi();
    assert_eq!(source.handle, "csi-54e4a2795add1ece7addc064e12cf22ce057736d58edc244244872693ca52848");
    assert_eq!(source.publish_secret, Some(SecretName { namespace: "ns".into(), name: "s".into() }));
    assert!(source.is_ephemeral && source.read_only);
    assert_eq!(VolumeSpec::of_inline(&pod, &volumes[1]), None);
    let (spec, is_read_only) = VolumeSpec::of_inline(&pod, &volumes[2]).unwrap();
    assert_eq!((spec.name.as_str(), is_read_only), ("kubernetes.io/nfs/u-1-n", true));
    assert_eq!(spec.source, VolumeSource::Host(HostSource::Nfs { server: "s".into(), path: "/x".into() }));
}

#[test]
fn a_csi_driver_object_and_what_holds_without_one() {
    let of = |spec: serde_json::Value| {
        CsiDriverObject::of(&serde_json::from_value(json!({ "metadata": {}, "spec": spec })).unwrap())
    };
    assert_eq!(of(json!({})), CsiDriverObject { is_there: true, ..CsiDriverObject::default() });
    let object = of(json!({
        "attachRequired": false, "podInfoOnMount": true, "fsGroupPolicy": "File", "requiresRepublish": true,
        "volumeLifecycleModes": ["Ephemeral"], "tokenRequests": [{ "audience": "a", "expirationSeconds": 600 }],
        "nodeAllocatableUpdatePeriodSeconds": 10, "seLinuxMount": true, "serviceAccountTokenInSecrets": true,
    }));
    let token = CsiTokenRequest { audience: "a".into(), expiration_seconds: Some(600) };
    assert_eq!(
        object,
        CsiDriverObject {
            is_there: true,
            allocatable_update_period: Some(std::time::Duration::from_secs(10)),
            attach_required: false,
            tells_pod_info: true,
            fs_group_policy: FsGroupPolicy::File,
            is_persistent: false,
            is_ephemeral: true,
            token_requests: vec![token],
            has_tokens_in_secrets: true,
            requires_republish: true,
            mounts_with_selinux: true,
        }
    );
}

#[test]
fn volumes_that_the_kubelet_mounts_itself() {
    let object = |annotations: serde_json::Value, spec: serde_json::Value| {
        let object = json!({ "metadata": { "name": "pv-1", "annotations": annotations }, "spec": spec });
        Arc::new(VolumeSpec::of_persistent(&serde_json::from_value(object).unwrap()).unwrap())
    };
    let local = object(
        json!({ "pv.beta.kubernetes.io/gid": "77" }),
        json!({
            "local": { "path": "/mnt/disk" }, "mountOptions": ["noexec", "noatime", "noexec"],
            "nodeAffinity": { "required": { "nodeSelectorTerms": [{}] } },
        }),
    );
    let uid = PodUid::from("u");
    assert_eq!(local.for_pod(&uid).name.as_str(), "kubernetes.io/local-volume/pv-1", "pods share it");
    assert_eq!((local.handle(), local.group), ("pv-1", Some(77)));
    assert_eq!(local.mount_options, ["noatime", "noexec"]);
    assert!(local.nodes.is_some() && !local.is_ephemeral());
    let ext4 = HostSource::Local { path: "/mnt/disk".into(), fs_type: "ext4".into() };
    assert_eq!(local.source, VolumeSource::Host(ext4));
    let annotations = json!({
        "volume.beta.kubernetes.io/mount-options": "ro,,noatime", "pv.beta.kubernetes.io/gid": "wheel",
    });
    let path = object(annotations, json!({ "hostPath": { "path": "/data" }, "mountOptions": ["sync"] }));
    assert_eq!(path.for_pod(&uid).name.as_str(), "kubernetes.io/host-path/u-pv-1");
    assert_eq!((path.mount_options.as_slice(), path.group), (&["noatime".into(), "ro".into()][..], None));
    assert_eq!(PublishedPlace::of(&path.source), PublishedPlace::HostPath("/data".into()));
}

#[test]
fn a_claim_is_blamed_for_what_is_its_own() {
    let claim = ClaimName { namespace: "ns".into(), name: "c".into() };
    assert_eq!(ClaimProblem::NotBound.about(&claim), "error processing PVC ns/c: PVC is not bound");
    let withdrawn = ClaimProblem::NoPlugin { volume: "pv".into(), error: SpecError::Unknown };
    let text = "failed to get Plugin from volumeSpec for volume \"pv\" err=no volume plugin matched";
    assert_eq!(withdrawn.about(&claim), text);
}
