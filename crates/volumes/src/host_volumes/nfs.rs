//! `nfs`: what a server exports. The server may be gone, and whoever looks at the mount then waits for it: so nobody here does, and
//! mount(8) and umount(8) have their time each. mount.nfs(8) itself gives up after two minutes.

use std::net::Ipv6Addr;
use std::time::Duration;

use tracing::warn;

use super::place::Place;
use super::{HostVolumeError, blocking, mount as mounts, program};

/// Longer than mount.nfs(8) tries.
const MOUNT_LIMIT: Duration = Duration::from_secs(180);
/// Upstream's `unMountTimeout`.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(60);
const UMOUNT: &str = "umount";

/// What a server exports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Export<'a> {
    pub(super) server: &'a str,
    pub(super) path: &'a str,
}

impl Export<'_> {
    /// As mount(8) has it: `server:path`.
    fn source(self) -> String {
        match self.server.parse::<Ipv6Addr>() {
            Ok(_) => format!("[{}]:{}", self.server, self.path),
            Err(_) => format!("{}:{}", self.server, self.path),
        }
    }
}

/// Mounts an export, unless something is mounted there.
pub(super) async fn mount(export: Export<'_>, place: Place, options: &[&str]) -> Result<(), HostVolumeError> {
    let made = place.clone();
    if blocking(move || Ok(made.make_unless_mounted()?)).await? {
        return Ok(());
    }
    let source = export.source();
    let mounted = mounts::mount(&source, &place.path(), Some("nfs"), options, Some(MOUNT_LIMIT)).await;
    let Err(error) = mounted else { return Ok(()) };
    if !matches!(error, HostVolumeError::Slow { .. }) {
        unmount(&place).await?;
        blocking(move || place.unmount()).await?;
    }
    Err(error)
}

/// Unmounts an export, by force when its server does not answer.
pub(super) async fn unmount(place: &Place) -> Result<(), HostVolumeError> {
    let looked = place.clone();
    if !blocking(move || Ok(looked.is_mounted()?)).await? {
        return Ok(());
    }
    match umount(place, &[]).await {
        Err(error @ HostVolumeError::Slow { .. }) => {
            warn!(
                path = %place.path().display(),
                err = %error,
                "Failed to unmount NFS volume in time, its server may be gone; unmounting it by force"
            );
            umount(place, &["-f"]).await
        }
        other => other,
    }
}

async fn umount(place: &Place, flags: &[&str]) -> Result<(), HostVolumeError> {
    let path = place.path();
    let text = path.to_string_lossy();
    let arguments: Vec<&str> = flags.iter().copied().chain([&*text]).collect();
    let answer = program::run_within(UNMOUNT_LIMIT, UMOUNT, &arguments).await;
    let answer = answer.map_err(|source| HostVolumeError::of_program(UMOUNT, source))?;
    if answer.status.success() {
        return Ok(());
    }
    let ending = answer.ending();
    Err(HostVolumeError::Unmount { ending, path, said: answer.said })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_version_6_are_in_brackets() {
        for (server, source) in [
            ("nfs.example", "nfs.example:/x"),
            ("192.0.2.7", "192.0.2.7:/x"),
            ("fd00::7", "[fd00::7]:/x"),
            ("[fd00::7]", "[fd00::7]:/x"),
        ] {
            assert_eq!(Export { server, path: "/x" }.source(), source);
        }
    }
}
