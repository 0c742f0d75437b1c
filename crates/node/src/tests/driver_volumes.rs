//! Volumes that drivers make: on the way of a pod, between pods, and over a restart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::storage::{
    BoundClaim, ClaimAnswer, ClaimProblem, ClaimSize, CsiCapabilities, CsiDriverObject, FoundPublication,
    FoundStage, FoundVolumes, HostPlugin, MounterName, PublishedPlace, PublishedVolume, ResizeStep,
    VolumeMode, VolumeSpec,
};
use model::{Pod, PodUid};
use serde_json::{Value, json};

use super::scenario::{Scenario, machine, pod};
use crate::{
    Action, ApiOutcome, CsiNodeInfo, FailureKind, Input, Outcome, PluginInfo, PluginOutcome, Restored,
    RuntimeAction, Source,
};

const SOCKET: &str = "/r/d.sock";

/// A driver that need not attach anything, and makes volumes of both kinds.
fn object() -> CsiDriverObject {
    CsiDriverObject {
        is_there: true,
        attach_required: false,
        is_ephemeral: true,
        ..CsiDriverObject::default()
    }
}

fn lists_drivers(scenario: &mut Scenario, object: CsiDriverObject) -> String {
    scenario.tell(Input::CsiDrivers(BTreeMap::from([("d".to_owned(), object)])))
}

/// The driver `d` registers. Returns what follows.
fn driver_comes(scenario: &mut Scenario) -> String {
    driver_comes_with(scenario, CsiCapabilities { stages: true, expands: true, ..CsiCapabilities::default() })
}

fn driver_comes_with(scenario: &mut Scenario, capabilities: CsiCapabilities) -> String {
    scenario.tell(Input::PluginSockets(BTreeMap::from([(SOCKET.to_owned(), 1)])));
    let info = PluginInfo {
        kind: "CSIPlugin".into(),
        name: "d".into(),
        endpoint: "/d.sock".into(),
        versions: vec!["1.0.0".into()],
    };
    scenario.ends(&format!("get info of plugin {SOCKET}"), Outcome::Plugin(PluginOutcome::Info(info)));
    let info = CsiNodeInfo { node_id: "n".into(), capabilities, ..CsiNodeInfo::default() };
    scenario.ends("get node info from CSI driver d", Outcome::Plugin(PluginOutcome::NodeInfo(info)))
}

fn with_driver() -> Scenario {
    let mut scenario = Scenario::new();
    lists_drivers(&mut scenario, object());
    driver_comes(&mut scenario);
    scenario
}

fn mounting(name: &str, uid: &str, volume: &Value) -> Pod {
    let mount = json!([{ "name": "v", "mountPath": "/v" }]);
    let mut made = pod(json!({
        "containers": [{ "name": "a", "image": "i", "imagePullPolicy": "IfNotPresent", "volumeMounts": mount }],
        "volumes": [volume], "terminationGracePeriodSeconds": 0,
    }));
    (made.metadata.name, made.metadata.uid) = (Some(name.to_owned()), Some(uid.to_owned()));
    made
}

fn inline() -> Pod {
    mounting("web", "u", &json!({ "name": "v", "csi": { "driver": "d" } }))
}

fn claiming(name: &str, uid: &str) -> Pod {
    mounting(name, uid, &json!({ "name": "v", "persistentVolumeClaim": { "claimName": "c" } }))
}

fn volume(access_mode: &str) -> VolumeSpec {
    let spec = json!({ "accessModes": [access_mode], "csi": { "driver": "d", "volumeHandle": "h" } });
    let object = json!({ "metadata": { "name": "pv" }, "spec": spec });
    VolumeSpec::of_persistent(&serde_json::from_value(object).unwrap()).unwrap()
}

/// Of a claim whose volume has so many bytes, as it should.
fn bound_of(capacity: u64) -> Outcome {
    let volume = Arc::new(VolumeSpec { capacity: Some(capacity), ..volume("ReadWriteOnce") });
    let size = ClaimSize { requested: capacity, capacity, ..ClaimSize::default() };
    Outcome::Api(ApiOutcome::Claim(ClaimAnswer::Bound(BoundClaim { volume, owner: None, size })))
}

fn bound() -> Outcome {
    bound_with("ReadWriteOnce")
}

