//! systemd, as the maker of control groups: transient slices, their properties, and waiting until systemd has done what
//! it was asked for.
//!
//! [`Units`] is what others use. Behind it, [`link`] finds systemd on D-Bus and finds it again after a loss, and
//! [`properties`] says limits in systemd's words. Which slices there are, and which limits they have, is decided
//! elsewhere; nothing here knows a pod. Every operation may be repeated: after a lost connection it is.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests spawn what ends with them"))]

mod link;
mod private_socket;
pub mod properties;
mod units;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

pub use link::BusAddress;
pub use properties::{Property, Value};
pub use units::Units;

/// Whether this host was started by systemd.
pub fn is_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Why systemd did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// It cannot be reached.
    #[error(
        "reach systemd over D-Bus: {tried}; see that the system bus runs (systemctl status dbus), or have the container \
         runtime make cgroups itself (the cgroupfs driver)"
    )]
    Unreachable {
        /// Every way tried, with what came of it.
        tried: String,
    },
    /// It said no.
    #[error("{what} {unit}")]
    Refused {
        /// The operation, in the imperative.
        what: &'static str,
        /// The unit.
        unit: String,
        /// What it said.
        source: Box<zbus::Error>,
    },
    /// It began and did not get there.
    #[error("{what} {unit}: systemd ended the job with {result:?}; systemctl status {unit} may say why")]
    Failed {
        /// The operation, in the imperative.
        what: &'static str,
        /// The unit.
        unit: String,
        /// The job's result, as systemd names it: `failed`, `timeout`, `canceled`, `dependency`.
        result: String,
    },
    /// It does not come back.
    #[error("{what} {unit}: systemd has not answered for {}s", after.as_secs())]
    Slow {
        /// The operation, in the imperative.
        what: &'static str,
        /// The unit.
        unit: String,
        /// How long it was waited for.
        after: Duration,
    },
}
