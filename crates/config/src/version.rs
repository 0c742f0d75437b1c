//! Which version this is, and which version of Kubernetes it stands in for.

/// The name of this implementation.
pub const NAME: &str = "ferrolet";

/// The version of this implementation.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The version reported to the API server: that of the kubelet whose behaviour this one has.
pub const KUBELET_VERSION: &str = "v1.37.2";

/// Major version of Kubernetes.
pub const KUBERNETES_MAJOR: &str = "1";

/// Minor version of Kubernetes.
pub const KUBERNETES_MINOR: &str = "37";

/// The operating system and processor, as Go names them: `linux/amd64`.
pub fn platform() -> String {
    format!("{}/{}", std::env::consts::OS, go_arch())
}

/// The processor, as Go and the labels of nodes name it: `amd64`.
pub fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        other => other,
    }
}
