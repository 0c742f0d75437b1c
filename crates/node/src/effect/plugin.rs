//! What is asked of plugins.

use std::collections::BTreeMap;
use std::fmt;

use model::storage::CsiCapabilities;
use serde::{Deserialize, Serialize};

use super::{ActionKind, Subject};

/// An action on a plugin.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum PluginAction {
    /// Ask at a socket what plugin is behind it. → `Info`
    GetInfo {
        /// The path of the socket it is registered by.
        socket: String,
    },
    /// Tell a plugin what has come of its registration. → `Done`
    Notify {
        /// The path of the socket it is registered by.
        socket: String,
        /// Why it is not registered; `None` when it is.
        refusal: Option<String>,
    },
    /// Ask a CSI driver what it calls the node and what it can do there. → `NodeInfo`
    NodeGetInfo {
        /// The driver's name.
        driver: String,
        /// The path of the socket it works on.
        endpoint: String,
    },
}

impl PluginAction {
    pub(super) fn kind(&self) -> ActionKind {
        match self {
            Self::GetInfo { .. } => ActionKind::GetPluginInfo,
            Self::Notify { .. } => ActionKind::NotifyPlugin,
            Self::NodeGetInfo { .. } => ActionKind::GetCsiNodeInfo,
        }
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        let plugin = match self {
            Self::GetInfo { socket } | Self::Notify { socket, .. } => socket,
            Self::NodeGetInfo { driver, .. } => driver,
        };
        Subject { plugin: Some(plugin), ..Subject::default() }
    }

    pub(super) fn details(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Notify { refusal: Some(refusal), .. } => write!(f, ": {refusal}"),
            Self::Notify { refusal: None, .. } => f.write_str(": registered"),
            Self::GetInfo { .. } | Self::NodeGetInfo { .. } => Ok(()),
        }
    }
}

/// What a plugin has told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PluginOutcome {
    /// What it is.
    Info(PluginInfo),
    /// What a CSI driver says of the node.
    NodeInfo(CsiNodeInfo),
}

/// What a plugin says it is (`pluginregistration` v1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginInfo {
    /// Its type: `CSIPlugin`, `DevicePlugin`, `DRAPlugin`.
    pub kind: String,
    /// Its name among those of its type.
    pub name: String,
    /// The socket it works on; empty for the one it is registered by.
    pub endpoint: String,
    /// Versions of the interface it serves there.
    pub versions: Vec<String>,
}

/// What a CSI driver says of the node (`NodeGetInfo`), and of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CsiNodeInfo {
    /// What it calls the node.
    pub node_id: String,
    /// How many of its volumes the node can have; 0 for no such limit.
    pub max_volumes: i64,
    /// Where it says the node is: values of labels by their names.
    pub topology: BTreeMap<String, String>,
    /// What it can do on the node (`NodeGetCapabilities`).
    pub capabilities: CsiCapabilities,
}