fn bound_with(access_mode: &str) -> Outcome {
    let volume = Arc::new(volume(access_mode));
    Outcome::Api(ApiOutcome::Claim(ClaimAnswer::Bound(BoundClaim {
        volume,
        owner: None,
        size: Default::default(),
    })))
}

/// Of a claim whose volume had one byte and has two, which the node has to follow, or has followed.
fn growing(is_followed: bool) -> Outcome {
    let volume = Arc::new(VolumeSpec { capacity: Some(2), ..volume("ReadWriteOnce") });
    let size = match is_followed {
        true => ClaimSize { requested: 2, capacity: 2, allocated: Some(2), ..ClaimSize::default() },
        false => ClaimSize {
            requested: 2,
            capacity: 1,
            allocated: Some(2),
            step: Some(ResizeStep::Node),
            ..ClaimSize::default()
        },
    };
    Outcome::Api(ApiOutcome::Claim(ClaimAnswer::Bound(BoundClaim { volume, owner: None, size })))
}

/// Everything but volumes goes well until nothing else is under way.
fn go_on(scenario: &mut Scenario) -> Vec<String> {
    let mut seen = Vec::new();
    let is_of_drivers = |text: &str| {
        ["stage", "unstage", "publish", "unpublish", "grow", "resolve", "notify"]
            .iter()
            .any(|verb| text.starts_with(verb))
    };
    while let Some(text) = scenario.under_way().into_iter().find(|text| !is_of_drivers(text)) {
        scenario.done(&text);
        seen.push(text);
    }
    seen
}

fn deleted(pod: &Pod) -> Pod {
    let mut pod = pod.clone();
    pod.metadata.deletion_timestamp = serde_json::from_value(json!("2023-11-14T22:13:20Z")).unwrap();
    pod.metadata.deletion_grace_period_seconds = Some(0);
    pod
}

fn waits(scenario: &Scenario, uid: &str) -> Vec<String> {
    let view = scenario.node.view();
    let waits = &view.pods[&PodUid::from(uid)].waits;
    let of_volumes = waits.iter().filter(|wait| wait.on.to_string().starts_with("volume "));
    of_volumes.map(|wait| format!("{}: {}", wait.on, wait.error.as_deref().unwrap_or("-"))).collect()
}

#[test]
fn an_inline_volume_is_there_before_the_sandbox_and_goes_before_the_object() {
    let mut scenario = with_driver();
    let started = scenario.apply(&inline());
    assert!(started.contains("publish v"), "{started}");
    let before = go_on(&mut scenario);
    assert!(!before.iter().any(|text| text.starts_with("sandbox")), "{before:?}");
    assert_eq!(waits(&scenario, "u"), ["volume v to be mounted for the pod by CSI driver d: -"]);
    assert_eq!(scenario.done("publish v"), "sandbox 0");
    scenario.done("sandbox 0");
    let given = scenario.actions().find_map(|action| match action {
        Action::Runtime(RuntimeAction::StartContainer(start)) => Some(start.published_volumes.clone()),
        _ => None,
    });
    let made = &inline().spec.unwrap().volumes.unwrap()[0];
    let (spec, is_read_only) = VolumeSpec::of_inline(&inline(), made).unwrap();
    let volume = PublishedVolume::of(&spec, is_read_only);
    let published = BTreeMap::from([("v".to_owned(), volume)]);
    assert_eq!(given.as_ref(), Some(&published));
    let view = scenario.node.view();
    assert_eq!(view.pods[&PodUid::from("u")].published, published, "others are shown it, too");
    assert!(view.drivers.callable.contains_key("d"));
    go_on(&mut scenario);
    assert_eq!(waits(&scenario, "u"), [""; 0]);
    scenario.apply(&deleted(&inline()));
    let seen = go_on(&mut scenario);
    assert!(!seen.iter().any(|text| text.starts_with("tear-down") || text.starts_with("delete")), "{seen:?}");
    assert_eq!(waits(&scenario, "u"), ["volume v to be unmounted for the pod by CSI driver d: -"]);
    let gone = scenario.done("unpublish v");
    assert!(gone.contains("tear-down"), "{gone}");
    assert!(go_on(&mut scenario).iter().any(|text| text.starts_with("delete")));
}

