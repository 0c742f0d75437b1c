//! Plugins on the node, and what the API server is told of them: sockets that come, go and are made anew, CSI drivers behind
//! them, the Node and the CSINode object.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{AttachedVolume, Node, NodeSpec, NodeStatus};
use k8s_openapi::api::storage::v1::{CSINode, CSINodeDriver};
use model::MetadataChange;
use model::storage::CsiCapabilities;
use node::{
    ApiAction, ApiOutcome, CsiNodeInfo, Failure, FailureKind, Input, Outcome, PluginAction, PluginInfo,
    PluginOutcome, WaitOn,
};

use crate::world::{SimEvent, World};

const SOCKETS: [&str; 4] = ["/r/1.sock", "/r/2.sock", "/r/3.sock", "/r/4.sock"];
/// Fewer than sockets: some are two of one name.
const DRIVERS: [&str; 3] = ["a", "b", "c"];
const NODE_UID: &str = "node-uid";
const NODE_IDS: &str = "csi.volume.kubernetes.io/nodeid";

/// A driver behind a socket.
#[derive(Clone, Debug)]
pub(crate) struct Plugin {
    number: u64,
    driver: &'static str,
    minor: u32,
    /// The last it was told: whether it is registered.
    is_registered: bool,
}

impl Plugin {
    fn node_id(&self) -> String {
        format!("{}#{}", self.driver, self.number)
    }
}

/// All there are, and the objects that tell of them.
#[derive(Debug, Default)]
pub(crate) struct Plugins {
    by_socket: BTreeMap<&'static str, Plugin>,
    next: u64,
    node: Option<Node>,
    csi_node: Option<CSINode>,
    version: u64,
}

fn failed(kind: FailureKind, message: &str) -> Outcome {
    Outcome::Failed(Failure { kind, message: message.to_owned() })
}

impl World {
    /// Somebody installs a driver, removes one, replaces one, or writes to the CSINode.
    pub(crate) fn plugins_change(&mut self) {
        let socket = *self.rng.pick(&SOCKETS).unwrap_or(&SOCKETS[0]);
        if self.rng.percent(15) {
            self.note(|_| "somebody writes to the CSINode".to_owned());
            self.plugins.somebody_writes();
            return;
        }
        if self.plugins.by_socket.contains_key(socket) && self.rng.percent(60) {
            self.note(|_| format!("the plugin at {socket} goes"));
            self.plugins.by_socket.remove(socket);
        } else {
            let driver = *self.rng.pick(&DRIVERS).unwrap_or(&DRIVERS[0]);
            let minor = self.rng.number(0, 2);
            self.plugins.next += 1;
            let plugin = Plugin { number: self.plugins.next, driver, minor, is_registered: false };
            self.note(|_| format!("driver {driver} 1.{minor} comes to {socket}"));
            self.plugins.by_socket.insert(socket, plugin);
        }
        self.tell_of_sockets();
    }

    /// Whether a driver is there.
    pub(crate) fn has_driver(&self, driver: &str) -> bool {
        self.plugins.has(driver)
    }

    /// All drivers are there that are missing: without them pods wait for ever.
    pub(crate) fn drivers_come(&mut self) {
        for (driver, socket) in DRIVERS.into_iter().zip(["/r/5.sock", "/r/6.sock", "/r/7.sock"]) {
            if !self.plugins.has(driver) {
                self.plugins.next += 1;
                let plugin = Plugin { number: self.plugins.next, driver, minor: 0, is_registered: false };
                self.note(|_| format!("driver {driver} 1.0 comes to {socket}"));
                self.plugins.by_socket.insert(socket, plugin);
            }
        }
        self.tell_of_sockets();
    }

    /// What the folder of sockets has is told in a moment.
    pub(crate) fn tell_of_sockets(&mut self) {
        let delay = self.delay();
        self.after(delay, SimEvent::ListSockets(self.process.number));
    }

    /// The watch of the Node object tells of it in a moment.
    pub(crate) fn tell_of_node(&mut self) {
        let delay = self.delay();
        self.after(delay, SimEvent::Node(self.process.number));
    }

    pub(crate) fn node_changes(&mut self) {
        // A process that has not registered hears of it in answer to that.
        let is_told = !self.api.is_away && self.process.is_registered;
        if let Some(node) = self.plugins.node.clone().filter(|_| is_told) {
            self.tell(Input::NodeObject(Arc::new(node)));
        }
    }

    pub(crate) fn list_sockets(&mut self) {
        let sockets = self.plugins.by_socket.iter();
        let sockets = sockets.map(|(path, plugin)| ((*path).to_owned(), plugin.number)).collect();
        self.tell(Input::PluginSockets(sockets));
    }

