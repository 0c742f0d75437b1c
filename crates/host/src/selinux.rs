//! Whether SELinux is in force on this machine.

use crate::mount::{self, MountEntry};

const OWN_LABEL: &str = "/proc/self/attr/current";
/// The label everything has before a policy is loaded.
const NO_POLICY: &str = "kernel";

/// Whether SELinux is in force: its file system is mounted and can be written, and this process has a label
/// of a policy. What cannot be read counts as no.
pub fn is_enabled() -> bool {
    let mounts = mount::mounts().unwrap_or_default();
    // Without SELinux another module may own the file, or nobody.
    is_in_force(&mounts, std::fs::read_to_string(OWN_LABEL).ok().as_deref())
}

fn is_in_force(mounts: &[MountEntry], label: Option<&str>) -> bool {
    let is_writable = |mount: &MountEntry| mount.options.split(',').all(|option| option != "ro");
    let label = label.map(|label| label.trim_end_matches(['\0', '\n']));
    mounts.iter().any(|mount| mount.fs_type == "selinuxfs" && is_writable(mount)) && label != Some(NO_POLICY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_its_file_system_and_a_policy() {
        let mount = |fs_type: &str, options: &str| MountEntry {
            device: String::new(),
            mount_point: "/sys/fs/selinux".into(),
            root: "/".into(),
            fs_type: fs_type.to_owned(),
            source: "selinuxfs".to_owned(),
            options: options.to_owned(),
            super_options: "rw".to_owned(),
            is_shared: true,
        };
        let label = Some("system_u:system_r:init_t:s0\0");
        for (case, mounts, label, want) in [
            ("in force", vec![mount("selinuxfs", "rw,relatime")], label, true),
            ("no policy", vec![mount("selinuxfs", "rw")], Some("kernel\0"), false),
            ("in a container", vec![mount("selinuxfs", "ro,relatime")], label, false),
            ("another module", vec![mount("securityfs", "rw")], Some("unconfined\n"), false),
            ("none", vec![], None, false),
        ] {
            assert_eq!(is_in_force(&mounts, label), want, "{case}");
        }
    }
}