#[test]
fn who_is_waited_for_is_told_and_goes_on_by_itself() {
    let mut scenario = Scenario::new();
    let told = scenario.apply(&inline());
    assert!(!told.contains("FailedMount"), "what drivers there are is not known yet: {told}");
    let told = lists_drivers(&mut scenario, object());
    let missing = "FailedMount: MountVolume.SetUp failed for volume \"v\" : kubernetes.io/csi: mounter.SetUpAt failed to \
                   get CSI client: driver name d not found in the list of registered CSI drivers";
    assert_eq!(told, missing);
    assert_eq!(waits(&scenario, "u"), ["volume v which needs CSI driver d to register: -"]);
    assert!(driver_comes(&mut scenario).contains("publish v"));
    let failed = scenario.fails("publish v", FailureKind::Other, "no room");
    assert_eq!(failed, "FailedMount: MountVolume.SetUp failed for volume \"v\" : no room");
    let error = "MountVolume.SetUp failed for volume \"v\" : no room";
    assert_eq!(
        waits(&scenario, "u"),
        [format!("volume v to be mounted for the pod by CSI driver d: {error}")]
    );
    assert!(scenario.wait(Duration::from_millis(500)).contains("publish v"), "after upstream's back-off");
}

#[test]
fn a_driver_that_makes_no_inline_volumes_is_not_asked_for_one() {
    let mut scenario = Scenario::new();
    lists_drivers(&mut scenario, CsiDriverObject { is_ephemeral: false, ..object() });
    driver_comes(&mut scenario);
    let told = scenario.apply(&inline());
    let refusal = "FailedMount: MountVolume.SetUp failed for volume \"v\" : kubernetes.io/csi: mounter.SetupAt failed to \
                   check volume lifecycle mode: volume mode \"Ephemeral\" not supported by driver d (only supports \
                   [\"Persistent\"])";
    assert!(told.contains(refusal) && !told.contains("publish"), "{told}");
}

#[test]
fn a_claim_that_is_not_bound_is_read_again_and_told_of() {
    let mut scenario = with_driver();
    assert!(scenario.apply(&claiming("web", "u")).contains("resolve ns/c"));
    let unbound = Outcome::Api(ApiOutcome::Claim(ClaimAnswer::Unusable(ClaimProblem::NotBound)));
    assert_eq!(
        scenario.ends("resolve ns/c", unbound),
        "FailedMount: Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[], failed to \
         process volumes=[v]: error processing PVC ns/c: PVC is not bound"
    );
    let error = "error processing PVC ns/c: PVC is not bound";
    assert_eq!(waits(&scenario, "u"), [format!("volume v of claim ns/c to be there: {error}")]);
    assert!(scenario.wait(Duration::from_millis(500)).contains("resolve ns/c"));
    assert_eq!(scenario.ends("resolve ns/c", bound()), "stage pv");
}

#[test]
fn a_volume_is_staged_once_for_all_and_each_call_has_its_turn() {
    let mut scenario = with_driver();
    scenario.apply(&claiming("web", "u"));
    scenario.apply(&claiming("db", "u2"));
    assert_eq!(scenario.ends("resolve ns/c", bound()), "stage pv", "one request serves both");
    let first = scenario.done("stage pv");
    assert_eq!(first, "publish pv", "and one pod after the other");
    assert_eq!(scenario.done("publish pv"), "publish pv of u2");
    scenario.done("publish pv of u2");
    go_on(&mut scenario);
    scenario.apply(&deleted(&claiming("web", "u")));
    go_on(&mut scenario);
    let after = scenario.done("unpublish pv");
    assert!(!after.contains("unstage"), "{after}");
    go_on(&mut scenario);
    scenario.apply(&deleted(&claiming("db", "u2")));
    go_on(&mut scenario);
    assert!(scenario.done("unpublish pv of u2").contains("unstage h"));
}

