//! Rules about what is named in a document: cipher suites, endpoints, images, sysctls, versions.

use std::collections::BTreeSet;

use model::sysctl::{namespace_of, with_dots};

use super::error;
use crate::document::KubeletConfiguration;
use crate::finding::Findings;
use crate::gates::FeatureGates;
use crate::version;

/// Every cipher suite Go knows by name; those that are not safe are warned about elsewhere.
const CIPHER_SUITES: &[&str] = &[
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_RC4_128_SHA",
];

/// The key exchange groups Go knows, by their IANA numbers: P-256, P-384, P-521, X25519, and the hybrids of ML-KEM.
const CURVES: &[i32] = &[23, 24, 25, 29, 4587, 4588, 4589];

/// Longest name of a sysctl.
const SYSCTL_LENGTH: usize = 253;

pub(super) fn check(document: &KubeletConfiguration, gates: &FeatureGates, findings: &mut Findings) {
    for (index, suite) in document.tls_cipher_suites.items().iter().enumerate() {
        if !CIPHER_SUITES.contains(&suite.as_str()) {
            let path = format!("tlsCipherSuites[{index}]");
            error(findings, &path, format!("cipher suite {suite} is not supported or does not exist"));
        }
    }
    curves(document.tls_curve_preferences.items(), findings);
    for (path, endpoint) in [
        ("containerRuntimeEndpoint", &document.container_runtime_endpoint),
        ("imageServiceEndpoint", &document.image_service_endpoint),
    ] {
        if let Some(scheme) = scheme(endpoint).filter(|scheme| *scheme != "unix") {
            let message =
                format!("{endpoint:?} must be a unix socket such as unix:///run/x.sock, not {scheme}");
            error(findings, path, message);
        }
    }
    tracing(document, findings);
    sysctls(document, gates, findings);
    for (index, pattern) in document.preloaded_images_verification_allowlist.items().iter().enumerate() {
        if let Some(reason) = image_pattern_problem(pattern) {
            let path = format!("preloadedImagesVerificationAllowlist[{index}]");
            error(findings, &path, format!("invalid image pattern {pattern:?}: {reason}"));
        }
    }
    let minor: u32 = version::KUBERNETES_MINOR.parse().unwrap_or_default();
    let previous = format!("{}.{}", version::KUBERNETES_MAJOR, minor.saturating_sub(1));
    let shown = document.show_hidden_metrics_for_version.as_str();
    if !shown.is_empty() && shown != previous {
        let message =
            format!("{shown:?} must be omitted or have the value {previous:?}, the previous minor version");
        error(findings, "showHiddenMetricsForVersion", message);
    }
}

fn curves(curves: &[i32], findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for (index, curve) in curves.iter().enumerate() {
        let path = format!("tlsCurvePreferences[{index}]");
        if !CURVES.contains(curve) {
            error(findings, &path, format!("curve preference {curve} is not supported"));
        } else if !seen.insert(curve) {
            error(findings, &path, format!("duplicate curve preference {curve}"));
        }
    }
}

/// The scheme of a URL; none for a path.
fn scheme(url: &str) -> Option<&str> {
    let (scheme, _) = url.split_once(':')?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    is_scheme.then_some(scheme)
}

fn tracing(document: &KubeletConfiguration, findings: &mut Findings) {
    let endpoint = document.tracing.as_ref().and_then(|tracing| tracing.endpoint.as_deref());
    let Some(endpoint) = endpoint.filter(|endpoint| endpoint.contains("//")) else { return };
    if !matches!(scheme(endpoint), Some("dns" | "unix" | "unix-abstract")) {
        let message =
            format!("{endpoint:?} has an unsupported scheme: want none, dns, unix or unix-abstract");
        error(findings, "tracing.endpoint", message);
    }
}

fn sysctls(document: &KubeletConfiguration, gates: &FeatureGates, findings: &mut Findings) {
    if document.default_pod_sysctls.is_empty() {
        return;
    }
    if !gates.enabled("DefaultPodSysctls") {
        error(findings, "defaultPodSysctls", "requires feature gate DefaultPodSysctls");
        return;
    }
    let mut seen = BTreeSet::new();
    for (name, _) in document.default_pod_sysctls.iter() {
        let path = format!("defaultPodSysctls[{name}]");
        if !is_sysctl(name) {
            error(findings, &path, "is not a valid sysctl name");
            continue;
        }
        let normal = with_dots(name);
        if namespace_of(&normal).is_none() {
            error(findings, &path, "is not known to be namespaced");
        }
        if !seen.insert(normal) {
            error(findings, &path, "is a duplicate, written in another way");
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let is_outer =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let is_part = |part: &str| {
        let bytes = part.as_bytes();
        is_outer(bytes.first())
            && is_outer(bytes.last())
            && bytes.iter().all(|byte| is_outer(Some(byte)) || matches!(byte, b'-' | b'_'))
    };
    name.len() <= SYSCTL_LENGTH && name.split(['.', '/']).all(is_part)
}

/// What is wrong with an image name that may end in `/*`.
fn image_pattern_problem(pattern: &str) -> Option<&'static str> {
    if pattern.trim() != pattern {
        return Some("spaces around it are not allowed");
    }
    let (name, is_wildcard) = match pattern.strip_suffix('*') {
        Some(prefix) if prefix.ends_with('/') => (prefix, true),
        _ => (pattern, false),
    };
    if name.is_empty() {
        return Some("it is empty");
    }
    if name.contains('*') {
        return Some("a * is allowed as the last part only");
    }
    if is_wildcard {
        return (name == "/").then_some("it needs at least the name of a registry");
    }
    let last = name.rsplit('/').next().unwrap_or_default();
    if last.contains(['@', ':']) {
        return Some("neither tag nor digest is allowed");
    }
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), path),
        _ => (None, name),
    };
    let is_host = host.is_none_or(|host| {
        host.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']'))
    });
    let is_part = |part: &str| {
        let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        part.bytes().next().is_some_and(is_word)
            && part.bytes().last().is_some_and(is_word)
            && part.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'_' | b'-'))
    };
    (!is_host || !path.split('/').all(is_part)).then_some("it is no name of an image")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_image_patterns() {
        for (pattern, is_valid) in [
            ("registry.example/a", true),
            ("registry.example:5000/a/b", true),
            ("a", true),
            ("registry.example/*", true),
            ("*", false),
            ("/*", false),
            ("registry.example/*/a", false),
            ("registry.example/a:1", false),
            ("registry.example/a@sha256:00", false),
            ("registry.example/A", false),
            (" a", false),
            ("", false),
        ] {
            assert_eq!(image_pattern_problem(pattern).is_none(), is_valid, "{pattern}");
        }
    }

    #[test]
    fn knows_sysctls() {
        for (name, is_valid) in [
            ("net.core.somaxconn", true),
            ("net/core/somaxconn", true),
            ("Net", false),
            ("a..b", false),
            ("", false),
        ] {
            assert_eq!(is_sysctl(name), is_valid, "{name}");
        }
    }
}
