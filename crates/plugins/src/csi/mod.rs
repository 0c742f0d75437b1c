//! CSI client: what a node asks of drivers (<https://github.com/container-storage-interface/spec>, v1.13, service `Node`).
//!
//! Each call is one function that makes one request over a connection of its own, with a deadline, and says of a failure
//! whether the driver may have done it all the same ([`Certainty`]). Nothing is kept here, and nothing is tried again.
//!
//! Secrets go into requests and nowhere else: neither requests nor errors show them.

mod capability;
mod certainty;
mod expand;
mod info;
mod usage;
mod volume;

use std::time::Duration;

pub use capability::VolumeUse;
pub use certainty::Certainty;
pub use expand::{ExpandRequest, node_expand_volume};
pub use info::{node_get_capabilities, node_get_info};
pub use usage::node_get_volume_stats;
pub use volume::{
    PublishRequest, StageRequest, node_publish_volume, node_stage_volume, node_unpublish_volume,
    node_unstage_volume,
};

use crate::call::Call;

/// For any call of a driver. Upstream's.
const DEADLINE: Duration = Duration::from_secs(120);

fn call<'a>(name: &'static str, endpoint: &'a str) -> Call<'a> {
    Call { name, socket: endpoint, patience: Duration::ZERO, deadline: DEADLINE }
}
