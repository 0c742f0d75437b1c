//! The hash by which a node agent recognises the containers it made: annotation
//! `io.kubernetes.container.hash`. It must equal upstream's bit for bit, or replacing the Go
//! kubelet by this one would restart every container of the node.

use golang::{fnv, json, spew};
use k8s_openapi::api::core::v1::Container;
use serde::Serialize;

/// The hash of those fields of a container whose change means a restart: name and image.
///
/// Upstream feeds FNV-1a (32 bit) with the Go notation of the bytes of a JSON object with these
/// two keys; so does this.
pub fn container_hash(container: &Container) -> u64 {
    #[derive(Serialize)]
    struct Identity<'a> {
        image: &'a str,
        name: &'a str,
    }
    let image = container.image.as_deref().unwrap_or_default();
    // Two texts can always be written.
    let json = json::to_string(&Identity { image, name: &container.name }).unwrap_or_default();
    let mut hash = fnv::Hash32::default();
    // A hash takes anything in.
    let _ = spew::bytes(json.as_bytes(), &mut hash);
    u64::from(hash.value())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of upstream v1.37.2's `HashContainer`.
    #[test]
    fn equals_upstreams() {
        for (name, image, hash) in [
            ("web", "nginx:1", 2_237_015_973),
            ("a", "", 54_472_240),
            ("web", "nginx:1<2>&é", 4_276_926_365),
            ("c", "registry.k8s.io/e2e-test-images/busybox:1.37.0-1", 2_799_504_877),
        ] {
            let container =
                Container { name: name.into(), image: Some(image.into()), ..Container::default() };
            assert_eq!(container_hash(&container), hash, "{name} {image}");
        }
    }
}
