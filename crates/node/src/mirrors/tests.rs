//! Mirror pods, seen from outside: what the node asks of the API server for its static pods.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use model::{Now, Pod, PodUid, pod};

use crate::pressure::Sample;
use crate::{
    Action, ApiAction, Effect, EffectId, Failure, FailureKind, Input, Machine, Node, Outcome, RuntimeOutcome,
    Settings, Source, WaitOn,
};

fn now(second: u64) -> Now {
    let wall = Timestamp::from_second(1_700_000_000 + i64::try_from(second).unwrap()).unwrap();
    Now { wall, mono: Duration::from_secs(second) }
}

/// A static pod of this version of its manifest.
fn manifest(version: &str) -> Arc<Pod> {
    let mut pod: Pod = serde_json::from_str(
        r#"{"metadata":{"name":"web-node","namespace":"n"},"spec":{"nodeName":"node","containers":[{"name":"a","image":"i"}]}}"#,
    )
    .unwrap();
    pod.metadata.uid = Some(version.to_owned());
    pod.metadata.annotations = Some(BTreeMap::from([
        (pod::ANNOTATION_CONFIG_SOURCE.to_owned(), "file".to_owned()),
        (pod::ANNOTATION_CONFIG_HASH.to_owned(), version.to_owned()),
    ]));
    Arc::new(pod)
}

fn mirror(of: &str, uid: &str, resource_version: u64) -> Arc<Pod> {
    let mut pod = (*manifest(of)).clone();
    pod.metadata.uid = Some(uid.to_owned());
    pod.metadata.resource_version = Some(resource_version.to_string());
    pod.metadata
        .annotations
        .as_mut()
        .unwrap()
        .insert(pod::ANNOTATION_CONFIG_MIRROR.to_owned(), of.to_owned());
    Arc::new(pod)
}

