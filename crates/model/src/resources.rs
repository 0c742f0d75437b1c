//! What a pod effectively requests of its node.

/// Whether a pod as a whole may have a request or limit of this resource (KEP-2837).
pub fn is_pod_level_resource(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}