    pub(crate) fn perform_on_plugin(&mut self, action: &PluginAction, is_foreign: bool) -> Outcome {
        let plugins = &mut self.plugins.by_socket;
        match action {
            PluginAction::GetInfo { socket } => {
                let Some(plugin) = plugins.get(socket.as_str()) else {
                    return failed(FailureKind::Other, "nobody is there");
                };
                Outcome::Plugin(PluginOutcome::Info(PluginInfo {
                    kind: "CSIPlugin".to_owned(),
                    name: plugin.driver.to_owned(),
                    endpoint: String::new(),
                    versions: vec![format!("1.{}.0", plugin.minor)],
                }))
            }
            PluginAction::Notify { socket, refusal } => {
                let Some(plugin) = plugins.get_mut(socket.as_str()) else {
                    return failed(FailureKind::Other, "nobody is there");
                };
                plugin.is_registered = refusal.is_none();
                if plugin.is_registered && !is_foreign {
                    self.process.registered.insert(plugin.driver);
                }
                Outcome::Done
            }
            PluginAction::NodeGetInfo { endpoint, .. } => {
                let Some(plugin) = plugins.get(endpoint.as_str()) else {
                    return failed(FailureKind::Other, "nobody is there");
                };
                let topology = BTreeMap::from([(format!("{}/zone", plugin.driver), "z".to_owned())]);
                let info = CsiNodeInfo {
                    node_id: plugin.node_id(),
                    max_volumes: 3,
                    topology,
                    capabilities: CsiCapabilities { expands: true, ..CsiCapabilities::default() },
                };
                Outcome::Plugin(PluginOutcome::NodeInfo(info))
            }
        }
    }

    /// What is asked of the Node and CSINode objects.
    pub(crate) fn perform_on_node(&mut self, action: &ApiAction) -> Outcome {
        let plugins = &mut self.plugins;
        match action {
            ApiAction::RegisterNode { node } => {
                let node = plugins.register(node);
                self.process.is_registered = true;
                self.tell_of_node();
                Outcome::Api(ApiOutcome::Registered(Arc::new(node)))
            }
            ApiAction::WriteNodeStatus { metadata, old, new } => {
                plugins.write_metadata(metadata);
                if let Some(node) = &mut plugins.node {
                    // What has not changed is not written; the controller's part never is.
                    let known = node.status.take().unwrap_or_default();
                    let is_written = old.volumes_in_use != new.volumes_in_use;
                    let in_use = if is_written { new.volumes_in_use.clone() } else { known.volumes_in_use };
                    let volumes_attached = known.volumes_attached;
                    node.status =
                        Some(NodeStatus { volumes_in_use: in_use, volumes_attached, ..(**new).clone() });
                }
                plugins.node_version();
                Outcome::Api(ApiOutcome::Written { version: 0 })
            }
            ApiAction::WriteNodeMetadata { metadata } => {
                let written = plugins.write_metadata(metadata);
                self.tell_of_node();
                written.map_or(Outcome::Gone, |node| Outcome::Api(ApiOutcome::Node(Arc::new(node))))
            }
            ApiAction::ReadCsiNode => {
                Outcome::Api(ApiOutcome::CsiNode(plugins.csi_node.clone().map(Arc::new)))
            }
            ApiAction::WriteCsiNode { object } => plugins.write_csi_node(object),
            ApiAction::DeleteCsiNode { uid } => {
                let is_meant = |object: &CSINode| object.metadata.uid.as_ref() == Some(uid);
                if plugins.csi_node.take_if(|object| is_meant(object)).is_some() {
                    Outcome::Done
                } else {
                    Outcome::Gone
                }
            }
            _ => failed(FailureKind::Other, "that is about pods"),
        }
    }

    /// Whether both objects tell of the drivers that are there, and each driver knows whether it is had.
    pub(crate) fn check_plugins(&self) -> Result<(), String> {
        let Some(csi_node) = &self.plugins.csi_node else { return Err("there is no CSINode".to_owned()) };
        let owners = csi_node.metadata.owner_references.iter().flatten();
        if !owners.into_iter().any(|owner| owner.uid == NODE_UID) {
            return Err("the CSINode is not the node's".to_owned());
        }
        let ids = self.plugins.node_ids();
        for driver in DRIVERS {
            let entry = csi_node.spec.drivers.iter().find(|entry| entry.name == driver);
            let plugins: Vec<&Plugin> =
                self.plugins.by_socket.values().filter(|plugin| plugin.driver == driver).collect();
            let Some(minor) = plugins.iter().map(|plugin| plugin.minor).max() else {
                if self.process.registered.contains(driver) && (entry.is_some() || ids.contains_key(driver)) {
                    return Err(format!("driver {driver} is gone, and still told of"));
                }
                continue;
            };
            let Some(entry) = entry else { return Err(format!("driver {driver} is not in the CSINode")) };
            let chosen = plugins.iter().find(|plugin| plugin.node_id() == entry.node_id);
            match chosen {
                Some(plugin) if plugin.minor == minor && plugin.is_registered => {}
                _ => return Err(format!("the CSINode has {} of {plugins:?}", entry.node_id)),
            }
            if ids.get(driver) != Some(&entry.node_id) {
                return Err(format!("the Node says {:?} of driver {driver}", ids.get(driver)));
            }
        }
        Ok(())
    }