fn object() -> k8s_openapi::api::core::v1::Node {
    serde_json::from_str(r#"{"metadata":{"name":"node","uid":"node-uid"}}"#).unwrap()
}

/// A node whose runtime holds nothing.
fn node() -> Node {
    let mut node = unregistered();
    node.step(now(0), Input::NodeObject(Arc::new(object())));
    node
}

/// The same before it is known to the API server.
fn unregistered() -> Node {
    let settings = Settings { sources: vec![Source::Api, Source::File], ..Settings::for_tests() };
    let machine = Machine { cpus: 1, memory_bytes: 1 << 30, ..Machine::default() };
    let mut node = Node::begun(settings, machine);
    node.step(now(0), Input::Sample(Sample::default()));
    node.step(
        now(0),
        Input::Finished { id: EffectId(0), outcome: Outcome::Runtime(RuntimeOutcome::Relisted(vec![])) },
    );
    node
}

/// What a step asks of the API server about mirrors, with the names of the actions.
fn step(node: &mut Node, at: u64, input: Input) -> Vec<(EffectId, String)> {
    let texts = node.step(now(at), input).into_iter().filter_map(|effect| {
        let Effect::Start { id, action } = effect else { return None };
        let text = match action {
            Action::Api(ApiAction::CreateMirror { pod, .. }) => format!("create for {}", pod::uid(&pod)),
            Action::Api(ApiAction::DeletePod { uid, .. }) => format!("delete {uid}"),
            Action::Api(ApiAction::WriteStatus { uid, .. }) => format!("write {uid}"),
            _ => return None,
        };
        Some((id, text))
    });
    texts.collect()
}

fn words(steps: &[(EffectId, String)]) -> Vec<&str> {
    steps.iter().map(|(_, text)| text.as_str()).collect()
}

fn files(pods: &[Arc<Pod>]) -> Input {
    Input::PodsListed { source: Source::File, pods: pods.to_vec() }
}

fn api(pods: &[Arc<Pod>]) -> Input {
    Input::PodsListed { source: Source::Api, pods: pods.to_vec() }
}

fn applied(pod: Arc<Pod>) -> Input {
    Input::PodApplied { source: Source::Api, pod }
}

fn done(id: EffectId, outcome: Outcome) -> Input {
    Input::Finished { id, outcome }
}

fn failed() -> Outcome {
    Outcome::Failed(Failure { kind: FailureKind::Other, message: "no".to_owned() })
}

#[test]
fn a_static_pod_gets_a_mirror_and_the_mirror_its_status() {
    let mut node = node();
    assert!(step(&mut node, 0, files(&[manifest("v1")])).is_empty(), "the API server has not been heard yet");
    let made = step(&mut node, 0, api(&[]));
    assert_eq!(words(&made), ["create for v1"]);
    assert!(step(&mut node, 0, done(made[0].0, Outcome::Done)).is_empty());
    assert_eq!(words(&step(&mut node, 0, applied(mirror("v1", "m1", 7)))), ["write m1"]);
}

/// The Node object owns the mirror: until it is there, none is asked for in vain, and then at once.
#[test]
fn a_mirror_is_made_as_soon_as_the_node_is_known() {
    let mut node = unregistered();
    step(&mut node, 0, files(&[manifest("v1")]));
    assert!(step(&mut node, 0, api(&[])).is_empty());
    assert_eq!(words(&step(&mut node, 3, Input::NodeObject(Arc::new(object())))), ["create for v1"]);
}

#[test]
fn a_creation_that_failed_is_tried_again() {
    let mut node = node();
    step(&mut node, 0, files(&[manifest("v1")]));
    let made = step(&mut node, 0, api(&[]));
    assert!(step(&mut node, 0, done(made[0].0, failed())).is_empty());
    assert_eq!(words(&step(&mut node, 1, Input::Tick)), ["create for v1"]);
}

#[test]
fn a_mirror_that_never_shows_is_created_again() {
    let mut node = node();
    step(&mut node, 0, files(&[manifest("v1")]));
    let made = step(&mut node, 0, api(&[]));
    step(&mut node, 0, done(made[0].0, Outcome::Done));
    assert_eq!(words(&step(&mut node, 1, Input::Tick)), ["create for v1"]);
}

#[test]
fn an_edited_manifest_replaces_the_mirror() {
    let mut node = node();
    step(&mut node, 0, api(&[mirror("v1", "m1", 7)]));
    let made = step(&mut node, 0, files(&[manifest("v2")]));
    assert_eq!(words(&made), ["delete m1"]);
    step(&mut node, 0, done(made[0].0, Outcome::Done));
    let made = step(&mut node, 0, Input::PodDeleted { source: Source::Api, uid: PodUid::from("m1") });
    assert_eq!(words(&made), ["create for v2"]);
}

#[test]
fn a_mirror_somebody_removed_is_made_again() {
    let mut node = node();
    step(&mut node, 0, api(&[mirror("v1", "m1", 7)]));
    step(&mut node, 0, files(&[manifest("v1")]));
    let made = step(&mut node, 1, Input::PodDeleted { source: Source::Api, uid: PodUid::from("m1") });
    assert_eq!(words(&made), ["create for v1"]);
}

#[test]
fn a_mirror_without_a_static_pod_goes_once_all_sources_were_heard() {
    let mut node = node();
    assert!(step(&mut node, 0, api(&[mirror("v1", "m1", 7)])).is_empty());
    let made = step(&mut node, 0, files(&[]));
    assert_eq!(words(&made), ["delete m1"]);
    assert!(step(&mut node, 0, done(made[0].0, failed())).is_empty());
    let again = step(&mut node, 1, Input::Tick);
    assert_eq!(words(&again), ["delete m1"]);
    assert!(step(&mut node, 1, Input::Tick).is_empty(), "once at a time");
    step(&mut node, 1, done(again[0].0, failed()));
    assert!(step(&mut node, 2, Input::Tick).is_empty(), "it backs off");
    let again = step(&mut node, 3, Input::Tick);
    assert_eq!(words(&again), ["delete m1"]);
    step(&mut node, 3, done(again[0].0, Outcome::Done));
    assert!(step(&mut node, 600, Input::Tick).is_empty(), "the watch says so");
}

#[test]
fn a_failed_removal_is_taken_over_by_the_static_pod_that_came_meanwhile() {
    let mut node = node();
    step(&mut node, 0, api(&[mirror("v1", "m1", 7)]));
    let made = step(&mut node, 0, files(&[]));
    assert!(step(&mut node, 0, files(&[manifest("v2")])).is_empty(), "it is being removed already");
    assert_eq!(words(&step(&mut node, 0, done(made[0].0, failed()))), ["delete m1"]);
}

/// Who asks the node what it waits for is told which mirror nobody stands behind, and why it is still there.
#[test]
fn a_stray_that_cannot_be_removed_is_waited_for() {
    let told = |node: &Node| -> Vec<(String, u32, Option<String>)> {
        let view = node.view();
        let of_mirrors = view.waits.iter().filter(|wait| matches!(wait.on, WaitOn::StrayMirror(_)));
        of_mirrors.map(|wait| (wait.on.to_string(), wait.attempts, wait.error.clone())).collect()
    };
    let mut node = node();
    step(&mut node, 0, files(&[]));
    let removed = step(&mut node, 0, api(&[mirror("v1", "m1", 7)]));
    assert_eq!(words(&removed), ["delete m1"]);
    assert_eq!(told(&node), []);
    step(&mut node, 0, done(removed[0].0, failed()));
    let text = "mirror pod n/web-node, which has no manifest, to be removed".to_owned();
    assert_eq!(told(&node), [(text, 1, Some("no".to_owned()))]);
    let again = step(&mut node, 1, Input::Tick);
    assert_eq!(words(&again), ["delete m1"]);
    step(&mut node, 1, done(again[0].0, Outcome::Done));
    assert_eq!(told(&node), []);
}
