//! What the machine is: read once when the process starts, since upstream does not look again either.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The machine, as far as the node's status and admission depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Online CPUs.
    pub cpus: u64,
    /// Main memory, bytes.
    pub memory_bytes: u64,
    /// Swap, bytes; 0 for none.
    pub swap_bytes: u64,
    /// Memory set aside for huge pages, bytes, by page size in bytes.
    pub huge_pages: BTreeMap<u64, u64>,
    /// `nodeInfo.machineID`.
    pub machine_id: String,
    /// `nodeInfo.systemUUID`.
    pub system_uuid: String,
    /// `nodeInfo.bootID`.
    pub boot_id: String,
    /// `nodeInfo.kernelVersion`.
    pub kernel_version: String,
    /// `nodeInfo.osImage`.
    pub os_image: String,
    /// `nodeInfo.architecture`, in Go's spelling (`amd64`).
    pub architecture: String,
    /// `nodeInfo.operatingSystem`, in Go's spelling (`linux`).
    pub operating_system: String,
    /// `nodeInfo.runningInUserNamespace`; `None` leaves it out.
    pub is_in_user_namespace: Option<bool>,
    /// Whether the kernel enforces AppArmor profiles.
    pub has_apparmor: bool,
}
