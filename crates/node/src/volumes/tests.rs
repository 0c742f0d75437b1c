//! What volumes depend on that is not the node's to do: their attachment, and which nodes may have them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node as ApiNode, NodeStatus};
use model::storage::{
    BoundClaim, ClaimAnswer, ClaimName, ClaimSize, CsiDriver, CsiDriverObject, FoundStage, FoundVolumes,
    MounterName, VolumeSpec,
};
use model::{AllocatedPod, Now, Pod, PodKey, PodUid};
use serde_json::{Value, json};

use super::{Drivers, Surroundings, Volumes};
use crate::effect::{Action, ApiAction, ApiOutcome, Effect, Outcome, StorageAction};
use crate::outbox::Outbox;

const NAME: &str = "kubernetes.io/csi/d^h";

/// A part of a node with one pod that claims one volume.
struct World {
    volumes: Volumes,
    out: Outbox,
    pod: AllocatedPod,
    in_use: Vec<String>,
    attached: Vec<&'static str>,
    zone: &'static str,
    /// A write is under way that was made before the pod came.
    takes_back: bool,
    now: Now,
    /// What was told last.
    news: Vec<String>,
}

fn now() -> Now {
    Now { wall: Timestamp::UNIX_EPOCH, mono: Duration::from_secs(1) }
}

fn node(status: Value) -> ApiNode {
    serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap()
}

/// The source of a volume of a driver.
fn csi() -> Value {
    json!({ "csi": { "driver": "d", "volumeHandle": "h" } })
}

impl World {
    fn new() -> Self {
        Self::with(&json!({ "name": "v", "persistentVolumeClaim": { "claimName": "c" } }))
    }

    fn with(volume: &Value) -> Self {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "web", "namespace": "ns", "uid": "u" },
            "spec": {
                "containers": [{ "name": "a", "volumeMounts": [{ "name": "v", "mountPath": "/v" }] }],
                "volumes": [volume],
            },
        }))
        .unwrap();
        let mut volumes = Volumes::default();
        let driver = CsiDriver { name: "d".into(), ..CsiDriver::default() };
        let callable = BTreeMap::from([("d".to_owned(), driver)]);
        let objects = Some(BTreeMap::from([("d".to_owned(), CsiDriverObject::default())]));
        volumes.drivers_are(&Arc::new(Drivers { callable, objects }));
        let pod = AllocatedPod::granted(Arc::new(pod));
        Self {
            volumes,
            out: Outbox::default(),
            pod,
            in_use: vec![],
            attached: vec![],
            zone: "a",
            takes_back: false,
            now: now(),
            news: vec![],
        }
    }

    /// A round of the pod, or of its end. Returns what was started.
    fn round(&mut self, is_over: bool) -> Vec<Action> {
        let attached: Vec<Value> =
            self.attached.iter().map(|name| json!({ "name": name, "devicePath": "" })).collect();
        let mut object = node(json!({ "volumesAttached": attached }));
        object.metadata.labels = Some(BTreeMap::from([("zone".to_owned(), self.zone.to_owned())]));
        let reported = NodeStatus { volumes_in_use: Some(self.in_use.clone()), ..NodeStatus::default() };
        let withdrawn = NodeStatus::default();
        let mut around = Surroundings {
            now: self.now,
            node_name: "n",
            node: Some(&object),
            reported: Some(&reported),
            reporting: self.takes_back.then_some(&withdrawn),
            out: &mut self.out,
        };
        match is_over {
            true => drop(self.volumes.release(&PodUid::from("u"), &PodKey::new("ns", "web"), &mut around)),
            false => {
                let news = self.volumes.prepare(&self.pod, &mut around).news;
                self.news = news.into_iter().map(|failure| failure.message).collect();
            }
        }
        self.volumes.drive(true, self.now, &mut self.out);
        self.started()
    }

    fn started(&mut self) -> Vec<Action> {
        let effects = self.out.take().into_iter();
        let actions = effects.filter_map(|effect| match effect {
            Effect::Start { id, action } => {
                self.out.finish(id);
                Some(action)
            }
            _ => None,
        });
        actions.collect()
    }

    /// The claim has this volume.
    fn bind(&mut self) {
        self.bind_to(&csi());
    }

    fn bind_to(&mut self, spec: &Value) {
        self.bind_as("c", None, spec);
    }

    /// The same with the pod whose own the claim is.
    fn bind_own(&mut self, claim: &str, owner: Option<PodUid>) {
        self.bind_as(claim, owner, &csi());
    }

    fn bind_as(&mut self, claim: &str, owner: Option<PodUid>, spec: &Value) {
        let claim = ClaimName { namespace: "ns".into(), name: claim.into() };
        let volume = json!({ "metadata": { "name": "pv" }, "spec": spec });
        let volume = VolumeSpec::of_persistent(&serde_json::from_value(volume).unwrap()).unwrap();
        let bound = BoundClaim { volume: Arc::new(volume), owner, size: ClaimSize::default() };
        let answer = Outcome::Api(ApiOutcome::Claim(ClaimAnswer::Bound(bound)));
        self.volumes.claim_read(&claim, answer, self.now);
    }

    fn volume_done(&mut self, outcome: &Outcome) {
        let name = self.volumes.volumes.keys().next().unwrap().clone();
        self.volumes.volume_done(&name, outcome, now());
    }
}

