//! The hash by which a kubelet sees whether a running container was made from today's spec.

use k8s_openapi::api::core::v1::Container;

/// The hash of what must not change under a running container: name and image. It equals the
/// Go kubelet's, so that one kubelet can take over from the other without restarts.
///
/// Go hashes the *printed form* of the JSON's bytes: `([]uint8)[123 34 …]` in decimal, through
/// FNV-1a with 32 bits.
pub fn spec_hash(container: &Container) -> u64 {
    let image = container.image.as_deref().unwrap_or_default();
    let json = format!("{{\"image\":{},\"name\":{}}}", go_json(image), go_json(&container.name));
    let mut hash = Fnv32::new();
    hash.write(b"([]uint8)[");
    for (index, byte) in json.bytes().enumerate() {
        if index > 0 {
            hash.write(b" ");
        }
        hash.write(byte.to_string().as_bytes());
    }
    hash.write(b"]");
    u64::from(hash.0)
}

/// A text as Go's encoder writes it: safe inside HTML.
fn go_json(text: &str) -> String {
    serde_json::Value::from(text)
        .to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

struct Fnv32(u32);

impl Fnv32 {
    fn new() -> Self {
        Self(0x811c_9dc5)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values come from the Go kubelet's own functions.
    #[test]
    fn equals_the_go_kubelets() {
        for (name, image, hash) in [
            ("foo", "bar", 0x11a6_d6d6),
            ("test_container", "foo/image:v1", 0x8e45_cbd0),
            ("app", "registry.k8s.io/pause:3.10.2", 0xd635_df5e),
            ("a", "", 0x033f_2e30),
            ("x", "img@sha256:0<>&\u{2028}é\"", 0xacc1_0cc2),
        ] {
            let container = Container { name: name.into(), image: Some(image.into()), ..Default::default() };
            assert_eq!(spec_hash(&container), hash, "{name} {image}");
        }
    }
}