#[test]
fn a_stage_that_may_have_happened_is_undone_and_who_comes_meanwhile_waits_for_that() {
    let mut scenario = with_driver();
    scenario.apply(&claiming("web", "u"));
    scenario.ends("resolve ns/c", bound());
    let told = scenario.fails("stage pv", FailureKind::Uncertain, "deadline exceeded");
    assert_eq!(told, "FailedMount: MountVolume.MountDevice failed for volume \"pv\" : deadline exceeded");
    let pod = claiming("web", "u");
    scenario.apply(&deleted(&pod));
    go_on(&mut scenario);
    assert!(scenario.under_way().contains(&"unstage h".to_owned()), "{:?}", scenario.under_way());
    scenario.apply(&claiming("db", "u2"));
    assert_eq!(scenario.ends("resolve ns/c", bound()), "", "nothing beside the call under way");
    // It may go on: only the same call leads out.
    scenario.fails("unstage h", FailureKind::Uncertain, "deadline exceeded");
    assert_eq!(scenario.wait(Duration::from_millis(500)), "unstage h");
    assert_eq!(scenario.done("unstage h"), "stage pv");
}

#[test]
fn a_volume_that_has_grown_does_so_on_the_node_before_a_pod_starts() {
    let mut scenario = with_driver();
    scenario.apply(&claiming("web", "u"));
    assert_eq!(scenario.ends("resolve ns/c", growing(false)), "stage pv");
    scenario.done("stage pv");
    assert_eq!(scenario.done("publish pv"), "grow pv to 2");
    let before = go_on(&mut scenario);
    assert!(!before.iter().any(|text| text.starts_with("sandbox")), "{before:?}");
    assert_eq!(waits(&scenario, "u"), ["volume v to grow, which CSI driver d sees to: -"]);
    let told = scenario.fails("grow pv to 2", FailureKind::Other, "no room");
    let failed = "MountVolume.Setup failed while expanding volume for volume \"pv\" : no room";
    assert_eq!(told, format!("FailedMount: {failed}"));
    assert_eq!(
        scenario.wait(Duration::from_millis(500)),
        "resolve ns/c",
        "who looks after it may have decided"
    );
    assert_eq!(scenario.ends("resolve ns/c", growing(false)), "grow pv to 2");
    let done = scenario.done("grow pv to 2");
    assert!(done.contains("FileSystemResizeSuccessful") && done.contains("sandbox 0"), "{done}");
    assert_eq!(waits(&scenario, "u"), [""; 0]);
}

#[test]
fn a_driver_that_grows_nothing_in_use_keeps_no_pod_from_starting() {
    let mut scenario = with_driver();
    scenario.apply(&claiming("web", "u"));
    scenario.ends("resolve ns/c", growing(false));
    scenario.done("stage pv");
    scenario.done("publish pv");
    go_on(&mut scenario);
    assert_eq!(scenario.fails("grow pv to 2", FailureKind::InUse, "in use"), "sandbox 0");
    go_on(&mut scenario);
    assert_eq!(scenario.wait(Duration::from_secs(60)), "resolve ns/c");
    assert_eq!(scenario.ends("resolve ns/c", growing(false)), "", "it is not asked again");
}

#[test]
fn who_only_reads_a_volume_is_told_that_it_does_not_grow() {
    let mut scenario = with_driver();
    let claim = json!({ "claimName": "c", "readOnly": true });
    scenario.apply(&mounting("web", "u", &json!({ "name": "v", "persistentVolumeClaim": claim })));
    scenario.ends("resolve ns/c", growing(false));
    scenario.done("stage pv");
    go_on(&mut scenario);
    let told = scenario.done("publish pv");
    let said = "FileSystemResizeFailed: MountVolume.NodeExpandVolume failed for volume \"pv\" requested read-only file \
                system";
    assert_eq!(told, format!("{said} | {said} | sandbox 0"), "about the pod and the claim");
    go_on(&mut scenario);
    assert_eq!(scenario.wait(Duration::from_secs(60)), "");
}

