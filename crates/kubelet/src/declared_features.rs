//! Which features the node declares (KEP-5328): what the API server may count on here.

use config::FeatureGates;
use model::RuntimeFeatures;

/// What the API server may count on here beyond what every kubelet of this version does, sorted. What the runtime supports
/// is what it said at the start; upstream does not declare anew what an updated runtime supports, either.
pub(crate) fn declared(gates: &FeatureGates, runtime: RuntimeFeatures) -> Vec<String> {
    let has_users = gates.enabled("UserNamespacesHostNetworkSupport") && runtime.has_users_on_host_network;
    let has_options = gates.enabled("VolumeBindMountOptions") && runtime.has_mount_options;
    let features = [
        ("ExtendWebSocketsToKubelet", gates.enabled("ExtendWebSocketsToKubelet")),
        ("RestartAllContainersOnContainerExits", gates.enabled("RestartAllContainersOnContainerExits")),
        ("UserNamespacesHostNetworkSupport", has_users),
        ("VolumeBindMountOptions", has_options),
    ];
    let declared = features.into_iter().filter(|(_, is_declared)| *is_declared);
    declared.map(|(name, _)| name.to_owned()).collect()
}

/// Whether what the node declares depends on what the runtime can do.
pub(crate) fn declares_by_runtime(gates: &FeatureGates) -> bool {
    let all = RuntimeFeatures {
        has_supplemental_groups_policy: true,
        has_users_on_host_network: true,
        has_mount_options: true,
    };
    declared(gates, all) != declared(gates, RuntimeFeatures::default())
}

#[cfg(test)]
mod tests {
    use config::Config;

    use super::*;

    fn config(text: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
                    containerRuntimeEndpoint: unix:///x\n";
        std::fs::write(&file, format!("{head}{text}")).unwrap();
        let args = [format!("--config={}", file.display())];
        match config::load(&args) {
            Ok(config::Invocation::Run(loaded)) => loaded.config,
            _ => panic!("{text}"),
        }
    }

    #[test]
    fn features_of_the_runtime_are_declared_with_their_gates() {
        let all = RuntimeFeatures {
            has_supplemental_groups_policy: true,
            has_users_on_host_network: true,
            has_mount_options: true,
        };
        let usual = ["ExtendWebSocketsToKubelet", "RestartAllContainersOnContainerExits"];
        let none = RuntimeFeatures::default();
        for (name, features) in [
            ("UserNamespacesHostNetworkSupport", RuntimeFeatures { has_users_on_host_network: true, ..none }),
            ("VolumeBindMountOptions", RuntimeFeatures { has_mount_options: true, ..none }),
        ] {
            let config = config(&format!("featureGates: {{{name}: true}}"));
            assert_eq!(declared(&config.gates, features), [usual.as_slice(), &[name]].concat());
            assert_eq!(declared(&config.gates, none), usual, "without the runtime");
        }
        assert_eq!(declared(&config("").gates, all), usual, "without gates");
    }
}
