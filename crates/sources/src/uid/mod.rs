//! The uid of a static pod: the one that upstream's kubelet gives to the same manifest.
//!
//! Cgroups, folders and the labels of containers carry it. Were it another than upstream's, either kubelet would take
//! the other's static pods for somebody else's: it would stop a node's API server and etcd, and start them anew.
//!
//! Upstream writes down the pod, with its defaults and before anything of this node is put into it, hashes the text
//! ([`print`]) and then where the manifest is from. There are pods for which ours is another, though always the same:
//!
//! * with a time in their metadata or status, if it has fractions of a second or the node is not in UTC: upstream's text
//!   has the time zone in it; or with managed fields in JSON that are not written without spaces and in order;
//! * with an amount that is a number without quotes, if it is beyond 10²⁰ or below 10⁻⁶, or in JSON and not written as
//!   short as possible (`1.50`); with one beyond 10²⁹ in any case;
//! * without a pull policy where the image's name is none, so that it cannot run anyway;
//! * with the feature gate `PodLevelResourcesFixDefaulting` off, which changes defaults.

mod print;

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;

use golang::fnv::Hash128;
use serde_json::Value;

use crate::manifest::{Origin, Place};

/// The uid of a pod that has its defaults but nothing of the node yet.
pub(crate) fn of(pod: &Value, origin: Origin<'_>) -> String {
    let mut hash = Hash128::default();
    // Hashing does not fail.
    let _ = print::pod(pod, &mut hash);
    match origin.place {
        Place::File(path) => {
            let _ = write!(hash, "host:{}file:", origin.node_name);
            hash.update(path.as_os_str().as_bytes());
        }
        Place::Url(url) => {
            let _ = write!(hash, "url:{url}");
        }
    }
    format!("{:032x}", hash.value())
}

#[cfg(test)]
mod tests;