#[test]
fn a_driver_that_expands_nothing_is_asked_for_no_more_than_upstream_asks() {
    let without = CsiCapabilities { stages: true, ..CsiCapabilities::default() };
    let told_elsewhere =
        ClaimSize { requested: 2, capacity: 2, allocated: Some(2), is_shared: true, ..ClaimSize::default() };
    for (size, is_asked) in [
        (ClaimSize { step: Some(ResizeStep::Node), capacity: 1, ..told_elsewhere.clone() }, true),
        (ClaimSize { allocated: None, capacity: 1, ..told_elsewhere.clone() }, false),
    ] {
        let mut scenario = Scenario::new();
        lists_drivers(&mut scenario, object());
        driver_comes_with(&mut scenario, without);
        scenario.apply(&claiming("web", "u"));
        let volume = Arc::new(VolumeSpec { capacity: Some(2), ..volume("ReadWriteOnce") });
        let bound = BoundClaim { volume, owner: None, size };
        scenario.ends("resolve ns/c", Outcome::Api(ApiOutcome::Claim(ClaimAnswer::Bound(bound))));
        scenario.done("stage pv");
        go_on(&mut scenario);
        let next = if is_asked { "grow pv to 2" } else { "sandbox 0" };
        assert_eq!(scenario.done("publish pv"), next);
    }
}

#[test]
fn a_volume_that_grows_while_a_pod_has_it_is_followed_once() {
    let mut scenario = with_driver();
    scenario.apply(&claiming("web", "u"));
    scenario.ends("resolve ns/c", bound_of(1));
    scenario.done("stage pv");
    scenario.done("publish pv");
    go_on(&mut scenario);
    assert!(scenario.wait(Duration::from_secs(60)).contains("resolve ns/c"));
    assert_eq!(scenario.ends("resolve ns/c", growing(false)), "grow pv to 2");
    assert_eq!(waits(&scenario, "u"), [""; 0], "it runs meanwhile");
    let told = scenario.fails("grow pv to 2", FailureKind::Uncertain, "deadline exceeded");
    let failed = "NodeExpandVolume.NodeExpandVolume failed for volume \"pv\" : deadline exceeded";
    assert_eq!(told, format!("VolumeResizeFailed: {failed}"));
    scenario.wait(Duration::from_millis(500));
    scenario.ends("resolve ns/c", growing(false));
    assert!(scenario.done("grow pv to 2").contains("FileSystemResizeSuccessful"));
    scenario.wait(Duration::from_secs(60));
    assert_eq!(scenario.ends("resolve ns/c", growing(true)), "");
}

#[test]
fn one_that_is_for_one_pod_alone_is_refused_to_others() {
    let mut scenario = with_driver();
    scenario.apply(&claiming("web", "u"));
    scenario.ends("resolve ns/c", bound_with("ReadWriteOncePod"));
    scenario.done("stage pv");
    scenario.done("publish pv");
    go_on(&mut scenario);
    scenario.apply(&claiming("db", "u2"));
    assert_eq!(
        scenario.ends("resolve ns/c", bound_with("ReadWriteOncePod")),
        "FailedMount: MountVolume.SetUp failed for volume \"pv\" : volume uses the ReadWriteOncePod access mode and is \
         already in use by another pod"
    );
    scenario.apply(&deleted(&claiming("web", "u")));
    go_on(&mut scenario);
    assert!(scenario.done("unpublish pv").contains("publish pv of u2"));
}

#[test]
fn a_driver_that_wants_it_is_asked_again_and_a_failure_takes_nothing_away() {
    let mut scenario = Scenario::new();
    lists_drivers(&mut scenario, CsiDriverObject { requires_republish: true, ..object() });
    driver_comes(&mut scenario);
    scenario.apply(&inline());
    scenario.done("publish v");
    go_on(&mut scenario);
    let again = scenario.wait(Duration::from_secs(61));
    assert!(again.contains("publish v again"), "{again}");
    let told = scenario.fails("publish v again", FailureKind::Other, "no");
    assert!(told.contains("FailedMount"), "{told}");
    let view = scenario.node.view();
    assert!(view.pods[&PodUid::from("u")].are_volumes_made, "it is still there");
    assert!(scenario.wait(Duration::from_secs(61)).contains("publish v again"));
}

