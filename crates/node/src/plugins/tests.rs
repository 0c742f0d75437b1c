//! Registrations, from the socket on: a world in which plugins answer as they are told, beside an API server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node as ApiNode;
use k8s_openapi::api::storage::v1::CSINode;
use model::Now;
use model::storage::CsiDriverObject;
use serde_json::json;

use crate::pressure::Sample;
use crate::{
    Action, ApiAction, ApiOutcome, CsiNodeInfo, Effect, EffectId, Failure, FailureKind, Input, Machine, Node,
    Outcome, PluginAction, PluginInfo, PluginOutcome, Settings, WaitOn,
};

/// What a plugin answers; a call that is not named here stays open.
#[derive(Clone, Default)]
struct Plugin {
    info: Option<PluginInfo>,
    node: Option<Result<CsiNodeInfo, String>>,
    takes_notice: bool,
}

fn driver(name: &str, version: &str) -> Plugin {
    let info = PluginInfo {
        kind: "CSIPlugin".into(),
        name: name.into(),
        endpoint: format!("/csi/{name}-{version}.sock"),
        versions: vec![version.into()],
    };
    let node = CsiNodeInfo {
        node_id: format!("{name}-node"),
        max_volumes: 3,
        topology: BTreeMap::from([(format!("{name}/zone"), "a".to_owned())]),
        ..CsiNodeInfo::default()
    };
    Plugin { info: Some(info), node: Some(Ok(node)), takes_notice: true }
}

struct World {
    node: Node,
    at: u64,
    plugins: BTreeMap<String, Plugin>,
    sockets: BTreeMap<String, u64>,
    /// By the sockets that drivers work on.
    endpoints: BTreeMap<String, String>,
    object: ApiNode,
    csi_node: Option<CSINode>,
    /// What the API server refuses to have in a document.
    unwanted: Option<&'static str>,
    /// Whether answers to writes of the Node object are kept back.
    is_slow: bool,
    open: Vec<(EffectId, Action)>,
    /// What was done, in words.
    done: Vec<String>,
    number: u64,
}

impl World {
    fn new() -> Self {
        let settings = Settings { node_name: "n".into(), ..Settings::for_tests() };
        Self::with(settings)
    }

    fn with(settings: Settings) -> Self {
        let object = serde_json::from_value(json!({ "metadata": { "name": "n", "uid": "u" } })).unwrap();
        let has_api = settings.has_api;
        let mut world = Self {
            node: Node::begun(settings, Machine::default()),
            at: 0,
            plugins: BTreeMap::new(),
            sockets: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            object,
            csi_node: None,
            unwanted: None,
            is_slow: false,
            open: Vec::new(),
            done: Vec::new(),
            number: 0,
        };
        world.tell(Input::Sample(Sample::default()));
        if has_api {
            world.tell(Input::NodeObject(Arc::new(world.object.clone())));
        }
        world.done.clear();
        world
    }

