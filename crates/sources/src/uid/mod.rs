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
mod quantity;

use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt as _;

use serde_json::Value;

use crate::manifest::{Origin, Place};

/// The uid of a pod that has its defaults but nothing of the node yet.
pub(crate) fn of(pod: &Value, origin: Origin<'_>) -> String {
    let mut hash = Fnv128a::default();
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
    format!("{:032x}", hash.0)
}

/// Fowler, Noll and Vo's hash of 128 bits, the variant a.
struct Fnv128a(u128);

impl Default for Fnv128a {
    fn default() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }
}

impl Fnv128a {
    fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul((1 << 88) + 0x13b);
        }
    }
}

impl Write for Fnv128a {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.update(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
