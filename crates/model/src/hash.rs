//! The hash by which a node agent recognises the containers it made: annotation
//! `io.kubernetes.container.hash`. It must equal upstream's bit for bit, or replacing the Go
//! kubelet by this one would restart every container of the node.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::Container;

/// The hash of those fields of a container whose change means a restart: name and image.
///
/// Upstream feeds FNV-1a (32 bit) with the Go notation of the bytes of a JSON object with these
/// two keys; so does this.
pub fn container_hash(container: &Container) -> u64 {
    let json = format!(
        "{{\"image\":{},\"name\":{}}}",
        go_json_string(container.image.as_deref().unwrap_or_default()),
        go_json_string(&container.name)
    );
    let mut dump = String::from("([]uint8)[");
    for (index, byte) in json.bytes().enumerate() {
        let separator = if index == 0 { "" } else { " " };
        // Writing to a string cannot fail.
        let _ = write!(dump, "{separator}{byte}");
    }
    dump.push(']');
    u64::from(fnv1a_32(dump.as_bytes()))
}

/// FNV-1a, 32 bit (<https://datatracker.ietf.org/doc/html/rfc9923>).
pub fn fnv1a_32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// A JSON string as Go's encoder writes it, which escapes what HTML treats specially.
fn go_json_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
    out
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