    /// A plugin that is not registered is something the node waits for.
    pub(crate) fn check_plugins_explained(&mut self) {
        let view = self.process.node.view();
        for (socket, _) in view.plugins.iter().filter(|(_, is_taken)| !**is_taken) {
            if !view.waits.iter().any(|wait| matches!(&wait.on, WaitOn::Plugin(on) if on == socket)) {
                self.broke(format!(
                    "the plugin at {socket} is not registered, and the node does not wait for it"
                ));
            }
        }
    }
}

impl Plugins {
    /// What the Node object says that the node uses.
    pub(crate) fn volumes_in_use(&self) -> Vec<String> {
        let status = self.node.as_ref().and_then(|node| node.status.as_ref());
        status.and_then(|status| status.volumes_in_use.clone()).unwrap_or_default()
    }

    /// The controller says what is attached. Returns whether that is something else than before.
    pub(crate) fn attached_are(&mut self, volumes: Vec<AttachedVolume>) -> bool {
        let Some(status) = self.node.as_mut().map(|node| node.status.get_or_insert_default()) else {
            return false;
        };
        let volumes = Some(volumes).filter(|volumes| !volumes.is_empty());
        if status.volumes_attached == volumes {
            return false;
        }
        status.volumes_attached = volumes;
        self.node_version();
        true
    }

    /// Whether a driver of that name is there.
    fn has(&self, driver: &str) -> bool {
        self.by_socket.values().any(|plugin| plugin.driver == driver)
    }

    fn register(&mut self, wanted: &Node) -> Node {
        let node = self.node.get_or_insert_with(|| {
            let mut node = wanted.clone();
            node.metadata.uid = Some(NODE_UID.to_owned());
            node
        });
        let pod_cidrs = Some(vec!["10.88.0.0/24".to_owned()]);
        node.spec = Some(NodeSpec { pod_cidrs, ..NodeSpec::default() });
        let known = node.status.take().unwrap_or_default();
        node.status = Some(NodeStatus {
            volumes_in_use: known.volumes_in_use,
            volumes_attached: known.volumes_attached,
            ..NodeStatus::default()
        });
        self.node_version().unwrap_or_default()
    }

    fn write_metadata(&mut self, change: &MetadataChange) -> Option<Node> {
        let node = self.node.as_mut()?;
        node.metadata.labels.get_or_insert_default().extend(change.labels.clone());
        let annotations = node.metadata.annotations.get_or_insert_default();
        for (name, value) in &change.annotations {
            match value {
                Some(value) => annotations.insert(name.clone(), value.clone()),
                None => annotations.remove(name),
            };
        }
        self.node_version()
    }

    /// The Node object has changed: this is what it is now.
    fn node_version(&mut self) -> Option<Node> {
        let node = self.node.as_mut()?;
        self.version += 1;
        node.metadata.resource_version = Some(self.version.to_string());
        Some(node.clone())
    }

    fn write_csi_node(&mut self, object: &CSINode) -> Outcome {
        let known = self.csi_node.as_ref().map(|known| known.metadata.resource_version.clone());
        match (known, &object.metadata.resource_version) {
            (None, None) => {}
            (Some(known), Some(_)) if known == object.metadata.resource_version => {}
            (None, Some(_)) => return Outcome::Gone,
            (Some(_), _) => return failed(FailureKind::Other, "there is another version"),
        }
        self.version += 1;
        let mut object = object.clone();
        object.metadata.uid.get_or_insert_with(|| format!("csi-node-{}", self.version));
        object.metadata.resource_version = Some(self.version.to_string());
        self.csi_node = Some(object.clone());
        Outcome::Api(ApiOutcome::CsiNode(Some(Arc::new(object))))
    }

    /// Of which a node agent hears only when it writes.
    fn somebody_writes(&mut self) {
        let Some(object) = &mut self.csi_node else { return };
        self.version += 1;
        object.metadata.resource_version = Some(self.version.to_string());
        let other = CSINodeDriver { name: "other".to_owned(), ..CSINodeDriver::default() };
        object.spec.drivers.retain(|driver| driver.name != other.name);
        object.spec.drivers.push(other);
    }

    fn node_ids(&self) -> BTreeMap<String, String> {
        let annotations = self.node.as_ref().and_then(|node| node.metadata.annotations.as_ref());
        let text = annotations.and_then(|annotations| annotations.get(NODE_IDS));
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }
}