#[test]
fn nothing_is_staged_before_it_is_announced_and_attached() {
    let mut world = World::new();
    world.round(false);
    world.bind();
    assert_eq!(world.round(false), []);
    assert_eq!(world.volumes.newly_in_use(), Some(vec![NAME.to_owned()]));
    assert_eq!(world.volumes.newly_in_use(), None, "it is said once");
    assert_eq!(world.volumes.node_changed(), [PodUid::from("u")].into());
    // Attached for another reason, perhaps; the node has not said that it uses it.
    world.attached = vec![NAME];
    assert_eq!(world.round(false), []);
    (world.in_use, world.takes_back) = (vec![NAME.to_owned()], true);
    assert_eq!(world.round(false), [], "an earlier process has said it, and this one takes it back");
    world.takes_back = false;
    let read = world.round(false);
    assert!(matches!(read.as_slice(), [Action::Api(ApiAction::ReadAttachment { .. })]), "{read:?}");
    let context = BTreeMap::from([("device".to_owned(), "x".to_owned())]);
    let metadata = context.clone();
    world.volume_done(&Outcome::Api(ApiOutcome::Attachment { is_attached: true, metadata, error: None }));
    let staged = world.round(false);
    let [Action::Storage(StorageAction::Stage { publish_context, .. })] = staged.as_slice() else {
        panic!("{staged:?}");
    };
    assert_eq!(*publish_context, context);
}

#[test]
fn it_stays_in_use_until_it_is_unstaged() {
    let mut world = World::new();
    world.round(false);
    world.bind();
    (world.in_use, world.attached) = (vec![NAME.to_owned()], vec![NAME]);
    world.round(false);
    let metadata = BTreeMap::new();
    world.volume_done(&Outcome::Api(ApiOutcome::Attachment { is_attached: true, metadata, error: None }));
    world.round(false);
    world.volume_done(&Outcome::Done);
    world.volumes.newly_in_use();
    // The list is lost for a moment: what is there stays.
    world.attached = vec![];
    let published = world.round(false);
    assert!(
        matches!(published.as_slice(), [Action::Storage(StorageAction::Publish { .. })]),
        "{published:?}"
    );
    let name = world.volumes.volumes.keys().next().unwrap().clone();
    world.volumes.publication_done(&PodUid::from("u"), &name, &Outcome::Done, now());
    let unpublished = world.round(true);
    assert!(matches!(unpublished.as_slice(), [Action::Storage(StorageAction::Unpublish { .. })]));
    world.volumes.publication_done(&PodUid::from("u"), &name, &Outcome::Done, now());
    let unstaged = world.round(true);
    assert!(matches!(unstaged.as_slice(), [Action::Storage(StorageAction::Unstage { .. })]), "{unstaged:?}");
    assert_eq!(world.volumes.newly_in_use(), Some(vec![NAME.to_owned()]));
    world.volume_done(&Outcome::Done);
    assert_eq!(world.round(true), []);
    assert_eq!(world.volumes.newly_in_use(), Some(vec![]));
}

/// Somebody else's claim may bear the name of the pod's own for a while.
#[test]
fn a_claim_that_is_not_the_pods_own_is_asked_about_again() {
    let mut world =
        World::with(&json!({ "name": "v", "ephemeral": { "volumeClaimTemplate": { "spec": {} } } }));
    let asks = |actions: &[Action]| matches!(actions, [Action::Api(ApiAction::ResolveClaim { .. })]);
    assert!(asks(&world.round(false)));
    world.bind_own("web-v", None);
    assert_eq!(world.round(false), [], "not at once");
    world.now.mono += Duration::from_secs(300);
    assert!(asks(&world.round(false)));
    world.bind_own("web-v", Some(PodUid::from("u")));
    assert_eq!(world.volumes.newly_in_use(), Some(vec![NAME.to_owned()]));
}

#[test]
fn what_was_found_is_in_use_from_the_start() {
    let mut world = World::new();
    let stage = FoundStage { mounter: MounterName::Csi("d".into()), handle: "h".into(), is_mounted: true };
    world.volumes.found(&FoundVolumes { published: vec![], staged: vec![stage] });
    assert_eq!(world.volumes.newly_in_use(), Some(vec![NAME.to_owned()]));
}

#[test]
fn what_the_kubelet_mounts_is_in_use_by_nobody_who_attaches() {
    let mut world = World::new();
    world.round(false);
    world.bind_to(&json!({ "local": { "path": "/disk" } }));
    let staged = world.round(false);
    assert!(matches!(staged.as_slice(), [Action::Storage(StorageAction::Stage { .. })]), "{staged:?}");
    assert_eq!(world.volumes.newly_in_use(), Some(vec![]));
}

/// Labels may come later, and go while a pod has the volume.
#[test]
fn a_volume_of_other_nodes_waits_for_the_label() {
    let mut world = World::new();
    world.round(false);
    let terms = json!([{ "matchExpressions": [{ "key": "zone", "operator": "In", "values": ["b"] }] }]);
    let affinity = json!({ "required": { "nodeSelectorTerms": terms } });
    world.bind_to(&json!({ "local": { "path": "/disk" }, "nodeAffinity": affinity }));
    assert_eq!(world.round(false), []);
    assert_eq!(
        world.news,
        ["MountVolume.NodeAffinity check failed for volume \"pv\" : no matching NodeSelectorTerms"]
    );
    assert_eq!(world.volumes.node_changed(), [PodUid::from("u")].into());
    world.zone = "b";
    let staged = world.round(false);
    assert!(matches!(staged.as_slice(), [Action::Storage(StorageAction::Stage { .. })]), "{staged:?}");
    assert_eq!(world.volumes.node_changed(), [].into());
    world.volume_done(&Outcome::Done);
    world.round(false);
    let name = world.volumes.volumes.keys().next().unwrap().clone();
    world.volumes.publication_done(&PodUid::from("u"), &name, &Outcome::Done, now());
    world.zone = "a";
    assert_eq!(world.round(false), []);
    assert_eq!(world.volumes.published(&PodUid::from("u")).len(), 1, "it stays");
}
