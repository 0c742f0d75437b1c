//! Debian packages the build of the peers and the cluster need; only what is missing is installed.

use std::process::Command;

use anyhow::{Result, bail};

use crate::command;

/// Package, and what it is for.
const PACKAGES: &[(&str, &str)] = &[
    ("busybox-static", "the busybox image"),
    ("ca-certificates", "Go downloads its modules over TLS"),
    ("gcc", "the pause image and runc"),
    ("iproute2", "the node's network"),
    ("iptables", "the chains a kubelet keeps"),
    ("libc6-dev", "the pause image is linked statically"),
    ("libseccomp-dev", "runc"),
    ("nftables", "the portmap CNI plugin"),
    ("pkg-config", "runc finds libseccomp through it"),
    ("util-linux", "unshare and nsenter"),
];

/// Installs what is missing.
pub(crate) fn install_missing() -> Result<()> {
    if !command::exists("dpkg-query") {
        return check_programs();
    }
    let missing: Vec<&str> = PACKAGES.iter().map(|(name, _)| *name).filter(|name| !installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !command::exists("apt-get") || !rustix::process::geteuid().is_root() {
        let why = PACKAGES.iter().filter(|(name, _)| missing.contains(name));
        let why: Vec<String> = why.map(|(name, use_)| format!("  {name}: {use_}")).collect();
        bail!("packages are missing; as root run: apt-get install {list}\n{}", why.join("\n"));
    }
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt
    };
    command::run("update the package lists", apt().args(["-qq", "update"]))?;
    let mut install = apt();
    install.args(["-qq", "-y", "--no-install-recommends", "install"]).args(&missing);
    command::run(&format!("install {list}"), &mut install)
}

fn installed(package: &str) -> bool {
    let query =
        command::output(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]));
    query.is_ok_and(|status| status == "installed")
}

/// Not a Debian: say which programs are needed.
fn check_programs() -> Result<()> {
    let needed = ["busybox", "gcc", "ip", "iptables", "ip6tables", "nft", "pkg-config", "unshare", "nsenter"];
    let missing: Vec<&str> = needed.into_iter().filter(|program| !command::exists(program)).collect();
    if !missing.is_empty() {
        bail!("install these programs first (busybox linked statically): {}", missing.join(", "));
    }
    Ok(())
}