    fn tell(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let wall = Timestamp::from_second(1_000_000).unwrap();
            let now = Now { wall, mono: Duration::from_secs(self.at) };
            for effect in self.node.step(now, input) {
                match effect {
                    Effect::Start { id, action } => match self.perform(&action) {
                        Some(outcome) => inputs.insert(0, Input::Finished { id, outcome }),
                        None => self.open.push((id, action)),
                    },
                    Effect::Cancel(id) => {
                        self.done.push("cancel".into());
                        self.open.retain(|(open, _)| *open != id);
                        inputs.insert(0, Input::Finished { id, outcome: Outcome::Cancelled });
                    }
                    Effect::Record(_) => {}
                }
            }
        }
    }

    fn perform(&mut self, action: &Action) -> Option<Outcome> {
        let failed = |kind: FailureKind, message: &str| {
            Some(Outcome::Failed(Failure { kind, message: message.to_owned() }))
        };
        match action {
            Action::Plugin(PluginAction::GetInfo { socket }) => {
                self.done.push(format!("ask {socket}"));
                let info = self.plugins.get(socket)?.info.clone()?;
                let endpoint = if info.endpoint.is_empty() { socket } else { &info.endpoint };
                self.endpoints.insert(endpoint.clone(), socket.clone());
                Some(Outcome::Plugin(PluginOutcome::Info(info)))
            }
            Action::Plugin(PluginAction::NodeGetInfo { endpoint, .. }) => {
                self.done.push(format!("ask for node {endpoint}"));
                match self.plugins.get(self.endpoints.get(endpoint)?)?.node.clone()? {
                    Ok(info) => Some(Outcome::Plugin(PluginOutcome::NodeInfo(info))),
                    Err(error) => failed(FailureKind::Other, &error),
                }
            }
            Action::Plugin(PluginAction::Notify { socket, refusal }) => {
                let said = refusal.as_deref().unwrap_or("registered");
                self.done.push(format!("tell {socket}: {said}"));
                self.plugins.get(socket).filter(|plugin| plugin.takes_notice).map(|_| Outcome::Done)
            }
            Action::Api(ApiAction::WriteNodeMetadata { metadata }) => {
                if self.unwanted.is_some_and(|word| format!("{metadata:?}").contains(word)) {
                    return failed(FailureKind::Rejected, "that is no label");
                }
                self.done.push("write node".into());
                let own = &mut self.object.metadata;
                own.labels.get_or_insert_default().extend(metadata.labels.clone());
                for (name, value) in &metadata.annotations {
                    let annotations = own.annotations.get_or_insert_default();
                    match value {
                        Some(value) => annotations.insert(name.clone(), value.clone()),
                        None => annotations.remove(name),
                    };
                }
                (!self.is_slow).then(|| Outcome::Api(ApiOutcome::Node(Arc::new(self.object.clone()))))
            }
            Action::Api(ApiAction::ReadCsiNode) => {
                Some(Outcome::Api(ApiOutcome::CsiNode(self.csi_node.clone().map(Arc::new))))
            }
            Action::Api(ApiAction::WriteCsiNode { object }) => {
                self.done.push(format!("write CSINode [{}]", names(object)));
                self.csi_node = Some((**object).clone());
                Some(Outcome::Api(ApiOutcome::CsiNode(self.csi_node.clone().map(Arc::new))))
            }
            _ => None,
        }
    }

    /// A plugin makes a socket, or makes it anew.
    fn comes(&mut self, socket: &str, plugin: Plugin) {
        self.plugins.insert(socket.into(), plugin);
        self.number += 1;
        self.sockets.insert(socket.into(), self.number);
        self.tell(Input::PluginSockets(self.sockets.clone()));
    }

    fn goes(&mut self, socket: &str) {
        self.plugins.remove(socket);
        self.sockets.remove(socket);
        self.tell(Input::PluginSockets(self.sockets.clone()));
    }

    /// What was done since this was asked last.
    fn done(&mut self) -> Vec<String> {
        std::mem::take(&mut self.done)
    }

    fn later(&mut self, seconds: u64) {
        self.at += seconds;
        self.tell(Input::Tick);
    }

    /// What the node waits for of plugins: the last error.
    fn waits(&self) -> Vec<String> {
        let view = self.node.view();
        let of_plugins = view.waits.iter().filter(|wait| matches!(wait.on, WaitOn::Plugin(_)));
        of_plugins.map(|wait| wait.error.clone().unwrap_or_default()).collect()
    }

    fn drivers(&self) -> String {
        self.csi_node.as_ref().map(names).unwrap_or_default()
    }

    fn ids(&self) -> &str {
        let annotations = self.object.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get(crate::csi::NODE_ID_ANNOTATION)).map_or("", String::as_str)
    }
}

fn names(object: &CSINode) -> String {
    object.spec.drivers.iter().map(|driver| driver.name.as_str()).collect::<Vec<_>>().join(" ")
}

