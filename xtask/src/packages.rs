//! Debian packages the build of the peers and the cluster need; only what is missing is installed.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{command, peers, workspace};

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

/// Downloads those of the packages, and of what they need, that the machine lacks, and unpacks them in a folder of the
/// cache. Nothing is installed: their services would start.
pub(crate) fn unpack_beside(names: &[&str]) -> Result<PathBuf> {
    let key = peers::short_hash(&names.iter().map(|name| name.as_bytes()).collect::<Vec<_>>());
    let parent = workspace::cache()?.join("packages");
    let finished = parent.join(&key);
    if finished.exists() {
        return Ok(finished);
    }
    if !command::exists("apt-get") || !command::exists("dpkg-deb") {
        bail!(
            "the images of upstream's suite are made from Debian packages, which need apt-get and dpkg-deb"
        );
    }
    workspace::create_dir(&parent)?;
    let scratch = tempfile::tempdir_in(&parent).context("create a folder for packages")?;
    let archives = scratch.path().join("archives");
    workspace::create_dir(&archives.join("partial"))?;
    let download = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt.args(["-qq", "-y", "--no-install-recommends", "--download-only"]);
        // Its own user may not write to the cache.
        apt.args(["-o", "APT::Sandbox::User=root", "-o"]);
        apt.arg(format!("Dir::Cache::archives={}", archives.display())).arg("install").args(names);
        command::run("download packages for the images", &mut apt)
    };
    if download().is_err() {
        // The lists may be too old, or missing.
        let mut update = Command::new("apt-get");
        command::run("update the package lists", update.args(["-qq", "update"]))?;
        download()?;
    }
    let root = scratch.path().join("root");
    workspace::create_dir(&root)?;
    let list = std::fs::read_dir(&archives).with_context(|| format!("list {}", archives.display()))?;
    for entry in list {
        let path = entry.with_context(|| format!("list {}", archives.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            command::quiet(Command::new("dpkg-deb").arg("--extract").arg(&path).arg(&root))?;
        }
    }
    std::fs::rename(&root, &finished).with_context(|| format!("rename to {}", finished.display()))?;
    Ok(finished)
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