/// What an earlier process has left is made again where a pod wants it, and else taken away.
#[test]
fn what_was_found_is_made_again_or_removed() {
    let publication = |uid: &str| FoundPublication {
        uid: uid.into(),
        folder: "pv".into(),
        mounter: MounterName::Csi("d".into()),
        handle: "h".into(),
        is_ephemeral: false,
        mode: VolumeMode::Filesystem,
        is_mounted: true,
    };
    let mounter = || MounterName::Csi("d".into());
    let stage = |handle: &str| FoundStage { mounter: mounter(), handle: handle.into(), is_mounted: true };
    let mut scenario = Scenario::restarted(BTreeMap::new(), Duration::from_secs(5000));
    lists_drivers(&mut scenario, object());
    let volumes = FoundVolumes {
        published: vec![publication("u"), publication("gone")],
        staged: vec![stage("h"), stage("unused")],
    };
    let restored = Restored { machine: machine(), volumes, ..Restored::default() };
    scenario.tell(Input::Restored(Box::new(restored)));
    driver_comes(&mut scenario);
    assert!(!scenario.under_way().iter().any(|text| text.contains("stage") || text.contains("publish")));
    scenario.tell(Input::PodsListed { source: Source::Api, pods: vec![Arc::new(claiming("web", "u"))] });
    scenario.tell(Input::PodsListed { source: Source::File, pods: vec![] });
    let open = scenario.under_way();
    let has = |text: &str| open.iter().any(|open| open == text);
    assert!(has("unpublish pv of gone") && has("unstage unused") && has("resolve ns/c"), "{open:?}");
    assert_eq!(scenario.ends("resolve ns/c", bound()), "", "the call for the other pod is under way");
    assert!(scenario.done("unpublish pv of gone").contains("stage pv"));
    assert_eq!(scenario.done("stage pv"), "publish pv");
}

/// A claim with a PersistentVolume of this source.
fn bound_to(spec: &Value) -> Outcome {
    let object = json!({ "metadata": { "name": "pv", "annotations": { "pv.beta.kubernetes.io/gid": "77" } }, "spec": spec });
    let volume = VolumeSpec::of_persistent(&serde_json::from_value(object).unwrap()).unwrap();
    let bound = BoundClaim { volume: Arc::new(volume), owner: None, size: ClaimSize::default() };
    Outcome::Api(ApiOutcome::Claim(ClaimAnswer::Bound(bound)))
}

/// What the kubelet mounts itself needs no driver, nor anything that the cluster says of drivers.
#[test]
fn a_local_volume_is_staged_once_and_its_group_is_the_pods() {
    let mut scenario = Scenario::new();
    scenario.apply(&claiming("web", "u"));
    let local = bound_to(&json!({ "local": { "path": "/disk" } }));
    assert_eq!(scenario.ends("resolve ns/c", local.clone()), "stage pv");
    assert_eq!(
        waits(&scenario, "u"),
        ["volume v to be made ready for the node by plugin kubernetes.io/local-volume: -"]
    );
    let told = scenario.fails("stage pv", FailureKind::NotBegun, "path \"/disk\" does not exist");
    let message =
        "MountVolume.NewMounter initialization failed for volume \"pv\" : path \"/disk\" does not exist";
    assert!(told.contains(message), "{told}");
    assert!(scenario.wait(Duration::from_secs(1)).contains("stage pv"));
    assert_eq!(scenario.done("stage pv"), "publish pv");
    go_on(&mut scenario);
    let groups = |scenario: &Scenario| {
        let of = |action: &Action| match action {
            Action::Runtime(RuntimeAction::RunSandbox { volume_groups, .. }) => Some(volume_groups.clone()),
            Action::Runtime(RuntimeAction::StartContainer(start)) => Some(start.volume_groups.clone()),
            _ => None,
        };
        scenario.actions().find_map(of)
    };
    assert_eq!(scenario.done("publish pv"), "sandbox 0");
    assert_eq!(groups(&scenario), Some(vec![77]));
    scenario.done("sandbox 0");
    assert_eq!(groups(&scenario), Some(vec![77]));
    go_on(&mut scenario);
    scenario.apply(&claiming("other", "o"));
    assert_eq!(scenario.ends("resolve ns/c", local), "publish pv of o", "it is staged already");
    scenario.done("publish pv of o");
    go_on(&mut scenario);
    for (name, uid, text) in [("web", "u", "unpublish pv"), ("other", "o", "unpublish pv of o")] {
        scenario.apply(&deleted(&claiming(name, uid)));
        go_on(&mut scenario);
        scenario.done(text);
        go_on(&mut scenario);
    }
    assert_eq!(scenario.under_way(), ["unstage pv"]);
    scenario.done("unstage pv");
}