/// Somebody undoes a write, and the watch tells of it before the answer to the write comes.
#[test]
fn an_answer_that_is_older_than_what_the_watch_has_told_is_not_believed() {
    let mut world = World::new();
    world.is_slow = true;
    world.comes("/r/1.sock", driver("a", "1.0.0"));
    let is_write = |action: &Action| matches!(action, Action::Api(ApiAction::WriteNodeMetadata { .. }));
    let place = world.open.iter().position(|(_, action)| is_write(action)).unwrap();
    let (id, _) = world.open.remove(place);
    let mut answer = world.object.clone();
    answer.metadata.resource_version = Some("9".into());
    world.object.metadata.annotations = None;
    world.object.metadata.resource_version = Some("10".into());
    world.tell(Input::NodeObject(Arc::new(world.object.clone())));
    world.is_slow = false;
    world.done();
    world.tell(Input::Finished { id, outcome: Outcome::Api(ApiOutcome::Node(Arc::new(answer))) });
    assert_eq!(world.done()[0], "write node");
    assert_eq!(world.ids(), r#"{"a":"a-node"}"#);
}

#[test]
fn a_driver_is_registered_once_both_objects_tell_of_it() {
    let mut world = World::new();
    world.comes("/r/a.sock", driver("a", "1.0.0"));
    assert_eq!(
        world.done(),
        [
            "ask /r/a.sock",
            "ask for node /csi/a-1.0.0.sock",
            "write node",
            "write CSINode [a]",
            "tell /r/a.sock: registered",
        ]
    );
    assert_eq!(world.ids(), r#"{"a":"a-node"}"#);
    assert_eq!(world.object.metadata.labels.as_ref().unwrap()["a/zone"], "a");
    assert_eq!(world.waits(), [""; 0]);
    assert_eq!(*world.node.view().plugins, BTreeMap::from([("/r/a.sock".to_owned(), true)]));
    world.later(1000);
    assert_eq!(world.done(), [""; 0], "nothing is left to do");
    world.goes("/r/a.sock");
    assert_eq!(world.done(), ["write CSINode []", "write node"]);
    assert_eq!((world.ids(), world.drivers().as_str()), ("", ""));
    assert_eq!(world.object.metadata.labels.as_ref().unwrap()["a/zone"], "a", "labels stay");
}

#[test]
fn a_plugin_without_an_endpoint_works_where_it_registers() {
    let mut world = World::new();
    let mut plugin = driver("a", "1.0.0");
    plugin.info.as_mut().unwrap().endpoint.clear();
    world.comes("/r/a.sock", plugin);
    assert_eq!(world.done()[1], "ask for node /r/a.sock");
}

/// It is asked again in time, and so is one that was refused; upstream's back-off.
#[test]
fn one_that_hangs_holds_up_nobody_else_and_is_asked_again() {
    let mut world = World::new();
    world.comes("/r/hung.sock", Plugin::default());
    world.comes("/r/a.sock", driver("a", "1.0.0"));
    assert!(world.done().contains(&"tell /r/a.sock: registered".to_owned()));
    let (id, _) = world.open.iter().find(|(_, action)| matches!(action, Action::Plugin(_))).cloned().unwrap();
    let failure = Failure { kind: FailureKind::Other, message: "no answer".into() };
    world.tell(Input::Finished { id, outcome: Outcome::Failed(failure) });
    assert_eq!(world.waits(), ["no answer"]);
    world.plugins.insert("/r/hung.sock".into(), driver("b", "1.0.0"));
    assert!(world.node.next_deadline().is_some_and(|next| next == Duration::from_millis(500)));
    world.later(1);
    assert_eq!(world.done().last().unwrap(), "tell /r/hung.sock: registered");
    assert_eq!(world.drivers(), "a b");
}

#[test]
fn what_is_not_taken_is_told_why_and_asked_again() {
    let mut world = World::new();
    let mut plugin = driver("gpu", "v1beta1");
    plugin.info.as_mut().unwrap().kind = "DevicePlugin".into();
    world.comes("/r/gpu.sock", plugin);
    let refusal = "RegisterPlugin error -- this kubelet does not support plugins of type DevicePlugin yet: gpu at socket \
                   /r/gpu.sock";
    assert_eq!(world.done(), ["ask /r/gpu.sock".to_owned(), format!("tell /r/gpu.sock: {refusal}")]);
    assert_eq!(world.waits(), [refusal]);
    assert_eq!(*world.node.view().plugins, BTreeMap::from([("/r/gpu.sock".to_owned(), false)]));
    world.later(1);
    assert_eq!(world.done().len(), 2, "again after half a second");
    world.later(0);
    assert_eq!(world.done().len(), 0);
    world.later(1);
    assert_eq!(world.done().len(), 2, "and a second");
}

#[test]
fn a_driver_without_a_word_for_the_node_is_not_taken() {
    for (node, error) in [
        (
            Err("rpc error: code = Internal desc = broken".to_owned()),
            "rpc error: code = Internal desc = broken",
        ),
        (Ok(CsiNodeInfo::default()), "error adding CSI driver node info: driverNodeID must not be empty"),
    ] {
        let mut world = World::new();
        world.comes("/r/a.sock", Plugin { node: Some(node), ..driver("a", "1.0.0") });
        let said =
            format!("tell /r/a.sock: RegisterPlugin error -- plugin registration failed with err: {error}");
        assert_eq!(world.done().last(), Some(&said));
        assert_eq!(world.drivers(), "");
    }
}

/// As upstream; the driver has to have what the other is not to.
#[test]
fn without_an_api_server_no_driver_is_taken() {
    let mut world = World::with(Settings { node_name: "n".into(), has_api: false, ..Settings::for_tests() });
    world.comes("/r/a.sock", driver("a", "1.0.0"));
    assert!(world.done().last().unwrap().ends_with("caused by: error getting kube client"));
}

/// Before the node is registered its drivers wait, and are told nothing.
#[test]
fn a_driver_waits_for_the_node_to_be_there() {
    let mut world =
        World::with(Settings { node_name: "n".into(), is_registering: true, ..Settings::for_tests() });
    world.node = Node::begun(
        Settings { node_name: "n".into(), is_registering: true, ..Settings::for_tests() },
        Machine::default(),
    );
    world.open.clear();
    world.tell(Input::Sample(Sample::default()));
    world.comes("/r/a.sock", driver("a", "1.0.0"));
    assert_eq!(world.done(), ["ask /r/a.sock", "ask for node /csi/a-1.0.0.sock"]);
    assert_eq!(world.waits(), [""], "that is a wait");
    let register =
        |(_, action): &&(EffectId, Action)| matches!(action, Action::Api(ApiAction::RegisterNode { .. }));
    let (id, _) = world.open.iter().find(register).cloned().unwrap();
    let outcome = Outcome::Api(ApiOutcome::Registered(Arc::new(world.object.clone())));
    world.tell(Input::Finished { id, outcome });
    assert_eq!(world.done().last().unwrap(), "tell /r/a.sock: registered");
}

#[test]
fn a_label_that_is_another_one_is_a_refusal() {
    let mut world = World::new();
    world.object.metadata.labels = Some(BTreeMap::from([("a/zone".to_owned(), "b".to_owned())]));
    world.tell(Input::NodeObject(Arc::new(world.object.clone())));
    world.comes("/r/a.sock", driver("a", "1.0.0"));
    let last = world.done().last().cloned().unwrap();
    assert!(last.ends_with(
        "detected topology value collision: driver reported \"a/zone\":\"a\" but existing label is \"a/zone\":\"b\""
    ));
    assert_eq!((world.ids(), world.drivers().as_str()), ("", ""));
}

/// What the API server does not accept of one driver is that driver's matter.
#[test]
fn what_is_rejected_of_one_driver_holds_up_no_other() {
    let mut world = World::new();
    world.unwanted = Some("a/zone");
    world.comes("/r/a.sock", driver("a", "1.0.0"));
    assert!(world.done().last().unwrap().ends_with(
        "plugin registration failed with err: error updating Node object with CSI driver node info: error updating node: \
         timed out waiting for the condition; caused by: that is no label"
    ));
    world.comes("/r/b.sock", driver("b", "1.0.0"));
    assert_eq!(world.drivers(), "b");
    assert_eq!(world.done().last().unwrap(), "tell /r/b.sock: registered");
}

#[test]
fn one_that_is_made_anew_is_another_one() {
    let mut world = World::new();
    world.comes("/r/a.sock", driver("a", "1.0.0"));
    world.done();
    let mut plugin = driver("a", "1.1.0");
    plugin.node.as_mut().unwrap().as_mut().unwrap().max_volumes = 9;
    world.comes("/r/a.sock", plugin);
    let done = world.done();
    assert_eq!(done[0], "ask /r/a.sock");
    assert_eq!(done.last().unwrap(), "tell /r/a.sock: registered");
    let drivers = &world.csi_node.as_ref().unwrap().spec.drivers;
    assert_eq!(drivers[0].allocatable.as_ref().unwrap().count, Some(9));
    // While it is asked, too.
    world.comes("/r/h.sock", Plugin::default());
    world.done();
    world.comes("/r/h.sock", driver("h", "1.0.0"));
    let done = world.done();
    assert_eq!(done[..2], ["cancel", "ask /r/h.sock"]);
    assert_eq!(done.last().unwrap(), "tell /r/h.sock: registered");
}

#[test]
fn of_two_of_one_name_the_higher_version_counts_and_the_other_has_its_turn() {
    let mut world = World::new();
    world.comes("/r/1.sock", driver("a", "1.1.0"));
    world.done();
    world.comes("/r/2.sock", driver("a", "1.0.0"));
    let refusal =
        "Another driver with the same name is already registered with a higher supported version: \"1.1.0\"";
    assert!(world.done().last().unwrap().ends_with(refusal));
    world.goes("/r/1.sock");
    assert_eq!(world.done().last().unwrap(), "tell /r/2.sock: registered", "it need not wait");
    assert_eq!(world.drivers(), "a");
    // A higher one takes its place, and leaves it.
    world.comes("/r/3.sock", driver("a", "1.2.0"));
    assert_eq!(world.done().last().unwrap(), "tell /r/3.sock: registered");
    world.goes("/r/3.sock");
    assert_eq!(world.done().last().unwrap(), "tell /r/2.sock: registered");
    assert_eq!(world.drivers(), "a");
    // The lower one's going is nothing to the higher one.
    world.comes("/r/4.sock", driver("a", "1.3.0"));
    world.done();
    world.goes("/r/2.sock");
    assert_eq!(world.done(), [""; 0]);
    assert_eq!(world.drivers(), "a");
}

/// Two that both stand back do not wake each other.
#[test]
fn two_that_stand_back_leave_each_other_alone() {
    let mut world = World::new();
    world.comes("/r/1.sock", driver("a", "1.1.0"));
    world.comes("/r/2.sock", driver("a", "1.0.0"));
    world.comes("/r/3.sock", driver("a", "1.0.0"));
    world.done();
    for _ in 0..5 {
        world.later(1);
    }
    let asked = world.done().iter().filter(|done| done.starts_with("ask")).count();
    assert!(asked <= 6, "{asked} questions in five seconds");
}

/// `MutableCSINodeAllocatableCount`
#[test]
fn the_room_for_volumes_is_asked_for_as_often_as_the_object_says() {
    let mut world = World::new();
    let every = |seconds: u64| {
        let object = CsiDriverObject {
            allocatable_update_period: Some(Duration::from_secs(seconds)),
            ..CsiDriverObject::default()
        };
        Input::CsiDrivers(BTreeMap::from([("a".to_owned(), object.clone()), ("other".to_owned(), object)]))
    };
    world.tell(every(10));
    world.comes("/r/a.sock", driver("a", "1.0.0"));
    world.done();
    world.plugins.get_mut("/r/a.sock").unwrap().node.as_mut().unwrap().as_mut().unwrap().max_volumes = 5;
    world.later(9);
    assert_eq!(world.done(), [""; 0]);
    world.later(1);
    assert_eq!(world.done(), ["ask for node /csi/a-1.0.0.sock", "write CSINode [a]"]);
    world.plugins.get_mut("/r/a.sock").unwrap().node = Some(Err("broken".into()));
    world.later(10);
    assert_eq!(world.done(), ["ask for node /csi/a-1.0.0.sock"], "what it said holds");
    world.tell(every(60));
    world.later(59);
    assert_eq!(world.done(), [""; 0]);
    world.later(1);
    assert_eq!(world.done().len(), 1);
    world.tell(Input::CsiDrivers(BTreeMap::new()));
    world.later(1000);
    assert_eq!(world.done(), [""; 0]);
    assert_eq!(world.csi_node.as_ref().unwrap().spec.drivers[0].allocatable.as_ref().unwrap().count, Some(5));
}

/// What an earlier process has written stays, and is not written again.
#[test]
fn a_restart_writes_nothing_that_is_there() {
    let mut world = World::new();
    world.comes("/r/a.sock", driver("a", "1.0.0"));
    world.comes("/r/b.sock", driver("b", "1.0.0"));
    let mut next = World::new();
    (next.object, next.csi_node, next.plugins) = (world.object, world.csi_node, world.plugins);
    next.node = Node::begun(Settings { node_name: "n".into(), ..Settings::for_tests() }, Machine::default());
    next.tell(Input::Sample(Sample::default()));
    next.tell(Input::NodeObject(Arc::new(next.object.clone())));
    next.comes("/r/a.sock", driver("a", "1.0.0"));
    assert_eq!(
        next.done(),
        ["ask /r/a.sock", "ask for node /csi/a-1.0.0.sock", "tell /r/a.sock: registered"]
    );
    assert_eq!(next.drivers(), "a b", "one that has not come back yet stays");
}

#[test]
fn who_does_not_take_its_notice_is_not_registered() {
    let mut world = World::new();
    world.comes("/r/a.sock", Plugin { takes_notice: false, ..driver("a", "1.0.0") });
    assert_eq!(world.drivers(), "a");
    let notice =
        |(_, action): &&(EffectId, Action)| matches!(action, Action::Plugin(PluginAction::Notify { .. }));
    let (id, _) = world.open.iter().find(notice).cloned().unwrap();
    let failure = Failure { kind: FailureKind::Other, message: "no answer".into() };
    world.tell(Input::Finished { id, outcome: Outcome::Failed(failure) });
    assert_eq!(world.drivers(), "");
    assert_eq!(world.waits(), ["no answer"]);
}

/// A lower version that was asked before the higher one came does not take its place.
#[test]
fn an_answer_that_comes_late_is_refused() {
    let mut world = World::new();
    world.comes("/r/1.sock", Plugin { node: None, ..driver("a", "1.0.0") });
    world.comes("/r/2.sock", driver("a", "1.1.0"));
    assert_eq!(world.done().last().unwrap(), "tell /r/2.sock: registered");
    let asked = |(_, action): &&(EffectId, Action)| {
        matches!(action, Action::Plugin(PluginAction::NodeGetInfo { .. }))
    };
    let (id, _) = world.open.iter().find(asked).cloned().unwrap();
    let info = driver("a", "1.0.0").node.unwrap().unwrap();
    world.tell(Input::Finished { id, outcome: Outcome::Plugin(PluginOutcome::NodeInfo(info)) });
    let refusal = "RegisterPlugin for CSI driver \"a\" failed. Another driver with the same name is already registered with a \
                   higher supported version: \"1.1.0\"";
    assert!(world.done().last().unwrap().ends_with(refusal));
}

/// A request of an earlier process, or one that failed, may come after the object was read.
#[test]
fn a_write_of_others_that_comes_late_is_put_right() {
    let mut world = World::new();
    world.comes("/r/a.sock", driver("a", "1.0.0"));
    world.done();
    world.csi_node.as_mut().unwrap().spec.drivers.clear();
    world.later(59);
    assert_eq!(world.done(), [""; 0]);
    world.later(2);
    assert_eq!(world.done(), ["write CSINode [a]"]);
}

/// What the driver before it was asked is not answered by the one that has taken its place, nor for it.
#[test]
fn an_answer_about_the_room_is_only_for_whom_it_was_asked() {
    let mut world = World::new();
    let object = CsiDriverObject {
        allocatable_update_period: Some(Duration::from_secs(10)),
        ..CsiDriverObject::default()
    };
    world.tell(Input::CsiDrivers(BTreeMap::from([("a".to_owned(), object)])));
    world.comes("/r/a.sock", driver("a", "1.0.0"));
    world.plugins.get_mut("/r/a.sock").unwrap().node = None;
    world.later(10);
    let asked = |(_, action): &&(EffectId, Action)| {
        matches!(action, Action::Plugin(PluginAction::NodeGetInfo { .. }))
    };
    let (id, _) = world.open.iter().find(asked).cloned().unwrap();
    world.comes("/r/a.sock", driver("a", "1.1.0"));
    let late = CsiNodeInfo { node_id: "old".into(), max_volumes: 1, ..CsiNodeInfo::default() };
    world.tell(Input::Finished { id, outcome: Outcome::Plugin(PluginOutcome::NodeInfo(late)) });
    assert_eq!(world.csi_node.as_ref().unwrap().spec.drivers[0].node_id, "a-node");
}

/// A Node that somebody deletes takes its CSINode with it; nothing is tried over and over until it is back.
#[test]
fn without_a_node_nothing_is_written() {
    let mut world = World::new();
    world.tell(Input::CsiDrivers(BTreeMap::new()));
    let write =
        |(_, action): &&(EffectId, Action)| matches!(action, Action::Api(ApiAction::WriteNodeStatus { .. }));
    world.later(30);
    let (id, _) = world.open.iter().find(write).cloned().unwrap();
    world.tell(Input::Finished { id, outcome: Outcome::Gone });
    world.comes("/r/a.sock", driver("a", "1.0.0"));
    assert_eq!(world.done(), ["ask /r/a.sock", "ask for node /csi/a-1.0.0.sock"]);
    assert!(world.node.next_deadline().is_none_or(|next| next > Duration::from_secs(world.at)));
    world.csi_node = None;
    world.object.metadata.uid = Some("another".into());
    world.tell(Input::NodeObject(Arc::new(world.object.clone())));
    assert_eq!(
        world.done(),
        ["write CSINode []", "write node", "write CSINode [a]", "tell /r/a.sock: registered"]
    );
}
