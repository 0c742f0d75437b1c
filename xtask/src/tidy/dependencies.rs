//! Which crates depend on which, ours and others'.
//!
//! Ours point down only. The crates below the shell are values without I/O: what they may use is listed, so that no runtime,
//! client or file system comes in with a dependency.

use serde_json::Value;

/// Each crate may depend on those after it.
pub(super) const ORDER: &[&str] = &[
    "kubelet",
    "server",
    "apiserver",
    "sources",
    "stats",
    "runtime",
    "prober",
    "volumes",
    "plugins",
    "systemd",
    "dial",
    "host",
    "telemetry",
    "config",
    "recording",
    "node",
    "checkpoints",
    "model",
    "golang",
];

/// Crates beside the order, with all they may depend on.
pub(super) const BESIDE: &[(&str, &[&str])] = &[
    ("sim", &["recording", "node", "checkpoints", "model"]),
    ("fake-control", &[]),
    ("fake-cri", &["fake-control", "runtime"]),
    ("fake-csi", &["fake-control", "plugins", "host"]),
    ("xtask", &[]),
];

/// Crates without I/O, with all the crates of others that they may use. Tests and build scripts may use any.
const PURE: &[(&str, &[&str])] = &[
    ("golang", &["itoa", "serde", "serde_json"]),
    ("model", &["jiff", "k8s-openapi", "serde", "serde_json", "sha2", "thiserror"]),
    ("checkpoints", &["k8s-openapi", "serde", "serde_json", "thiserror"]),
    ("node", &["jiff", "k8s-openapi", "rpds", "serde", "serde_json", "thiserror"]),
    ("sim", &["fastrand", "jiff", "k8s-openapi", "serde_json"]),
];

/// What is wrong in what `cargo metadata` says.
pub(super) fn check(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let name = |package: &Value| package["name"].as_str().unwrap_or_default().to_owned();
    let members: Vec<String> = packages.iter().map(name).collect();
    let mut wrong = Vec::new();
    for package in packages {
        let from = name(package);
        let Some(allowed) = allowed(&from) else {
            wrong.push(format!(
                "{from}: the crate has no place in the order; give it one in tidy and in the design"
            ));
            continue;
        };
        let all = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
        // Tests may look at any crate.
        for to in all.iter().filter(|dependency| dependency["kind"] != "dev").map(name) {
            if members.contains(&to) {
                if !allowed.contains(&to.as_str()) {
                    wrong.push(format!("{from}: must not depend on {to}; dependencies point down only"));
                }
            } else if PURE.iter().any(|(name, others)| *name == from && !others.contains(&to.as_str())) {
                wrong.push(format!("{from}: must not depend on {to}: it is a crate without I/O"));
            }
        }
    }
    wrong
}

fn allowed(from: &str) -> Option<&'static [&'static str]> {
    if let Some((_, allowed)) = BESIDE.iter().find(|(name, _)| *name == from) {
        return Some(allowed);
    }
    let place = ORDER.iter().position(|name| *name == from)?;
    ORDER.get(place + 1..)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check_dependency(from: &str, to: &str, kind: Value) -> usize {
        let dependency = json!({ "name": to, "kind": kind });
        let metadata = json!({ "packages": [
            { "name": from, "dependencies": [dependency] },
            { "name": to, "dependencies": [] },
        ]});
        check(&metadata).len()
    }

    #[test]
    fn dependencies_point_down() {
        assert_eq!(check_dependency("kubelet", "model", json!(null)), 0);
        assert_eq!(check_dependency("model", "kubelet", json!(null)), 1);
        assert_eq!(check_dependency("node", "config", json!(null)), 1);
        assert_eq!(check_dependency("node", "config", json!("dev")), 0);
        assert_eq!(check_dependency("node", "config", json!("build")), 1);
        assert_eq!(check_dependency("sim", "node", json!(null)), 0);
        assert_eq!(check_dependency("sim", "host", json!(null)), 1);
        assert_eq!(check_dependency("unheard-of", "model", json!(null)), 1);
    }

    #[test]
    fn crates_without_io_stay_so() {
        let alone = |from: &str, to: &str, kind: Value| {
            let metadata =
                json!({ "packages": [{ "name": from, "dependencies": [{ "name": to, "kind": kind }] }] });
            check(&metadata).len()
        };
        for name in ["tokio", "tonic", "kube", "axum", "rustix", "fastrand"] {
            assert_eq!(alone("node", name, json!(null)), 1, "{name}");
            assert_eq!(alone("model", name, json!(null)), 1, "{name}");
        }
        assert_eq!(alone("node", "jiff", json!(null)), 0);
        assert_eq!(alone("node", "tempfile", json!("dev")), 0);
        assert_eq!(alone("sim", "fastrand", json!(null)), 0);
        assert_eq!(alone("host", "rustix", json!(null)), 0);
    }
}