/// A path is each pod's own, and nothing has to be done with it but to look.
#[test]
fn a_path_of_the_node_is_looked_at_for_each_pod_and_has_no_options() {
    let mut scenario = Scenario::new();
    scenario.apply(&claiming("web", "u"));
    let path = json!({ "hostPath": { "path": "/data" } });
    assert_eq!(scenario.ends("resolve ns/c", bound_to(&path)), "publish pv");
    go_on(&mut scenario);
    scenario.done("publish pv");
    scenario.done("sandbox 0");
    let given = scenario.actions().find_map(|action| match action {
        Action::Runtime(RuntimeAction::StartContainer(start)) => {
            Some(start.published_volumes["v"].place.clone())
        }
        _ => None,
    });
    assert_eq!(given, Some(PublishedPlace::HostPath("/data".into())));
    go_on(&mut scenario);
    scenario.apply(&claiming("other", "o"));
    let path = json!({ "hostPath": { "path": "/data" }, "mountOptions": ["ro"] });
    let told = scenario.ends("resolve ns/c", bound_to(&path));
    let why = "MountVolume.MountOptionSupport check failed for volume \"pv\" : mount options are not supported for this volume type";
    assert!(told.contains(why), "{told}");
}

/// What was mounted for a pod that nobody knows any more is unmounted, and a disk is taken from the node.
#[test]
fn local_volumes_that_were_found_are_taken_down_without_a_driver() {
    let mounter = || MounterName::Host(HostPlugin::Local);
    let publication = FoundPublication {
        uid: "gone".into(),
        folder: "pv".into(),
        mounter: mounter(),
        handle: "pv".into(),
        is_ephemeral: false,
        mode: VolumeMode::Filesystem,
        is_mounted: true,
    };
    let stage = FoundStage { mounter: mounter(), handle: "other".into(), is_mounted: false };
    let mut scenario = Scenario::restarted(BTreeMap::new(), Duration::from_secs(5000));
    let volumes = FoundVolumes { published: vec![publication], staged: vec![stage] };
    scenario.tell(Input::Restored(Box::new(Restored { machine: machine(), volumes, ..Restored::default() })));
    scenario.tell(Input::PodsListed { source: Source::Api, pods: vec![] });
    scenario.tell(Input::PodsListed { source: Source::File, pods: vec![] });
    let open = scenario.under_way();
    let has = |text: &str| open.iter().any(|open| open == text);
    assert!(has("unpublish pv of gone") && has("unstage other"), "{open:?}");
    assert!(scenario.done("unpublish pv of gone").contains("unstage pv"));
}

#[test]
fn what_a_server_exports_is_mounted_for_each_pod_and_goes_without_a_driver() {
    let found = FoundPublication {
        uid: PodUid::from("gone"),
        folder: "v".into(),
        mounter: MounterName::Host(HostPlugin::Nfs),
        handle: "v".into(),
        is_ephemeral: false,
        mode: VolumeMode::Filesystem,
        is_mounted: true,
    };
    let mut scenario = Scenario::restarted(BTreeMap::new(), Duration::from_secs(5000));
    let volumes = FoundVolumes { published: vec![found], staged: vec![] };
    scenario.tell(Input::Restored(Box::new(Restored { machine: machine(), volumes, ..Restored::default() })));
    let nfs = json!({ "name": "v", "nfs": { "server": "s", "path": "/x", "readOnly": true } });
    scenario
        .tell(Input::PodsListed { source: Source::Api, pods: vec![Arc::new(mounting("web", "u", &nfs))] });
    scenario.tell(Input::PodsListed { source: Source::File, pods: vec![] });
    let open = scenario.under_way();
    let has = |text: &str| open.iter().any(|open| open == text);
    assert!(has("publish v") && has("unpublish v of gone"), "it is staged nowhere: {open:?}");
    assert_eq!(waits(&scenario, "u"), ["volume v to be mounted for the pod by plugin kubernetes.io/nfs: -"]);
    let failed = scenario.fails("publish v", FailureKind::Uncertain, "mount has not ended");
    assert_eq!(failed, "FailedMount: MountVolume.SetUp failed for volume \"v\" : mount has not ended");
    assert!(scenario.wait(Duration::from_millis(500)).contains("publish v"), "it is repeated");
}
