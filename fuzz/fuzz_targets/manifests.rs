//! Whatever a web server answers where static pods are expected, reading it ends: no panic, no endless loop, no
//! exhausted memory.
//!
//! `cargo +nightly fuzz run manifests -- -max_len=10485760 -timeout=10 -rss_limit_mb=1024`

#![no_main]

use libfuzzer_sys::fuzz_target;
use sources::{ManifestGates, Origin, Place};

fuzz_target!(|data: &[u8]| {
    let place = Place::Url("http://192.0.2.1/pod.yaml");
    let seen = jiff::Timestamp::UNIX_EPOCH;
    let is_on = data.len() % 2 == 0;
    let gates = ManifestGates { has_http_protocols: is_on, has_users_on_host_network: is_on };
    let origin = Origin { place, node_name: "node", seen, gates };
    let _ = sources::parse(data, origin);
});
