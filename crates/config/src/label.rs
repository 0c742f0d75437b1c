//! Which labels a node may give itself
//! (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>).

/// Labels of Kubernetes that a kubelet may set on its own node.
const ALLOWED: [&str; 11] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

/// Namespaces of labels that a kubelet may set on its own node.
const ALLOWED_NAMESPACES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// Whether a kubelet may give its own node this label.
pub(crate) fn is_allowed(key: &str) -> bool {
    let Some((namespace, _)) = key.split_once('/') else { return true };
    let below = |parent: &str| {
        namespace == parent
            || namespace.strip_suffix(parent).is_some_and(|subdomain| subdomain.ends_with('.'))
    };
    let reserved = below("kubernetes.io") || below("k8s.io");
    !reserved || ALLOWED.contains(&key) || ALLOWED_NAMESPACES.iter().any(|parent| below(parent))
}

/// Why a text is no key of a label, if it is none.
pub(crate) fn key_problem(key: &str) -> Option<&'static str> {
    let name = match key.split_once('/') {
        None => key,
        Some((prefix, name)) => {
            if prefix.is_empty() || prefix.len() > 253 || !prefix.split('.').all(is_dns_label) {
                return Some("the part before the slash must be a DNS subdomain");
            }
            name
        }
    };
    if name.is_empty() || name.len() > 63 || !is_word(name) {
        return Some(
            "the name must be 1 to 63 letters, digits, '-', '_' or '.', starting and ending with a letter or \
             digit",
        );
    }
    None
}

/// Why a text is no value of a label, if it is none.
pub(crate) fn value_problem(value: &str) -> Option<&'static str> {
    if value.is_empty() || (value.len() <= 63 && is_word(value)) {
        return None;
    }
    Some(
        "a value must be at most 63 letters, digits, '-', '_' or '.', starting and ending with a letter or digit",
    )
}

fn is_dns_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(inner)
}

fn is_word(text: &str) -> bool {
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    ends(text.bytes().next())
        && ends(text.bytes().last())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_a_node_may_call_itself() {
        for (key, allowed) in [
            ("disk", true),
            ("example.com/disk", true),
            ("kubernetes.io/os", true),
            ("kubernetes.io/role", false),
            ("node-role.kubernetes.io/worker", false),
            ("node.kubernetes.io/anything", true),
            ("pool.node.kubernetes.io/x", true),
            ("k8s.io/x", false),
            ("mykubernetes.io/x", true),
        ] {
            assert_eq!(is_allowed(key), allowed, "{key}");
        }
    }

    #[test]
    fn knows_the_syntax() {
        for (key, valid) in [
            ("a", true),
            ("a.b/c-d_e.f", true),
            ("", false),
            ("/a", false),
            ("A.b/c", false),
            ("a/", false),
            ("-a", false),
        ] {
            assert_eq!(key_problem(key).is_none(), valid, "{key}");
        }
        for (value, valid) in [("", true), ("a", true), ("a b", false), ("a-", false)] {
            assert_eq!(value_problem(value).is_none(), valid, "{value}");
        }
    }
}
